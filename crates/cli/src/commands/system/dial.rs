//! `system dial-stdio`: the daemon's socket on standard input and output, for `ssh://`.

use tokio::io::{AsyncWriteExt, copy, split, stdin, stdout};

use crate::command::Command;
use crate::error::{Error, Result};
use crate::session::Session;

/// `dial-stdio`.
pub const COMMAND: Command = Command {
    name: "dial-stdio",
    about: "Connect stdin and stdout with the daemon's socket",
    hidden: true,
    ..Command::leaf(|session, _| Box::pin(dial(session)))
};

async fn dial(session: &Session) -> Result<()> {
    let stream = session.client()?.dial().await?;
    let (mut read, mut write) = split(stream);
    let broken = |source| Error::File { verb: "copying", path: "the connection".into(), source };
    let input = async {
        let done = copy(&mut stdin(), &mut write).await;
        // The daemon sees the end of the input; its answers are still to come.
        let _ = write.shutdown().await;
        match done {
            Ok(_) => std::future::pending().await,
            Err(err) => Err(broken(err)),
        }
    };
    let output = async {
        let mut out = stdout();
        copy(&mut read, &mut out).await.map_err(broken)?;
        out.flush().await.map_err(broken)
    };
    tokio::select! {
        ended = output => ended,
        failed = input => failed,
    }
}
