//! Holds a tree against the table of keys: unknown keys, wrong kinds and values out of range are told
//! here, variables and defaults filled in. What comes out has the form that the table says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::environment::{Environment, substitute};
use super::keys::{Default, Key, Kind, Table};
use super::mistake::{Place, nearest, quoted};
use super::scalar::{Scalar, fits};
use super::section::{Item, Section, Value};
use super::tables;
use super::vault::Vault;
use super::yaml::{self, Entry, Node};

/// Items of one list: a route with all its defaults takes much more room than `{}` does.
const MOST_ITEMS: usize = 1000;
/// Characters of a key that are shown.
const LONGEST_KEY: usize = 60;
/// Mistakes that are kept: more than are told, as they are told in another order.
const MOST_KEPT: usize = 200;

/// Collects what there is to say about one file.
pub(super) struct Check<'a> {
    /// Where variables come from.
    pub(super) environment: Environment<'a>,
    /// What is wrong.
    pub(super) mistakes: Vec<(Place, String)>,
    /// What is not wrong, but worth a line.
    pub(super) notices: Vec<(Place, String)>,
    /// What relative paths begin at.
    pub(super) folder: &'a Path,
    /// Files that are named, whether or not they are there.
    pub(super) files: Vec<PathBuf>,
    /// What has been read of them for routes.
    pub(super) vault: Vault,
}

