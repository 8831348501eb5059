//! The command line: commands, flags, formats and progress.
//!
//! ```text
//!  main -> global flags -> a command of the tree -> its flags -> its action -> the daemon
//!             flags            command               flags        commands      client
//! ```
//!
//! The tree of commands is constant data ([`command::Command`]): nothing is built at start, and help, completion
//! and parsing read the same tables. Nothing here knows which engine answers.

mod archive;
mod autostart;
mod command;
mod commands;
#[cfg(test)]
mod compatibility;
mod completion;
mod create;
mod error;
mod flags;
mod format;
mod globals;
mod help;
mod plugins;
mod progress;
mod recipe;
mod session;
mod signals;
mod steps;
mod stream;
mod table;
mod template;
mod terminal;
mod units;

use std::cell::OnceCell;
use std::ffi::OsString;

use client::config::ConfigFile;
use client::context::Store;

use command::{Action, Command};
use error::{Error, told};
use session::Session;

pub use commands::login::helper as credential_helper;

/// Runs the program: `args` begins with the name it was invoked by. Returns the exit code.
#[must_use]
pub fn main(args: Vec<OsString>) -> i32 {
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(bad) => {
                eprintln!("an argument is not valid UTF-8: {}", bad.to_string_lossy());
                return i32::from(error::CODE_REFUSED);
            }
        }
    }
    let program = words.first().map_or("corten", String::as_str);
    let program = program.rsplit('/').next().unwrap_or(program).to_owned();
    let rest = words.get(1..).unwrap_or_default().to_vec();
    match start(&program, rest) {
        Ok(code) => code,
        Err((err, place)) => {
            report(&program, &err, &place);
            i32::from(err.code())
        }
    }
}

/// Where an error happened: the command as typed, and its usage.
#[derive(Debug, Default)]
struct Place {
    path: String,
    usage: String,
}

type Started = Result<i32, (Error, Place)>;

fn start(program: &str, args: Vec<String>) -> Started {
    let root = commands::root();
    let mut place =
        Place { path: program.to_owned(), usage: format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]") };
    let global = match flags::parse(&[globals::FLAGS], false, &args) {
        Ok(global) => global,
        Err(err) => return Err((err, place)),
    };
    let given = args.len() - global.args.len();
    let (before, _) = args.split_at(given);
    let session = match globals::session(program, &global) {
        Ok(session) => session,
        Err(err) => return Err((err, place)),
    };
    if global.on("version") {
        return said(&session, &format!("{} version {}\n", title(program), session::VERSION), place);
    }
    let mut path = program.to_owned();
    let mut command: &Command = root;
    let mut rest = global.args.as_slice();
    while let Action::Group(_) = command.action {
        let Some((name, behind)) = rest.split_first() else { break };
        if name.starts_with('-') {
            break;
        }
        let mut child = command.child(name);
        if child.is_none() {
            if name == "help" {
                return helped(&session, program, behind, place);
            }
            if command.name == root.name {
                match plugins::run(&session, name, before, behind) {
                    Ok(Some(code)) => return Ok(code),
                    Ok(None) => child = commands::in_place_of(name),
                    Err(err) => return Err((err, place)),
                }
            }
        }
        let Some(child) = child else { return Err((unknown(&path, name, command, &mut place), place)) };
        path = format!("{path} {name}");
        command = child;
        rest = behind;
    }
    place = Place { usage: help::usage(&path, command), path: path.clone() };
    run(session, command, &path, rest, place)
}

fn unknown(path: &str, name: &str, command: &Command, place: &mut Place) -> Error {
    path.clone_into(&mut place.path);
    if commands::NOT_YET.contains(&name) {
        return Error::Message(format!("'{path} {name}' is not supported yet by this version of corten"));
    }
    place.usage = if command.name.is_empty() { String::new() } else { format!("Usage:  {path}") };
    Error::Arguments { message: format!("unknown command: {path} {name}"), verb: "Run" }
}

fn run(mut session: Session, command: &Command, path: &str, args: &[String], place: Place) -> Started {
    let parsed = match flags::parse(&[command.flags], command.interspersed, args) {
        _ if command.verbatim => flags::Parsed::default(),
        Ok(parsed) => parsed,
        Err(err) => return Err((err, place)),
    };
    let group = matches!(command.action, Action::Group(_));
    if parsed.help || group {
        if let Some(name) = parsed.args.first().filter(|_| group) {
            let mut place = place;
            return Err((unknown(path, name, command, &mut place), place));
        }
        let text = help_text(&session, path, command);
        if !parsed.help && !command.name.is_empty() {
            // A group alone is half a command: its help is no result.
            eprint!("{text}");
            return Ok(0);
        }
        return said(&session, &text, place);
    }
    if let Err(err) = command.check(path, &parsed.args) {
        return Err((err, place));
    }
    let Action::Run(action) = command.action else { return Ok(0) };
    path.clone_into(&mut session.path);
    session.raw = args.to_vec();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            return Err((Error::File { verb: "starting", path: "the event loop".into(), source }, place));
        }
    };
    let ended = runtime.block_on(action(&session, &parsed));
    // A thread may still wait for a key on standard input; the process ends all the same.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Ok(0),
        Err(Error::Exit(code)) => Ok(i32::from(code)),
        Err(err) => Err((err, place)),
    }
}

fn title(program: &str) -> String {
    match program {
        "docker" => "Docker".into(),
        _ => "Corten".into(),
    }
}

fn help_text(session: &Session, path: &str, command: &Command) -> String {
    let look = help::Look { width: terminal::width().unwrap_or(help::WIDTH), colour: terminal::colour() };
    let globals: &[flags::Group] = if command.name.is_empty() { globals::FLAGS } else { &[] };
    help::help(path, &session.program, command, globals, look)
}

/// `help COMMAND…`.
fn helped(session: &Session, program: &str, names: &[String], place: Place) -> Started {
    let mut path = program.to_owned();
    let mut command = commands::root();
    for name in names {
        let Some(child) = command.child(name) else {
            return Err((Error::Message(format!("unknown help topic: {}", names.join(" "))), place));
        };
        path = format!("{path} {name}");
        command = child;
    }
    said(session, &help_text(session, &path, command), place)
}

fn said(session: &Session, text: &str, place: Place) -> Started {
    session.out(text).map(|()| 0).map_err(|err| (err, place))
}

/// The one place where errors become text.
fn report(program: &str, err: &Error, place: &Place) {
    let hint = |verb: &str| format!("{verb} '{} --help' for more information", place.path);
    let text = match err {
        Error::Exit(_) => return,
        Error::Flag(message) => format!("{message}\n\n{}\n\n{}", place.usage, hint("Run")),
        Error::Arguments { message, verb } if place.usage.is_empty() => {
            format!("{program}: {message}\n\n{}", hint(verb))
        }
        Error::Arguments { message, verb } => {
            format!("{program}: {message}\n\n{}\n\n{}", place.usage, hint(verb))
        }
        Error::Start { message, .. } => format!("{program}: {message}\n\n{}", hint("Run")),
        other => told(other),
    };
    eprintln!("{text}");
}

impl Session {
    pub(crate) fn new(program: &str, settings: client::Settings, debug: bool, config: ConfigFile) -> Self {
        let store = Store::new(config.folder());
        Self {
            program: program.to_owned(),
            path: String::new(),
            settings,
            debug,
            config,
            store,
            raw: Vec::new(),
            client: OnceCell::new(),
        }
    }
}
