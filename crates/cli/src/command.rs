//! Commands as data.

use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};
use crate::flags::{Group, Parsed};
use crate::session::Session;

/// A command on its way.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// What a command does.
#[derive(Clone, Copy)]
pub enum Action {
    /// It runs.
    Run(for<'a> fn(&'a Session, &'a Parsed) -> Running<'a>),
    /// It holds others.
    Group(&'static [&'static Command]),
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "Run",
            Self::Group(_) => "Group",
        })
    }
}

/// How many arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None.
    None,
    /// So many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// From, to.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// A line of help that can be typed.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// What it does.
    pub about: &'static str,
    /// Without the program's name.
    pub line: &'static str,
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its other names.
    pub aliases: &'static [&'static str],
    /// All the ways to type it, where there are several.
    pub also: &'static [&'static str],
    /// What stands behind its name.
    pub usage: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// How many arguments it takes.
    pub arity: Arity,
    /// Whether flags may stand behind arguments.
    pub interspersed: bool,
    /// Whether nothing is read as a flag.
    pub verbatim: bool,
    /// Its flags.
    pub flags: &'static [Group],
    /// Its examples.
    pub examples: &'static [Example],
    /// What its arguments are, for completion.
    pub completes: Completes,
    /// Whether lists leave it out.
    pub hidden: bool,
    /// What it does.
    pub action: Action,
}

/// What a command's arguments can be completed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completes {
    /// Nothing that is known here.
    Nothing,
    /// Containers, running or not.
    Containers,
    /// Running containers.
    Running,
    /// Images.
    Images,
    /// Volumes.
    Volumes,
    /// Networks.
    Networks,
    /// Contexts.
    Contexts,
}

impl Command {
    /// A command that runs, to be completed by struct update.
    #[must_use]
    pub const fn leaf(action: for<'a> fn(&'a Session, &'a Parsed) -> Running<'a>) -> Self {
        Self {
            name: "",
            aliases: &[],
            also: &[],
            usage: "",
            about: "",
            arity: Arity::None,
            interspersed: true,
            verbatim: false,
            flags: &[],
            examples: &[],
            completes: Completes::Nothing,
            hidden: false,
            action: Action::Run(action),
        }
    }

    /// A command that holds others.
    #[must_use]
    pub const fn group(name: &'static str, about: &'static str, children: &'static [&'static Self]) -> Self {
        Self {
            name,
            aliases: &[],
            also: &[],
            usage: "COMMAND",
            about,
            arity: Arity::Any,
            interspersed: false,
            verbatim: false,
            flags: &[],
            examples: &[],
            completes: Completes::Nothing,
            hidden: false,
            action: Action::Group(children),
        }
    }

    /// Whether it goes by that name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// The child of a name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&'static Self> {
        match self.action {
            Action::Group(children) => children.iter().find(|child| child.is(name)).copied(),
            Action::Run(_) => None,
        }
    }

    /// Checks the number of arguments; `path` is the command as typed.
    pub fn check(&self, path: &str, args: &[String]) -> Result<()> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let count = args.len();
        let (text, verb) = match self.arity {
            Arity::None if count > 0 => ("accepts no arguments".to_owned(), "Run"),
            Arity::Exactly(n) if count != n => (format!("requires {n} {}", plural(n)), "Run"),
            Arity::AtLeast(n) if count < n => (format!("requires at least {n} {}", plural(n)), "See"),
            Arity::AtMost(n) if count > n => (format!("requires at most {n} {}", plural(n)), "Run"),
            Arity::Between(from, to) if count < from || count > to => {
                (format!("requires at least {from} and at most {to} {}", plural(to)), "Run")
            }
            _ => return Ok(()),
        };
        Err(Error::Arguments { message: format!("'{path}' {text}"), verb })
    }
}
