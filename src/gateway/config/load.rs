//! From a file, or from the command line, to settings.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::check::Check;
use super::environment::Environment;
use super::mistake::{ConfigError, Located, Place};
use super::read;
use super::settings::Settings;
use super::tables::GATEWAY;
use super::vault::Vault;
use super::yaml::{self, Entry, LARGEST_FILE, Node, Value};
use crate::engine::upstream::tls::Identity;
use crate::gateway::words::words;

/// What the command line says; it wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `server.host`.
    pub host: Option<String>,
    /// `server.port`.
    pub port: Option<u16>,
    /// The URL that everything goes to, in place of all routes.
    pub target: Option<String>,
    /// `ssl`, with paths relative to the working directory.
    pub certificate: Option<Identity>,
    /// `server.workers`.
    pub workers: Option<usize>,
}

/// A configuration without a mistake.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What somebody should know of it, a line each.
    pub notices: Vec<String>,
    /// The files it names (certificates, keys, authorities): with the configuration itself, what a
    /// change of calls for a reload.
    pub files: Vec<PathBuf>,
}

/// Reads a file, with variables from the environment of the process.
///
/// # Errors
/// Every mistake in it.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|reason| ConfigError::unreadable(&name, reason))?;
    // Of a bare name it is empty, which is no folder.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    from_text(&text, &name, folder, &environment, overrides)
}

/// What `overrides` say alone, without a file.
///
/// # Errors
/// Every mistake in them.
pub fn from_target(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    from_text("", "command line", Path::new(""), &environment, overrides)
}

/// Reads the text of a file called `name`, in which relative paths begin at `folder`.
///
/// # Errors
/// Every mistake in it.
pub fn from_text(
    text: &str,
    name: &str,
    folder: &Path,
    environment: Environment<'_>,
    overrides: &Overrides,
) -> Result<Loaded, ConfigError> {
    let refused = |mistakes| ConfigError::new(name, mistakes);
    let mut tree = yaml::parse(text).map_err(|mistake| refused(vec![mistake]))?;
    let place = Place {
        line: 1,
        column: 1,
        path: String::new(),
    };
    if let Some(found) = no_mapping(&tree) {
        let message = format!("found {found}; a gateway's file is a mapping");
        return Err(refused(vec![(place, message)]));
    }
    overlay(&mut tree, overrides);
    let mut check = Check {
        environment,
        mistakes: Vec::new(),
        notices: Vec::new(),
        folder,
        files: Vec::new(),
        vault: Vault::default(),
    };
    let root = check.section(&GATEWAY, &tree, &place);
    let settings = read::settings(&mut check, &root);
    check.files.sort();
    check.files.dedup();
    if !check.mistakes.is_empty() {
        return Err(refused(check.mistakes).naming(check.files));
    }
    Ok(Loaded {
        settings,
        notices: told_once(name, &check.notices),
        files: check.files,
    })
}

/// What a file is instead of a mapping; nothing at all is an empty one.
fn no_mapping(tree: &Node) -> Option<&'static str> {
    match &tree.value {
        Value::Map(_) => None,
        Value::List(_) => Some("a list"),
        Value::Scalar { .. } => (!tree.is_empty()).then_some("text"),
    }
}

fn environment(name: &str) -> Result<String, std::env::VarError> {
    std::env::var(name)
}

fn read_file(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| words(&error))?;
    let mut octets = Vec::new();
    // One more than is allowed, for the parser to find.
    let most = u64::try_from(LARGEST_FILE).unwrap_or(u64::MAX) + 1;
    let read = file.take(most).read_to_end(&mut octets);
    read.map_err(|error| words(&error))?;
    String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        format!("it is not UTF-8 from octet {valid} on")
    })
}

/// Each notice with the first place it holds for, and how many more there are.
fn told_once(file: &str, notices: &[(Place, String)]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, (place, message)) in notices.iter().enumerate() {
        if notices
            .iter()
            .take(index)
            .any(|(_, known)| known == message)
        {
            continue;
        }
        let more = notices
            .iter()
            .skip(index + 1)
            .filter(|(_, other)| other == message)
            .count();
        let more = match more {
            0 => String::new(),
            1 => " (and in 1 more place)".to_owned(),
            more => format!(" (and in {more} more places)"),
        };
        lines.push(format!("{}{message}{more}", Located(file, place)));
    }
    lines
}

/// Puts what the command line says into the tree, at line 0.
fn overlay(root: &mut Node, overrides: &Overrides) {
    if let Some(host) = &overrides.host {
        put(root, &["server", "host"], text(host));
    }
    if let Some(port) = overrides.port {
        put(root, &["server", "port"], number(&port));
    }
    if let Some(workers) = overrides.workers {
        put(root, &["server", "workers"], number(&workers));
    }
    if let Some(Identity { certificate, key }) = &overrides.certificate {
        let file = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            text(&path.to_string_lossy())
        };
        let ssl = vec![
            (entry("enabled"), node(scalar("true", true))),
            (entry("cert_file"), file(certificate)),
            (entry("key_file"), file(key)),
        ];
        put(root, &["ssl"], node(Value::Map(ssl)));
    }
    if let Some(target) = &overrides.target {
        put(
            root,
            &["server", "reverse_proxy"],
            node(Value::List(Vec::new())),
        );
        let route = Value::Map(vec![(entry("targets"), text(target))]);
        put(root, &["routes"], node(Value::List(vec![node(route)])));
    }
}

fn put(node: &mut Node, keys: &[&str], value: Node) {
    let Some((first, rest)) = keys.split_first() else {
        *node = value;
        return;
    };
    if !matches!(node.value, Value::Map(_)) {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    // What is replaced on the way (`server: 5`) had no meaning; a leaf moves to the command line.
    let index = entries.iter().position(|(entry, _)| entry.name == *first);
    let index = index.unwrap_or_else(|| {
        entries.push((entry(first), self::node(Value::Map(Vec::new()))));
        entries.len() - 1
    });
    if let Some((_, inner)) = entries.get_mut(index) {
        put(inner, rest, value);
    }
}

fn entry(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        line: 0,
        column: 0,
    }
}

fn node(value: Value) -> Node {
    Node {
        line: 0,
        column: 0,
        value,
    }
}

fn scalar(text: &str, plain: bool) -> Value {
    // The command line has no variables: its shell fills them in.
    let text = text.replace('$', "$$");
    Value::Scalar { text, plain }
}

fn text(text: &str) -> Node {
    node(scalar(text, false))
}

fn number(number: &dyn std::fmt::Display) -> Node {
    node(scalar(&number.to_string(), true))
}
