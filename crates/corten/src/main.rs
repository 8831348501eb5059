//! The one binary: looks at the name it was called by and at its first argument, and calls the command line, the
//! daemon or the runtime.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use runtime::command::Small;

/// The small executable that is started beside every container, and as which the runtime goes on; `build.rs` makes it.
static SUPERVISOR: &[u8] = include_bytes!(env!("CORTEN_SUPERVISOR"));
const SMALL: Small = Small { content: SUPERVISOR, name: env!("CORTEN_SUPERVISOR_ID") };

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|arg| Path::new(arg).file_name()).unwrap_or(OsStr::new("corten"));
    if name == "docker-credential-corten" {
        return cli::credential_helper(args.into_iter().skip(1));
    }
    let code = match (name.to_str(), args.get(1).and_then(|arg| arg.to_str())) {
        (Some("dockerd"), _) => server::daemon::main(&args, SUPERVISOR),
        (Some("docker"), _) => cli::main(args),
        (_, Some("daemon")) => {
            let mut daemon_args = vec![OsString::from("corten daemon")];
            daemon_args.extend(args.into_iter().skip(2));
            server::daemon::main(&daemon_args, SUPERVISOR)
        }
        (_, Some("registry")) => {
            let mut registry_args = vec![OsString::from("corten registry")];
            registry_args.extend(args.into_iter().skip(2));
            server::registry::main(&registry_args)
        }
        // One path that is a whole OCI runtime, for engines that are told one, or look for runc.
        (Some("corten-runtime" | "runc"), _) => {
            runtime::command::main_through(args.into_iter().skip(1), Some(SMALL))
        }
        // Names of containers, for as long as there are containers: see `network::netd`.
        (_, Some("netd")) => network::netd::main(args.into_iter().skip(2)),
        (_, Some("runtime")) => runtime::command::main_through(args.into_iter().skip(2), Some(SMALL)),
        _ => cli::main(args),
    };
    // The shell sees the low eight bits anyway; a code outside them must not turn into success.
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
