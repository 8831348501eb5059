//! `system df -v`: everything that occupies the disk, one by one.

use std::rc::Rc;

use api::container::Summary;

use super::{Cache, Usage, cache};
use crate::commands::container::list::{Row as ContainerRow, TITLES as CONTAINER_TITLES};
use crate::commands::image::list::{Look, TITLES as IMAGE_TITLES, first};
use crate::commands::volume::list::{Row as VolumeRow, TITLES as VOLUME_TITLES};
use crate::error::{Error, Result};
use crate::format::{self, Listing};
use crate::template::{Record, Value};
use crate::units::{ago, now, short_id, size};

const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHES: &str =
    "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";

const CACHE_TITLES: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

/// The whole, in tables or by a template.
pub(super) fn render(usage: &Usage, format: &str) -> Result<String> {
    match format {
        "" | "table" => tables(usage),
        table if table.starts_with("table") => {
            Err(Error::say("--verbose has tables of its own: no template of one can be given"))
        }
        _ => {
            let text = format::detail("", format, &Value::Record(Rc::new(Report::new(usage, true))))?;
            Ok(format!("{text}\n"))
        }
    }
}

fn tables(usage: &Usage) -> Result<String> {
    let report = Report::new(usage, false);
    let table = |table, titles, rows: &[Rc<dyn Record>]| {
        Listing { format: "", table, quiet: None, titles }.render(rows.iter().cloned())
    };
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        table(IMAGES, IMAGE_TITLES, &report.images)?,
        table(CONTAINERS, CONTAINER_TITLES, &report.containers)?,
        table(VOLUMES, VOLUME_TITLES, &report.volumes)?,
        size(cache(usage).total_size),
        table(CACHES, CACHE_TITLES, &report.caches)?,
    ))
}

/// Everything, as templates see it.
struct Report {
    images: Vec<Rc<dyn Record>>,
    containers: Vec<Rc<dyn Record>>,
    volumes: Vec<Rc<dyn Record>>,
    caches: Vec<Rc<dyn Record>>,
}

impl Report {
    fn new(usage: &Usage, full: bool) -> Self {
        let now = now();
        let mut images = usage.images.clone().unwrap_or_default();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        let look = Look { full, digests: false, now };
        // Under one of its names: an image occupies the disk once.
        let image = |image| Rc::new(first(image, look)) as Rc<dyn Record>;
        // What its image occupies is told with the image.
        let alone = |summary: Summary| Summary { size_root_fs: None, ..summary };
        let container = |summary| Rc::new(ContainerRow { summary, full, now }) as Rc<dyn Record>;
        let volume = |volume| Rc::new(VolumeRow(volume)) as Rc<dyn Record>;
        let mut volumes = usage.volumes.clone().unwrap_or_default();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let caches = usage.build_cache.iter().flatten();
        Self {
            images: images.into_iter().map(image).collect(),
            containers: usage
                .containers
                .clone()
                .unwrap_or_default()
                .into_iter()
                .map(alone)
                .map(container)
                .collect(),
            volumes: volumes.into_iter().map(volume).collect(),
            caches: caches
                .map(|cache| Rc::new(CacheRow { cache: cache.clone(), full, now }) as Rc<dyn Record>)
                .collect(),
        }
    }
}

impl Record for Report {
    fn type_name(&self) -> &'static str {
        "*formatter.diskUsageContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Images", "Containers", "Volumes", "BuildCache"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let rows = match name {
            "Images" => &self.images,
            "Containers" => &self.containers,
            "Volumes" => &self.volumes,
            "BuildCache" => &self.caches,
            _ => return None,
        };
        Some(Value::List(Rc::new(rows.iter().cloned().map(Value::Record).collect())))
    }
}

/// A step of a build that is kept.
struct CacheRow {
    cache: Cache,
    full: bool,
    now: i64,
}

impl CacheRow {
    fn ago(&self, time: &str) -> String {
        match time.parse::<jiff::Timestamp>() {
            Ok(at) => ago(at.as_second(), self.now),
            Err(_) => String::new(),
        }
    }
}

impl Record for CacheRow {
    fn type_name(&self) -> &'static str {
        "*formatter.buildCacheContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "CacheType",
            "CreatedAt",
            "CreatedSince",
            "Description",
            "ID",
            "InUse",
            "LastUsedAt",
            "LastUsedSince",
            "Shared",
            "Size",
            "UsageCount",
        ]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let cache = &self.cache;
        let used = cache.last_used_at.as_deref().unwrap_or_default();
        Some(match name {
            "ID" if self.full => cache.id.as_str().into(),
            "ID" => {
                let mark = if cache.in_use { "*" } else { "" };
                format!("{}{mark}", short_id(&cache.id)).into()
            }
            "CacheType" => cache.kind.as_str().into(),
            "Description" => cache.description.as_str().into(),
            "InUse" => cache.in_use.to_string().into(),
            "Shared" => cache.shared.to_string().into(),
            "Size" => size(cache.size).into(),
            "CreatedAt" => cache.created_at.as_str().into(),
            "CreatedSince" => self.ago(&cache.created_at).into(),
            "LastUsedAt" => used.into(),
            "LastUsedSince" => self.ago(used).into(),
            "UsageCount" => cache.usage_count.to_string().into(),
            _ => return None,
        })
    }
}
