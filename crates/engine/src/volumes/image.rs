//! An image's files as they are: for a look at them, and to be mounted in a container.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use shim::launch::{Overlay, Upper, VOLATILE};
use sys::path::Root;

/// Where an image is shown, in a mount namespace that nobody else sees; no volume's name begins with a dot.
pub const SCRATCH: &str = ".image";

/// A detached mount of an image, or of what is at `below` in it: nothing leads out of the image on the way there.
pub fn tree(image: &storage::Mounts, scratch: &Path, below: &str) -> io::Result<OwnedFd> {
    let below = below.to_owned();
    // Copied before the namespace goes with its thread.
    shown(image, None, scratch, move |root| sys::mount::clone_fd(root.open_path(&below)?, false))
}

/// The same with a snapshot's own files above, which are written to.
pub fn writable_tree(snapshot: &storage::Mounts, scratch: &Path, below: &str) -> io::Result<OwnedFd> {
    let text = |path: &Option<PathBuf>| path.as_ref().and_then(|path| path.to_str()).map(str::to_owned);
    let (Some(dir), Some(work)) = (text(&snapshot.upper), text(&snapshot.work)) else {
        return Err(io::Error::other("a bug: nothing to write to"));
    };
    let below = below.to_owned();
    if snapshot.lower.is_empty() {
        // Nothing is below: no overlay can be made of it, and none is needed.
        return sys::mount::clone_fd(Root::open(Path::new(&dir))?.open_path(&below)?, false);
    }
    let upper = Upper { dir, work };
    shown(snapshot, Some(upper), scratch, move |root| sys::mount::clone_fd(root.open_path(&below)?, false))
}

/// The image's layers as one tree: mounted in a namespace of a thread that ends at once, held by descriptor alone.
pub fn merged(image: &storage::Mounts, scratch: &Path) -> io::Result<Root> {
    shown(image, None, scratch, Ok)
}

fn shown<T, F>(image: &storage::Mounts, upper: Option<Upper>, scratch: &Path, take: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce(Root) -> io::Result<T> + Send + 'static,
{
    let lower: Option<Vec<String>> =
        image.lower_paths().iter().map(|path| path.to_str().map(str::to_owned)).collect();
    let lower = lower.ok_or_else(|| io::Error::other("the data root's path is not UTF-8"))?;
    // What is written need not outlive a loss of power: it goes with who writes it.
    let options = upper.iter().map(|_| VOLATILE.to_owned()).collect();
    let overlay = Overlay { lower, upper, options };
    let target = scratch.to_owned();
    let thread = std::thread::Builder::new().name("image-view".into()).spawn(move || {
        shim::rootfs::enter()?;
        shim::rootfs::mount(&overlay, &target)?;
        take(Root::open(&target)?)
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug: the thread panicked")))
}
