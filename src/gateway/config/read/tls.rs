//! TLS on either side: certificates, keys and authorities are read here, so that what is wrong with
//! a file is told where it is named, and so that nothing of it is read later.

use std::sync::Arc;

use super::super::check::Check;
use super::super::section::{Item, Section, Value};
use super::super::settings::ListenerTls;
use crate::engine::upstream::pem::{read_authorities, read_identity};
use crate::engine::upstream::tls::{Credentials, Identity, Part, TlsError, Trust};

const AUTHORITIES: &str = "a PEM file or folder with certificate authorities";
const CERTIFICATE: &str = "a PEM file with a certificate and its chain";
const KEY: &str = "a PEM file with the certificate's private key, unencrypted";
const BOTH: &str = "a PEM file with a certificate, its chain and its private key, unencrypted";

/// `ssl` of a listener.
pub(super) fn listener(check: &mut Check<'_>, ssl: &Section) -> ListenerTls {
    let mut certificates = Vec::new();
    let single = ["cert_file", "key_file"].map(|key| ssl.is_written(key));
    if single != [false, false] || !ssl.is_written("certificates") {
        certificates.extend(named(check, ssl));
    }
    for item in ssl.list("certificates") {
        certificates.extend(item.section().and_then(|section| named(check, section)));
    }
    let certificates = certificates.into_iter().filter_map(|named| {
        let read = read_identity(&named.identity);
        read.map_err(|error| named.refuse(check, &error)).ok()
    });
    let certificates = certificates.collect();
    let authorities = ssl.item("client_ca_file").and_then(|item| {
        let read = read_authorities(&check.file_at(item)?);
        read.map_err(|error| check.unusable(item, &error, AUTHORITIES))
            .ok()
    });
    ListenerTls {
        certificates,
        client_authorities: authorities.map(Arc::new),
    }
}

/// `tls` of a route, or Relay's `verify` and `cert`: whom to trust and what to show, and the name to
/// ask for. What is named is read; the platform's authorities only where `secure` wants them.
pub(super) fn route(
    check: &mut Check<'_>,
    route: &Section,
    secure: bool,
) -> (Arc<Credentials>, Option<String>) {
    let empty = Section::default();
    let section = route.section("tls").unwrap_or(&empty);
    for (ours, theirs) in [
        ("verify", ["verify", "ca_file"]),
        ("cert", ["cert_file", "key_file"]),
    ] {
        for key in theirs {
            if route.is_written(ours) && section.is_written(key) {
                let place = section.place_of(key);
                check.mistake(&place, format!("not beside {ours}, which says the same"));
            }
        }
    }
    if section.is_written("ca_file") && !section.flag("verify") {
        let place = section.place_of("verify");
        check.mistake(&place, "not beside ca_file: that would never be looked at");
    }
    let authorities = match route.text("verify") {
        Some(_) => route.item("verify"),
        None => section.item("ca_file"),
    };
    let file = authorities.and_then(|item| check.file_at(item));
    let believes = matches!(route.value("verify"), Some(Value::Flag(false)));
    let trust = match file {
        Some(path) => Trust::File(path),
        None if believes || !section.flag("verify") => Trust::Anyone,
        None => Trust::Platform,
    };
    let named = identity(check, route, section);
    let own = named.as_ref().map(|named| named.identity.clone());
    let wanted = secure || own.is_some() || trust != Trust::Platform;
    let credentials = check.vault.credentials(trust, own);
    if wanted && let Err(error) = credentials.read() {
        match (&named, authorities, error.part) {
            (Some(named), _, Part::Certificate | Part::Key) => named.refuse(check, &error),
            (_, Some(item), _) => check.unusable(item, &error, AUTHORITIES),
            _ => without_authorities(check, route, &error),
        }
    }
    (credentials, server_name(check, section))
}

/// Told once: every other route would say so again.
fn without_authorities(check: &mut Check<'_>, route: &Section, error: &TlsError) {
    let reason = &error.reason;
    let message =
        format!("{reason}; name a file of them in ca_file, or believe all: verify: false");
    if !check.mistakes.iter().any(|(_, known)| *known == message) {
        check.mistake(&route.place_of("tls"), message);
    }
}

/// A certificate with its key, and the keys that name them.
struct Named<'a> {
    certificate: &'a Item,
    key: &'a Item,
    identity: Identity,
}

impl Named<'_> {
    fn refuse(&self, check: &mut Check<'_>, error: &TlsError) {
        let (item, allowed) = match error.part {
            _ if std::ptr::eq(self.certificate, self.key) => (self.certificate, BOTH),
            Part::Key => (self.key, KEY),
            Part::Certificate | Part::Authorities => (self.certificate, CERTIFICATE),
        };
        check.unusable(item, error, allowed);
    }
}

fn named<'a>(check: &mut Check<'_>, section: &'a Section) -> Option<Named<'a>> {
    for key in ["cert_file", "key_file"] {
        if section.item(key).is_none() {
            check.missing(section, &format!("has no {key}"));
        }
    }
    let [certificate, key] = ["cert_file", "key_file"].map(|key| section.item(key));
    let files = [certificate, key].map(|item| check.file_at(item?));
    let [certificate_file, key_file] = files;
    Some(Named {
        certificate: certificate?,
        key: key?,
        identity: Identity {
            certificate: certificate_file?,
            key: key_file?,
        },
    })
}

/// Without a key of its own a certificate has it in the same file.
fn identity<'a>(check: &mut Check<'_>, route: &'a Section, tls: &'a Section) -> Option<Named<'a>> {
    let (certificate, key) = match route.item("cert") {
        Some(item) if route.text("cert").is_some() => (item, None),
        Some(Item {
            value: Some(Value::List(items)),
            ..
        }) => {
            let [certificate, key] = items.as_slice() else {
                let message = format!(
                    "found a list of {}; allowed is a pair: certificate, key",
                    items.len()
                );
                check.mistake(&route.place_of("cert"), message);
                return None;
            };
            (certificate, Some(key))
        }
        _ => {
            let key = tls.item("key_file");
            if key.is_some() && tls.item("cert_file").is_none() {
                check.mistake(&tls.place, "has a key_file, but no cert_file");
            }
            (tls.item("cert_file")?, key)
        }
    };
    let certificate_file = check.file_at(certificate);
    let key_file = match key {
        Some(key) => check.file_at(key),
        None => certificate_file.clone(),
    };
    Some(Named {
        certificate,
        key: key.unwrap_or(certificate),
        identity: Identity {
            certificate: certificate_file?,
            key: key_file?,
        },
    })
}

fn server_name(check: &mut Check<'_>, tls: &Section) -> Option<String> {
    let item = tls.item("server_name")?;
    let name = super::bare_host(item.text()?);
    if name.is_none() {
        check.refuse(item, "a host name");
    }
    name
}

impl Check<'_> {
    /// Tells what is wrong with what a file holds.
    fn unusable(&mut self, item: &Item, error: &TlsError, allowed: &str) {
        let found = item.found();
        let reason = &error.reason;
        self.mistake(
            &item.place,
            format!("found {found}, but {reason}; allowed is {allowed}"),
        );
    }
}
