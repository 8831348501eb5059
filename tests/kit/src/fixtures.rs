//! Images made for tests: layers entry by entry, packed as asked, written as OCI layouts.
//!
//! Everything is deterministic (times are zero), so the same fixture has the same digest in every run.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Bytes as they were before gzip, if it was used on them.
pub fn gunzipped(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.into();
    }
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain)
        .expect("gunzip in memory");
    plain.into()
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A directory.
    Dir(String, u32),
    /// A regular file: path, mode, content.
    File(String, u32, Vec<u8>),
    /// A file with an extended attribute: path, name, value.
    Xattr(String, String, Vec<u8>),
    /// A symbolic link: path, target.
    Symlink(String, String),
    /// A hard link: path, target.
    Link(String, String),
    /// Removes what lower layers have at this path.
    Whiteout(String),
    /// Hides what lower layers have in this directory.
    Opaque(String),
    /// A character device: path, major, minor.
    Device(String, u32, u32),
    /// A named pipe.
    Fifo(String),
    /// A file that belongs to somebody: path, user, group.
    Owned(String, u64, u64),
}

impl Entry {
    /// A directory that everybody can read.
    pub fn dir(path: &str) -> Self {
        Self::Dir(path.into(), 0o755)
    }

    /// A file that everybody can read.
    pub fn file(path: &str, content: impl AsRef<[u8]>) -> Self {
        Self::File(path.into(), 0o644, content.as_ref().to_vec())
    }

    /// A program that everybody can run.
    pub fn program(path: &str, content: impl AsRef<[u8]>) -> Self {
        Self::File(path.into(), 0o755, content.as_ref().to_vec())
    }

    /// A symbolic link.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::Symlink(path.into(), target.into())
    }
}

/// The name is written as it is: the `tar` crate's own setter would refuse the names an attacker chooses.
fn set_path(header: &mut tar::Header, path: &str) {
    let name = &mut header.as_old_mut().name;
    assert!(path.len() < name.len(), "fixture paths are short");
    name[..path.len()].copy_from_slice(path.as_bytes());
}

fn set_link(header: &mut tar::Header, target: &str) {
    let name = &mut header.as_old_mut().linkname;
    assert!(target.len() < name.len(), "fixture targets are short");
    name[..target.len()].copy_from_slice(target.as_bytes());
}

/// An uncompressed layer of these entries, in this order.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        let mut data: &[u8] = &[];
        match entry {
            Entry::Dir(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                set_path(&mut header, path);
            }
            Entry::File(path, mode, content) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                set_path(&mut header, path);
                data = content;
            }
            Entry::Xattr(path, name, value) => {
                builder
                    .append_pax_extensions([(format!("SCHILY.xattr.{name}").as_str(), value.as_slice())])
                    .expect("a PAX header in memory");
                set_path(&mut header, path);
            }
            Entry::Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                set_path(&mut header, path);
                set_link(&mut header, target);
            }
            Entry::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                set_path(&mut header, path);
                set_link(&mut header, target);
            }
            Entry::Whiteout(path) => {
                let (dir, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(d, n)| (d, n));
                let slash = if dir.is_empty() { "" } else { "/" };
                set_path(&mut header, &format!("{dir}{slash}.wh.{name}"));
            }
            Entry::Opaque(dir) => set_path(&mut header, &format!("{dir}/.wh..wh..opq")),
            Entry::Device(path, major, minor) => {
                header.set_entry_type(tar::EntryType::Char);
                header.set_device_major(*major).expect("ustar has devices");
                header.set_device_minor(*minor).expect("ustar has devices");
                set_path(&mut header, path);
            }
            Entry::Fifo(path) => {
                header.set_entry_type(tar::EntryType::Fifo);
                set_path(&mut header, path);
            }
            Entry::Owned(path, uid, gid) => {
                header.set_uid(*uid);
                header.set_gid(*gid);
                set_path(&mut header, path);
            }
        }
        header.set_cksum();
        builder.append(&header, data).expect("an entry in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A layer as it lies in a registry.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The digest of its uncompressed bytes.
    pub diff_id: String,
    /// Its media type.
    pub media_type: &'static str,
}

impl Layer {
    /// A layer of these entries.
    pub fn new(entries: &[Entry], packing: Packing) -> Self {
        Self::of_tar(&tar(entries), packing)
    }

