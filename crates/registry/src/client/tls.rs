//! Which certificates are believed, and which are shown, per registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::hosts::Trust;
use crate::error::{Error, Result};

/// A certificate file larger than this is not one.
const CERTIFICATE_FILE_BYTES_MAX: u64 = 4 << 20;
/// A host's folder with more files than this is not one of certificates.
const CERTIFICATE_FILES_MAX: usize = 256;

/// What the folders of certificates hold for one registry.
#[derive(Default, Debug)]
struct Folder {
    roots: Vec<PathBuf>,
    pairs: Vec<(PathBuf, PathBuf)>,
}

/// The TLS settings for one registry: the system's roots, those of `<dir>/<host>/*.crt`, and the client's
/// certificates of `<dir>/<host>/*.{cert,key}`, and what is said of it elsewhere.
pub(crate) fn config(
    dirs: &[PathBuf],
    host: &str,
    trust: &Trust,
    system: &RootCertStore,
) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut folder = Folder::default();
    for dir in dirs {
        read_folder(&dir.join(host), &mut folder)?;
    }
    folder.roots.extend(trust.roots.iter().cloned());
    folder.pairs.extend(trust.pairs.iter().cloned());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Option { option: "tls".into(), why: error.to_string() })?;
    let builder = if trust.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
    } else {
        let mut roots = system.clone();
        for path in &folder.roots {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, error))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let mut keys = Vec::new();
    for (certificate, key) in &folder.pairs {
        let chain = certificates(certificate)?;
        let bytes = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable(key, error))?;
        let pair = CertifiedKey::from_der(chain, private, &provider)
            .map_err(|error| unusable(certificate, error))?;
        keys.push(Arc::new(pair));
    }
    if keys.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    Ok(builder.with_client_cert_resolver(Arc::new(Identities(keys))))
}

/// The roots the system trusts. Those that cannot be read are left out, as every TLS library does.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a system certificate cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    roots
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Certificates { path: path.to_owned(), why: why.to_string() }
}

fn read_folder(dir: &Path, folder: &mut Folder) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(());
        }
        Err(error) => return Err(unusable(dir, error)),
    };
    let mut files = Vec::new();
    for entry in entries.take(CERTIFICATE_FILES_MAX) {
        files.push(entry.map_err(|error| unusable(dir, error))?.path());
    }
    files.sort();
    for path in &files {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => folder.roots.push(path.clone()),
            Some("cert") => {
                let key = path.with_extension("key");
                if !files.contains(&key) {
                    return Err(unusable(
                        path,
                        "its key is missing (a file of the same name that ends in .key)",
                    ));
                }
                folder.pairs.push((path.clone(), key));
            }
            Some("key") if !files.contains(&path.with_extension("cert")) => {
                return Err(unusable(
                    path,
                    "its certificate is missing (a file of the same name that ends in .cert; CA certificates end in .crt)",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|error| unusable(path, error))?.len();
    if size > CERTIFICATE_FILE_BYTES_MAX {
        return Err(unusable(path, "it is too large"));
    }
    std::fs::read(path).map_err(|error| unusable(path, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| unusable(path, error))?;
    if found.is_empty() {
        return Err(unusable(path, "it holds no certificate in PEM form"));
    }
    Ok(found)
}

/// The client's certificates: the first that the server can check is shown.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// For registries the administrator called insecure: encryption without knowing to whom. Content stays
/// safe where its digest is known; tags are as trustworthy as the network, which is what was asked for.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
