//! `POST /images/{name}/push`: a push, told line by line as Docker tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::stream::{Progress, ProgressDetail};
use oci::image::Descriptor;
use oci::{Digest, Platform, Reference};
use registry::push::{Event, Pushed, Pusher, Recompress, Request, Step};
use registry::{Credentials, Error as RegistryError};
use serde_json::json;
use storage::{Image, NewImage, Packing};
use tokio::sync::mpsc;

use super::pull::{LINES, Pulling};
use super::{Images, Shared, find, show};
use crate::blocking;
use crate::error::{Error, Kind, Result};
use crate::events::Subject;

/// The levels at which gzip and zstd compress. Above 19 zstd wants memory by the gigabyte.
const GZIP_LEVELS: std::ops::RangeInclusive<u32> = 1..=9;
const ZSTD_LEVELS: std::ops::RangeInclusive<u32> = 1..=19;

/// What to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The image's name; a repository alone means all names in it.
    pub reference: Reference,
    /// The platform, where only one of several is wanted.
    pub platform: Option<Platform>,
    /// Who the user is to the registry.
    pub credentials: Credentials,
    /// How layers are to be compressed: `gzip`, `zstd`, either with `:LEVEL`; nothing leaves them as they are.
    pub compression: String,
}

impl Images {
    /// Pushes an image. Dropping what is returned gives the push up.
    pub fn push(&self, options: PushOptions) -> Result<Pulling> {
        let recompress = parse_compression(&options.compression)?;
        let (lines, receiver) = mpsc::channel(LINES);
        let push =
            Push { shared: self.shared.clone(), pusher: self.pusher.clone(), options, recompress, lines };
        let closing = self.closing.clone();
        let task = self.tasks.spawn(async move {
            let outcome = closing.run_until_cancelled(push.run()).await;
            let closed = || Err(Error::new(Kind::Cancelled, "the daemon is shutting down"));
            if let Err(error) = outcome.unwrap_or_else(closed) {
                let _ = push.lines.try_send(Err(error));
            }
        });
        Ok(Pulling { lines: receiver, task })
    }
}

impl Images {
    /// Pushes an image that was made here, visible or not: its parts are kept by whoever has made it.
    pub(crate) async fn push_made(
        &self,
        reference: &Reference,
        image: &NewImage,
        credentials: Credentials,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Pushed> {
        let request = Request {
            reference: reference.clone(),
            image: image.clone(),
            manifest: None,
            credentials,
            recompress: None,
        };
        let pushed = self.pusher.push(&request, tell).await?;
        let attributes = BTreeMap::from([("name".to_owned(), reference.familiar_name())]);
        self.shared.events.emit(Subject::Image, "push", &reference.familiar(), attributes);
        Ok(pushed)
    }
}

/// Reads how layers are to be compressed.
fn parse_compression(text: &str) -> Result<Option<Recompress>> {
    let invalid = || {
        Error::invalid(format!(
            "invalid compression {text:?}: it is gzip or zstd, or gzip:LEVEL (1 to 9) or zstd:LEVEL (1 to 19)"
        ))
    };
    if text.is_empty() {
        return Ok(None);
    }
    let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
    let level = level.map(|level| level.parse::<u32>().map_err(|_| invalid())).transpose()?;
    let packing = match (name, level) {
        ("gzip", None) => Packing::Gzip(6),
        ("gzip", Some(level)) if GZIP_LEVELS.contains(&level) => Packing::Gzip(level),
        ("zstd", None) => Packing::Zstd(3),
        ("zstd", Some(level)) if ZSTD_LEVELS.contains(&level) => {
            Packing::Zstd(i32::try_from(level).map_err(|_| invalid())?)
        }
        _ => return Err(invalid()),
    };
    Ok(Some(Recompress { packing, all: level.is_some() }))
}

/// One push.
struct Push {
    shared: Arc<Shared>,
    pusher: Pusher,
    options: PushOptions,
    recompress: Option<Recompress>,
    lines: mpsc::Sender<Result<Progress>>,
}

impl Push {
    async fn run(&self) -> Result<()> {
        let reference = &self.options.reference;
        self.status(format!("The push refers to repository [{}]", reference.repository())).await;
        let wanted = self.images().await?;
        if wanted.is_empty() {
            let name = reference.familiar_name();
            return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
        }
        for (reference, image) in wanted {
            self.one(&reference, image).await?;
        }
        Ok(())
    }

