//! The first process: program, environment, who it is and what it may do.

use std::path::PathBuf;

use api::exec::CreateRequest as ExecRequest;
use oci::runtime::{BoxBuilder, LinuxCapabilities, Process, User};
use runtime::capabilities::CapabilitySet;

use super::{INIT_INSIDE, Request, SecurityOptions, namespaces, rlimits};
use crate::containers::create::merge::environment;
use crate::containers::record::{Identity, Record};
use crate::error::{Error, Result};
use crate::host::Host;

/// Where programs are looked for, unless the image says otherwise.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Beyond this, numbers wrap around somewhere.
const ID_MAX: u32 = i32::MAX as u32;

pub(super) fn plan(
    request: &Request<'_>,
    security: &SecurityOptions,
    capabilities: CapabilitySet,
) -> Result<Process> {
    let Request { record, identity, .. } = *request;
    let config = &record.config;
    if record.args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("no command specified"));
    }
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    let adjust = i32::try_from(record.host.oom_score_adj)
        .map_err(|_| Error::invalid(format!("invalid oom score adj: {}", record.host.oom_score_adj)))?;

    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(user(identity)?)
        .set_args(Some(args(record)))
        .set_env(Some(with_home(env(record, request.host, config.tty), identity)))
        .set_cwd(PathBuf::from(cwd))
        .set_capabilities(Some(spec_capabilities(identity.uid, capabilities)))
        .set_rlimits(Some(rlimits::convert(&record.host.resources.ulimits)?))
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_apparmor_profile(apparmor(record, security, request.host))
        .set_selinux_label(label(record))
        .set_oom_score_adj(Some(adjust));
    set_console(&mut process, config.tty, Some(record.host.console_size));
    Ok(process)
}

/// A further process: what differs from the container's own is what was asked for.
pub(super) fn exec(
    record: &Record,
    identity: &Identity,
    machine: &Host,
    request: &ExecRequest,
    available: CapabilitySet,
) -> Result<Process> {
    let args = request.cmd.clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("No exec command specified"));
    }
    let security = SecurityOptions::parse(&record.host.security_opt)?;
    let capabilities =
        if request.privileged { available } else { super::security::capabilities(&record.host, available)? };
    let cwd = [request.working_dir.as_str(), record.config.working_dir.as_str(), "/"];
    let cwd = cwd.into_iter().find(|path| !path.is_empty()).unwrap_or("/");
    let env = environment(&env(record, machine, request.tty), &request.env);

    let mut process = Process::default();
    process
        .set_terminal(Some(request.tty))
        .set_user(user(identity)?)
        .set_args(Some(args))
        .set_env(Some(with_home(env, identity)))
        .set_cwd(PathBuf::from(cwd))
        .set_capabilities(Some(spec_capabilities(identity.uid, capabilities)))
        .set_rlimits(Some(rlimits::convert(&record.host.resources.ulimits)?))
        .set_no_new_privileges(Some(security.no_new_privileges))
        // `exec --privileged` gives capabilities, and as in Docker leaves the profile as it is.
        .set_apparmor_profile(apparmor(record, &security, machine))
        .set_selinux_label(label(record))
        .set_oom_score_adj(i32::try_from(record.host.oom_score_adj).ok());
    set_console(&mut process, request.tty, request.console_size);
    Ok(process)
}

fn apparmor(record: &Record, security: &SecurityOptions, machine: &Host) -> Option<String> {
    crate::apparmor::profile(security.apparmor.as_deref(), record.host.privileged, machine)
}

fn label(record: &Record) -> Option<String> {
    Some(record.labels.process.clone()).filter(|label| !label.is_empty())
}

fn set_console(process: &mut Process, tty: bool, size: Option<[u32; 2]>) {
    let Some([height, width]) = size else { return };
    if tty && height > 0 && width > 0 {
        let size = BoxBuilder::default().height(height).width(width).build();
        process.set_console_size(size.ok());
    }
}

/// The program and its arguments, behind the small init if there is to be one. In a process namespace of others it could not
/// be the first process, and would be of no use.
fn args(record: &Record) -> Vec<String> {
    let mut args = record.args.clone();
    if has_init(record) {
        let init = [INIT_INSIDE, "init", "--"];
        args.splice(0..0, init.map(str::to_owned));
    }
    args
}

pub(super) fn has_init(record: &Record) -> bool {
    record.host.resources.init == Some(true) && record.host.pid_mode.is_empty()
}

/// What every program finds, under what image and request say.
fn env(record: &Record, machine: &Host, tty: bool) -> Vec<String> {
    let hostname = namespaces::hostname(record, machine).unwrap_or_else(|| machine.name.clone());
    let mut base = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        base.push("TERM=xterm".to_owned());
    }
    environment(&base, &record.config.env)
}

/// `HOME` only where nobody says it.
fn with_home(mut env: Vec<String>, identity: &Identity) -> Vec<String> {
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    env
}

fn user(identity: &Identity) -> Result<User> {
    // The primary group is among the further ones too: a program that asks only for those must not miss it.
    let mut groups = vec![identity.gid];
    groups.extend(identity.groups.iter().copied().filter(|gid| *gid != identity.gid));
    if groups.iter().chain([&identity.uid]).any(|id| *id > ID_MAX) {
        return Err(Error::invalid(format!("uids and gids must be in range 0-{ID_MAX}")));
    }
    let mut user = User::default();
    user.set_uid(identity.uid).set_gid(identity.gid).set_additional_gids(Some(groups));
    Ok(user)
}

/// Root has them; for others they are only the bound of what a set-user-id program may give them. Nothing is inheritable.
fn spec_capabilities(uid: u32, capabilities: CapabilitySet) -> LinuxCapabilities {
    let held = if uid == 0 { capabilities } else { CapabilitySet::EMPTY };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.to_spec()))
        .set_effective(Some(held.to_spec()))
        .set_permitted(Some(held.to_spec()))
        .set_inheritable(Some(CapabilitySet::EMPTY.to_spec()))
        .set_ambient(Some(CapabilitySet::EMPTY.to_spec()));
    sets
}
