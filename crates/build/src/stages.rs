//! Stages: what is built on what, and what is not needed.

mod arguments;
mod graph;
mod scope;

use std::collections::BTreeSet;
use std::ops::Range;

use oci::{Platform, Reference};

pub use arguments::{DEFAULT_PATH, Globals, PREDEFINED, RESERVED, platform_arguments};
pub use scope::Scope;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{Command, From, Word};
use crate::dockerfile::{DIAGNOSTICS_MAX, Dockerfile, mount};
use crate::expand::{Environment, Lexer};
use crate::suggest;
use crate::text::Span;

/// Variables of a word for which others are looked for that may have been meant.
const HINTED_MAX: usize = 16;

/// What a build is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// `--build-arg`.
    pub arguments: Environment,
    /// `--platform`: what the image is for.
    pub target_platform: Platform,
    /// Where it is built.
    pub build_platform: Platform,
    /// `--target`: a name or a number; the last stage if nothing is said.
    pub target: Option<String>,
    /// Names of `--build-context`.
    pub contexts: BTreeSet<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            arguments: Environment::new(),
            target_platform: Platform::host(),
            build_platform: Platform::host(),
            target: None,
            contexts: BTreeSet::new(),
        }
    }
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: `scratch`.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(String),
    /// A context that was given by name.
    Context(String),
}

/// Files of elsewhere that an instruction reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Where they come from.
    pub origin: Origin,
    /// Which instruction of the Dockerfile reads them.
    pub instruction: usize,
    /// Where it says so.
    pub span: Span,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name in small letters, if it has one.
    pub name: Option<String>,
    /// What it is built on.
    pub base: Origin,
    /// The platform that it is for, if it says so.
    pub platform: Option<Platform>,
    /// The number of its `FROM` among the instructions.
    pub from: usize,
    /// Its instructions; none if a context is given in its place.
    pub instructions: Range<usize>,
    /// What its instructions read of elsewhere.
    pub needs: Vec<Need>,
}

/// The stages of a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages {
    /// In the order of the text.
    pub list: Vec<Stage>,
    /// Arguments before the first of them.
    pub globals: Globals,
    /// The one that is wanted.
    pub target: Option<usize>,
    /// Those that have to be built, each behind what it needs.
    pub order: Vec<usize>,
}

/// Finds the stages of a Dockerfile, and what is wrong with them.
pub fn resolve(file: &Dockerfile, request: &Request) -> (Stages, Vec<Diagnostic>) {
    let mut resolver =
        Resolver { file, request, stages: Stages::default(), diagnostics: Vec::new(), bases: Vec::new() };
    resolver.globals();
    resolver.stages();
    resolver.needs();
    resolver.target();
    let Resolver { stages, mut diagnostics, bases, .. } = resolver;
    if let Some(at) = graph::cycle(&stages.list) {
        let name = stages.list[at].name.clone().unwrap_or_else(|| format!("stage-{at}"));
        let span = file.instructions[stages.list[at].from].span;
        let message = format!("circular dependency detected on stage: {name}");
        diagnostics.push(Diagnostic::error(span, message).within(span));
    }
    // A base that nothing needs is never looked for.
    let needed = bases.into_iter().filter(|(stage, _)| stages.order.contains(stage)).map(|(_, found)| found);
    diagnostics.extend(needed);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    (stages, diagnostics)
}

impl Stages {
    /// A stage by its name; of several the last one before `before`.
    pub fn named(&self, name: &str, before: usize) -> Option<usize> {
        let name = name.to_lowercase();
        self.list.iter().take(before).rposition(|stage| stage.name.as_deref() == Some(name.as_str()))
    }

    /// A stage by its name or its number.
    pub fn find(&self, name: &str) -> Option<usize> {
        let number = || name.parse::<usize>().ok().filter(|number| *number < self.list.len());
        self.named(name, self.list.len()).or_else(number)
    }

    /// The stage that may have been meant by an image: for whoever finds that there is no such image.
    pub fn meant(&self, image: &str) -> Option<String> {
        suggest::nearest(image, self.names(), false)
    }

