//! 1.53 told the use of disks by kinds alone; before it every thing was listed. And it tells where images came from.

use super::{Object, Resource};
use serde_json::{Value, json};

pub(super) fn answer(resource: Resource, answer: &mut Object) {
    if resource == Resource::ImageInspect {
        answer.remove("Identity");
    }
    if resource != Resource::DiskUsage {
        return;
    }
    let of = |answer: &Object, usage: &str, field: &str| {
        answer.get(usage).and_then(|usage| usage.get(field)).cloned()
    };
    for (old, new) in [
        ("Images", "ImageUsage"),
        ("Containers", "ContainerUsage"),
        ("Volumes", "VolumeUsage"),
        ("BuildCache", "BuildCacheUsage"),
    ] {
        let asked = answer.contains_key(new);
        let items = of(answer, new, "Items").filter(Value::is_array);
        let items = items.unwrap_or_else(|| if asked { json!([]) } else { Value::Null });
        answer.insert(old.to_owned(), items);
    }
    let layers = of(answer, "ImageUsage", "TotalSize").unwrap_or_else(|| json!(0));
    answer.insert("LayersSize".to_owned(), layers);
}
