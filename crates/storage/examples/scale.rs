//! How long the store's questions take when it is large: `scale ROOT [IMAGES [LAYERS [fill|files]]]`; with `fill` it is only made, for a
//! daemon to be asked.
//!
//! The metadata of that many images, each with that many layers of its own, a hundred files in each, is written without the files
//! themselves; with `files`, with them, and it is also said how long it takes until all of them are gone. What is printed should hardly depend on the numbers, but for what lists every image.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::Digest as _;
use storage::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let root = args.next().ok_or("usage: scale ROOT [IMAGES [LAYERS]]")?;
    let mut number = |otherwise| args.next().map_or(Ok(otherwise), |text| text.parse::<u64>());
    let (images, layers) = (number(1000)?, number(10)?);
    let root = Path::new(&root);
    drop(Store::open(root)?);
    let word = args.next().unwrap_or_default();
    fill(root, images, layers, word == "files")?;
    if word == "fill" {
        return Ok(());
    }
    let store = timed("open", || Store::open(root))?;
    timed("totals", || store.totals())?;
    timed("images", || store.transaction(|tx| Ok(tx.images()?.len())))?;
    let name = format!("docker.io/library/image:{}", images / 2);
    timed("image by name", || store.transaction(|tx| tx.image_by_name(&name)))?;
    let part = config(images / 2).0[..19].to_owned();
    timed("image by the beginning of its configuration's digest", || {
        store.transaction(|tx| tx.image_by_prefix(&part))
    })?;
    timed("dangling images", || store.transaction(|tx| Ok(tx.dangling_images()?.len())))?;
    timed("gc of nothing", || store.gc())?;
    let lease = store.lease("test", Duration::from_secs(60))?;
    timed("put a blob", || store.put_blob(&lease, "text/plain", b"x"))?;
    drop(lease);
    let id = store.transaction(|tx| tx.image_by_name(&name))?.ok_or("the image is not there")?.image.id;
    timed("remove an image", || store.transaction(|tx| tx.remove_image(&id)))?;
    timed("gc of one image", || store.gc())?;
    timed("remove all images", || {
        store.transaction(|tx| {
            for image in tx.images()? {
                tx.remove_image(image.id())?;
            }
            Ok(())
        })
    })?;
    timed("gc of all images", || store.gc())?;
    timed("until their files are gone", || {
        store.wait_for_removals();
        Ok(())
    })?;
    println!("left: {:?}", store.totals()?);
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> storage::Result<T>) -> storage::Result<T> {
    let start = Instant::now();
    let value = work()?;
    println!("{what}: {:.3} ms", start.elapsed().as_secs_f64() * 1000.0);
    Ok(value)
}

/// The digits of a digest: of nothing that there is, but different for each.
fn hex(kind: &str, image: u64, layer: u64) -> String {
    let seed = kind.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut state = seed ^ (image << 20) ^ layer ^ 0x9e37_79b9_7f4a_7c15;
    (0..4)
        .map(|_| {
            state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
            state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).wrapping_add(7);
            format!("{:016x}", state ^ (state >> 31))
        })
        .collect()
}

/// An image's configuration, with its digest: the one thing of which there is a file, since lists read it.
fn config(image: u64) -> (String, String) {
    let content = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{{"Labels":{{"number":"{image}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    let digits: String = sha2::Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    (format!("sha256:{digits}"), content)
}

/// How many files a layer has.
const FILES: u64 = 100;

fn fill(root: &Path, images: u64, layers: u64, files: bool) -> Result<(), Box<dyn Error>> {
    let mut connection = rusqlite::Connection::open(root.join("meta.db"))?;
    let tx = connection.transaction()?;
    let digest = |kind: &str, image, layer| format!("sha256:{}", hex(kind, image, layer));
    for image in 0..images {
        let (id, (config, content)) = (digest("manifest", image, 0), config(image));
        std::fs::write(root.join("content/blobs/sha256").join(&config[7..]), content)?;
        let mut parts = Vec::new();
        let mut refs = vec![("blob", id.clone()), ("blob", config.clone())];
        for (blob, class) in [(&id, "manifest"), (&config, "config")] {
            tx.execute(
                "INSERT INTO blobs (digest, size, class, created_ns) VALUES (?1, 1000, ?2, 1)",
                [blob, class],
            )?;
        }
        for layer in 0..layers {
            let (blob, diff_id) = (digest("layer", image, layer), digest("diff", image, layer));
            tx.execute("INSERT INTO blobs (digest, size, class, diff_id, created_ns) VALUES (?1, 100000, 'layer', ?2, 1)", [&blob, &diff_id])?;
            tx.execute(
                "INSERT INTO layers (diff_id, entries, bytes, disk_bytes, implied, created_ns)
                 VALUES (?1, 100, 300000, 400000, x'', 1)",
                [&diff_id],
            )?;
            if files {
                let directory = root.join("layers").join(tx.last_insert_rowid().to_string());
                std::fs::create_dir(&directory)?;
                for file in 0..FILES {
                    std::fs::write(directory.join(file.to_string()), diff_id.repeat(10))?;
                }
            }
            parts.push(format!(
                r#"{{"digest":"{blob}","size":100000,"media_type":"application/vnd.oci.image.layer.v1.tar","diff_id":"{diff_id}"}}"#
            ));
            refs.push(("blob", blob));
            refs.push(("layer", diff_id));
        }
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let json = format!(
            r#"{{"id":"{id}","media_type":"{media_type}","size":1000,"manifests":[{{"digest":"{id}","size":1000,"media_type":"{media_type}","platform":"linux/amd64","config":"{config}","config_size":1000,"layers":[{}]}}]}}"#,
            parts.join(",")
        );
        tx.execute(
            "INSERT INTO images (id, json, created_ns, updated_ns) VALUES (?1, ?2, 1, 1)",
            [&id, &json],
        )?;
        for (kind, target) in refs {
            tx.execute("INSERT INTO refs VALUES ('image', ?1, ?2, ?3)", [&id, kind, &target])?;
        }
        let name = format!("docker.io/library/image:{image}");
        tx.execute("INSERT INTO names VALUES (?1, ?2, 1)", [&name, &id])?;
    }
    tx.commit()?;
    Ok(())
}
