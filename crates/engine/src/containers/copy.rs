//! `HEAD`, `GET` and `PUT /containers/{id}/archive`: files in and out of a container.
//!
//! A container that runs is seen through its own root, by descriptor, with all that is mounted in it; one that does not through a
//! mount namespace of a thread's own ([`stopped`]). Paths are resolved by the kernel with that root as `/`: however fast links are
//! swapped meanwhile, none leads out. No program and no library of the container is run or loaded, and what the kernel shows of
//! itself (`/proc`, `/sys`) is not copied.

mod place;
mod stopped;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::pack::{Fence, Form, Naming, Part, Tree, Writer};
use storage::transfer::{self, Owner, Target};
use sys::fsx::{self, FileType};
use sys::path::Root;
use tokio::time::Instant;

use super::Containers;
use super::export::whole;
use crate::containers::identity;
use crate::containers::index::Handle;
use crate::containers::inside;
use crate::containers::record::Record;
use crate::pipe::{Flow, Inlet};
use crate::{Error, Kind, Result, blocking};

pub use place::Stat;

/// How long a container that is between running and not running, or is being written to by others, may take until it can be copied
/// to or from.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Filesystems in which the kernel shows and takes what is its own: their magic numbers.
const KERNELS_OWN: [u64; 15] = [
    sys::mount::PROC,
    sys::mount::SYSFS,
    sys::mount::CGROUP,
    sys::mount::CGROUP2,
    sys::mount::DEVPTS,
    0x1980_0202, // mqueue
    0x7363_6673, // securityfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
];

/// How an archive is unpacked into a container.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// The directory.
    pub path: String,
    /// Whether a directory replacing something else, or being replaced, is an error.
    pub keep_kinds: bool,
    /// Whether everything becomes the container's user's.
    pub container_user: bool,
}

/// A container's files.
struct View {
    root: Root,
    /// What they need to stay as they are: after the root, so that nothing holds it when it goes.
    held: Option<stopped::Held>,
}

impl Containers {
    /// What is at a path of a container.
    pub async fn stat_path(&self, name: &str, path: &str) -> Result<Stat> {
        let handle = self.find(name)?;
        let view = self.view(&handle, false).await?;
        let (path, name) = (path.to_owned(), name.to_owned());
        blocking::run("look at a container's file", move || {
            let found = place::find(&view.root, &path).and_then(visible);
            found.map(|found| found.stat).map_err(|error| lost(&path, &name, &error))
        })
        .await
    }

    /// What is at a path of a container, and an archive of it.
    pub async fn archive(&self, name: &str, path: &str) -> Result<(Stat, Flow)> {
        let handle = self.find(name)?;
        let view = self.view(&handle, false).await?;
        let (path, name) = (path.to_owned(), name.to_owned());
        let (view, found) = blocking::run("look at a container's file", move || {
            let found = place::find(&view.root, &path).and_then(visible);
            let found = found.map_err(|error| lost(&path, &name, &error))?;
            Ok((view, found))
        })
        .await?;
        let stat = found.stat.clone();
        let fence = Fence { filesystems: &KERNELS_OWN, directories: devices(&view.root) };
        let flow = Flow::start(&self.context.tasks, "copy from a container", move |outlet| {
            let (dir, naming) = match found.within {
                Some((dir, name)) => (dir, Naming::Only { shown: name.clone(), name }),
                None => (found.handle, Naming::Below(found.stat.name.into_bytes())),
            };
            let tree = Tree { parts: vec![Part::new(dir, None)], base: Vec::new(), form: Form::Plain };
            let packed = tree.pack_as(Writer::new(outlet), naming, fence).map(drop);
            drop(view);
            packed.map_err(Error::from)
        });
        self.context.tell(&handle.record(), "archive-path", BTreeMap::new());
        Ok((stat, flow))
    }

    /// Unpacks an archive in a directory of a container.
    pub async fn extract(&self, name: &str, options: ExtractOptions, mut archive: Inlet) -> Result<()> {
        let handle = self.find(name)?;
        let view = self.view(&handle, true).await?;
        if let Some(stopping) = view.held.as_ref().and_then(stopped::Held::given_up) {
            archive = archive.until(stopping);
        }
        let (record, name) = (handle.record(), name.to_owned());
        blocking::run_paced("copy into a container", move || {
            let path = place::absolute(&options.path);
            check_target(&view.root, &path, &name)?;
            let owner = match (options.container_user, record.config.user.as_str()) {
                (false, _) | (true, "") => Owner::Told,
                (true, user) => owner(&view.root, user)?,
            };
            let target = Target {
                root: &view.root,
                place: Path::new(&path),
                rename: None,
                keep_kinds: options.keep_kinds,
                owner,
                tame: false,
            };
            let unpacked = storage::archive::open(archive, &storage::Limits::default())
                .and_then(|mut archive| transfer::unpack(&mut archive, &target));
            drop(view);
            unpacked.map(drop).map_err(refused)
        })
        .await?;
        self.context.tell(&handle.record(), "extract-to-dir", BTreeMap::new());
        Ok(())
    }

