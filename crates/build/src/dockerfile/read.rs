//! Arguments of each instruction.

use super::instruction::{
    Add, Argument, Command, CommandLine, Copy, Files, From, Heredoc, NAMES, Network, OnBuild, Pair, Run,
    Security, Word,
};
use super::line::Part;
use super::options::{self, Kind, Options};
use super::words::{self, Json};
use super::{Problem, health, heredoc, mount};
use crate::remote::Remote;
use crate::{include, suggest};

/// What is the same for all instructions of a text.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The letter that takes the meaning from the next.
    pub escape: char,
    /// Files that follow the line.
    pub heredocs: &'a [Heredoc],
}

const MIXED: &str = "when using JSON array syntax, arrays must be comprised of strings only";

impl Reader<'_> {
    /// Reads what follows a name.
    pub fn command(&self, name: &Word, rest: Part<'_>) -> Result<Command, Problem> {
        let (flags, rest) = words::flags(rest);
        let none = |command| options::read(&flags, &[]).map(|_| command);
        let upper = name.text.to_ascii_uppercase();
        match upper.as_str() {
            "ADD" => self.add(&flags, name, rest),
            "ARG" => none(Command::Arg(arguments(name, rest, self.escape)?)),
            "CMD" => none(Command::Cmd(command_line(rest)?)),
            "COPY" => self.copy(&flags, name, rest),
            "ENTRYPOINT" => none(Command::Entrypoint(command_line(rest)?)),
            "ENV" => none(Command::Env(pairs(name, rest, self.escape)?)),
            "EXPOSE" => none(Command::Expose(at_least_one(name, words::plain(rest), "a port as 80/tcp")?)),
            "FROM" => from(&flags, name, rest),
            "HEALTHCHECK" => health::read(&flags, rest).map(Command::Healthcheck),
            "INCLUDE" => none(Command::Include(include(name, rest)?)),
            "LABEL" => none(Command::Label(pairs(name, rest, self.escape)?)),
            "MAINTAINER" => none(Command::Maintainer(exactly_one(name, rest, "a name")?)),
            "ONBUILD" => self.on_build(name, rest).and_then(none),
            "RUN" => self.run(&flags, rest),
            "SHELL" => none(Command::Shell(shell(name, rest)?)),
            "STOPSIGNAL" => none(Command::StopSignal(exactly_one(name, rest, "a signal as SIGTERM or 15")?)),
            "USER" => none(Command::User(exactly_one(name, rest, "a user as name[:group]")?)),
            "VOLUME" => none(Command::Volume(volumes(name, rest)?)),
            "WORKDIR" => none(Command::Workdir(exactly_one(name, rest, "a directory")?)),
            _ => Err(unknown(name)),
        }
    }

    fn run(&self, flags: &[Word], rest: Part<'_>) -> Result<Command, Problem> {
        let known = [
            ("mount", Kind::List),
            ("network", Kind::Text),
            ("security", Kind::Text),
            ("device", Kind::List),
        ];
        let options = options::read(flags, &known)?;
        let (mounts, devices) = (options.list("mount"), options.list("device"));
        for word in &mounts {
            check_mount(word)?;
        }
        for word in devices.iter().filter(|word| !word.text.contains('$')) {
            mount::device(&word.text).map_err(|message| Problem::new(word.span, message))?;
        }
        let network = options.text("network").map(|word| match word.text.as_str() {
            "default" => Ok(Network::Default),
            "none" => Ok(Network::None),
            "host" => Ok(Network::Host),
            other => Err(Problem::new(word.span, format!("invalid network mode {other:?}"))
                .expecting("default, none or host")),
        });
        let security = options.text("security").map(|word| match word.text.as_str() {
            "sandbox" => Ok(Security::Sandbox),
            "insecure" => Ok(Security::Insecure),
            other => Err(Problem::new(word.span, format!("security {other:?} is not valid"))
                .expecting("sandbox or insecure")),
        });
        Ok(Command::Run(Run {
            line: command_line(rest)?,
            heredocs: self.heredocs.to_vec(),
            mounts,
            network: network.transpose()?,
            security: security.transpose()?,
            devices,
        }))
    }

    fn add(&self, flags: &[Word], name: &Word, rest: Part<'_>) -> Result<Command, Problem> {
        let mut known = COPY_FLAGS.to_vec();
        known.extend([("checksum", Kind::Text), ("keep-git-dir", Kind::Bool), ("unpack", Kind::Bool)]);
        let words = sources(name, rest)?;
        let options = options::read(flags, &known)?;
        let files = self.files(&options, name, words)?;
        let checksum = options.text("checksum");
        if let Some(word) = &checksum {
            check_checksum(word, &files.sources)?;
        }
        Ok(Command::Add(Add {
            files,
            checksum,
            keep_git_dir: options.bool("keep-git-dir"),
            unpack: options.bool("unpack"),
        }))
    }

    fn copy(&self, flags: &[Word], name: &Word, rest: Part<'_>) -> Result<Command, Problem> {
        let mut known = COPY_FLAGS.to_vec();
        known.extend([("from", Kind::Text), ("parents", Kind::Bool)]);
        let words = sources(name, rest)?;
        let options = options::read(flags, &known)?;
        let from = options.text("from");
        if let Some(word) = from.as_ref().filter(|word| has_variable(&word.text)) {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global \
                           scope as a workaround";
            return Err(Problem::new(word.span, message));
        }
        let parents = options.bool("parents").unwrap_or_default();
        Ok(Command::Copy(Copy { files: self.files(&options, name, words)?, from, parents }))
    }

    fn files(&self, options: &Options, name: &Word, mut words: Vec<Word>) -> Result<Files, Problem> {
        let destination = words.pop().unwrap_or_default();
        let upper = name.text.to_ascii_uppercase();
        if heredoc::parse(&destination.text).is_some() {
            let message = format!("{upper} cannot accept a heredoc as a destination");
            return Err(Problem::new(destination.span, message).expecting("a path"));
        }
        let mut inline = Vec::new();
        let mut sources = Vec::new();
        for word in words {
            match heredoc::parse(&word.text) {
                None => sources.push(word),
                Some(begun) => {
                    // Of two with the same name the last one is meant by both.
                    let whole = self.heredocs.iter().rev().find(|whole| whole.name == begun.name).cloned();
                    inline.push(whole.unwrap_or(begun));
                }
            }
        }
        Ok(Files {
            sources,
            inline,
            destination,
            chown: options.text("chown"),
            chmod: options.text("chmod"),
            link: options.bool("link").unwrap_or_default(),
            exclude: options.list("exclude"),
        })
    }

    fn on_build(&self, name: &Word, rest: Part<'_>) -> Result<Command, Problem> {
        let rest = rest.trim();
        let (trigger, arguments) = rest.split();
        let word = trigger.word();
        let message = match word.text.to_ascii_uppercase().as_str() {
            "" => "ONBUILD requires at least one argument".to_owned(),
            "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
            upper @ ("MAINTAINER" | "FROM" | "INCLUDE") => {
                format!("{upper} isn't allowed as an ONBUILD trigger")
            }
            _ => {
                // One that is not known here may be known where somebody builds on the image.
                let is_known = NAMES.iter().any(|name| name.eq_ignore_ascii_case(&word.text));
                let command = if is_known { self.command(&word, arguments)? } else { Command::Invalid };
                let mut expression = rest.text().to_owned();
                for file in self.heredocs {
                    expression.push('\n');
                    expression.push_str(&file.content);
                    expression.push_str(&file.name);
                }
                return Ok(Command::OnBuild(OnBuild { expression, name: word, command: Box::new(command) }));
            }
        };
        let span = if word.text.is_empty() { name.span } else { word.span };
        Err(Problem::new(span, message).expecting("an instruction"))
    }
}

