//! What a build gives out, asked for by Compose's own client of BuildKit's API: pushes, caches, statements, several platforms.

use std::fs;

use kit::registry::Registry;
use kit::{Cli, Cmd, Host, compose};
use serde_json::Value;

/// A host that has Compose and an image to build on; none where it is not to be had.
fn host() -> Option<Host> {
    let host = Host::with_busybox();
    compose::install(&host).then_some(host)
}

/// A project of one service, with a Dockerfile.
fn project<'a>(host: &'a Host, name: &str, service: &str, dockerfile: &str) -> compose::Project<'a> {
    let project = compose::Project::new(host, name, &format!("services:\n  it:\n{service}"));
    fs::write(project.folder().join("Dockerfile"), dockerfile).expect("write a file");
    project
}

/// What a build says, on both outputs.
fn build(project: &compose::Project<'_>, args: &[&str]) -> String {
    let output = project.compose(Cli::Corten, &[&["build"], args].concat()).run();
    output.expect_code(0);
    format!("{}{}", output.stdout, output.stderr)
}

/// What skopeo finds at a registry under a name.
fn raw(name: &str) -> Value {
    let name = format!("docker://{name}");
    let output = Cmd::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]).ok();
    serde_json::from_str(&output).expect("a manifest")
}

/// A document that an index at a registry names.
fn document(registry: &Registry, digest: &Value) -> Value {
    let bytes = fs::read(registry.blob(digest.as_str().expect("a digest"))).expect("a blob");
    serde_json::from_slice(&bytes).expect("JSON")
}

const STEPS: &str = "FROM busybox AS tool\nRUN echo tool > /tool && echo ran the tool\n\
                     FROM busybox\nCOPY --from=tool /tool /tool\nRUN echo more > /more && echo ran more\nRUN true\n";

#[test]
fn an_image_is_pushed_by_the_build() {
    let Some(host) = host() else { return };
    let registry = Registry::start();
    let name = format!("{}/team/app:1", registry.host());
    let service = format!("    image: {name}\n    build: {{context: ., network: none, provenance: false}}\n");
    let project = project(&host, "pushed", &service, STEPS);
    build(&project, &["--push"]);
    let manifest = raw(&name);
    assert_eq!(manifest["layers"].as_array().expect("layers").len(), 3, "{manifest}");
    let id = host.corten(["image", "inspect", "-f", "{{.Id}}", &name]).ok();
    let digest = Cmd::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")])
        .ok();
    assert_eq!(id, digest);
}

#[test]
fn a_second_engine_finds_what_the_first_has_exported() {
    for kind in ["registry", "local", "inline"] {
        let (Some(first), Some(second)) = (host(), host()) else { return };
        let registry = Registry::start();
        let image = format!("{}/team/app:1", registry.host());
        let reference = format!("{}/team/cache:1", registry.host());
        let place = first.root().join("cache").display().to_string();
        let (to, from) = match kind {
            "registry" => {
                (format!("type=registry,ref={reference},mode=max"), format!("type=registry,ref={reference}"))
            }
            "local" => (format!("type=local,dest={place},mode=max"), format!("type=local,src={place}")),
            _ => ("type=inline".to_owned(), format!("type=registry,ref={image}")),
        };
        let service = |cache: String| {
            format!("    image: {image}\n    build:\n      context: .\n      network: none\n      {cache}\n")
        };
        let to = project(&first, "first", &service(format!("cache_to: ['{to}']")), STEPS);
        let said = build(&to, &["--push"]);
        assert!(said.lines().any(|line| line.ends_with(" ran the tool")), "{kind}: {said}");
        let from = project(&second, "second", &service(format!("cache_from: ['{from}']")), STEPS);
        let said = build(&from, &[]);
        // What is inline has the layers of the result's own steps alone; the others are not made where nothing needs them.
        let ran = |words: &str| said.lines().any(|line| line.ends_with(words) && !line.contains("echo"));
        assert!(!ran(" ran more"), "{kind}: {said}");
        assert!(!ran(" ran the tool"), "{kind}: {said}");
        let show = |host: &Host| {
            host.corten(["run", "--rm", "--network", "none", &image, "cat", "/tool", "/more"]).ok()
        };
        assert_eq!(show(&second), "tool\nmore");
        assert_eq!(show(&first), "tool\nmore");
    }
}

