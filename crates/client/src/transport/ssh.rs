//! A connection through the `ssh` program, to `system dial-stdio` on the other side.

use std::process::Stdio;
use tokio::process::{Child, Command};

use super::{Pair, Stream};
use crate::error::{Error, Result};
use crate::target::{SshDestination, Target};

/// Either engine's command line may be on the other side.
const REMOTE: &str = "sh -c 'if command -v docker >/dev/null 2>&1; then exec docker system dial-stdio; \
                      else exec corten system dial-stdio; fi'";

/// Starts `ssh`. That the host refuses shows as the end of the stream, its reason on stderr.
pub(super) fn connect(target: &Target, destination: &SshDestination) -> Result<Stream> {
    let mut child = command(destination).spawn().map_err(|err| Error::Connect {
        host: target.to_string(),
        detail: format!("exec: \"ssh\": {err}"),
    })?;
    let (Some(read), Some(write)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(Error::Connect { host: target.to_string(), detail: "ssh has no pipes".into() });
    };
    Ok(Box::new(Pair::new(Guarded { read, _child: child }, write)))
}

fn command(destination: &SshDestination) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = &destination.user {
        command.args(["-l", user]);
    }
    if let Some(port) = destination.port {
        command.args(["-p", &port.to_string()]);
    }
    command.arg("--").arg(&destination.host);
    match &destination.socket {
        None => command.arg(REMOTE),
        Some(path) => {
            let path = path.replace('\'', "'\\''");
            command.arg(format!("docker --host 'unix://{path}' system dial-stdio"))
        }
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // A terminal's Ctrl-C is for the container, not for the connection to it.
    command.process_group(0);
    command
}

/// The reading side, which keeps `ssh` alive and ends it.
struct Guarded<R> {
    read: R,
    _child: Child,
}

impl<R: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Guarded<R> {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().read).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_cannot_be_an_option() {
        let destination = SshDestination {
            user: Some("me".into()),
            host: "-oProxyCommand=x".into(),
            port: Some(2222),
            socket: None,
        };
        let command = command(&destination);
        let args: Vec<_> = command.as_std().get_args().map(|a| a.to_str().unwrap()).collect();
        let dashes = args.iter().position(|a| *a == "--").unwrap();
        assert_eq!(args[dashes + 1], "-oProxyCommand=x");
        assert_eq!(args[..dashes], ["-o", "ConnectTimeout=30", "-T", "-l", "me", "-p", "2222"]);
    }
}
