//! Nodes and a value to text.

use super::funcs;
use super::parse::{Command, Node, Operand, Pipe, Span, What};
use super::value::{Shape, Value};
use super::{Mode, OUTPUT_BYTES_MAX};

/// What went wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) shown: Span,
    pub(super) text: String,
}

impl Fault {
    /// The part of the template that messages show, cut as Go cuts it.
    pub(super) fn context(&self, source: &str) -> String {
        let text = source.get(self.shown.0..self.shown.1).unwrap_or_default();
        if text.chars().count() > 20 {
            return text.chars().take(20).chain("...".chars()).collect();
        }
        text.to_owned()
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// How a list of nodes was left.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

pub(super) struct Run<'a> {
    source: &'a str,
    mode: Mode,
    out: String,
    variables: Vec<(String, Value)>,
}

fn fault<T>(span: Span, shown: Span, text: impl Into<String>) -> Result<T> {
    Err(Fault { span, shown, text: text.into() })
}

impl<'a> Run<'a> {
    pub(super) fn new(source: &'a str, mode: Mode) -> Self {
        Self { source, mode, out: String::new(), variables: Vec::new() }
    }

    pub(super) fn render(mut self, nodes: &[Node], value: &Value) -> Result<String> {
        self.variables.push(("$".into(), value.clone()));
        self.list(nodes, value)?;
        Ok(self.out)
    }

    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.printed());
                    if self.out.len() > OUTPUT_BYTES_MAX {
                        return fault(pipe.span, pipe.span, "the output is too long");
                    }
                }
            }
            Node::If(pipe, body, other) => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = self.list(if value.truth() { body } else { other }, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With(pipe, body, other) => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = if value.truth() { self.list(body, &value)? } else { self.list(other, dot)? };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(pipe, body, other) => return self.range(pipe, body, other, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], other: &[Node], dot: &Value) -> Result<Flow> {
        let scope = self.variables.len();
        let value = self.commands(pipe, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::List(list) => {
                list.iter().enumerate().map(|(i, v)| (Value::Int(i as i128), v.clone())).collect()
            }
            Value::Map(map) => {
                let mut pairs: Vec<_> = map.pairs.iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().map(|(k, v)| (Value::from(k.as_str()), v.clone())).collect()
            }
            Value::Nil | Value::Missing | Value::NilList | Value::NilMap => Vec::new(),
            Value::Int(count) => {
                let count = (*count).clamp(0, OUTPUT_BYTES_MAX as i128);
                (0..count).map(|i| (Value::Int(i), Value::Int(i))).collect()
            }
            other => {
                let text = format!("range can't iterate over {}", other.printed());
                return fault(pipe.span, pipe.span, text);
            }
        };
        if items.is_empty() {
            return self.list(other, dot);
        }
        for (key, item) in items {
            match pipe.variables.as_slice() {
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.list(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
            if self.out.len() > OUTPUT_BYTES_MAX {
                return fault(pipe.span, pipe.span, "the output is too long");
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
            match known {
                Some((_, slot)) if pipe.assign => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value> {
        let first = &command.operands[0];
        let rest = &command.operands[1..];
        if let What::Function(name) = &first.what {
            let value = self.function(name, first, rest, dot, piped)?;
            return self.chain(value, &first.fields, first, &[]);
        }
        let base = self.base(first, dot)?;
        if first.fields.is_empty() {
            if !rest.is_empty() || piped.is_some() {
                let shown = &self.source[first.span.0..first.span.1];
                return fault(first.mark, first.span, format!("can't give argument to non-function {shown}"));
            }
            return Ok(base);
        }
        let mut args = Vec::new();
        for operand in rest {
            args.push(self.value(operand, dot)?);
        }
        args.extend(piped);
        self.chain(base, &first.fields, first, &args)
    }

    /// An operand as an argument.
    fn value(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        let base = match &operand.what {
            What::Function(name) => self.function(name, operand, &[], dot, None)?,
            _ => self.base(operand, dot)?,
        };
        self.chain(base, &operand.fields, operand, &[])
    }

    fn base(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        Ok(match &operand.what {
            What::Dot => dot.clone(),
            What::Nil => Value::Nil,
            What::Bool(value) => Value::Bool(*value),
            What::Int(value) => Value::Int(*value),
            What::Float(value) => Value::Float(*value),
            What::Text(text) => Value::from(text.as_str()),
            What::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map_or(Value::Nil, |(_, value)| value.clone()),
            What::Function(_) => Value::Nil,
            What::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn chain(&self, base: Value, fields: &[String], operand: &Operand, args: &[Value]) -> Result<Value> {
        let mut value = base;
        for (index, name) in fields.iter().enumerate() {
            let args = if index + 1 == fields.len() { args } else { &[] };
            value = self.field(value, name, operand, args)?;
        }
        Ok(value)
    }

    fn field(&self, value: Value, name: &str, operand: &Operand, args: &[Value]) -> Result<Value> {
        let fail = |text: String| fault(operand.mark, operand.span, text);
        let found = match &value {
            Value::Record(record) => {
                let method = if args.is_empty() { None } else { record.method(name, args) };
                match method.or_else(|| if args.is_empty() { record.field(name) } else { None }) {
                    Some(found) => return Ok(found),
                    None if record.field(name).is_some() => Value::Nil,
                    None if record.method(name, &[Value::from("")]).is_some() => {
                        return fail(format!("wrong number of args for {name}: want 1 got {}", args.len()));
                    }
                    None => {
                        return fail(format!("can't evaluate field {name} in type {}", value.type_name()));
                    }
                }
            }
            Value::Map(map) if map.shape == Shape::Map => map.get(name).cloned().unwrap_or(Value::Missing),
            Value::NilMap => Value::Missing,
            Value::Map(map) => match map.field(name) {
                Some(found) => found.clone(),
                None => match absent(name) {
                    Some(found) => found,
                    None if !map.type_name.is_empty() => {
                        return fail(format!("can't evaluate field {name} in type {}", map.type_name));
                    }
                    None => return fail(format!("map has no entry for key {name:?}")),
                },
            },
            Value::Nil | Value::Missing => {
                return fail(format!("nil pointer evaluating interface {{}}.{name}"));
            }
            other => return fail(format!("can't evaluate field {name} in type {}", other.type_name())),
        };
        if !args.is_empty() {
            return fail(format!("{name} has arguments but cannot be invoked as function"));
        }
        Ok(found)
    }

    fn function(
        &mut self,
        name: &str,
        operand: &Operand,
        rest: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value> {
        let mut args = Vec::with_capacity(rest.len() + 1);
        for (index, operand) in rest.iter().enumerate() {
            let value = self.value(operand, dot)?;
            let last = index + 1 == rest.len() && piped.is_none();
            let decides = (name == "and" && !value.truth()) || (name == "or" && value.truth());
            if decides && !last {
                return Ok(value);
            }
            args.push(value);
        }
        args.extend(piped);
        funcs::call(name, &args, self.mode).map_err(|text| Fault {
            span: operand.mark,
            shown: operand.span,
            text,
        })
    }
}

/// What Docker's structs have where its JSON leaves an empty field out.
fn absent(name: &str) -> Option<Value> {
    Some(match name {
        "Healthcheck"
        | "Health"
        | "StopTimeout"
        | "Init"
        | "SizeRw"
        | "SizeRootFs"
        | "GraphDriver"
        | "BindOptions"
        | "VolumeOptions"
        | "TmpfsOptions"
        | "ImageManifestDescriptor"
        | "Descriptor"
        | "UsageData" => Value::Nil,
        "StopSignal" | "MacAddress" | "Variant" | "OsVersion" | "Author" | "Comment" | "Created"
        | "Consistency" | "Driver" | "ProductLicense" | "CgroupVersion" | "DockerVersion" | "Container"
        | "Parent" => Value::from(""),
        "NetworkDisabled" | "ArgsEscaped" => Value::Bool(false),
        "VirtualSize" => Value::Int(0),
        "ExposedPorts" | "Volumes" | "Labels" | "Tmpfs" | "Sysctls" | "StorageOpt" | "Annotations"
        | "Status" => Value::NilMap,
        "Env" | "Cmd" | "Entrypoint" | "Mounts" | "Shell" | "OnBuild" | "Layers" | "Manifests"
        | "Warnings" | "Components" => Value::NilList,
        _ => return None,
    })
}
