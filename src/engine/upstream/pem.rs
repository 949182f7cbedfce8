//! Certificates and keys from files in PEM, and what is wrong with such a file, in words.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::tls::{Identity, Part, TlsError};

/// What each section of a file in PEM begins with.
const BEGIN: &[u8] = b"-----BEGIN ";

const MALFORMED: &str = "its certificate is malformed";

/// What an encrypted key has in the line that begins it (RFC 7468 §11), or below it (RFC 1421 §4.6).
const ENCRYPTED: [&[u8]; 2] = [
    b"-----BEGIN ENCRYPTED PRIVATE KEY",
    b"Proc-Type: 4,ENCRYPTED",
];

/// The authorities in a PEM file, or in a folder of such files. Of several certificates those count
/// that can be read.
///
/// # Errors
/// Where there is none.
pub fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |reason: String| TlsError::of(Part::Authorities, path, reason);
    let is_folder = path.is_dir();
    let files = match is_folder {
        true => files_in(path).map_err(|error| failed(unreadable(&error)))?,
        false => vec![path.to_owned()],
    };
    let mut roots = RootCertStore::empty();
    let mut wrong = None;
    for file in files {
        let octets = std::fs::read(&file).map_err(|error| {
            let reason = unreadable(&error);
            failed(match is_folder {
                true => format!("{}: {reason}", file.display()),
                false => reason,
            })
        })?;
        wrong = add(&mut roots, &octets).err().or(wrong);
    }
    match wrong {
        _ if !roots.is_empty() => Ok(roots),
        Some(reason) if !is_folder => Err(failed(reason)),
        _ => Err(failed(
            "no file in it holds a usable certificate in PEM".to_owned(),
        )),
    }
}

/// Adds the certificates among `octets`, or tells why there is none.
fn add(roots: &mut RootCertStore, octets: &[u8]) -> Result<(), String> {
    let (mut certificates, mut wrong) = (Vec::new(), None);
    for certificate in CertificateDer::pem_slice_iter(octets) {
        match certificate {
            Ok(certificate) => certificates.push(certificate),
            Err(error) => wrong = Some(told(&error)),
        }
    }
    if certificates.is_empty() {
        return Err(wrong.unwrap_or_else(|| without(octets, "certificate")));
    }
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(MALFORMED.to_owned()),
        _ => Ok(()),
    }
}

/// The files in a folder of authorities.
///
/// # Errors
/// What the system says.
pub fn files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = folder.read_dir()?.filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path());
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// A certificate, what chains it to its authority, and its key.
///
/// # Errors
/// Where a file cannot be read or holds nothing usable, or the key is another certificate's.
pub fn read_identity(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let read = |part, path: &Path| {
        let octets = std::fs::read(path);
        octets.map_err(|error| TlsError::of(part, path, unreadable(&error)))
    };
    let failed = |reason| TlsError::of(Part::Certificate, &identity.certificate, reason);
    let octets = read(Part::Certificate, &identity.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    let chain = chain.map_err(|error| failed(told(&error)))?;
    if chain.is_empty() {
        return Err(failed(without(&octets, "certificate")));
    }
    let failed = |reason| TlsError::of(Part::Key, &identity.key, reason);
    let octets = read(Part::Key, &identity.key)?;
    let key = PrivateKeyDer::from_pem_slice(&octets).map_err(|error| {
        failed(match error {
            _ if ENCRYPTED.iter().any(|mark| holds(&octets, mark)) => {
                "its private key is encrypted".to_owned()
            }
            PemError::NoItemsFound => without(&octets, "private key"),
            error => told(&error),
        })
    })?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    certified.map(Arc::new).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            failed("its private key is not the certificate's".to_owned())
        }
        rustls::Error::InvalidCertificate(_) => TlsError::of(
            Part::Certificate,
            &identity.certificate,
            MALFORMED.to_owned(),
        ),
        _ => failed("its private key is malformed, or not RSA, ECDSA or Ed25519".to_owned()),
    })
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

/// What a file is that holds no `thing`.
fn without(octets: &[u8], thing: &str) -> String {
    if octets.is_empty() {
        return "it is empty".to_owned();
    }
    // DER begins with a SEQUENCE.
    match octets.first() {
        Some(0x30) if !holds(octets, BEGIN) => "it is in DER, not in PEM".to_owned(),
        _ => format!("it holds no {thing} in PEM"),
    }
}

fn holds(octets: &[u8], mark: &[u8]) -> bool {
    octets.windows(mark.len()).any(|window| window == mark)
}

fn told(error: &PemError) -> String {
    let words: &dyn fmt::Display = match error {
        PemError::MissingSectionEnd { .. } => &"it is cut off: an -----END line is missing",
        PemError::IllegalSectionStart { .. } => &"a -----BEGIN line in it is malformed",
        PemError::Base64Decode(_) => &"what stands below a -----BEGIN line in it is not base64",
        other => other,
    };
    words.to_string()
}
