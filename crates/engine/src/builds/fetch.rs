//! `ADD` of addresses: what they lead to, in files without names.

mod spool;

use build::graph::Copy;
use build::request::{SharedSources, SourceError};
use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::copying::Fetched;
use super::git::{Caller, Commit, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use spool::Spool;

/// Bytes of one file: the largest releases that are added so are some gigabytes.
const BYTES_MAX: u64 = 16 << 30;

/// Fetches all that an instruction names.
pub(super) async fn all(context: &Context, copy: &Copy) -> Result<Vec<Fetched>> {
    let mut fetched = Vec::new();
    for url in &copy.urls {
        let one = one(context, url).await?;
        if let Some(wanted) = &copy.checksum {
            let wanted =
                Digest::parse(wanted).map_err(|e| Error::invalid(format!("--checksum={wanted}: {e}")))?;
            if wanted.algorithm() != oci::Algorithm::Sha256 {
                return Err(Error::not_implemented(format!("--checksum={wanted}: sha256 alone is known")));
            }
            if one.digest != wanted {
                let (found, url) = (one.digest, registry::client::shown_url(url));
                return Err(Error::invalid(format!("digest mismatch {found}: {wanted} (of {url})")));
            }
        }
        fetched.push(one);
    }
    Ok(fetched)
}

/// Fetches one file.
pub(super) async fn one(context: &Context, url: &str) -> Result<Fetched> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.split("://").nth(1).and_then(|rest| rest.split_once('/')).map_or("", |(_, path)| path);
    let name = name.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
    let name = name.ok_or_else(|| {
        let url = registry::client::shown_url(url);
        Error::invalid(format!("cannot determine filename for source {url}"))
    })?;
    let shown = registry::client::shown_url(url);
    let mut fetch = context.images.client().fetch(url).await?;
    let mut spool = Spool::new(&context.config.data_root, &shown, BYTES_MAX);
    while let Some(chunk) = fetch.chunk().await? {
        spool.take(chunk).await?;
    }
    let (file, digest) = spool.finish().await?;
    // What is fetched twice is the same file twice: the time is its own, and never the build's.
    Ok(Fetched { name, file, digest, modified: fetch.modified().unwrap_or_default() })
}

/// Takes an archive that the client gives.
pub(super) async fn upload(context: &Context, sources: &SharedSources, name: &str) -> Result<Fetched> {
    let refused = |error: SourceError| Error::invalid(format!("cannot read the build context: {error}"));
    let mut pieces = sources.upload(name).await.map_err(refused)?;
    let mut spool = Spool::new(&context.config.data_root, "the build context", BYTES_MAX);
    while let Some(piece) = pieces.recv().await {
        spool.take(piece.map_err(refused)?.into()).await?;
    }
    let (file, digest) = spool.finish().await?;
    Ok(Fetched { name: "context".to_owned(), file, digest, modified: 0 })
}

/// What the repositories of an instruction are at.
pub(super) async fn commits(context: &Context, copy: &Copy, sources: &SharedSources) -> Result<Vec<Commit>> {
    let mut commits = Vec::new();
    for repository in &copy.repositories {
        let commit = Caller::new(context, &repository.git, sources).await?.resolve().await?;
        if let Some(checksum) = &repository.git.checksum {
            commit.check(checksum)?;
        }
        commits.push(commit);
    }
    Ok(commits)
}

/// Their files.
pub(super) async fn trees(
    context: &Context,
    copy: &Copy,
    commits: &[Commit],
    sources: &SharedSources,
) -> Result<Vec<Tree>> {
    let mut trees = Vec::new();
    for (repository, commit) in copy.repositories.iter().zip(commits) {
        let caller = Caller::new(context, &repository.git, sources).await?;
        trees.push(caller.check_out(commit, repository.keep_git_dir).await?);
    }
    Ok(trees)
}

/// The digest of all that was fetched, and of what is going to be: a commit says what is in it.
pub(super) fn key(fetched: &[Fetched], commits: &[Commit]) -> Option<Digest> {
    if fetched.is_empty() && commits.is_empty() {
        return None;
    }
    let mut hasher = Sha256::new();
    for commit in commits {
        hasher.update(b"commit");
        hasher.update(&commit.id);
    }
    for one in fetched {
        hasher.update(one.name.as_bytes());
        hasher.update(one.digest.as_str());
        hasher.update(one.modified.to_le_bytes());
    }
    Some(Digest::from_sha256(hasher.finalize().into()))
}
