//! `ADD` of addresses: what they lead to, in files without names.

use std::io::{Seek, SeekFrom, Write};

use build::graph::Copy;
use build::request::{SharedSources, SourceError};
use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::copying::Fetched;
use super::git::{Caller, Commit, Tree};
use crate::context::Context;
use crate::error::{Error, Result};

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
    let mut spool = Spool::new(context, &shown)?;
    // What is fetched twice is the same file twice: the time is its own, and never the build's.
    spool.modified = fetch.modified().unwrap_or_default();
    while let Some(chunk) = fetch.chunk().await? {
        spool.write(&chunk)?;
    }
    spool.finish(name)
}

/// Takes an archive that the client gives.
pub(super) async fn upload(context: &Context, sources: &SharedSources, name: &str) -> Result<Fetched> {
    let refused = |error: SourceError| Error::invalid(format!("cannot read the build context: {error}"));
    let mut pieces = sources.upload(name).await.map_err(refused)?;
    let mut spool = Spool::new(context, "the build context")?;
    while let Some(piece) = pieces.recv().await {
        spool.write(&piece.map_err(refused)?)?;
    }
    spool.finish("context".to_owned())
}

/// What comes from elsewhere, on its way into a file without a name.
struct Spool {
    what: String,
    file: std::fs::File,
    hasher: Sha256,
    bytes: u64,
    modified: i64,
}

impl Spool {
    fn new(context: &Context, what: &str) -> Result<Self> {
        let file = nameless(context).map_err(|e| unkept(what, e))?;
        Ok(Self { what: what.to_owned(), file, hasher: Sha256::new(), bytes: 0, modified: 0 })
    }

    /// Takes a piece. Its digest is made while it comes: nobody reads gigabytes a second time to know them.
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.bytes += piece.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(Error::invalid(format!("{} has more than {BYTES_MAX} bytes", self.what)));
        }
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(|e| unkept(&self.what, e))
    }

    fn finish(mut self, name: String) -> Result<Fetched> {
        self.file.seek(SeekFrom::Start(0)).map_err(|e| unkept(&self.what, e))?;
        let digest = Digest::from_sha256(self.hasher.finalize().into());
        Ok(Fetched { name, file: self.file, digest, modified: self.modified })
    }
}

fn unkept(what: &str, error: std::io::Error) -> Error {
    Error::system(format!("cannot keep {what}")).with_source(error)
}

/// A file that goes with its last descriptor.
fn nameless(context: &Context) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    std::fs::File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&context.config.data_root)
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
