//! Only what is signed is pulled, where the administrator says so. Signatures are cosign's, made here by OpenSSL: Debian's tools cannot.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use kit::fixtures::{self, Image, Layout};
use kit::registry::Registry;
use kit::{CLIS, Cli, Host};
use serde_json::json;

struct Signer {
    folder: tempfile::TempDir,
}

impl Signer {
    fn new(host_of_tools: &Host) -> Self {
        let signer = Self { folder: tempfile::tempdir().expect("make a folder") };
        for name in ["own", "other"] {
            let (key, public) = (signer.path(name), signer.path(&format!("{name}.pub")));
            let args = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"].map(PathBuf::from);
            host_of_tools.program("openssl", args.into_iter().chain([key.clone()])).ok();
            let args = ["ec".into(), "-pubout".into(), "-in".into(), key, "-out".into(), public];
            host_of_tools.program("openssl", args.map(|arg: PathBuf| arg)).ok();
        }
        signer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Says in a registry, signed, that an image of it is called `identity`.
    fn sign(&self, host: &Host, repository: &str, digest: &str, identity: &str) {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": identity},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string().into_bytes();
        let (file, signature) = (self.path("payload"), self.path("signature"));
        fs::write(&file, &payload).expect("write");
        let args = [
            "dgst".into(),
            "-sha256".into(),
            "-sign".into(),
            self.path("own"),
            "-out".into(),
            signature.clone(),
            file,
        ];
        host.program("openssl", args.map(|arg: PathBuf| arg)).ok();
        let signature = fs::read(signature).expect("read the signature");
        let signature = base64::engine::general_purpose::STANDARD.encode(signature);
        let layout = tempfile::tempdir().expect("make a folder");
        let blobs = layout.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("make a folder");
        let put = |bytes: &[u8]| {
            let digest = fixtures::digest(bytes);
            fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).expect("write");
            json!({"digest": digest, "size": bytes.len()})
        };
        let with = |mut descriptor: serde_json::Value, more: serde_json::Value| {
            for (name, value) in more.as_object().expect("an object") {
                descriptor[name] = value.clone();
            }
            descriptor
        };
        let layer = with(
            put(&payload),
            json!({
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "annotations": {"dev.cosignproject.cosign/signature": signature},
            }),
        );
        let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = with(
            put(config.to_string().as_bytes()),
            json!({"mediaType": "application/vnd.oci.image.config.v1+json"}),
        );
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let manifest = with(put(manifest.to_string().as_bytes()), json!({"mediaType": kind}));
        fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.path().join("index.json"), index.to_string()).expect("write");
        let to = format!("docker://{repository}:{}.sig", digest.replace(':', "-"));
        let from = format!("oci:{}", layout.path().display());
        host.program("skopeo", ["copy", "-q", "--dest-tls-verify=false", &from, &to]).ok();
    }
}

fn policy(signer: &Signer, scope: &str, key: &str, identity: &str) -> PathBuf {
    let path = signer.path("policy.json");
    write_policy(&path, scope, &signer.path(key), identity);
    path
}

fn write_policy(path: &Path, scope: &str, key: &Path, identity: &str) {
    let signed = serde_json::json!({
        "type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": identity},
    });
    let policy = serde_json::json!({
        "default": [{"type": "insecureAcceptAnything"}],
        "transports": {"docker": {scope: [signed]}},
    });
    fs::write(path, policy.to_string()).expect("write the policy");
}

fn small(seed: u64) -> Layout {
    Layout::new(&[Image::new(vec![fixtures::noise_layer(1000, seed)], serde_json::json!({"Cmd": ["true"]}))])
}

