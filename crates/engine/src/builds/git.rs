//! Repositories: fetched by the host's program `git`, which is told everything and asks nobody.
//!
//! It gets an environment of its own: no configuration of the host or of a user, no hooks, no prompts, no protocol but those that go
//! over the net. What it fetches lies in a directory that goes with the build, or with the next start of the engine; so does the program
//! itself, which has its home there.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use build::remote::{Git, shown};
use build::request::SharedSources;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sys::fsx::{self, FileType, Mode, Time};
use sys::path::Root;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

use super::agent::{self, Agents};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{blocking, names};

/// Where the program is looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where it may fetch from. Of a Dockerfile's repository, and of those within it, none is a path of this machine or a command.
const PROTOCOLS: &str = "https:http:ssh:git";
/// How long one call may take: the largest repositories come within an hour.
const CALL_MAX: Duration = Duration::from_secs(3600);
/// Bytes of a repository and of its files, together.
const BYTES_MAX: u64 = 16 << 30;
/// How often they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Bytes of what it answers: names of references.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Bytes of the end of what it complains of.
const WORDS_BYTES_MAX: usize = 4096;
/// Settings of every call.
const SETTINGS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.symlinks=true",
    "credential.helper=",
    "advice.detachedHead=false",
    "gc.auto=0",
    "init.defaultBranch=main",
    // A server that sends nothing for a minute is given up.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];
/// Variables of the engine that say how the net is reached.
const PASSED: [&str; 9] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Secrets that clients give for repositories: a token, or a whole header.
const TOKEN: &str = "GIT_AUTH_TOKEN";
const HEADER: &str = "GIT_AUTH_HEADER";
/// The agent that answers for keys.
const AGENT: &str = "default";
/// Directories within each other, as everywhere.
const DEPTH_MAX: usize = 512;

/// What a reference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    /// The commit.
    pub id: String,
    /// The tag that leads to it, if it is an object of its own.
    tag: Option<String>,
    /// The reference's whole name, if it is not a commit.
    name: Option<String>,
}

/// Files of a repository.
#[derive(Debug)]
pub(super) struct Tree {
    /// They, or those of the directory that was named.
    pub fd: OwnedFd,
    _place: Place,
}

/// A directory that goes when this does.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    tasks: TaskTracker,
}

impl Drop for Place {
    fn drop(&mut self) {
        let path = self.path.clone();
        self.tasks.spawn(async move {
            let removed =
                blocking::run_long("remove a repository", move || match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Error::io("remove", &path, error))
                    }
                    _ => Ok(()),
                });
            if let Err(error) = removed.await {
                tracing::warn!(error = error.chain(), "a repository is left behind");
            }
        });
    }
}

