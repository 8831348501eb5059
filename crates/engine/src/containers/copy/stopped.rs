//! The files of a container that does not run: mounted in a namespace of a thread's own, which lives as long as its descriptor does.
//! Nobody else sees the mounts, and they end with the daemon.
//!
//! Whoever only reads gets the container's own layer under an empty one in memory: nothing of the container changes, not even
//! where mounts need places that are not there yet, and it can be started meanwhile. Whoever writes has the layer alone. A start does
//! not wait for them: they are given up.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::OFlags;
use shim::launch::{Overlay, Upper};
use shim::rootfs::{self, Mounted};
use sys::fsx::{self, FileType, Mode};
use sys::mount::{self, Change};
use sys::path::Root;
use tokio_util::sync::CancellationToken;

use crate::containers::actor::overlay_options;
use crate::containers::record::{MountKind, MountRecord, Record};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::volumes::{Hold, image_tree};

/// The namespace that the calling thread is in.
const OWN: &str = "/proc/thread-self/ns/mnt";
/// Where the files are mounted, in the exec root: an empty directory, but for those who mount there.
const TARGET: &str = "copy";
/// Permissions of the places that mounts get.
const PLACE_MODE: Mode = Mode::from_raw_mode(0o755);

/// What keeps the mounts.
pub(super) struct Held {
    /// The namespace: the mounts end with it. Before the layer is given free.
    _namespace: File,
    _mounted: Mounted,
    /// The volumes: after all that shows them.
    _volumes: Vec<Hold>,
    writing: Option<CancellationToken>,
}

impl Held {
    /// Tells whoever writes that the container is about to start.
    pub(super) fn given_up(&self) -> Option<CancellationToken> {
        self.writing.clone()
    }
}

/// A mount to be made: its source, detached, and where it goes.
struct Placed {
    destination: PathBuf,
    source: OwnedFd,
}

/// Opens the files of `record`'s container: to be written to, with a token that tells when to end it. `None` where somebody else
/// has its layer.
pub(super) fn open(
    context: &Context,
    record: &Record,
    writing: Option<CancellationToken>,
) -> Result<Option<(Root, Held)>> {
    let target = context.config.exec_root.join(TARGET);
    let failed = |error| {
        Error::system(format!("cannot mount the files of container {}", record.id)).with_source(error)
    };
    match fs::create_dir(&target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", &target, error));
        }
        _ => {}
    }
    let mounts = context.store.mounts(&record.id)?;
    let mut volumes = Vec::new();
    let placed = sources(context, record, &mut volumes)?;
    let (overlay, scratch) = overlay(record, &mounts, &target, writing.is_some()).map_err(failed)?;
    let read_only = record.host.readonly_rootfs && writing.is_some();
    let thread = thread::Builder::new().name("copy".into());
    let made = thread.spawn(move || make(&overlay, scratch, &target, placed, read_only)).map_err(failed)?;
    let made = made.join().unwrap_or_else(|_| Err(io::Error::other("a bug: the thread panicked")));
    let Some((root, namespace, mounted)) = made.map_err(failed)? else { return Ok(None) };
    Ok(Some((root, Held { _namespace: namespace, _mounted: mounted, _volumes: volumes, writing })))
}

/// What is mounted as the root; whether memory has to be mounted at the target first, for what is not to be kept.
fn overlay(
    record: &Record,
    mounts: &storage::Mounts,
    target: &Path,
    write: bool,
) -> io::Result<(Overlay, bool)> {
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))
    };
    let mut lower = mounts.lower_paths().iter().map(|path| text(path)).collect::<io::Result<Vec<_>>>()?;
    let mut options = overlay_options(record);
    let (Some(dir), Some(work)) = (&mounts.upper, &mounts.work) else {
        return Err(io::Error::other("it has no layer of its own"));
    };
    if write {
        let upper = Some(Upper { dir: text(dir)?, work: text(work)? });
        return Ok((Overlay { lower, upper, options }, false));
    }
    options.retain(|option| option != shim::launch::VOLATILE);
    lower.insert(0, text(dir)?);
    let upper = Some(Upper { dir: text(&target.join("upper"))?, work: text(&target.join("work"))? });
    Ok((Overlay { lower, upper, options }, true))
}

