//! The files of the result, for the client: as an archive, or into a directory.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use build::output::{Directory, FilesOutput, Written};
use jiff::Timestamp;
use oci::Digest;
use sha2::{Digest as _, Sha256};
use storage::pack::{Naming, Writer};
use sys::fsx::{self, FileType, Time};

use super::super::result::{Built, Part, epoch};
use super::super::tell::Voice;
use super::archive;
use super::attest;
use super::{Response, part_of};
use crate::blocking;
use crate::error::{Error, Result};
use crate::pipe::{Flow, written};

/// Files that statements are about, and directories in one another.
const SUBJECTS_MAX: usize = 100_000;
const DEPTH_MAX: usize = 512;
/// Who may do what with the file of a statement in an archive.
const STATEMENT_MODE: u32 = 0o644;
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// Sends the files.
pub(super) async fn send(
    built: &Arc<Built>,
    number: usize,
    output: &FilesOutput,
    voice: &Voice,
) -> Result<Response> {
    let split = output.split.unwrap_or(built.parts.len() > 1);
    if built.parts.len() > 1 && !split {
        return Err(Error::not_implemented(
            "platform-split=false of several platforms: their files would lie over each other; build for one after the other",
        ));
    }
    if output.archive {
        part_of(voice, "sending tarball", tarball(built, number, split, output)).await?;
    } else {
        part_of(voice, "copying files", directories(built, number, split, output)).await?;
    }
    Ok(Response::new())
}

/// What the directory of a platform is called.
fn directory_of(part: &Part, split: bool) -> Option<String> {
    split.then(|| part.platform.to_string().replace('/', "_"))
}

async fn directories(built: &Arc<Built>, number: usize, split: bool, output: &FilesOutput) -> Result<()> {
    let (own, prefix) = (Arc::clone(built), output.attestation_prefix.clone());
    let changed_s = epoch(&built.request)?.map(Timestamp::as_second);
    let directories = blocking::run_long("lay out the files of a result", move || {
        let one = |part: &Part| {
            let files = merged(&own, part)?;
            let written = stated(&own, part, &files, &prefix)?;
            Ok(Directory { name: directory_of(part, split), files, written, changed_s })
        };
        own.parts.iter().map(one).collect::<Result<Vec<_>>>()
    })
    .await?;
    let sent = built.client()?.files(number, directories).await;
    sent.map_err(|error| Error::invalid(format!("cannot send the result: {error}")))
}

/// Statements about files, as files beside them.
fn stated(built: &Built, part: &Part, files: &OwnedFd, prefix: &str) -> Result<Vec<Written>> {
    if !attest::is_wanted(built, false) {
        return Ok(Vec::new());
    }
    if prefix.contains('/') {
        return Err(Error::invalid(format!("invalid attestation-prefix {prefix:?}: it is no path")));
    }
    let mut subjects = Vec::new();
    digests(files, "", 0, &mut subjects)?;
    let one = |predicate: attest::Predicate| {
        let content = attest::statement(&predicate, &subjects)?;
        Ok(Written { name: format!("{prefix}{}", predicate.name), content })
    };
    attest::predicates(built, part, false)?.into_iter().map(one).collect()
}

/// The digests of all files of a directory.
fn digests(dir: &OwnedFd, path: &str, depth: usize, subjects: &mut Vec<(String, Digest)>) -> Result<()> {
    let failed = |name: &str| {
        let name = name.to_owned();
        move |error| Error::io("read", Path::new(&name), error)
    };
    if depth > DEPTH_MAX || subjects.len() > SUBJECTS_MAX {
        return Err(Error::invalid(format!(
            "statements are about {SUBJECTS_MAX} files in {DEPTH_MAX} directories at most"
        )));
    }
    let mut names: Vec<_> = fsx::list(dir).map_err(failed(path))?.into_iter().map(|one| one.name).collect();
    names.sort();
    for name in names {
        let shown = name.to_string_lossy();
        let shown = if path.is_empty() { shown.into_owned() } else { format!("{path}/{shown}") };
        let stat = fsx::stat_at(dir, &name).map_err(failed(&shown))?;
        match fsx::kind(&stat) {
            FileType::Directory => {
                let below = fsx::open_dir_at(dir, &name).map_err(failed(&shown))?;
                digests(&below, &shown, depth + 1, subjects)?;
            }
            FileType::RegularFile => {
                let mut file = fsx::open_regular_at(dir, &name).map_err(failed(&shown))?;
                let mut hasher = Sha256::new();
                let mut buffer = vec![0; BUFFER_BYTES];
                loop {
                    match file.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(length) => hasher.update(&buffer[..length]),
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(failed(&shown)(error)),
                    }
                }
                subjects.push((shown, Digest::from_sha256(hasher.finalize().into())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// One directory with the files of all layers.
fn merged(built: &Built, part: &Part) -> Result<OwnedFd> {
    let store = &built.context.store;
    store.restore_layers(&part.layers)?;
    let ids: Vec<Digest> = part.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let only = match ids.as_slice() {
        [only] => only.clone(),
        several => store.squash_layers(&built.lease, &[], several)?.diff_id,
    };
    Ok(store.layer_directory(&built.lease, &only)?)
}

async fn tarball(built: &Arc<Built>, number: usize, split: bool, output: &FilesOutput) -> Result<()> {
    let (own, prefix) = (Arc::clone(built), output.attestation_prefix.clone());
    let time = epoch(&built.request)?.map(|time| Time { seconds: time.as_second(), nanoseconds: 0 });
    let flow = Flow::start(&built.context.tasks, "send the files of a result", move |outlet| {
        let store = &own.context.store;
        let mut out = Writer::new(outlet).timed(time);
        for part in &own.parts {
            let statements = match attest::is_wanted(&own, false) {
                true => stated(&own, part, &merged(&own, part)?, &prefix)?,
                false => Vec::new(),
            };
            store.restore_layers(&part.layers)?;
            let ids: Vec<Digest> = part.layers.iter().map(|layer| layer.diff_id.clone()).collect();
            let tree = store.layers_tree(&own.lease, &ids)?;
            let directory = directory_of(part, split);
            let naming =
                directory.as_ref().map_or(Naming::AsIs, |name| Naming::Below(name.as_bytes().to_vec()));
            out = tree.pack_into(out, naming)?;
            for Written { name, content } in statements {
                let path = directory.as_ref().map_or_else(|| name.clone(), |above| format!("{above}/{name}"));
                out.file(&path, STATEMENT_MODE, &content).map_err(written)?;
            }
        }
        out.finish().and_then(|mut outlet| outlet.flush()).map_err(written)
    });
    archive::stream(built, number, std::collections::BTreeMap::new(), flow).await
}
