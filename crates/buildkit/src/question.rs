//! Questions about a Dockerfile that need no build, as BuildKit's clients ask them: `requestid` of a solve, answered in its metadata.

use std::collections::HashMap;

use build::call::{Question, VERSION};
use build::ignore::Ignore;
use build::request::Document;
use build::stages::Request;
use oci::Platform;

use crate::error::{Error, Result};

/// The question which questions there are.
const DESCRIBE: &str = "frontend.subrequests.describe";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Which questions there are.
    Describe,
    /// One of them.
    Of(Question),
}

/// What a client gets: keys and values beside its result, which is none.
pub(crate) type Metadata = HashMap<String, Vec<u8>>;

impl Asked {
    /// The question of a name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        if name == DESCRIBE {
            return Ok(Self::Describe);
        }
        Question::named(name).map(Self::Of).ok_or_else(|| Error::Absent(format!("the request {name}")))
    }

    /// The answer.
    ///
    /// # Errors
    /// The Dockerfile is none that can be answered about.
    pub(crate) fn answer(self, document: &Document, request: &build::Request) -> Result<Metadata> {
        let (json, text, is_fine) = match self {
            Self::Describe => (describe(), names(), true),
            Self::Of(question) => {
                let asked = Request {
                    arguments: request.arguments.clone(),
                    target_platform: request.platforms.first().cloned().unwrap_or_else(Platform::host),
                    target: request.target.clone(),
                    contexts: request.contexts.keys().cloned().collect(),
                    ..Request::default()
                };
                let read = |hidden: &Document| {
                    Ignore::parse(&hidden.text)
                        .map_err(|error| Error::Invalid(format!("{}: {error}", hidden.name)))
                };
                let ignore = request.ignore.as_ref().map(read).transpose()?;
                let answer = question.ask(document, &asked, ignore.as_ref()).map_err(Error::Invalid)?;
                (answer.json, answer.text, answer.is_fine)
            }
        };
        let mut metadata = HashMap::from([
            ("result.json".to_owned(), json.into_bytes()),
            ("result.txt".to_owned(), text.into_bytes()),
            ("version".to_owned(), VERSION.as_bytes().to_vec()),
        ]);
        if !is_fine {
            metadata.insert("result.statuscode".to_owned(), b"1".to_vec());
        }
        Ok(metadata)
    }
}

fn names() -> String {
    let line = |question: Question| format!("{}: {}\n", question.name(), question.description());
    Question::ALL.into_iter().map(line).collect()
}

fn describe() -> String {
    let one = |question: Question| {
        serde_json::json!({
            "name": question.name(),
            "version": VERSION,
            "type": "rpc",
            "description": question.description(),
            "opts": [],
            "metadata": [{"name": "result.json"}, {"name": "result.txt"}],
        })
    };
    serde_json::Value::Array(Question::ALL.into_iter().map(one).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_described_and_answered() {
        let document = Document::new("Dockerfile", "FROM a\nMAINTAINER b\n");
        let ask =
            |name: &str| Asked::named(name).unwrap().answer(&document, &build::Request::default()).unwrap();
        let described: serde_json::Value = serde_json::from_slice(&ask(DESCRIBE)["result.json"]).unwrap();
        assert_eq!(described.as_array().unwrap().len(), 3);
        let hides = build::Request {
            ignore: Some(Document::new(".dockerignore", "secret\n")),
            ..build::Request::default()
        };
        let copies =
            Document::new("Dockerfile", "# check=experimental=CopyIgnoredFile\nFROM a\nCOPY secret /\n");
        let told = Asked::Of(Question::Lint).answer(&copies, &hides).unwrap();
        assert!(String::from_utf8_lossy(&told["result.txt"]).contains("CopyIgnoredFile"));
        let lint = ask("frontend.lint");
        assert_eq!(lint["result.statuscode"], b"1");
        assert!(String::from_utf8_lossy(&lint["result.txt"]).contains("MaintainerDeprecated"));
        assert!(!ask("frontend.targets").contains_key("result.statuscode"));
        assert!(Asked::named("frontend.other").is_err());
    }
}
