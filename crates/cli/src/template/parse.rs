//! Tokens to nodes.

use super::lex::{Fault, Kind, Token};

pub(super) type Span = (usize, usize);

/// What stands in a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// `$a, $b := command | command`.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    pub(super) assign: bool,
    pub(super) commands: Vec<Command>,
    pub(super) span: Span,
}

/// An operand with its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) what: What,
    /// The chain of fields behind it.
    pub(super) fields: Vec<String>,
    pub(super) span: Span,
    /// Where messages point: Go's own choice is the last field but for the first.
    pub(super) mark: Span,
}

#[derive(Debug)]
pub(super) enum What {
    Dot,
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Variable(String),
    Function(String),
    Pipe(Box<Pipe>),
}

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token],
    at: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
}

/// How a list of nodes ended.
#[derive(Debug, PartialEq)]
enum End {
    Source,
    Closed,
    Else,
}

pub(super) fn parse(source: &str, tokens: &[Token]) -> Result<Vec<Node>, Fault> {
    let variables = vec!["$".to_owned()];
    let mut parser = Parser { source, tokens, at: 0, variables, ranges: 0, depth: 0 };
    let (nodes, end) = parser.list()?;
    match end {
        End::Source => Ok(nodes),
        End::Closed => parser.fault_before("unexpected {{end}}"),
        End::Else => parser.fault_before("unexpected {{else}}"),
    }
}

