//! BuildKit's build checks, by their names and in their words, each with the place of what it is about.

mod flow;
mod form;
mod options;
mod rules;

pub use options::Options;
pub use rules::{RULES, Rule};

use oci::Platform;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::Dockerfile;
use crate::expand::Environment;
use crate::ignore::Ignore;
use crate::stages::{Origin, Request, Stages};
use crate::text::Span;

/// What the checks look at.
pub struct Input<'a> {
    /// The Dockerfile; what could not be read of it is not checked.
    pub file: &'a Dockerfile,
    /// Its stages.
    pub stages: &'a Stages,
    /// What the build is asked for.
    pub request: &'a Request,
    /// What the context hides, if it is known.
    pub ignore: Option<&'a Ignore>,
    /// The variables of an image, if they are known; else it is taken for one that sets `PATH` alone.
    pub image: &'a dyn Fn(&str) -> Option<Environment>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the text.
    pub warnings: Vec<Diagnostic>,
    /// Why the build is not to go on, if it is not.
    pub failure: Option<String>,
}

/// Makes all checks that are on.
pub fn check(input: &Input<'_>, options: &Options) -> Report {
    let mut finder = Finder { options, found: Vec::new() };
    form::check(input, &mut finder);
    flow::check(input, &mut finder);
    finder.report()
}

/// Makes the check that needs images: whether those that stages begin with are for the platform that is built for. `pulled` knows what an
/// image is for that was looked up by this name and for this platform.
pub fn check_bases(
    input: &Input<'_>,
    options: &Options,
    pulled: &dyn Fn(&str, Option<&Platform>) -> Option<Platform>,
) -> Report {
    let mut finder = Finder { options, found: Vec::new() };
    for at in &input.stages.order {
        let stage = &input.stages.list[*at];
        let Origin::Image(name) = &stage.base else { continue };
        let Some(actual) = pulled(name, stage.platform.as_ref()) else { continue };
        let expected = stage.platform.as_ref().unwrap_or(&input.request.target_platform);
        if (&actual.os, &actual.architecture) != (&expected.os, &expected.architecture) {
            let from = input.file.instructions[stage.from].span;
            let message = format!(
                "Base image {name} was pulled with platform \"{actual}\", expected \"{expected}\" for current build"
            );
            finder.warn(&rules::INVALID_BASE_IMAGE_PLATFORM, from, from, message);
        }
    }
    finder.report()
}

/// What was found, in its order.
fn report(options: &Options, mut warnings: Vec<Diagnostic>) -> Report {
    warnings.sort_by_key(|warning| warning.span.start);
    let mut names: Vec<&str> = warnings.iter().filter_map(|warning| warning.rule).collect();
    names.sort_unstable();
    names.dedup();
    let fails = options.error && !names.is_empty();
    let failure = fails.then(|| format!("lint violation found for rules: {}", names.join(", ")));
    Report { warnings, failure }
}

/// Warnings of a text: nobody reads more.
const FOUND_MAX: usize = 1000;

/// Gathers what is found.
struct Finder<'a> {
    options: &'a Options,
    found: Vec<Diagnostic>,
}

impl Finder<'_> {
    fn report(self) -> Report {
        report(self.options, self.found)
    }

    fn is_full(&self) -> bool {
        self.found.len() >= FOUND_MAX
    }

    fn warn(&mut self, rule: &'static Rule, span: Span, instruction: Span, message: impl Into<String>) {
        if self.options.has(rule) && !self.is_full() {
            let warning = Diagnostic::warning(span, message).within(instruction);
            self.found.push(Diagnostic { rule: Some(rule.name), ..warning });
        }
    }
}

#[cfg(test)]
mod tests;
