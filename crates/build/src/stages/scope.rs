//! Which variables are known where.

use std::collections::BTreeSet;

use super::{Globals, Request};
use crate::dockerfile::instruction::Word;
use crate::dockerfile::instruction::{Argument, Command};
use crate::expand::{self, Environment, Error, Expansion, Failure, Lexer};

/// What the variables of a stage may take: no kernel starts a program with more.
pub const VARIABLES_BYTES_MAX: usize = 4 << 20;
/// Arguments of a stage.
const DECLARED_MAX: usize = 65_536;

/// Variables at a place in a stage. A stage that is built on another begins with that one's, as it was at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// What words and commands see: arguments and variables, whichever was set last.
    pub visible: Environment,
    /// What the image keeps.
    pub environment: Environment,
    /// Arguments that were declared, with or without a value.
    pub declared: BTreeSet<String>,
    /// Arguments and their values, as the history of commands names them.
    pub arguments: Environment,
}

impl Scope {
    /// At the beginning of a stage that is built on an image with these variables.
    pub fn of_image(environment: Environment) -> Self {
        Self { visible: environment.clone(), environment, ..Self::default() }
    }

    /// Goes over an instruction: its words get their values, and what it sets is known from then on.
    pub fn step(
        &mut self,
        command: &Command,
        escape: char,
        globals: &Globals,
        request: &Request,
    ) -> Result<Expansion, Failure> {
        if let Command::Arg(arguments) = command {
            return self.declare(arguments, escape, globals, request);
        }
        let expansion = expand::command(command, escape, &self.visible)?;
        if let Command::Env(pairs) = &expansion.command {
            for pair in pairs {
                self.set(&pair.name, &pair.value.text)?;
                self.environment.set(&pair.name.text, &pair.value.text);
            }
        }
        Ok(expansion)
    }

    fn set(&mut self, name: &Word, value: &str) -> Result<(), Failure> {
        fits(&self.visible, name, value)?;
        self.visible.set(&name.text, value);
        Ok(())
    }

    fn declare(
        &mut self,
        arguments: &[Argument],
        escape: char,
        globals: &Globals,
        request: &Request,
    ) -> Result<Expansion, Failure> {
        let lexer = Lexer::new(escape);
        let mut done = Vec::new();
        let mut unmatched = Vec::new();
        for argument in arguments {
            let Argument { mut name, mut default } = argument.clone();
            let given = lexer
                .process(&name.text, &self.visible)
                .map_err(|error| Failure { span: name.span, error })?;
            unmatched.extend(given.unmatched.into_iter().map(|unset| (unset, name.span)));
            name.text = given.text;
            // What the build was given is first, then what stands here, then what stands before all stages.
            let value = if let Some(value) = request.arguments.get(&name.text) {
                Some(value.to_owned())
            } else if let Some(word) = &mut default {
                let value = lexer
                    .process(&word.text, &self.visible)
                    .map_err(|error| Failure { span: word.span, error })?;
                unmatched.extend(value.unmatched.into_iter().map(|unset| (unset, word.span)));
                word.text.clone_from(&value.text);
                Some(value.text)
            } else {
                globals.environment.get(&name.text).map(str::to_owned)
            };
            if let Some(value) = value {
                self.set(&name, &value)?;
                self.arguments.set(&name.text, &value);
            }
            if self.declared.len() < DECLARED_MAX {
                self.declared.insert(name.text.clone());
            }
            done.push(Argument { name, default });
        }
        Ok(Expansion { command: Command::Arg(done), unmatched })
    }
}

/// Refuses a variable that is one too many.
pub fn fits(variables: &Environment, name: &Word, value: &str) -> Result<(), Failure> {
    if variables.bytes() + Environment::cost(&name.text, value) > VARIABLES_BYTES_MAX {
        let error = Error::too_long(&name.text, "the variables", VARIABLES_BYTES_MAX);
        return Err(Failure { span: name.span, error });
    }
    Ok(())
}
