//! `COPY` and `ADD`: where from, what, and where to.

use super::{Current, Lowering, context};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{self, Files};
use crate::graph::{Copy, Op, Repository};
use crate::mode::Mode;
use crate::remote::{self, Git, Remote};
use crate::request::{CONTEXT, NamedContext};
use crate::stages::Origin;
use crate::text::Span;

impl<'a> Lowering<'a> {
    pub(super) fn copy(
        &mut self,
        current: &mut Current<'a>,
        copy: &instruction::Copy,
        original: &str,
    ) -> Result<(), Diagnostic> {
        let mut op = self.files(current, &copy.files, "COPY")?;
        op.context = copy.from.is_none();
        op.parents = copy.parents;
        for word in &copy.files.sources {
            let wrong =
                |message: &str| Diagnostic::error(word.span, message).within(current.instruction.span);
            match Remote::parse(&word.text) {
                Ok(None) => {}
                Ok(Some(Remote::Http(_))) => return Err(wrong("source can't be a URL for COPY")),
                Ok(Some(Remote::Git(_))) | Err(_) => {
                    return Err(wrong("source can't be a git ref for COPY"));
                }
            }
        }
        let mut inputs = Vec::new();
        if !op.sources.is_empty() {
            let (from, span) = match &copy.from {
                Some(word) => (word.text.as_str(), word.span),
                None => ("", current.instruction.span),
            };
            let wanted: Vec<String> = if op.parents {
                op.sources.iter().map(|source| wanted_with_parents(source)).collect()
            } else {
                op.sources.clone()
            };
            inputs.push(self.origin(current, from, span, wanted)?);
        }
        self.copied(current, op, inputs, "COPY", original)
    }

    pub(super) fn add(
        &mut self,
        current: &mut Current<'a>,
        add: &instruction::Add,
        original: &str,
    ) -> Result<(), Diagnostic> {
        let mut op = self.files(current, &add.files, "ADD")?;
        let span = current.instruction.span;
        let wrong = |message: &str| Diagnostic::error(span, message).within(span);
        op.context = true;
        op.unpack = add.unpack.unwrap_or(true);
        op.checksum = add.checksum.as_ref().map(|word| word.text.clone());
        let (mut urls, mut sources) = (Vec::new(), Vec::new());
        for source in std::mem::take(&mut op.sources) {
            match Remote::parse(&source).map_err(|message| wrong(&message))? {
                Some(Remote::Git(git)) => {
                    op.repositories.push(repository(git, add, &op).map_err(|e| wrong(&e))?);
                }
                Some(Remote::Http(url)) => urls.push(url),
                None => sources.push(source),
            }
        }
        if add.keep_git_dir.is_some() && op.repositories.is_empty() {
            return Err(wrong("ADD --keep-git-dir is for git repositories"));
        }
        if op.checksum.is_some() {
            match (urls.len(), op.repositories.len(), sources.len()) {
                (1, 0, 0) | (0, 1, 0) => {}
                (0, 0, _) => return Err(wrong("checksum requires HTTP(S) or Git sources")),
                _ => return Err(wrong("checksum can't be specified for multiple sources")),
            }
        }
        if let (Some(word), Some(url)) = (&add.checksum, urls.first()) {
            let checked = Remote::Http(url.clone()).check_checksum(&word.text);
            checked.map_err(|(message, expected)| {
                Diagnostic::error(word.span, message).within(span).expecting(expected)
            })?;
        }
        if !urls.is_empty() && add.unpack.is_none() {
            op.unpack = false;
        }
        (op.urls, op.sources) = (urls, sources);
        let mut inputs = Vec::new();
        if !op.sources.is_empty() {
            inputs.push(self.origin(current, "", span, op.sources.clone())?);
        }
        self.copied(current, op, inputs, "ADD", original)
    }

