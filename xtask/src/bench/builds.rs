//! Builds: many small steps, the same again, many files, steps side by side, and a real one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::Host;
use kit::fixtures::Packing;

use super::measure::{median_ms, memory_kb, processes, run};
use super::peers::{self, IMAGE, Peer};
use super::{Row, each, print};
use crate::run::Result;

/// Steps of the long build.
const STEPS: usize = 30;
/// Files of the context, in folders of a hundred.
const FILES: usize = 20_000;
/// Stages that wait a second each.
const STAGES: usize = 10;
/// How often what is short is repeated, and what is long.
const SHORT: usize = 21;
const LONG: usize = 5;
/// What the real build begins with.
const DEBIAN: &str = "bench-debian";

/// Measures everything and prints it as it comes.
pub fn bench(directory: &Path) -> Result<()> {
    let peers = peers::start(directory)?;
    let folder = |name: &str, dockerfile: &str| -> Result<PathBuf> {
        let path = directory.join(name);
        fs::create_dir_all(&path)
            .and_then(|()| fs::write(path.join("Dockerfile"), dockerfile))
            .map_err(text)?;
        Ok(path)
    };
    let steps: String = (0..STEPS).map(|number| format!("RUN echo {number} >/{number}\n")).collect();
    let steps = folder("steps", &format!("FROM {IMAGE}\n{steps}"))?;
    print(&[each(&peers, format!("build of {STEPS} `RUN` steps, `--network none`"), "0.5 s", |peer| {
        median_ms(LONG, || run(&mut build(peer, &steps, &["--no-cache"])))
    })?]);
    print(&[each(&peers, "the same, all cached", "15 ms", |peer| {
        median_ms(SHORT, || run(&mut build(peer, &steps, &[])))
    })?]);

    let files = folder("files", &format!("FROM {IMAGE}\nCOPY . /files\n"))?;
    many_files(&files)?;
    print(&[each(&peers, format!("`COPY` of {FILES} files"), "never slower than a peer", |peer| {
        median_ms(3, || run(&mut build(peer, &files, &["--no-cache"])))
    })?]);
    print(&[each(&peers, format!("no-op `COPY` of {FILES} files"), "40 ms", |peer| {
        median_ms(LONG, || run(&mut build(peer, &files, &[])))
    })?]);

    let stages: String = (0..STAGES)
        .map(|number| format!("FROM {IMAGE} AS s{number}\nRUN sleep 1; echo {number} >/f\n"))
        .collect();
    let copies: String = (0..STAGES).map(|number| format!("COPY --from=s{number} /f /{number}\n")).collect();
    let stages = folder("stages", &format!("{stages}FROM {IMAGE}\n{copies}"))?;
    print(&[each(&peers, format!("{STAGES} stages of one second each"), "side by side", |peer| {
        median_ms(1, || run(&mut build(peer, &stages, &["--no-cache"])))
    })?]);

    real(&peers, directory, &folder)?;
    print(&[memory(&peers)]);
    Ok(())
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// A build of the folder; ours by BuildKit's API, Docker's by the classic one, which is all that Debian's has.
fn build(peer: &Peer, folder: &Path, more: &[&str]) -> Command {
    let mut args = vec!["build", "-q", "-t", "built", "--network", "none"];
    args.extend(more);
    let folder = folder.display().to_string();
    args.push(&folder);
    let mut command = peer.command(&args);
    if matches!(peer, Peer::Docker(_)) {
        command.env("DOCKER_BUILDKIT", "0");
    }
    command
}

fn many_files(folder: &Path) -> Result<()> {
    for number in 0..FILES {
        let path = folder.join(format!("tree/{}/{number}", number / 100));
        let above = path.parent().unwrap_or(folder);
        fs::create_dir_all(above)
            .and_then(|()| fs::write(&path, format!("{number} ").repeat(1 + number % 200)))
            .map_err(text)?;
    }
    Ok(())
}

/// A Debian with a web server that is installed from the network, and a page from another stage.
fn real(peers: &[Peer], directory: &Path, folder: &dyn Fn(&str, &str) -> Result<PathBuf>) -> Result<()> {
    let tar = directory.join("debian.tar");
    let image = kit::fixtures::debian_packed(Packing::Plain);
    let layer = image.layers.first().ok_or("the Debian has no layer")?;
    fs::write(&tar, &layer.bytes).map_err(text)?;
    for peer in peers {
        match peer {
            Peer::Corten(host) => host.give(&image, DEBIAN),
            _ => {
                run(&mut peer.command(&["import", &tar.display().to_string(), DEBIAN]))?;
            }
        }
    }
    let path = folder(
        "real",
        &format!(
            "FROM {DEBIAN} AS page\nRUN seq 1 1000 | sed 's/.*/<p>&/' >/index.html\n\
             FROM {DEBIAN}\nRUN apt-get update && apt-get install -y --no-install-recommends nginx-light\n\
             COPY --from=page /index.html /var/www/html/\nCOPY site /srv/site\nCMD [\"nginx\"]\n"
        ),
    )?;
    fs::create_dir_all(path.join("site")).and_then(|()| fs::write(path.join("site/a"), "a")).map_err(text)?;
    print(&[each(
        peers,
        "a Debian with nginx, `apt-get install` from the network",
        "never slower than a peer",
        |peer| median_ms(1, || run(&mut build(peer, &path, &["--no-cache", "--network", "host"]))),
    )?]);
    Ok(())
}

/// What the engine occupies after all this; podman has none.
fn memory(peers: &[Peer]) -> Row {
    let rss = |pids: &[u32]| {
        pids.iter().filter_map(|pid| memory_kb(*pid, "status", "VmRSS:")).sum::<u64>() as f64 / 1e3
    };
    let values = peers.iter().filter_map(|peer| match peer {
        Peer::Corten(host) => Some((peer.name(), rss(&daemon(host)))),
        Peer::Docker(dockerd) => Some((peer.name(), rss(&dockerd.pids()))),
        Peer::Podman(_) => None,
    });
    Row {
        what: "the daemon after these builds".to_owned(),
        promise: "",
        unit: "MB RSS",
        values: values.collect(),
    }
}

fn daemon(host: &Host) -> Vec<u32> {
    processes(&host.data_root().display().to_string())
}