    /// A layer of an archive that exists.
    pub fn of_tar(tar: &[u8], packing: Packing) -> Self {
        let (bytes, media_type) = match packing {
            Packing::Plain => (tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(tar).expect("gzip in memory");
                (encoder.finish().expect("gzip in memory"), "application/vnd.oci.image.layer.v1.tar+gzip")
            }
            Packing::Zstd => (
                zstd::encode_all(tar, 1).expect("zstd in memory"),
                "application/vnd.oci.image.layer.v1.tar+zstd",
            ),
        };
        Self { bytes, diff_id: digest(tar), media_type }
    }

    /// Its digest.
    pub fn digest(&self) -> String {
        digest(&self.bytes)
    }
}

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// Kind of processor, in Go's words.
    pub architecture: String,
    /// Layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The `config` object of the configuration: `Cmd`, `Env` …
    pub config: Value,
}

/// This machine's kind of processor, in Go's words.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Image {
    /// An image for this machine.
    pub fn new(layers: Vec<Layer>, config: Value) -> Self {
        Self { architecture: host_architecture().into(), layers, config }
    }

    /// The configuration's bytes.
    pub fn config_bytes(&self) -> Vec<u8> {
        let history: Vec<Value> = self
            .layers
            .iter()
            .enumerate()
            .map(|(n, _)| json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("layer {n}")}))
            .collect();
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        serde_json::to_vec(&json!({
            "created": "2024-01-01T00:00:00Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        }))
        .expect("JSON in memory")
    }

    /// The manifest's bytes.
    pub fn manifest_bytes(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                json!({"mediaType": layer.media_type, "digest": layer.digest(), "size": layer.bytes.len()})
            })
            .collect();
        serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config),
                "size": config.len(),
            },
            "layers": layers,
        }))
        .expect("JSON in memory")
    }
}

/// An OCI layout on disk; with one image its tag leads to a manifest, with several to an index.
#[derive(Debug)]
pub struct Layout {
    dir: tempfile::TempDir,
    /// The digest of the manifest or index.
    pub digest: String,
    /// The digest of each image's manifest.
    pub manifests: Vec<String>,
}

impl Layout {
    /// Writes these images.
    pub fn new(images: &[Image]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blobs = dir.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("make the layout's folders");
        let put = |bytes: &[u8]| {
            let digest = digest(bytes);
            fs::write(blobs.join(&digest[7..]), bytes).expect("write a blob");
            digest
        };
        let mut entries = Vec::new();
        let mut manifests = Vec::new();
        for image in images {
            for layer in &image.layers {
                put(&layer.bytes);
            }
            put(&image.config_bytes());
            let manifest = image.manifest_bytes();
            let digest = put(&manifest);
            entries.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": manifest.len(),
                "platform": {"os": "linux", "architecture": image.architecture},
            }));
            manifests.push(digest);
        }
        let mut top = match entries.as_slice() {
            [one] => one.clone(),
            several => {
                let index = serde_json::to_vec(&json!({
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "manifests": several,
                }))
                .expect("JSON in memory");
                json!({
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "digest": put(&index),
                    "size": index.len(),
                })
            }
        };
        top["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
        let digest = top["digest"].as_str().expect("a digest").to_owned();
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        fs::write(dir.path().join("index.json"), index.to_string()).expect("write index.json");
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("write oci-layout");
        Self { dir, digest, manifests }
    }

    /// The name that skopeo knows it by.
    pub fn skopeo(&self) -> String {
        format!("oci:{}:it", self.dir.path().display())
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The least that a root filesystem needs.
fn skeleton() -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        ["bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/bin", "var", "home"]
            .map(Entry::dir)
            .to_vec();
    entries.push(Entry::Dir("tmp".into(), 0o1777));
    entries.push(Entry::file(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n",
    ));
    entries.push(Entry::file("etc/group", "root:x:0:\ndaemon:x:1:\nusers:x:100:user\nuser:x:1000:\n"));
    entries
}

/// A busybox with all its applets, from Debian's `busybox-static`.
pub fn busybox() -> Image {
    busybox_for(host_architecture())
}

