//! The mounts of a configuration: options parsed, sources opened from the host's side, and each attached inside the root
//! onto a descriptor of its destination.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::Mount;
use sys::fsx::{self, FileType, Mode, OFlags};
use sys::mount::{self, Change, Propagation};
use sys::path::Root;

use crate::copyup;
use crate::error::{Context as _, Error};
use crate::idmap::{Maps, UserNamespaces};

/// Files below `/proc` that may be mounted over: what tools that fake resources per container need. Anything else
/// there could divert what the kernel is told.
const OVER_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Inode number of the root of a procfs.
const PROC_ROOT_INODE: u64 = 1;

/// The options of a mount, sorted by who they are for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `Some(true)` for `rbind`.
    pub(crate) bind: Option<bool>,
    /// For the mount itself.
    pub(crate) this: Change,
    /// For the mount and those below it.
    pub(crate) all: Change,
    propagation: Option<(Propagation, bool)>,
    /// Owners are seen through an id map; `Some(true)` for `ridmap`.
    id_map: Option<bool>,
    /// A tmpfs begins with what lies below it.
    copy_up: bool,
    /// For the filesystem.
    pub(crate) data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sorts the options by their names as `mount(8)` and the specification have them.
    pub(crate) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        if let Some(change) = attribute(option) {
            return merge(&mut self.this, change);
        }
        if let Some(change) = option.strip_prefix('r').and_then(attribute) {
            return merge(&mut self.all, change);
        }
        match option {
            "bind" => self.bind = Some(self.bind == Some(true)),
            "rbind" => self.bind = Some(true),
            "idmap" => self.id_map = Some(self.id_map == Some(true)),
            "ridmap" => self.id_map = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "notmpcopyup" => self.copy_up = false,
            // What a filesystem does by itself today, or what only concerned the old system call.
            "defaults" | "" | "loud" | "silent" | "iversion" | "noiversion" | "mand" | "nomand" => {}
            "private" | "shared" | "slave" | "unbindable" => {
                self.propagation = propagation(option).map(|p| (p, false));
            }
            "rprivate" | "rshared" | "rslave" | "runbindable" => {
                self.propagation = propagation(&option[1..]).map(|p| (p, true));
            }
            _ => match option.split_once('=') {
                Some((key, value)) => self.data.push((key.to_owned(), Some(value.to_owned()))),
                None => self.data.push((option.to_owned(), None)),
            },
        }
    }
}

fn attribute(option: &str) -> Option<Change> {
    let set = |set| Change { set, ..Change::default() };
    let clear = |clear| Change { clear, ..Change::default() };
    let atime = |set| Change { set, clear: mount::ATIME, propagation: None };
    Some(match option {
        "ro" => set(mount::RDONLY),
        "rw" => clear(mount::RDONLY),
        "nosuid" => set(mount::NOSUID),
        "suid" => clear(mount::NOSUID),
        "nodev" => set(mount::NODEV),
        "dev" => clear(mount::NODEV),
        "noexec" => set(mount::NOEXEC),
        "exec" => clear(mount::NOEXEC),
        "nodiratime" => set(mount::NODIRATIME),
        "diratime" => clear(mount::NODIRATIME),
        "nosymfollow" => set(mount::NOSYMFOLLOW),
        "symfollow" => clear(mount::NOSYMFOLLOW),
        "noatime" => atime(mount::NOATIME),
        "strictatime" => atime(mount::STRICTATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => atime(0),
        _ => return None,
    })
}

/// The later option wins.
fn merge(to: &mut Change, change: Change) {
    let atime_off = if change.clear & mount::ATIME != 0 { mount::ATIME } else { 0 };
    to.set = (to.set & !(change.clear | atime_off)) | change.set;
    to.clear = (to.clear & !(change.set & !mount::ATIME)) | change.clear;
}

pub(crate) fn propagation(name: &str) -> Option<Propagation> {
    Some(match name {
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    })
}

/// What is to be attached at one destination.
#[derive(Debug)]
enum Source {
    /// A copy of a tree of the host, with its attributes already set.
    Tree(OwnedFd),
    /// A filesystem that must be made inside the container's namespaces.
    New(String),
    /// The container's cgroups of version 1, or of several hierarchies, by the name of each.
    Cgroups(Vec<(String, OwnedFd)>),
}

/// One mount, ready to be attached.
#[derive(Debug)]
pub(crate) struct Prepared {
    destination: PathBuf,
    source: Source,
    name: Option<String>,
    options: Options,
}

/// The id map that `idmap` stands for where a mount has none of its own.
#[derive(Debug)]
pub(crate) enum ContainerMap<'a> {
    /// The container has no user namespace.
    None,
    /// That of its new user namespace.
    New(Maps),
    /// That of the user namespace it joins.
    Joined(BorrowedFd<'a>),
}

/// What all mounts of a container are prepared with.
#[derive(Debug)]
pub(crate) struct Preparation<'a> {
    /// Where relative sources are.
    pub(crate) bundle: &'a Path,
    /// The container's groups, by the names of their hierarchies.
    pub(crate) cgroups: Vec<(String, PathBuf)>,
    /// The container's own id map.
    pub(crate) container_map: ContainerMap<'a>,
    /// The SELinux label of files on new filesystems.
    pub(crate) label: Option<&'a str>,
    /// Made for id maps so far.
    pub(crate) users: UserNamespaces,
}

