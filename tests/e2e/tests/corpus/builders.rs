//! Who builds: our engine by the classic API and by our own client, Debian's docker, and buildah.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kit::dockerd::Dockerd;
use kit::{Cli, Cmd, Host, Output};
use serde_json::{Value, json};

use crate::case::Case;
use crate::image::{self, Image};

/// A builder.
pub enum Builder {
    /// Our engine, by the real `docker` or by `corten`.
    Ours(Host, Cli),
    /// Debian's docker, which builds as docker did before BuildKit.
    Docker(Dockerd),
    /// buildah, with its store in this directory.
    Buildah(PathBuf),
}

impl Builder {
    /// A command that builds in a directory: its first arguments are given.
    fn command(&self, case: &Case) -> Cmd {
        let cmd = match self {
            Self::Ours(host, cli) => host.cli(if case.is_for_ours() { Cli::Corten } else { *cli }, ["build"]),
            Self::Docker(dockerd) => dockerd.docker().args(["build"]),
            Self::Buildah(root) => buildah(root).args([
                "build-using-dockerfile",
                "--isolation",
                "chroot",
                "--layers=false",
                "--format",
                "docker",
                "--identity-label=false",
            ]),
        };
        // docker's own client builds by BuildKit's API with a plugin alone; ours does by itself.
        let is_ours = matches!(self, Self::Ours(_, Cli::Corten)) || case.is_for_ours();
        let cmd = if is_ours { cmd } else { cmd.env("DOCKER_BUILDKIT", "0") };
        cmd.args(["--network", if matches!(self, Self::Buildah(_)) { "host" } else { "none" }])
    }

    /// Builds a case, in the directory that has its context.
    pub fn build(&self, case: &Case, folder: &Path, server: &str) -> Output {
        let server = server.to_owned();
        let mut cmd = self.command(case).args(["-t", &case.name]).args(case.arguments()).current_dir(folder);
        cmd = match case.dockerfile(&server) {
            Some(text) if case.dockerfile_is("stdin") => match self {
                Self::Buildah(_) => {
                    let file = folder.with_extension("Dockerfile");
                    fs::write(&file, text).expect("a Dockerfile");
                    let empty = folder.with_extension("empty");
                    fs::create_dir_all(&empty).expect("a directory");
                    cmd.args([Path::new("-f"), &file, &empty])
                }
                _ => cmd.args(["-"]).stdin(text),
            },
            _ => cmd.args(["."]),
        };
        cmd.run()
    }

    /// Builds what a case is built on, as `base-<its name>`.
    pub fn base(&self, case: &Case, folder: &Path) {
        let Some(text) = case.get("base") else { return };
        let empty = folder.with_extension("base");
        fs::create_dir_all(&empty).expect("a directory");
        fs::write(empty.join("Dockerfile"), text).expect("a Dockerfile");
        let name = format!("base-{}", case.name);
        self.command(case).args(["-t", &name, "."]).current_dir(&empty).ok();
    }

    /// What the images of these names have.
    pub fn images(&self, names: &[String], folder: &Path) -> BTreeMap<String, Image> {
        let (names, mut all) = self.empty(names);
        let archive = folder.join("images.tar");
        let path = archive.display().to_string();
        match self {
            Self::Ours(host, _) => drop(host.corten(["save", "-o", &path]).args(&names).ok()),
            Self::Docker(dockerd) => {
                let save = |names: &[String]| {
                    dockerd.docker().args(["save", "-o", &path]).args(names).run().code == 0
                };
                if !save(&names) {
                    // There are images that it makes and cannot read: which, it does not say.
                    for name in names.iter().filter(|name| save(std::slice::from_ref(name))) {
                        all.extend(image::read(&archive).into_iter().filter(|(found, _)| found == name));
                    }
                    return all;
                }
            }
            Self::Buildah(root) => {
                for name in &names {
                    let _ = fs::remove_file(&archive);
                    let to = format!("docker-archive:{path}:{name}:latest");
                    // There are images that it makes and cannot read.
                    if buildah(root).args(["push", "-q", name, &to]).run().code == 0 {
                        all.extend(image::read(&archive));
                    }
                }
                return all;
            }
        }
        all.extend(image::read(&archive));
        all
    }

    /// Those that have no layer, which Debian's docker cannot save; and the names of the others.
    fn empty(&self, names: &[String]) -> (Vec<String>, BTreeMap<String, Image>) {
        let Self::Docker(dockerd) = self else { return (names.to_vec(), BTreeMap::new()) };
        let inspected: Value =
            serde_json::from_str(&dockerd.docker().args(["image", "inspect"]).args(names).ok())
                .expect("JSON");
        let mut all = BTreeMap::new();
        let mut others = Vec::new();
        for (name, one) in names.iter().zip(inspected.as_array().expect("images")) {
            if one["RootFS"]["Layers"].is_array() {
                others.push(name.clone());
                continue;
            }
            let config = json!({
                "config": one["Config"], "author": one["Author"], "os": one["Os"], "architecture": one["Architecture"],
            });
            all.insert(name.clone(), Image::of_config(config));
        }
        (others, all)
    }
}

/// buildah on a store of its own.
pub fn buildah(root: &Path) -> Cmd {
    let at = |name: &str| root.join(name).display().to_string();
    Cmd::new("buildah").args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "overlay"])
}
