//! What a command has at hand.

use std::cell::OnceCell;
use std::io::Write;

use client::config::ConfigFile;
use client::context::Store;
use client::{Client, Options, Settings, Target, credentials};

use crate::autostart;
use crate::error::{Error, Result};
use crate::terminal;

/// One invocation of the program.
#[derive(Debug)]
pub struct Session {
    /// The name it was invoked by.
    pub program: String,
    /// The command as typed, with the program's name.
    pub path: String,
    /// The global flags.
    pub settings: Settings,
    /// Whether `--debug` was given.
    pub debug: bool,
    /// The user's configuration.
    pub config: ConfigFile,
    /// The user's contexts.
    pub store: Store,
    /// What was typed behind the command's name, for commands that hand it on.
    pub raw: Vec<String>,
    pub(crate) client: OnceCell<Client>,
}

/// The version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Session {
    /// The daemon's client. Nothing is sent before the first call.
    pub fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = self.target()?;
        let options = Options {
            user_agent: format!("Corten-Client/{VERSION} (linux)"),
            headers: self.headers(),
            fallbacks: if self.is_docker() { vec!["/run/docker.sock".into()] } else { Vec::new() },
            starter: Some(Box::new(autostart::start)),
        };
        Ok(self.client.get_or_init(|| Client::new(target, options)))
    }

    /// The daemon that was named.
    pub fn target(&self) -> Result<Target> {
        Target::resolve(&self.settings, &self.config, &self.store).map_err(|err| match err {
            client::Error::Address(_) | client::Error::NoContext { .. } | client::Error::Context(_) => {
                let text = err.to_string();
                if text.starts_with("conflicting") {
                    return Error::Message(text);
                }
                Error::Message(format!("Failed to initialize: unable to resolve docker endpoint: {text}"))
            }
            other => other.into(),
        })
    }

    /// Who the user is to a registry. Where that cannot be found out, nobody in particular: what is public is had all the same.
    pub fn credentials(&self, registry: &str) -> credentials::Auth {
        credentials::find(&self.config, registry).unwrap_or_else(|error| {
            self.note(&format!("WARNING: going on without credentials: {error}"));
            credentials::Auth::default()
        })
    }

    /// Whether the program was invoked by Docker's name.
    #[must_use]
    pub fn is_docker(&self) -> bool {
        self.program == "docker"
    }

    fn headers(&self) -> Vec<(String, String)> {
        let Some(headers) = self.config.object("HttpHeaders") else { return Vec::new() };
        headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"))
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// Prints to standard output. Nobody reading any more ends the command quietly.
    pub fn out(&self, text: impl AsRef<[u8]>) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()).map_err(output_failed)
    }

    /// Prints a line to standard output.
    pub fn line(&self, text: &str) -> Result<()> {
        self.out(format!("{text}\n"))
    }

    /// Tells something on standard error.
    pub fn note(&self, text: &str) {
        // Nobody to tell: the command's result is not affected.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Asks a yes or no question. Without a terminal the answer is read as well, as Docker does.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        self.out(format!("{question} [y/N] "))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(|source| Error::File {
            verb: "reading",
            path: "standard input".into(),
            source,
        })?;
        if answer.is_empty() && terminal::stdout_is_terminal() {
            self.line("")?;
        }
        Ok(matches!(answer.trim(), "y" | "Y"))
    }
}

/// The error of a failed write to standard output.
pub(crate) fn output_failed(err: std::io::Error) -> Error {
    if err.kind() == std::io::ErrorKind::BrokenPipe {
        // What a program that is ended by SIGPIPE reports through a shell.
        return Error::Exit(141);
    }
    Error::File { verb: "writing", path: "standard output".into(), source: err }
}
