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

/// The mount point of the resctrl filesystem in a table of mounts.
fn mounted(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| {
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "resctrl").then(|| PathBuf::from(path))
    })
}

/// The lines to write; a whole list takes the place of the two older fields.
fn schemata(rdt: &LinuxIntelRdt) -> Result<Vec<&str>, Error> {
    let older = [rdt.l3_cache_schema(), rdt.mem_bw_schema()];
    let lines: Vec<&str> = match rdt.schemata().as_deref() {
        Some(lines) if !lines.is_empty() => lines.iter().map(String::as_str).collect(),
        _ => older.into_iter().flatten().flat_map(|text| text.lines()).collect(),
    };
    checked(lines, "linux.intelRdt")
}

fn checked<'a>(lines: Vec<&'a str>, what: &str) -> Result<Vec<&'a str>, Error> {
    let lines: Vec<&str> = lines.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > SCHEMATA_MAX || lines.iter().any(|line| line.contains('\n') || !line.contains(':')) {
        return Err(Error::Invalid(format!("{what}: a schema is a line like L3:0=ff")));
    }
    Ok(lines)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|file| sys::proc::write_once(&file, text.as_bytes())).on("write", path)
}

impl Groups {
    /// Makes what the configuration asks for. `note` is told of all that is to be removed with the container, before it is made: on
    /// failure it is in `made` as well.
    pub(crate) fn create(
        &mut self,
        rdt: &LinuxIntelRdt,
        id: &str,
        note: impl Fn(&[PathBuf]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mounts = fs::read_to_string(MOUNTS).on("read", MOUNTS)?;
        let root = mounted(&mounts).ok_or_else(|| {
            Error::Unsupported("linux.intelRdt on this host (no resctrl filesystem is mounted)".into())
        })?;
        self.create_below(&root, rdt, id, note)
    }

    fn create_below(
        &mut self,
        root: &Path,
        rdt: &LinuxIntelRdt,
        id: &str,
        note: impl Fn(&[PathBuf]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let class = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
        if let Some(name) = class
            && (name.contains('/') || matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data"))
        {
            return Err(Error::Invalid(format!(
                "linux.intelRdt.closID {name:?} cannot be the name of a group"
            )));
        }
        let schemata = schemata(rdt)?;
        let directory = root.join(class.unwrap_or(id));
        let known = directory.is_dir();
        // One that has a name and nothing else must be there: somebody else has set it up.
        if class.is_some() && schemata.is_empty() && !known {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(source).on("find the group of linux.intelRdt.closID", directory);
        }
        if !known {
            self.make(directory.clone(), &note)?;
        }
        self.tasks.push(directory.join("tasks"));
        write_schemata(&directory, &schemata)?;
        if rdt.enable_monitoring() == &Some(true) {
            let monitored = directory.join("mon_groups").join(id);
            self.tasks.push(monitored.join("tasks"));
            if !self.make(monitored.clone(), note)? {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists)).on("create", monitored);
            }
        }
        Ok(())
    }

    /// False if somebody else was quicker, whose it is then.
    fn make(
        &mut self,
        directory: PathBuf,
        note: impl Fn(&[PathBuf]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        self.made.insert(0, directory.clone());
        note(&self.made)?;
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.made.remove(0);
                note(&self.made).map(|()| false)
            }
            other => other.on("create", directory).map(|()| true),
        }
    }

    /// Puts a process into the groups; what it makes comes into them as well.
    pub(crate) fn add(&self, pid: i32) -> Result<(), Error> {
        self.tasks.iter().try_for_each(|tasks| write(tasks, &pid.to_string()))
    }
}

/// What is shared differently from now on by a container that runs.
#[derive(Debug)]
pub(crate) struct Update<'a> {
    directory: &'a Path,
    lines: Vec<&'a str>,
}

impl<'a> Update<'a> {
    /// Checks `texts`, by the names of the options that gave them, for a container for which `made` was made. A group that was there
    /// before is not the container's own: others may be in it.
    pub(crate) fn new(made: &'a [PathBuf], texts: &'a [(&str, String)]) -> Result<Option<Self>, Error> {
        let Some((name, _)) = texts.first() else { return Ok(None) };
        let monitors = |path: &&PathBuf| path.parent().is_some_and(|above| above.ends_with("mon_groups"));
        let directory = made.iter().find(|path| !monitors(path)).ok_or_else(|| {
            Error::Unsupported(format!("--{name} for a container without a resctrl group of its own"))
        })?;
        let mut lines = Vec::new();
        for (name, text) in texts {
            lines.extend(checked(text.lines().collect(), &format!("--{name}"))?);
        }
        Ok(Some(Self { directory, lines }))
    }

