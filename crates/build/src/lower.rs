//! From the stages of a Dockerfile to the graph, and to the configuration of the image.

mod commands;
mod configure;
mod copies;

use std::collections::BTreeMap;

use oci::image::{History, ImageConfig};
use oci::{Digest, Platform};

use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::Command;
use crate::dockerfile::{Dockerfile, Instruction};
use crate::expand::Environment;
use crate::graph::{Builder, Copy, Graph, Op};
use crate::progress::Line;
use crate::remote;
use crate::request::{CONTEXT, NamedContext, NoCache, Request};
use crate::stages::{self, DEFAULT_PATH, Origin, Scope, Stages};
use crate::text::Span;

pub use configure::configure;
pub(crate) use copies::absolute;

/// The remark in the history of what was built here; tools tell by it that a layer is of a Dockerfile.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// What is left of the name of an instruction when it is shown.
const SHOWN_LETTERS_MAX: usize = 4096;

/// An image that a stage is built on, or that files are copied from.
#[derive(Debug, Clone)]
pub struct Base {
    /// The digest of its manifest for the platform.
    pub manifest: Digest,
    /// Its name in full, with its digest.
    pub name: String,
    /// Its configuration.
    pub config: ImageConfig,
}

/// An image, and the platform that it is wanted for.
pub type Wanted = (String, Option<Platform>);

/// The images that are needed, by name and platform.
pub fn images(stages: &Stages, request: &Request) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for at in &stages.order {
        let stage = &stages.list[*at];
        let needs = stage.needs.iter().map(|need| &need.origin);
        for origin in std::iter::once(&stage.base).chain(needs) {
            let name = match origin {
                Origin::Image(name) => name.clone(),
                Origin::Context(name) => match context(request, name) {
                    Some(NamedContext::Image(image)) => image.clone(),
                    _ => continue,
                },
                Origin::Scratch | Origin::Stage(_) => continue,
            };
            let platform = if std::ptr::eq(origin, &stage.base) { stage.platform.clone() } else { None };
            if !wanted.contains(&(name.clone(), platform.clone())) {
                wanted.push((name, platform));
            }
        }
    }
    wanted
}

/// The images that instructions of base images copy from, beside those of [`images`]: they are known when the bases are.
pub fn images_of_triggers(stages: &Stages, request: &Request, bases: &BTreeMap<Wanted, Base>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let triggers = bases.values().flat_map(|base| &base.config.config.on_build);
    for trigger in triggers {
        // What is wrong with one is told when it is lowered.
        let parsed = crate::parse(&format!("FROM scratch\n{trigger}\n"));
        for instruction in parsed.dockerfile.instructions.iter().skip(1) {
            let names: Vec<String> = match &instruction.command {
                Command::Copy(copy) => copy.from.iter().map(|word| word.text.clone()).collect(),
                Command::Run(run) => {
                    run.mounts.iter().filter_map(|word| crate::dockerfile::mount::from(&word.text)).collect()
                }
                _ => continue,
            };
            for name in names.into_iter().filter(|name| !name.is_empty() && name != "scratch") {
                let image = match context(request, &name) {
                    Some(NamedContext::Image(image)) => image.clone(),
                    Some(_) => continue,
                    None if stages.find(&name).is_some() => continue,
                    None => name,
                };
                let one = (image, None);
                if !bases.contains_key(&one) && !wanted.contains(&one) {
                    wanted.push(one);
                }
            }
        }
    }
    wanted
}

fn context<'a>(request: &'a Request, name: &str) -> Option<&'a NamedContext> {
    request.contexts.get(name).or_else(|| {
        let familiar = oci::Reference::parse_familiar(name).ok()?.familiar();
        request.contexts.get(&familiar)
    })
}

