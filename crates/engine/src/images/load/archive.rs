//! One file of an archive, taken in by what it is: known by its first bytes, never by its name.

use oci::Digest;
use oci::image::{MAX_CONFIG_BYTES, media_type};
use storage::pack::LayerSpool;
use storage::{Expected, ImageLayer, Ingest, LayerWriter};

use super::intake::Keep;

/// Bytes by which a file is known: a header of tar.
const MAGIC_BYTES: usize = 512;
/// Between two counts that are told.
const TOLD_BYTES: u64 = 4 << 20;

/// What a file turned out to be.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// A small document, as a blob.
    Document {
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// A layer, as a blob and unpacked.
    Layer(ImageLayer),
    /// A blob that was here already, or is none of these.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
        /// Its media type where it is a layer.
        media_type: Option<&'static str>,
    },
}

impl Piece {
    /// The digest of its bytes.
    pub(super) fn digest(&self) -> &Digest {
        match self {
            Self::Layer(layer) => &layer.digest,
            Self::Document { digest, .. } | Self::Blob { digest, .. } => digest,
        }
    }
}

enum State {
    Undecided(Vec<u8>),
    Document(Vec<u8>),
    Spool(Box<LayerSpool>),
    Layer {
        writer: Box<LayerWriter>,
        skip: u64,
        media_type: &'static str,
    },
    Blob(Box<Ingest>, u64),
    /// It is here, or nothing that an image has.
    Skip(Option<&'static str>),
}

/// A file that is coming in.
pub(super) struct Taker<'a> {
    to: &'a Keep<'a>,
    /// The digest that it is called by.
    digest: Option<Digest>,
    size: u64,
    state: State,
    label: String,
    done: u64,
    told: u64,
}

fn layer_type(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some(media_type::DOCKER_LAYER_GZIP),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Some(media_type::DOCKER_LAYER_ZSTD)
        }
        // A header of tar, of which the oldest have no magic; an archive without entries is zeros.
        _ if head.len() == MAGIC_BYTES
            && (head[257..].starts_with(b"ustar")
                || is_old_header(head)
                || head.iter().all(|byte| *byte == 0)) =>
        {
            Some(media_type::DOCKER_LAYER)
        }
        _ => None,
    }
}

fn is_old_header(head: &[u8]) -> bool {
    let told: String =
        head[148..156].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
    let sum: u32 = head
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    u32::from_str_radix(&told, 8) == Ok(sum)
}

impl<'a> Taker<'a> {
    /// Takes in a file of this size.
    pub(super) fn new(to: &'a Keep<'a>, digest: Option<Digest>, size: u64) -> Self {
        let state = State::Undecided(Vec::new());
        Self { to, digest, size, state, label: String::new(), done: 0, told: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> storage::Result<()> {
        if let State::Undecided(head) = &mut self.state {
            head.extend_from_slice(bytes);
            if head.len() < MAGIC_BYTES {
                return Ok(());
            }
            return self.decide();
        }
        self.push(bytes)
    }

    fn decide(&mut self) -> storage::Result<()> {
        let State::Undecided(head) = &mut self.state else { return Ok(()) };
        let head = std::mem::take(head);
        self.state = self.choose(&head)?;
        self.push(&head)
    }

    fn choose(&mut self, head: &[u8]) -> storage::Result<State> {
        if head.first() == Some(&b'{') && self.size <= MAX_CONFIG_BYTES {
            return Ok(State::Document(Vec::new()));
        }
        let layer = layer_type(&head[..head.len().min(MAGIC_BYTES)]);
        let Some(digest) = &self.digest else {
            if layer.is_none() {
                return Ok(State::Skip(None));
            }
            self.label = "layer".to_owned();
            return Ok(State::Spool(Box::new(self.to.store.spool_layer(self.to.lease)?)));
        };
        self.label = digest.short().to_owned();
        let expected = |media_type: &str| Expected {
            digest: digest.clone(),
            size: self.size,
            media_type: media_type.to_owned(),
        };
        let state = match layer {
            Some(media_type) => self
                .to
                .store
                .write_layer_ahead(self.to.lease, expected(""))
                .map(|writer| State::Layer { skip: writer.offset(), writer: Box::new(writer), media_type }),
            None => self.to.store.ingest(self.to.lease, expected("")).map(|ingest| {
                let skip = ingest.offset();
                State::Blob(Box::new(ingest), skip)
            }),
        };
        match state {
            // Whoever writes it at this moment may yet break off: this one does not depend on them.
            Err(storage::Error::Busy { .. }) if layer.is_some() => {
                Ok(State::Spool(Box::new(self.to.store.spool_layer(self.to.lease)?)))
            }
            Err(storage::Error::Exists { .. }) => Ok(State::Skip(layer)),
            other => other,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> storage::Result<()> {
        self.done += bytes.len() as u64;
        match &mut self.state {
            State::Undecided(_) | State::Skip(_) => return Ok(()),
            State::Document(all) => {
                all.extend_from_slice(bytes);
                return Ok(());
            }
            State::Spool(spool) => spool.write(bytes)?,
            State::Layer { writer, skip, .. } => writer.write(after(bytes, skip))?,
            State::Blob(ingest, skip) => ingest.write(after(bytes, skip))?,
        }
        if self.done - self.told >= TOLD_BYTES || self.done == self.size {
            self.told = self.done;
            (self.to.tell)(&self.label, self.done, self.size);
        }
        Ok(())
    }

    /// Whether it is a layer, which is still being unpacked when all of it has come.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self.state, State::Layer { .. } | State::Spool(_))
    }

    /// It will not come: an archive is sent from its beginning again, if at all.
    pub(super) fn give_up(self) {
        match self.state {
            State::Layer { writer, .. } => writer.give_up(),
            State::Blob(ingest, _) => ingest.give_up(),
            _ => {}
        }
    }

    /// All of it has come.
    pub(super) fn finish(mut self) -> storage::Result<Option<Piece>> {
        self.decide()?;
        let (digest, size) = (self.digest.clone(), self.size);
        Ok(match self.state {
            State::Undecided(_) => None,
            State::Document(content) => {
                let digest = match digest {
                    Some(digest) => {
                        let expected = Expected { digest: digest.clone(), size, media_type: String::new() };
                        self.to.store.put_expected_blob(self.to.lease, &expected, &content)?;
                        digest
                    }
                    None => self.to.store.put_blob(self.to.lease, "", &content)?,
                };
                Some(Piece::Document { digest, size })
            }
            State::Spool(spool) => {
                let layer = spool.commit()?;
                match digest {
                    Some(expected) if expected != layer.digest => {
                        return Err(storage::Error::DigestMismatch { expected, actual: layer.digest });
                    }
                    _ => Some(Piece::Layer(layer)),
                }
            }
            State::Layer { writer, media_type, .. } => {
                let layer = writer.commit(None)?;
                digest.map(|digest| {
                    Piece::Layer(ImageLayer {
                        digest,
                        size,
                        media_type: media_type.to_owned(),
                        diff_id: layer.diff_id,
                    })
                })
            }
            State::Blob(ingest, _) => {
                ingest.commit()?;
                digest.map(|digest| Piece::Blob { digest, size, media_type: None })
            }
            State::Skip(media_type) => digest.map(|digest| Piece::Blob { digest, size, media_type }),
        })
    }
}

/// What of these bytes is not there from an earlier try.
fn after<'b>(bytes: &'b [u8], skip: &mut u64) -> &'b [u8] {
    let known = usize::try_from(*skip).unwrap_or(usize::MAX).min(bytes.len());
    *skip -= known as u64;
    &bytes[known..]
}
