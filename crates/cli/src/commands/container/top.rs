//! `top`.

use api::container::Top;
use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes};
use crate::error::Result;
use crate::flags::Parsed;
use crate::session::Session;
use crate::table::align_with;

/// `top`.
pub const COMMAND: Command = Command {
    name: "top",
    also: &["container top", "top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    arity: Arity::AtLeast(1),
    interspersed: false,
    completes: Completes::Running,
    ..Command::leaf(|session, parsed| Box::pin(top(session, parsed)))
};

async fn top(session: &Session, parsed: &Parsed) -> Result<()> {
    let options = parsed.args[1..].join(" ");
    let query = Query::new().maybe("ps_args", Some(&options));
    let top: Top = session.client()?.get(&path(&parsed.args[0], "/top"), query).await?;
    let mut text = top.titles.join("\t");
    text.push('\n');
    for process in &top.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    session.out(align_with(&text, 20, 3))
}
