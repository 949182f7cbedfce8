//! TLS towards upstreams: whose certificates are trusted, and our own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Whose certificates an upstream may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those of the platform's certificate authorities.
    Platform,
    /// Those of the authorities in a PEM file, or in a folder of such files.
    File(PathBuf),
    /// Anyone's. Only for trying things out.
    Anyone,
}

/// A client certificate: files in PEM, the key unencrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and what chains it to its authority.
    pub certificate: PathBuf,
    /// The private key; may be the same file.
    pub key: PathBuf,
}

/// Why no TLS configuration can be made; names the parameter that is to blame.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{parameter}: {reason}")]
pub struct TlsError {
    /// `verify` or `cert`.
    pub parameter: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// A client configuration that offers `protocols` in ALPN.
///
/// # Errors
/// Where a file cannot be read or holds nothing usable.
pub fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
    protocols: &[&str],
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| verify(error.to_string()))?;
    let builder = match trust {
        Trust::Platform => builder.with_root_certificates(platform_roots()?),
        Trust::File(path) => builder.with_root_certificates(roots_from(path)?),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous(provider))),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = load_identity(identity)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| cert(&identity.key, error))?
        }
    };
    let octets = |name: &&str| name.as_bytes().to_vec();
    config.alpn_protocols = protocols.iter().map(octets).collect();
    Ok(config)
}

fn verify(reason: String) -> TlsError {
    TlsError {
        parameter: "verify",
        reason,
    }
}

fn cert(path: &Path, reason: impl fmt::Display) -> TlsError {
    let reason = format!("{}: {reason}", path.display());
    TlsError {
        parameter: "cert",
        reason,
    }
}

fn platform_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = "this platform has no certificate authorities installed (on Debian: the \
                      package ca-certificates); name a file of them, or pass verify=False";
        return Err(verify(reason.to_owned()));
    }
    Ok(roots)
}

/// The authorities in a PEM file, or in a folder of such files.
///
/// # Errors
/// Where there is none.
pub fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |error: &dyn fmt::Display| verify(format!("{}: {error}", path.display()));
    let files = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| failed(&error))?;
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .collect()
    } else {
        vec![path.to_owned()]
    };
    let mut roots = RootCertStore::empty();
    for file in files {
        let certificates = CertificateDer::pem_file_iter(&file).map_err(|error| failed(&error))?;
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    }
    if roots.is_empty() {
        return Err(failed(&"no certificate in PEM format found"));
    }
    Ok(roots)
}

/// A certificate and what chains it to its authority.
pub type Chain = Vec<CertificateDer<'static>>;

/// Reads a certificate chain and its key.
///
/// # Errors
/// Where a file cannot be read or holds nothing usable.
pub fn load_identity(identity: &Identity) -> Result<(Chain, PrivateKeyDer<'static>), TlsError> {
    let path = &identity.certificate;
    let chain: Result<Chain, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain = chain.map_err(|error| cert(path, error))?;
    if chain.is_empty() {
        return Err(cert(path, "no certificate in PEM format found"));
    }
    let path = &identity.key;
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| {
        cert(
            path,
            format!("no unencrypted private key in PEM format: {error}"),
        )
    })?;
    Ok((chain, key))
}

/// Believes every certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
