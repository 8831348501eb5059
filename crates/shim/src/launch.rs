//! What a shim is told when it is started.

use crate::wire::{Malformed, Reader, Size, Streams, Writer};

/// How many descriptors of bind-mount sources a launch may bring: more mounts than any real container has, and well
/// within a process's limit of open files.
pub const MAX_BINDS: usize = 1000;

/// Everything that a shim needs to know to look after one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The container's id.
    pub id: String,
    /// `<exec-root>/c/<id>`: holds `config.json`, gets `rootfs`, `shim.sock`, `init` and `exit`.
    pub dir: String,
    /// What to mount as `<dir>/rootfs`.
    pub rootfs: Rootfs,
    /// Where output is kept; `None` keeps none.
    pub log: Option<Log>,
    /// Whether the init gets a terminal.
    pub tty: bool,
    /// Whether clients may send standard input.
    pub open_stdin: bool,
    /// Whether standard input ends with the first client that sent some.
    pub stdin_once: bool,
    /// The terminal's size at the start.
    pub size: Option<Size>,
    /// Whether to execute the user's program at once, without a [`crate::wire::Message::Start`].
    pub start_now: bool,
    /// Where the kernel tells that it killed for want of memory.
    pub oom: Oom,
    /// For each descriptor that comes with the launch, in order, the index of the mount in `config.json` whose source
    /// it is.
    pub binds: Vec<u32>,
    /// For each stream socket that comes after those, which streams it is attached to from the first byte on. Nothing
    /// is said on it before: it carries what an attach connection carries after its `Ok`.
    pub attach: Vec<Streams>,
}

/// How many attached sockets a launch may bring: the one of the client that runs the container, and a few more.
pub const MAX_ATTACH: usize = 16;

/// The root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rootfs {
    /// Nothing to mount: `config.json` names a directory that is there.
    #[default]
    Given,
    /// An overlay.
    Overlay(Overlay),
}

/// The option of an overlay whose upper layer need not survive a loss of power: nothing is synced, `fsync(2)` included.
/// See "Volatile mount" in the kernel's overlayfs documentation.
pub const VOLATILE: &str = "volatile";

/// An overlay mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// The read-only layers, topmost first; at least one.
    pub lower: Vec<String>,
    /// The writable layer and its work directory; without, the mount is read-only.
    pub upper: Option<Upper>,
    /// Further options of the filesystem, as `key` or `key=value`; [`VOLATILE`] is one.
    pub options: Vec<String>,
}

/// The writable layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upper {
    /// Where changes go.
    pub dir: String,
    /// The kernel's scratch directory beside it.
    pub work: String,
}

/// The log file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// The newest file; older ones have `.1`, `.2`, … appended.
    pub path: String,
    /// The size from which a new file is begun; 0 for never.
    pub max_size: u64,
    /// How many files there may be, the newest included; at least one.
    pub max_files: u32,
    /// A JSON object that every entry carries as `attrs`, or nothing.
    pub attrs: Vec<u8>,
    /// How much may wait to be written by a process of its own; 0 where the container waits until it is written.
    pub buffer: u64,
    /// Whether older files are compressed, and have `.gz` after their number.
    pub compress: bool,
}

/// The longest `attrs` of a log: labels and environment chosen by the user, repeated on every line.
pub const MAX_ATTRS: usize = 32 * 1024;

/// Where the kernel counts its kills for want of memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Oom {
    /// Nowhere.
    #[default]
    Unknown,
    /// In this directory of the memory controller of the first version.
    V1(String),
    /// In this directory of the unified hierarchy.
    V2(String),
}

impl Launch {
    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.id);
        w.text(&self.dir);
        match &self.rootfs {
            Rootfs::Given => w.u8(0),
            Rootfs::Overlay(overlay) => {
                w.u8(1);
                overlay.encode(w);
            }
        }
        w.bool(self.log.is_some());
        if let Some(log) = &self.log {
            w.text(&log.path);
            w.u64(log.max_size);
            w.u32(log.max_files);
            w.bytes(&log.attrs);
            w.u64(log.buffer);
            w.bool(log.compress);
        }
        w.bool(self.tty);
        w.bool(self.open_stdin);
        w.bool(self.stdin_once);
        crate::wire::put_option(w, self.size, crate::wire::put_size);
        w.bool(self.start_now);
        match &self.oom {
            Oom::Unknown => w.u8(0),
            Oom::V1(path) => {
                w.u8(1);
                w.text(path);
            }
            Oom::V2(path) => {
                w.u8(2);
                w.text(path);
            }
        }
        w.count(self.binds.len());
        for index in &self.binds {
            w.u32(*index);
        }
        w.count(self.attach.len());
        for streams in &self.attach {
            crate::wire::put_streams(w, *streams);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut launch = Self {
            id: r.text()?.to_owned(),
            dir: r.text()?.to_owned(),
            rootfs: match r.u8()? {
                0 => Rootfs::Given,
                1 => Rootfs::Overlay(Overlay::decode(r)?),
                other => return Err(Malformed::Unknown(other)),
            },
            log: if r.bool()? { Some(Log::decode(r)?) } else { None },
            tty: r.bool()?,
            open_stdin: r.bool()?,
            stdin_once: r.bool()?,
            size: crate::wire::get_option(r, crate::wire::get_size)?,
            start_now: r.bool()?,
            oom: match r.u8()? {
                0 => Oom::Unknown,
                1 => Oom::V1(r.text()?.to_owned()),
                2 => Oom::V2(r.text()?.to_owned()),
                other => return Err(Malformed::Unknown(other)),
            },
            binds: Vec::new(),
            attach: Vec::new(),
        };
        let binds = r.count(size_of::<u32>())?;
        if binds > MAX_BINDS {
            return Err(Malformed::Length(binds));
        }
        for _ in 0..binds {
            launch.binds.push(r.u32()?);
        }
        let attach = r.count(3)?;
        if attach > MAX_ATTACH {
            return Err(Malformed::Length(attach));
        }
        for _ in 0..attach {
            launch.attach.push(crate::wire::get_streams(r)?);
        }
        Ok(launch)
    }
}

impl Overlay {
    fn encode(&self, w: &mut Writer<'_>) {
        put_texts(w, &self.lower);
        w.bool(self.upper.is_some());
        if let Some(upper) = &self.upper {
            w.text(&upper.dir);
            w.text(&upper.work);
        }
        put_texts(w, &self.options);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            lower: get_texts(r)?,
            upper: if r.bool()? {
                Some(Upper { dir: r.text()?.to_owned(), work: r.text()?.to_owned() })
            } else {
                None
            },
            options: get_texts(r)?,
        })
    }
}

impl Log {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let log = Self {
            path: r.text()?.to_owned(),
            max_size: r.u64()?,
            max_files: r.u32()?,
            attrs: r.bytes()?.to_vec(),
            buffer: r.u64()?,
            compress: r.bool()?,
        };
        if log.attrs.len() > MAX_ATTRS {
            return Err(Malformed::Length(log.attrs.len()));
        }
        Ok(log)
    }
}

fn put_texts(w: &mut Writer<'_>, texts: &[String]) {
    w.count(texts.len());
    for text in texts {
        w.text(text);
    }
}

fn get_texts(r: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    let count = r.count(size_of::<u32>())?;
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        texts.push(r.text()?.to_owned());
    }
    Ok(texts)
}
