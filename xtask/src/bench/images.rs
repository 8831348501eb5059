//! Images between a registry on loopback, the engines and archives, everything cold: beside the peers, and beside what the work costs
//! at least on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kit::Host;
use kit::fixtures::{Entry, Image, Layer, Layout, Packing};
use kit::registry::Registry;

use super::measure::{median_ms, memory_kb, run};
use super::peers::{self, Peer};
use super::{Row, print};
use crate::run::{Result, exists};

/// Layers of the large image; each is 100 MB of files.
const LARGE_LAYERS: usize = 10;
/// Layers of the image of small ones.
const SMALL_LAYERS: usize = 60;
/// Files of the image of many, in so many layers.
const FILES: usize = 200_000;
const FILES_LAYERS: usize = 4;
/// How long a disk may take to remove the largest image.
const GONE_AT_MOST: Duration = Duration::from_secs(300);
/// How often a pull of what is there is repeated.
const TIMES: usize = 15;

/// What is measured with each engine, in this order.
const STEPS: [&str; 4] = ["pull", "push", "save", "load"];

/// An image in the registry, and how long its layers take to be decompressed.
struct Sample {
    what: &'static str,
    promise: &'static str,
    name: String,
    floor: (&'static str, f64),
    zstd: bool,
}

/// A hundred files of one megabyte that compress about three to one, as programs do; each layer's are other ones.
fn large_layer(number: usize, packing: Packing) -> Layer {
    let mut state = number as u64 + 1;
    let words: Vec<[u8; 8]> =
        (0..4096).map(|n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7)).to_le_bytes()).collect();
    let entries: Vec<Entry> = (0..100)
        .map(|file| {
            let mut content = Vec::with_capacity(1 << 20);
            while content.len() < 1 << 20 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                content.extend_from_slice(&words[(state >> 52) as usize]);
                content.extend_from_slice(&[(state >> 40) as u8; 2]);
            }
            Entry::file(&format!("file-{number}-{file}"), content)
        })
        .collect();
    Layer::new(&entries, packing)
}

/// Files of a few hundred bytes in folders of a hundred.
fn files_layer(number: usize, files: usize) -> Layer {
    let entry = |file: usize| {
        let text = format!("{number} {file} ").repeat(1 + file % 40);
        Entry::file(&format!("tree-{number}/{}/{file}", file / 100), text.into_bytes())
    };
    Layer::new(&(0..files).map(entry).collect::<Vec<_>>(), Packing::Gzip)
}

/// Measures everything and prints it as it comes; of the images those that one of `names` is in, or all.
pub fn bench(directory: &Path, names: &[String]) -> Result<()> {
    let io = |error: std::io::Error| error.to_string();
    let registry = Registry::start();
    let mut samples = Vec::new();
    let mut sample = |what: &'static str, promise, name: &str, make: &dyn Fn() -> Vec<Layer>, zstd: bool| {
        if !names.is_empty() && !names.iter().any(|name| what.contains(name.as_str())) {
            return Ok(());
        }
        let layers = make();
        let folder = directory.join("layers");
        fs::create_dir_all(&folder).map_err(io)?;
        let mut floor = Duration::ZERO;
        for (number, layer) in layers.iter().enumerate() {
            let path = folder.join(number.to_string());
            fs::write(&path, &layer.bytes).map_err(io)?;
            let program = if zstd { "zstd" } else { "gzip" };
            let command = format!("{program} -dc < {}", path.display());
            floor += run(Command::new("sh").args(["-c", &command]))?;
        }
        fs::remove_dir_all(&folder).map_err(io)?;
        let name =
            registry.push(&Layout::new(&[Image::new(layers, serde_json::json!({"Cmd": ["true"]}))]), name);
        let floor = (if zstd { "zstd -dc" } else { "gzip -dc" }, floor.as_secs_f64() * 1e3);
        samples.push(Sample { what, promise, name, floor, zstd });
        Ok::<_, String>(())
    };
    let large = |packing| (0..LARGE_LAYERS).map(|number| large_layer(number, packing)).collect();
    let gzip = &|| large(Packing::Gzip);
    sample("1 GB in 10 gzip layers", "0.5 of `gzip -dc`", "large:gzip", gzip, false)?;
    sample("1 GB in 10 zstd layers", "`zstd -dc`", "large:zstd", &|| large(Packing::Zstd), true)?;
    let small = &|| (0..SMALL_LAYERS).map(|number| files_layer(1000 + number, 20)).collect();
    sample("60 small layers", "never slower than a peer", "small:1", small, false)?;
    let files = &|| (0..FILES_LAYERS).map(|number| files_layer(number, FILES / FILES_LAYERS)).collect();
    sample("200,000 small files", "never slower than a peer", "files:1", files, false)?;
    println!("disk: {:.0} MB/s written and synchronised", disk_mb_s(directory)?);
    let peers = peers::start(directory)?;
    for sample in &samples {
        print(&measure(&peers, directory, &registry, sample)?);
    }
    for peer in &peers {
        if let Peer::Corten(host) = peer {
            let again = samples.first().map(|sample| again(host, &sample.name)).transpose()?;
            print(&again.into_iter().chain([memory(host)]).collect::<Vec<_>>());
        }
    }
    Ok(())
}

