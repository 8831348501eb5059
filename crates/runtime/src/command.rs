//! The command line of an OCI runtime, as runc has it: `create`, `start`, `state`, `kill`, `delete`, and what people use beside them.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cgroup::Driver;
use crate::config;
use crate::error::{Context as _, Error};
use crate::state;

mod arguments;
mod checkpoint;
mod directory;
mod events;
mod exec;
mod help;
mod inherited;
mod inspect;
mod manage;
mod relay;
mod run;
mod sealed;
mod signals;
mod small;
mod spec;
mod update;

use arguments::{Arguments, Flag};
pub use small::Small;

/// Where root's containers are recorded unless `--root` says otherwise; below `XDG_RUNTIME_DIR` for other users.
const ROOT_DEFAULT: &str = "/run/corten/runtime";

const USAGE: &str = "\
Usage: corten runtime [OPTIONS] COMMAND

Options:
  --root DIR               where containers are recorded (root: /run/corten/runtime;
                           others: $XDG_RUNTIME_DIR/corten/runtime)
  --log FILE               where errors are written as well, for the program that calls
  --log-format text|json
  --systemd-cgroup         systemd makes the cgroups; cgroupsPath is SLICE:PREFIX:NAME
  --rootless auto          taken for runc's sake: who calls is looked up
  --debug                  taken for runc's sake: nothing more is logged

Commands:
  create     make a container from a bundle
  start      execute the program of a container that was made
  run        make a container, start it, wait for it and delete it
  exec       execute a further program in a container
  state      show the state of a container
  kill       send a signal to a container
  pause      freeze the processes of a container
  resume     let them go on
  update     change the limits of a container
  events     show what a container uses, and when its memory runs out
  checkpoint write the processes of a container to files, and stop it
  restore    make a container again from these files, and let it go on
  ps         list the processes of a container
  list       list containers
  delete     take away what is left of a container
  spec       write an example of a configuration
  features   show what this runtime can do

\"corten runtime help COMMAND\" explains a command.
";

const GLOBAL: &[Flag] = &[
    Flag::value("root"),
    Flag::value("log"),
    Flag::value("log-format"),
    Flag::switch("debug"),
    Flag::switch("systemd-cgroup"),
    Flag::value("rootless"),
    Flag::switch("help").short('h'),
    Flag::switch("version").short('v'),
];

/// What all commands share.
#[derive(Debug)]
struct Global {
    root: PathBuf,
    log: Option<PathBuf>,
    json: bool,
    cgroups: Driver,
    /// A smaller program to go on as, if this is a large one.
    small: Option<Small>,
    /// All that was given.
    arguments: Vec<String>,
}

impl Global {
    /// The directory of the container `id`, whose name is checked.
    fn state_dir(&self, id: &str) -> Result<PathBuf, Error> {
        config::check_id(id)?;
        if self.root == Path::new(ROOT_DEFAULT) && sys::process::effective_user() != 0 {
            let text = "XDG_RUNTIME_DIR is not set: set it, or say where containers are recorded by --root";
            return Err(Error::Invalid(text.into()));
        }
        Ok(self.root.join(id))
    }
}

/// Runs the command that `arguments` (without the program's own name) stand for, and returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    main_through(arguments, None)
}

/// Like [`main`], for a large program: what makes processes goes on as the small one.
pub fn main_through(arguments: impl IntoIterator<Item = OsString>, small: Option<Small>) -> i32 {
    let arguments: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    let mut global = Global {
        root: ROOT_DEFAULT.into(),
        log: None,
        json: false,
        cgroups: Driver::default(),
        small,
        arguments: Vec::new(),
    };
    let result = match arguments {
        Ok(arguments) => {
            global.arguments.clone_from(&arguments);
            dispatch(&mut global, arguments)
        }
        Err(argument) => Err(Error::Invalid(format!("argument {argument:?} is not UTF-8"))),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&global, &error);
            error.exit_code().into()
        }
    }
}

