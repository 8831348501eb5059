//! TLS for clients: the daemon's certificate and, for mutual TLS, who may come in. The provider of the cryptography is
//! named here and nowhere else in this crate.

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How long a client may take for the handshake, which comes before it has shown who it is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read or holds something else.
    #[error("cannot read {what} from {path}", path = path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// A file without any certificate.
    #[error("no certificate in {path}", path = .0.display())]
    Empty(PathBuf),
    /// Certificate, key or authority that do not serve.
    #[error("cannot use the certificates")]
    Certificates(#[source] rustls::Error),
    /// An authority that does not serve.
    #[error("cannot use the authority of clients")]
    Authority(#[source] rustls::server::VerifierBuilderError),
}

/// Makes TLS connections of accepted ones.
#[derive(Clone)]
pub struct Acceptor {
    inner: tokio_rustls::TlsAcceptor,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Greets a client.
    ///
    /// # Errors
    /// When it does not speak TLS, is not let in, or takes too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE_MAX, self.inner.accept(stream))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client took too long to greet"))?
    }
}

/// Reads certificate and key, and the authority that clients must be signed by, where there is one.
///
/// # Errors
/// When a file cannot be read, or what it holds does not serve.
pub fn acceptor(certificate: &Path, key: &Path, client_authority: Option<&Path>) -> Result<Acceptor, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::Certificates)?;
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("the authority of clients", path)? {
                roots.add(authority).map_err(Error::Certificates)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(Error::Authority)?)
        }
    };
    let chain = certificates("the certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| Error::File {
        what: "the key",
        path: key.to_owned(),
        source,
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(Error::Certificates)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Acceptor { inner: Arc::new(config).into() })
}

/// All certificates of a file.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |source| Error::File { what, path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if certificates.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(certificates) }
}