#[test]
fn only_what_is_signed_is_pulled() {
    let registry = Registry::start();
    let tools = Host::stopped(&[]);
    let signer = Signer::new(&tools);
    let scope = format!("{}/team", registry.host());
    let path = policy(&signer, &scope, "own.pub", "matchRepoDigestOrExact");
    let host = Host::with_flags(&["--signature-policy", &path.display().to_string()]);
    let unsigned = registry.push(&small(1), "team/app:plain");
    let free = registry.push(&small(1), "free/app:1");
    let signed = registry.push(&small(1), "team/app:1");
    signer.sign(&host, &format!("{scope}/app"), &small(1).digest, &signed);
    let moved = registry.push(&small(2), "team/app:2");
    for cli in CLIS {
        host.cli(cli, ["pull", "-q", &free]).ok();
        host.cli(cli, ["pull", "-q", &signed]).ok();
        host.cli(cli, ["run", "--rm", "--network", "none", "--pull", "always", &moved])
            .fails(125, "it has no signature");
        // The same image by another tag: the signature is there, and is for another name.
        host.cli(cli, ["pull", &unsigned]).fails(1, &format!("what was signed is called \"{signed}\""));
        // By digest any tag of the repository will do.
        let by_digest = format!("{}/team/app@{}", registry.host(), small(1).digest);
        host.cli(cli, ["pull", "-q", &by_digest]).ok();
        host.cli(cli, ["rmi", "-f", &signed, &free, &by_digest]).ok();
    }
    // What the policy says counts from the next pull on.
    let words = format!("{signed} may not be pulled by the policy {}: ", path.display());
    write_policy(&path, &scope, &signer.path("other.pub"), "matchRepoDigestOrExact");
    let output = host.corten(["pull", &signed]).fails(1, "none of its signatures is by a key that is wanted");
    assert!(output.stderr.contains(&words), "{}", output.stderr);
    write_policy(&path, &scope, &signer.path("own.pub"), "matchRepository");
    host.corten(["pull", "-q", &unsigned]).ok();
    fs::write(&path, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    host.corten(["pull", &free]).fails(1, "it is rejected there");
    fs::write(&path, "{").unwrap();
    host.corten(["pull", &free]).fails(1, &format!("cannot use {}", path.display()));
    fs::remove_file(&path).unwrap();
    host.corten(["pull", &free]).fails(1, "No such file");
}

#[test]
fn a_build_is_on_what_is_signed_as_well() {
    let registry = Registry::start();
    let tools = Host::stopped(&[]);
    let signer = Signer::new(&tools);
    let scope = format!("{}/team", registry.host());
    let path = policy(&signer, &scope, "own.pub", "matchRepoDigestOrExact");
    let host = Host::with_flags(&["--signature-policy", &path.display().to_string()]);
    let signed = registry.push(&small(1), "team/app:1");
    signer.sign(&host, &format!("{scope}/app"), &small(1).digest, &signed);
    let moved = registry.push(&small(2), "team/app:2");
    let folder = host.root().join("folder");
    fs::create_dir_all(&folder).expect("make a folder");
    for (base, is_allowed) in [(&moved, false), (&signed, true)] {
        for text in [format!("FROM {base}\nLABEL a=b\n"), format!("FROM scratch\nCOPY --from={base} / /\n")] {
            fs::write(folder.join("Dockerfile"), text).expect("write");
            for cli in CLIS {
                let args = ["build", "-q", "--no-cache", "."];
                let built = host.cli(cli, args).env("DOCKER_BUILDKIT", "0").current_dir(&folder).run();
                assert_eq!(built.code == 0, is_allowed, "{built}");
                assert!(is_allowed || built.stderr.contains("it has no signature"), "{built}");
            }
            let built = host.corten(["build", "--no-cache", "."]).current_dir(&folder).run();
            assert_eq!(built.code == 0, is_allowed, "{built}");
            host.corten(["image", "prune", "-af"]).ok();
        }
    }
}

#[test]
fn a_signature_that_was_moved_to_another_image_is_none() {
    let registry = Registry::start();
    let tools = Host::stopped(&[]);
    let signer = Signer::new(&tools);
    let scope = registry.host();
    let path = policy(&signer, &scope, "own.pub", "matchRepository");
    let host = Host::with_flags(&["--signature-policy", &path.display().to_string()]);
    let signed = registry.push(&small(1), "app:1");
    signer.sign(&host, &format!("{scope}/app"), &small(1).digest, &signed);
    let bad = registry.push(&small(2), "app:bad");
    // As whoever can write to the registry could: the signature of the one beside the other.
    let tag =
        |layout: &Layout| format!("docker://{}/app:{}.sig", registry.host(), layout.digest.replace(':', "-"));
    let copy =
        ["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"].map(str::to_owned).to_vec();
    host.program("skopeo", [copy, vec![tag(&small(1)), tag(&small(2))]].concat()).ok();
    host.corten(["pull", &bad]).fails(1, "what was signed is another image");
    host.corten(["pull", "-q", &signed]).ok();
}

#[test]
fn an_index_and_what_is_in_it() {
    let registry = Registry::start();
    let tools = Host::stopped(&[]);
    let signer = Signer::new(&tools);
    let path = policy(&signer, &registry.host(), "own.pub", "matchRepository");
    let host = Host::with_flags(&["--signature-policy", &path.display().to_string()]);
    let image = |seed, architecture: &str| {
        let mut image =
            Image::new(vec![fixtures::noise_layer(1000, seed)], serde_json::json!({"Cmd": ["true"]}));
        image.architecture = architecture.to_owned();
        image
    };
    let layout = Layout::new(&[image(1, "amd64"), image(2, "arm64")]);
    let plain = registry.push(&layout, "both:1");
    host.corten(["pull", &plain]).fails(1, "it has no signature");
    signer.sign(&host, &format!("{}/both", registry.host()), &layout.digest, &plain);
    let signed = plain;
    for cli in [Cli::Corten, Cli::Docker] {
        host.cli(cli, ["pull", "-q", &signed]).ok();
        host.cli(cli, ["pull", "-q", "--platform", "linux/arm64", &signed]).ok();
        host.cli(cli, ["rmi", &signed]).ok();
    }
}
