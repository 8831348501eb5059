//! The metadata against itself.

use oci::Digest;

use super::{Checked, Fault, Scene, repositories};
use crate::error::Result;
use crate::images::{Image, NewImage};

/// What a query finds is wrong, in the words of what it finds.
pub(super) struct Rule {
    pub(super) fault: Fault,
    /// Yields what it is about, and what else there is to say.
    pub(super) sql: &'static str,
    /// What is wrong; `{}` stands for the second column.
    pub(super) detail: &'static str,
}

const RULES: &[Rule] = &[
    // A lease keeps what is yet to come.
    Rule {
        fault: Fault::Reference,
        sql: "SELECT owner_kind || ' ' || owner, target FROM refs WHERE kind = 'blob' AND owner_kind <> 'lease'
              AND NOT EXISTS (SELECT 1 FROM blobs WHERE digest = target)",
        detail: "refers to the blob {}, which is not there",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT owner_kind || ' ' || owner, target FROM refs WHERE kind = 'layer' AND owner_kind <> 'lease'
              AND NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = target)",
        detail: "refers to the layer {}, which is not there",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT owner_kind || ' ' || owner, target FROM refs WHERE kind = 'snapshot' AND owner_kind <> 'lease'
              AND NOT EXISTS (SELECT 1 FROM snapshots WHERE id = target)",
        detail: "refers to the snapshot {}, which is not there",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT DISTINCT owner_kind || ' ' || owner, '' FROM refs WHERE
              (owner_kind = 'image' AND NOT EXISTS (SELECT 1 FROM images WHERE id = owner))
              OR (owner_kind = 'lease' AND NOT EXISTS (SELECT 1 FROM leases WHERE id = CAST(owner AS INTEGER)))
              OR (owner_kind = 'record' AND NOT EXISTS
                  (SELECT 1 FROM records WHERE records.kind = substr(owner, 1, instr(owner, '/') - 1)
                   AND records.id = substr(owner, instr(owner, '/') + 1)))",
        detail: "is not there, and keeps something",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT name, image FROM names WHERE NOT EXISTS (SELECT 1 FROM images WHERE id = image)",
        detail: "names the image {}, which is not there",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT snapshot, CAST(layer AS TEXT) FROM snapshot_layers
              WHERE NOT EXISTS (SELECT 1 FROM layers WHERE id = layer)",
        detail: "stands on the layer {}, which is not there",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT snapshot, '' FROM snapshot_layers WHERE NOT EXISTS (SELECT 1 FROM snapshots WHERE id = snapshot)",
        detail: "has layers, and is not there",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT DISTINCT 'repository ' || owner, '' FROM refs WHERE owner_kind = 'repository'
              AND NOT EXISTS (SELECT 1 FROM repositories WHERE name = owner)",
        detail: "is not there, and keeps something",
    },
    Rule {
        fault: Fault::Leak,
        sql: "SELECT 'blob ' || digest, '' FROM blobs
              WHERE NOT EXISTS (SELECT 1 FROM refs WHERE kind = 'blob' AND target = digest)
              AND NOT EXISTS (SELECT 1 FROM loose WHERE kind = 'blob' AND target = digest)",
        detail: "is kept by nothing, and no collection would find it",
    },
    Rule {
        fault: Fault::Leak,
        sql: "SELECT 'layer ' || diff_id, '' FROM layers
              WHERE NOT EXISTS (SELECT 1 FROM refs WHERE kind = 'layer' AND target = diff_id)
              AND NOT EXISTS (SELECT 1 FROM snapshot_layers WHERE layer = id)
              AND NOT EXISTS (SELECT 1 FROM loose WHERE kind = 'layer' AND target = diff_id)",
        detail: "is kept by nothing, and no collection would find it",
    },
    Rule {
        fault: Fault::Leak,
        sql: "SELECT 'snapshot ' || id, '' FROM snapshots
              WHERE NOT EXISTS (SELECT 1 FROM refs WHERE kind = 'snapshot' AND target = id)
              AND NOT EXISTS (SELECT 1 FROM loose WHERE kind = 'snapshot' AND target = id)",
        detail: "is kept by nothing, and no collection would find it",
    },
    Rule {
        fault: Fault::Counter,
        sql: "SELECT what, printf('%d of %d bytes, not %d of %d', counted.n, counted.bytes, totals.count, totals.bytes)
              FROM totals JOIN (
                  SELECT 'blobs' AS what, count(*) AS n, coalesce(sum(size), 0) AS bytes FROM blobs
                  UNION ALL SELECT 'image blobs', count(*), coalesce(sum(size), 0) FROM blobs WHERE EXISTS
                      (SELECT 1 FROM refs WHERE kind = 'blob' AND target = digest AND owner_kind = 'image')
                  UNION ALL SELECT 'layers', count(*), coalesce(sum(disk_bytes), 0) FROM layers
                  UNION ALL SELECT 'image layers', count(*), coalesce(sum(disk_bytes), 0) FROM layers WHERE EXISTS
                      (SELECT 1 FROM refs WHERE kind = 'layer' AND target = diff_id AND owner_kind = 'image')
                  UNION ALL SELECT 'snapshots', count(*), 0 FROM snapshots
                  UNION ALL SELECT 'images', count(*), 0 FROM images
              ) AS counted USING (what)
              WHERE counted.n <> totals.count OR counted.bytes <> totals.bytes",
        detail: "there are {}",
    },
    Rule {
        fault: Fault::Counter,
        sql: "SELECT id, printf('%d and %d', content, unpacked) FROM (
                  SELECT id, content_bytes, unpacked_bytes,
                      (SELECT coalesce(sum(size), 0) FROM refs JOIN blobs ON digest = target
                       WHERE owner_kind = 'image' AND owner = images.id AND kind = 'blob') AS content,
                      (SELECT coalesce(sum(disk_bytes), 0) FROM refs JOIN layers ON diff_id = target
                       WHERE owner_kind = 'image' AND owner = images.id AND kind = 'layer') AS unpacked
                  FROM images
              ) WHERE content <> content_bytes OR unpacked <> unpacked_bytes",
        detail: "its sizes are {} bytes, and others are written down",
    },
    Rule {
        fault: Fault::Counter,
        sql: "SELECT digest, '' FROM blobs WHERE images <> (SELECT count(*) FROM refs
              WHERE kind = 'blob' AND target = digest AND owner_kind = 'image')
              UNION ALL SELECT diff_id, '' FROM layers WHERE images <> (SELECT count(*) FROM refs
              WHERE kind = 'layer' AND target = diff_id AND owner_kind = 'image')",
        detail: "another number of images has it than is written down",
    },
];

