//! Every key that a gateway's file may have.

mod route;
mod server;
mod upstream;

pub(super) use server::GATEWAY;

use super::keys::{Kind, Table};

/// The largest whole number that has no bound of its own.
const MOST: u64 = i32::MAX as u64;

const SECONDS_OR_NEVER: Kind = Kind::Any(&[Kind::Null, Kind::Seconds]);
const SOME_SECONDS_OR_NEVER: Kind = Kind::Any(&[Kind::Null, Kind::SomeSeconds]);
const SIZE_OR_ANY: Kind = Kind::Any(&[Kind::Null, Kind::Whole(0, u64::MAX)]);
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

#[cfg(test)]
mod tests {
    use super::*;

    const READERS: &[&str] = &[
        include_str!("../read/mod.rs"),
        include_str!("../read/headers.rs"),
        include_str!("../read/health.rs"),
        include_str!("../read/route.rs"),
        include_str!("../read/server.rs"),
        include_str!("../read/target.rs"),
        include_str!("../read/tls.rs"),
    ];

    #[test]
    fn every_key_is_read() {
        for (table, path) in all() {
            for key in table.keys() {
                let told = matches!(key.kind, Kind::Refused(_) | Kind::Ignored(_));
                let name = format!("\"{}\"", key.name);
                let read = READERS.iter().any(|reader| reader.contains(&name));
                assert!(told || read, "{path}.{}", key.name);
            }
        }
    }

    #[test]
    fn names_are_unique_within_a_table_and_tables_have_one_name_each() {
        let tables = all();
        for (index, (table, path)) in tables.iter().enumerate() {
            assert!(
                !tables
                    .iter()
                    .skip(index + 1)
                    .any(|(other, _)| other.name == table.name)
            );
            let names: Vec<_> = table.keys().map(|key| key.name).collect();
            for (index, name) in names.iter().enumerate() {
                assert!(
                    !names.iter().skip(index + 1).any(|other| other == name),
                    "{path}.{name}"
                );
            }
        }
    }
}