/// In a thread of its own: the mounts, and the namespace that they are in.
fn make(
    overlay: &Overlay,
    scratch: bool,
    target: &Path,
    placed: Vec<Placed>,
    read_only: bool,
) -> io::Result<Option<(Root, File, Mounted)>> {
    rootfs::enter()?;
    if scratch {
        let memory = mount::filesystem("tmpfs", Some("tmpfs"), &[("mode", Some("700"))], mount::NODEV)?;
        mount::attach(&memory, Root::open(target)?)?;
        for name in ["upper", "work"] {
            fs::create_dir(target.join(name))?;
        }
        set_like_below(overlay)?;
    }
    let Some(mounted) = rootfs::try_mount(overlay, target)? else { return Ok(None) };
    let root = Root::open(target)?;
    for placed in placed {
        let place = place(&root, &placed)?;
        mount::attach(&placed.source, place)?;
    }
    if read_only {
        mount::change(&root, false, Change { set: mount::RDONLY, ..Change::default() })?;
    }
    Ok(Some((root, File::open(OWN)?, mounted)))
}

/// The topmost directory of an overlay is its root: it is to be as that of the layers below.
fn set_like_below(overlay: &Overlay) -> io::Result<()> {
    let (Some(upper), Some(lower)) = (&overlay.upper, overlay.lower.first()) else { return Ok(()) };
    let like = fsx::stat(fsx::open_dir(lower)?)?;
    let own = fsx::open_dir(&upper.dir)?;
    fsx::chown(&own, like.st_uid, like.st_gid)?;
    fsx::chmod(&own, Mode::from_raw_mode(like.st_mode & 0o7777))
}

/// Opens the sources of the container's mounts, those that others lie in first; `held` gets the volumes.
fn sources(context: &Context, record: &Record, held: &mut Vec<Hold>) -> Result<Vec<Placed>> {
    let mut placed = Vec::new();
    let paths = context.paths(&record.id);
    let taken = |path: &str| record.mounts.iter().any(|mount| mount.point.destination == path);
    for (inside, path) in [
        ("/etc/resolv.conf", paths.resolv_conf()),
        ("/etc/hostname", paths.hostname()),
        ("/etc/hosts", paths.hosts()),
    ] {
        // They are made with the first start.
        if !taken(inside) && path.exists() {
            let source = mount::clone_path(&path, false).map_err(|e| Error::io("open", &path, e))?;
            placed.push(Placed { destination: inside.into(), source });
        }
    }
    for mount in &record.mounts {
        if let Some(source) = source(context, mount, held)? {
            placed.push(Placed { destination: PathBuf::from(&mount.point.destination), source });
        }
    }
    placed.sort_by_key(|placed| placed.destination.components().count());
    Ok(placed)
}

/// The source of one mount, detached; none of what is in memory, and is gone, or of what is not there.
fn source(context: &Context, mount: &MountRecord, held: &mut Vec<Hold>) -> Result<Option<OwnedFd>> {
    let path = Path::new(&mount.point.source);
    let source = match &mount.kind {
        MountKind::Bind { recursive, .. } if path.exists() => {
            mount::clone_path(path, *recursive).map_err(|e| failed(path, e))?
        }
        MountKind::Volume { subpath, .. } => {
            let hold = context.volumes.hold(&mount.point.name)?;
            let source = below(hold.path(), subpath).map_err(|e| failed(hold.path(), e))?;
            held.push(hold);
            source
        }
        MountKind::Image { snapshot, subpath } => {
            let files = context.store.mounts(snapshot)?;
            image_tree(&files, &context.volumes.scratch(), subpath).map_err(|e| failed(path, e))?
        }
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } => return Ok(None),
    };
    if !mount.point.rw {
        let change = Change { set: mount::RDONLY, ..Change::default() };
        mount::change(&source, true, change).map_err(|e| failed(path, e))?;
    }
    Ok(Some(source))
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::io("open the source of a mount", path, error)
}

/// What is at `subpath` of a volume, and never outside of it; all of it where that is empty.
fn below(volume: &Path, subpath: &str) -> io::Result<OwnedFd> {
    if subpath.is_empty() {
        return mount::clone_path(volume, true);
    }
    mount::clone_fd(Root::open(volume)?.open_path(subpath)?, true)
}

/// The place of a mount: what is there, or is made as a start would.
fn place(root: &Root, placed: &Placed) -> io::Result<OwnedFd> {
    match root.open_path(&placed.destination) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    if fsx::kind(&fsx::stat(placed.source.as_fd())?) == FileType::Directory {
        return root.mkdir_all(&placed.destination, PLACE_MODE);
    }
    let (Some(above), Some(name)) = (placed.destination.parent(), placed.destination.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let above = root.mkdir_all(above, PLACE_MODE)?;
    let flags = OFlags::RDONLY | OFlags::CREATE;
    fsx::open_at(&above, name, flags, Mode::from_raw_mode(0o644))
}