#[test]
fn a_cache_that_is_none_is_passed_over() {
    let Some(host) = host() else { return };
    let registry = Registry::start();
    host.corten(["tag", "busybox", &format!("{}/no/cache:1", registry.host())]).ok();
    host.corten(["push", "-q", &format!("{}/no/cache:1", registry.host())]).ok();
    let service = format!(
        "    build:\n      context: .\n      network: none\n      cache_from: ['{0}/no/cache:1', '{0}/nothing/there:1']\n",
        registry.host()
    );
    let project = project(&host, "none", &service, STEPS);
    let said = build(&project, &[]);
    assert!(said.contains("importing cache manifest from"), "{said}");
}

#[test]
fn what_is_stated_of_an_image_lies_beside_it() {
    let Some(host) = host() else { return };
    let registry = Registry::start();
    let name = format!("{}/team/app:1", registry.host());
    let dockerfile = "FROM busybox\nARG WORD\nRUN mkdir -p /var/lib/dpkg && \
        printf 'Package: tool\\nStatus: install ok installed\\nVersion: 1:2\\nArchitecture: all\\n' > /var/lib/dpkg/status\n";
    let service = format!(
        "    image: {name}\n    build:\n      context: .\n      network: none\n      args: {{WORD: said}}\n      provenance: mode=max\n      sbom: true\n"
    );
    let project = project(&host, "stated", &service, dockerfile);
    build(&project, &["--push"]);
    let index = raw(&name);
    let entries = index["manifests"].as_array().expect("an index");
    assert_eq!(entries.len(), 2, "{index}");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.digest"], entries[0]["digest"]);
    assert_eq!(entries[1]["platform"]["os"], "unknown");
    let manifest = document(&registry, &entries[1]["digest"]);
    let mut found = Vec::new();
    for layer in manifest["layers"].as_array().expect("statements") {
        let statement = document(&registry, &layer["digest"]);
        assert_eq!(statement["predicateType"], layer["annotations"]["in-toto.io/predicate-type"]);
        let subject =
            entries[0]["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
        assert_eq!(statement["subject"][0]["digest"]["sha256"], subject, "{statement}");
        found.push(statement["predicateType"].as_str().expect("a type").to_owned());
        let predicate = &statement["predicate"];
        if statement["predicateType"] == "https://spdx.dev/Document" {
            assert_eq!(predicate["packages"][0]["name"], "tool", "{predicate}");
            assert_eq!(predicate["packages"][0]["versionInfo"], "1:2");
        } else {
            let parameters = &predicate["invocation"]["parameters"];
            assert_eq!(parameters["args"]["build-arg:WORD"], "said", "{predicate}");
            assert!(predicate["materials"][0]["uri"].as_str().expect("a URI").contains("busybox"));
            assert!(predicate["metadata"]["buildStartedOn"].is_string());
        }
    }
    assert_eq!(found.len(), 2, "{found:?}");
    // The engine runs it, and shows what is stated.
    host.corten(["run", "--rm", "--network", "none", &name, "true"]).ok();
    // What nobody has asked for says no times: the same is the same image again.
    let service = "    image: plain:1\n    build: {context: ., network: none}\n";
    let plain = self::project(&host, "plain", service, dockerfile);
    let ids: Vec<String> = (0..2)
        .map(|_| {
            build(&plain, &[]);
            host.corten(["image", "inspect", "-f", "{{.Id}}", "plain:1"]).ok()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn several_platforms_are_one_index() {
    let Some(host) = host() else { return };
    let service = "    image: several:1\n    build:\n      context: .\n      network: none\n      provenance: false\n      platforms: [linux/amd64, linux/arm64]\n";
    let copies = "FROM --platform=$BUILDPLATFORM busybox AS tool\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n\
                  FROM scratch\nCOPY --from=tool /arch /arch\n";
    let project = project(&host, "several", service, copies);
    let said = build(&project, &[]);
    assert!(said.contains("linux/arm64 tool 2/2]"), "{said}");
    let archive = host.root().join("several.tar").display().to_string();
    host.corten(["save", "-o", &archive, "several:1"]).ok();
    let listed = Cmd::new("tar").args(["-xOf", &archive, "index.json"]).ok();
    let index: Value = serde_json::from_str(&listed).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest").replace(':', "/");
    let inner = Cmd::new("tar").args(["-xOf", &archive, &format!("blobs/{digest}")]).ok();
    let inner: Value = serde_json::from_str(&inner).expect("JSON");
    let platforms: Vec<&str> = inner["manifests"]
        .as_array()
        .expect("an index")
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().expect("an architecture"))
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
}
