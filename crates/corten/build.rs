//! Builds the supervisor, the second executable that `corten` carries inside itself.
//!
//! It is another program, not another mode of this one, because its private memory is paid once for every running
//! container: a position-independent program of this size dirties several hundred kilobytes of relocations, the
//! small fixed-address one less than a tenth of that. See `docs/adr/0001-supervisor.md`.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates whose sources end up in the supervisor.
const SOURCES: &[&str] = &["sys", "oci", "runtime", "shim", "supervisor"];

fn main() {
    let manifest_dir = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir.join("../..");
    for name in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join("crates").join(name).display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");

    let target = var("TARGET");
    // A target directory of its own: the outer cargo holds the lock of the usual one. It is shared by all profiles
    // of the outer build, so that a debug and a release build make the supervisor once.
    let target_dir = target_dir(Path::new(&var("OUT_DIR")), &target).join("supervisor");
    let status = Command::new(var("CARGO"))
        .args(["build", "--quiet", "--locked", "--package", "supervisor", "--profile", "supervisor"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir)
        .current_dir(&workspace)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .status()
        .unwrap_or_else(|error| panic!("cannot run cargo to build the supervisor: {error}"));
    assert!(status.success(), "building the supervisor failed: {status}");

    // Forty thousand relocations are read at every start of the program; packed, they are a fortieth of that to read.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");

    let executable = target_dir.join(&target).join("supervisor").join("corten-supervisor");
    println!("cargo::rustc-env=CORTEN_SUPERVISOR={}", executable.display());
    println!("cargo::rustc-env=CORTEN_SUPERVISOR_ID=corten-{}", id(&executable));
}

/// A name for the program's content, to tell it from those of other versions.
fn id(executable: &Path) -> String {
    let content =
        fs::read(executable).unwrap_or_else(|error| panic!("cannot read {}: {error}", executable.display()));
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Reads a variable that cargo always sets for build scripts.
fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo did not set {name}: {error}"))
}

/// Finds the outer build's target directory above `OUT_DIR` (`<target dir>/<triple>/<profile>/build/<package>/out`).
fn target_dir(out_dir: &Path, target: &str) -> PathBuf {
    let below_triple = out_dir.ancestors().find(|path| path.ends_with(target));
    let base = below_triple.and_then(Path::parent).unwrap_or(out_dir);
    base.to_path_buf()
}