/// What is lowered, and with what.
pub struct Input<'a> {
    /// The Dockerfile.
    pub file: &'a Dockerfile,
    /// Its stages.
    pub stages: &'a Stages,
    /// What the build is asked for.
    pub request: &'a Request,
    /// The same for the stages.
    pub asked: &'a stages::Request,
    /// The images of [`images`].
    pub images: &'a BTreeMap<Wanted, Base>,
    /// When the image is made, RFC 3339: of the history.
    pub now: &'a str,
}

/// A stage as it is so far.
#[derive(Debug, Clone)]
struct State {
    /// The step that has its files.
    files: usize,
    config: ImageConfig,
    scope: Scope,
    /// For entries of the history from `inherited` on: the step whose layer it is.
    history: Vec<Option<usize>>,
    base: Option<Digest>,
    cmd_set: bool,
}

struct Lowering<'a> {
    input: &'a Input<'a>,
    builder: Builder,
    done: BTreeMap<usize, State>,
    lines: Vec<(usize, Line)>,
}

/// A stage that is being lowered.
struct Current<'a> {
    /// Its number.
    at: usize,
    /// Where it is among the lines of the history: how it is called, how many steps it has, and which is next.
    name: String,
    total: usize,
    next: usize,
    no_cache: bool,
    /// Whether it is an instruction of the base image that is lowered.
    in_trigger: bool,
    state: State,
    instruction: &'a Instruction,
}

/// Makes the graph.
pub fn lower(input: &Input<'_>) -> Result<Graph, Diagnostic> {
    let mut lowering =
        Lowering { input, builder: Builder::default(), done: BTreeMap::new(), lines: Vec::new() };
    for at in &input.stages.order {
        let state = lowering.stage(*at)?;
        lowering.done.insert(*at, state);
    }
    let target = input.stages.target.and_then(|target| lowering.done.remove(&target));
    let Some(mut state) = target else {
        return Err(Diagnostic::error(Span::default(), "dockerfile contains no stages to build"));
    };
    if !input.request.labels.is_empty() {
        state.config.config.labels.extend(input.request.labels.clone());
    }
    state.config.created = Some(input.now.to_owned());
    lowering.lines.sort_by_key(|(at, _)| *at);
    Ok(Graph {
        vertices: lowering.builder.vertices,
        lines: lowering.lines.into_iter().map(|(_, line)| line).collect(),
        result: state.files,
        config: state.config,
        history: state.history,
        base: state.base,
    })
}

impl<'a> Lowering<'a> {
    fn error(&self, span: Span, instruction: &Instruction, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(span, message).within(instruction.span)
    }

    fn stage(&mut self, at: usize) -> Result<State, Diagnostic> {
        let stage = &self.input.stages.list[at];
        let from = &self.input.file.instructions[stage.from];
        let instructions = &self.input.file.instructions[stage.instructions.clone()];
        let name = self.stage_name(at);
        let no_cache = match &self.input.request.no_cache {
            NoCache::No => false,
            NoCache::All => true,
            NoCache::Stages(names) => names
                .iter()
                .any(|wanted| Some(wanted.to_lowercase()) == stage.name || *wanted == at.to_string()),
        };
        let layers = |command: &Command| {
            matches!(command, Command::Run(_) | Command::Copy(_) | Command::Add(_) | Command::Workdir(_))
        };
        let total = 1 + instructions.iter().filter(|one| layers(&one.command)).count();
        self.builder.span = from.span;
        let mut current = Current {
            at,
            name,
            total,
            next: 1,
            no_cache,
            in_trigger: false,
            state: self.begin(at, from, total)?,
            instruction: from,
        };
        current.next += 1;
        self.told(stage.from, from, Some(current.state.files), Some(at));
        self.triggers(&mut current, from)?;
        for (number, instruction) in instructions.iter().enumerate() {
            current.instruction = instruction;
            self.builder.span = instruction.span;
            let files = current.state.files;
            self.instruction(&mut current, &instruction.command, &instruction.original)?;
            let step = Some(current.state.files).filter(|now| *now != files);
            self.told(stage.instructions.start + number, instruction, step, None);
        }
        Ok(current.state)
    }