    /// The files of a container as it sees them, or would.
    async fn view(&self, handle: &Arc<Handle>, write: bool) -> Result<View> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let record = handle.record();
            whole(&record, "copy files of")?;
            let seen = match record.life.pid() {
                Some(pid) => live(handle, pid).await?,
                None => self.stopped(handle, &record, write).await?,
            };
            if let Some(view) = seen {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                return Err(Error::conflict(format!("container {} is busy: try again", record.id)));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The files of a container that does not run; `None` while somebody else has them.
    async fn stopped(&self, handle: &Arc<Handle>, record: &Arc<Record>, write: bool) -> Result<Option<View>> {
        let writing = match (write, handle.write()) {
            (false, _) => None,
            (true, Some(writing)) => Some(writing),
            (true, None) => return Ok(None),
        };
        let (context, record) = (Arc::clone(&self.context), Arc::clone(record));
        let opened = blocking::run("mount a container's files", move || {
            stopped::open(&context, &record, write.then_some(writing).flatten())
        });
        Ok(opened.await?.map(|(root, held)| View { root, held: Some(held) }))
    }
}

/// The root of a container that runs; `None` while it comes or goes.
async fn live(handle: &Arc<Handle>, pid: i32) -> Result<Option<View>> {
    let Some(shim) = handle.shim() else { return Ok(None) };
    let opened = blocking::run("open a container's root", move || Ok(inside::root(pid))).await?;
    let Ok(root) = opened else { return Ok(None) };
    // The supervisor has not buried it: until now the number was its own.
    if !shim.is_running(pid).await {
        return Ok(None);
    }
    Ok(Some(View { root, held: None }))
}

/// What is said of what is not there, and of what cannot be looked at.
fn lost(path: &str, name: &str, error: &io::Error) -> Error {
    let text = format!("Could not find the file {path} in container {name}");
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(text),
        io::ErrorKind::NotADirectory => Error::invalid(format!("{text}: not a directory")),
        _ => Error::system(format!("{text}: {error}")),
    }
}

/// What is in the kernel's own filesystems is not there for copying; the directories that they are mounted on are.
fn visible(found: place::Found) -> io::Result<place::Found> {
    let own = |fd: &OwnedFd| -> io::Result<bool> { Ok(KERNELS_OWN.contains(&sys::mount::magic(fd)?)) };
    let inside = match &found.parent {
        Some(parent) => own(parent)? && own(&found.handle)?,
        None => false,
    };
    if inside { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// The directory of devices, if it is one that the engine has mounted: what is in it is of no use elsewhere.
fn devices(root: &Root) -> Vec<(u64, u64)> {
    let (Ok(dev), Ok(own)) = (root.stat("dev"), fsx::stat(root)) else { return Vec::new() };
    if dev.st_dev == own.st_dev { Vec::new() } else { vec![(dev.st_dev, dev.st_ino)] }
}

/// Looks at the directory that an archive is to be unpacked in.
fn check_target(root: &Root, path: &str, name: &str) -> Result<()> {
    let failed = |error| lost(path, name, &error);
    let handle = root.open_path(path).map_err(failed)?;
    let stat = fsx::stat(&handle).map_err(failed)?;
    if fsx::kind(&stat) != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    if KERNELS_OWN.contains(&sys::mount::magic(&handle).map_err(failed)?) {
        let text = format!("{path} is of the kernel's own files, into which nothing is copied");
        return Err(Error::new(Kind::Forbidden, text));
    }
    if fsx::is_read_only(&handle).map_err(failed)? {
        let own = fsx::stat(root).map_err(failed)?;
        let what = if own.st_dev == stat.st_dev { "container rootfs" } else { "mounted volume" };
        return Err(Error::new(Kind::Forbidden, format!("{what} is marked read-only")));
    }
    Ok(())
}

/// Whose everything becomes: the container's user by its own files.
fn owner(root: &Root, user: &str) -> Result<Owner> {
    let read = |path| root.read_bounded(path, identity::FILE_BYTES_MAX).unwrap_or_default();
    let who = identity::find(user, &[], &read(identity::PASSWD), &read(identity::GROUP))?;
    Ok(Owner::Given(who.uid, who.gid))
}

/// Why an archive was not unpacked.
fn refused(error: storage::Error) -> Error {
    use storage::Error as Storage;
    match error {
        Storage::InvalidLayer { reason } => Error::invalid(format!("invalid archive: {reason}")),
        error @ (Storage::Overwrite { .. } | Storage::Limit { .. }) => Error::invalid(error.to_string()),
        Storage::ReadOnly { .. } => Error::new(Kind::Forbidden, "mounted volume is marked read-only"),
        other => other.into(),
    }
}