impl Preparation<'_> {
    /// Opens what a mount needs from the host, from outside the container: a path there may be readable for us and not for
    /// the container's root user.
    pub(crate) fn prepare(&mut self, mount: &Mount, given: Option<OwnedFd>) -> Result<Prepared, Error> {
        let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or("none");
        let name = mount.source().as_ref().map(|s| s.to_string_lossy().into_owned());
        let destination = mount.destination().clone();
        let is_bind = given.is_some() || options.bind.is_some() || kind == "bind";
        let own_map = Maps::of(mount.uid_mappings(), mount.gid_mappings());
        if !is_bind && (own_map.is_some() || options.id_map.is_some()) {
            return Err(refused("an id map", &destination, "on what is no bind mount"));
        }
        if options.copy_up && kind != "tmpfs" {
            return Err(refused("mount option \"tmpcopyup\"", &destination, "on what is no tmpfs"));
        }
        let source = if is_bind {
            let tree = prepare_bind(mount, self.bundle, given, &options)?;
            self.map_ids(&tree, own_map, &options, &destination)?;
            Source::Tree(tree)
        } else if kind == "cgroup" || kind == "cgroup2" {
            prepare_cgroups(&self.cgroups)?
        } else {
            if let Some(label) = self.label.filter(|_| !UNLABELLED.contains(&kind)) {
                options.data.push(("context".into(), Some(label.to_owned())));
            }
            Source::New(kind.to_owned())
        };
        Ok(Prepared { destination, source, name, options })
    }

    fn map_ids(
        &mut self,
        tree: &OwnedFd,
        own: Option<Maps>,
        options: &Options,
        shown: &Path,
    ) -> Result<(), Error> {
        let recursive = options.id_map == Some(true);
        let users = match (own, options.id_map, &self.container_map) {
            (Some(maps), _, _) => self.users.get(&maps)?,
            (None, None, _) => return Ok(()),
            (None, Some(_), ContainerMap::New(maps)) => self.users.get(maps)?,
            (None, Some(_), ContainerMap::Joined(users)) => *users,
            (None, Some(_), ContainerMap::None) => {
                let shown = shown.display();
                return Err(Error::Invalid(format!(
                    "mount {shown}: idmap needs uidMappings and gidMappings, or a user namespace"
                )));
            }
        };
        match mount::set_id_map(tree, recursive, users) {
            // Not for want of rights: the maps were written.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Err(Error::Invalid(format!(
                "owners cannot be mapped for {}: the filesystem of its source, or the kernel, does not support id-mapped mounts",
                shown.display()
            ))),
            other => other.on("map the owners of", shown),
        }
    }
}

