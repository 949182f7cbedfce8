//! A checked mapping, and how its values are taken out. A value that was wrong is not there; its
//! mistake has been told, so whatever stands in for it is never used.

use std::time::Duration;

use super::mistake::Place;

/// A checked value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Whole(u64),
    Number(f64),
    Text {
        text: String,
        /// What a message tells of it.
        found: String,
    },
    List(Vec<Item>),
    Section(Section),
    Headers(Vec<(String, Item)>),
}

/// A value with its place; without one it was wrong.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) value: Option<Value>,
}

/// A checked mapping with every default filled in.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    pub(super) place: Place,
    /// Each key with what stands there, and whether that is written in the file.
    pub(super) items: Vec<(&'static str, Item, bool)>,
    /// A key in it was unknown: what seems to be missing is there, but misspelt.
    pub(super) misspelt: bool,
}

impl Section {
    /// What stands at `key`, or its default.
    pub(super) fn item(&self, key: &str) -> Option<&Item> {
        let found = self.items.iter().find(|(name, ..)| *name == key);
        found.map(|(_, item, _)| item)
    }

    /// Whether `key` stands in the file.
    pub(super) fn is_written(&self, key: &str) -> bool {
        let mut items = self.items.iter();
        items.any(|(name, _, written)| *name == key && *written)
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.item(key).and_then(|item| item.value.as_ref())
    }

    /// The place of `key`, or where it would stand.
    pub(super) fn place_of(&self, key: &str) -> Place {
        match self.item(key).filter(|_| self.is_written(key)) {
            Some(item) => item.place.clone(),
            None => self.place.below(key),
        }
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Flag(true)))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(Value::Text { text, .. }) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        match self.value(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// `None` for null.
    pub(super) fn seconds(&self, key: &str) -> Option<Duration> {
        self.number(key).and_then(duration)
    }

    pub(super) fn whole(&self, key: &str) -> Option<u64> {
        match self.value(key) {
            Some(Value::Whole(number)) => Some(*number),
            _ => None,
        }
    }

    /// A whole number whose kind has a bound that fits.
    pub(super) fn count<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        self.whole(key).and_then(|number| T::try_from(number).ok())
    }

    pub(super) fn section(&self, key: &str) -> Option<&Self> {
        match self.value(key) {
            Some(Value::Section(section)) => Some(section),
            _ => None,
        }
    }

    /// The items of a list; none for null.
    pub(super) fn list(&self, key: &str) -> &[Item] {
        self.list_or_null(key).unwrap_or_default()
    }

    /// The items of a list; `None` for null.
    pub(super) fn list_or_null(&self, key: &str) -> Option<&[Item]> {
        match self.value(key) {
            Some(Value::List(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn headers(&self, key: &str) -> &[(String, Item)] {
        match self.value(key) {
            Some(Value::Headers(lines)) => lines,
            _ => &[],
        }
    }
}

impl Item {
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Some(Value::Text { text, .. }) => Some(text),
            _ => None,
        }
    }

    /// What a message tells of it.
    pub(super) fn found(&self) -> &str {
        match &self.value {
            Some(Value::Text { found, .. }) => found,
            _ => "something else",
        }
    }

    pub(super) fn section(&self) -> Option<&Section> {
        match &self.value {
            Some(Value::Section(section)) => Some(section),
            _ => None,
        }
    }
}

/// Seconds as a duration; what its kind lets through always is one.
pub(super) fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}
