//! One entry of a context as the client tells of it, looked at before anything is made.

use bollard_buildkit_proto::fsutil::types::Stat;

use crate::error::{Error, Result};

/// Bytes of a path: more cannot be opened on Linux (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4095;
/// Bytes of one name in it (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;
/// Directories in one another: each is held open while its entries come.
pub(crate) const DEPTH_MAX: usize = 512;
/// Attributes of one file, and bytes of one (`XATTR_SIZE_MAX`).
const ATTRIBUTES_MAX: usize = 64;
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;
/// Attributes that mean something in an image. Others command the engine's own filesystems: `trusted.overlay.*` would hide files.
const ATTRIBUTES_TAKEN: &str = "user.";
/// This one says what a program may do. A file loses it when it is written to, and the kernel takes no more of it than some twenty bytes.
pub(super) const CAPABILITY: &str = "security.capability";

/// Bits of Go's `os.FileMode` beside the permissions.
pub(crate) mod bits {
    pub(crate) const DIRECTORY: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const FIFO: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHARACTER: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;
    pub(crate) const IRREGULAR: u32 = 1 << 19;
    pub(crate) const KIND: u32 = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | CHARACTER | IRREGULAR;
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file, whose content can be asked for.
    File,
    /// A further name of a file that was told of before: its path.
    Link(String),
    /// A symbolic link: its text, which leads wherever it likes.
    Symlink(String),
    /// A FIFO.
    Fifo,
    /// A socket, which is not taken.
    Socket,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path: names divided by slashes, none of them empty, `.` or `..`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permissions, with the bits for set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Bytes of a file.
    pub size: u64,
    /// Nanoseconds since 1970 of its last change.
    pub modified: i64,
    /// Extended attributes.
    pub attributes: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// Reads what a client tells.
    ///
    /// # Errors
    /// It leads out of the directory, or cannot be in an image.
    pub fn read(stat: Stat) -> Result<Self> {
        check_path(&stat.path)?;
        let refuse = |reason: &str| Error::Entry { path: stat.path.clone(), reason: reason.to_owned() };
        let kind = match stat.mode & bits::KIND {
            0 if stat.linkname.is_empty() => Kind::File,
            0 => {
                check_path(&stat.linkname)?;
                Kind::Link(stat.linkname.clone())
            }
            bits::DIRECTORY => Kind::Directory,
            bits::SYMLINK => {
                let text = &stat.linkname;
                if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') {
                    return Err(refuse("its target cannot be one of a symbolic link"));
                }
                Kind::Symlink(text.clone())
            }
            bits::FIFO => Kind::Fifo,
            bits::SOCKET => Kind::Socket,
            kind if kind & bits::DEVICE != 0 => {
                return Err(refuse("it is a device; name it in .dockerignore"));
            }
            _ => return Err(refuse("it is neither a file nor a directory nor a link")),
        };
        let size = u64::try_from(stat.size).map_err(|_| refuse("its size is negative"))?;
        let special = [(bits::SETUID, 0o4000), (bits::SETGID, 0o2000), (bits::STICKY, 0o1000)];
        let special =
            special.iter().filter(|(bit, _)| stat.mode & bit != 0).map(|(_, mode)| mode).sum::<u32>();
        let attributes = attributes(&stat)?;
        Ok(Self {
            mode: (stat.mode & 0o777) | special,
            kind,
            size,
            modified: stat.mod_time,
            attributes,
            path: stat.path,
        })
    }

    /// The directory that it is in, empty for the top, and its name there.
    pub fn place(&self) -> (&str, &str) {
        self.path.rsplit_once('/').unwrap_or(("", &self.path))
    }
}

/// Refuses a path that is none inside a directory.
fn check_path(path: &str) -> Result<()> {
    let refuse = |reason: &str| {
        // What is far too long is not repeated.
        let path = path.chars().take(NAME_BYTES_MAX).collect();
        Err(Error::Entry { path, reason: reason.to_owned() })
    };
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return refuse("a path has 1 to 4095 bytes");
    }
    if path.contains('\0') {
        return refuse("a path has no zero bytes");
    }
    let names = path.split('/');
    if names.clone().count() > DEPTH_MAX {
        return refuse("it lies deeper than 512 directories");
    }
    for name in names {
        if name.is_empty() || name == "." || name == ".." {
            return refuse("a path leads through names only, without /, . and .. in their place");
        }
        if name.len() > NAME_BYTES_MAX {
            return refuse("a name has 255 bytes at most");
        }
    }
    Ok(())
}

