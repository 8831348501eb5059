//! Files of our directories, as `moby.filesync.v1.FileSync/DiffCopy` gives them: what is there is told, and what is wanted of it sent.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use build::ignore::{Above, Ignore};
use futures_util::stream::{self, BoxStream};
use sys::fsx::{self, FileType};
use sys::path::Root;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::directory::Directory;
use super::follow::{Meant, follow};
use crate::filesync::Ask;
use crate::filesync::entry::{DEPTH_MAX, bits, is_taken};

pub(super) use crate::filesync::METHOD;

/// Packets on their way out.
const PACKETS_MAX: usize = 32;
/// Files that are asked for and not sent yet, as BuildKit's clients have it.
const REQUESTS_MAX: usize = 128;
/// Bytes of a packet, as BuildKit's clients have it.
const CHUNK_BYTES: usize = 32 << 10;

/// The service.
#[derive(Debug)]
pub(super) struct Giver {
    directories: Arc<BTreeMap<String, Directory>>,
}

impl Giver {
    pub(super) fn new(directories: BTreeMap<String, Directory>) -> Self {
        Self { directories: Arc::new(directories) }
    }
}

type Packets = BoxStream<'static, Result<Packet, Status>>;

#[tonic::async_trait]
impl FileSync for Giver {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn tar_stream(
        &self,
        _request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("this client sends no archives: ask it for DiffCopy"))
    }

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let ask = Ask::read(request.metadata()).map_err(|error| Status::invalid_argument(error.chain()))?;
        let directory = self.directories.get(&ask.name).cloned();
        let directory =
            directory.ok_or_else(|| Status::not_found(format!("no access allowed to dir {:?}", ask.name)))?;
        let mut incoming = request.into_inner();
        let (out, packets) = mpsc::channel(PACKETS_MAX);
        let (wanted, wants) = mpsc::channel(REQUESTS_MAX);
        let names = Arc::new(Names::default());
        let opened = tokio::task::spawn_blocking(move || Source::open(directory, &ask)).await;
        let source = opened.map_err(|error| Status::internal(error.to_string()))?;
        let source = Arc::new(source.map_err(|error| Status::internal(error.to_string()))?);
        let (walked, known, told) = (Arc::clone(&source), Arc::clone(&names), out.clone());
        tokio::task::spawn_blocking(move || {
            let mut walk = Walk {
                source: &walked,
                names: &known,
                out: &told,
                links: HashMap::new(),
                untold: Vec::new(),
            };
            let last = match walk.all() {
                Ok(()) => Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() },
                Err(why) => failure(&why),
            };
            // Who has gone wants nothing more.
            let _ = told.blocking_send(last);
        });
        tokio::task::spawn_blocking(move || send(&source, &names, wants, &out));
        tokio::spawn(async move {
            while let Ok(Some(packet)) = incoming.message().await {
                let want = match PacketType::try_from(packet.r#type) {
                    Ok(PacketType::PacketReq) => Want::File(packet.id),
                    Ok(PacketType::PacketFin) => Want::End,
                    _ => return,
                };
                if wanted.send(want).await.is_err() {
                    return;
                }
            }
        });
        let packets = stream::unfold(packets, |mut packets| async move {
            let packet = packets.recv().await?;
            Some((Ok(packet), packets))
        });
        Ok(Response::new(Box::pin(packets)))
    }
}

/// What the other side wants.
#[derive(Debug)]
enum Want {
    File(u32),
    End,
}

/// The paths of the files that were told of, by their numbers.
#[derive(Debug, Default)]
struct Names(Mutex<Vec<Option<String>>>);

impl Names {
    fn push(&self, name: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn get(&self, id: u32) -> Option<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(usize::try_from(id).ok()?).cloned().flatten()
    }
}

