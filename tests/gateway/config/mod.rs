//! The configuration: what files mean, and what is said of those with mistakes.

mod bounds;
mod documents;
mod empty;
mod files;
mod mistakes;
mod properties;
mod pyserve;
mod values;
mod variables;

use std::env::VarError;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use asgi_relay::gateway::config::settings::{Route, Settings};
use asgi_relay::gateway::config::{Loaded, Overrides, from_text};
use rcgen::generate_simple_self_signed;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The environment of these tests.
pub fn variable(name: &str) -> Result<String, VarError> {
    match name {
        "BACKEND" => Ok("http://backend.example:8000".to_owned()),
        "PORT" => Ok("8443".to_owned()),
        "EMPTY" => Ok(String::new()),
        "FLAG" => Ok("true".to_owned()),
        "NULL" => Ok("null".to_owned()),
        "YAML" => Ok("{a: b}\n- c: &d *d".to_owned()),
        "SECRET" => Ok("hunter2 hunter2".to_owned()),
        _ => Err(VarError::NotPresent),
    }
}

/// A folder with every file that these configurations name, and some that nobody should.
pub fn folder() -> PathBuf {
    static WRITTEN: OnceLock<()> = OnceLock::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("gateway-{}-folder", std::process::id()));
    WRITTEN.get_or_init(|| {
        fs::create_dir_all(folder.join("ssl")).unwrap();
        let write =
            |name: &str, text: &str| fs::write(folder.join("ssl").join(name), text).unwrap();
        let issue = |certificate: &str, key: &str| {
            let made = generate_simple_self_signed(["h".to_owned()]).unwrap();
            let texts = (made.cert.pem(), made.signing_key.serialize_pem());
            write(certificate, &texts.0);
            write(key, &texts.1);
            texts
        };
        issue("example.org.pem", "example.org.key");
        issue("example.com.pem", "example.com.key");
        let (certificate, key) = issue("cert.pem", "key.pem");
        write("internal-ca.pem", &certificate);
        write("both.pem", &format!("{key}{certificate}"));
        write(
            "encrypted.key",
            &key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        );
        write("cut.pem", certificate.split_once("-----END").unwrap().0);
        write("text.pem", "garbage\n");
        write("empty.pem", "");
    });
    folder
}

/// The certificates in a file of that folder.
pub fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(folder().join("ssl").join(name)).unwrap();
    certificates.map(Result::unwrap).collect()
}

/// What a text says, or what is wrong with it.
pub fn loaded(text: &str) -> Result<Loaded, String> {
    let folder = folder();
    let loaded = from_text(
        text,
        "gateway.yaml",
        &folder,
        &variable,
        &Overrides::default(),
    );
    loaded.map_err(|error| error.to_string())
}

pub fn settings(text: &str) -> Settings {
    loaded(text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .settings
}

/// The only route of a configuration: keys of one, a line each.
pub fn route(keys: &str) -> Route {
    let mut text = "routes:\n- targets: http://h\n".to_owned();
    if keys.contains("targets") || keys.contains("unix") {
        text = "routes:\n- path: /\n".to_owned();
    }
    for line in keys.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    settings(&text).routes.remove(0)
}

/// What is wrong with a text.
pub fn mistakes(text: &str) -> String {
    loaded(text).err().unwrap_or_default()
}
