//! An image's files as they are: for a look at them, and to be mounted in a container.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use shim::launch::Overlay;
use sys::path::Root;

/// Where an image is shown, in a mount namespace that nobody else sees; no volume's name begins with a dot.
pub const SCRATCH: &str = ".image";

/// A detached mount of an image, or of what is at `below` in it: nothing leads out of the image on the way there.
pub fn tree(image: &storage::Mounts, scratch: &Path, below: &str) -> io::Result<OwnedFd> {
    let below = below.to_owned();
    // Copied before the namespace goes with its thread.
    shown(image, scratch, move |root| sys::mount::clone_fd(root.open_path(&below)?, false))
}

/// The image's layers as one tree: mounted in a namespace of a thread that ends at once, held by descriptor alone.
pub fn merged(image: &storage::Mounts, scratch: &Path) -> io::Result<Root> {
    shown(image, scratch, Ok)
}

fn shown<T, F>(image: &storage::Mounts, scratch: &Path, take: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce(Root) -> io::Result<T> + Send + 'static,
{
    let lower: Option<Vec<String>> =
        image.lower_paths().iter().map(|path| path.to_str().map(str::to_owned)).collect();
    let lower = lower.ok_or_else(|| io::Error::other("the data root's path is not UTF-8"))?;
    let overlay = Overlay { lower, upper: None, options: Vec::new() };
    let target = scratch.to_owned();
    let thread = std::thread::Builder::new().name("image-view".into()).spawn(move || {
        shim::rootfs::enter()?;
        shim::rootfs::mount(&overlay, &target)?;
        take(Root::open(&target)?)
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug: the thread panicked")))
}
