//! TLS towards upstreams: whose certificates are trusted, and our own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::pem::{read_authorities, read_identity};

/// Whose certificates an upstream may show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those of the platform's certificate authorities.
    Platform,
    /// Those of the authorities in a PEM file, or in a folder of such files.
    File(PathBuf),
    /// Anyone's. Only for trying things out.
    Anyone,
}

/// A client certificate: files in PEM, the key unencrypted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The certificate and what chains it to its authority.
    pub certificate: PathBuf,
    /// The private key; may be the same file.
    pub key: PathBuf,
}

/// What a file was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The authorities that are trusted.
    Authorities,
    /// Our own certificate.
    Certificate,
    /// Its key.
    Key,
}

/// Why there can be no TLS. Its text names the parameter of a relay that is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// What the file was wanted for.
    pub part: Part,
    /// The file; without one it is about the platform.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsError {
    pub(super) fn of(part: Part, path: &Path, reason: String) -> Self {
        let path = Some(path.to_owned());
        Self { part, path, reason }
    }
}

impl std::error::Error for TlsError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameter = match self.part {
            Part::Authorities => "verify",
            Part::Certificate | Part::Key => "cert",
        };
        let reason = &self.reason;
        match &self.path {
            Some(path) => write!(f, "{parameter}: {}: {reason}", path.display()),
            None => write!(
                f,
                "{parameter}: {reason}; name a file of them, or pass verify=False"
            ),
        }
    }
}

/// Those that are trusted, read when they are first needed. Whoever shares them has what was read.
#[derive(Debug)]
pub struct Authorities {
    trust: Trust,
    verifier: OnceLock<Arc<dyn ServerCertVerifier>>,
}

impl Authorities {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(trust: Trust) -> Arc<Self> {
        let verifier = OnceLock::new();
        Arc::new(Self { trust, verifier })
    }

    fn read(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if let Some(verifier) = self.verifier.get() {
            return Ok(Arc::clone(verifier));
        }
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::Platform => trusting(platform_authorities()?)?,
            Trust::File(path) => trusting(read_authorities(path)?)?,
            Trust::Anyone => Arc::new(Credulous(Arc::new(ring::default_provider()))),
        };
        Ok(Arc::clone(self.verifier.get_or_init(|| verifier)))
    }
}

fn trusting(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn unusable(reason: String) -> TlsError {
    TlsError {
        part: Part::Authorities,
        path: None,
        reason,
    }
}

fn platform_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = "this platform has no certificate authorities installed (on Debian: the \
                      package ca-certificates)";
        return Err(unusable(reason.to_owned()));
    }
    Ok(roots)
}

/// Whom we trust over TLS and who we are there. Files are read at the first [`Credentials::read`],
/// and never again: what becomes of them later changes no connection.
#[derive(Debug)]
pub struct Credentials {
    authorities: Arc<Authorities>,
    identity: Option<Identity>,
    config: OnceLock<ClientConfig>,
}

impl Credentials {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(trust: Trust, identity: Option<Identity>) -> Arc<Self> {
        Self::sharing(Authorities::new(trust), identity)
    }

    /// With authorities that others have, too.
    #[must_use]
    pub fn sharing(authorities: Arc<Authorities>, identity: Option<Identity>) -> Arc<Self> {
        let config = OnceLock::new();
        Arc::new(Self {
            authorities,
            identity,
            config,
        })
    }

    /// The same files, to be read anew.
    #[must_use]
    pub fn afresh(&self) -> Arc<Self> {
        Self::new(self.trust().clone(), self.identity.clone())
    }

    /// Whose certificates are trusted.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.authorities.trust
    }

    /// Our own certificate.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What client configurations are made of.
    ///
    /// # Errors
    /// Where a file cannot be read or holds nothing usable.
    pub fn read(&self) -> Result<&ClientConfig, TlsError> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let verifier = self.authorities.read()?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = SingleCertAndKey::from(read_identity(identity)?);
                builder.with_client_cert_resolver(Arc::new(key))
            }
        };
        Ok(self.config.get_or_init(|| config))
    }

    /// A client configuration that offers `protocols` in ALPN, with tickets of its own.
    ///
    /// # Errors
    /// As [`Credentials::read`] has them.
    pub fn client(&self, protocols: &[&str]) -> Result<ClientConfig, TlsError> {
        let mut config = self.read()?.clone();
        let octets = |name: &&str| name.as_bytes().to_vec();
        config.alpn_protocols = protocols.iter().map(octets).collect();
        config.resumption = Resumption::default();
        Ok(config)
    }
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
