//! `manifest push`.

use bytes::Bytes;
use oci::{Digest, Reference};
use registry::client::{Repository, Started};
use sha2::{Digest as _, Sha256};

use super::lists::{Entry, Lists, index, missing};
use super::reference_for;
use super::remote::{Registries, failed};
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::session::Session;

/// `manifest push`.
pub const COMMAND: Command = Command {
    name: "push",
    usage: "[OPTIONS] MANIFEST_LIST",
    about: "Push a manifest list to a repository",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("insecure", "Allow push to an insecure registry"),
            switch("purge", "Remove the local manifest list after push").short('p'),
        ],
    }],
    examples: &[Example {
        about: "Give a list to its registry, and forget it here",
        line: "manifest push --purge r.example/app:1",
    }],
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let list = reference_for("error parsing name for manifest list", &parsed.args[0])?;
    let lists = Lists::of(&session.config);
    let entries = lists.all(&list)?.ok_or_else(|| missing(&list))?;
    if entries.is_empty() {
        return Err(Error::Message(format!("{list} not found")));
    }
    for entry in &entries {
        check(entry, &list)?;
    }
    let (media_type, text) = index(&entries)?;
    let repository = Registries::new(session, &list, parsed.on("insecure"))?.writable(&list).await?;
    for entry in &entries {
        let from = entry.named()?;
        if from.repository() != list.repository() {
            bring(session, &repository, &list, entry, &from).await?;
        }
    }
    let digest = Digest::from_sha256(Sha256::digest(&text).into());
    let text = Bytes::from(text);
    repository.put_manifest(list.target(), media_type, &text, &digest).await.map_err(failed)?;
    session.line(digest.as_str())?;
    if parsed.on("purge") { lists.remove(&list) } else { Ok(()) }
}

/// Whether a manifest can be in a list at a registry.
fn check(entry: &Entry, list: &Reference) -> Result<()> {
    let from = entry.named()?;
    if from.domain() != list.domain() {
        return Err(Error::Message(format!(
            "cannot use source images from a different registry than the target image: {} != {}",
            from.domain(),
            list.domain()
        )));
    }
    let known = entry
        .descriptor
        .platform
        .as_ref()
        .is_some_and(|platform| !platform.os.is_empty() && !platform.architecture.is_empty());
    if known {
        return Ok(());
    }
    Err(Error::Message(format!(
        "manifest {} must have an OS and Architecture to be pushed to a registry",
        entry.reference
    )))
}

/// Brings a manifest and its blobs from another repository of the registry.
async fn bring(
    session: &Session,
    repository: &Repository,
    list: &Reference,
    entry: &Entry,
    from: &Reference,
) -> Result<()> {
    let manifest = entry.manifest()?;
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if repository.has_blob(&blob.digest, blob.size).await.map_err(failed)? {
            continue;
        }
        if let Started::Upload(upload) = repository.mount(&blob.digest, from.path()).await.map_err(failed)? {
            repository.abandon(upload).await;
            return Err(Error::Message(format!("blob {} is not to be had from {from}", blob.digest)));
        }
    }
    let digest = &entry.descriptor.digest;
    let parsed = Digest::parse(digest).map_err(|err| Error::Message(err.to_string()))?;
    let bytes = Bytes::from(entry.bytes()?);
    let put = repository.put_manifest(digest, &entry.descriptor.media_type, &bytes, &parsed);
    put.await.map_err(failed)?;
    session.line(&format!("Pushed ref {}@{digest} with digest: {digest}", list.repository()))
}
