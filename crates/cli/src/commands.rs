//! The tree of commands: one verb, one file; groups are folders.

pub mod builder;
pub mod complete;
pub mod container;
pub mod context;
pub mod debug;
pub mod image;
pub mod inspect;
pub mod login;
pub mod manifest;
pub mod network;
pub mod search;
pub mod secret;
pub mod system;
pub mod volume;

use crate::command::Command;

/// Docker's commands that are not here yet: refused by name, so that nobody takes them for a slip of the finger.
pub const NOT_YET: &[&str] =
    &["checkpoint", "config", "node", "plugin", "service", "stack", "swarm", "trust"];

/// The group that is meant by another program's name, where that program is not there.
#[must_use]
pub fn in_place_of(name: &str) -> Option<&'static Command> {
    (name == "buildx").then_some(&builder::GROUP)
}

/// The root of the tree.
#[must_use]
pub fn root() -> &'static Command {
    &ROOT
}

static ROOT: Command = Command {
    usage: "[OPTIONS] COMMAND",
    ..Command::group(
        "",
        "A container engine that does Docker's job",
        &[
            &container::GROUP,
            &image::GROUP,
            &builder::GROUP,
            &manifest::GROUP,
            &volume::GROUP,
            &secret::GROUP,
            &network::GROUP,
            &context::GROUP,
            &system::GROUP,
            &container::run::COMMAND,
            &container::create::COMMAND,
            &container::start::COMMAND,
            &container::stop::STOP,
            &container::stop::RESTART,
            &container::stop::KILL,
            &container::stop::PAUSE,
            &container::stop::UNPAUSE,
            &container::wait::COMMAND,
            &container::attach::COMMAND,
            &container::exec::COMMAND,
            &container::logs::COMMAND,
            &PS,
            &container::port::COMMAND,
            &container::remove::COMMAND,
            &container::top::COMMAND,
            &container::stats::COMMAND,
            &container::copy::COMMAND,
            &container::rename::COMMAND,
            &container::update::COMMAND,
            &container::commit::COMMAND,
            &container::diff::COMMAND,
            &container::export::COMMAND,
            &debug::COMMAND,
            &inspect::COMMAND,
            &login::LOGIN,
            &login::LOGOUT,
            &search::COMMAND,
            &system::events::COMMAND,
            &IMAGES,
            &image::build::COMMAND,
            &image::pull::COMMAND,
            &image::push::COMMAND,
            &image::tag::COMMAND,
            &RMI,
            &image::history::COMMAND,
            &image::save::COMMAND,
            &image::load::COMMAND,
            &image::import::COMMAND,
            &system::version::COMMAND,
            &system::info::COMMAND,
            &complete::SCRIPT,
            &complete::ASK,
        ],
    )
};

static PS: Command = Command { name: "ps", aliases: &[], ..container::list::COMMAND };
static IMAGES: Command = Command { name: "images", aliases: &[], ..image::list::COMMAND };
static RMI: Command = Command { name: "rmi", aliases: &[], ..image::remove::COMMAND };

use crate::error::{Error, Result};
use crate::session::Session;

/// Does something for each of several objects. What succeeds is printed, what fails is told; the command goes on
/// to the next, and fails at the end.
pub(crate) async fn each<F>(
    session: &Session,
    names: &[String],
    mut one: impl FnMut(String) -> F,
) -> Result<()>
where
    F: Future<Output = Result<Option<String>>>,
{
    let mut failed = false;
    for name in names {
        match one(name.clone()).await {
            Ok(Some(text)) => session.line(&text)?,
            Ok(None) => {}
            Err(err @ Error::Exit(_)) => return Err(err),
            Err(Error::Client(err)) if err.is_unreachable() => return Err(err.into()),
            Err(err) => {
                session.note(&crate::error::told(&err));
                failed = true;
            }
        }
    }
    if failed { Err(Error::Exit(1)) } else { Ok(()) }
}

/// The time that `--since` and `--until` name, as the API wants it: `42m`, RFC 3339, or seconds since 1970.
pub(crate) fn moment(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let now = api::timestamp::now();
    match api::timestamp::parse_query(text, now) {
        Ok(Some(nanoseconds)) => {
            let billion = 1_000_000_000;
            Ok(format!("{}.{:09}", nanoseconds.div_euclid(billion), nanoseconds.rem_euclid(billion)))
        }
        Ok(None) => Ok(String::new()),
        Err(_) => match api::duration::parse(text) {
            Ok(ago) => {
                let then = i128::from(now as i64) - i128::from(ago);
                Ok(format!("{}.{:09}", then.div_euclid(1_000_000_000), then.rem_euclid(1_000_000_000)))
            }
            Err(_) => Err(format!("failed to parse value as time or duration: {text:?}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Action;

    fn visit(command: &'static Command, path: &str, seen: &mut Vec<String>) {
        seen.push(path.to_owned());
        let mut letters = std::collections::HashSet::new();
        let mut names = std::collections::HashSet::new();
        for flag in command.flags.iter().flat_map(|group| group.flags) {
            assert!(names.insert(flag.long), "{path}: --{} twice", flag.long);
            assert!(
                flag.short.is_none_or(|letter| letters.insert(letter)),
                "{path}: -{:?} twice",
                flag.short
            );
            assert!(flag.hidden || !flag.help.is_empty(), "{path}: --{} has no help", flag.long);
        }
        if let Action::Group(children) = command.action {
            let mut names = std::collections::HashSet::new();
            for child in children {
                assert!(!child.about.is_empty() || child.hidden, "{path} {} says nothing", child.name);
                for name in child.aliases.iter().chain([&child.name]) {
                    assert!(names.insert(*name), "{path} {name} twice");
                }
                visit(child, &format!("{path} {}", child.name), seen);
            }
        }
    }

    #[test]
    fn the_tree_is_sound() {
        let mut seen = Vec::new();
        visit(root(), "corten", &mut seen);
        for wanted in
            ["corten run", "corten container ls", "corten system dial-stdio", "corten context export"]
        {
            assert!(seen.iter().any(|path| path == wanted), "{wanted}");
        }
        assert!(NOT_YET.iter().all(|name| root().child(name).is_none()));
    }

    #[test]
    fn examples_can_be_parsed() {
        fn examples(command: &'static Command) {
            // What is done next may be another command's.
            let mut own = command.examples.is_empty();
            for example in command.examples {
                let words: Vec<String> = example.line.split_whitespace().map(str::to_owned).collect();
                let mut place = root();
                let mut rest = words.as_slice();
                while let Some((first, behind)) = rest.split_first() {
                    let Some(child) = place.child(first) else { break };
                    (place, rest) = (child, behind);
                }
                own |= place.about == command.about;
                let rest: Vec<String> = rest.iter().map(|word| word.trim_matches('\'').to_owned()).collect();
                crate::flags::parse(&[place.flags], place.interspersed, &rest)
                    .unwrap_or_else(|err| panic!("{}: {err}", example.line));
            }
            assert!(own, "{} has no example of its own", command.name);
            if let Action::Group(children) = command.action {
                children.iter().for_each(|child| examples(child));
            }
        }
        examples(root());
    }

    #[test]
    fn moments() {
        assert_eq!(moment("").unwrap(), "");
        assert!(moment("2013-01-02T13:23:37Z").unwrap().starts_with("1357133017."));
        assert!(moment("42m").is_ok());
        assert_eq!(moment("x").unwrap_err(), "failed to parse value as time or duration: \"x\"");
    }
}
