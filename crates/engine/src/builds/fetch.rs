//! `ADD` of addresses: what they lead to, in files without names.

use std::io::{Read, Seek, SeekFrom, Write};

use build::graph::Copy;
use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::copying::Fetched;
use crate::context::Context;
use crate::error::{Error, Result};

/// Bytes of one file: the largest releases that are added so are some gigabytes.
const BYTES_MAX: u64 = 16 << 30;
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 * 1024;

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
            let found = digest(&one.file)?;
            if found != wanted {
                return Err(Error::invalid(format!("digest mismatch {found}: {wanted} (of {url})")));
            }
        }
        fetched.push(one);
    }
    Ok(fetched)
}

async fn one(context: &Context, url: &str) -> Result<Fetched> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.split("://").nth(1).and_then(|rest| rest.split_once('/')).map_or("", |(_, path)| path);
    let name = name.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
    let name = name.ok_or_else(|| Error::invalid(format!("cannot determine filename for source {url}")))?;
    let shown = registry::client::shown_url(url);
    let mut fetch = context.images.client().fetch(url).await?;
    let failed = |e| Error::system(format!("cannot keep {shown}")).with_source(e);
    let mut file = nameless(context).map_err(failed)?;
    let mut bytes = 0;
    while let Some(chunk) = fetch.chunk().await? {
        bytes += chunk.len() as u64;
        if bytes > BYTES_MAX {
            return Err(Error::invalid(format!("{shown} has more than {BYTES_MAX} bytes")));
        }
        file.write_all(&chunk).map_err(failed)?;
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Fetched { name, file, modified: None })
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

fn digest(file: &std::fs::File) -> Result<Digest> {
    let failed = |e| Error::system("cannot read what was fetched").with_source(e);
    let mut source = file.try_clone().map_err(failed)?;
    source.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer).map_err(failed)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    source.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Digest::from_sha256(hasher.finalize().into()))
}

/// The digest of all that was fetched.
pub(super) fn key(fetched: &[Fetched]) -> Result<Option<Digest>> {
    if fetched.is_empty() {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    for one in fetched {
        hasher.update(one.name.as_bytes());
        hasher.update(digest(&one.file)?.as_str());
    }
    Ok(Some(Digest::from_sha256(hasher.finalize().into())))
}
