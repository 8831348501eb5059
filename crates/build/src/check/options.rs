//! `# check=skip=A,B;error=true;experimental=C`, and the argument of a build that says the same.

use std::collections::BTreeSet;

use super::rules::Rule;
use crate::dockerfile::Dockerfile;
use crate::expand::Environment;

/// The argument that is said in the place of the directive.
const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// A choice of checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// All of them.
    pub all: bool,
    /// Those with these names.
    pub names: BTreeSet<String>,
}

impl Names {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self { all: true, names: BTreeSet::new() };
        }
        Self { all: false, names: text.split(',').map(|name| name.trim().to_owned()).collect() }
    }

    fn has(&self, rule: &Rule) -> bool {
        self.all || self.names.contains(rule.name)
    }
}

/// Which checks are made, and what happens if one finds something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Those that are not made.
    pub skip: Names,
    /// Those that are made though they are experimental.
    pub experimental: Names,
    /// Whether a warning ends the build.
    pub error: bool,
}

impl Options {
    /// Reads a directive.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("invalid check option {part:?}"))?;
            match key.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => {
                    options.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(format!("failed to parse check option {part:?}")),
                    }
                }
                key => return Err(format!("invalid check option {key:?}")),
            }
        }
        Ok(options)
    }

    /// What a Dockerfile asks for, if the build does not.
    pub fn of(file: &Dockerfile, arguments: &Environment) -> Result<Self, String> {
        let directive = file.directives.check.as_ref().map(|word| word.text.as_str());
        Self::parse(arguments.get(ARGUMENT).or(directive).unwrap_or_default())
    }

    /// Whether a check is made.
    pub fn has(&self, rule: &Rule) -> bool {
        !self.skip.has(rule) && (!rule.experimental || self.experimental.has(rule))
    }
}
