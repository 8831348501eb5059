//! `cp`.

mod local;
mod paths;

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use client::query::Query;
use client::{Body, Client, Method, Request, Upload};
use serde::Deserialize;

use super::path;
use crate::archive::STANDARD as DASH;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch};
use crate::session::{Session, output_failed};
use crate::units::size_with;
use local::Source;

/// `cp`.
pub const COMMAND: Command = Command {
    name: "cp",
    also: &["container cp", "cp"],
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-  |  cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files/folders between a container and the local filesystem",
    arity: Arity::Exactly(2),
    completes: Completes::Containers,
    flags: &[Group {
        title: "",
        flags: &[
            switch("archive", "Archive mode (copy all uid/gid information)").short('a'),
            switch("follow-link", "Always follow symlinks in SRC_PATH").short('L'),
            switch("quiet", "Suppress progress output during copy").short('q'),
        ],
    }],
    examples: &[
        Example { about: "A file out of a container", line: "cp web:/etc/nginx/nginx.conf ." },
        Example {
            about: "What is in a directory, into a directory",
            line: "cp ./site/. web:/usr/share/nginx/html",
        },
        Example { about: "A directory as an archive", line: "cp web:/var/log -" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(copy(session, parsed)))
};

/// Where the daemon tells what is at a path.
const STAT: &str = "X-Docker-Container-Path-Stat";
/// Go's bit for directories.
const DIRECTORY: u32 = 1 << 31;
/// Go's bit for symbolic links.
const LINK: u32 = 1 << 27;
/// Go's bits for all that is neither file nor directory.
const ODD: u32 = 1 << 26 | 1 << 25 | 1 << 24;
/// Chunks of an archive on their way to the disk.
const CHUNKS: usize = 8;

/// What is at a path of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stat {
    size: i64,
    mode: u32,
    link_target: String,
}

/// What the flags ask for.
struct Asked<'a> {
    client: &'a Client,
    container: &'a str,
    follow: bool,
    archive: bool,
    /// Whether it is told what was done.
    told: bool,
}

async fn copy(session: &Session, parsed: &Parsed) -> Result<()> {
    let [source, target] = parsed.args.as_slice() else { return Ok(()) };
    if source.is_empty() {
        return Err(Error::say("source can not be empty"));
    }
    if target.is_empty() {
        return Err(Error::say("destination can not be empty"));
    }
    let (from, source) = paths::split(source);
    let (to, target) = paths::split(target);
    let told = if parsed.given("quiet") { !parsed.on("quiet") } else { io::stdout().is_terminal() };
    let asked = |container| -> Result<Asked<'_>> {
        let client = session.client()?;
        let (follow, archive) = (parsed.on("follow-link"), parsed.on("archive"));
        Ok(Asked { client, container, follow, archive, told })
    };
    match (from, to) {
        (Some(container), None) => asked(container)?.take_out(session, source, target).await,
        (None, Some(container)) => asked(container)?.put_in(session, source, target).await,
        (Some(_), Some(_)) => Err(Error::say("copying between containers is not supported")),
        (None, None) => Err(Error::say("must specify at least one container source")),
    }
}

fn stat_of(headers: &client::HeaderMap) -> Option<Stat> {
    let text = headers.get(STAT)?.to_str().ok()?;
    serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
}