/// Ends what an earlier engine left at work in a directory of contexts: those processes have their home there.
pub(super) fn end(directory: &Path) {
    let home = format!("HOME={}", directory.display());
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid =
            entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        // Who has ended meanwhile has none, and those of others are none of ours.
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|word| word == home.as_bytes()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A process and those that it has begun, which end when this is dropped.
struct Group {
    child: Child,
    pid: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Calls the program for one repository.
pub(super) struct Caller<'a> {
    context: &'a Context,
    git: &'a Git,
    place: Place,
    environment: Vec<(String, String)>,
    agents: Agents,
}

impl<'a> Caller<'a> {
    pub async fn new(context: &'a Context, git: &'a Git, sources: &SharedSources) -> Result<Self> {
        let path = context.config.data_root.join(super::context::PLACE).join(names::new_id()?);
        let tasks = context.tasks.clone();
        let place = blocking::run("make a directory for a repository", move || {
            let make = || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join("tree"));
            make().map_err(|error| Error::io("create", &path, error))?;
            Ok(Place { path, tasks })
        });
        let place = place.await?;
        let mut caller = Self { context, git, place, environment: Vec::new(), agents: Agents::default() };
        caller.set_up(sources).await?;
        Ok(caller)
    }

    fn is_ssh(&self) -> bool {
        self.git.url.starts_with("ssh://") || !self.git.url.contains("://")
    }

    /// What it is told by its environment.
    async fn set_up(&mut self, sources: &SharedSources) -> Result<()> {
        let home = self.place.path.display().to_string();
        let ssh = format!(
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={home}/known_hosts \
             -o IdentityFile=none -o ForwardAgent=no -o PermitLocalCommand=no -o ConnectTimeout=30 -o ServerAliveInterval=15"
        );
        let fixed = [
            ("PATH", PATH),
            ("HOME", &home),
            ("LC_ALL", "C"),
            ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "false"),
            ("SSH_ASKPASS", "false"),
            ("GIT_SSH_COMMAND", &ssh),
            ("GIT_SSH_VARIANT", "ssh"),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let passed = PASSED.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        let mut settings: Vec<(String, String)> = SETTINGS
            .iter()
            .filter_map(|setting| setting.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if let Some(header) = self.header(sources).await? {
            // For this host alone, and not for where it may lead to.
            settings.push((format!("http.{}/.extraheader", self.origin()), header));
            settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
        }
        if let Some(user) = user(&self.git.url) {
            // Put back where the host is called, which submodules may be on as well; no file says it.
            let origin = self.origin();
            let (scheme, host) = origin.split_once("://").unwrap_or_default();
            settings.push((format!("url.{scheme}://{user}@{host}/.insteadOf"), format!("{origin}/")));
        }
        self.environment = fixed.chain(passed).collect();
        // Not by arguments, which everybody on this machine can read.
        self.environment.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
        for (number, (key, value)) in settings.into_iter().enumerate() {
            self.environment.push((format!("GIT_CONFIG_KEY_{number}"), key));
            self.environment.push((format!("GIT_CONFIG_VALUE_{number}"), value));
        }
        if self.is_ssh() {
            self.forward(sources).await?;
        }
        Ok(())
    }

    /// The address as the program gets it, which writes it into files.
    fn url(&self) -> String {
        match user(&self.git.url) {
            Some(user) => self.git.url.replacen(&format!("{user}@"), "", 1),
            None => self.git.url.clone(),
        }
    }

    /// Scheme and host of the repository.
    fn origin(&self) -> String {
        let (scheme, rest) = self.git.url.split_once("://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        format!("{scheme}://{}", host.rsplit('@').next().unwrap_or_default())
    }

    /// The header that the client gives for the repository's host, or for all.
    async fn header(&self, sources: &SharedSources) -> Result<Option<String>> {
        if !self.git.url.starts_with("http") {
            return Ok(None);
        }
        let origin = self.origin();
        let host = origin.split("://").nth(1).unwrap_or_default().to_owned();
        let unreadable = |id: &str, error| Error::invalid(format!("cannot read secret {id}: {error}"));
        for (id, is_header) in [
            (format!("{TOKEN}.{host}"), false),
            (format!("{HEADER}.{host}"), true),
            (TOKEN.to_owned(), false),
            (HEADER.to_owned(), true),
        ] {
            let Some(secret) = sources.secret(&id).await.map_err(|error| unreadable(&id, error))? else {
                continue;
            };
            let text = String::from_utf8(secret).ok().map(|text| text.trim().to_owned());
            let text = text.filter(|text| !text.chars().any(char::is_control));
            let text = text.ok_or_else(|| Error::invalid(format!("secret {id} is not one line of text")))?;
            let value = if is_header {
                text
            } else {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{text}"));
                format!("basic {pair}")
            };
            return Ok(Some(format!("Authorization: {value}")));
        }
        Ok(None)
    }

    /// Makes the client's agent answer for keys.
    async fn forward(&mut self, sources: &SharedSources) -> Result<()> {
        let found = sources.has_agent(AGENT).await;
        if !found.map_err(|error| Error::invalid(format!("cannot ask for ssh agent {AGENT}: {error}")))? {
            return Ok(());
        }
        let path = self.place.path.clone();
        let access = agent::Access {
            mode: 0o600,
            uid: sys::process::effective_user(),
            gid: sys::process::effective_group(),
        };
        let made = blocking::run("listen for ssh", move || agent::listen(&path, "agent", AGENT, access));
        let (socket, path) = made.await?;
        self.agents.serve(socket, sources)?;
        self.environment.push(("SSH_AUTH_SOCK".to_owned(), path.display().to_string()));
        Ok(())
    }

    /// What the reference is.
    pub async fn resolve(&self) -> Result<Commit> {
        let name = self.git.reference.as_deref();
        if let Some(id) = name.filter(|name| is_whole(name)) {
            return Ok(Commit { id: id.to_owned(), tag: None, name: None });
        }
        let wanted = name.unwrap_or("HEAD");
        let peeled = format!("{wanted}^{{}}");
        let listed = self.call(&["ls-remote", "-q", "--", &self.url(), wanted, &peeled]).await?;
        find(&listed, wanted).ok_or_else(|| {
            let hint = if build::remote::check_commit(wanted).is_ok() {
                ": name a commit by all its letters"
            } else {
                ""
            };
            Error::invalid(format!("repository {} does not contain ref {wanted}{hint}", shown(&self.git.url)))
        })
    }

    /// Its files. `keep`: whether `.git` is among them.
    pub async fn check_out(self, commit: &Commit, keep: bool) -> Result<Tree> {
        let tree = self.place.path.join("tree").display().to_string();
        let url = self.url();
        let url = url.as_str();
        let inside = |args: &[&str]| -> Vec<String> {
            ["-C", &tree].iter().chain(args).map(|word| (*word).to_owned()).collect()
        };
        self.call(&["init", "-q", "--", &tree]).await?;
        // Addresses within are relative to this one.
        self.run(&inside(&["config", "remote.origin.url", url])).await?;
        let shallow =
            ["fetch", "-q", "--no-tags", "--depth=1", "--no-recurse-submodules", "--", url, &commit.id];
        if let Err(error) = self.run(&inside(&shallow)).await {
            tracing::debug!(error = error.chain(), "a commit cannot be fetched by itself: all is fetched");
            let all = "+refs/heads/*:refs/remotes/origin/*";
            let tags = "+refs/tags/*:refs/tags/*";
            self.run(&inside(&["fetch", "-q", "--no-tags", "--no-recurse-submodules", "--", url, all, tags]))
                .await?;
        }
        if let Some(name) = commit.name.as_deref().filter(|name| keep && name.starts_with("refs/tags/")) {
            let object = commit.tag.as_deref().unwrap_or(&commit.id);
            // The object of an annotated tag did not come with its commit.
            let object = if self.run(&inside(&["cat-file", "-e", object])).await.is_ok() {
                object
            } else {
                &commit.id
            };
            self.run(&inside(&["update-ref", name, object])).await?;
        }
        self.run(&inside(&["checkout", "-q", "--detach", &commit.id, "--"])).await?;
        if self.git.submodules != Some(false) && Path::new(&tree).join(".gitmodules").is_file() {
            self.run(&inside(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]))
                .await?;
        }
        let time = self
            .run(&inside(&["log", "-1", "--no-show-signature", "--format=%ct", &commit.id, "--"]))
            .await?;
        let seconds =
            time.trim().parse().map_err(|_| Error::invalid(format!("commit {} has no time", commit.id)))?;
        let Self { place, git, .. } = self;
        let (subdir, url) = (git.subdir.clone().unwrap_or_default(), git.url.clone());
        blocking::run_long("look through a repository", move || {
            let root = Root::open(&tree).map_err(|e| Error::io("open", Path::new(&tree), e))?;
            let settled =
                root.open_dir(".").and_then(|fd| settle(&fd, Time { seconds, nanoseconds: 0 }, keep, 0));
            settled.map_err(|e| Error::io("look through", Path::new(&tree), e))?;
            let wanted = build::ignore::clean(&format!("/{subdir}"));
            let wanted = Some(wanted.trim_start_matches('/')).filter(|path| !path.is_empty()).unwrap_or(".");
            let fd = root.open_dir(wanted).map_err(|_| {
                Error::invalid(format!("repository {} has no directory {wanted}", shown(&url)))
            })?;
            Ok(Tree { fd, _place: place })
        })
        .await
    }

    async fn call(&self, args: &[&str]) -> Result<String> {
        self.run(&args.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).await
    }

    /// Calls the program; what it answers.
    async fn run(&self, args: &[String]) -> Result<String> {
        let verb = args.iter().find(|word| !word.starts_with('-') && !word.starts_with('/'));
        let verb = verb.cloned().unwrap_or_default();
        let told = shown(&self.git.url);
        let failed = |why: String| Error::invalid(format!("failed to fetch {told}: git {verb}: {why}"));
        let child = Command::new("git")
            .args(args)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.place.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Error::system(format!("cannot fetch {told}: there is no git on the engine's host"))
                        .with_hint("install the package git there, or give a context of files")
                }
                _ => Error::system(format!("cannot fetch {told}: cannot run git")).with_source(error),
            })?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut group = Group { child, pid };
        Self::bound(pid);
        let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
        let work = async {
            let answer = async {
                let mut text = Vec::new();
                if let Some(stdout) = stdout {
                    stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await?;
                }
                Ok::<_, io::Error>(text)
            };
            let (answer, words) = tokio::join!(answer, last_words(stderr));
            Ok::<_, io::Error>((group.child.wait().await?, answer?, words))
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(CALL_MAX, work) => ended,
            error = self.grows() => return Err(error),
        };
        let ended = ended.map_err(|_| failed(format!("it does not end within {} s", CALL_MAX.as_secs())))?;
        let (status, answer, words) = ended.map_err(|error| failed(error.to_string()))?;
        // What it began may go on, and is ended with it.
        drop(group);
        if !status.success() {
            // Neither a password nor where we keep it is anybody's business.
            let place = self.place.path.display().to_string();
            let words = words.replace(&self.git.url, &told).replace(&place, "");
            return Err(failed(match user(&self.git.url) {
                Some(user) => words.replace(&format!("{user}@"), "xxxxx@"),
                None => words,
            }));
        }
        String::from_utf8(answer).map_err(|_| failed("its answer is not UTF-8".to_owned()))
    }

    /// Bounds what it writes into one file.
    fn bound(pid: Option<Pid>) {
        let Some(pid) = pid.map(|pid| pid.as_raw_nonzero().get()) else { return };
        if let Some(number) = sys::rlimit::number("fsize") {
            // It may have ended already.
            let _ = sys::rlimit::set(pid, number, BYTES_MAX, BYTES_MAX);
        }
    }

    /// Ends when more has come than may.
    async fn grows(&self) -> Error {
        loop {
            tokio::time::sleep(COUNT_EVERY).await;
            let path = self.place.path.clone();
            let counted = blocking::run("measure a repository", move || {
                // What goes meanwhile is not counted.
                Ok(fsx::open_dir(&path).and_then(fsx::usage).map_or(0, |usage| usage.bytes))
            });
            if counted.await.is_ok_and(|bytes| bytes > BYTES_MAX) {
                return Error::invalid(format!("{} has more than {BYTES_MAX} bytes", shown(&self.git.url)));
            }
            if self.context.tasks.is_closed() {
                return Error::system("the engine ends");
            }
        }
    }
}

