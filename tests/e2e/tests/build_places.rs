//! Where a build's result goes by our own client: directories, archives, registries, and what is written of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use kit::registry::Registry;
use kit::{Cmd, Host, Output};
use serde_json::Value;

const TEXT: &str = "FROM busybox AS tool\nRUN mkdir /out && echo one > /out/a && ln /out/a /out/twin && ln -s a /out/link \
    && chmod 4751 /out/a && mkdir -m 750 /out/deep && echo two > /out/deep/b\nFROM scratch\nCOPY --from=tool /out /out\n\
    COPY Dockerfile /\n";

/// A directory with a Dockerfile.
fn folder(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.root().join(name);
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), text).expect("a file");
    path
}

fn build(host: &Host, folder: &PathBuf, more: &[&str]) -> Cmd {
    let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).env("BUILDKIT_PROGRESS", "plain").current_dir(folder)
}

fn done(output: Output) -> Output {
    assert_eq!(output.code, 0, "{output}");
    output
}

fn json(path: &PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// Untagged images that are there.
fn untagged(host: &Host) -> String {
    host.corten(["images", "-q", "--filter", "dangling=true"]).ok()
}

#[test]
fn files_come_into_a_directory_and_what_was_there_stays() {
    let host = Host::with_busybox();
    let folder = folder(&host, "files", TEXT);
    let dest = folder.join("dest");
    fs::create_dir_all(dest.join("out")).expect("a directory");
    fs::write(dest.join("out/mine"), "mine").expect("a file");
    fs::write(dest.join("out/a"), "old").expect("a file");
    done(build(&host, &folder, &["-o", "dest"]).run());
    let read = |name: &str| fs::read_to_string(dest.join(name)).expect(name);
    assert_eq!((read("out/a").as_str(), read("out/deep/b").as_str()), ("one\n", "two\n"));
    assert_eq!((read("out/mine").as_str(), read("Dockerfile").as_str()), ("mine", TEXT));
    assert_eq!(fs::read_link(dest.join("out/link")).expect("a link").to_str(), Some("a"));
    let stat = |name: &str| fs::metadata(dest.join(name)).expect(name);
    assert_eq!(stat("out/a").ino(), stat("out/twin").ino());
    assert_eq!(stat("out/deep").permissions().mode() & 0o7777, 0o750);
    // Nothing is left in the engine but what its cache has.
    assert_eq!(untagged(&host), "");
}

#[test]
fn who_is_not_root_has_closed_directories_as_well() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS made\nRUN mkdir -p /out/shut/deep && echo one >/out/shut/a && echo two >/out/shut/deep/b && \\\n\
        chmod 0400 /out/shut/a && chmod 0311 /out/shut/deep && chmod 0555 /out/shut\nFROM scratch\nCOPY --from=made /out /\n";
    let folder = folder(&host, "closed", text);
    // Root without what lets it write everywhere.
    let build = || {
        let mut client = Cmd::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .args([kit::binary()])
            .args(["build", "--network", "none", "-o", "dest", "."])
            .current_dir(&folder);
        for (name, value) in host.environment() {
            client = client.env(&name, &value);
        }
        done(client.run());
        let mode = |name: &str| {
            let stat = fs::metadata(folder.join("dest").join(name)).expect(name);
            stat.permissions().mode() & 0o7777
        };
        assert_eq!((mode("shut"), mode("shut/deep"), mode("shut/a")), (0o555, 0o311, 0o400));
        assert_eq!(fs::read_to_string(folder.join("dest/shut/deep/b")).expect("a file"), "two\n");
    };
    build();
    // Over what is there already.
    fs::write(folder.join("dest/shut/deep/b"), "other").expect("a file");
    fs::set_permissions(folder.join("dest/shut/deep"), fs::Permissions::from_mode(0o755)).expect("open it");
    build();
}

#[test]
fn archives_come_whole_or_not_at_all() {
    let host = Host::with_busybox();
    let folder = folder(&host, "archives", TEXT);
    done(build(&host, &folder, &["-o", "type=tar,dest=files.tar"]).run());
    let listed = Cmd::new("tar").args(["-tvf", &folder.join("files.tar").display().to_string()]).ok();
    for words in ["out/a", "out/link -> a", "out/deep/b", "Dockerfile"] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    // On standard output, with nothing else.
    let piped = done(build(&host, &folder, &["-o", "type=tar,dest=-"]).run());
    assert!(piped.stdout.contains("ustar"), "{}", piped.stdout.len());
    for (kind, name) in [("oci", "a:1"), ("docker", "b:1")] {
        let dest = format!("type={kind},dest={kind}.tar");
        done(build(&host, &folder, &["-t", name, "-o", &dest]).run());
        // It is not in the engine before it is loaded.
        host.corten(["image", "inspect", name]).fails(1, name);
        let archive = folder.join(format!("{kind}.tar")).display().to_string();
        host.corten(["load", "-i", &archive]).ok();
        host.corten(["image", "inspect", name]).ok();
    }
    let failing = format!("{TEXT}COPY nothing /\n");
    fs::write(folder.join("Dockerfile"), failing).expect("a file");
    assert_ne!(build(&host, &folder, &["-o", "type=tar,dest=never.tar"]).run().code, 0);
    let left: Vec<_> =
        fs::read_dir(&folder).expect("a directory").map(|one| one.expect("one").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("never")), "{left:?}");
    for (output, words) in [
        ("type=estargz", "estargz"),
        ("type=local", "dest is required"),
        ("dest=x", "type is required"),
        ("type=image,compression=estargz", "compression=estargz"),
    ] {
        let output = build(&host, &folder, &["-o", output]).run();
        assert!(output.code != 0 && output.stderr.contains(words), "{output}");
    }
    assert_eq!(untagged(&host), "");
}

