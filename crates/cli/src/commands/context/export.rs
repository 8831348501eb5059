//! `context export`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use client::context::DEFAULT;

use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;
use crate::terminal;

/// `export`.
pub const COMMAND: Command = Command {
    name: "export",
    usage: "CONTEXT [FILE|-]",
    about: "Export a context to a tar archive FILE or a tar stream on stdout",
    arity: Arity::Between(1, 2),
    completes: Completes::Contexts,
    ..Command::leaf(|session, parsed| Box::pin(export(session, parsed)))
};

async fn export(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    if name == DEFAULT {
        return Err(Error::say("cannot export the default context"));
    }
    let archive = session.store.export(name)?;
    let file = parsed.args.get(1).cloned().unwrap_or_else(|| format!("{name}.dockercontext"));
    if file == "-" {
        if terminal::stdout_is_terminal() {
            return Err(Error::say("cowardly refusing to export to a terminal, specify a file path"));
        }
        return session.out(archive);
    }
    // It may hold a private key.
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let failed = |verb| move |path: String| move |source| Error::File { verb, path, source };
    let mut out = opened.map_err(failed("open")(file.clone()))?;
    out.write_all(&archive).map_err(failed("write")(file.clone()))?;
    session.note(&format!("Written file {file:?}"));
    Ok(())
}