    fn told(&mut self, at: usize, instruction: &Instruction, step: Option<usize>, from: Option<usize>) {
        let vertex = step.map(|step| self.builder.vertices[step].digest.clone());
        self.lines.push((at, Line { text: shown(&instruction.original), vertex, from }));
    }

    /// What a stage begins with.
    fn begin(&mut self, at: usize, from: &Instruction, total: usize) -> Result<State, Diagnostic> {
        let stage = &self.input.stages.list[at];
        let stage_name = self.stage_name(at);
        let called = |image: &str| step_name(&stage_name, 1, total, &format!("FROM {image}"));
        match &stage.base {
            Origin::Stage(other) => {
                let mut state = self.done.get(other).cloned().ok_or_else(|| {
                    self.error(from.span, from, "a bug: a stage is built on one that is not built yet")
                })?;
                state.cmd_set = false;
                Ok(state)
            }
            Origin::Scratch => {
                let (files, config) = self.on_nothing(stage.platform.as_ref());
                Ok(State::new(files, config, None))
            }
            Origin::Image(name) => self.on_image(from, name, stage.platform.clone(), called),
            Origin::Context(name) => match context(self.input.request, name) {
                Some(NamedContext::Image(image)) => {
                    self.on_image(from, &image.clone(), stage.platform.clone(), called)
                }
                Some(NamedContext::Local(name)) => {
                    let (scratch, config) = self.on_nothing(stage.platform.as_ref());
                    let source = self.local(&name.clone(), [".".to_owned()]);
                    let copy = Copy {
                        sources: vec![".".to_owned()],
                        destination: "/".to_owned(),
                        ..Copy::default()
                    };
                    let inputs = vec![scratch, source];
                    let files = self.builder.add(Op::Copy(Box::new(copy)), inputs, called(name), false);
                    let mut state = State::new(files, config, None);
                    state.note(format!("FROM {name} # buildkit"), self.input.now, Some(files));
                    Ok(state)
                }
                _ => {
                    Err(self.error(from.span, from, format!("a bug: nobody has fetched the context {name}")))
                }
            },
        }
    }

    /// No files, and the configuration of an image of which nothing is said.
    fn on_nothing(&mut self, platform: Option<&Platform>) -> (usize, ImageConfig) {
        let files = self.builder.add(Op::Scratch, Vec::new(), "FROM scratch".to_owned(), false);
        let platform = platform.unwrap_or(&self.input.asked.target_platform);
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        config.config.working_dir = "/".to_owned();
        config.config.env = vec![DEFAULT_PATH.to_owned()];
        (files, config)
    }

    fn on_image(
        &mut self,
        from: &Instruction,
        name: &str,
        platform: Option<Platform>,
        called: impl Fn(&str) -> String,
    ) -> Result<State, Diagnostic> {
        let base = self.input.images.get(&(name.to_owned(), platform.clone()));
        let base = base.ok_or_else(|| self.error(from.span, from, format!("{name}: not found")))?;
        let op = Op::Image { manifest: base.manifest.clone(), name: base.name.clone(), platform };
        let name = called(&base.name);
        let files = self.builder.add(op, Vec::new(), name, false);
        let mut config = base.config.clone();
        if config.config.env.iter().all(|entry| !entry.starts_with("PATH=")) {
            config.config.env.push(DEFAULT_PATH.to_owned());
        }
        Ok(State::new(files, config, Some(base.manifest.clone())))
    }

    fn stage_name(&self, at: usize) -> String {
        let stage = &self.input.stages.list[at];
        match &stage.name {
            Some(name) => name.clone(),
            None if self.input.stages.list.len() > 1 => format!("stage-{at}"),
            None => String::new(),
        }
    }