/// The same, said to be for another architecture: for platform selection, not for running.
pub fn busybox_for(architecture: &str) -> Image {
    let mut entries = busybox_entries();
    entries.push(Entry::file("etc/architecture", architecture));
    let config = json!({
        "Cmd": ["sh"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    let mut image = Image::new(vec![Layer::new(&entries, Packing::Gzip)], config);
    image.architecture = architecture.into();
    image
}

/// A root filesystem with busybox and all its applets.
pub fn busybox_entries() -> Vec<Entry> {
    let program = fs::read("/bin/busybox").expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("run busybox --list");
    let mut entries = skeleton();
    entries.push(Entry::program("bin/busybox", program));
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        entries.push(Entry::symlink(&format!("bin/{applet}"), "/bin/busybox"));
    }
    entries
}

/// busybox in three packings: an uncompressed, a gzip and a zstd layer.
pub fn packings() -> Image {
    let mut image = busybox();
    image.layers.push(Layer::new(&[Entry::file("plain", "plain\n")], Packing::Plain));
    image.layers.push(Layer::new(&[Entry::file("zstd", "zstd\n")], Packing::Zstd));
    image
}

/// busybox under `count` small layers, each of which writes `n` and `file-<n>`.
pub fn many_layers(count: usize) -> Image {
    let mut image = busybox();
    for n in 1..count {
        let entries = [Entry::file("n", n.to_string()), Entry::file(&format!("file-{n}"), n.to_string())];
        image.layers.push(Layer::new(&entries, Packing::Gzip));
    }
    image
}

/// busybox with what layers can say beyond files: hard links, whiteouts, opaque directories, xattrs, owners.
pub fn odd_entries() -> Image {
    let mut image = busybox();
    image.layers.push(Layer::new(
        &[
            Entry::dir("d"),
            Entry::file("d/gone", "lower"),
            Entry::file("d/stays", "lower"),
            Entry::dir("o"),
            Entry::file("o/hidden", "lower"),
            Entry::file("first", "one inode"),
            Entry::Link("second".into(), "first".into()),
            Entry::Xattr("attributed".into(), "user.colour".into(), b"rust".to_vec()),
            Entry::Owned("owned".into(), 1000, 100),
            Entry::Fifo("pipe".into()),
        ],
        Packing::Gzip,
    ));
    image.layers.push(Layer::new(
        &[
            Entry::Whiteout("d/gone".into()),
            Entry::dir("o"),
            Entry::Opaque("o".into()),
            Entry::file("o/shown", "upper"),
        ],
        Packing::Zstd,
    ));
    image
}

/// busybox under one layer of `bytes` bytes that do not compress.
pub fn bulky(bytes: usize) -> Image {
    let mut image = busybox();
    image.layers.push(noise_layer(bytes, 1));
    image
}

/// A layer of one file of bytes that do not compress; another seed, another file.
pub fn noise_layer(bytes: usize, seed: u64) -> Layer {
    // A linear congruential generator is noise enough for gzip.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&(state >> 16).to_le_bytes()[..4]);
    }
    noise.truncate(bytes);
    Layer::new(&[Entry::file(&format!("noise-{seed}"), noise)], Packing::Gzip)
}

/// An archive with one file of this many zeros, packed by zstd to next to nothing.
pub fn zeros_packed(bytes: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(bytes);
    set_path(&mut header, "zeros");
    header.set_cksum();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("zstd in memory");
    encoder.write_all(header.as_bytes()).expect("zstd in memory");
    let zeros = vec![0; 1 << 20];
    let mut left = bytes.next_multiple_of(512) + 1024;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        encoder.write_all(&zeros[..piece]).expect("zstd in memory");
        left -= piece as u64;
    }
    encoder.finish().expect("zstd in memory")
}

/// Where fixtures that take long to make are kept between runs.
pub fn cache() -> PathBuf {
    let dir = std::env::var_os("CORTEN_TEST_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/corten-test"), PathBuf::from);
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    dir
}

/// A real Debian 12 with `ps`, made by mmdebstrap from the archive that this machine's apt is set up for.
pub fn debian() -> Image {
    debian_packed(Packing::Gzip)
}

/// The same packed otherwise.
pub fn debian_packed(packing: Packing) -> Image {
    debian_with("procps", packing)
}

/// A Debian 12 with these packages, separated by commas.
pub fn debian_with(packages: &str, packing: Packing) -> Image {
    let archive = cache().join(format!("debian-12-minbase-{packages}.tar"));
    let lock = fs::File::create(cache().join("debian.lock")).expect("make a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the cache");
    if !archive.exists() {
        let part = archive.with_extension("part.tar");
        let out = Command::new("mmdebstrap")
            .args(["--variant=minbase", "--dpkgopt=path-exclude=/usr/share/doc/*"])
            .arg(format!("--include={packages}"))
            .args(["--mode=root", "bookworm"])
            .arg(&part)
            .stdin(fs::File::open("/dev/null").expect("open /dev/null"))
            .output()
            .expect("run mmdebstrap");
        assert!(out.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&out.stderr));
        fs::rename(&part, &archive).expect("keep the Debian");
    }
    let tar = fs::read(&archive).expect("read the Debian");
    let config = json!({
        "Cmd": ["bash"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    Image::new(vec![Layer::of_tar(&tar, packing)], config)
}
