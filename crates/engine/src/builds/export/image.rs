//! Images: into the store under their names, and to the registries of those.

use std::sync::Arc;
use std::time::SystemTime;

use build::output::{Export, ImageOutput};
use oci::Reference;
use registry::Credentials;
use registry::push::{Event as Pushing, Step};

use super::super::result::Built;
use super::super::tell::Voice;
use super::attest;
use super::documents::{self, Assembled, Wanted};
use super::{Response, noted, part_of, told};
use crate::blocking;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::images::assemble;
use tokio::sync::mpsc;

/// Events of a push that are told at once; of what is lost between, the next tells more.
const EVENTS_MAX: usize = 64;

/// Puts an image where it is asked for.
pub(super) async fn put(
    built: &Arc<Built>,
    output: &ImageOutput,
    export: &Export,
    voice: &Voice,
) -> Result<Response> {
    let names = output.names.clone();
    if (output.push || output.push_by_digest) && names.is_empty() {
        return Err(Error::invalid("tag is needed when pushing to registry: give the image a name"));
    }
    let assembled = assembled(built, output, export, voice).await?;
    let mut all: Vec<Reference> = Vec::new();
    for name in &names {
        // What is pushed without a tag has none here either.
        if !output.push_by_digest {
            all.push(name.clone());
        }
        if output.name_canonical || output.push_by_digest {
            all.push(name.name_only().with_digest(assembled.top.digest.clone()));
        }
    }
    if let (true, Some(prefix)) = (all.is_empty(), &output.dangling_prefix) {
        // Docker's own prefix means an image without a name.
        if prefix != "moby-dangling" {
            let text = format!("{prefix}@{}", assembled.top.digest);
            all.push(Reference::parse_named(&text).map_err(|e| Error::invalid(e.to_string()))?);
        }
    }
    if output.store {
        record(built, &assembled, &all).await?;
        for name in &all {
            noted(voice, &format!("naming to {name}")).await;
        }
    }
    if output.push || output.push_by_digest {
        for name in &names {
            let name = if output.push_by_digest {
                name.name_only().with_digest(assembled.top.digest.clone())
            } else {
                name.clone()
            };
            push(built, &assembled.image, &name, voice).await?;
        }
    }
    let shown: Vec<String> = names.iter().map(ToString::to_string).collect();
    told(&assembled, &shown)
}

/// Puts an image into the store under its names, and tells nobody.
pub(super) async fn store(built: &Arc<Built>, output: ImageOutput) -> Result<Assembled> {
    let names = output.names.clone();
    let own = Arc::clone(built);
    let wanted = Wanted { form: output.form, names: names.clone(), statements: false };
    let assembled = blocking::run_long("put an image together", move || {
        documents::assemble(&own, &wanted, &Export::default())
    })
    .await?;
    record(built, &assembled, &names).await?;
    Ok(assembled)
}

async fn assembled(
    built: &Arc<Built>,
    output: &ImageOutput,
    export: &Export,
    voice: &Voice,
) -> Result<Assembled> {
    let (own, export) = (Arc::clone(built), export.clone());
    let wanted = Wanted {
        form: output.form.clone(),
        names: output.names.clone(),
        statements: attest::is_wanted(built, true),
    };
    let work =
        blocking::run_long("put an image together", move || documents::assemble(&own, &wanted, &export));
    let assembled = part_of(voice, "exporting layers", work).await?;
    noted(voice, &format!("exporting manifest {}", assembled.top.digest)).await;
    Ok(assembled)
}

/// Makes it visible, under all of its names at once.
async fn record(built: &Arc<Built>, assembled: &Assembled, names: &[Reference]) -> Result<()> {
    let (built, image, names) = (Arc::clone(built), assembled.image.clone(), names.to_vec());
    blocking::run("name an image", move || {
        built.context.store.durable_transaction(|tx| {
            tx.put_image(&image)?;
            names.iter().try_for_each(|name| tx.tag_image(&name.to_string(), &image.id).map(drop))
        })?;
        let (id, events) = (&image.id, &built.context.events);
        events.emit(Subject::Image, "create", id.as_str(), assemble::told(names.first(), id));
        for name in &names {
            events.emit(Subject::Image, "tag", id.as_str(), assemble::told(Some(name), id));
        }
        Ok(())
    })
    .await
}

/// Who the client is to the registry of a name.
pub(in crate::builds) async fn credentials(built: &Built, name: &Reference) -> Result<Credentials> {
    let given = built.sources.credentials(name.domain()).await;
    let given = given.map_err(|error| Error::invalid(format!("cannot ask for credentials: {error}")))?;
    Ok(given.map_or(Credentials::Anonymous, |(username, password)| Credentials::Basic { username, password }))
}

/// Gives an image to the registry of a name.
pub(in crate::builds) async fn push(
    built: &Arc<Built>,
    image: &storage::NewImage,
    name: &Reference,
    voice: &Voice,
) -> Result<()> {
    let credentials = credentials(built, name).await?;
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    // Who does not come to telling one event tells the next: what is done is told by its end.
    let tell = move |event: Pushing| drop(sender.try_send(event));
    let pushing = async {
        let pushed = built.context.images.push_made(name, image, credentials, &tell).await;
        // Ends the telling.
        drop(tell);
        pushed
    };
    let started = SystemTime::now();
    let telling = async {
        while let Some(Pushing(layer, step)) = events.recv().await {
            let (text, counts, done) = match step {
                Step::Pushing { current, total } => ("pushing", (current, total), false),
                Step::Pushed | Step::Exists | Step::Mounted(_) => ("pushing", (0, 0), true),
                _ => continue,
            };
            voice.status(layer.as_str(), &format!("{text} {}", layer.short()), counts, started, done).await;
        }
    };
    let work = async {
        let (pushed, ()) = tokio::join!(pushing, telling);
        pushed
    };
    let pushed = part_of(voice, &format!("pushing layers of {name}"), work).await?;
    noted(voice, &format!("pushing manifest for {name}@{}", pushed.target.digest)).await;
    Ok(())
}