impl Check<'_> {
    /// Tells a mistake.
    pub(super) fn mistake(&mut self, place: &Place, message: impl Into<String>) {
        if self.mistakes.len() < MOST_KEPT {
            self.mistakes.push((place.clone(), message.into()));
        }
    }

    /// Tells that a key is missing in `section`, unless a misspelt one may be it.
    pub(super) fn missing(&mut self, section: &Section, message: &str) {
        if !section.misspelt {
            self.mistake(&section.place, message);
        }
    }

    /// Whether nothing was wrong at `place` and below.
    pub(super) fn is_sound(&self, place: &Place) -> bool {
        let below = |other: &Place| match other.path.strip_prefix(&place.path) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        !self.mistakes.iter().any(|(other, _)| below(other))
    }

    /// Tells what somebody should know.
    pub(super) fn notice(&mut self, place: &Place, message: impl Into<String>) {
        self.notices.push((place.clone(), message.into()));
    }

    /// The mapping at `place`, held against `table`.
    pub(super) fn section(&mut self, table: &'static Table, node: &Node, place: &Place) -> Section {
        let mut section = Section {
            place: place.clone(),
            items: Vec::new(),
            misspelt: false,
        };
        let empty = Vec::new();
        let entries = match &node.value {
            yaml::Value::Map(entries) => entries,
            _ => &empty,
        };
        let mut lines = HashMap::new();
        for (entry, value) in entries {
            let place = entry_place(place, entry);
            if let Some(first) = lines.insert(&entry.name, entry.line) {
                self.mistake(&place, format!("stands here again; first on line {first}"));
                continue;
            }
            let Some(key) = table.key(&entry.name) else {
                self.unknown(table, &entry.name, &place);
                section.misspelt = true;
                continue;
            };
            if value.is_empty() {
                continue;
            }
            let at = node_place(&place, value);
            let found = self.value(&key.kind, value, &at).or_else(|| default(key));
            let item = Item {
                place: at,
                value: found,
            };
            section.items.push((key.name, item, true));
        }
        for key in table.keys() {
            if section.item(key.name).is_none()
                && let Some(value) = self.default(key, place)
            {
                // Its place is worked out where it is asked for: there are many of these.
                let item = Item {
                    place: Place::default(),
                    value: Some(value),
                };
                section.items.push((key.name, item, false));
            }
        }
        section
    }

    /// What stands at `place`, if it is of that kind; otherwise the mistake is told.
    fn value(&mut self, kind: &'static Kind, node: &Node, place: &Place) -> Option<Value> {
        match kind {
            Kind::Ignored(why) => {
                self.notice(place, format!("{why}; it is ignored"));
                return None;
            }
            Kind::Refused(why) => {
                self.mistake(place, *why);
                return None;
            }
            _ => {}
        }
        match &node.value {
            yaml::Value::Map(entries) => {
                for kind in kind.alternatives() {
                    match kind {
                        Kind::Table(table) => {
                            return Some(Value::Section(self.section(table, node, place)));
                        }
                        Kind::Headers => return Some(self.headers(entries, place)),
                        _ => {}
                    }
                }
                self.wrong(kind, "a mapping", place);
                None
            }
            yaml::Value::List(nodes) => {
                for kind in kind.alternatives() {
                    if let Kind::List(each) = kind {
                        return Some(Value::List(self.items(each, nodes, place)));
                    }
                }
                self.wrong(kind, "a list", place);
                None
            }
            yaml::Value::Scalar { text, plain } => self.scalar(kind, text, *plain, place),
        }
    }

    fn scalar(
        &mut self,
        kind: &'static Kind,
        text: &str,
        plain: bool,
        place: &Place,
    ) -> Option<Value> {
        let substituted = match substitute(text, self.environment) {
            Ok(substituted) => substituted,
            Err(reason) => {
                self.mistake(place, reason);
                return None;
            }
        };
        let scalar = Scalar {
            text: substituted.text,
            plain,
            variables: substituted.variables,
        };
        if let Some(value) = fits(kind, &scalar) {
            return Some(value);
        }
        if scalar.is_null()
            && let Some(value) = self.empty(kind, place)
        {
            return Some(value);
        }
        let found = scalar.description(kind.is_secret());
        let mut hint = String::new();
        if scalar.would_fit_quoted(kind) {
            hint.push_str("; put it in quotes");
        } else if scalar.would_fit_plain(kind) {
            hint.push_str("; take the quotes away");
        } else if let Some(key) = inside(kind, &scalar) {
            hint = format!("; did you mean {{{key}: …}}?");
        }
        let message = format!("found {found}; allowed is {}{hint}", kind.description());
        self.mistake(place, message);
        None
    }

    fn items(&mut self, kind: &'static Kind, nodes: &[Node], place: &Place) -> Vec<Item> {
        if nodes.len() > MOST_ITEMS {
            let message = format!("found a list of {}; allowed are {MOST_ITEMS}", nodes.len());
            self.mistake(place, message);
            return Vec::new();
        }
        let mut items = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let place = node_place(&place.below(&format!("[{index}]")), node);
            let value = self.value(kind, node, &place);
            items.push(Item { place, value });
        }
        items
    }

    fn headers(&mut self, entries: &[(Entry, Node)], place: &Place) -> Value {
        const VALUE: Kind = Kind::Secret("text");
        let mut found: Vec<(String, Item)> = Vec::with_capacity(entries.len());
        let mut lines = HashMap::new();
        for (entry, node) in entries {
            let place = entry_place(place, entry);
            if let Some(first) = lines.insert(entry.name.to_ascii_lowercase(), entry.line) {
                self.mistake(&place, format!("stands here again; first on line {first}"));
                continue;
            }
            let place = node_place(&place, node);
            let value = self.value(&VALUE, node, &place);
            found.push((entry.name.clone(), Item { place, value }));
        }
        Value::Headers(found)
    }

    fn wrong(&mut self, kind: &Kind, found: &str, place: &Place) {
        let allowed = kind.description();
        self.mistake(place, format!("found {found}; allowed is {allowed}"));
    }

    fn unknown(&mut self, table: &'static Table, name: &str, place: &Place) {
        let names = || {
            table
                .keys()
                .filter(|key| !matches!(key.kind, Kind::Refused(_)))
        };
        let hint = if name == "<<" {
            "YAML 1.2 has no merge keys; give whole mappings an anchor, or repeat the keys"
                .to_owned()
        } else if name
            .split_once(':')
            .is_some_and(|(name, _)| table.key(name).is_some())
        {
            "put a space behind the colon".to_owned()
        } else if let Some(near) = nearest(name, names().map(|key| key.name)) {
            format!("did you mean {near}?")
        } else if let Some(owner) = tables::owner(name) {
            format!("it is a key of {owner}")
        } else {
            let names: Vec<_> = names().map(|key| key.name).collect();
            format!("known here are {}", names.join(", "))
        };
        self.mistake(place, format!("no such key; {hint}"));
    }

    /// The default of a key that is not there, with the defaults of what is in it.
    fn default(&mut self, key: &'static Key, place: &Place) -> Option<Value> {
        match key.default {
            Default::Empty => self.empty(&key.kind, &place.below(key.name)),
            _ => default(key),
        }
    }

    /// A mapping or list with nothing in it, as `null` has it, where the kind allows one.
    fn empty(&mut self, kind: &'static Kind, place: &Place) -> Option<Value> {
        let empty = Node {
            line: place.line,
            column: place.column,
            value: yaml::Value::Map(Vec::new()),
        };
        kind.alternatives().iter().find_map(|kind| match kind {
            Kind::Table(table) => Some(Value::Section(self.section(table, &empty, place))),
            Kind::List(_) => Some(Value::List(Vec::new())),
            Kind::Headers => Some(Value::Headers(Vec::new())),
            _ => None,
        })
    }
}

