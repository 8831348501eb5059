//! The one pass over an archive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, Read};

use oci::Digest;
use oci::image::MAX_MANIFEST_BYTES;
use storage::archive::{self, Archive, Entry, Kind};
use storage::{Lease, Store};

use super::archive::{Piece, Taker};
use super::documents;
use crate::error::{Error, Result};

/// Entries of an archive: one of 10,000 layers has five for each.
const ENTRIES_MAX: usize = 200_000;
/// The documents at the archive's root.
const DOCUMENTS: [&str; 4] = ["index.json", "manifest.json", "oci-layout", "repositories"];

/// Where everything goes.
pub(super) struct Keep<'a> {
    /// The store.
    pub(super) store: &'a Store,
    /// What keeps it there.
    pub(super) lease: &'a Lease,
    /// Who hears how far a layer is.
    pub(super) tell: &'a dyn Fn(&str, u64, u64),
}

/// What came.
pub(super) struct Intake {
    /// The documents at the root.
    pub(super) documents: BTreeMap<String, Vec<u8>>,
    /// Everything else that may be of an image, by path.
    pub(super) files: BTreeMap<String, Piece>,
    /// Where links lead.
    pub(super) links: BTreeMap<String, String>,
}

impl Intake {
    /// Takes in all of an archive.
    pub(super) fn take(to: &Keep<'_>, source: impl Read) -> Result<Self> {
        let mut behind = Behind::default();
        let taken = Self::read(to, source, &mut behind);
        // Empty where all went well.
        behind.0.into_iter().for_each(|(_, taker)| taker.give_up());
        taken
    }

    fn read<'a>(to: &'a Keep<'_>, source: impl Read, behind: &mut Behind<'a>) -> Result<Self> {
        let mut archive = archive::open(source, to.store.limits()).map_err(refused)?;
        let mut intake = Self { documents: BTreeMap::new(), files: BTreeMap::new(), links: BTreeMap::new() };
        let mut seen = BTreeSet::new();
        while let Some(entry) = archive.next_entry().map_err(refused)? {
            let path = documents::path(&entry.path)?;
            if entry.kind == Kind::Directory {
                continue;
            }
            if seen.len() >= ENTRIES_MAX {
                return Err(Error::invalid(format!("the archive has more than {ENTRIES_MAX} entries")));
            }
            if !seen.insert(path.clone()) {
                return Err(Error::invalid(format!("{path:?} is in the archive twice")));
            }
            intake.entry(to, &entry, path, &mut archive, behind)?;
        }
        archive.drain().map_err(refused)?;
        behind.until(0, &mut intake.files)?;
        Ok(intake)
    }

    fn entry<'a, R: BufRead>(
        &mut self,
        to: &'a Keep<'_>,
        entry: &Entry,
        path: String,
        archive: &mut Archive<R>,
        behind: &mut Behind<'a>,
    ) -> Result<()> {
        match entry.kind {
            Kind::File if entry.sparse.is_none() => {}
            Kind::Symlink => {
                let target = documents::link(&path, &entry.link)?;
                self.links.insert(path, target);
                return Ok(());
            }
            Kind::Hardlink => {
                let target = documents::path(&entry.link)?;
                self.links.insert(path, target);
                return Ok(());
            }
            _ => return Err(Error::invalid(format!("{path:?} in the archive is no file"))),
        }
        if DOCUMENTS.contains(&path.as_str()) {
            if entry.size > MAX_MANIFEST_BYTES {
                let text = format!("{path} of the archive is larger than {MAX_MANIFEST_BYTES} bytes");
                return Err(Error::invalid(text));
            }
            let mut content = Vec::new();
            archive
                .data(|piece| {
                    content.extend_from_slice(piece);
                    Ok(())
                })
                .map_err(refused)?;
            self.documents.insert(path, content);
            return Ok(());
        }
        let digest = documents::blob(&path)?;
        let mut taker = Taker::new(to, digest, entry.size);
        if let Err(error) = archive.data(|piece| taker.write(piece)) {
            taker.give_up();
            return Err(refused(error));
        }
        if taker.is_behind() {
            behind.0.push_back((path, taker));
            return behind.until(Behind::MAX, &mut self.files);
        }
        if let Some(piece) = taker.finish().map_err(refused)? {
            self.files.insert(path, piece);
        }
        Ok(())
    }

    /// Whether it is an OCI layout.
    pub(super) fn has_layout(&self) -> bool {
        self.documents.contains_key("index.json") && self.documents.contains_key("oci-layout")
    }

    /// What a path means, links followed.
    pub(super) fn piece(&self, path: &str) -> Option<&Piece> {
        documents::follow(path, &self.links, &self.files)
    }

    /// The blob that is called so. A link that leads to another one makes none: what is recorded has to be what the documents name.
    pub(super) fn blob(&self, digest: &Digest) -> Option<&Piece> {
        let piece = self.piece(&format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()));
        piece.filter(|piece| piece.digest() == digest)
    }
}

/// Layers that have come and are still being unpacked, the first first.
#[derive(Default)]
struct Behind<'a>(VecDeque<(String, Taker<'a>)>);

impl Behind<'_> {
    /// So many beside the one that is coming: two keep two processors busy, each more costs threads, buffers and open files.
    const MAX: usize = 2;

    /// Waits for the first ones until there are no more than `left`.
    fn until(&mut self, left: usize, files: &mut BTreeMap<String, Piece>) -> Result<()> {
        while self.0.len() > left
            && let Some((path, taker)) = self.0.pop_front()
        {
            if let Some(piece) = taker.finish().map_err(refused)? {
                files.insert(path, piece);
            }
        }
        Ok(())
    }
}

/// What is wrong with what was sent is the sender's business.
pub(in crate::images) fn refused(error: storage::Error) -> Error {
    use storage::Error as Storage;
    match error {
        Storage::InvalidLayer { reason } => Error::invalid(format!("invalid archive: {reason}")),
        error @ (Storage::Limit { .. }
        | Storage::DigestMismatch { .. }
        | Storage::SizeMismatch { .. }
        | Storage::TwoMeanings { .. }
        | Storage::UnsupportedMediaType { .. }) => Error::invalid(error.to_string()),
        other => other.into(),
    }
}