impl Commit {
    /// Whether it is the one that it has to be.
    pub fn check(&self, checksum: &str) -> Result<()> {
        let is_it = |id: &String| id.starts_with(checksum);
        if is_it(&self.id) || self.tag.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        Err(Error::invalid(format!("expected checksum to match {checksum}, got {}", self.id)))
    }
}

fn is_whole(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && build::remote::check_commit(name).is_ok()
}

/// The reference that is meant among those of a repository: one of its whole name, a tag, a branch.
fn find(listed: &str, wanted: &str) -> Option<Commit> {
    let references: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    let id = |name: &str| references.iter().find(|(_, other)| *other == name).map(|(id, _)| (*id).to_owned());
    let names = [
        wanted.to_owned(),
        format!("refs/{wanted}"),
        format!("refs/tags/{wanted}"),
        format!("refs/heads/{wanted}"),
    ];
    names.into_iter().find_map(|name| {
        let object = id(&name).filter(|id| is_whole(id))?;
        let peeled = id(&format!("{name}^{{}}")).filter(|id| is_whole(id));
        let tag = peeled.is_some().then(|| object.clone());
        Some(Commit { id: peeled.unwrap_or(object), tag, name: Some(name) })
    })
}

/// Of the end of what is complained of, the line that says what was fatal first, or else the last.
async fn last_words(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0; WORDS_BYTES_MAX];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length]);
        let surplus = kept.len().saturating_sub(WORDS_BYTES_MAX);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let fatal = lines.clone().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    fatal
        .or_else(|| lines.next_back())
        .unwrap_or_default()
        .chars()
        .filter(|letter| !letter.is_control())
        .collect()
}