/// Writes a line to standard output. Whoever reads it may have gone.
fn show(text: impl fmt::Display) -> Result<i32, Error> {
    writeln!(io::stdout(), "{text}").on("write to", "standard output").map(|()| 0)
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (control, other) = if c.is_control() { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    control.into_iter().flatten().chain(other)
}

/// Writes a line to standard error; that nobody reads there is no further error.
fn complain(text: &str) {
    // Names in it may be a stranger's, and their line ends and escapes would be taken for ours.
    let plain: String = text.chars().flat_map(escaped).collect();
    let _ = writeln!(io::stderr(), "runtime: {plain}");
}

/// One line on standard error, and one in the log for the program that called us.
fn report(global: &Global, error: &Error) {
    let text = error.chain();
    complain(&text);
    log(global, "error", &text);
}

/// The same for what failed and is no failure of the command.
fn warn(global: &Global, error: &Error) {
    let text = error.chain();
    complain(&format!("warning: {text}"));
    log(global, "warning", &text);
}

fn log(global: &Global, level: &str, text: &str) {
    let Some(path) = &global.log else { return };
    let line = if global.json {
        json!({"level": level, "msg": text, "time": state::now()}).to_string()
    } else {
        format!("time={:?} level={level} msg={text:?}", state::now())
    };
    let opened = config::open(path, fs::OpenOptions::new().create(true).append(true));
    let written = opened.and_then(|mut file| writeln!(file, "{line}"));
    if let Err(error) = written {
        complain(&format!("cannot write {}: {error}", path.display()));
    }
}

fn dispatch(global: &mut Global, arguments: Vec<String>) -> Result<i32, Error> {
    let mut options = Arguments::parse(arguments, GLOBAL)?;
    if options.take("help") {
        return show(USAGE.trim_end());
    }
    if options.take("version") {
        let version = env!("CARGO_PKG_VERSION");
        return show(format_args!("corten runtime version {version}\nspec: {}", state::OCI_VERSION));
    }
    if let Some(root) = options.value("root").map(PathBuf::from).or_else(own_root) {
        global.root = std::path::absolute(root).on("find", "the root directory")?;
    }
    global.log = options.value("log").map(PathBuf::from);
    global.json = match options.value("log-format").as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::Invalid(format!("unknown log format {other:?}"))),
    };
    if options.take("systemd-cgroup") {
        global.cgroups = Driver::Systemd;
    }
    // Who we are is looked up; nobody has to say it.
    match options.value("rootless").as_deref() {
        None | Some("auto") => {}
        Some("true") if sys::process::effective_user() != 0 => {}
        Some("false") if sys::process::effective_user() == 0 => {}
        Some(other) => return Err(Error::Unsupported(format!("--rootless {other} for this user"))),
    }
    let mut rest = options.rest().into_iter();
    let Some(command) = rest.next() else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return Ok(1);
    };
    let rest: Vec<String> = rest.collect();
    if matches!(rest.first().map(String::as_str), Some("--help" | "-h"))
        && let Some(text) = help::of(&command)
    {
        return show(text);
    }
    match command.as_str() {
        "create" => run::create(global, rest),
        "start" => run::start(global, rest),
        "run" => run::run(global, rest),
        "exec" => exec::exec(global, rest),
        "state" => inspect::state(global, rest),
        "list" => inspect::list(global, rest),
        "ps" => inspect::ps(global, rest),
        "spec" => spec::spec(rest),
        "features" => inspect::features(rest),
        "kill" => manage::kill(global, rest),
        "delete" => manage::delete(global, rest),
        "pause" => manage::pause(global, rest),
        "resume" => manage::resume(global, rest),
        "update" => update::update(global, rest),
        "events" => events::events(global, rest),
        "checkpoint" => checkpoint::checkpoint(global, rest),
        "restore" => checkpoint::restore(global, rest),
        "help" | "h" => match rest.first() {
            Some(topic) => show(help::of(topic).ok_or_else(|| unknown(topic))?),
            None => show(USAGE.trim_end()),
        },
        other => Err(unknown(other)),
    }
}

fn unknown(command: &str) -> Error {
    Error::Invalid(format!("unknown command {command:?}"))
}

/// Where an ordinary user's containers are recorded.
fn own_root() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    (sys::process::effective_user() != 0)
        .then(|| runtime.map(|directory| PathBuf::from(directory).join("corten/runtime")))
        .flatten()
}

/// Writes the number of a process where a caller wants it, complete or not at all.
fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    sys::proc::replace_file(path, pid.to_string().as_bytes(), 0o644).on("write", path)
}