/// What the disk takes, in files of one megabyte.
fn disk_mb_s(directory: &Path) -> Result<f64> {
    let file = directory.join("disk");
    let of = format!("of={}", file.display());
    let took = run(Command::new("dd").args(["if=/dev/zero", &of, "bs=1M", "count=1024", "conv=fdatasync"]))?;
    fs::remove_file(file).map_err(|error| error.to_string())?;
    Ok(1024.0 / took.as_secs_f64())
}

/// All steps of one image with all engines, one after the other.
fn measure(peers: &[Peer], directory: &Path, registry: &Registry, sample: &Sample) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = STEPS
        .iter()
        .map(|step| Row {
            what: format!("{step}, {}", sample.what),
            promise: match *step {
                "pull" => sample.promise,
                _ => "0.5 of docker.io",
            },
            unit: "ms",
            values: Vec::new(),
        })
        .collect();
    for peer in peers {
        // Docker of Debian 12 does not know zstd.
        if sample.zstd && matches!(peer, Peer::Docker(_)) {
            continue;
        }
        for (row, took) in rows.iter_mut().zip(steps(peer, directory, registry, sample)?) {
            row.values.push((peer.name(), took.as_secs_f64() * 1e3));
        }
    }
    if exists("skopeo") {
        let to = format!("oci:{}", directory.join("skopeo").display());
        let from = format!("docker://{}", sample.name);
        cold()?;
        let took = run(Command::new("skopeo").args(["copy", "-q", "--src-tls-verify=false", &from, &to]))?;
        // It unpacks nothing.
        rows[0].values.push(("skopeo to a folder", took.as_secs_f64() * 1e3));
        fs::remove_dir_all(directory.join("skopeo")).map_err(|error| error.to_string())?;
    }
    rows[0].values.push(sample.floor);
    Ok(rows)
}

/// Pulls, pushes into a repository that has nothing of it, saves and loads; then nothing of it is left.
fn steps(peer: &Peer, directory: &Path, registry: &Registry, sample: &Sample) -> Result<Vec<Duration>> {
    let podman = matches!(peer, Peer::Podman(_));
    let (name, zstd) = (sample.name.as_str(), sample.zstd);
    let insecure: &[&str] = if podman { &["--tls-verify=false"] } else { &[] };
    let archive: PathBuf = directory.join("archive.tar");
    let file = archive.display().to_string();
    let call = |args: &[&str]| {
        settle(peer)?;
        run(&mut peer.command(args))
    };
    // Another registry, so that there is nothing to be mounted.
    let other = Registry::start();
    let target =
        format!("{}/{}", other.host(), name.trim_start_matches(&registry.host()).trim_start_matches('/'));
    let pulled = call(&[&["pull", "-q"], insecure, &[name]].concat())?;
    call(&["tag", name, &target])?;
    let pushed = call(&[&["push", "-q"], insecure, &[&target]].concat())?;
    // Podman's archives in Docker's form cannot hold zstd.
    let format: &[&str] = if podman && zstd { &["--format", "oci-archive"] } else { &[] };
    let saved = call(&[&["save"], format, &["-o", &file, name]].concat())?;
    call(&["rmi", &target, name])?;
    let loaded = call(&["load", "-q", "-i", &file])?;
    call(&["rmi", name])?;
    settle(peer)?;
    fs::remove_file(archive).map_err(|error| error.to_string())?;
    Ok(vec![pulled, pushed, saved, loaded])
}

/// Waits until what was removed is gone and what was written is on the disk, and takes both out of the kernel's memory: what is measured next
/// begins cold. (An ext4 without a journal also goes through all inodes that it remembers to have been freed whenever it makes a file.)
fn settle(peer: &Peer) -> Result<()> {
    if let Peer::Corten(host) = peer {
        let trash = host.data_root().join("trash");
        let started = Instant::now();
        while fs::read_dir(&trash).is_ok_and(|mut entries| entries.next().is_some()) {
            if started.elapsed() > GONE_AT_MOST {
                return Err("what was removed is still there".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    cold()
}

fn cold() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(|error| format!("drop the kernel's caches: {error}"))
}

/// A pull of what is there.
fn again(host: &Host, name: &str) -> Result<Row> {
    let pull = || Command::new(kit::binary()).envs(host.environment()).args(["pull", "-q", name]).output();
    let once = || {
        let started = Instant::now();
        let output = pull().map_err(|error| error.to_string())?;
        let took = started.elapsed();
        if output.status.success() {
            Ok(took)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    once()?;
    rustix::fs::sync();
    let values = vec![("corten", median_ms(TIMES, once)?)];
    Ok(Row { what: "pull of what is there".to_owned(), promise: "20 ms", unit: "ms", values })
}

/// The most memory that the daemon had.
fn memory(host: &Host) -> Row {
    let peak = memory_kb(host.daemon_pid(), "status", "VmHWM").unwrap_or_default();
    Row {
        what: "memory of the daemon at most, through all of this".to_owned(),
        promise: "100 MB",
        unit: "MB",
        values: vec![("corten", peak as f64 / 1e3)],
    }
}