    /// Where an image is asked for that is no stage; and whether something is only copied from it, so that a stage may have been meant.
    pub fn asks_for(&self, file: &Dockerfile, image: &str) -> Option<(Span, bool)> {
        let is_it = |origin: &Origin| matches!(origin, Origin::Image(name) if name == image);
        self.list.iter().find_map(|stage| {
            let base = is_it(&stage.base).then(|| (file.instructions[stage.from].span, false));
            base.or_else(|| stage.needs.iter().find(|need| is_it(&need.origin)).map(|need| (need.span, true)))
        })
    }

    /// Names of all stages.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(|stage| stage.name.as_deref())
    }

    /// Arguments of a build that no instruction asks for.
    pub fn unconsumed(&self, file: &Dockerfile, arguments: &Environment) -> Vec<String> {
        let mut asked: BTreeSet<&str> = PREDEFINED.iter().chain(RESERVED).copied().collect();
        for instruction in &file.instructions {
            if let Command::Arg(declared) = &instruction.command {
                asked.extend(declared.iter().map(|argument| argument.name.text.as_str()));
            }
        }
        arguments.names().filter(|name| !asked.contains(name)).map(str::to_owned).collect()
    }
}

struct Resolver<'a> {
    file: &'a Dockerfile,
    request: &'a Request,
    stages: Stages,
    diagnostics: Vec<Diagnostic>,
    /// What is wrong with the bases of stages that may not be needed.
    bases: Vec<(usize, Diagnostic)>,
}

