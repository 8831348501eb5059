//! Instructions as data. Words are as they are written: variables, quotes and escapes are still in them.

use crate::text::Span;

/// A piece of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// What it says; continued lines are one.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

/// Names of all instructions.
pub const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "INCLUDE",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction and what stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its name as it is written.
    pub name: Word,
    /// From its first letter to the end of its last line, heredocs included.
    pub span: Span,
    /// Its text as one line, without heredocs.
    pub original: String,
    /// Comments directly above it, without the hash.
    pub comments: Vec<String>,
    /// An empty line between its lines.
    pub empty_continuation: Option<Span>,
    /// What it says.
    pub command: Command,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `ADD`.
    Add(Add),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`.
    Expose(Vec<Word>),
    /// `FROM`.
    From(From),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `INCLUDE`: the file in whose place it stands.
    Include(Word),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(Word),
    /// `ONBUILD`.
    OnBuild(OnBuild),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<Word>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
    /// Nothing that could be understood; a diagnostic says why.
    Invalid,
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The image, or the name of a stage.
    pub image: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The word `AS`, as it is written.
    pub keyword: Option<Word>,
    /// The stage's name, as it is written: it is the same in small letters.
    pub name: Option<Word>,
}

/// A command: its words, or a line for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A list of strings in JSON.
    Exec(Vec<Word>),
    /// Anything else.
    Shell(Word),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub line: CommandLine,
    /// Files that the line reads, or the script if the line is one of them alone.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`: read by [`super::mount::parse`] once its variables have values.
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Option<Network>,
    /// `--security`.
    pub security: Option<Security>,
    /// `--device`.
    pub devices: Vec<Word>,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// As the build has it.
    Default,
    /// None.
    None,
    /// The host's.
    Host,
}

/// How a step is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// As containers are.
    Sandbox,
    /// Not at all: needs the entitlement.
    Insecure,
}

/// A file in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// Whether variables have values in it: the word was not quoted.
    pub expands: bool,
    /// Whether tabs at the beginnings of lines are taken away: `<<-`.
    pub chomps: bool,
    /// The descriptor before the arrows.
    pub descriptor: u32,
    /// What is in it, as it is written.
    pub content: String,
    /// Where that is.
    pub span: Span,
}

impl Heredoc {
    /// What is in it, without the tabs that are taken away.
    pub fn text(&self) -> String {
        if !self.chomps {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// What `COPY` and `ADD` have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// What is copied.
    pub sources: Vec<Word>,
    /// Files that are in the Dockerfile itself.
    pub inline: Vec<Heredoc>,
    /// Where to.
    pub destination: Word,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`.
    pub exclude: Vec<Word>,
}

/// `COPY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// What, where to, and how.
    pub files: Files,
    /// `--from`: a stage, its number, an image, or a context.
    pub from: Option<Word>,
    /// `--parents`.
    pub parents: bool,
}

/// `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Add {
    /// What, where to, and how.
    pub files: Files,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// One of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: Word,
    /// What it is if nobody says otherwise.
    pub default: Option<Word>,
}

/// One of `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its name.
    pub name: Word,
    /// Its value.
    pub value: Word,
    /// Whether there is a space between them, not an equals sign.
    pub legacy: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even the base's.
    None,
    /// A command, and how often.
    Command(Check),
}

/// The command of `HEALTHCHECK`; times are nanoseconds, 0 is as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is run.
    pub line: CommandLine,
    /// `--interval`.
    pub interval: i64,
    /// `--timeout`.
    pub timeout: i64,
    /// `--start-period`.
    pub start_period: i64,
    /// `--start-interval`.
    pub start_interval: i64,
    /// `--retries`.
    pub retries: i32,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBuild {
    /// The instruction as the image keeps it, heredocs included.
    pub expression: String,
    /// The instruction's name, as it is written.
    pub name: Word,
    /// What it says.
    pub command: Box<Command>,
}

impl Command {
    /// Files that are written in the Dockerfile for it.
    pub fn heredocs(&self) -> &[Heredoc] {
        match self {
            Self::Run(run) => &run.heredocs,
            Self::Copy(copy) => &copy.files.inline,
            Self::Add(add) => &add.files.inline,
            Self::OnBuild(trigger) => trigger.command.heredocs(),
            _ => &[],
        }
    }

    /// What is copied, for those that copy.
    pub fn files(&self) -> Option<&Files> {
        match self {
            Self::Copy(copy) => Some(&copy.files),
            Self::Add(add) => Some(&add.files),
            _ => None,
        }
    }
}
