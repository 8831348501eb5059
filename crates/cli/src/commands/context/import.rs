//! `context import`.

use std::io::Read;

use crate::command::{Arity, Command};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// An archive holds a few certificates; Docker's own limit is the same.
const ARCHIVE_BYTES_MAX: u64 = 10 << 20;

/// `import`.
pub const COMMAND: Command = Command {
    name: "import",
    usage: "CONTEXT FILE|-",
    about: "Import a context from a tar file",
    arity: Arity::Exactly(2),
    ..Command::leaf(|session, parsed| Box::pin(import(session, parsed)))
};

async fn import(session: &Session, parsed: &Parsed) -> Result<()> {
    let [name, file] = parsed.args.as_slice() else { return Ok(()) };
    let failed = |source| Error::File { verb: "open", path: file.clone(), source };
    let source: Box<dyn Read> = match file.as_str() {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut archive = Vec::new();
    source.take(ARCHIVE_BYTES_MAX + 1).read_to_end(&mut archive).map_err(failed)?;
    if archive.len() as u64 > ARCHIVE_BYTES_MAX {
        return Err(Error::Message(format!("{file}: more than {ARCHIVE_BYTES_MAX} bytes are no context")));
    }
    session.store.import(name, &archive)?;
    session.line(name)?;
    session.note(&format!("Successfully imported context {name:?}"));
    Ok(())
}