impl Asked<'_> {
    fn request(&self, method: Method, at: &str, query: Query) -> Request {
        Request::new(method, path(self.container, "/archive")).query(query.pair("path", at))
    }

    /// What is at a path; none where that cannot be told.
    async fn stat(&self, at: &str) -> Option<Stat> {
        let response = self.client.send(&self.request(Method::HEAD, at, Query::new())).await.ok()?;
        stat_of(&response.headers)
    }

    fn tell(&self, session: &Session, size: u64, target: &str) {
        if self.told {
            let size = size_with(i64::try_from(size).unwrap_or(i64::MAX), 3);
            session.note(&format!("Successfully copied {size} to {target}"));
        }
    }

    async fn take_out(&self, session: &Session, source: &str, target: &str) -> Result<()> {
        let mut source = source.to_owned();
        let mut shown = None;
        if target != DASH {
            paths::check_output(target)?;
        }
        if self.follow
            && let Some(stat) = self.stat(&source).await.filter(|stat| stat.mode & LINK != 0)
        {
            let led = paths::rebased(&source, &paths::beside(&source, &stat.link_target));
            (source, shown) = (led.path, led.name);
        }
        let response = self.client.send(&self.request(Method::GET, &source, Query::new())).await?;
        let stat = stat_of(&response.headers).unwrap_or_default();
        let mut body = response.body;
        if target == DASH {
            let mut stdout = io::stdout().lock();
            while let Some(chunk) = body.chunk().await? {
                stdout.write_all(&chunk).map_err(output_failed)?;
            }
            return stdout.flush().map_err(output_failed);
        }
        let is_directory = stat.mode & DIRECTORY != 0;
        let there = local::destination(&paths::absolute(target)?)?;
        let base = paths::base(&source);
        let placed = paths::place(shown.as_deref(), is_directory, &there)?;
        let (sender, receiver) = sync_channel(CHUNKS);
        let unpacker =
            thread::spawn(move || local::unpack(Incoming { receiver, chunk: Bytes::new() }, &base, &placed));
        let mut size = 0;
        while let Some(chunk) = body.chunk().await? {
            size += chunk.len() as u64;
            if sender.send(chunk).is_err() {
                break;
            }
        }
        drop(sender);
        let devices = unpacker.join().map_err(|_| Error::say("a bug: unpacking panicked"))??;
        if devices > 0 {
            session.note(&format!("WARNING: {devices} device files were not copied"));
        }
        self.tell(session, size, &there.path.display().to_string());
        Ok(())
    }

    /// What is at the destination, and where a link there leads.
    async fn target(&self, target: &str) -> Result<paths::There> {
        let mut there = paths::There { path: PathBuf::from(target), exists: false, is_directory: false };
        let Some(mut stat) = self.stat(target).await else { return Ok(there) };
        if stat.mode & LINK != 0 {
            let led = paths::beside(target, &stat.link_target);
            there.path = PathBuf::from(&led);
            match self.stat(&led).await {
                Some(at) => stat = at,
                None => return Ok(there),
            }
        }
        if stat.mode & ODD != 0 {
            return Err(Error::Message(format!(
                "destination \"{}:{target}\" must be a directory or a regular file",
                self.container
            )));
        }
        (there.exists, there.is_directory) = (true, stat.mode & DIRECTORY != 0);
        Ok(there)
    }

    async fn put_in(&self, session: &Session, source: &str, target: &str) -> Result<()> {
        self.client.version().await?;
        let there = self.target(target).await?;
        let mut packer = None;
        let (upload, place) = if source == DASH {
            if !there.is_directory {
                return Err(Error::Message(format!(
                    "destination \"{}:{target}\" must be a directory",
                    self.container
                )));
            }
            (Upload::new(io::stdin()), there.path.clone())
        } else {
            let source = Source::open(&paths::absolute(source)?, self.follow)?;
            let placed = paths::place(source.shown.as_deref(), source.is_directory, &there)?;
            let (reader, writer) = io::pipe().map_err(|error| file_failed("make", "a pipe", error))?;
            let name = placed.name.clone().unwrap_or_else(|| source.name());
            packer = Some(thread::spawn(move || source.pack(&name, writer)));
            (Upload::new(reader), placed.directory)
        };
        let upload = upload.map_err(|error| file_failed("read", "the archive", error))?;
        let query = Query::new().flag("noOverwriteDirNonDir", true).flag("copyUIDGID", self.archive);
        let place = place.to_string_lossy().into_owned();
        let request = self.request(Method::PUT, &place, query).body(Body::Archive(upload));
        let sent = self.client.done(&request.header("Content-Type", "application/x-tar")).await;
        let packed = match packer.map(thread::JoinHandle::join) {
            None => Ok(0),
            Some(packed) => packed.map_err(|_| Error::say("a bug: packing panicked"))?,
        };
        // A daemon that does not read any more says why.
        sent?;
        self.tell(session, packed?, &format!("{}:{}", self.container, there.path.display()));
        Ok(())
    }
}

fn file_failed(verb: &'static str, path: impl AsRef<Path>, source: io::Error) -> Error {
    Error::File { verb, path: path.as_ref().display().to_string(), source }
}

/// What the daemon sends, for who reads it in a thread.
struct Incoming {
    receiver: Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.recv() {
                Ok(chunk) => self.chunk = chunk,
                // The archive's own end tells whether this is its end.
                Err(_) => return Ok(0),
            }
        }
        let take = self.chunk.len().min(target.len());
        self.chunk.copy_to_slice(&mut target[..take]);
        Ok(take)
    }
}