/// Whether an extended attribute means something in an image.
pub(crate) fn is_taken(name: &str) -> bool {
    name == CAPABILITY || name.starts_with(ATTRIBUTES_TAKEN)
}

/// The attributes that are taken.
fn attributes(stat: &Stat) -> Result<Vec<(String, Vec<u8>)>> {
    let refuse = |reason: &str| Error::Entry { path: stat.path.clone(), reason: reason.to_owned() };
    if stat.xattrs.len() > ATTRIBUTES_MAX {
        return Err(refuse("it has more than 64 extended attributes"));
    }
    let mut taken = Vec::new();
    for (name, value) in &stat.xattrs {
        if !is_taken(name) {
            continue;
        }
        if name.len() > NAME_BYTES_MAX || name.contains('\0') || value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(refuse("an extended attribute is too long"));
        }
        taken.push((name.clone(), value.clone()));
    }
    taken.sort_unstable();
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stat(path: &str, mode: u32, linkname: &str) -> Stat {
        Stat { path: path.to_owned(), mode, linkname: linkname.to_owned(), ..Stat::default() }
    }

    #[test]
    fn kinds_and_modes_are_gos() {
        let read = |stat| Entry::read(stat).unwrap();
        assert_eq!(read(stat("a", 0o644, "")).kind, Kind::File);
        assert_eq!(read(stat("a/b", bits::DIRECTORY | bits::STICKY | 0o777, "")).mode, 0o1777);
        assert_eq!(read(stat("a", bits::SETUID | bits::SETGID | 0o755, "")).mode, 0o6755);
        assert_eq!(read(stat("a", 0o644, "b/c")).kind, Kind::Link("b/c".to_owned()));
        let link = read(stat("a", bits::SYMLINK | 0o777, "../../etc/passwd"));
        assert_eq!(link.kind, Kind::Symlink("../../etc/passwd".to_owned()));
        assert_eq!(read(stat("a", bits::SOCKET | 0o755, "")).kind, Kind::Socket);
        assert_eq!(read(stat("x/y", 0, "")).place(), ("x", "y"));
        assert_eq!(read(stat("y", 0, "")).place(), ("", "y"));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = "x".repeat(256);
        let deep = vec!["d"; DEPTH_MAX + 1].join("/");
        for path in ["", "/", "/etc", "..", "a/../b", "a//b", "a/", ".", "./a", "a/.", "a\0b", &long, &deep] {
            assert!(Entry::read(stat(path, 0, "")).is_err(), "{path:?}");
        }
        for target in ["/etc/shadow", "../x", "a/../../x"] {
            assert!(Entry::read(stat("a", 0o644, target)).is_err(), "hard link to {target}");
        }
        for mode in
            [bits::DEVICE, bits::DEVICE | bits::CHARACTER, bits::IRREGULAR, bits::DIRECTORY | bits::FIFO]
        {
            assert!(Entry::read(stat("a", mode, "")).is_err(), "{mode:x}");
        }
        assert!(Entry::read(stat("a", bits::SYMLINK, "")).is_err());
        assert!(Entry::read(Stat { size: -1, ..stat("a", 0, "") }).is_err());
    }

    #[test]
    fn attributes_that_command_the_engine_are_left_out() {
        let mut with = stat("a", 0o644, "");
        for name in [
            "trusted.overlay.opaque",
            "security.selinux",
            "security.capability2",
            "user.note",
            "security.capability",
        ] {
            with.xattrs.insert(name.to_owned(), b"x".to_vec());
        }
        let names: Vec<_> = Entry::read(with).unwrap().attributes.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["security.capability", "user.note"]);
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_inside(path in "[a./\\x00]{0,12}", link in "[a./]{0,8}", mode: u32) {
            if let Ok(entry) = Entry::read(stat(&path, mode, &link)) {
                for name in entry.path.split('/') {
                    prop_assert!(!name.is_empty() && name != "." && name != "..");
                }
                prop_assert!(entry.mode <= 0o7777);
            }
        }
    }
}