/// The key under which a scalar may stand in the mapping that is wanted, if there is but one.
fn inside(kind: &'static Kind, scalar: &Scalar) -> Option<&'static str> {
    let tables = kind.alternatives().iter().filter_map(|kind| match kind {
        Kind::Table(table) => Some(*table),
        _ => None,
    });
    let keys = tables.flat_map(Table::keys);
    let mut taking = keys.filter(|key| fits(&key.kind, scalar).is_some());
    match (taking.next(), taking.next()) {
        (Some(key), None) => Some(key.name),
        _ => None,
    }
}

/// The default of a key, where it is not made of other defaults.
fn default(key: &Key) -> Option<Value> {
    let list = |values: Vec<Value>| {
        let items = values.into_iter().map(|value| Item {
            place: Place::default(),
            value: Some(value),
        });
        Value::List(items.collect())
    };
    let text = |text: &str| Value::Text {
        text: text.to_owned(),
        found: quoted(text),
    };
    match key.default {
        Default::Absent | Default::Empty => None,
        Default::Null => Some(Value::Null),
        Default::Flag(flag) => Some(Value::Flag(flag)),
        Default::Whole(number) => Some(Value::Whole(number)),
        Default::Number(number) => Some(Value::Number(number)),
        Default::Text(written) => Some(text(written)),
        Default::Texts(texts) => Some(list(texts.iter().map(|written| text(written)).collect())),
        Default::Wholes(numbers) => Some(list(
            numbers.iter().map(|&number| Value::Whole(number)).collect(),
        )),
    }
}

fn entry_place(parent: &Place, entry: &Entry) -> Place {
    Place {
        line: entry.line,
        column: entry.column,
        ..parent.below(&shown(&entry.name))
    }
}

/// A key as messages show it. `authorization:Bearer …` without a space behind the colon is all key,
/// so what stands behind the first odd character is not shown.
fn shown(name: &str) -> String {
    let plain = |letter: &char| letter.is_alphanumeric() || "_-/<".contains(*letter);
    let word: String = name.chars().take_while(plain).take(LONGEST_KEY).collect();
    match word.len() == name.len() && !word.is_empty() {
        true => word,
        false => word + "…",
    }
}

fn node_place(place: &Place, node: &Node) -> Place {
    Place {
        line: node.line,
        column: node.column,
        path: place.path.clone(),
    }
}
