//! What containers use.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use bytes::Bytes;
use engine::containers::stats::Samples;
use serde_json::Value;

/// One sample after the other; or one, with the one before it unless it is to come at once.
pub(crate) async fn stats(call: Call, id: &str) -> Answer {
    let stream = call.query.optional("stream").is_none() || call.query.flag("stream");
    let one_shot = call.version.from(41) && call.query.flag("one-shot");
    if stream && one_shot {
        return Err(Failure::invalid("cannot have stream=true and one-shot=true"));
    }
    let mut samples = call.engine.containers().stats(id)?;
    let told = move |sample: Value| tell(sample, call.version.from(52));
    if !stream {
        // What does not run has nothing to be compared with.
        if !one_shot && samples.runs() {
            next(&mut samples).await?;
        }
        return Reply::json(&told(next(&mut samples).await?));
    }
    let state = (samples, call.shutdown.clone(), told);
    Reply::stream(
        "application/json",
        futures_util::stream::unfold(state, |(mut samples, shutdown, told)| async move {
            let sample = tokio::select! {
                sample = samples.next() => sample?,
                () = shutdown.cancelled() => return None,
            };
            let line = match sample {
                Ok(sample) => Ok(Bytes::from(Reply::encode(&told(sample)))),
                Err(error) => Err(std::io::Error::other(error.chain())),
            };
            Some((line, (samples, shutdown, told)))
        }),
    )
}

async fn next(samples: &mut Samples) -> Result<Value, Failure> {
    let gone = || Failure::from(engine::Error::conflict("the container is being removed"));
    Ok(samples.next().await.ok_or_else(gone)??)
}

/// Clients before 1.52 were not told of the system.
fn tell(mut sample: Value, system: bool) -> Value {
    if !system && let Some(sample) = sample.as_object_mut() {
        sample.remove("os_type");
    }
    sample
}
