//! The metadata against the names on the disk.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use oci::Digest;

use super::{Checked, Fault, Scene, below, blob_path};
use crate::error::{At, Result};

/// A blob as it should be.
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Every row has its files, and every file its row. Returns the blobs whose files are there.
pub(super) fn check(scene: &Scene<'_>, checked: &mut Checked) -> Result<Vec<Blob>> {
    let blobs = blobs(scene, checked)?;
    layers(scene, checked)?;
    snapshots(scene, checked)?;
    for directory in ["trash", "content/new"] {
        // The next start empties them, and whoever has the store open is at it.
        if scene.work.is_none() {
            for name in names(&scene.root.join(directory))? {
                checked.found(
                    Fault::Leftover,
                    format!("{directory}/{name}"),
                    "goes with the daemon's next start",
                );
            }
        }
    }
    for name in names(&scene.root.join("content/ingest"))? {
        let digest = name.replacen('-', ":", 1);
        if Digest::parse(&digest).is_err() {
            checked.found(Fault::Orphan, format!("content/ingest/{name}"), "is no download");
        }
    }
    Ok(blobs)
}

fn blobs(scene: &Scene<'_>, checked: &mut Checked) -> Result<Vec<Blob>> {
    let mut blobs = Vec::new();
    let mut known: HashSet<(String, String)> = HashSet::new();
    for (text, size) in scene.pairs("SELECT digest, CAST(size AS TEXT) FROM blobs ORDER BY digest")? {
        checked.blobs += 1;
        let Ok(digest) = Digest::parse(&text) else {
            checked.found(Fault::Record, format!("blob {text}"), "is called by no digest");
            continue;
        };
        known.insert((digest.algorithm().as_str().to_owned(), digest.hex().to_owned()));
        let size = size.parse().unwrap_or(0);
        match fs::symlink_metadata(blob_path(scene.root, &digest)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                checked.found(Fault::Blob, text, "its file is not there");
            }
            Err(error) => checked.found(Fault::Blob, text, format!("cannot be looked at: {error}")),
            Ok(file) if !file.is_file() => checked.found(Fault::Blob, text, "is no file"),
            Ok(file) if file.len() != size => {
                checked.found(Fault::Blob, text, format!("its file has {} bytes, not {size}", file.len()));
            }
            Ok(_) => blobs.push(Blob { digest, size }),
        }
    }
    for algorithm in names(&scene.root.join("content/blobs"))? {
        let directory = scene.root.join("content/blobs").join(&algorithm);
        for name in names(&directory)? {
            let path = directory.join(&name);
            if !known.contains(&(algorithm.clone(), name)) {
                orphan(scene, &path, checked);
            }
        }
    }
    Ok(blobs)
}

fn layers(scene: &Scene<'_>, checked: &mut Checked) -> Result<()> {
    let directory = scene.root.join("layers");
    let there: HashSet<String> = names(&directory)?.into_iter().collect();
    let mut known = HashSet::new();
    let mut statement = scene.sql.prepare(
        "SELECT CAST(id AS TEXT), diff_id, unsynced_boot IS NOT NULL AND unsynced_boot <> ? FROM layers ORDER BY id",
    )?;
    let rows = statement.query_map([scene.boot], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
    })?;
    for row in rows {
        let (id, diff_id, doubtful) = row?;
        checked.layers += 1;
        // What a loss of power took is made again when it is needed.
        if !there.contains(&id) && !doubtful {
            checked.found(Fault::Layer, diff_id, format!("its directory layers/{id} is not there"));
        }
        known.insert(id);
    }
    for name in there {
        // What is being unpacked has no number yet.
        let being_made = scene.work.is_some() && name.starts_with("new-");
        if !known.contains(&name) && !being_made {
            orphan(scene, &directory.join(name), checked);
        }
    }
    Ok(())
}

fn snapshots(scene: &Scene<'_>, checked: &mut Checked) -> Result<()> {
    let directory = scene.root.join("snapshots");
    let known: HashSet<String> = scene.column::<String>("SELECT id FROM snapshots")?.into_iter().collect();
    for id in &known {
        checked.snapshots += 1;
        for name in ["fs", "work"] {
            if !directory.join(id).join(name).is_dir() {
                checked.found(
                    Fault::Snapshot,
                    id,
                    format!("its directory snapshots/{id}/{name} is not there"),
                );
            }
        }
    }
    let being_made =
        |name: &str| scene.work.as_ref().is_some_and(|work| work.contains(&crate::snapshots::claim_of(name)));
    for name in names(&directory)? {
        if !known.contains(&name) && !being_made(&name) {
            orphan(scene, &directory.join(name), checked);
        }
    }
    Ok(())
}

/// What no row speaks of. The next start clears it away; of a store in use it is a fault.
fn orphan(scene: &Scene<'_>, path: &Path, checked: &mut Checked) {
    let (fault, detail) = match scene.work {
        Some(_) => (Fault::Orphan, "nothing speaks of it"),
        None => (Fault::Leftover, "nothing speaks of it: goes with the daemon's next start"),
    };
    checked.found(fault, below(scene.root, path), detail);
}

/// The names in a directory; of one that is not there none.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.at("list", directory)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
