//! `system df`.

mod verbose;

use api::container::Summary as Container;
use api::image::Summary as Image;
use api::volume::Volume;
use client::query::Query;
use serde::Deserialize;
use std::rc::Rc;

use crate::command::Command;
use crate::error::Result;
use crate::flags::{Group, Parsed, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::size;

/// `df`.
pub const COMMAND: Command = Command {
    name: "df",
    usage: "[OPTIONS]",
    about: "Show disk usage",
    flags: &[Group {
        title: "",
        flags: &[LIST_FORMAT, switch("verbose", "Show every image, container and volume").short('v')],
    }],
    ..Command::leaf(|session, parsed| Box::pin(df(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

impl Usage {
    /// Puts the objects where older versions of the API have them.
    fn spread(&mut self) {
        fn items<T>(old: &mut Option<Vec<T>>, sums: &mut Option<Sums<T>>) {
            if old.is_none() {
                *old = sums.as_mut().map(|sums| std::mem::take(&mut sums.items));
            }
        }
        items(&mut self.images, &mut self.image_usage);
        items(&mut self.containers, &mut self.container_usage);
        items(&mut self.volumes, &mut self.volume_usage);
        items(&mut self.build_cache, &mut self.build_cache_usage);
    }
}

/// The answer of all versions of the API: sums in newer ones, objects in older ones.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Usage {
    image_usage: Option<Sums<Image>>,
    container_usage: Option<Sums<Container>>,
    volume_usage: Option<Sums<Volume>>,
    build_cache_usage: Option<Sums<Cache>>,
    layers_size: i64,
    images: Option<Vec<Image>>,
    containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<Cache>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sums<T> {
    #[serde(default)]
    active_count: i64,
    #[serde(default)]
    total_count: i64,
    #[serde(default)]
    reclaimable: i64,
    #[serde(default)]
    total_size: i64,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

impl<T> Sums<T> {
    fn alone(&self) -> Totals {
        let Self { active_count, total_count, reclaimable, total_size, .. } = *self;
        Totals { active_count, total_count, reclaimable, total_size }
    }
}

/// The sums of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    active_count: i64,
    total_count: i64,
    reclaimable: i64,
    total_size: i64,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Cache {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Type")]
    kind: String,
    description: String,
    in_use: bool,
    shared: bool,
    size: i64,
    created_at: String,
    last_used_at: Option<String>,
    usage_count: i64,
}

struct Row {
    kind: &'static str,
    sums: Totals,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.diskUsageContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Active", "Reclaimable", "Size", "TotalCount", "Type"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let Totals { active_count, total_count, reclaimable, total_size } = self.sums;
        Some(match name {
            "Type" => self.kind.into(),
            "Active" => active_count.to_string().into(),
            "TotalCount" => total_count.to_string().into(),
            "Size" => size(total_size).into(),
            "Reclaimable" if total_size > 0 && self.kind != "Build Cache" => {
                format!("{} ({}%)", size(reclaimable), reclaimable.saturating_mul(100) / total_size).into()
            }
            "Reclaimable" => size(reclaimable).into(),
            _ => return None,
        })
    }
}

async fn df(session: &Session, parsed: &Parsed) -> Result<()> {
    let format = parsed.text("format").unwrap_or_default();
    let verbose = parsed.on("verbose");
    let mut usage: Usage = session.client()?.get("/system/df", Query::new().flag("verbose", verbose)).await?;
    if verbose {
        usage.spread();
        return session.out(verbose::render(&usage, format)?);
    }
    let listing = Listing {
        format,
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
        quiet: None,
        titles: TITLES,
    };
    let rows = [
        Row { kind: "Images", sums: usage.image_usage.as_ref().map_or_else(|| images(&usage), Sums::alone) },
        Row {
            kind: "Containers",
            sums: usage.container_usage.as_ref().map_or_else(|| containers(&usage), Sums::alone),
        },
        Row {
            kind: "Local Volumes",
            sums: usage.volume_usage.as_ref().map_or_else(|| volumes(&usage), Sums::alone),
        },
        Row {
            kind: "Build Cache",
            sums: usage.build_cache_usage.as_ref().map_or_else(|| cache(&usage), Sums::alone),
        },
    ];
    session.out(listing.render(rows.into_iter().map(|row| Rc::new(row) as Rc<dyn Record>))?)
}

fn images(usage: &Usage) -> Totals {
    let all = usage.images.as_deref().unwrap_or_default();
    let used: i64 = all
        .iter()
        .filter(|image| image.containers > 0 && image.size != -1)
        .map(|image| image.size - image.shared_size.max(0))
        .sum();
    Totals {
        active_count: all.iter().filter(|image| image.containers > 0).count() as i64,
        total_count: all.len() as i64,
        reclaimable: usage.layers_size - used,
        total_size: usage.layers_size,
    }
}

fn containers(usage: &Usage) -> Totals {
    let all = usage.containers.as_deref().unwrap_or_default();
    let active = |container: &&Container| {
        container.state.contains("running")
            || container.state.contains("paused")
            || container.state.contains("restarting")
    };
    let bytes = |container: &Container| container.size_rw.unwrap_or(0);
    Totals {
        active_count: all.iter().filter(active).count() as i64,
        total_count: all.len() as i64,
        reclaimable: all.iter().filter(|container| !active(container)).map(bytes).sum(),
        total_size: all.iter().map(bytes).sum(),
    }
}

fn volumes(usage: &Usage) -> Totals {
    let all = usage.volumes.as_deref().unwrap_or_default();
    let links = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |data| data.ref_count);
    let bytes = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |data| data.size.max(0));
    Totals {
        active_count: all.iter().filter(|volume| links(volume) > 0).count() as i64,
        total_count: all.len() as i64,
        reclaimable: all.iter().filter(|volume| links(volume) == 0).map(bytes).sum(),
        total_size: all.iter().map(bytes).sum(),
    }
}

fn cache(usage: &Usage) -> Totals {
    let all = usage.build_cache.as_deref().unwrap_or_default();
    Totals {
        active_count: all.iter().filter(|cache| cache.in_use).count() as i64,
        total_count: all.len() as i64,
        reclaimable: all.iter().filter(|cache| !cache.in_use && !cache.shared).map(|cache| cache.size).sum(),
        total_size: all.iter().filter(|cache| !cache.shared).map(|cache| cache.size).sum(),
    }
}
