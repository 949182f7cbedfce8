//! The tables of keys as Markdown, which `docs/gateway-configuration.md` carries; a test compares.

use std::fmt::Write;

use super::keys::{Key, Kind};
use super::schema::default;
use super::tables;

/// One table for each mapping, in the order in which a file leads to them.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    for (table, path) in tables::all() {
        let title = match path.as_str() {
            "" => "The whole file".to_owned(),
            path => format!("`{path}`"),
        };
        let _ = write!(out, "### {title}\n\n{}.\n\n", capital(table.about));
        out.push_str("| key | allowed | default | meaning |\n|---|---|---|---|\n");
        for key in table.keys() {
            if let Some(line) = line(key) {
                out.push_str(&line);
            }
        }
        out.push('\n');
    }
    out
}

fn line(key: &Key) -> Option<String> {
    let allowed = match key.kind {
        Kind::Refused(_) if key.about.is_empty() => return None,
        Kind::Refused(why) => format!("refused: {why}"),
        Kind::Ignored(_) => "accepted with a notice, and ignored".to_owned(),
        kind => allowed(&kind),
    };
    let default = default(&key.default)
        .map(|value| format!("`{value}`"))
        .unwrap_or_default();
    let (name, about) = (key.name, key.about);
    // A bar would end the cell.
    let cells = [format!("`{name}`"), allowed, default, about.to_owned()]
        .map(|cell| cell.replace('|', "\\|"));
    Some(format!("| {} |\n", cells.join(" | ")))
}

/// Shorter than in an error, as the tables are beside each other.
fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::Table(table) => format!("[a mapping](#{})", anchor(table.name)),
        Kind::List(each) => format!("a list: {}", allowed(each)),
        Kind::Any(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(allowed).collect();
            kinds.join(" or ")
        }
        // Most keys have the same bound, which stands above the tables.
        Kind::Seconds => "a number of seconds".to_owned(),
        Kind::SomeSeconds => "a number of seconds above 0".to_owned(),
        kind => kind.description(),
    }
}

/// The anchor of a table's heading.
fn anchor(table: &str) -> String {
    let paths = tables::all().into_iter();
    let path = paths
        .filter(|(known, _)| known.name == table)
        .map(|(_, path)| path);
    let path: String = path.collect();
    path.to_lowercase().replace(['.', '[', ']'], "")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
