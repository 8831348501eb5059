//! Layers as one tree, mounted in a namespace of a thread that ends with what is done there: nobody else sees it.

use std::io;
use std::path::Path;

use shim::launch::{Overlay, Upper, VOLATILE};
use storage::Mounts;
use sys::path::Root;

use crate::error::{Error, Result};

/// Where trees are shown, in a mount namespace of their own, below the runtime directory.
const INTO: &str = "build-into";
const FROM: &str = "build-from";

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::system(format!("{} is not UTF-8: a data root must be", path.display())))
}

fn overlay(mounts: &Mounts) -> Result<Overlay> {
    let upper = match (&mounts.upper, &mounts.work) {
        (Some(dir), Some(work)) => Some(Upper { dir: text(dir)?, work: text(work)? }),
        _ => None,
    };
    let lower = mounts.lower_paths().iter().map(|path| text(path)).collect::<Result<_>>()?;
    let options = upper.iter().map(|_| VOLATILE.to_owned()).collect();
    Ok(Overlay { lower, upper, options })
}

/// The tree of what is mounted, or, where there is nothing below, the directory itself that is written to.
fn root(mounts: &Mounts, target: &Path) -> Result<Root> {
    let failed = |e| Error::io("mount", target, e);
    if mounts.lower.is_empty()
        && let Some(upper) = &mounts.upper
    {
        return Root::open(upper).map_err(failed);
    }
    shim::rootfs::mount(&overlay(mounts)?, target).map_err(failed)?;
    Root::open(target).map_err(failed)
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("build-view".into());
        let thread = thread.spawn_scoped(scope, || {
            shim::rootfs::enter()
                .map_err(|e| Error::system("cannot make a mount namespace").with_source(e))?;
            work()
        });
        let thread = thread.map_err(|e| Error::system("cannot start a thread").with_source(e))?;
        thread.join().unwrap_or_else(|_| Err(Error::system("a bug: the thread panicked")))
    })
}

/// Writes to a snapshot, with the files of some layers at hand.
pub(super) fn written<T: Send>(
    into: &Mounts,
    from: Option<&Mounts>,
    exec_root: &Path,
    work: impl FnOnce(&Root, Option<&Root>) -> Result<T> + Send,
) -> Result<T> {
    in_thread(|| {
        let target = root(into, &exec_root.join(INTO))?;
        let source = from.map(|from| root(from, &exec_root.join(FROM))).transpose()?;
        work(&target, source.as_ref())
    })
}

/// Reads layers.
pub(super) fn seen<T: Send>(
    mounts: &Mounts,
    exec_root: &Path,
    work: impl FnOnce(&Root) -> Result<T> + Send,
) -> Result<T> {
    in_thread(|| work(&root(mounts, &exec_root.join(FROM))?))
}

/// Looks at what is below a snapshot.
pub(super) fn looked<T: Send>(
    mounts: &Mounts,
    exec_root: &Path,
    work: impl FnOnce(&Root) -> io::Result<T> + Send,
) -> Result<T> {
    let view = Mounts { upper: None, work: None, ..mounts.clone() };
    if view.lower.is_empty() {
        // Nothing below: the upper directory, in which nothing is either.
        let upper = mounts.upper.as_deref().unwrap_or(exec_root);
        let failed = |e| Error::io("look at", upper, e);
        return work(&Root::open(upper).map_err(failed)?).map_err(failed);
    }
    in_thread(|| {
        let target = exec_root.join(FROM);
        work(&root(&view, &target)?).map_err(|e| Error::io("look at", &target, e))
    })
}
