//! Pushing images, and asking what registries have.

use super::{AUTH_HEADER, credentials, platform, told};
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use engine::images::{PushOptions, parse_platform, parse_reference};
use oci::AnyReference;

/// Pushes. A client that goes away ends it.
pub(crate) async fn push(call: Call, name: &str) -> Answer {
    let options = PushOptions {
        reference: parse_reference(name, call.query.get("tag"))?,
        platform: parse_platform(&platform(&call, 46)?)?,
        credentials: credentials::read(call.header(AUTH_HEADER))?,
        compression: call.query.get("compression").to_owned(),
    };
    let pushing = call.engine.images().push(options)?;
    told(call, pushing).await
}

/// What a name leads to at its registry.
pub(crate) async fn distribution(call: Call, name: &str) -> Answer {
    let reference = match AnyReference::parse(name) {
        Ok(AnyReference::Named(reference)) => reference.or_latest(),
        Ok(AnyReference::Digest(_)) => {
            return Err(Failure::invalid(format!("unknown image reference format: {name}")));
        }
        Err(error) => return Err(Failure::invalid(error.to_string())),
    };
    let credentials = credentials::read(call.header(AUTH_HEADER))?;
    Reply::json(&call.engine.images().distribution(&reference, credentials).await?)
}
