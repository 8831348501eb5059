//! `GET /images/{name}/json` and `/history`.

use api::image::{History, Inspect, Metadata, RootFs};
use api::timestamp;

use super::{Images, Shared, find, identity, parse_platform, show};
use crate::blocking;
use crate::error::Result;

impl Images {
    /// All that is known of an image, for one platform.
    pub async fn inspect(&self, name: &str, platform: &str, manifests: bool) -> Result<Inspect> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        let platform = parse_platform(platform)?;
        blocking::run("inspect an image", move || shared.inspect(&name, platform.as_ref(), manifests)).await
    }

    /// How an image came to be, the last step first.
    pub async fn history(&self, name: &str, platform: &str) -> Result<Vec<History>> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        let platform = parse_platform(platform)?;
        blocking::run("read an image's history", move || shared.history(&name, platform.as_ref())).await
    }
}

impl Shared {
    fn inspect(&self, name: &str, platform: Option<&oci::Platform>, manifests: bool) -> Result<Inspect> {
        let image = find::find(&self.store, name)?.image;
        let manifest = find::choose(&image, name, platform)?;
        let config = self.configs.get(&self.store, &manifest.config)?;
        let (repo_tags, repo_digests) = show::names(&image);
        Ok(Inspect {
            id: image.id().to_string(),
            repo_tags,
            repo_digests,
            comment: config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
            created: config.created.clone().unwrap_or_default(),
            author: config.author.clone().unwrap_or_default(),
            config: Some(show::config(&config.config)),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().unwrap_or_default(),
            os: config.os.clone(),
            os_version: config.os_version.clone().unwrap_or_default(),
            // Of the platform that is shown.
            size: show::signed(
                manifest.content_size().saturating_add(show::unpacked(&self.store, manifest)?),
            ),
            graph_driver: None,
            root_fs: RootFs {
                kind: "layers".into(),
                layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: timestamp::format(image.updated_ns) },
            descriptor: Some(show::descriptor(&image)),
            identity: identity::of(&self.store, &image)?,
            manifests: if manifests {
                show::manifests(&self.store, &image, &(self.uses)())?
            } else {
                Vec::new()
            },
        })
    }

    fn history(&self, name: &str, platform: Option<&oci::Platform>) -> Result<Vec<History>> {
        let image = find::find(&self.store, name)?.image;
        let manifest = find::choose(&image, name, platform)?;
        let config = self.configs.get(&self.store, &manifest.config)?;
        let sizes = self.store.transaction(|tx| {
            manifest
                .layers
                .iter()
                .map(|layer| Ok(tx.layer(&layer.diff_id)?.map_or(0, |layer| layer.disk_bytes)))
                .collect::<storage::Result<Vec<u64>>>()
        })?;
        let mut sizes = sizes.into_iter();
        let mut steps: Vec<History> = config
            .history
            .iter()
            .map(|step| History {
                id: "<missing>".into(),
                created: step
                    .created
                    .as_deref()
                    .and_then(|text| timestamp::parse(text).ok())
                    .map_or(0, |at| at.div_euclid(1_000_000_000)),
                created_by: step.created_by.clone(),
                tags: Vec::new(),
                size: if step.empty_layer { 0 } else { show::signed(sizes.next().unwrap_or(0)) },
                comment: step.comment.clone(),
            })
            .collect();
        // Layers that no step speaks of: the history is optional.
        steps.extend(sizes.map(|size| History {
            id: "<missing>".into(),
            size: show::signed(size),
            ..Default::default()
        }));
        steps.reverse();
        if let Some(last) = steps.first_mut() {
            last.id = image.id().to_string();
            last.tags = show::names(&image).0;
        }
        Ok(steps)
    }
}
