//! `INCLUDE`: the instructions of another file stand in its place.
//!
//! Who has the files is asked for them by name, round by round, until all are there: [`assemble`] opens none itself. The names count from
//! the root of the context, as those of `COPY` do, in included files too, so that a name means the same file wherever it stands.

use std::collections::BTreeMap;

use crate::Diagnostic;
use crate::dockerfile::{self, Inclusion, TEXT_BYTES_MAX};
use crate::ignore::{Glob, Ignore, Rule, clean};
use crate::request::Document;
use crate::text::{File, Origins, Part, Source};

/// Files that include each other, below the Dockerfile: more is a mistake, and each is a question to whoever has the files.
pub const DEPTH_MAX: usize = 16;
/// How often a Dockerfile and what it includes may include something.
pub const COUNT_MAX: usize = 256;
/// Letters of a name: paths are not longer.
const PATH_LETTERS_MAX: usize = 4096;

/// What a file says, or why it cannot be had.
pub type Text = Result<String, String>;

/// The files that are known, by their names.
pub type Files = BTreeMap<String, Text>;

/// How far a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assembled {
    /// All is there.
    Whole(Document),
    /// These files are wanted first, by their paths from the root of the context.
    Wants(Vec<String>),
}

/// Puts files in the place of the `INCLUDE`s that name them.
///
/// # Errors
/// A file cannot be had, or is included by itself, or there is too much; as it is told: one line, and the place with a caret below it.
pub fn assemble(main: &Document, files: &Files) -> Result<Assembled, String> {
    // An instruction's first letter begins a line. What cannot have one is not read twice.
    let may_include = |line: &str| line.trim_start_matches('\u{feff}').trim_start().starts_with(['i', 'I']);
    if !main.text.lines().any(may_include) {
        return Ok(Assembled::Whole(main.clone()));
    }
    let file = File { name: main.name.clone(), text: main.text.clone() };
    let mut assembler = Assembler {
        main,
        known: files,
        escape: None,
        text: String::new(),
        origins: Origins { files: vec![file], parts: Vec::new() },
        numbers: BTreeMap::new(),
        above: Vec::new(),
        wants: Vec::new(),
        count: 0,
        bytes: 0,
    };
    assembler.file(0, &main.text)?;
    if !assembler.wants.is_empty() {
        return Ok(Assembled::Wants(assembler.wants));
    }
    if assembler.count == 0 {
        return Ok(Assembled::Whole(main.clone()));
    }
    let Assembler { text, origins, .. } = assembler;
    Ok(Assembled::Whole(Document { name: main.name.clone(), text, origins }))
}

/// The path that a name means, from the root of the context.
///
/// # Errors
/// It is no name of a file there; what is wrong, and what there should be.
pub(crate) fn path(text: &str) -> Result<String, (String, &'static str)> {
    let path = "the path of a file, from the root of the build context";
    if text.contains('$') {
        return Err(("variable expansion is not supported for INCLUDE".to_owned(), path));
    }
    if text.starts_with("<<") {
        return Err(("INCLUDE cannot accept a heredoc".to_owned(), path));
    }
    if text.contains("://") {
        return Err(("INCLUDE takes files of the build context, and no addresses".to_owned(), path));
    }
    if Glob::is_pattern(text) {
        return Err(("INCLUDE takes one file, and no wildcards".to_owned(), path));
    }
    if text.chars().count() > PATH_LETTERS_MAX {
        return Err((format!("the path is longer than {PATH_LETTERS_MAX} letters"), path));
    }
    let cleaned = clean(text.trim_start_matches('/'));
    if cleaned == ".." || cleaned.starts_with("../") {
        return Err(("the path leaves the build context".to_owned(), path));
    }
    if cleaned == "." {
        return Err(("the path is that of a directory".to_owned(), path));
    }
    Ok(cleaned)
}

/// The rule that hides a file, by its path or by the one that its links lead to.
pub fn hidden<'a>(path: &str, real: &str, ignore: &'a Ignore) -> Option<&'a Rule> {
    ignore.hides(path).or_else(|| ignore.hides(real))
}

/// Why a file is not there that is in the context and hidden, in the words of `COPY`.
pub fn hidden_by(path: &str, rule: &Rule, ignore_name: &str) -> String {
    let Rule { line, text, .. } = rule;
    format!(
        "{path:?}: not found: it is in the build context, and {ignore_name} hides it (line {line}: {text})"
    )
}