    /// Carries it out.
    pub(crate) fn write(&self) -> Result<(), Error> {
        write_schemata(self.directory, &self.lines)
    }
}

/// One after the other: the kernel takes those before one that it refuses.
fn write_schemata(directory: &Path, lines: &[&str]) -> Result<(), Error> {
    let file = directory.join("schemata");
    lines.iter().try_for_each(|line| write(&file, &format!("{line}\n")))
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
    use std::cell::RefCell;

    use super::*;

    fn rdt(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_group_is_made_where_it_is_asked_for_and_only_then_removed() {
        let root = tempfile::tempdir().unwrap();
        let create = |text: &str, id: &str| {
            let mut groups = Groups::default();
            let noted = RefCell::new(Vec::new());
            let note = |made: &[PathBuf]| {
                assert!(!made[0].exists(), "it is noted before it is made");
                *noted.borrow_mut() = made.to_vec();
                Ok(())
            };
            groups.create_below(root.path(), &rdt(text), id, note)?;
            assert_eq!(*noted.borrow(), groups.made);
            Ok::<_, Error>(groups)
        };
        let groups = create("{}", "c1").unwrap();
        assert_eq!(groups.made, [root.path().join("c1")]);
        fs::write(root.path().join("c1/tasks"), "").unwrap();
        groups.add(42).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("c1/tasks")).unwrap(), "42");
        // Somebody else's is joined, and left where it is.
        fs::create_dir(root.path().join("gold")).unwrap();
        let groups = create(r#"{"closID": "gold"}"#, "c2").unwrap();
        assert_eq!((groups.made.len(), groups.tasks.len()), (0, 1));
        create(r#"{"closID": "silver"}"#, "c2").unwrap_err();
        create(r#"{"closID": "../x"}"#, "c2").unwrap_err();
        create(r#"{"schemata": ["nonsense"]}"#, "c2").unwrap_err();
    }

    #[test]
    fn schemata_take_the_place_of_the_older_fields() {
        let both = rdt(r#"{"l3CacheSchema": "L3:0=f\nL3:1=f", "memBwSchema": "MB:0=20"}"#);
        assert_eq!(schemata(&both).unwrap(), ["L3:0=f", "L3:1=f", "MB:0=20"]);
        let list = rdt(r#"{"l3CacheSchema": "L3:0=f", "schemata": ["L2:0=3"]}"#);
        assert_eq!(schemata(&list).unwrap(), ["L2:0=3"]);
    }

    #[test]
    fn only_the_containers_own_group_is_changed() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("c1");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("schemata"), "").unwrap();
        let monitor = root.path().join("gold/mon_groups/c1");
        let given = |text: &str| vec![("l3-cache-schema", text.to_owned())];
        let made = [own.join("mon_groups/c1"), own.clone()];
        let texts = given("L3:0=f");
        Update::new(&made, &texts).unwrap().unwrap().write().unwrap();
        assert_eq!(fs::read_to_string(own.join("schemata")).unwrap(), "L3:0=f\n");
        assert!(Update::new(&made, &[]).unwrap().is_none());
        for made in [&[monitor][..], &[]] {
            let text = Update::new(made, &texts).unwrap_err().to_string();
            let expected =
                "--l3-cache-schema for a container without a resctrl group of its own is not supported";
            assert_eq!(text, expected);
        }
        let text = Update::new(&made, &given("f")).unwrap_err().to_string();
        assert_eq!(text, "--l3-cache-schema: a schema is a line like L3:0=ff");
    }

    #[test]
    fn the_filesystem_is_found_by_its_type() {
        let mounts = "proc /proc proc rw 0 0\nresctrl /sys/fs/resctrl resctrl rw 0 0\n";
        assert_eq!(mounted(mounts).unwrap(), Path::new("/sys/fs/resctrl"));
        assert_eq!(mounted("proc /proc proc rw 0 0"), None);
    }
}