/// Looks through the tables.
pub(super) fn check(scene: &Scene<'_>, checked: &mut Checked) -> Result<()> {
    for line in scene.column::<String>("PRAGMA integrity_check")? {
        if line != "ok" {
            checked.found(Fault::Record, crate::schema::FILE, line);
        }
    }
    for rule in RULES.iter().chain(repositories::RULES) {
        for (what, more) in scene.pairs(rule.sql)? {
            checked.found(rule.fault, what, rule.detail.replace("{}", &more));
        }
    }
    for (id, json) in scene.pairs("SELECT id, json FROM images")? {
        checked.images += 1;
        image(scene, &id, &json, checked)?;
    }
    Ok(())
}

/// An image keeps everything that it says it consists of.
fn image(scene: &Scene<'_>, id: &str, json: &str, checked: &mut Checked) -> Result<()> {
    let image: NewImage = match serde_json::from_str(json) {
        Ok(image) => image,
        Err(error) => {
            checked.found(Fault::Record, format!("image {id}"), format!("cannot be read: {error}"));
            return Ok(());
        }
    };
    if image.id.as_str() != id {
        checked.found(Fault::Record, format!("image {id}"), format!("calls itself {}", image.id));
    }
    let mut statement = scene
        .sql
        .prepare_cached("SELECT kind || ' ' || target FROM refs WHERE owner_kind = 'image' AND owner = ?")?;
    let kept = statement
        .query_map([id], |row| row.get(0))?
        .collect::<std::result::Result<std::collections::HashSet<String>, _>>()?;
    let mut wanted = vec![("blob", &image.id)];
    wanted.extend(image.other_blobs.iter().map(|digest| ("blob", digest)));
    for manifest in &image.manifests {
        wanted.extend([("blob", &manifest.digest), ("blob", &manifest.config)]);
        for layer in &manifest.layers {
            wanted.extend([("blob", &layer.digest), ("layer", &layer.diff_id)]);
        }
    }
    for (kind, digest) in wanted {
        if !kept.contains(&format!("{kind} {digest}")) {
            checked.found(
                Fault::Reference,
                format!("image {id}"),
                format!("consists of the {kind} {digest}, and does not keep it"),
            );
        }
    }
    Ok(())
}

/// The images that can be read.
pub(super) fn images(scene: &Scene<'_>) -> Result<Vec<Image>> {
    let rows = scene.pairs("SELECT id, json FROM images")?;
    let read = |(id, json): (String, String)| {
        let image: NewImage = serde_json::from_str(&json).ok()?;
        Digest::parse(&id).ok()?;
        Some(Image {
            image,
            names: Vec::new(),
            created_ns: 0,
            updated_ns: 0,
            content_bytes: 0,
            unpacked_bytes: 0,
        })
    };
    Ok(rows.into_iter().filter_map(read).collect())
}
