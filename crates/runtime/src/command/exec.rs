//! `exec`.

use std::path::PathBuf;

use oci::runtime::Process;
use sys::process::Child;
use sys::signal::SignalFd;
use sys::socket;

use super::arguments::{Arguments, Flag};
use super::inherited::Inherited;
use super::run::{all_signals, console, stdio};
use super::{Global, relay, sealed, write_pid_file};
use crate::capabilities::CapabilitySet;
use crate::config;
use crate::create::{Gate, Stdio};
use crate::error::{Context as _, Error};
use crate::exec::Exec;
use crate::lifecycle::{Container, Status};
use crate::start::open_gate;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("process").short('p'),
    Flag::value("user").short('u'),
    Flag::value("cwd"),
    Flag::value("env").short('e'),
    Flag::value("additional-gids").short('g'),
    Flag::value("cap").short('c'),
    Flag::value("console-socket"),
    Flag::value("pid-file"),
    Flag::value("preserve-fds"),
    Flag::value("apparmor"),
    Flag::value("cgroup"),
    Flag::value("process-label"),
    Flag::switch("tty").short('t'),
    Flag::switch("detach").short('d'),
    Flag::switch("no-new-privs"),
    Flag::switch("ignore-paused"),
    // What runc does not need any more either: nothing of ours stays beside the process.
    Flag::switch("no-subreaper"),
];

pub(super) fn exec(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    sealed::ensure(global)?;
    let mut options = Arguments::parse(arguments, FLAGS)?;
    let inherited = Inherited::of_caller(options.value("preserve-fds").as_deref())?;
    let ignore_paused = options.take("ignore-paused");
    let cgroups = options.values("cgroup");
    let detach = options.take("detach");
    let pid_file = options.value("pid-file").map(PathBuf::from);
    let console_socket = options.value("console-socket").map(PathBuf::from);
    let given = options.value("process").map(PathBuf::from);
    let changes = Changes::parse(&mut options)?;
    let mut rest = options.rest().into_iter();
    let id = rest.next().ok_or_else(|| Error::Invalid("a container id is needed".into()))?;
    let state_dir = global.state_dir(&id)?;
    let container = Container::open(&id, &state_dir)?;
    if container.status == Status::Stopped {
        return Err(Error::State { id, verb: "exec in", state: "stopped" });
    }
    let mut process = match given {
        Some(path) => config::load_process(&path)?,
        None => changes.apply(&container, rest.collect())?,
    };
    inherited.announce(&mut process);
    let terminal = process.terminal() == Some(true);
    let (ours, theirs) = socket::packet_pair().on("create", "a socket")?;
    let signals = SignalFd::block(&all_signals()).on("block", "signals")?;
    let (stdio, receiver) = if detach || console_socket.is_some() {
        let socket = console(console_socket.as_deref(), terminal)?;
        (socket.map_or(Stdio::Inherit, Stdio::Console), None)
    } else {
        stdio(terminal)?
    };
    let order = Exec {
        state_dir: &state_dir,
        process: &process,
        stdio,
        gate: Gate::Socket(theirs),
        preserved: inherited.count,
        ignore_paused,
        cgroups: &cgroups,
    };
    let created = crate::exec::exec(order)?;
    let relay = receiver.map(|socket| relay::Relay::receive(&socket)).transpose()?;
    let child = Child { pid: created.pid, pidfd: created.pidfd };
    let opened = open_gate(&ours).and_then(|()| write_pid_file(pid_file.as_deref(), child.pid));
    if let Err(error) = opened {
        let _ = sys::signal::send(&child.pidfd, 9);
        sys::process::wait(&child.pidfd).on("wait for", "the process")?;
        return Err(error);
    }
    if detach { Ok(0) } else { relay::attend(&child, &signals, relay) }
}

/// How the process differs from the container's own.
struct Changes {
    user: Option<(u32, Option<u32>)>,
    groups: Vec<u32>,
    cwd: Option<String>,
    env: Vec<String>,
    capabilities: Vec<String>,
    terminal: bool,
    no_new_privileges: bool,
    apparmor: Option<String>,
    label: Option<String>,
}

impl Changes {
    fn parse(options: &mut Arguments) -> Result<Self, Error> {
        let groups = options.values("additional-gids");
        Ok(Self {
            user: options.value("user").map(|user| parse_user(&user)).transpose()?,
            groups: groups.iter().map(|group| number(group)).collect::<Result<_, _>>()?,
            cwd: options.value("cwd"),
            env: options.values("env"),
            capabilities: options.values("cap"),
            terminal: options.take("tty"),
            no_new_privileges: options.take("no-new-privs"),
            apparmor: options.value("apparmor"),
            label: options.value("process-label"),
        })
    }

    fn apply(self, container: &Container, args: Vec<String>) -> Result<Process, Error> {
        if args.is_empty() {
            return Err(Error::Invalid("process args cannot be empty".into()));
        }
        let spec = config::load(&container.record.bundle)?;
        let missing = || Error::Invalid("config.json: process is missing".into());
        let mut process = spec.process().clone().ok_or_else(missing)?;
        process.set_args(Some(args)).set_terminal(Some(self.terminal));
        // The first process's own: not everything of it can be passed on, and nobody asked for it here.
        process.set_scheduler(None);
        if self.no_new_privileges {
            process.set_no_new_privileges(Some(true));
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor);
        }
        if self.label.is_some() {
            process.set_selinux_label(self.label);
        }
        if let Some(cwd) = self.cwd {
            process.set_cwd(cwd.into());
        }
        process.env_mut().get_or_insert_default().extend(self.env);
        let user = process.user_mut();
        if let Some((uid, gid)) = self.user {
            user.set_uid(uid);
            if let Some(gid) = gid {
                user.set_gid(gid);
            }
        }
        if !self.groups.is_empty() {
            user.additional_gids_mut().get_or_insert_default().extend(self.groups);
        }
        if !self.capabilities.is_empty() {
            add_capabilities(&mut process, &self.capabilities)?;
        }
        Ok(process)
    }
}

/// Added to the sets that make them effective; never to the inheritable and ambient ones.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), Error> {
    let mut capabilities = process.capabilities().clone().unwrap_or_default();
    let extend = |set: &Option<oci::runtime::Capabilities>| {
        let own = CapabilitySet::from_spec(&set.clone().unwrap_or_default());
        let all = own
            .adjusted(names, &[], CapabilitySet::ALL)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        Ok::<_, Error>(Some(CapabilitySet::from_bits(own.bits() | all.bits()).to_spec()))
    };
    let (bounding, effective) = (extend(capabilities.bounding())?, extend(capabilities.effective())?);
    let permitted = extend(capabilities.permitted())?;
    capabilities.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(capabilities));
    Ok(())
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>), Error> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// An id. The highest means "leave it as it is" to the kernel, and so would be root.
fn number(text: &str) -> Result<u32, Error> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = text.parse::<u32>().ok().filter(|n| digits && *n != u32::MAX);
    parsed.ok_or_else(|| Error::Invalid(format!("invalid user or group id {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_wrap_around() {
        assert_eq!(parse_user("1000:100").unwrap(), (1000, Some(100)));
        assert_eq!(parse_user("0").unwrap(), (0, None));
        for wrong in ["4294967296", "4294967295", "-1", "+1", "root", "", "1:", "1:x", ":1", "0x1"] {
            parse_user(wrong).unwrap_err();
        }
    }
}
