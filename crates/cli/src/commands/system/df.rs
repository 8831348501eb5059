//! `system df`.

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
    flags: &[Group { title: "", flags: &[LIST_FORMAT, switch("verbose", "").short('v').hidden()] }],
    ..Command::leaf(|session, parsed| Box::pin(df(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

/// The answer of all versions of the API: sums in newer ones, objects in older ones.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Usage {
    image_usage: Option<Sums>,
    container_usage: Option<Sums>,
    volume_usage: Option<Sums>,
    build_cache_usage: Option<Sums>,
    layers_size: i64,
    images: Option<Vec<Image>>,
    containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<Cache>>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Sums {
    active_count: i64,
    total_count: i64,
    reclaimable: i64,
    total_size: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Cache {
    in_use: bool,
    shared: bool,
    size: i64,
}

struct Row {
    kind: &'static str,
    sums: Sums,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.diskUsageContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Active", "Reclaimable", "Size", "TotalCount", "Type"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let Sums { active_count, total_count, reclaimable, total_size } = self.sums;
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
    if parsed.on("verbose") {
        return Err(crate::error::Error::say("--verbose is not supported yet by this version of corten"));
    }
    let usage: Usage = session.client()?.get("/system/df", Query::new()).await?;
    let listing = Listing {
        format: parsed.text("format").unwrap_or_default(),
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
        quiet: None,
        titles: TITLES,
    };
    let rows = [
        Row { kind: "Images", sums: usage.image_usage.unwrap_or_else(|| images(&usage)) },
        Row { kind: "Containers", sums: usage.container_usage.unwrap_or_else(|| containers(&usage)) },
        Row { kind: "Local Volumes", sums: usage.volume_usage.unwrap_or_else(|| volumes(&usage)) },
        Row { kind: "Build Cache", sums: usage.build_cache_usage.unwrap_or_else(|| cache(&usage)) },
    ];
    session.out(listing.render(rows.into_iter().map(|row| Rc::new(row) as Rc<dyn Record>))?)
}

fn images(usage: &Usage) -> Sums {
    let all = usage.images.as_deref().unwrap_or_default();
    let used: i64 = all
        .iter()
        .filter(|image| image.containers > 0 && image.size != -1)
        .map(|image| image.size - image.shared_size.max(0))
        .sum();
    Sums {
        active_count: all.iter().filter(|image| image.containers > 0).count() as i64,
        total_count: all.len() as i64,
        reclaimable: usage.layers_size - used,
        total_size: usage.layers_size,
    }
}

fn containers(usage: &Usage) -> Sums {
    let all = usage.containers.as_deref().unwrap_or_default();
    let active = |container: &&Container| {
        container.state.contains("running")
            || container.state.contains("paused")
            || container.state.contains("restarting")
    };
    let bytes = |container: &Container| container.size_rw.unwrap_or(0);
    Sums {
        active_count: all.iter().filter(active).count() as i64,
        total_count: all.len() as i64,
        reclaimable: all.iter().filter(|container| !active(container)).map(bytes).sum(),
        total_size: all.iter().map(bytes).sum(),
    }
}

fn volumes(usage: &Usage) -> Sums {
    let all = usage.volumes.as_deref().unwrap_or_default();
    let links = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |data| data.ref_count);
    let bytes = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |data| data.size.max(0));
    Sums {
        active_count: all.iter().filter(|volume| links(volume) > 0).count() as i64,
        total_count: all.len() as i64,
        reclaimable: all.iter().filter(|volume| links(volume) == 0).map(bytes).sum(),
        total_size: all.iter().map(bytes).sum(),
    }
}

fn cache(usage: &Usage) -> Sums {
    let all = usage.build_cache.as_deref().unwrap_or_default();
    Sums {
        active_count: all.iter().filter(|cache| cache.in_use).count() as i64,
        total_count: all.len() as i64,
        reclaimable: all.iter().filter(|cache| !cache.in_use && !cache.shared).map(|cache| cache.size).sum(),
        total_size: all.iter().filter(|cache| !cache.shared).map(|cache| cache.size).sum(),
    }
}