fn failure(why: &str) -> Packet {
    Packet { r#type: PacketType::PacketErr.into(), data: why.as_bytes().to_vec(), ..Packet::default() }
}

/// A directory, and what of it is sent.
#[derive(Debug)]
enum Source {
    Disk { root: Root, meant: Meant, hidden: Ignore },
    Texts(BTreeMap<String, Vec<u8>>),
}

impl Source {
    fn open(directory: Directory, ask: &Ask) -> Result<Self, String> {
        let hidden = Ignore::from_patterns(ask.exclude.iter().map(String::as_str));
        let hidden = hidden.map_err(|error| error.to_string())?;
        match directory {
            Directory::Disk(path) => {
                let fail = |error| format!("cannot read {}: {error}", path.display());
                let root = Root::open(&path).map_err(fail)?;
                let meant = follow(&root, &ask.follow).map_err(fail)?;
                Ok(Self::Disk { root, meant, hidden })
            }
            Directory::Texts(texts) => Ok(Self::Texts(texts)),
        }
    }
}

/// Tells of all that is there.
struct Walk<'a> {
    source: &'a Source,
    names: &'a Names,
    out: &'a mpsc::Sender<Packet>,
    /// The first names of files that have several.
    links: HashMap<(u64, u64), String>,
    /// Directories on the way that were not told of: they are, when something in them is.
    untold: Vec<Stat>,
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), String> {
        match self.source {
            Source::Texts(texts) => {
                for (name, text) in texts {
                    let size = i64::try_from(text.len()).unwrap_or(i64::MAX);
                    self.tell(Stat { path: name.clone(), mode: 0o644, size, ..Stat::default() }, true)?;
                }
                Ok(())
            }
            Source::Disk { root, .. } => {
                let fd = root.open_dir("").map_err(|error| format!("cannot open the directory: {error}"))?;
                self.directory(&fd, "", &Above::default(), 0)
            }
        }
    }

    fn directory(&mut self, fd: &OwnedFd, path: &str, above: &Above, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("{path}: directories are deeper than {DEPTH_MAX}"));
        }
        let mut entries = fsx::list(fd).map_err(|error| format!("cannot list {path:?}: {error}"))?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for entry in entries {
            let Some(name) = entry.name.to_str() else {
                return Err(format!("the name {:?} in {path:?} is not UTF-8", entry.name));
            };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            self.entry(fd, &entry.name, &below, above, depth)
                .map_err(|why| if why.is_empty() { format!("cannot read {below}") } else { why })?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &str,
        above: &Above,
        depth: usize,
    ) -> Result<(), String> {
        let Source::Disk { meant, hidden, .. } = self.source else { return Ok(()) };
        let is_meant = meant.has(path);
        if !is_meant && !meant.leads(path) {
            return Ok(());
        }
        let (rule, matched) = hidden.hides_below(path, above);
        let is_hidden = rule.is_some();
        if is_hidden && !hidden.has_exceptions() {
            return Ok(());
        }
        let fail = |verb: &str| {
            let path = path.to_owned();
            let verb = verb.to_owned();
            move |error: std::io::Error| format!("cannot {verb} {path}: {error}")
        };
        let stat = match fsx::stat_at(dir, name) {
            // Gone meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(fail("look at"))?,
        };
        let told = self.describe(dir, name, path, &stat).map_err(fail("read"))?;
        if fsx::kind(&stat) != FileType::Directory {
            if is_hidden || !is_meant || fsx::kind(&stat) == FileType::Socket {
                return Ok(());
            }
            self.tell_untold()?;
            let is_file = fsx::kind(&stat) == FileType::RegularFile && told.linkname.is_empty();
            return self.tell(told, is_file);
        }
        self.untold.push(told);
        if is_meant && !is_hidden {
            self.tell_untold()?;
        }
        let fd = fsx::open_dir_at(dir, name).map_err(fail("open"))?;
        self.directory(&fd, path, &matched, depth + 1)?;
        // If nothing in it was told of, it is not either.
        self.untold.pop();
        Ok(())
    }

    fn describe(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &str,
        stat: &fsx::Stat,
    ) -> std::io::Result<Stat> {
        let kind = fsx::kind(stat);
        let mut told = Stat {
            path: path.to_owned(),
            mode: mode(stat),
            mod_time: nanoseconds(stat),
            // Whose the files are on this machine means nothing in an image.
            uid: 0,
            gid: 0,
            ..Stat::default()
        };
        match kind {
            FileType::RegularFile => {
                told.size = stat.st_size;
                if stat.st_nlink > 1 {
                    let first =
                        self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned());
                    if first != path {
                        first.clone_into(&mut told.linkname);
                        return Ok(told);
                    }
                }
            }
            FileType::Symlink => {
                let target = sys::path::read_link_at(std::os::fd::AsFd::as_fd(dir), name)?;
                told.linkname = String::from_utf8(target.as_os_str().as_bytes().to_vec())
                    .map_err(|_| std::io::Error::other("its target is not UTF-8"))?;
                return Ok(told);
            }
            FileType::Directory => {}
            _ => return Ok(told),
        }
        for attribute in sys::xattr::list_at(dir, name)? {
            let Some(text) = attribute.to_str().filter(|text| is_taken(text)) else { continue };
            if let Some(value) = sys::xattr::get_at(dir, name, &attribute)? {
                told.xattrs.insert(text.to_owned(), value);
            }
        }
        Ok(told)
    }

    /// Tells of the directories that lead to what is told next.
    fn tell_untold(&mut self) -> Result<(), String> {
        for at in 0..self.untold.len() {
            // What has no path was told of.
            if !self.untold[at].path.is_empty() {
                let stat = std::mem::take(&mut self.untold[at]);
                self.tell(stat, false)?;
            }
        }
        Ok(())
    }

    fn tell(&self, stat: Stat, is_file: bool) -> Result<(), String> {
        self.names.push(is_file.then(|| stat.path.clone()));
        let packet = Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() };
        self.out.blocking_send(packet).map_err(|_| "nobody listens any more".to_owned())
    }
}