    /// What is to be pushed: a repository alone means all its tags.
    async fn images(&self) -> Result<Vec<(Reference, Image)>> {
        let (shared, reference) = (self.shared.clone(), self.options.reference.clone());
        blocking::run("look for images", move || {
            if !reference.is_name_only() {
                let image = shared.store.transaction(|tx| tx.image_by_name(&reference.to_string()))?;
                return Ok(image.map(|image| (reference, image)).into_iter().collect());
            }
            let tagged = |image: Image| {
                let names = image.names.clone();
                let names = names.into_iter().filter_map(|name| Reference::parse_named(&name).ok());
                let own = names.filter(|name| {
                    name.repository() == reference.repository()
                        && name.tag().is_some()
                        && name.digest().is_none()
                });
                own.map(|name| (name, image.clone())).collect::<Vec<_>>()
            };
            let mut wanted: Vec<(Reference, Image)> =
                shared.store.transaction(|tx| Ok(tx.images()?.into_iter().flat_map(tagged).collect()))?;
            wanted.sort_by_key(|(name, _)| name.to_string());
            Ok(wanted)
        })
        .await
    }

    async fn one(&self, reference: &Reference, image: Image) -> Result<()> {
        let manifest = match &self.options.platform {
            None => None,
            Some(wanted) => {
                let chosen = find::choose(&image, &reference.familiar(), Some(wanted))?;
                Some(chosen.digest.clone()).filter(|digest| digest != image.id())
            }
        };
        let request = Request {
            reference: reference.clone(),
            image: image.image,
            manifest,
            credentials: self.options.credentials.clone(),
            recompress: self.recompress,
        };
        let pushed = match self.pusher.push(&request, &|event| tell(&self.lines, event)).await {
            Ok(pushed) => pushed,
            Err(error) => {
                if let RegistryError::Missing { of_index: true, .. } = &error {
                    let top =
                        Descriptor::new(&request.image.media_type, request.image.id, request.image.size);
                    self.aux(json!({"contentMissing": true, "desc": top})).await;
                }
                return Err(error.into());
            }
        };
        self.done(reference, &pushed).await;
        let attributes = BTreeMap::from([("name".to_owned(), reference.familiar_name())]);
        self.shared.events.emit(Subject::Image, "push", &reference.familiar(), attributes);
        Ok(())
    }

    /// The last lines: what is there now.
    async fn done(&self, reference: &Reference, pushed: &Pushed) {
        let Descriptor { digest, size, .. } = &pushed.target;
        if let Some(index) = &pushed.instead_of {
            self.aux(json!({
                "manifestPushedInsteadOfIndex": true,
                "originalIndex": index,
                "selectedManifest": pushed.target,
            }))
            .await;
        }
        if let Some(tag) = reference.tag() {
            self.status(format!("{tag}: digest: {digest} size: {size}")).await;
            self.aux(json!({"Tag": tag, "Digest": digest, "Size": size})).await;
        }
    }

    async fn status(&self, status: String) {
        let _ = self.lines.send(Ok(Progress { status, ..Default::default() })).await;
    }

    async fn aux(&self, aux: serde_json::Value) {
        let progress_detail = Some(ProgressDetail::default());
        let _ = self.lines.send(Ok(Progress { progress_detail, aux: Some(aux), ..Default::default() })).await;
    }
}

/// Tells what happens, if there is room.
fn tell(lines: &mpsc::Sender<Result<Progress>>, Event(layer, step): Event) {
    if matches!(step, Step::Pushing { .. }) && lines.capacity() < LINES / 2 {
        return;
    }
    let _ = lines.try_send(Ok(layer_line(&layer, step)));
}

fn layer_line(layer: &Digest, step: Step) -> Progress {
    let (status, detail) = match step {
        Step::Preparing => ("Preparing".to_owned(), ProgressDetail::default()),
        Step::Waiting => ("Waiting".to_owned(), ProgressDetail::default()),
        Step::Compressing => ("Compressing".to_owned(), ProgressDetail::default()),
        Step::Exists => ("Layer already exists".to_owned(), ProgressDetail::default()),
        Step::Foreign => ("Skipped foreign layer".to_owned(), ProgressDetail::default()),
        Step::Mounted(from) => (format!("Mounted from {from}"), ProgressDetail::default()),
        Step::Pushing { current, total } => {
            let (current, total) = (show::signed(current), show::signed(total));
            ("Pushing".to_owned(), ProgressDetail { current, total, ..Default::default() })
        }
        Step::Pushed => ("Pushed".to_owned(), ProgressDetail::default()),
    };
    Progress { id: layer.short().to_owned(), status, progress_detail: Some(detail), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions() {
        let read = |text: &str| parse_compression(text).unwrap().map(|how| (how.packing, how.all));
        assert_eq!(read(""), None);
        assert_eq!(read("gzip"), Some((Packing::Gzip(6), false)));
        assert_eq!(read("zstd"), Some((Packing::Zstd(3), false)));
        assert_eq!(read("gzip:9"), Some((Packing::Gzip(9), true)));
        assert_eq!(read("zstd:19"), Some((Packing::Zstd(19), true)));
        for wrong in ["xz", "gzip:0", "gzip:10", "zstd:20", "zstd:-1", "zstd:", "gzip:x", ":3"] {
            let error = parse_compression(wrong).unwrap_err().to_string();
            assert!(error.contains("it is gzip or zstd"), "{wrong}: {error}");
        }
    }
}