impl Resolver<'_> {
    fn error(&mut self, span: Span, instruction: usize, message: impl Into<String>) -> &mut Diagnostic {
        let within = self.file.instructions[instruction].span;
        self.diagnostics.push(Diagnostic::error(span, message).within(within));
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }

    fn globals(&mut self) {
        let (globals, failures) = Globals::of(self.file, self.request);
        self.stages.globals = globals;
        for (at, failure) in failures {
            self.error(failure.span, at, failure.to_string());
        }
    }

    fn stages(&mut self) {
        let instructions = &self.file.instructions;
        for (at, instruction) in instructions.iter().enumerate() {
            let Command::From(from) = &instruction.command else { continue };
            let end =
                instructions[at + 1..].iter().position(|next| next.name.text.eq_ignore_ascii_case("from"));
            let mut range = at + 1..end.map_or(instructions.len(), |end| at + 1 + end);
            let name = from.name.as_ref().map(|word| word.text.to_lowercase());
            let platform = self.platform(from, at);
            let base = match name.as_ref().filter(|name| self.request.contexts.contains(*name)) {
                Some(name) => {
                    range = at + 1..at + 1;
                    Origin::Context(name.clone())
                }
                None => self.base(from, at),
            };
            self.stages.list.push(Stage {
                name,
                base,
                platform,
                from: at,
                instructions: range,
                needs: Vec::new(),
            });
        }
    }

    fn expanded(&mut self, word: &Word, at: usize, what: &str) -> Option<String> {
        let lexer = Lexer::new(self.file.directives.escape);
        match lexer.process(&word.text, &self.stages.globals.environment) {
            Ok(done) => Some(done.text),
            Err(error) => {
                self.error(
                    word.span,
                    at,
                    format!("failed to process arguments for {what} {}: {}", word.text, error.reason),
                );
                None
            }
        }
    }

    fn platform(&mut self, from: &From, at: usize) -> Option<Platform> {
        let word = from.platform.as_ref()?;
        let text = self.expanded(word, at, "platform")?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.text);
            let hint = suggest::hint(self.near(&word.text));
            self.error(word.span, at, message + &hint).expected = Some("os/architecture".into());
            return None;
        }
        match Platform::parse(&text) {
            Ok(platform) => Some(platform),
            Err(error) => {
                let message = format!("failed to parse platform {text}: {error}");
                self.error(word.span, at, message).expected = Some("os/architecture[/variant]".into());
                None
            }
        }
    }

    /// A global argument that may have been meant by the variables of a word.
    fn near(&self, text: &str) -> Option<String> {
        // Enough was said: more hints cost time, and help nobody.
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            return None;
        }
        let asked =
            Lexer::new(self.file.directives.escape).process(text, &self.stages.globals.environment).ok()?;
        let names: Vec<&str> = self.stages.globals.names().collect();
        asked
            .unmatched
            .iter()
            .take(HINTED_MAX)
            .find_map(|name| suggest::nearest(name, names.iter().copied(), true))
    }

    fn base(&mut self, from: &From, at: usize) -> Origin {
        let index = self.stages.list.len();
        let Some(text) = self.expanded(&from.image, at, "base name") else { return Origin::Scratch };
        if text.is_empty() {
            let hint = suggest::hint(self.near(&from.image.text));
            let message = format!("base name ({}) should not be blank{hint}", from.image.text);
            self.error(from.image.span, at, message).expected =
                Some("an image, or the name of a stage before".into());
            return Origin::Scratch;
        }
        if let Some(stage) = self.stages.named(&text, index) {
            return Origin::Stage(stage);
        }
        if text == "scratch" {
            return Origin::Scratch;
        }
        let origin = self.elsewhere(&text);
        if let (Origin::Image(name), Err(error)) = (&origin, Reference::parse_named(&text)) {
            let message = format!("failed to parse stage name {name:?}: {error}");
            let within = self.file.instructions[at].span;
            let mut diagnostic = Diagnostic::error(from.image.span, message).within(within);
            if let Some(lower) = suggest::image_name(&text) {
                diagnostic =
                    diagnostic.expecting(format!("{lower}: names of repositories are in small letters"));
            }
            self.bases.push((index, diagnostic));
        }
        origin
    }

    /// What is no stage: a context, or an image.
    fn elsewhere(&self, name: &str) -> Origin {
        let contexts = &self.request.contexts;
        let familiar = || Reference::parse_familiar(name).ok().map(|reference| reference.familiar());
        if contexts.contains(name) || familiar().is_some_and(|name| contexts.contains(&name)) {
            Origin::Context(name.to_owned())
        } else {
            Origin::Image(name.to_owned())
        }
    }

    fn needs(&mut self) {
        for stage in 0..self.stages.list.len() {
            let mut needs = Vec::new();
            for at in self.stages.list[stage].instructions.clone() {
                match &self.file.instructions[at].command {
                    Command::Copy(copy) => {
                        needs.extend(copy.from.as_ref().and_then(|word| self.copied(word, at)));
                    }
                    Command::Run(run) => {
                        needs.extend(run.mounts.iter().filter_map(|word| self.mounted(word, at)));
                    }
                    _ => {}
                }
            }
            self.stages.list[stage].needs = needs;
        }
    }

    fn copied(&mut self, word: &Word, at: usize) -> Option<Need> {
        let Ok(number) = word.text.parse::<i64>() else { return Some(self.need(&word.text, word.span, at)) };
        match usize::try_from(number).ok().filter(|number| *number < self.stages.list.len()) {
            Some(stage) => Some(Need { origin: Origin::Stage(stage), instruction: at, span: word.span }),
            None => {
                let expected = format!("a number below {}, or a name", self.stages.list.len());
                self.error(word.span, at, format!("invalid stage index {number}")).expected = Some(expected);
                None
            }
        }
    }

    fn mounted(&self, word: &Word, at: usize) -> Option<Need> {
        let from = mount::from(&word.text).filter(|from| !from.is_empty())?;
        Some(self.need(&from, word.span, at))
    }

    fn need(&self, name: &str, span: Span, instruction: usize) -> Need {
        let origin = match self.stages.named(name, self.stages.list.len()) {
            Some(stage) => Origin::Stage(stage),
            None if name == "scratch" => Origin::Scratch,
            None => self.elsewhere(name),
        };
        Need { origin, instruction, span }
    }

    fn target(&mut self) {
        let stages = &self.stages;
        let target = match &self.request.target {
            None => stages.list.len().checked_sub(1),
            Some(name) => stages.find(name),
        };
        if let (None, Some(name)) = (target, &self.request.target) {
            let hint = suggest::hint(suggest::nearest(name, stages.names(), true));
            let names: Vec<&str> = stages.names().collect();
            let mut diagnostic =
                Diagnostic::of_request(format!("target stage {name:?} could not be found{hint}"));
            if !names.is_empty() {
                diagnostic = diagnostic.expecting(format!("one of {}", names.join(", ")));
            }
            self.diagnostics.push(diagnostic);
        }
        let order = target.map(|target| graph::order(&stages.list, target)).unwrap_or_default();
        self.stages.target = target;
        self.stages.order = order;
    }
}

#[cfg(test)]
mod tests;