/// Sends what is wanted, until that is all.
fn send(source: &Source, names: &Names, mut wants: mpsc::Receiver<Want>, out: &mpsc::Sender<Packet>) {
    while let Some(want) = wants.blocking_recv() {
        let Want::File(id) = want else {
            let _ = out.blocking_send(Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() });
            return;
        };
        let sent = match names.get(id) {
            Some(path) => send_file(source, &path, id, out),
            None => Err(format!("there is no file with the number {id}")),
        };
        if let Err(why) = sent {
            let _ = out.blocking_send(failure(&why));
            return;
        }
    }
}

fn send_file(source: &Source, path: &str, id: u32, out: &mpsc::Sender<Packet>) -> Result<(), String> {
    let packet = |data: &[u8]| Packet {
        r#type: PacketType::PacketData.into(),
        id,
        data: data.to_vec(),
        ..Packet::default()
    };
    let gone = |_| "nobody listens any more".to_owned();
    match source {
        Source::Texts(texts) => {
            for chunk in texts.get(path).map(Vec::as_slice).unwrap_or_default().chunks(CHUNK_BYTES) {
                out.blocking_send(packet(chunk)).map_err(gone)?;
            }
        }
        Source::Disk { root, .. } => {
            let fail = |error| format!("cannot read {path}: {error}");
            let mut file = root.open_regular(path).map_err(fail)?;
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let read = file.read(&mut buffer).map_err(fail)?;
                if read == 0 {
                    break;
                }
                out.blocking_send(packet(&buffer[..read])).map_err(gone)?;
            }
        }
    }
    out.blocking_send(packet(&[])).map_err(gone)
}

/// A mode as Go's `os.FileMode` has it.
fn mode(stat: &fsx::Stat) -> u32 {
    let kind = match fsx::kind(stat) {
        FileType::Directory => bits::DIRECTORY,
        FileType::Symlink => bits::SYMLINK,
        FileType::Fifo => bits::FIFO,
        FileType::Socket => bits::SOCKET,
        FileType::BlockDevice => bits::DEVICE,
        FileType::CharacterDevice => bits::DEVICE | bits::CHARACTER,
        FileType::RegularFile => 0,
        FileType::Unknown => bits::IRREGULAR,
    };
    let special = [(0o4000, bits::SETUID), (0o2000, bits::SETGID), (0o1000, bits::STICKY)];
    let special =
        special.iter().filter(|(mode, _)| stat.st_mode & mode != 0).map(|(_, bit)| bit).sum::<u32>();
    kind | special | (stat.st_mode & 0o777)
}

#[expect(
    clippy::unnecessary_cast,
    clippy::cast_possible_wrap,
    reason = "the width of these fields differs between architectures"
)]
fn nanoseconds(stat: &fsx::Stat) -> i64 {
    (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64)
}
