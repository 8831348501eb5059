//! Notices that a client has gone while nothing is sent to it.

use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a socket for the end of both its directions. A client that only ends its own direction, as every one does
/// whose standard input has ended, is still there.
pub(crate) struct Hangup {
    watch: Option<AsyncFd<OwnedFd>>,
}

impl Hangup {
    /// Watches a socket. Where it cannot be watched the end is found when something is sent.
    pub(crate) fn new(socket: Option<BorrowedFd<'_>>) -> Self {
        Self { watch: socket.and_then(|socket| watch(socket, Interest::PRIORITY).ok()) }
    }

    /// Waits until the client has gone.
    pub(crate) async fn wait(&self) {
        if let Some(watch) = &self.watch {
            while let Ok(mut guard) = watch.ready(Interest::PRIORITY).await {
                if guard.ready().is_read_closed() || guard.ready().is_write_closed() {
                    return;
                }
                guard.clear_ready();
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Watches a socket through a descriptor of its own. The end of both directions and errors are always reported.
#[expect(
    deprecated,
    reason = "the newer call is unsafe for descriptors that may change; an owned one does not"
)]
pub(super) fn watch(socket: BorrowedFd<'_>, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket.try_clone_to_owned()?, interest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_half_closed_client_is_still_there() {
        let (mut server, mut client) = UnixStream::pair().unwrap();
        let hangup = Hangup::new(Some(server.as_fd()));
        client.write_all(b"x").await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        let still = tokio::time::timeout(Duration::from_millis(50), hangup.wait()).await;
        assert!(still.is_err(), "a half-close was taken for the end");
        drop(client);
        tokio::time::timeout(Duration::from_secs(10), hangup.wait()).await.unwrap();
    }
}
