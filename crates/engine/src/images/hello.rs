//! The image `hello-world` that is part of the program: the first `run` works with no registry in reach.
//!
//! Its one file is an executable put together here from documented bytes: an ELF header, one program header, a few
//! instructions that write a text and end, and the text. Everything is deterministic, so its digests are the same everywhere.

use std::time::Duration;

use oci::image::{Descriptor, ImageConfig, media_type};
use oci::{Digest, Platform, Reference};
use registry::pull::{Event, Pulled, Step};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use storage::{Expected, ImageLayer, Lease, NewImage, PlatformManifest, Store};

use crate::error::{Error, Result};

/// What it says.
const GREETING: &str = "
Hello from Corten!

If you can read this, your installation works. What has just happened:

 1. The command line asked the daemon for a container, and started the daemon if none was there.
 2. The daemon took the image \"hello-world\", which is part of the program: no registry was asked.
 3. It made a container of it: a process with its own view of files, processes, users and network.
 4. That process wrote this text, and your terminal received it.

What to try next:

    corten run -it debian bash        a shell in a Debian system
    corten ps -a                      the containers there are, also the one that said this
    corten run --help                 everything a container can be told

";

/// When the image was made, by its own account: a constant keeps its digest.
const CREATED: &str = "2026-01-01T00:00:00Z";
/// How long its parts are kept until the record stands: it takes milliseconds.
const LEASE_TIME: Duration = Duration::from_secs(600);
/// Where the executable is put in memory, as linkers do.
const ADDRESS: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: u64 = 64 + 56;

/// Whether a reference means this image.
pub(super) fn is_wanted(reference: &Reference) -> bool {
    reference.repository() == "docker.io/library/hello-world"
        && reference.digest().is_none()
        && reference.tag() == Some(oci::reference::DEFAULT_TAG)
}

/// One of the processors it is for.
struct Machine {
    /// In Go's words.
    architecture: &'static str,
    /// ELF's number of it.
    number: u16,
    /// Writes `length` bytes that follow the code to standard output, and ends with 0, or 1 if that fails.
    code: fn(length: u32) -> Vec<u8>,
}

const MACHINES: [Machine; 2] = [
    Machine { architecture: "amd64", number: 62, code: code_x86_64 },
    Machine { architecture: "arm64", number: 183, code: code_aarch64 },
];

fn code_x86_64(length: u32) -> Vec<u8> {
    let mut code = vec![0x48, 0x8d, 0x35, 46, 0, 0, 0]; // lea rsi, [rip + 46]: the text
    code.push(0xba); // mov edx, length
    code.extend(length.to_le_bytes());
    code.extend([0xb8, 1, 0, 0, 0]); // again: mov eax, 1 (write)
    code.extend([0xbf, 1, 0, 0, 0]); // mov edi, 1 (standard output)
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0x48, 0x85, 0xc0]); // test rax, rax
    code.extend([0x7e, 17]); // jle failed
    code.extend([0x48, 0x01, 0xc6]); // add rsi, rax
    code.extend([0x48, 0x29, 0xc2]); // sub rdx, rax
    code.extend([0x75, 0xe7]); // jnz again
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend([0xb8, 60, 0, 0, 0]); // end: mov eax, 60 (exit)
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xbf, 1, 0, 0, 0]); // failed: mov edi, 1
    code.extend([0xeb, 0xf2]); // jmp end
    code
}