    /// What an image wants to be done by whoever builds on it.
    fn triggers(&mut self, current: &mut Current<'a>, from: &'a Instruction) -> Result<(), Diagnostic> {
        let triggers = std::mem::take(&mut current.state.config.config.on_build);
        for trigger in triggers {
            let parsed = crate::parse(&format!("FROM scratch\n{trigger}\n"));
            if let Some(error) = parsed.error() {
                let message = format!("failed to parse ONBUILD trigger {trigger:?}: {}", error.message);
                return Err(self.error(from.span, from, message));
            }
            current.in_trigger = true;
            for instruction in parsed.dockerfile.instructions.iter().skip(1) {
                self.instruction(current, &instruction.command, &instruction.original)?;
            }
            current.in_trigger = false;
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        current: &mut Current<'a>,
        command: &Command,
        original: &str,
    ) -> Result<(), Diagnostic> {
        let escape = self.input.file.directives.escape;
        let expansion = current
            .state
            .scope
            .step(command, escape, &self.input.stages.globals, self.input.asked)
            .map_err(|failure| self.error(failure.span, current.instruction, failure.to_string()))?;
        match &expansion.command {
            Command::Run(run) => self.run(current, run, original),
            Command::Copy(copy) => self.copy(current, copy, original),
            Command::Add(add) => self.add(current, add, original),
            Command::Workdir(word) => self.workdir(current, &word.text),
            other => configure::apply(&mut current.state, other, self.input.now).map_err(|message| {
                let (word, expected) = configure::wrong(other);
                let span = word.map_or(current.instruction.span, |word| word.span);
                Diagnostic { expected, ..self.error(span, current.instruction, message) }
            }),
        }
    }

    /// Adds a step of the stage.
    fn step(&mut self, current: &mut Current<'_>, op: Op, mut inputs: Vec<usize>, what: &str) {
        inputs.insert(0, current.state.files);
        let number = current.next.min(current.total);
        let name = step_name(&current.name, number, current.total, &shown(what));
        current.next += 1;
        current.state.files = self.builder.add(op, inputs, name, current.no_cache);
    }

    /// The step that has the files of a context, these among them.
    fn local(&mut self, name: &str, files: impl IntoIterator<Item = String>) -> usize {
        let shown = match name {
            CONTEXT => "[internal] load build context".to_owned(),
            other => format!("[context {other}] load from client"),
        };
        let op = Op::Local { name: name.to_owned(), wanted: Vec::new() };
        let at = self.builder.add(op, Vec::new(), shown, false);
        if let Op::Local { wanted, .. } = &mut self.builder.vertices[at].op {
            wanted.extend(files);
        }
        at
    }
}

impl State {
    fn new(files: usize, config: ImageConfig, base: Option<Digest>) -> Self {
        let scope = Scope::of_image(Environment::from_entries(config.config.env.iter().map(String::as_str)));
        Self { files, config, scope, history: Vec::new(), base, cmd_set: false }
    }

    /// Notes an instruction in the history.
    fn note(&mut self, created_by: String, now: &str, step: Option<usize>) {
        let maintainer = self.config.author.clone().unwrap_or_default();
        self.config.history.push(History {
            created: Some(now.to_owned()),
            created_by,
            author: maintainer,
            comment: COMMENT.to_owned(),
            empty_layer: step.is_none(),
        });
        self.history.push(step);
    }
}

/// What a step of a stage is called.
fn step_name(stage: &str, number: usize, total: usize, what: &str) -> String {
    let width = total.to_string().len();
    let place = format!("{number:>width$}/{total}");
    if stage.is_empty() { format!("[{place}] {what}") } else { format!("[{stage} {place}] {what}") }
}

/// An instruction as it is shown: names of steps are for everybody's eyes, and are kept.
fn shown(text: &str) -> String {
    let line = remote::redacted(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    match line.char_indices().nth(SHOWN_LETTERS_MAX) {
        Some((end, _)) => line[..end].to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests;