impl<'a> Parser<'a> {
    fn fault<T>(&self, text: impl Into<String>) -> Result<T, Fault> {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line);
        Err((line, text.into()))
    }

    fn fault_before<T>(&self, text: &str) -> Result<T, Fault> {
        let line = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(1, |token| token.line);
        Err((line, text.to_owned()))
    }

    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at);
        self.at += 1;
        token
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth >= super::DEPTH_MAX {
            return self.fault("template is nested too deeply");
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn list(&mut self) -> Result<(Vec<Node>, End), Fault> {
        let mut nodes = Vec::new();
        while let Some(token) = self.next() {
            match &token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text.clone())),
                _ => match self.action()? {
                    Ok(node) => nodes.push(node),
                    Err(end) => return Ok((nodes, end)),
                },
            }
        }
        Ok((nodes, End::Source))
    }

    /// What stands behind `{{`: a node, or the end of a list.
    fn action(&mut self) -> Result<Result<Node, End>, Fault> {
        let word = match self.peek() {
            Some(Kind::Word(word)) => word.as_str(),
            _ => "",
        };
        if matches!(word, "define" | "template" | "block") {
            return self.fault(format!("{{{{{word}}}}} is not supported in a format"));
        }
        let control = matches!(word, "if" | "with" | "range" | "end" | "else" | "break" | "continue");
        if control {
            self.at += 1;
        }
        match word {
            "end" => {
                self.close("end")?;
                Ok(Err(End::Closed))
            }
            "else" => {
                // `{{else if}}` is read by whoever asked for the list.
                if !matches!(self.peek(), Some(Kind::Word(word)) if word == "if" || word == "with") {
                    self.close("else")?;
                }
                Ok(Err(End::Else))
            }
            "break" | "continue" => {
                if self.ranges == 0 {
                    return self.fault(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.close(word)?;
                Ok(Ok(if word == "break" { Node::Break } else { Node::Continue }))
            }
            "if" | "with" | "range" => self.deeper(|parser| parser.block(word)).map(Ok),
            _ => {
                let pipe = self.pipe("command")?;
                self.close("command")?;
                Ok(Ok(Node::Action(pipe)))
            }
        }
    }

    fn close(&mut self, context: &str) -> Result<(), Fault> {
        match self.peek() {
            Some(Kind::Close) => {
                self.at += 1;
                Ok(())
            }
            _ => self.unexpected(context),
        }
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, Fault> {
        let shown = match self.tokens.get(self.at) {
            None => "EOF".to_owned(),
            Some(token) => {
                let text = &self.source[token.span.0..token.span.1];
                match &token.kind {
                    Kind::Word(word) if is_keyword(word) => format!("<{word}>"),
                    _ => format!("{text:?}"),
                }
            }
        };
        self.fault(format!("unexpected {shown} in {context}"))
    }

    fn block(&mut self, word: &str) -> Result<Node, Fault> {
        let scope = self.variables.len();
        let pipe = self.pipe(word)?;
        self.close(word)?;
        self.ranges += usize::from(word == "range");
        let (body, end) = self.list()?;
        self.ranges -= usize::from(word == "range");
        let other = match end {
            End::Source => return self.fault("unexpected EOF"),
            End::Closed => Vec::new(),
            End::Else => self.otherwise(word)?,
        };
        self.variables.truncate(scope);
        Ok(match word {
            "if" => Node::If(pipe, body, other),
            "with" => Node::With(pipe, body, other),
            _ => Node::Range(pipe, body, other),
        })
    }

    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, Fault> {
        if let Some(Kind::Word(next)) = self.peek() {
            if next != word {
                return self.unexpected("else");
            }
            self.at += 1;
            return self.deeper(|parser| parser.block(next)).map(|node| vec![node]);
        }
        match self.list()? {
            (nodes, End::Closed) => Ok(nodes),
            (_, End::Else) => self.fault("expected end; found {{else}}"),
            (_, End::Source) => self.fault("unexpected EOF"),
        }
    }

    fn pipe(&mut self, context: &str) -> Result<Pipe, Fault> {
        let start = self.tokens.get(self.at).map_or(0, |token| token.span.0);
        let (variables, assign) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            match self.peek() {
                Some(Kind::Close | Kind::Right) => break,
                None => return self.fault("unclosed action"),
                _ => commands.push(self.command(context)?),
            }
        }
        if commands.is_empty() {
            return self.fault(format!("missing value for {context}"));
        }
        for command in &commands[1..] {
            let literal =
                !matches!(command.operands[0].what, What::Function(_) | What::Variable(_) | What::Pipe(_))
                    && command.operands[0].fields.is_empty();
            if literal && !matches!(command.operands[0].what, What::Dot) {
                return self.fault("non executable command in pipeline stage 2");
            }
        }
        let end = self.tokens.get(self.at.saturating_sub(1)).map_or(start, |token| token.span.1);
        self.variables.extend(variables.iter().filter(|_| !assign).cloned());
        Ok(Pipe { variables, assign, commands, span: (start, end) })
    }

    /// `$x :=`, `$x =`, and in ranges `$i, $x :=`.
    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool), Fault> {
        let Some(Kind::Variable(first)) = self.peek() else { return Ok((Vec::new(), false)) };
        match self.tokens.get(self.at + 1).map(|token| &token.kind) {
            Some(Kind::Declare) => {
                self.at += 2;
                Ok((vec![first.clone()], false))
            }
            Some(Kind::Assign) => {
                if !self.variables.contains(first) {
                    return self.fault(format!("undefined variable {first:?}"));
                }
                self.at += 2;
                Ok((vec![first.clone()], true))
            }
            Some(Kind::Comma) if context == "range" => {
                let after: Vec<_> =
                    self.tokens[self.at + 2..].iter().take(2).map(|token| &token.kind).collect();
                match after[..] {
                    [Kind::Variable(second), Kind::Declare] => {
                        self.at += 4;
                        Ok((vec![first.clone(), second.clone()], false))
                    }
                    _ => self.fault("range can only initialize variables"),
                }
            }
            Some(Kind::Comma) => self.fault(format!("too many declarations in {context}")),
            _ => Ok((Vec::new(), false)),
        }
    }

    fn command(&mut self, context: &str) -> Result<Command, Fault> {
        let mut operands: Vec<Operand> = Vec::new();
        loop {
            match self.peek() {
                Some(Kind::Pipe) => {
                    self.at += 1;
                    if matches!(self.peek(), Some(Kind::Close | Kind::Right) | None) {
                        return self.fault(format!("missing value for {context}"));
                    }
                    break;
                }
                Some(Kind::Close | Kind::Right) | None => break,
                _ => operands.push(self.operand(context)?),
            }
        }
        if operands.is_empty() {
            return self.fault("empty command");
        }
        Ok(Command { operands })
    }

    fn operand(&mut self, context: &str) -> Result<Operand, Fault> {
        let Some(token) = self.tokens.get(self.at) else { return self.fault("unclosed action") };
        let mut fields = Vec::new();
        let what = match &token.kind {
            Kind::Dot => What::Dot,
            Kind::Field(name) => {
                fields.push(name.clone());
                What::Dot
            }
            Kind::Variable(name) => {
                if !self.variables.contains(name) {
                    return self.fault(format!("undefined variable {name:?}"));
                }
                What::Variable(name.clone())
            }
            Kind::Word(word) if is_keyword(word) => return self.unexpected(context),
            Kind::Word(word) => match word.as_str() {
                "true" => What::Bool(true),
                "false" => What::Bool(false),
                "nil" => What::Nil,
                name if super::funcs::exists(name) => What::Function(name.to_owned()),
                name => return self.fault(format!("function {name:?} not defined")),
            },
            Kind::Text2(text) => What::Text(text.clone()),
            Kind::Int(value) => What::Int(*value),
            Kind::Float(value) => What::Float(*value),
            Kind::Left => {
                self.at += 1;
                let pipe = self.deeper(|parser| parser.pipe("parenthesized pipeline"))?;
                if self.peek() != Some(&Kind::Right) {
                    return self.unexpected("parenthesized pipeline");
                }
                What::Pipe(Box::new(pipe))
            }
            _ => return self.unexpected("operand"),
        };
        let mut span = (token.span.0, self.tokens[self.at].span.1);
        let mut mark = span;
        self.at += 1;
        while let Some(Token { kind: Kind::Field(name), span: piece, spaced: false, .. }) =
            self.tokens.get(self.at)
        {
            if matches!(what, What::Nil | What::Bool(_) | What::Int(_) | What::Float(_) | What::Text(_)) {
                return self.fault(format!("unexpected . after term {:?}", &self.source[span.0..span.1]));
            }
            if span == mark {
                mark = *piece;
            }
            fields.push(name.clone());
            span.1 = piece.1;
            self.at += 1;
        }
        mark.1 = span.1;
        Ok(Operand { what, fields, span, mark })
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" | "break" | "continue"
    )
}
