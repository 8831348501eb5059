//! Intel's Resource Director Technology: a share of the cache and of the memory's bandwidth, by the resctrl filesystem
//! (`linux.intelRdt`; the kernel's Documentation/filesystems/resctrl.rst).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci::runtime::LinuxIntelRdt;

use crate::error::{Context as _, Error};

/// Where a mounted resctrl filesystem is found.
const MOUNTS: &str = "/proc/self/mounts";

/// Lines of one schemata file: one for each kind of resource.
const SCHEMATA_MAX: usize = 64;

/// The groups of a container.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The `tasks` files into which its processes go.
    tasks: Vec<PathBuf>,
    /// Directories that were made for it, to be removed with it, the innermost first.
    pub(crate) made: Vec<PathBuf>,
}

/// Makes what the configuration asks for; nothing if it asks for nothing.
pub(crate) fn create(rdt: Option<&LinuxIntelRdt>, id: &str) -> Result<Groups, Error> {
    let Some(rdt) = rdt else { return Ok(Groups::default()) };
    let mounts = fs::read_to_string(MOUNTS).on("read", MOUNTS)?;
    let root = mounted(&mounts).ok_or_else(|| {
        Error::Unsupported("linux.intelRdt on this host (no resctrl filesystem is mounted)".into())
    })?;
    create_below(&root, rdt, id)
}

/// The mount point of the resctrl filesystem in a table of mounts.
fn mounted(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| {
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "resctrl").then(|| PathBuf::from(path))
    })
}

fn create_below(root: &Path, rdt: &LinuxIntelRdt, id: &str) -> Result<Groups, Error> {
    let class = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    if let Some(name) = class
        && (name.contains('/') || matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data"))
    {
        return Err(Error::Invalid(format!("linux.intelRdt.closID {name:?} cannot be the name of a group")));
    }
    let schemata = schemata(rdt)?;
    let directory = root.join(class.unwrap_or(id));
    let mut groups = Groups::default();
    // One that has a name and nothing else must be there: somebody else has set it up.
    if class.is_none() || !schemata.is_empty() {
        match fs::create_dir(&directory) {
            Ok(()) => groups.made.insert(0, directory.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).on("create", &directory),
        }
    } else if !directory.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(source).on("find the group of linux.intelRdt.closID", directory);
    }
    groups.tasks.push(directory.join("tasks"));
    let filled = fill(&mut groups, &directory, &schemata, rdt, id);
    if let Err(error) = filled {
        // The first error is the one that explains.
        let _ = remove(&groups.made);
        return Err(error);
    }
    Ok(groups)
}

fn fill(
    groups: &mut Groups,
    directory: &Path,
    schemata: &[&str],
    rdt: &LinuxIntelRdt,
    id: &str,
) -> Result<(), Error> {
    let file = directory.join("schemata");
    for line in schemata {
        write(&file, &format!("{line}\n"))?;
    }
    if rdt.enable_monitoring() == &Some(true) {
        let monitored = directory.join("mon_groups").join(id);
        fs::create_dir(&monitored).on("create", &monitored)?;
        groups.tasks.push(monitored.join("tasks"));
        groups.made.insert(0, monitored);
    }
    Ok(())
}

/// The lines to write; a whole list takes the place of the two older fields.
fn schemata(rdt: &LinuxIntelRdt) -> Result<Vec<&str>, Error> {
    let older = [rdt.l3_cache_schema(), rdt.mem_bw_schema()];
    let lines: Vec<&str> = match rdt.schemata().as_deref() {
        Some(lines) if !lines.is_empty() => lines.iter().map(String::as_str).collect(),
        _ => older.into_iter().flatten().flat_map(|text| text.lines()).collect(),
    };
    let lines: Vec<&str> = lines.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > SCHEMATA_MAX || lines.iter().any(|line| line.contains('\n') || !line.contains(':')) {
        return Err(Error::Invalid("linux.intelRdt: a schema is a line like L3:0=ff".into()));
    }
    Ok(lines)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|file| sys::proc::write_once(&file, text.as_bytes())).on("write", path)
}

impl Groups {
    /// Puts a process into the groups; what it makes comes into them as well.
    pub(crate) fn add(&self, pid: i32) -> Result<(), Error> {
        self.tasks.iter().try_for_each(|tasks| write(tasks, &pid.to_string()))
    }
}

/// Removes directories that were made for a container; what is not there is not an error.
pub(crate) fn remove(made: &[PathBuf]) -> Result<(), Error> {
    made.iter().try_for_each(|directory| match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", directory),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_group_is_made_where_it_is_asked_for_and_only_then_removed() {
        let root = tempfile::tempdir().unwrap();
        let groups = create_below(root.path(), &rdt("{}"), "c1").unwrap();
        assert_eq!(groups.made, [root.path().join("c1")]);
        fs::write(root.path().join("c1/tasks"), "").unwrap();
        groups.add(42).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("c1/tasks")).unwrap(), "42");
        // Somebody else's is joined, and left where it is.
        fs::create_dir(root.path().join("gold")).unwrap();
        let groups = create_below(root.path(), &rdt(r#"{"closID": "gold"}"#), "c2").unwrap();
        assert_eq!((groups.made.len(), groups.tasks.len()), (0, 1));
        create_below(root.path(), &rdt(r#"{"closID": "silver"}"#), "c2").unwrap_err();
        create_below(root.path(), &rdt(r#"{"closID": "../x"}"#), "c2").unwrap_err();
        create_below(root.path(), &rdt(r#"{"schemata": ["nonsense"]}"#), "c2").unwrap_err();
    }

    #[test]
    fn schemata_take_the_place_of_the_older_fields() {
        let both = rdt(r#"{"l3CacheSchema": "L3:0=f\nL3:1=f", "memBwSchema": "MB:0=20"}"#);
        assert_eq!(schemata(&both).unwrap(), ["L3:0=f", "L3:1=f", "MB:0=20"]);
        let list = rdt(r#"{"l3CacheSchema": "L3:0=f", "schemata": ["L2:0=3"]}"#);
        assert_eq!(schemata(&list).unwrap(), ["L2:0=3"]);
    }

    #[test]
    fn the_filesystem_is_found_by_its_type() {
        let mounts = "proc /proc proc rw 0 0\nresctrl /sys/fs/resctrl resctrl rw 0 0\n";
        assert_eq!(mounted(mounts).unwrap(), Path::new("/sys/fs/resctrl"));
        assert_eq!(mounted("proc /proc proc rw 0 0"), None);
    }
}
