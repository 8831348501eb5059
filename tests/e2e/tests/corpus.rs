//! The corpus: Dockerfiles with what becomes of them, built by our engine; and the same built by Debian's docker and by buildah, and
//! compared file by file and field by field. How a case is written is told in `corpus/case.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kit::dockerd::{DOCKERD, Dockerd};
use kit::{Cli, Cmd, Host, Output, fixtures};

#[path = "corpus/builders.rs"]
mod builders;
#[path = "corpus/case.rs"]
mod case;
#[path = "corpus/image.rs"]
mod image;

use builders::Builder;
use case::{Case, UNREASONED, difference};
use image::Image;

/// Builds at once: two cores, and steps that wait for processes.
const WORKERS: usize = 4;
/// The image that most are built on.
const BASE: &str = "busybox";

fn cases() -> Vec<Case> {
    let all = Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases"));
    // To look at some alone.
    let wanted = std::env::var("CORTEN_CASES").unwrap_or_default();
    all.into_iter().filter(|case| case.name.contains(&wanted)).collect()
}

/// What a server gives to those who ask it: always the same.
fn server() -> kit::http::Server {
    kit::http::Server::start(|head, _| {
        let answer = kit::http::Answer::new(200, "text/plain", format!("content of {}\n", head.path()));
        answer.with("Last-Modified", "Sat, 03 Feb 2001 04:05:06 GMT")
    })
}

/// Makes a case's context.
fn prepare(case: &Case, folder: &Path, server: &str) {
    fs::create_dir_all(folder).expect("a directory");
    script(case.get("context"), folder);
    if let Some(text) = case.dockerfile(server).filter(|_| !case.dockerfile_is("stdin")) {
        fs::write(folder.join("Dockerfile"), text).expect("a Dockerfile");
    }
}

fn script(text: Option<&str>, folder: &Path) {
    if let Some(text) = text {
        Cmd::new("sh").args(["-euc", &format!("umask 022\n{text}")]).current_dir(folder).ok();
    }
}