/// Why a file is not there, in the words of `COPY`: a rule may have kept it from being sent.
pub fn missing(path: &str, ignore: &Ignore, ignore_name: &str) -> String {
    match ignore.hides(path) {
        Some(Rule { line, text, .. }) => format!(
            "{path:?}: not found in the build context: if it is there, {ignore_name} hides it (line {line}: {text})"
        ),
        None => format!("{path:?}: not found in the build context"),
    }
}

struct Assembler<'a> {
    main: &'a Document,
    known: &'a Files,
    /// The letter that takes the meaning from the next: that of the first file counts for all.
    escape: Option<char>,
    text: String,
    origins: Origins,
    /// Numbers of files that are in `origins`.
    numbers: BTreeMap<&'a str, usize>,
    /// The files that are being put in, each included by the one before.
    above: Vec<&'a str>,
    wants: Vec<String>,
    count: usize,
    bytes: usize,
}

impl<'a> Assembler<'a> {
    fn file(&mut self, number: usize, text: &'a str) -> Result<(), String> {
        let (found, escape) = dockerfile::inclusions(text, self.escape);
        self.escape = Some(escape);
        self.bytes += text.len() + 1;
        let mut at = 0;
        for inclusion in found {
            self.part(number, text, at, inclusion.whole.start);
            at = inclusion.whole.end;
            self.inclusion(number, text, &inclusion)?;
        }
        self.part(number, text, at, text.len());
        Ok(())
    }

    /// Adds a part of a file. It ends its last line: what follows is another file's.
    fn part(&mut self, file: usize, text: &str, start: usize, end: usize) {
        self.origins.parts.push(Part { start: self.text.len(), file, offset: start });
        let part = text.get(start..end).unwrap_or_default();
        self.text.push_str(part);
        let is_whole_text = file == 0 && end == text.len();
        if !part.is_empty() && !part.ends_with('\n') && !is_whole_text {
            self.text.push('\n');
        }
    }

    fn inclusion(&mut self, within: usize, text: &str, inclusion: &Inclusion) -> Result<(), String> {
        let refuse = |assembler: &Self, message: String| {
            Err(assembler.refused(within, text, Diagnostic::error(inclusion.path.span, message), inclusion))
        };
        let path = match path(&inclusion.path.text) {
            Ok(path) => path,
            Err((message, expected)) => {
                let wrong = Diagnostic::error(inclusion.path.span, message).expecting(expected);
                return Err(self.refused(within, text, wrong, inclusion));
            }
        };
        self.count += 1;
        if self.count > COUNT_MAX {
            return refuse(self, format!("the Dockerfile includes files more than {COUNT_MAX} times"));
        }
        let Some((name, content)) = self.known.get_key_value(&path) else {
            if !self.wants.contains(&path) {
                self.wants.push(path);
            }
            return Ok(());
        };
        let content = match content {
            Ok(content) => content,
            Err(why) => return refuse(self, format!("failed to include {why}")),
        };
        let is_main = *name == self.main.name && *content == self.main.text;
        if is_main || self.above.contains(&name.as_str()) {
            let first = self.above.iter().position(|above| above == name).unwrap_or(0);
            let main = is_main.then_some(self.main.name.as_str());
            let chain = main.into_iter().chain(self.above[first..].iter().copied()).chain([name.as_str()]);
            let chain = chain.collect::<Vec<_>>().join(" -> ");
            return refuse(self, format!("files include each other in a circle: {chain}"));
        }
        if self.above.len() == DEPTH_MAX {
            return refuse(self, format!("files are included more than {DEPTH_MAX} deep"));
        }
        if self.bytes + content.len() > TEXT_BYTES_MAX {
            let message =
                format!("the Dockerfile and what it includes are longer than {TEXT_BYTES_MAX} bytes");
            return refuse(self, message);
        }
        let number = match self.numbers.get(name.as_str()) {
            Some(number) => *number,
            None => {
                let number = self.origins.files.len();
                self.origins.files.push(File { name: name.clone(), text: content.clone() });
                self.numbers.insert(name, number);
                number
            }
        };
        self.above.push(name);
        self.file(number, content)?;
        self.above.pop();
        Ok(())
    }

    /// Why a file is not put in, as it is told.
    fn refused(&self, within: usize, text: &str, wrong: Diagnostic, inclusion: &Inclusion) -> String {
        let origins = Origins {
            files: self.origins.files.clone(),
            parts: vec![Part { start: 0, file: within, offset: 0 }],
        };
        let source = Source::of(text, &origins);
        let wrong = wrong.within(inclusion.span);
        format!("{}\n{}", wrong.line(&source), wrong.render(&source, &self.main.name).trim_end())
    }
}

#[cfg(test)]
mod tests;