/// Options that `COPY` and `ADD` have.
const COPY_FLAGS: [(&str, Kind); 4] =
    [("chown", Kind::Text), ("chmod", Kind::Text), ("link", Kind::Bool), ("exclude", Kind::List)];

fn unknown(name: &Word) -> Problem {
    let hint = suggest::hint(suggest::nearest(&name.text, NAMES.iter().copied(), false));
    let shown: String = name.text.chars().take(super::ERROR_LETTERS_MAX).collect();
    Problem::new(name.span, format!("unknown instruction: {shown}{hint}"))
        .expecting(format!("one of {}", NAMES.join(", ")))
}

/// What can be checked before variables have values.
fn check_mount(word: &Word) -> Result<(), Problem> {
    let from = word.text.split(',').filter_map(|field| field.split_once('='));
    if from.into_iter().any(|(key, value)| key.eq_ignore_ascii_case("from") && has_variable(value)) {
        let message = "'from' doesn't support variable expansion, define alias stage instead";
        return Err(Problem::new(word.span, message).expecting("the name of a stage or an image"));
    }
    if word.text.contains('$') {
        return Ok(());
    }
    let wrong = |message| Problem::new(word.span, message);
    let mount = mount::parse(&word.text).map_err(wrong)?;
    // Of one that does not begin at the root the directory decides, which is not known yet.
    if mount.target.starts_with('/') { mount.check_target(&mount.target).map_err(wrong) } else { Ok(()) }
}

