//! `RUN` and `WORKDIR`.

use super::{Current, Lowering};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{CommandLine, Network, Run, Security};
use crate::dockerfile::mount::{self, Kind};
use crate::graph::{Directory, Exec, Mounted, Op};
use crate::request;
use crate::stages::PREDEFINED;

/// The shell of an image that names no other.
pub(super) const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The argument that caches are divided by.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// Where a script of the Dockerfile is put.
const SCRIPTS: &str = "/dev/pipes/";

impl<'a> Lowering<'a> {
    pub(super) fn run(
        &mut self,
        current: &mut Current<'a>,
        run: &Run,
        original: &str,
    ) -> Result<(), Diagnostic> {
        let refuse = |what: &str| {
            let message = format!("{what} is not available yet: leave it out");
            Err(Diagnostic::error(current.instruction.span, message).within(current.instruction.span))
        };
        let insecure = run.security == Some(Security::Insecure);
        if insecure && !self.input.request.may_be_insecure {
            let message = "security.insecure is not allowed: build with --allow security.insecure";
            return Err(Diagnostic::error(current.instruction.span, message).within(current.instruction.span));
        }
        if !run.devices.is_empty() {
            return refuse("RUN --device");
        }
        let (line, script) = line(run);
        let shell = |line: String| {
            let own = current.state.config.config.shell.clone().filter(|shell| !shell.is_empty());
            let shell = own.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            shell.into_iter().chain([line]).collect::<Vec<_>>()
        };
        let arguments = match (&run.line, &script) {
            (CommandLine::Exec(words), _) => words.iter().map(|word| word.text.clone()).collect(),
            (_, Some(_)) => vec![line],
            _ => shell(line),
        };
        let (mounts, inputs) = self.mounts(current, run)?;
        let scope = &current.state.scope;
        let environment = scope.visible.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let given = &self.input.request.arguments;
        let passing = PREDEFINED
            .iter()
            .filter(|name| scope.visible.get(name).is_none())
            .filter_map(|name| Some(format!("{name}={}", given.get(name)?)))
            .collect();
        let network = match run.network {
            None | Some(Network::Default) => self.input.request.network.clone(),
            Some(Network::None) => request::Network::None,
            Some(Network::Host) if self.may_use_host_network() => request::Network::Host,
            // A Dockerfile of somebody else's is not to reach what listens on this machine alone.
            Some(Network::Host) => {
                let message =
                    "network.host is not allowed: build with --network host, or --allow network.host";
                let span = current.instruction.span;
                return Err(Diagnostic::error(span, message.to_owned()).within(span));
            }
        };
        let told = history(&arguments, scope);
        let config = &current.state.config.config;
        let exec = Exec {
            arguments,
            script,
            environment,
            passing,
            directory: if config.working_dir.is_empty() {
                "/".to_owned()
            } else {
                config.working_dir.clone()
            },
            user: config.user.clone(),
            network,
            insecure,
            mounts,
        };
        self.step(current, Op::Exec(Box::new(exec)), inputs, original);
        let step = current.state.files;
        current.state.note(told, self.input.now, Some(step));
        Ok(())
    }

    fn may_use_host_network(&self) -> bool {
        let request = &self.input.request;
        request.may_use_host_network || request.network == request::Network::Host
    }

    /// The mounts of a command, and the steps that their files are of. The first input of a step is what it is done to.
    fn mounts(&mut self, current: &Current<'a>, run: &Run) -> Result<(Vec<Mounted>, Vec<usize>), Diagnostic> {
        let instruction = current.instruction;
        let mut inputs = Vec::new();
        let mut mounts = Vec::new();
        for word in &run.mounts {
            let wrong = |message: String| Diagnostic::error(word.span, message).within(instruction.span);
            let mut mount = mount::parse(&word.text).map_err(wrong)?;
            let needs = match mount.kind {
                Kind::Bind => true,
                Kind::Cache => !mount.from.is_empty(),
                _ => false,
            };
            if !mount.target.starts_with('/') && matches!(mount.kind, Kind::Bind | Kind::Cache | Kind::Tmpfs)
            {
                if mount.target.is_empty() {
                    return Err(wrong(format!("mount target is required for {:?} mounts", mount.kind)));
                }
                mount.target =
                    super::copies::absolute(&current.state.config.config.working_dir, &mount.target);
            }
            if !mount.target.is_empty() {
                let directory = &current.state.config.config.working_dir;
                mount.check_target(&super::copies::absolute(directory, &mount.target)).map_err(wrong)?;
            }
            // Who divides caches by a name has others than those of the same id without it.
            if mount.kind == Kind::Cache
                && let Some(space) =
                    self.input.request.arguments.get(CACHE_NAMESPACE).filter(|space| !space.is_empty())
            {
                let id = if mount.id.is_empty() { &mount.target } else { &mount.id };
                mount.id = format!("{space}/{id}");
            }
            let input = if needs {
                let from = mount.from.clone();
                let wanted = [mount.source.clone()];
                inputs.push(self.origin(current, &from, word.span, wanted)?);
                Some(inputs.len())
            } else {
                None
            };
            mounts.push(Mounted { mount, input });
        }
        Ok((mounts, inputs))
    }

    pub(super) fn workdir(&mut self, current: &mut Current<'a>, path: &str) -> Result<(), Diagnostic> {
        let path = super::copies::absolute(&current.state.config.config.working_dir, path);
        current.state.config.config.working_dir.clone_from(&path);
        let told = format!("WORKDIR {path}");
        if path == "/" {
            current.next += 1;
            current.state.note(told, self.input.now, None);
            return Ok(());
        }
        let owner = current.state.config.config.user.clone();
        self.step(current, Op::Directory(Directory { path, owner }), Vec::new(), &told);
        let step = current.state.files;
        current.state.note(told, self.input.now, Some(step));
        Ok(())
    }
}

/// What is run: a line for the shell, or the path of a script and the script.
fn line(run: &Run) -> (String, Option<String>) {
    let CommandLine::Shell(word) = &run.line else { return (String::new(), None) };
    let Some(first) = run.heredocs.first() else { return (word.text.clone(), None) };
    let text = word.text.trim();
    let alone = text.trim_start_matches(|letter: char| letter.is_ascii_digit()).starts_with("<<")
        && !text.contains(char::is_whitespace);
    if !alone {
        // The shell reads its files itself.
        let files = run.heredocs.iter().map(|file| format!("\n{}{}", file.content, file.name));
        return (word.text.clone() + &files.collect::<String>(), None);
    }
    let content = first.text();
    if content.starts_with("#!") {
        (format!("{SCRIPTS}{}", first.name), Some(content))
    } else {
        (content, None)
    }
}

/// The command as the history has it, with the arguments that it saw.
fn history(arguments: &[String], scope: &crate::stages::Scope) -> String {
    let seen: Vec<String> = scope
        .arguments
        .iter()
        .map(|(name, value)| format!("{name}={}", scope.visible.get(name).unwrap_or(value)))
        .collect();
    let count = (!seen.is_empty()).then(|| format!("|{}", seen.len()));
    let words: Vec<&str> = count.iter().chain(&seen).chain(arguments).map(String::as_str).collect();
    format!("RUN {} # buildkit", words.join(" "))
}