#[test]
fn an_image_is_pushed_compressed_and_remarked() {
    let host = Host::with_busybox();
    let registry = Registry::start();
    let folder = folder(&host, "pushed", TEXT);
    let name = format!("{}/team/app:1", registry.host());
    let output = "type=image,push=true,store=false,compression=zstd,oci-mediatypes=true";
    let metadata = folder.join("metadata.json");
    let remarked = ["--annotation", "org.example.one=1", "--metadata-file", "metadata.json"];
    done(build(&host, &folder, &[&["-t", &name, "-o", output], &remarked[..]].concat()).run());
    let raw = |name: &str| -> Value {
        let name = format!("docker://{name}");
        let text = Cmd::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]).ok();
        serde_json::from_str(&text).expect("a manifest")
    };
    let manifest = raw(&name);
    assert_eq!(manifest["annotations"]["org.example.one"], "1", "{manifest}");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let told = json(&metadata);
    assert_eq!(told["containerimage.descriptor"]["digest"], told["containerimage.digest"]);
    assert_eq!(told["containerimage.config.digest"], manifest["config"]["digest"]);
    assert_eq!(told["image.name"], name);
    host.corten(["image", "inspect", &name]).fails(1, "No such image");
    // By digest alone there is no tag.
    let bare = format!("{}/team/bare", registry.host());
    let output = format!("type=image,name={bare},push=true,push-by-digest=true,store=false");
    done(build(&host, &folder, &["-o", &output, "--metadata-file", "metadata.json"]).run());
    let digest = json(&metadata)["containerimage.digest"].as_str().expect("a digest").to_owned();
    raw(&format!("{bare}@{digest}"));
    let tagged =
        Cmd::new("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{bare}:latest")]);
    assert_ne!(tagged.run().code, 0);
    // `--push` alone keeps it in the engine as well; several places are several places.
    done(build(&host, &folder, &["-t", &name, "--push", "-o", "both"]).run());
    let id = host.corten(["image", "inspect", "-f", "{{.Id}}", &name]).ok();
    assert!(id.starts_with("sha256:") && folder.join("both/out/a").exists());
}

#[test]
fn times_can_be_what_was_said() {
    let host = Host::with_busybox();
    let folder = folder(&host, "times", TEXT);
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let output = "type=image,name=timed:1,rewrite-timestamp=true";
            let args = ["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", output];
            done(build(&host, &folder, &args).run());
            host.corten(["image", "inspect", "-f", "{{.Id}}", "timed:1"]).ok()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn statements_lie_beside_files_and_images() {
    let host = Host::with_busybox();
    let folder = folder(&host, "stated", TEXT);
    done(build(&host, &folder, &["-o", "dest", "--provenance", "mode=max", "--sbom", "true"]).run());
    let provenance = json(&folder.join("dest/provenance.json"));
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v0.2");
    let names: Vec<&str> = provenance["subject"]
        .as_array()
        .expect("subjects")
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect();
    assert!(names.contains(&"out/deep/b"), "{names:?}");
    assert!(provenance["predicate"]["buildConfig"]["llbDefinition"].is_array());
    assert_eq!(json(&folder.join("dest/sbom.spdx.json"))["predicateType"], "https://spdx.dev/Document");
    let v1 = ["-t", "stated:1", "--attest", "type=provenance,version=v1"];
    done(build(&host, &folder, &v1).run());
    host.corten(["image", "inspect", "stated:1"]).ok();
    let output = build(&host, &folder, &["--attest", "type=sbom,generator=some/scanner"]).run();
    assert!(output.code != 0 && output.stderr.contains("generator=some/scanner"), "{output}");
}

#[test]
fn caches_go_and_come() {
    let registry = Registry::start();
    let reference = format!("{}/team/cache:1", registry.host());
    let said = |more: &[&str]| {
        let host = Host::with_busybox();
        let folder = folder(&host, "cached", "FROM busybox\nRUN echo said it\n");
        let output = done(build(&host, &folder, more).run());
        output.stderr.lines().any(|line| line.ends_with(" said it") && !line.contains("RUN"))
    };
    let to = format!("type=registry,ref={reference},mode=max");
    assert!(said(&["-o", "type=cacheonly", "--cache-to", &to]));
    assert!(!said(&["--cache-from", &reference]));
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path().display().to_string();
    assert!(said(&["-o", "type=cacheonly", "--cache-to", &format!("type=local,dest={place}")]));
    assert!(!said(&["--cache-from", &format!("type=local,src={place}")]));
    assert!(said(&["--cache-from", &format!("type=local,src={place}/nothing")]));
    let host = Host::with_busybox();
    let folder = folder(&host, "refused", "FROM busybox\n");
    for kind in ["gha", "s3", "azblob"] {
        for flag in ["--cache-from", "--cache-to"] {
            let output = build(&host, &folder, &[flag, &format!("type={kind}")]).run();
            assert!(
                output.code != 0 && output.stderr.contains(&format!("{kind} is not implemented")),
                "{output}"
            );
        }
    }
}

#[test]
fn what_needs_another_machine_is_told_before_anything_runs() {
    let host = Host::with_busybox();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    let folder = folder(&host, "machines", text);
    done(build(&host, &folder, &["-t", "other:1", "--platform", "linux/arm64"]).run());
    let text = "FROM other:1\nRUN echo ran\n";
    fs::write(folder.join("Dockerfile"), text).expect("a file");
    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        return;
    }
    let output = build(&host, &folder, &["--platform", "linux/arm64"]).run();
    assert!(output.code != 0 && output.stderr.contains("it needs linux/arm64"), "{output}");
}