/// Name and password in the address of a repository that is called by HTTP.
fn user(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("http"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.rsplit_once('@').map(|(user, _)| user).filter(|user| !user.is_empty())
}

/// Makes files be as the repository says, whatever this engine's own settings are: owner, mode and time; without what is git's own.
fn settle(dir: &OwnedFd, time: Time, keep: bool, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("directories are deeper than {DEPTH_MAX}")));
    }
    for entry in fsx::list(dir)? {
        let name = &entry.name;
        if name == ".git" && !keep {
            // No file of a repository can have this name: it is the program's.
            fsx::remove_tree(dir, name)?;
            continue;
        }
        let stat = fsx::stat_at(dir, name)?;
        match fsx::kind(&stat) {
            FileType::Directory => {
                let below = fsx::open_dir_at(dir, name)?;
                settle(&below, time, keep, depth + 1)?;
            }
            FileType::RegularFile => {
                let file = fsx::open_regular_at(dir, name)?;
                let mode = if stat.st_mode & 0o100 == 0 { 0o644 } else { 0o755 };
                fsx::chmod(&file, Mode::from_raw_mode(mode))?;
                fsx::set_times(&file, time, time)?;
            }
            _ => fsx::set_times_at(dir, name, time, time)?,
        }
    }
    fsx::chmod(dir, Mode::from_raw_mode(0o755))?;
    fsx::set_times(dir, time, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_those_before_the_host() {
        assert_eq!(user("https://u:p@h/r@2"), Some("u:p"));
        assert_eq!(user("http://t@h:80/r"), Some("t"));
        assert_eq!(user("https://u:p@q@h"), Some("u:p@q"));
        for none in ["https://h/a@b", "https://@h/r", "ssh://git@h/r", "git@h:r", "git://h/r"] {
            assert_eq!(user(none), None, "{none}");
        }
    }

    #[test]
    fn references_are_found_as_git_finds_them() {
        let id = |letter: char| letter.to_string().repeat(40);
        let listed = format!(
            "{}\trefs/heads/v1\n{}\trefs/heads/x/v1\n{}\trefs/tags/v1\n{}\trefs/tags/v1^{{}}\n{}\tHEAD\nbad\trefs/heads/bad\n",
            id('a'),
            id('b'),
            id('c'),
            id('d'),
            id('e')
        );
        let found = find(&listed, "v1").unwrap();
        assert_eq!((found.id.as_str(), found.tag), (id('d').as_str(), Some(id('c'))));
        assert_eq!(find(&listed, "heads/v1").unwrap().id, id('a'));
        assert_eq!(find(&listed, "refs/heads/v1").unwrap().id, id('a'));
        assert_eq!(find(&listed, "x/v1").unwrap().id, id('b'));
        assert_eq!(find(&listed, "HEAD").unwrap().id, id('e'));
        assert_eq!(find(&listed, "bad"), None);
        let commit = find(&listed, "v1").unwrap();
        assert!(commit.check(&id('d')[..7]).is_ok() && commit.check(&id('c')).is_ok());
        assert!(commit.check("aaaaaaa").is_err());
    }
}
