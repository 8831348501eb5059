//! `login`, `logout`, and the helper that other tools ask for what `login` has kept.

use api::system::AuthResponse;
use client::credentials::{self, Auth, Entry, Kept, OWN, Secret, Vault};
use client::query::Query;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::session::{Session, output_failed};
use crate::terminal;

/// `login`.
pub const LOGIN: Command = Command {
    name: "login",
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry",
    arity: Arity::AtMost(1),
    flags: &[Group {
        title: "",
        flags: &[
            text("password", "Password or access token (others can see it: prefer --password-stdin)")
                .short('p'),
            switch("password-stdin", "Take the password from standard input"),
            switch("plaintext", "Keep the password unencrypted in config.json"),
            text("username", "User name").short('u'),
        ],
    }],
    examples: &[
        Example { about: "Asked for name and password", line: "login registry.example:5000" },
        Example { about: "In a script", line: "login -u ci --password-stdin registry.example < token" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(login(session, parsed)))
};

/// `logout`.
pub const LOGOUT: Command = Command {
    name: "logout",
    usage: "[SERVER]",
    about: "Forget the credentials for a registry",
    arity: Arity::AtMost(1),
    examples: &[Example { about: "From a registry of your own", line: "logout registry.example:5000" }],
    ..Command::leaf(|session, parsed| Box::pin(logout(session, parsed)))
};

/// A password is not longer, nor is a token.
const PASSWORD_BYTES_MAX: u64 = 1 << 20;

async fn login(session: &Session, parsed: &Parsed) -> Result<()> {
    let server = credentials::key_of(parsed.args.first().map_or("", String::as_str)).to_owned();
    let mut username = parsed.or_empty("username");
    let mut password = parsed.or_empty("password");
    if parsed.on("password-stdin") {
        if parsed.given("password") {
            return Err(Error::say(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if username.is_empty() {
            return Err(Error::say("the --password-stdin option requires --username to be set"));
        }
        password = password_of_stdin()?;
    } else if !password.is_empty() {
        session.note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if (parsed.given("username") && username.is_empty()) || (parsed.given("password") && password.is_empty())
    {
        return Err(Error::say(if username.is_empty() { "username is empty" } else { "password is empty" }));
    }
    let mut known = Auth::default();
    if username.is_empty() && password.is_empty() {
        known = session.credentials(&server);
        if let Some(answer) = again(session, &known, &server).await? {
            return session.line(&answer.status);
        }
    }
    if username.is_empty() {
        username = ask_username(session, &known.username)?;
    }
    if password.is_empty() {
        password = ask_password(session)?;
    }
    let mut auth = Auth { username, password, serveraddress: server, ..Auth::default() };
    let answer = show(session, &auth).await?;
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken = answer.identity_token;
    }
    let mut config = session.config.clone();
    let kept = credentials::keep(&mut config, &auth, parsed.on("plaintext"))?;
    tell(session, &kept);
    session.line(&answer.status)
}

/// Tries what is kept already; `None` if there is nothing, or it is not taken any more.
async fn again(session: &Session, known: &Auth, server: &str) -> Result<Option<AuthResponse>> {
    if known.username.is_empty() && known.identitytoken.is_empty() {
        return Ok(None);
    }
    let who =
        if known.username.is_empty() { String::new() } else { format!(" [Username: {}]", known.username) };
    session.note(&format!("Authenticating with existing credentials...{who}"));
    let auth = Auth { serveraddress: server.to_owned(), ..known.clone() };
    match show(session, &auth).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Client(error)) if error.status() == Some(401) => {
            session.note(&format!("Login did not succeed, error: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn show(session: &Session, auth: &Auth) -> Result<AuthResponse> {
    Ok(session.client()?.exchange("/auth", Query::new(), auth).await?)
}

fn tell(session: &Session, kept: &Kept) {
    let config = session.config.folder().join("config.json");
    match kept {
        Kept::Helper(_) => {}
        Kept::Vault => session.note(&format!(
            "The password is kept encrypted, where {} finds it. For docker, Compose and skopeo to find it too, link \
             docker-credential-{OWN} to this program in a folder of PATH, and log in again.",
            session.program
        )),
        Kept::Plain => session.note(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nLog in without --plaintext to have them encrypted.\n",
            config.display()
        )),
    }
}

fn input_failed(source: std::io::Error) -> Error {
    Error::File { verb: "reading", path: "standard input".into(), source }
}

fn password_of_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(PASSWORD_BYTES_MAX).read_to_string(&mut text).map_err(input_failed)?;
    // As Docker: one end of a line, of any kind.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(Error::say("password is empty")) } else { Ok(text.to_owned()) }
}

/// A line that was typed.
fn line() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_BYTES_MAX).read_line(&mut text).map_err(input_failed)?;
    if read == 0 { Err(Error::say("error reading standard input: EOF")) } else { Ok(text.trim().to_owned()) }
}

fn ask_username(session: &Session, before: &str) -> Result<String> {
    if !terminal::stdin_is_terminal() {
        return Err(Error::say("Cannot perform an interactive login from a non TTY device"));
    }
    session.out(if before.is_empty() {
        "Username: ".to_owned()
    } else {
        format!("Username ({before}): ")
    })?;
    let name = line()?;
    match (name.is_empty(), before.is_empty()) {
        (true, true) => Err(Error::say("username is empty")),
        (true, false) => Ok(before.to_owned()),
        _ => Ok(name),
    }
}

/// A terminal that does not show what is typed; dropping it shows it again.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Self> {
        let failed = |errno: rustix::io::Errno| Error::File {
            verb: "setting up",
            path: "the terminal".into(),
            source: errno.into(),
        };
        let before = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal is gone when this fails: there is nothing left to restore.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

fn ask_password(session: &Session) -> Result<String> {
    if !terminal::stdin_is_terminal() {
        return Err(Error::say("Cannot perform an interactive login from a non TTY device"));
    }
    session.out("Password: ")?;
    let typed = {
        let _hidden = Hidden::begin()?;
        line()
    };
    session.out("\n")?;
    let typed = typed?;
    if typed.is_empty() { Err(Error::say("password is required")) } else { Ok(typed) }
}

async fn logout(session: &Session, parsed: &Parsed) -> Result<()> {
    let registry = parsed.args.first().map_or("", String::as_str);
    let server = credentials::key_of(registry).to_owned();
    let mut config = session.config.clone();
    session.line(&format!("Removing login credentials for {server}"))?;
    // There may have been none: Docker says no more either.
    if let Err(error) = credentials::forget(&mut config, &server) {
        session.note(&format!("WARNING: could not erase credentials: {error}"));
    }
    Ok(())
}

/// `docker-credential-corten`: Docker's protocol for credential helpers, over what `login` keeps. Everything is said on standard
/// output, errors too.
pub fn helper(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (text, code) = match help(&args) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.to_string(), ExitCode::FAILURE),
    };
    let mut stdout = std::io::stdout().lock();
    let written = if text.is_empty() { Ok(()) } else { writeln!(stdout, "{text}") };
    match written.map_err(output_failed) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn help(args: &[String]) -> Result<String> {
    let usage = || Error::say(format!("Usage: docker-credential-{OWN} <store|get|erase|list|version>"));
    let [action] = args else { return Err(usage()) };
    let vault = Vault::of_user()?;
    let json = |value: &serde_json::Value| Ok(value.to_string());
    match action.as_str() {
        "get" => {
            let server = told()?;
            let found = vault.get(&server)?.or(vault.get(credentials::key_of(&server))?);
            let found = found.ok_or_else(|| Error::say("credentials not found in native keychain"))?;
            json(
                &serde_json::json!({"ServerURL": server, "Username": found.username, "Secret": found.secret}),
            )
        }
        "store" => {
            let entry: Entry =
                serde_json::from_str(&told()?).map_err(|err| Error::Message(err.to_string()))?;
            if entry.server.is_empty() {
                return Err(Error::say("no credentials server URL"));
            }
            if entry.username.is_empty() {
                return Err(Error::say("no credentials username"));
            }
            vault.put(&entry.server, &Secret { username: entry.username, secret: entry.secret })?;
            Ok(String::new())
        }
        "erase" => {
            vault.remove(&told()?)?;
            Ok(String::new())
        }
        "list" => {
            let names = vault.all()?.into_iter().map(|(server, secret)| (server, secret.username.into()));
            json(&serde_json::Value::Object(names.collect()))
        }
        "version" => Ok(format!("docker-credential-{OWN} (corten) {}", env!("CARGO_PKG_VERSION"))),
        _ => Err(usage()),
    }
}

/// What the helper is told on standard input.
fn told() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(PASSWORD_BYTES_MAX).read_to_string(&mut text).map_err(input_failed)?;
    let text = text.trim();
    if text.is_empty() { Err(Error::say("no credentials server URL")) } else { Ok(text.to_owned()) }
}
