//! Which words of an instruction have variables.

use super::{Environment, Error, Lexer};
use crate::dockerfile::instruction::{Command, Files, Heredoc, Word};
use crate::text::Span;

/// What the words of an instruction may grow to, all together: each may be long, and there may be many.
const COMMAND_BYTES_MAX: usize = 8 << 20;

/// An instruction with the values of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// The instruction.
    pub command: Command,
    /// Variables that were asked for and not set, and where.
    pub unmatched: Vec<(String, Span)>,
}

/// Why an instruction cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// Where it is.
    pub span: Span,
    /// What is wrong there.
    pub error: Error,
}

/// Puts values into the words of an instruction that have variables: not those of commands, which the shell expands, and not those
/// of `FROM`, which has variables of its own.
pub fn command(command: &Command, escape: char, variables: &Environment) -> Result<Expansion, Failure> {
    let mut filler =
        Filler { lexer: Lexer::new(escape), variables, unmatched: Vec::new(), left: COMMAND_BYTES_MAX };
    let mut command = command.clone();
    match &mut command {
        Command::Add(add) => {
            filler.files(&mut add.files)?;
            filler.words(&mut add.checksum)?;
        }
        Command::Copy(copy) => filler.files(&mut copy.files)?,
        Command::Arg(arguments) => {
            for argument in arguments {
                filler.word(&mut argument.name)?;
                filler.words(&mut argument.default)?;
            }
        }
        Command::Env(pairs) | Command::Label(pairs) => {
            for pair in pairs {
                filler.word(&mut pair.name)?;
                filler.word(&mut pair.value)?;
            }
        }
        Command::Expose(words) => *words = filler.divided(words)?,
        Command::Run(run) => {
            filler.words(&mut run.mounts)?;
            filler.words(&mut run.devices)?;
        }
        Command::Volume(words) => filler.words(words)?,
        Command::StopSignal(word) | Command::User(word) | Command::Workdir(word) => filler.word(word)?,
        Command::Cmd(_)
        | Command::Entrypoint(_)
        | Command::From(_)
        | Command::Healthcheck(_)
        | Command::Include(_)
        | Command::Invalid
        | Command::Maintainer(_)
        | Command::OnBuild(_)
        | Command::Shell(_) => {}
    }
    Ok(Expansion { command, unmatched: filler.unmatched })
}

struct Filler<'a> {
    lexer: Lexer,
    variables: &'a Environment,
    unmatched: Vec<(String, Span)>,
    left: usize,
}

impl Filler<'_> {
    fn process(&mut self, lexer: &Lexer, text: &str, span: Span) -> Result<super::Expanded, Failure> {
        let mut done = lexer.process(text, self.variables).map_err(|error| Failure { span, error })?;
        self.left = self.left.checked_sub(done.text.len()).ok_or_else(|| Failure {
            span,
            error: Error::too_long(text, "the instruction", COMMAND_BYTES_MAX),
        })?;
        self.unmatched.extend(std::mem::take(&mut done.unmatched).into_iter().map(|name| (name, span)));
        Ok(done)
    }

    fn word(&mut self, word: &mut Word) -> Result<(), Failure> {
        let lexer = self.lexer;
        word.text = self.process(&lexer, &word.text, word.span)?.text;
        Ok(())
    }

    fn words<'w>(&mut self, words: impl IntoIterator<Item = &'w mut Word>) -> Result<(), Failure> {
        words.into_iter().try_for_each(|word| self.word(word))
    }

    /// Each may become several.
    fn divided(&mut self, words: &[Word]) -> Result<Vec<Word>, Failure> {
        let lexer = self.lexer;
        let mut all = Vec::new();
        for word in words {
            let done = self.process(&lexer, &word.text, word.span)?;
            all.extend(done.words.into_iter().map(|text| Word { text, span: word.span }));
        }
        Ok(all)
    }

    fn files(&mut self, files: &mut Files) -> Result<(), Failure> {
        self.words(&mut files.sources)?;
        self.word(&mut files.destination)?;
        self.words(&mut files.chown)?;
        self.words(&mut files.chmod)?;
        self.words(&mut files.exclude)?;
        files.inline.iter_mut().try_for_each(|file| self.contents(file))
    }

    fn contents(&mut self, file: &mut Heredoc) -> Result<(), Failure> {
        if file.expands {
            file.content = self.process(&Lexer::of_contents(), &file.content, file.span)?.text;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(line: &str) -> Command {
        let parsed = crate::parse(&format!("FROM a\n{line}"));
        assert_eq!(parsed.diagnostics, []);
        let variables = Environment::from_entries(["a=1", "two=x y", "home=/home"]);
        command(&parsed.dockerfile.instructions[1].command, '\\', &variables).expect("good words").command
    }

    #[test]
    fn each_instruction_has_its_words() {
        let Command::Expose(ports) = expanded("EXPOSE $two 8${a}") else { panic!("not EXPOSE") };
        assert_eq!(ports.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["x", "y", "81"]);
        let Command::Volume(paths) = expanded("VOLUME [\"$two\"]") else { panic!("not VOLUME") };
        assert_eq!(paths[0].text, "x y");
        let Command::Env(pairs) = expanded("ENV b='$a'\"$a\" c$a=d\\ $two") else { panic!("not ENV") };
        assert_eq!((pairs[0].value.text.as_str(), pairs[1].name.text.as_str()), ("$a1", "c1"));
        assert_eq!(pairs[1].value.text, "d x y");
        let Command::Copy(copy) = expanded("COPY --chown=$a <<E <<'F' $home/x /$a/\n\"$a\" \\$a\nE\n$a\nF")
        else {
            panic!("not COPY")
        };
        assert_eq!(copy.files.inline[0].content, "\"1\" $a\n");
        assert_eq!(copy.files.inline[1].content, "$a\n");
        assert_eq!(
            (copy.files.sources[0].text.as_str(), copy.files.destination.text.as_str()),
            ("/home/x", "/1/")
        );
        let Command::Run(run) = expanded("RUN --mount=type=cache,target=$home/c echo $a") else {
            panic!("not RUN")
        };
        assert_eq!(run.mounts[0].text, "type=cache,target=/home/c");
        assert!(
            matches!(run.line, crate::dockerfile::instruction::CommandLine::Shell(word) if word.text == "echo $a")
        );
    }

    #[test]
    fn a_failure_has_its_place() {
        let text = "FROM a\nUSER ${x:?who}";
        let parsed = crate::parse(text);
        let error =
            command(&parsed.dockerfile.instructions[1].command, '\\', &Environment::new()).unwrap_err();
        assert_eq!(error.span.of(text), "${x:?who}");
        assert_eq!(error.to_string(), "failed to process \"${x:?who}\": x: who");
    }
}