/// Filesystems whose files have labels that the policy gives them.
const UNLABELLED: [&str; 3] = ["proc", "sysfs", "mqueue"];

fn refused(what: &str, destination: &Path, why: &str) -> Error {
    Error::Unsupported(format!("{what} {why} ({})", destination.display()))
}

/// What a bind mount takes over from what it shows, whatever is asked for.
const OF_THE_FILESYSTEM: [&str; 7] =
    ["sync", "async", "dirsync", "lazytime", "nolazytime", "remount", "noremount"];

#[expect(clippy::disallowed_methods, reason = "sources are the caller's paths, on the host")]
fn prepare_bind(
    mount: &Mount,
    bundle: &Path,
    given: Option<OwnedFd>,
    options: &Options,
) -> Result<OwnedFd, Error> {
    let shown = mount.destination();
    if let Some((key, _)) = options.data.iter().find(|(key, _)| !OF_THE_FILESYSTEM.contains(&key.as_str())) {
        return Err(Error::Unsupported(format!(
            "mount option {key:?} on the bind mount {}",
            shown.display()
        )));
    }
    let tree = match given {
        Some(tree) => tree,
        None => {
            let source = mount
                .source()
                .as_ref()
                .ok_or_else(|| Error::Invalid(format!("the bind mount {} has no source", shown.display())))?;
            let source = bundle.join(source);
            mount::clone_path(&source, options.bind == Some(true)).on("mount", &source)?
        }
    };
    let (propagation, recursive) = options.propagation.unwrap_or((Propagation::Private, true));
    // A tree that is to stay in its peer group is left as it is: it is shared if the host's is.
    if propagation != Propagation::Shared {
        let change = Change { propagation: Some(propagation), ..Change::default() };
        mount::change(&tree, recursive, change).on("set the propagation of", shown)?;
    }
    for (change, recursive) in [(options.all, true), (options.this, false)] {
        if !change.is_empty() {
            mount::change(&tree, recursive, change).on("set the options of", shown)?;
        }
    }
    Ok(tree)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's groups, on the host")]
fn prepare_cgroups(cgroups: &[(String, PathBuf)]) -> Result<Source, Error> {
    let mut trees = Vec::with_capacity(cgroups.len());
    for (name, path) in cgroups {
        let tree = mount::clone_path(path, false).on("mount", path)?;
        let change = Change { propagation: Some(Propagation::Private), ..Change::default() };
        mount::change(&tree, false, change).on("set the propagation of", path)?;
        trees.push((name.clone(), tree));
    }
    Ok(Source::Cgroups(trees))
}

/// Attaches a prepared mount below `root`; makes the destination if it is not there.
///
/// A tmpfs that is to be read-only is returned: it is made so once everything is in it that belongs there.
pub(crate) fn attach(root: &Root, prepared: Prepared) -> Result<Option<OwnedFd>, Error> {
    let destination = prepared.destination.clone();
    match prepared.source {
        Source::Tree(tree) => attach_tree(root, &destination, &tree).map(|()| None),
        Source::New(kind) => {
            attach_new(root, &destination, &kind, prepared.name.as_deref(), &prepared.options)
        }
        Source::Cgroups(trees) => attach_cgroups(root, &destination, trees, &prepared.options).map(|()| None),
    }
}

fn attach_tree(root: &Root, destination: &Path, tree: &OwnedFd) -> Result<(), Error> {
    let stat = fsx::stat(tree).on("inspect the source of", destination)?;
    let directory = fsx::kind(&stat) == FileType::Directory;
    let target = place(root, destination, directory)?;
    check_target(&target, destination, tree)?;
    mount::attach(tree, &target).on("mount", destination)
}

/// A filesystem of procfs, or a bind of something else over one of its files, is attached only where that cannot divert writes.
fn check_target(target: &OwnedFd, destination: &Path, tree: &OwnedFd) -> Result<(), Error> {
    check_proc(destination, mount::magic(tree).on("inspect", destination)? == mount::PROC)?;
    if mount::magic(target).on("inspect", destination)? != mount::PROC {
        return Ok(());
    }
    let inode = fsx::stat(target).on("inspect", destination)?.st_ino;
    let is_proc = mount::magic(tree).on("inspect", destination)? == mount::PROC;
    let normal = Path::new("/").join(sys::path::normalize(destination));
    if (inode == PROC_ROOT_INODE && is_proc) || OVER_PROC.iter().any(|allowed| Path::new(allowed) == normal) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} cannot be mounted because it is inside /proc", destination.display())))
}