/// Does something with each case, several at once.
fn each<T: Send>(cases: &[Case], what: impl Fn(&Case) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((at, case)) =
                    Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|at| Some((at, cases.get(at)?)))
                {
                    let result = what(case);
                    done.lock().expect("no worker panics").push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What the builds of a case told.
struct Told {
    good: bool,
    error: String,
    cached: Option<String>,
    changed: Option<String>,
}

/// How many steps were found again: the classic API and BuildKit's tell it otherwise, and by the latter bases are steps too.
fn found_again(output: &Output) -> String {
    if output.code != 0 {
        return format!("fails: {}", error(output));
    }
    let text = format!("{}{}", output.stdout, output.stderr);
    let made = text.matches("---> Running in").count();
    let found =
        text.matches("Using cache").count() + text.lines().filter(|line| line.ends_with(" CACHED")).count();
    format!("{found} from the cache, {made} made\n")
}

/// What a build says that fails, without the client's remarks on itself.
fn error(output: &Output) -> String {
    let remarks = [
        "DEPRECATED",
        "BuildKit is currently disabled",
        "environment-variable.",
        "Install the buildx",
        "docs.docker.com/go/buildx",
    ];
    let lines = output.stderr.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty() && !remarks.iter().any(|remark| line.contains(remark)));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Builds all cases by our engine; what was told, and what has come of them.
fn built(cases: &[Case], cli: Cli, address: &str, again: bool) -> (Vec<Told>, BTreeMap<String, Image>) {
    let host = Host::with_busybox();
    let root = host.root().join("corpus");
    let hide =
        |text: String| text.replace(address, "{server}").replace(&root.display().to_string(), "{contexts}");
    let ours = Builder::Ours(host, cli);
    let told = each(cases, |case| {
        let folder = root.join(&case.name);
        prepare(case, &folder, address);
        ours.base(case, &folder);
        let first = ours.build(case, &folder, address);
        let good = first.code == 0;
        let again = again.then_some(()).filter(|()| good);
        let cached = again.map(|()| found_again(&ours.build(case, &folder, address)));
        // What comes of the change is another image; the one to be looked at is the first.
        let other = case.called(format!("{}-changed", case.name));
        let changed = again.and(case.get("change")).map(|change| {
            script(Some(change), &folder);
            found_again(&ours.build(&other, &folder, address))
        });
        Told { good, error: hide(error(&first)), cached, changed }
    });
    let good: Vec<bool> = told.iter().map(|told| told.good).collect();
    let images = saved(&ours, cases, &good, &root);
    (told, images)
}

#[test]
fn dockerfiles_become_what_is_written_beside_them() {
    let mut cases = cases();
    let server = server();
    let address = server.address().to_string();
    let (told, images) = built(&cases, Cli::Docker, &address, true);
    let base = images.get(BASE).cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for (case, told) in cases.iter_mut().zip(told) {
        let image = images.get(&case.name).filter(|_| told.good);
        let found = BTreeMap::from([
            ("tree", image.map(|image| image.tree(&base))),
            ("config", image.map(|image| image.configuration(&base))),
            ("history", image.map(|image| image.history(&base).replace(&address, "{server}"))),
            ("cached", told.cached),
            ("changed", told.changed),
            ("error", (!told.good).then_some(told.error)),
        ]);
        wrong.extend(case.compare(&found));
    }
    assert!(wrong.is_empty(), "{} of {} are otherwise:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 150 || std::env::var_os("CORTEN_CASES").is_some(), "{} cases", cases.len());
}

/// By BuildKit's API, with files that are fetched as they are needed, the same comes of them.
#[test]
fn our_own_client_makes_the_same_of_them() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.get("error").is_none()).collect();
    let server = server();
    let address = server.address().to_string();
    let (told, images) = built(&cases, Cli::Corten, &address, false);
    let base = images.get(BASE).cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for (case, told) in cases.iter().zip(told) {
        let image = images.get(&case.name).filter(|_| told.good).cloned().unwrap_or_default();
        if !told.good {
            wrong.push(format!("{}: {}", case.name, told.error));
        }
        for (name, found) in [
            ("tree", image.tree(&base)),
            ("config", image.configuration(&base)),
            ("history", image.history(&base).replace(&address, "{server}")),
        ] {
            let expected = case.get(name).unwrap_or_default();
            if told.good && found != expected {
                wrong.push(format!("{}: {name}:\n{}", case.name, difference(expected, &found)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} are otherwise:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What is wrong is told by our own client too, with its place, and leaves nothing.
#[test]
fn our_own_client_tells_the_same_of_what_is_wrong() {
    let host = Host::with_busybox();
    let root = host.root().join("corpus");
    let server = server();
    let address = server.address().to_string();
    // Those that docker's own client finds are told in its words.
    let is_clients = |case: &Case| {
        let words = ["unable to prepare context", "invalid argument", "only supported on a Docker daemon"];
        case.get("error").is_none_or(|error| words.iter().any(|word| error.contains(word)))
    };
    let cases: Vec<Case> = cases().into_iter().filter(|case| !is_clients(case)).collect();
    let told = each(&cases, |case| {
        let folder = root.join(&case.name);
        prepare(case, &folder, &address);
        let context = if case.dockerfile_is("stdin") { "-" } else { "." };
        let args = ["build", "--network", "none"].into_iter().chain(case.arguments()).chain([context]);
        let text = case.dockerfile(&address).unwrap_or_default();
        host.corten(args).current_dir(&folder).stdin(text).run()
    });
    let mut wrong = Vec::new();
    for (case, output) in cases.iter().zip(told) {
        let text = output.stderr.replace(&address, "{server}");
        let error = case.get("error").unwrap_or_default();
        // The place and the message; where there is no place, the message.
        let place = error.lines().find(|line| line.starts_with("Dockerfile:"));
        let line = place.or(error.lines().last()).unwrap_or_default();
        let line = line.split_once(": error: ").map_or(line, |(_, message)| message);
        // The classic API has another word for it.
        let code =
            line.split_once("returned a non-zero code: ").map(|(_, code)| format!("exit code: {code}"));
        let line = code.as_deref().unwrap_or(line);
        let at = place.and_then(|place| place.split(' ').next()).unwrap_or_default();
        // Where the engine looks into the directory itself, it knows what it can only guess of one that was sent.
        let is_said = line.split(" in the build context: if it is there, ").all(|part| text.contains(part));
        if output.code != 1 || !is_said || !text.contains(at) || text.contains("panicked") {
            wrong.push(format!("{}: no {at} {line} in {output}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are otherwise:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let left = || fs::read_dir(host.data_root().join("snapshots")).map_or(0, Iterator::count);
    kit::wait_for("what was begun to be gone", || (left() == 0).then_some(()));
}

fn saved(builder: &Builder, cases: &[Case], built: &[bool], folder: &Path) -> BTreeMap<String, Image> {
    let built = cases.iter().zip(built).filter(|(_, built)| **built);
    let mut names: Vec<String> = built.map(|(case, _)| case.name.clone()).collect();
    names.push(BASE.to_owned());
    builder.images(&names, folder)
}

/// What a peer makes of the cases, beside what is written; and the reasons that are given for what is otherwise.
fn compare_with(name: &str, peer: &Builder, root: &Path) {
    let server = server();
    let address = server.address().to_string();
    let mut cases: Vec<Case> = cases().into_iter().filter(|case| !case.is_for_ours()).collect();
    let outputs = each(&cases, |case| {
        let folder = root.join(&case.name);
        prepare(case, &folder, &address);
        peer.base(case, &folder);
        peer.build(case, &folder, &address)
    });
    let images =
        saved(peer, &cases, &outputs.iter().map(|output| output.code == 0).collect::<Vec<_>>(), root);
    let base = images.get(BASE).cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for (case, output) in cases.iter_mut().zip(outputs) {
        let expected = match case.get("error") {
            Some(_) => "fails\n".to_owned(),
            None => {
                format!("{}{}", case.get("tree").unwrap_or_default(), case.get("config").unwrap_or_default())
            }
        };
        let image = images.get(&case.name).filter(|_| output.code == 0);
        let found =
            image.map_or("fails\n".to_owned(), |image| image.tree(&base) + &image.configuration(&base));
        if output.code != 0 {
            println!("{}: {name}: {}", case.name, error(&output).lines().last().unwrap_or_default());
        }
        let changes = if found == "fails\n" && expected != found {
            "+ fails\n".to_owned()
        } else if expected == "fails\n" && expected != found {
            "- fails\n".to_owned()
        } else {
            difference(&general(&expected), &general(&found))
        };
        let (reason, written) = case.peer(name);
        if std::env::var_os("CORTEN_WRITE").is_some() {
            let reason = reason.unwrap_or_else(|| UNREASONED.to_owned());
            case.set(name, (!changes.is_empty()).then(|| format!("{reason}\n{changes}")).as_deref());
            case.write();
        } else if changes != written {
            wrong.push(format!(
                "{}: {name} makes otherwise:\n{changes}and that is written:\n{written}",
                case.name
            ));
        } else if reason.is_some_and(|reason| reason.is_empty() || reason == UNREASONED) {
            wrong.push(format!("{}: no reason is given why {name} makes otherwise:\n{changes}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are otherwise:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Without what BuildKit, which we follow, writes into every image's configuration and the others do not: the directory `/` where none
/// was named, and the search path of an image that is built on nothing; and without the name that buildah gives its containers.
fn general(text: &str) -> String {
    let path = "Env: [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"";
    // Where buildah mounts files of its own for RUN, it leaves places.
    let places = [
        "f 755 0:0 /etc/hostname \"\"",
        "f 755 0:0 /etc/hosts \"\"",
        "f 755 0:0 /etc/resolv.conf \"\"",
        "d 755 0:0 /run",
    ];
    let lines = text.lines().filter(|line| {
        *line != "WorkingDir: \"/\"" && !line.starts_with("Hostname: ") && !places.contains(line)
    });
    let lines = lines.filter_map(|line| match line.strip_prefix(path) {
        Some("]") => None,
        Some(rest) => Some(format!("Env: [{}", rest.trim_start_matches(','))),
        None => Some(line.to_owned()),
    });
    lines.map(|line| line + "\n").collect()
}

/// An archive of the base, as `docker load` takes it.
fn base_archive(root: &Path) -> PathBuf {
    let archive = root.join("busybox.tar");
    let layout = fixtures::Layout::new(&[fixtures::busybox()]);
    let to = format!("docker-archive:{}:busybox:latest", archive.display());
    Cmd::new("skopeo").args(["copy", "-q", &layout.skopeo(), &to]).ok();
    archive
}

/// `cargo nextest run -p e2e --test corpus --run-ignored all -E 'test(debians_docker)'`
#[test]
#[ignore = "it takes minutes: dockerd makes a container for every step"]
fn debians_docker_makes_the_same_of_them() {
    if !Path::new(DOCKERD).exists() {
        kit::skip("dockerd", "docker.io is not installed");
        return;
    }
    let directory = tempfile::Builder::new().prefix("ct").tempdir().expect("a temporary directory");
    let dockerd = Dockerd::start_to_build(directory.path());
    dockerd.load(&base_archive(directory.path()));
    compare_with("docker", &Builder::Docker(dockerd), &directory.path().join("corpus"));
}

/// `cargo nextest run -p e2e --test corpus --run-ignored all -E 'test(buildah)'`
#[test]
#[ignore = "it takes minutes: buildah copies its base for every case"]
fn buildah_makes_the_same_of_them() {
    let directory = tempfile::Builder::new().prefix("ct").tempdir().expect("a temporary directory");
    let archive = base_archive(directory.path());
    let from = format!("docker-archive:{}", archive.display());
    builders::buildah(directory.path()).args(["pull", "-q", &from]).ok();
    compare_with("buildah", &Builder::Buildah(directory.path().to_owned()), &directory.path().join("corpus"));
}
