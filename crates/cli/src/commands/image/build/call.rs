//! `--call` and `--check`: questions about the Dockerfile, which are answered here, without a daemon, if the Dockerfile is here.

use std::path::Path;

use build::call::Question;
use build::expand::Environment;
use build::ignore::Ignore;
use build::request::Document;
use build::stages::Request;
use oci::Platform;

use super::{Input, arguments, include, solve};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// A question, and whether a program asks it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    question: Question,
    is_json: bool,
}

impl Call {
    /// What is asked; nothing where it is a build that is wanted.
    ///
    /// # Errors
    /// There is no such question.
    pub(super) fn of(parsed: &Parsed) -> Result<Option<Self>> {
        match (parsed.text("call").filter(|text| !text.is_empty()), parsed.on("check")) {
            (Some(text), false) => Self::read(text),
            (None, true) => Self::read("check"),
            (Some(_), true) => Err(Error::say("--check is --call=check: leave one of them out")),
            (None, false) => Ok(None),
        }
    }

    fn read(text: &str) -> Result<Option<Self>> {
        let refuse = || {
            Error::Message(format!(
                "invalid --call {text:?}: use build, check, outline or targets, with ,format=json for programs"
            ))
        };
        let (name, rest) = text.split_once(',').unwrap_or((text, "format=text"));
        let is_json = match rest {
            "format=json" => true,
            "format=text" => false,
            _ => return Err(refuse()),
        };
        let question = match name {
            "build" => return Ok(None),
            "check" | "lint" => Question::Lint,
            "outline" => Question::Outline,
            "targets" => Question::Targets,
            _ => return Err(refuse()),
        };
        Ok(Some(Self { question, is_json }))
    }

    /// Answers. What is wrong with the Dockerfile is told by the exit code.
    pub(super) async fn answer(self, session: &Session, parsed: &Parsed, input: Input) -> Result<()> {
        if let Input::Address(_) | Input::Archive(_) = input {
            // What has to be fetched the engine fetches, and reads.
            let (json, text, is_fine) = solve::ask(session, parsed, input, self.question.name()).await?;
            return self.tell(session, &json, text, is_fine);
        }
        let platform = |text: &str| Platform::parse(text).map_err(|error| Error::Message(error.to_string()));
        let target_platform =
            parsed.text("platform").filter(|text| !text.is_empty()).map(platform).transpose()?;
        let mut environment = Environment::new();
        for (name, value) in arguments(parsed) {
            environment.set(&name, &value);
        }
        let contexts = parsed.list("build-context").filter_map(|text| text.split_once('='));
        let request = Request {
            arguments: environment,
            target_platform: target_platform.unwrap_or_else(Platform::host),
            target: parsed.text("target").filter(|target| !target.is_empty()).map(str::to_owned),
            contexts: contexts.map(|(name, _)| name.to_owned()).collect(),
            ..Request::default()
        };
        let (document, ignore) = document(parsed, input)?;
        let answer = self.question.ask(&document, &request, Some(&ignore)).map_err(Error::Message)?;
        self.tell(session, &answer.json, answer.text, answer.is_fine)
    }

    fn tell(&self, session: &Session, json: &str, text: String, is_fine: bool) -> Result<()> {
        session.out(if self.is_json { format!("{json}\n") } else { text })?;
        if is_fine { Ok(()) } else { Err(Error::Exit(1)) }
    }
}

/// The Dockerfile, with all that it includes, and what is hidden of its files.
fn document(parsed: &Parsed, input: Input) -> Result<(Document, Ignore)> {
    let file = parsed.text("file").filter(|file| !file.is_empty());
    match input {
        Input::Dockerfile(text) => seen(Document::new("Dockerfile", text), None, None),
        Input::Directory(directory) if file == Some(crate::archive::STANDARD) => {
            let text = super::dockerfile_from_standard_input(Vec::new())?;
            seen(Document::new("Dockerfile", text), Some(&directory), None)
        }
        Input::Directory(directory) => {
            let (document, above) = include::dockerfile(&directory, file)?;
            seen(document, Some(&directory), Some(&above))
        }
        Input::Address(_) | Input::Archive(_) => Err(Error::say("a bug: that is read by the engine")),
    }
}

fn seen(main: Document, context: Option<&Path>, above: Option<&Path>) -> Result<(Document, Ignore)> {
    let (ignore, _) = include::rules(&main.name, context, above)?;
    Ok((include::whole(main, context, above)?, ignore))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let lint = Call { question: Question::Lint, is_json: false };
        assert_eq!(Call::read("check").unwrap(), Some(lint));
        let targets = Call { question: Question::Targets, is_json: true };
        assert_eq!(Call::read("targets,format=json").unwrap(), Some(targets));
        assert_eq!(Call::read("build").unwrap(), None);
        for wrong in ["x", "check,", "check,format=xml"] {
            assert!(Call::read(wrong).is_err(), "{wrong}");
        }
    }
}