/// Instead of procfs there is only procfs: what looks like it could divert what the kernel is told (CVE-2019-16884).
fn check_proc(destination: &Path, is_proc: bool) -> Result<(), Error> {
    if is_proc || sys::path::normalize(destination) != Path::new("proc") {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} cannot be mounted because it is not of type proc", destination.display())))
}

fn attach_new(
    root: &Root,
    destination: &Path,
    kind: &str,
    source: Option<&str>,
    options: &Options,
) -> Result<Option<OwnedFd>, Error> {
    let below = if kind == "tmpfs" { directory_there(root, destination)? } else { None };
    let target = if matches!(kind, "proc" | "sysfs") {
        // What the kernel is told later is told there: it must not be somewhere else.
        plain_directory(root, destination)?
    } else {
        place(root, destination, true)?
    };
    let mut data: Vec<(&str, Option<&str>)> =
        options.data.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    // Without a word about it a tmpfs is as open as what it covers: as with runc.
    let mode = match &below {
        Some(below) if !data.iter().any(|(key, _)| *key == "mode") => {
            Some(format!("{:o}", fsx::stat(below).on("inspect", destination)?.st_mode & 0o7777))
        }
        _ => None,
    };
    if let Some(mode) = &mode {
        data.push(("mode", Some(mode)));
    }
    let attributes = options.this.set | options.all.set;
    let later = if kind == "tmpfs" { attributes & mount::RDONLY } else { 0 };
    let filesystem = mount::filesystem(kind, source.or(Some(kind)), &data, attributes & !later)
        .on("mount", destination)?;
    check_target(&target, destination, &filesystem)?;
    if let Some(below) = below.filter(|_| options.copy_up) {
        let top = fsx::open_dir_at(&filesystem, ".").on("open", destination)?;
        copyup::copy(&below, &top, destination)?;
    }
    if let Some((propagation, recursive)) = options.propagation {
        let change = Change { propagation: Some(propagation), ..Change::default() };
        mount::change(&filesystem, recursive, change).on("set the propagation of", destination)?;
    }
    mount::attach(&filesystem, &target).on("mount", destination)?;
    Ok((later != 0).then_some(filesystem))
}

/// The directory at `destination`, if there is one already.
fn directory_there(root: &Root, destination: &Path) -> Result<Option<OwnedFd>, Error> {
    match root.open_dir(destination) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).on("open", destination),
    }
}

/// The directory `destination`, whose last component is no link; made if it is not there.
pub(crate) fn plain_directory(root: &Root, destination: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    match root.open_at(destination, flags, Mode::empty()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            root.mkdir_all(destination, Mode::from_raw_mode(0o755)).on("create", destination)?;
            root.open_at(destination, flags, Mode::empty()).on("open", destination)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(Error::Invalid(format!(
            "filesystem {} must be mounted on ordinary directory",
            Path::new("/").join(destination).display()
        ))),
        other => other.on("open", destination),
    }
}