/// What can be checked of a checksum before variables have values.
fn check_checksum(word: &Word, sources: &[Word]) -> Result<(), Problem> {
    let [source] = sources else { return Ok(()) };
    if word.text.contains('$') || source.text.contains('$') {
        return Ok(());
    }
    match Remote::parse(&source.text) {
        Ok(Some(remote)) => remote
            .check_checksum(&word.text)
            .map_err(|(message, expected)| Problem::new(word.span, message).expecting(expected)),
        _ => Ok(()),
    }
}

fn has_variable(text: &str) -> bool {
    text.split_once('$').is_some_and(|(_, rest)| !rest.is_empty())
}

fn from(flags: &[Word], name: &Word, rest: Part<'_>) -> Result<Command, Problem> {
    let mut words = words::plain(rest).into_iter();
    let form = || {
        let span = if rest.is_empty() { name.span } else { rest.span() };
        Problem::new(span, "FROM requires either one or three arguments").expecting("FROM image [AS name]")
    };
    let image = words.next().ok_or_else(form)?;
    let (keyword, stage) = (words.next(), words.next());
    if words.next().is_some() {
        return Err(form());
    }
    if let Some(keyword) = &keyword {
        let stage = stage.as_ref().filter(|_| keyword.text.eq_ignore_ascii_case("as")).ok_or_else(form)?;
        if !is_stage_name(&stage.text) {
            let message = format!(
                "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                stage.text
            );
            return Err(Problem::new(stage.span, message).expecting("letters, digits, '-', '_' and '.'"));
        }
    }
    let options = options::read(flags, &[("platform", Kind::Text)])?;
    Ok(Command::From(From { image, platform: options.text("platform"), keyword, name: stage }))
}

fn is_stage_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

/// A list of strings, or a line for the shell.
pub fn command_line(rest: Part<'_>) -> Result<CommandLine, Problem> {
    match words::json(rest) {
        Json::Strings(words) => Ok(CommandLine::Exec(words)),
        Json::Mixed => Err(Problem::new(rest.span(), MIXED).expecting("strings in double quotes")),
        Json::None => Ok(CommandLine::Shell(rest.word())),
    }
}

fn list(rest: Part<'_>) -> Result<Vec<Word>, Problem> {
    match words::json(rest) {
        Json::Strings(words) => Ok(words),
        Json::Mixed => Err(Problem::new(rest.span(), MIXED).expecting("strings in double quotes")),
        Json::None => Ok(words::plain(rest)),
    }
}

fn sources(name: &Word, rest: Part<'_>) -> Result<Vec<Word>, Problem> {
    let words = list(rest)?;
    if words.len() < 2 {
        let upper = name.text.to_ascii_uppercase();
        let message = format!(
            "{upper} requires at least two arguments, but only one was provided. Destination could not be determined."
        );
        let span = words.first().map_or(name.span, |word| word.span);
        return Err(Problem::new(span, message).expecting("source … destination"));
    }
    Ok(words)
}

fn at_least_one(name: &Word, words: Vec<Word>, expected: &str) -> Result<Vec<Word>, Problem> {
    if words.is_empty() {
        let message = format!("{} requires at least one argument", name.text.to_ascii_uppercase());
        return Err(Problem::new(name.span, message).expecting(expected));
    }
    Ok(words)
}

