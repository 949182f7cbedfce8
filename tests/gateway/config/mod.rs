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
use std::path::{Path, PathBuf};

use asgi_relay::gateway::config::settings::{Route, Settings};
use asgi_relay::gateway::config::{Loaded, Overrides, from_text};

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

/// A folder with every file that these configurations name.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/folder")
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