/// Version 1 and hybrid: a directory for each hierarchy on a small tmpfs. Unified: the group itself.
fn attach_cgroups(
    root: &Root,
    destination: &Path,
    trees: Vec<(String, OwnedFd)>,
    options: &Options,
) -> Result<(), Error> {
    let change = Change {
        set: options.this.set | options.all.set,
        clear: options.this.clear | options.all.clear,
        propagation: None,
    };
    let place = place(root, destination, true)?;
    if let [(name, tree)] = trees.as_slice()
        && name.is_empty()
    {
        mount::change(tree, false, change).on("set the options of", destination)?;
        return mount::attach(tree, &place).on("mount", destination);
    }
    let data = [("mode", Some("755")), ("size", Some("64k"))];
    let attributes = mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let tmpfs = mount::filesystem("tmpfs", Some("cgroup"), &data, attributes).on("mount", destination)?;
    // Attached before it is filled: until Linux 6.15 nothing can be mounted on a tree that hangs in the air.
    mount::attach(&tmpfs, &place).on("mount", destination)?;
    for (name, tree) in trees {
        let shown = destination.join(&name);
        mount::change(&tree, false, change).on("set the options of", &shown)?;
        fsx::mkdir_at(&tmpfs, &name, Mode::from_raw_mode(0o755)).on("create", &shown)?;
        let directory = fsx::open_dir_at(&tmpfs, &name).on("open", &shown)?;
        mount::attach(&tree, &directory).on("mount", &shown)?;
        if name.contains(',') {
            for controller in name.split(',') {
                fsx::symlink_at(&name, &tmpfs, controller).on("link", &shown)?;
            }
        }
    }
    mount::change(&tmpfs, false, change).on("set the options of", destination)
}

/// A handle to the file or directory `destination` inside the root, made if it is not there.
pub(crate) fn place(root: &Root, destination: &Path, directory: bool) -> Result<OwnedFd, Error> {
    match root.open_path(destination) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => return check_kind(other.on("open", destination)?, destination, directory),
    }
    if directory {
        return root.mkdir_all(destination, Mode::from_raw_mode(0o755)).on("create", destination);
    }
    if let Some(parent) = destination.parent() {
        root.mkdir_all(parent, Mode::from_raw_mode(0o755)).on("create", parent)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE;
    root.open_at(destination, flags, Mode::from_raw_mode(0o644)).on("create", destination)?;
    root.open_path(destination).on("open", destination)
}

fn check_kind(fd: OwnedFd, destination: &Path, directory: bool) -> Result<OwnedFd, Error> {
    let stat = fsx::stat(fd.as_fd()).on("inspect", destination)?;
    if (fsx::kind(&stat) == FileType::Directory) == directory {
        return Ok(fd);
    }
    let (what, onto) = if directory { ("a directory", "a file") } else { ("a file", "a directory") };
    Err(Error::Invalid(format!(
        "cannot mount {what} onto {onto} at {}: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? \
         Check if the specified host path exists and is the expected type",
        destination.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_go_to_mount_tree_and_filesystem() {
        let options = parse(&["rbind", "ro", "rnodev", "rslave", "size=64k", "newinstance"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.this.set, mount::RDONLY);
        assert_eq!(options.all.set, mount::NODEV);
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        assert_eq!(options.data, [("size".into(), Some("64k".into())), ("newinstance".into(), None)]);
    }

    #[test]
    fn id_maps_and_copies_are_ours_to_make() {
        let options = parse(&["bind", "ridmap", "idmap", "tmpcopyup", "silent", "mand"]);
        assert_eq!((options.id_map, options.copy_up), (Some(true), true));
        assert_eq!(parse(&["idmap", "tmpcopyup", "notmpcopyup"]).id_map, Some(false));
        assert!(options.data.is_empty());
    }

    #[test]
    fn names_that_begin_with_r_are_not_taken_apart() {
        assert_eq!(parse(&["ro"]).this.set, mount::RDONLY);
        assert_eq!(parse(&["rro"]).all.set, mount::RDONLY);
        assert_eq!(parse(&["rw"]).this.clear, mount::RDONLY);
        assert_eq!(parse(&["relatime"]).this.clear, mount::ATIME);
        assert_eq!(parse(&["rrelatime"]).all.clear, mount::ATIME);
    }

    #[test]
    fn the_later_option_wins() {
        let options = parse(&["ro", "rw"]);
        assert_eq!((options.this.set, options.this.clear), (0, mount::RDONLY));
        let options = parse(&["rw", "ro"]);
        assert_eq!((options.this.set, options.this.clear), (mount::RDONLY, 0));
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!((options.this.set, options.this.clear), (mount::STRICTATIME, mount::ATIME));
    }
}