fn code_aarch64(length: u32) -> Vec<u8> {
    let words: [u32; 15] = [
        0x1000_01e1,                          // adr x1, text
        0xd280_0002 | (length & 0xffff) << 5, // mov x2, length
        0xd280_0020,                          // again: mov x0, 1 (standard output)
        0xd280_0808,                          // mov x8, 64 (write)
        0xd400_0001,                          // svc 0
        0xf100_001f,                          // cmp x0, 0
        0x5400_00ed,                          // b.le failed
        0x8b00_0021,                          // add x1, x1, x0
        0xeb00_0042,                          // subs x2, x2, x0
        0x54ff_ff21,                          // b.ne again
        0xd280_0000,                          // mov x0, 0
        0xd280_0ba8,                          // end: mov x8, 93 (exit)
        0xd400_0001,                          // svc 0
        0xd280_0020,                          // failed: mov x0, 1
        0x17ff_fffd,                          // b end
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The executable: 64-bit, little endian, one segment that holds the whole file.
fn executable(machine: &Machine) -> Vec<u8> {
    let code = (machine.code)(u32::try_from(GREETING.len()).unwrap_or(0));
    let size = HEADERS + code.len() as u64 + GREETING.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    elf.extend([0; 8]);
    elf.extend(2_u16.to_le_bytes()); // an executable
    elf.extend(machine.number.to_le_bytes());
    elf.extend(1_u32.to_le_bytes()); // version
    elf.extend((ADDRESS + HEADERS).to_le_bytes()); // entry
    elf.extend(64_u64.to_le_bytes()); // program headers
    elf.extend(0_u64.to_le_bytes()); // no sections
    elf.extend(0_u32.to_le_bytes()); // flags
    for half in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes()); // sizes and numbers of headers
    }
    elf.extend(1_u32.to_le_bytes()); // to be loaded
    elf.extend(5_u32.to_le_bytes()); // readable, executable
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1_0000] {
        elf.extend(word.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    elf.extend(code);
    elf.extend(GREETING.as_bytes());
    elf
}

/// The layer: an archive with one file.
fn layer(machine: &Machine) -> Vec<u8> {
    let program = executable(machine);
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, b"hello");
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", program.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend(program);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Everything for one processor.
struct Made {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

fn descriptor(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(kind, digest(bytes), bytes.len() as u64)
}

fn make(machine: &Machine) -> Made {
    let layer = layer(machine);
    let config = json!({
        "created": CREATED,
        "architecture": machine.architecture,
        "os": "linux",
        "config": {"Cmd": ["/hello"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created": CREATED, "created_by": "corten", "comment": "part of the program"}],
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &config),
        "layers": [descriptor(media_type::OCI_LAYER, &layer)],
    })
    .to_string()
    .into_bytes();
    Made { layer, config, manifest }
}

/// The index of all of them.
fn index(all: &[Made]) -> Vec<u8> {
    let manifests: Vec<Descriptor> = MACHINES
        .iter()
        .zip(all)
        .map(|(machine, made)| Descriptor {
            platform: Some(Platform::new("linux", machine.architecture, None)),
            ..descriptor(media_type::OCI_MANIFEST, &made.manifest)
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests})
        .to_string()
        .into_bytes()
}

/// Puts the image for a platform into the store, as a pull would.
pub(super) fn put(store: &Store, platform: Option<&Platform>, tell: &dyn Fn(Event)) -> Result<Pulled> {
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    let all: Vec<Made> = MACHINES.iter().map(make).collect();
    let at = MACHINES
        .iter()
        .position(|machine| wanted.rank(&Platform::new("linux", machine.architecture, None)) == Some(0))
        .ok_or_else(|| {
            let none = oci::Error::NoMatchingPlatform { platform: wanted.to_string() };
            Error::not_found(none.to_string())
        })?;
    let (machine, made, index) = (&MACHINES[at], &all[at], index(&all));
    let lease = store.lease("pull of hello-world", LEASE_TIME)?;
    let id = digest(&index);
    tell(Event::Found(id.clone()));
    store.put_blob(&lease, media_type::OCI_INDEX, &index)?;
    let manifest = store.put_blob(&lease, media_type::OCI_MANIFEST, &made.manifest)?;
    let config = store.put_blob(&lease, media_type::OCI_CONFIG, &made.config)?;
    let (layer, fetched) = put_layer(store, &lease, &made.layer, tell)?;
    let image = NewImage {
        id,
        media_type: media_type::OCI_INDEX.into(),
        size: index.len() as u64,
        manifests: vec![PlatformManifest {
            digest: manifest,
            size: made.manifest.len() as u64,
            media_type: media_type::OCI_MANIFEST.into(),
            platform: Platform::new("linux", machine.architecture, None).to_string(),
            config,
            config_size: made.config.len() as u64,
            layers: vec![layer],
        }],
        other_blobs: Vec::new(),
        parent: None,
    };
    let config = ImageConfig::parse(&made.config)
        .map_err(|e| Error::system("the embedded image is not well formed").with_source(e))?;
    Ok(Pulled { image, config, lease, fetched })
}

/// The layer; whether it had to be made.
fn put_layer(store: &Store, lease: &Lease, bytes: &[u8], tell: &dyn Fn(Event)) -> Result<(ImageLayer, bool)> {
    let digest = digest(bytes);
    let total = bytes.len() as u64;
    let told = |step| tell(Event::Layer(digest.clone(), step));
    let expected = Expected { digest: digest.clone(), size: total, media_type: media_type::OCI_LAYER.into() };
    let fetched = match store.write_layer(lease, expected) {
        Ok(mut writer) => {
            told(Step::Pending);
            writer.write(bytes.get(usize::try_from(writer.offset()).unwrap_or(0)..).unwrap_or_default())?;
            told(Step::Downloading { current: total, total });
            writer.commit(Some(&digest))?;
            for step in [
                Step::Verifying,
                Step::Downloaded,
                Step::Extracting { current: total, total },
                Step::Complete,
            ] {
                told(step);
            }
            true
        }
        Err(storage::Error::Exists { .. } | storage::Error::Busy { .. }) => {
            store.wait_until_idle(&digest, LEASE_TIME);
            store.unpack_blob(lease, &digest, Some(&digest))?;
            told(Step::Exists);
            false
        }
        Err(error) => return Err(error.into()),
    };
    let layer = ImageLayer {
        digest: digest.clone(),
        size: total,
        media_type: media_type::OCI_LAYER.into(),
        diff_id: digest,
    };
    Ok((layer, fetched))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_of_docker_hub_is_ours() {
        let wanted = |name: &str| is_wanted(&Reference::parse_familiar(name).unwrap());
        assert!(wanted("hello-world"));
        assert!(wanted("docker.io/library/hello-world:latest"));
        assert!(!wanted("hello-world:linux"));
        assert!(!wanted("localhost:5000/hello-world"));
        assert!(!wanted(&format!("hello-world@sha256:{}", "0".repeat(64))));
    }

    #[test]
    fn the_code_of_both_machines_ends_where_the_text_begins() {
        assert_eq!(code_x86_64(0).len(), 7 + 46);
        assert_eq!(code_aarch64(0).len(), 60);
        assert!(GREETING.len() < 0x1_0000, "the length of the text fits one instruction");
    }

    #[test]
    fn the_executable_of_this_machine_runs() {
        let Some(machine) =
            MACHINES.iter().find(|machine| machine.architecture == Platform::host().architecture)
        else {
            println!("SKIPPED [architecture]: no executable for this machine");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        std::fs::write(&path, executable(machine)).unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&path, permissions).unwrap();
        let out = std::process::Command::new(&path).output().unwrap();
        assert!(out.status.success());
        assert_eq!(String::from_utf8(out.stdout).unwrap(), GREETING);
        let closed =
            std::process::Command::new("/bin/sh").arg("-c").arg(format!("{} >&-", path.display())).status();
        assert_eq!(closed.unwrap().code(), Some(1));
    }

    #[test]
    fn it_is_put_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let first = put(&store, None, &|_| {}).unwrap();
        assert!(first.fetched);
        store.transaction(|tx| tx.put_image(&first.image)).unwrap();
        drop(first.lease);
        assert!(!put(&store, None, &|_| {}).unwrap().fetched);
        let error = put(&store, Some(&Platform::parse("linux/s390x").unwrap()), &|_| {}).unwrap_err();
        assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    }
}
