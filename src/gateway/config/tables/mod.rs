//! Every key that a gateway's file may have.

mod route;
mod server;
mod upstream;

pub(super) use server::GATEWAY;

use super::keys::{Kind, Table};

/// Ten years: longer than anyone waits, and short enough to be added to any clock.
const LONGEST: f64 = 315_360_000.0;
/// The largest whole number that has no bound of its own.
const MOST: u64 = i32::MAX as u64;

const SECONDS: Kind = Kind::Number(0.0, LONGEST);
const SOME_SECONDS: Kind = Kind::Positive(LONGEST);
const SECONDS_OR_NEVER: Kind = Kind::Any(&[Kind::Null, SECONDS]);
const SOME_SECONDS_OR_NEVER: Kind = Kind::Any(&[Kind::Null, SOME_SECONDS]);
const COUNT_OR_ANY: Kind = Kind::Any(&[Kind::Null, Kind::Whole(1, MOST)]);
const SHARE: Kind = Kind::Number(0.0, 1.0);

/// Every table below `root` and itself, each once, in the order of the keys that lead to them.
pub(super) fn all() -> Vec<(&'static Table, String)> {
    let mut found: Vec<(&'static Table, String)> = vec![(&GATEWAY, String::new())];
    let mut next = 0;
    while let Some((table, path)) = found.get(next).cloned() {
        for key in table.keys() {
            let path = match path.is_empty() {
                true => key.name.to_owned(),
                false => format!("{path}.{}", key.name),
            };
            for (inner, suffix) in inner_tables(&key.kind) {
                if !found.iter().any(|(known, _)| std::ptr::eq(*known, inner)) {
                    found.push((inner, format!("{path}{suffix}")));
                }
            }
        }
        next += 1;
    }
    found
}

fn inner_tables(kind: &'static Kind) -> Vec<(&'static Table, &'static str)> {
    let mut found = Vec::new();
    for kind in kind.alternatives() {
        match kind {
            Kind::Table(table) => found.push((*table, "")),
            Kind::List(kind) => {
                found.extend(
                    inner_tables(kind)
                        .into_iter()
                        .map(|(table, _)| (table, "[]")),
                );
            }
            _ => {}
        }
    }
    found
}

/// The table that has a key of this name, for somebody who wrote it elsewhere.
pub(super) fn owner(name: &str) -> Option<String> {
    let mut tables = all().into_iter();
    let found = tables.find(|(table, _)| {
        table
            .key(name)
            .is_some_and(|key| !matches!(key.kind, Kind::Refused(_) | Kind::Ignored(_)))
    });
    found.map(|(_, path)| match path.as_str() {
        "" => "the whole file".to_owned(),
        path => path.to_owned(),
    })
}
