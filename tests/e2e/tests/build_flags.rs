//! Flags of Docker's clients that have little to do here: each is taken with what it means, or refused by its name with why.

use std::fs;
use std::path::PathBuf;

use kit::registry::Registry;
use kit::{Host, Output};

fn folder(host: &Host) -> PathBuf {
    let path = host.root().join("flags");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").expect("a file");
    path
}

fn build(host: &Host, more: &[&str]) -> Output {
    let args = ["build"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(folder(host)).run()
}

fn done(output: Output) -> Output {
    assert_eq!(output.code, 0, "{output}");
    output
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let host = Host::new();
    for (flags, words) in [
        (&["--rm=false"][..], "--rm=false is not available"),
        (&["--disable-content-trust=false"], "there is no Notary"),
        (&["--security-opt", "seccomp=unconfined"], "does not support setting security options on build"),
        (&["--policy", "filename=x.rego"], "--policy is not available"),
        (&["--debug"], "--debug is not available"),
        (&["-D"], "--debug is not available"),
        (&["--isolation", "hyperv"], "Unsupported isolation: \"hyperv\""),
        (&["--builder", "other"], "no builder \"other\" found"),
    ] {
        let output = build(&host, flags);
        assert!(output.code != 0 && output.stderr.contains(words), "{flags:?}: {output}");
    }
    // What the classic API cannot say is not left out without a word.
    for flags in [
        &["-o", "dest"][..],
        &["--push"],
        &["--cache-to", "type=inline"],
        &["--cache-from", "x"],
        &["--metadata-file", "x"],
        &["--sbom", "true"],
        &["--provenance", "true"],
        &["--attest", "type=sbom"],
        &["--annotation", "a=b"],
        &["--load"],
    ] {
        let args = ["build"].into_iter().chain(flags.iter().copied()).chain(["."]);
        let output = host.corten(args).env("DOCKER_BUILDKIT", "0").current_dir(folder(&host)).run();
        assert!(output.code != 0 && output.stderr.contains("needs BuildKit's API"), "{flags:?}: {output}");
        assert!(output.stderr.contains(flags[0].trim_start_matches("-o")), "{output}");
    }
}

#[test]
fn what_means_nothing_here_is_taken() {
    let host = Host::new();
    let flags = [
        "--rm",
        "--force-rm",
        "--disable-content-trust",
        "--isolation",
        "default",
        "--builder",
        "default",
        "-t",
        "flags:1",
    ];
    done(build(&host, &flags));
    host.corten(["image", "inspect", "flags:1"]).ok();
    let said = done(build(&host, &["--compress"]));
    assert!(said.stderr.contains("WARNING: --compress changes nothing"), "{said}");
    // It is in the engine though it goes elsewhere.
    done(build(&host, &["-t", "flags:2", "--load", "-o", "dest"]));
    host.corten(["image", "inspect", "flags:2"]).ok();
    assert!(folder(&host).join("dest/Dockerfile").exists());
    let registry = Registry::start();
    let name = format!("{}/team/loaded:1", registry.host());
    done(build(&host, &["-t", &name, "-o", "type=registry"]));
    host.corten(["image", "inspect", &name]).fails(1, "No such image");
    done(build(&host, &["-t", &name, "-o", "type=registry", "--load"]));
    host.corten(["image", "inspect", &name]).ok();
}
