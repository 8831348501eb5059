//! TLS on top of TCP. The only file that names the cryptography's provider.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Stream;
use crate::error::{Error, Result};
use crate::target::{Target, TlsFiles, TlsMode};

/// Shakes hands over `stream`.
pub(super) async fn wrap(target: &Target, files: &TlsFiles, host: &str, stream: TcpStream) -> Result<Stream> {
    let config = config(files)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Tls(format!("{host:?} is not a name that a certificate can carry")))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|err| Error::Connect { host: target.to_string(), detail: format!("tls: {err}") })?;
    Ok(Box::new(stream))
}

fn config(files: &TlsFiles) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::Tls(err.to_string()))?;
    let builder = match files.mode {
        TlsMode::Unverified => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { provider }))
        }
        TlsMode::Verified => builder.with_root_certificates(roots(files)?),
    };
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|err| {
                Error::Tls(format!("could not load X509 key pair: {}: {err}", key.display()))
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|err| Error::Tls(format!("could not load X509 key pair: {err}")))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn roots(files: &TlsFiles) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match &files.ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                store.add(certificate).map_err(|err| {
                    Error::Tls(format!("failed to append certificates from {}: {err}", ca.display()))
                })?;
            }
        }
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // The system's bundle may hold roots that this library does not take; the others do.
                let _ = store.add(certificate);
            }
        }
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |err: &dyn std::fmt::Display| {
        Error::Tls(format!("could not read certificate {}: {err}", path.display()))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|err| failed(&err))?
        .collect::<std::result::Result<_, _>>()
        .map_err(|err| failed(&err))?;
    if chain.is_empty() {
        return Err(failed(&"no certificate in it"));
    }
    Ok(chain)
}

/// Takes any certificate: `--tls` without `--tlsverify`, and contexts with `skip-tls-verify`.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
