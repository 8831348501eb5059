//! TLS towards receivers of logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::error::{Error, Result};

/// What is said of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Authorities to trust; none for those of the host.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whether anybody is believed.
    pub skip_verify: bool,
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{what}: {error}"))
}

/// The configuration; reads the files.
pub fn config(files: &Files) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed("tls", &e))?;
    let builder = if files.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { provider }))
    } else {
        builder.with_root_certificates(roots(files.ca.as_deref())?)
    };
    let config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let unusable = |e: &dyn std::fmt::Display| {
                failed(&format!("could not load X509 key pair {}", key.display()), e)
            };
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(&e))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|e| unusable(&e))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// What a certificate has to carry.
pub fn name(host: &str) -> std::io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| std::io::Error::other(format!("{host:?} is not a name that a certificate can carry")))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                let text = format!("could not trust {}", ca.display());
                store.add(certificate).map_err(|e| failed(&text, &e))?;
            }
        }
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // The host's bundle may hold roots that are not taken; the others do.
                let _ = store.add(certificate);
            }
        }
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = format!("could not read certificate {}", path.display());
    let chain = CertificateDer::pem_file_iter(path).map_err(|e| failed(&text, &e))?;
    let chain = chain.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| failed(&text, &e))?;
    if chain.is_empty() { Err(failed(&text, &"no certificate in it")) } else { Ok(chain) }
}

/// Takes any certificate, where that was asked for.
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