fn exactly_one(name: &Word, rest: Part<'_>, expected: &str) -> Result<Word, Problem> {
    if rest.is_empty() {
        let message = format!("{} requires exactly one argument", name.text.to_ascii_uppercase());
        return Err(Problem::new(name.span, message).expecting(expected));
    }
    Ok(rest.word())
}

/// The one file that is named: as a word, or as a list of one string.
fn include(name: &Word, rest: Part<'_>) -> Result<Word, Problem> {
    let expected = "the path of a file, from the root of the build context";
    let mut words = list(rest)?;
    let (Some(word), 0) = (words.pop(), words.len()) else {
        return Err(Problem::new(name.span, "INCLUDE requires exactly one argument").expecting(expected));
    };
    match include::path(&word.text) {
        Ok(_) => Ok(word),
        Err((message, expected)) => Err(Problem::new(word.span, message).expecting(expected)),
    }
}

fn volumes(name: &Word, rest: Part<'_>) -> Result<Vec<Word>, Problem> {
    let words = at_least_one(name, list(rest)?, "a directory")?;
    if let Some(word) = words.iter().find(|word| word.text.trim().is_empty()) {
        return Err(Problem::new(word.span, "VOLUME specified can not be an empty string"));
    }
    Ok(words)
}

fn shell(name: &Word, rest: Part<'_>) -> Result<Vec<Word>, Problem> {
    match words::json(rest) {
        Json::Strings(words) => at_least_one(name, words, "a program and its options"),
        Json::Mixed => Err(Problem::new(rest.span(), MIXED).expecting("strings in double quotes")),
        Json::None if rest.is_empty() => at_least_one(name, Vec::new(), "[\"program\", \"option\"]"),
        Json::None => Err(Problem::new(rest.span(), "SHELL requires the arguments to be in JSON form")
            .expecting("[\"program\", \"option\"]")),
    }
}

fn arguments(name: &Word, rest: Part<'_>, escape: char) -> Result<Vec<Argument>, Problem> {
    let words = at_least_one(name, words::quoted(rest, escape), "a name, or name=value")?;
    let read = |word: Word| {
        let (key, default) = match divide(&word) {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        if key.text.is_empty() {
            return Err(Problem::new(key.span, "ARG names can not be blank").expecting("name=value"));
        }
        Ok(Argument { name: key, default })
    };
    words.into_iter().map(read).collect()
}

fn pairs(name: &Word, rest: Part<'_>, escape: char) -> Result<Vec<Pair>, Problem> {
    let upper = name.text.to_ascii_uppercase();
    let words = at_least_one(name, words::quoted(rest, escape), "name=value")?;
    let blank = |word: &Word| {
        Problem::new(word.span, format!("{upper} names can not be blank")).expecting("name=value")
    };
    if !words[0].text.contains('=') {
        let (key, value) = rest.split();
        if value.is_empty() {
            let message = format!("{upper} must have two arguments");
            return Err(Problem::new(key.span(), message).expecting("name=value"));
        }
        return Ok(vec![Pair { name: key.word(), value: value.word(), legacy: true }]);
    }
    let read = |word: &Word| {
        let Some((key, value)) = divide(word) else {
            let message =
                format!("Syntax error - can't find = in {:?}. Must be of the form: name=value", word.text);
            return Err(Problem::new(word.span, message).expecting("name=value"));
        };
        if key.text.is_empty() {
            return Err(blank(word));
        }
        Ok(Pair { name: key, value, legacy: false })
    };
    words.iter().map(read).collect()
}

/// Name and value around the first equals sign.
fn divide(word: &Word) -> Option<(Word, Word)> {
    let (key, value) = word.text.split_once('=')?;
    // Exact where the word is on one line.
    let start = word.span.start;
    let middle = (start + key.len()).min(word.span.end);
    let behind = word.span.end.saturating_sub(value.len()).max(middle);
    Some((
        Word { text: key.to_owned(), span: crate::Span::new(start, middle) },
        Word { text: value.to_owned(), span: crate::Span::new(behind, word.span.end) },
    ))
}
