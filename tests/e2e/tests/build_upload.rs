//! Archives on standard input as what is built, by BuildKit's API: what the classic one cannot say holds for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kit::{Cmd, Host, Output};

/// How long an engine waits for what a build still tells; a whole build of these takes a fraction of it.
const LAST_WORDS: Duration = Duration::from_secs(5);
const TEXT: &str = "FROM busybox AS tool\nCOPY data /out/data\nRUN --mount=type=secret,id=key cat /run/secrets/key >/out/key\n\
    FROM scratch\nCOPY --from=tool /out /\n";

fn folder(host: &Host) -> PathBuf {
    let path = host.root().join("upload");
    fs::create_dir_all(path.join("deep")).expect("a directory");
    for (name, text) in [
        ("Dockerfile", TEXT),
        ("deep/other", "FROM busybox\nCOPY . /all\n"),
        ("data", "the data"),
        (".dockerignore", "hidden\n"),
        ("hidden", "hidden"),
    ] {
        fs::write(path.join(name), text).expect("a file");
    }
    path
}

fn archive(folder: &Path, flags: &str) -> Vec<u8> {
    let output = std::process::Command::new("tar").args([flags, "-", "."]).current_dir(folder).output();
    output.expect("tar runs").stdout
}

fn build(host: &Host, more: &[&str], archive: &[u8]) -> Output {
    let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["-"]);
    host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(host.root()).stdin(archive).run()
}

fn done(output: Output) -> Output {
    assert_eq!(output.code, 0, "{output}");
    output
}

#[test]
fn an_archive_is_built_with_secrets_and_into_a_directory() {
    let host = Host::with_busybox();
    let folder = folder(&host);
    let plain = archive(&folder, "-cf");
    fs::write(host.root().join("key"), "the key").expect("a file");
    let started = Instant::now();
    let said = done(build(&host, &["--secret", "id=key,src=key", "-o", "dest"], &plain));
    // Nothing of it is waited for that will not come.
    assert!(started.elapsed() < LAST_WORDS, "{said}");
    assert!(said.stderr.contains("[internal] load remote build context\n"), "{said}");
    let read = |name: &str| fs::read_to_string(host.root().join("dest").join(name)).expect(name);
    assert_eq!((read("data").as_str(), read("key").as_str()), ("the data", "the key"));
    // Its bytes are the same: so are its steps.
    let again = done(build(&host, &["--secret", "id=key,src=key", "-o", "type=tar,dest=x.tar"], &plain));
    assert!(again.stderr.contains("CACHED"), "{again}");
    let listed = Cmd::new("tar").args(["-tf", &host.root().join("x.tar").display().to_string()]).ok();
    assert!(listed.lines().any(|line| line == "data"), "{listed}");
    // Compressed, with another Dockerfile of it; what is hidden is hidden.
    done(build(&host, &["-t", "other", "-f", "deep/other"], &archive(&folder, "-czf")));
    let all = host.corten(["run", "--rm", "--network", "none", "other", "ls", "/all"]).ok();
    assert_eq!(all, "Dockerfile\ndata\ndeep");
}

#[test]
fn what_cannot_be_built_is_told() {
    let host = Host::with_busybox();
    let folder = folder(&host);
    let plain = archive(&folder, "-cf");
    for (more, given, words) in [
        (&["-f", "nothing"][..], plain.clone(), "nothing"),
        (&[], archive(&folder, "-czf")[..200].to_vec(), "cannot unpack what the client sends"),
        (&["-f", "x"], b"FROM scratch\n".to_vec(), "ambiguous Dockerfile source"),
        (&["-f", "-"], plain.clone(), "can't use stdin for both"),
    ] {
        let refused = build(&host, more, &given);
        assert!(refused.code != 0 && refused.stderr.contains(words), "{words}: {refused}");
    }
    // Nothing is left of what was sent.
    let left = host.data_root().join("build/contexts");
    kit::wait_for("contexts to go", || {
        fs::read_dir(&left).map_or(true, |mut entries| entries.next().is_none()).then_some(())
    });
}

#[test]
fn a_build_that_fails_does_not_wait_for_the_rest() {
    let host = Host::with_busybox();
    let begun = archive(&folder(&host), "-cf");
    let args = ["build", "--allow", "nothing.at.all", "-"];
    let mut building = host.corten(args).env("BUILDKIT_PROGRESS", "plain").spawn();
    building.write(&begun[..1024]);
    // Its input is open, and nothing more comes.
    kit::wait_for("the build to end", || building.child.try_wait().expect("a build"));
    let said = building.wait();
    assert!(said.code != 0 && said.stderr.contains("the entitlement nothing.at.all"), "{said}");
}
