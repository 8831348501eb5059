//! `GET /images/json`.

use std::collections::HashMap;

use api::Filters;
use api::image::Summary;
use api::timestamp::{self, Nanoseconds};
use oci::image::ImageConfig;
use oci::{Digest, Reference};
use storage::Image;

use super::{Images, Shared, Use, find, pattern, show};
use crate::blocking;
use crate::error::{Error, Result};

/// The filters of the list.
const FILTERS: &[&str] = &["dangling", "label", "label!", "before", "since", "reference", "until"];

/// What a list of images should hold.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Docker's filters.
    pub filters: Filters,
    /// Whether bytes shared with other images are counted.
    pub shared_size: bool,
    /// Whether the manifests of each index are listed.
    pub manifests: bool,
}

impl Images {
    /// All images that pass the filters, the newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        let shared = self.shared.clone();
        blocking::run("list images", move || shared.list(&options)).await
    }

    /// How many images there are.
    pub async fn count(&self) -> Result<usize> {
        let shared = self.shared.clone();
        blocking::run("count images", move || Ok(shared.all()?.len())).await
    }
}

/// The filters, understood.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) dangling: Option<bool>,
    before: Vec<Nanoseconds>,
    since: Vec<Nanoseconds>,
    until: Vec<Nanoseconds>,
    filters: Filters,
}

impl Wanted {
    pub(super) fn read(shared: &Shared, filters: &Filters, known: &[&str]) -> Result<Self> {
        let invalid = |e: api::Error| Error::invalid(e.to_string());
        filters.validate(known).map_err(invalid)?;
        let created = |text: &str| {
            let found = find::find(&shared.store, text)?;
            shared.created(&found.image)
        };
        let now = timestamp::now();
        let until = |text: &str| {
            timestamp::parse_query(text, now)
                .map_err(invalid)?
                .ok_or_else(|| Error::invalid("invalid filter 'until=': an empty value is no point in time"))
        };
        for name in filters.get("reference") {
            if pattern::matches(name, "").is_none() {
                return Err(Error::invalid(format!(
                    "invalid filter 'reference={name}': syntax error in pattern"
                )));
            }
        }
        Ok(Self {
            dangling: filters.flag("dangling").map_err(invalid)?,
            before: filters.get("before").map(created).collect::<Result<_>>()?,
            since: filters.get("since").map(created).collect::<Result<_>>()?,
            until: filters.get("until").map(until).collect::<Result<_>>()?,
            filters: filters.clone(),
        })
    }

    /// Whether an image passes; its names are another matter.
    pub(super) fn takes(&self, image: &Image, created: Nanoseconds, config: Option<&ImageConfig>) -> bool {
        let tagged = image.names.iter().any(|name| !name.contains('@'));
        if self.dangling.is_some_and(|dangling| dangling == tagged) {
            return false;
        }
        let labels = config.map(|config| config.config.labels.clone()).unwrap_or_default();
        if !self.filters.matches_pairs("label", &labels) {
            return false;
        }
        let unwanted = self.filters.get("label!").any(|unwanted| match unwanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(unwanted),
        });
        !unwanted
            && self.before.iter().all(|limit| created < *limit)
            && self.since.iter().all(|limit| created > *limit)
            && self.until.iter().all(|limit| created < *limit)
    }

    /// Whether a name passes the `reference` filter.
    fn names(&self, name: &str) -> bool {
        if !self.filters.contains("reference") {
            return true;
        }
        let Ok(reference) = Reference::parse_named(name) else { return false };
        self.filters.get("reference").any(|wanted| {
            let full = pattern::matches(wanted, &reference.familiar()) == Some(true);
            full || pattern::matches(wanted, &reference.familiar_name()) == Some(true)
        })
    }
}

impl Shared {
    /// All images.
    pub(super) fn all(&self) -> Result<Vec<Image>> {
        let images = self.store.transaction(|tx| {
            let images = tx.images()?;
            Ok(images)
        });
        Ok(images?)
    }

    /// When the image was made, by its own account.
    pub(super) fn created(&self, image: &Image) -> Result<Nanoseconds> {
        let Some(manifest) = find::shown(image) else { return Ok(image.created_ns) };
        let config = self.configs.get(&self.store, &manifest.config)?;
        Ok(config.created.as_deref().and_then(|text| timestamp::parse(text).ok()).unwrap_or(0))
    }

    fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        let wanted = Wanted::read(self, &options.filters, FILTERS)?;
        let images = self.all()?;
        let uses = (self.uses)();
        let shares = if options.shared_size { Some(self.shares(&images)?) } else { None };
        let mut list = Vec::new();
        for mut image in images.iter().cloned() {
            let config = match find::shown(&image) {
                Some(manifest) => Some(self.configs.get(&self.store, &manifest.config)?),
                None => None,
            };
            let created = self.created(&image)?;
            if !wanted.takes(&image, created, config.as_deref()) {
                continue;
            }
            if wanted.filters.contains("reference") {
                image.names.retain(|name| wanted.names(name));
                if image.names.is_empty() {
                    continue;
                }
            }
            let labels = config.map(|config| config.config.labels.clone()).unwrap_or_default();
            let mut summary = self.summary(&image, created, &uses, options.manifests)?;
            summary.labels = labels;
            if let Some(shares) = &shares {
                summary.shared_size = shared_bytes(&image, shares);
            }
            list.push(summary);
        }
        list.sort_by_key(|summary| std::cmp::Reverse(summary.created));
        Ok(list)
    }

    fn summary(&self, image: &Image, created: Nanoseconds, uses: &[Use], manifests: bool) -> Result<Summary> {
        let (repo_tags, repo_digests) = show::names(image);
        let users = uses.iter().filter(|user| user.image == image.id().as_str()).count();
        Ok(Summary {
            containers: i64::try_from(users).unwrap_or(i64::MAX),
            created: created.div_euclid(1_000_000_000),
            id: image.id().to_string(),
            parent_id: image.image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            descriptor: Some(show::descriptor(image)),
            manifests: if manifests { show::manifests(&self.store, image, uses)? } else { Vec::new() },
            repo_digests,
            repo_tags,
            shared_size: -1,
            size: show::size(image),
            ..Default::default()
        })
    }

    /// How many images have each layer, and how large it is.
    pub(super) fn shares(&self, images: &[Image]) -> Result<HashMap<Digest, (usize, u64)>> {
        let mut shares: HashMap<Digest, (usize, u64)> = HashMap::new();
        self.store.transaction(|tx| {
            for image in images {
                for diff_id in layers(image) {
                    let bytes = match shares.get(&diff_id) {
                        Some((_, bytes)) => *bytes,
                        None => tx.layer(&diff_id)?.map_or(0, |layer| layer.disk_bytes),
                    };
                    shares.entry(diff_id).or_insert((0, bytes)).0 += 1;
                }
            }
            Ok(())
        })?;
        Ok(shares)
    }
}

/// An image's layers, each once.
fn layers(image: &Image) -> Vec<Digest> {
    let mut layers: Vec<Digest> =
        image.image.manifests.iter().flat_map(storage::PlatformManifest::diff_ids).collect();
    layers.sort();
    layers.dedup();
    layers
}

fn shared_bytes(image: &Image, shares: &HashMap<Digest, (usize, u64)>) -> i64 {
    let bytes = layers(image)
        .iter()
        .filter_map(|layer| shares.get(layer).filter(|(images, _)| *images > 1).map(|(_, bytes)| bytes))
        .sum();
    show::signed(bytes)
}
