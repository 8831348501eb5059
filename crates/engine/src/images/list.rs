//! `GET /images/json`.

use std::collections::HashMap;
use std::sync::Arc;

use api::Filters;
use api::image::Summary;
use api::timestamp::{self, Nanoseconds};
use oci::Reference;
use storage::Image;

use super::configs::Facts;
use super::{Images, Shared, Use, find, identity, pattern, show};
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
    /// Whether the manifests say where they came from.
    pub identity: bool,
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
        blocking::run("count images", move || {
            Ok(usize::try_from(shared.store.totals()?.images).unwrap_or(usize::MAX))
        })
        .await
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
            Ok::<_, Error>(shared.facts(&found.image).created)
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
    pub(super) fn takes(&self, image: &Image, facts: &Facts) -> bool {
        let tagged = image.names.iter().any(|name| !name.contains('@'));
        if self.dangling.is_some_and(|dangling| dangling == tagged) {
            return false;
        }
        let (created, labels) = (facts.created, &facts.labels);
        if !self.filters.matches_pairs("label", labels) {
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
    /// The images that may be wanted, the newest first.
    pub(super) fn candidates(&self, wanted: &Wanted) -> Result<Vec<Image>> {
        Ok(self.store.transaction(|tx| match wanted.dangling {
            Some(true) => tx.dangling_images(),
            _ => tx.images(),
        })?)
    }

    /// What lists and filters ask of an image.
    pub(super) fn facts(&self, image: &Image) -> Arc<Facts> {
        match find::shown(image) {
            Some(manifest) => self.configs.facts(&self.store, &manifest.config),
            // What nothing is here of is as old as its coming.
            None => Arc::new(Facts { created: image.created_ns, ..Facts::default() }),
        }
    }

    pub(super) fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        let wanted = Wanted::read(self, &options.filters, FILTERS)?;
        let images = self.candidates(&wanted)?;
        let users = Users::new((self.uses)());
        let shared = match options.shared_size {
            true => {
                let shared = self.store.transaction(|tx| {
                    let shared = tx.shared_bytes()?;
                    Ok(shared)
                });
                Some(shared?)
            }
            false => None,
        };
        let mut list = Vec::new();
        for mut image in images {
            let facts = self.facts(&image);
            if !wanted.takes(&image, &facts) {
                continue;
            }
            if wanted.filters.contains("reference") {
                image.names.retain(|name| wanted.names(name));
                if image.names.is_empty() {
                    continue;
                }
            }
            let mut summary = self.summary(&image, &facts, &users, options)?;
            if let Some(shared) = &shared {
                summary.shared_size = show::signed(shared.get(image.id()).copied().unwrap_or(0));
            }
            list.push(summary);
        }
        list.sort_by_key(|summary| std::cmp::Reverse(summary.created));
        Ok(list)
    }

    fn summary(&self, image: &Image, facts: &Facts, users: &Users, options: &ListOptions) -> Result<Summary> {
        let (repo_tags, repo_digests) = show::names(image);
        let users = users.of(image.id().as_str());
        let mut manifests = match options.manifests {
            true => show::manifests(&self.store, image, users)?,
            false => Vec::new(),
        };
        if options.identity {
            let identity = identity::of(&self.store, image)?;
            for data in manifests.iter_mut().filter_map(|manifest| manifest.image_data.as_mut()) {
                data.identity.clone_from(&identity);
            }
        }
        Ok(Summary {
            containers: i64::try_from(users.len()).unwrap_or(i64::MAX),
            created: facts.created.div_euclid(1_000_000_000),
            id: image.id().to_string(),
            labels: facts.labels.clone(),
            parent_id: image.image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            descriptor: Some(show::descriptor(image)),
            manifests,
            repo_digests,
            repo_tags,
            shared_size: -1,
            size: show::size(image),
        })
    }
}

/// The containers of each image.
pub(super) struct Users(HashMap<String, Vec<Use>>);

impl Users {
    pub(super) fn new(uses: Vec<Use>) -> Self {
        let mut users: HashMap<String, Vec<Use>> = HashMap::new();
        for one in uses {
            users.entry(one.image.clone()).or_default().push(one);
        }
        Self(users)
    }

    pub(super) fn of(&self, image: &str) -> &[Use] {
        self.0.get(image).map(Vec::as_slice).unwrap_or_default()
    }

    /// The images that containers were made of.
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