/// What is exported by default has no layers of other stages, and saves making them all the same.
#[test]
fn stages_of_which_a_cache_has_the_result_alone_are_not_made() {
    let registry = Registry::start();
    let text = "FROM busybox AS tool\nCOPY own /src/own\nRUN echo ran the tool; cat /proc/sys/kernel/random/uuid >/u\n\
        FROM busybox AS linked\nRUN --mount=type=bind,target=/src echo ran linked; cat /src/own /proc/uptime >/l\n\
        FROM busybox\nCOPY --from=tool /u /\nCOPY --link --from=linked /l /\nRUN echo ran the last; cat /u /l >/both\n";
    for kind in ["local", "registry", "inline"] {
        let (first, second) = (Host::with_busybox(), Host::with_busybox());
        let place = first.root().join("kept").display().to_string();
        let name = format!("{}/team/{kind}:1", registry.host());
        let (to, from) = match kind {
            "local" => (format!("type=local,dest={place}"), format!("type=local,src={place}")),
            "registry" => {
                (format!("type=registry,ref={name}-cache"), format!("type=registry,ref={name}-cache"))
            }
            _ => ("type=inline".to_owned(), name.clone()),
        };
        let said = |host: &Host, own: &str, more: &[&str]| {
            let folder = folder(host, "stages", text);
            fs::write(folder.join("own"), own).expect("a file");
            let said = done(build(host, &folder, more).env("BUILDKIT_PROGRESS", "plain").run()).stderr;
            let ran = |words: &str| said.lines().any(|line| line.ends_with(words) && !line.contains("echo"));
            (ran(" ran the tool"), ran(" ran linked"), ran(" ran the last"))
        };
        let all = (true, true, true);
        assert_eq!(said(&first, "a", &["-t", &name, "--push", "--cache-to", &to]), all, "{kind}");
        let show =
            |host: &Host| host.corten(["run", "--rm", "--network", "none", &name, "cat", "/both"]).ok();
        let made = show(&first);
        assert_eq!(
            said(&second, "a", &["-t", &name, "--cache-from", &from]),
            (false, false, false),
            "{kind}"
        );
        assert_eq!(show(&second), made, "{kind}");
        // The cache goes on from there.
        let next = first.root().join("next").display().to_string();
        let to = format!("type=local,dest={next}");
        let again = said(&second, "a", &["--cache-from", &from, "--cache-to", &to]);
        assert_eq!(again, (false, false, false), "{kind}");
        second.corten(["builder", "prune", "-af"]).ok();
        second.corten(["rmi", "-f", &name]).ok();
        let from_next = format!("type=local,src={next}");
        assert_eq!(said(&second, "a", &["--cache-from", &from_next]), (false, false, false), "{kind}");
        // What has changed is made, and what comes of it; what is to be made anew too.
        second.corten(["builder", "prune", "-af"]).ok();
        assert_eq!(said(&second, "b", &["--cache-from", &from]), all, "{kind}");
        second.corten(["builder", "prune", "-af"]).ok();
        let anew = said(&second, "a", &["--cache-from", &from, "--no-cache-filter", "tool"]);
        assert_eq!((anew.0, anew.2), (true, true), "{kind}");
    }
}
