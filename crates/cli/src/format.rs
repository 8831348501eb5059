//! Lists in the format that was asked for.

use std::rc::Rc;

use crate::error::{Error, Result};
use crate::flags::Flag;
use crate::table;
use crate::template::{Error as Fault, Mode, Record, Template, Value};

/// `--format` of lists.
pub const LIST_FORMAT: Flag = crate::flags::text(
    "format",
    "Print as a \"table\" (also \"table TEMPLATE\"), as \"json\", or by a Go template",
);
/// `--format` of details.
pub const FORMAT: Flag = crate::flags::text("format", "Print as \"json\", or by a Go template").short('f');

/// How a list is shown.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// What was asked for; empty for the table.
    pub format: &'a str,
    /// The template of the table.
    pub table: &'a str,
    /// The template of `-q`, when that was given.
    pub quiet: Option<&'a str>,
    /// Titles by field.
    pub titles: &'static [(&'static str, &'static str)],
}

struct Titles(&'static [(&'static str, &'static str)]);

impl Record for Titles {
    fn type_name(&self) -> &'static str {
        "formatter.SubHeaderContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let title = self.0.iter().find(|(known, _)| *known == name).map(|(_, title)| *title);
        Some(title.map_or(Value::Missing, Value::from))
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::Text(label)]) => {
                let last = label.rsplit('.').next().unwrap_or(label);
                Some(last.replace(['-', '_'], " ").into())
            }
            _ => None,
        }
    }
}

impl Listing<'_> {
    /// The rows as text.
    pub fn render(&self, rows: impl IntoIterator<Item = Rc<dyn Record>>) -> Result<String> {
        let (is_table, source) = match self.quiet {
            Some(quiet) => (false, quiet.to_owned()),
            None => self.source(),
        };
        let source = source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse("", &source).map_err(parse_failed)?;
        let mut body = String::new();
        for row in rows {
            body.push_str(&template.render(&Value::Record(row), Mode::default()).map_err(exec_failed)?);
            body.push('\n');
        }
        if !is_table {
            return Ok(body);
        }
        let titles = Value::Record(Rc::new(Titles(self.titles)));
        let mut text = template.render(&titles, Mode { header: true }).map_err(exec_failed)?;
        text.push('\n');
        text.push_str(&body);
        Ok(table::align(&text))
    }

    fn source(&self) -> (bool, String) {
        match self.format.strip_prefix("table") {
            _ if self.format.is_empty() => (true, self.table.to_owned()),
            Some("") => (true, self.table.to_owned()),
            Some(rest) => (true, rest.to_owned()),
            None if self.format == "json" => (false, "{{json .}}".to_owned()),
            None => (false, self.format.to_owned()),
        }
    }
}

fn parse_failed(fault: Fault) -> Error {
    Error::Message(format!("failed to parse template: {fault}"))
}

fn exec_failed(fault: Fault) -> Error {
    Error::Message(format!("failed to execute template: {fault}"))
}

/// One value in the format of `inspect -f`, `version -f` and `info -f`.
pub fn detail(name: &str, format: &str, value: &Value) -> Result<String> {
    let source = if format == "json" { "{{json .}}" } else { format };
    let failed = |fault: Fault| match fault {
        Fault::Parse(text) => Error::Format(format!("template parsing error: {text}")),
        Fault::Exec(text) => Error::Message(text),
    };
    Template::parse(name, source).and_then(|template| template.render(value, Mode::default())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(&'static str);

    impl Record for Row {
        fn type_name(&self) -> &'static str {
            "*formatter.Row"
        }

        fn fields(&self) -> &'static [&'static str] {
            &["ID", "Name"]
        }

        fn field(&self, name: &str) -> Option<Value> {
            match name {
                "ID" => Some("0123456789ab".into()),
                "Name" => Some(self.0.into()),
                _ => None,
            }
        }
    }

    fn render(format: &str, quiet: Option<&str>) -> String {
        let listing =
            Listing { format, table: "table", quiet, titles: &[("ID", "ROW ID"), ("Name", "NAME")] };
        let listing = Listing { table: "{{.ID}}\\t{{.Name}}", ..listing };
        let rows: [Rc<dyn Record>; 2] = [Rc::new(Row("a")), Rc::new(Row("b"))];
        listing.render(rows).unwrap_or_else(|err| err.to_string())
    }

    #[test]
    fn formats() {
        assert_eq!(render("", None), "ROW ID         NAME\n0123456789ab   a\n0123456789ab   b\n");
        assert_eq!(render("table", None), render("", None));
        assert_eq!(
            render("table {{.Name}}\\t{{upper .ID}}", None),
            "NAME      ROW ID\na         0123456789AB\nb         0123456789AB\n"
        );
        assert_eq!(
            render("json", None),
            "{\"ID\":\"0123456789ab\",\"Name\":\"a\"}\n{\"ID\":\"0123456789ab\",\"Name\":\"b\"}\n"
        );
        assert_eq!(render("{{.Name}}", None), "a\nb\n");
        assert_eq!(render("json", Some("{{.ID}}")), "0123456789ab\n0123456789ab\n");
        assert_eq!(
            render("{{.Foo}}", None),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.Row"
        );
        assert_eq!(render("{{.ID", None), "failed to parse template: template: :1: unclosed action");
    }
}