    fn files(&self, current: &Current<'a>, files: &Files, name: &str) -> Result<Copy, Diagnostic> {
        let span = current.instruction.span;
        if let Some(word) = &files.chmod {
            Mode::parse(&word.text).map_err(|message| Diagnostic::error(word.span, message).within(span))?;
        }
        let written = &files.destination.text;
        if files.sources.len() + files.inline.len() > 1 && !written.ends_with('/') && written != "." {
            let message = format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            );
            return Err(Diagnostic::error(files.destination.span, message).within(span));
        }
        let mut destination = absolute(&current.state.config.config.working_dir, written);
        let is_directory = written.ends_with('/') || matches!(written.rsplit('/').next(), Some("." | ".."));
        if is_directory && destination != "/" {
            destination.push('/');
        }
        Ok(Copy {
            sources: files.sources.iter().map(|word| word.text.clone()).collect(),
            inline: files.inline.iter().map(|file| (file.name.clone(), file.text())).collect(),
            destination,
            owner: files.chown.as_ref().map(|word| word.text.clone()),
            mode: files.chmod.as_ref().map(|word| word.text.clone()),
            exclude: files.exclude.iter().map(|word| word.text.clone()).collect(),
            link: files.link,
            ..Copy::default()
        })
    }

    fn copied(
        &mut self,
        current: &mut Current<'a>,
        op: Copy,
        inputs: Vec<usize>,
        name: &str,
        original: &str,
    ) -> Result<(), Diagnostic> {
        let options = [("chown", &op.owner), ("chmod", &op.mode)];
        let options = options.iter().filter_map(|(key, value)| Some(format!("--{key}={} ", value.as_ref()?)));
        let options = op.parents.then(|| "--parents ".to_owned()).into_iter().chain(options);
        let inline = op.inline.iter().map(|(name, _)| name);
        let repositories = op.repositories.iter().map(|repository| &repository.git.url);
        let words = inline.chain(&op.urls).chain(repositories).chain(&op.sources);
        // The history is for everybody's eyes.
        let words: Vec<String> = words.map(|word| remote::shown(word)).collect();
        let told = format!(
            "{name} {}{} {} # buildkit",
            options.collect::<String>(),
            words.join(" "),
            op.destination
        );
        self.step(current, Op::Copy(Box::new(op)), inputs, original);
        let step = current.state.files;
        current.state.note(told, self.input.now, Some(step));
        Ok(())
    }

    /// The step that has the files of a stage, an image or a context; without a name, of the build's own context.
    pub(super) fn origin(
        &mut self,
        current: &Current<'a>,
        from: &str,
        span: Span,
        wanted: impl IntoIterator<Item = String>,
    ) -> Result<usize, Diagnostic> {
        if from.is_empty() {
            return Ok(self.local(CONTEXT, wanted));
        }
        let wrong = |message: String| Diagnostic::error(span, message).within(current.instruction.span);
        // Triggers of images have needs that nobody has looked for, at places of their own.
        let stage = &self.input.stages.list[current.at];
        let needs = stage.needs.iter().filter(|need| !current.in_trigger && need.span == span);
        let found = needs.map(|need| need.origin.clone()).next();
        let origin = found.unwrap_or_else(|| match self.input.stages.find(from) {
            _ if from == "scratch" => Origin::Scratch,
            Some(stage) => Origin::Stage(stage),
            None if self.input.request.contexts.contains_key(from) => Origin::Context(from.to_owned()),
            None => Origin::Image(from.to_owned()),
        });
        let image = match &origin {
            Origin::Stage(stage) => {
                let state = self.done.get(stage).ok_or_else(|| {
                    wrong(format!(
                        "cannot copy from stage {from:?}: it needs to be defined before current stage"
                    ))
                })?;
                return Ok(state.files);
            }
            Origin::Scratch => return Ok(self.builder.add(Op::Scratch, Vec::new(), "scratch".into(), false)),
            Origin::Context(name) => match context(self.input.request, name) {
                Some(NamedContext::Image(image)) => image.clone(),
                Some(NamedContext::Local(name)) => return Ok(self.local(&name.clone(), wanted)),
                // Whoever builds has put a name in its place.
                Some(NamedContext::Remote(_)) => {
                    return Err(wrong(format!("a bug: nobody has fetched the context {name}")));
                }
                None => name.clone(),
            },
            Origin::Image(name) => name.clone(),
        };
        let base = self.input.images.get(&(image.clone(), None));
        let base =
            base.ok_or_else(|| wrong(format!("{image}: not found, or wanted by a trigger of an image")))?;
        let op = Op::Image { manifest: base.manifest.clone(), name: base.name.clone(), platform: None };
        let name = format!("FROM {}", base.name);
        Ok(self.builder.add(op, Vec::new(), name, false))
    }
}

/// What of a context `--parents` has to look at: without `/./`, and, as `**` may be any directory, from before the first on all.
fn wanted_with_parents(source: &str) -> String {
    let path = crate::ignore::clean(&format!("/{source}"));
    let steps = path.split('/').filter(|step| !step.is_empty());
    let steps: Vec<&str> = steps.take_while(|step| !step.contains("**")).collect();
    if steps.is_empty() { ".".to_owned() } else { steps.join("/") }
}

/// What an address of git means for `ADD`.
fn repository(mut git: Git, add: &instruction::Add, op: &Copy) -> Result<Repository, String> {
    if let Some(checksum) = &op.checksum {
        remote::check_commit(checksum)?;
        if let Some(other) = git.checksum.replace(checksum.clone()).filter(|other| other != checksum) {
            return Err(format!("checksum mismatch {checksum:?} != {other:?}"));
        }
    }
    if let (Some(one), Some(other)) = (add.keep_git_dir, git.keep_git_dir)
        && one != other
    {
        return Err("inconsistent keep-git-dir configuration".to_owned());
    }
    let keep_git_dir = add.keep_git_dir.or(git.keep_git_dir).unwrap_or_default();
    Ok(Repository { git, keep_git_dir })
}

/// A path from the root, clean; what does not begin there is in `directory`.
pub(crate) fn absolute(directory: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("/{directory}/{path}") };
    crate::ignore::clean(&joined)
}
