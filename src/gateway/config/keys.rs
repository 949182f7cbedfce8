//! What a table of keys is made of. One table serves the check of a file, the hints in its errors,
//! the JSON Schema and the reference in the documents, so that they cannot differ.

/// What a mapping may hold.
#[derive(Debug)]
pub(super) struct Table {
    /// What it is called in the schema and the reference.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) about: &'static str,
    /// Its keys, in groups that other tables may share.
    pub(super) groups: &'static [&'static [Key]],
}

/// Ten years in seconds: longer than anyone waits, and short enough to be added to any clock.
pub(super) const LONGEST: f64 = 315_360_000.0;

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    /// As it is written.
    pub(super) name: &'static str,
    /// What may stand there.
    pub(super) kind: Kind,
    /// What stands there where nothing is written.
    pub(super) default: Default,
    /// What it is for.
    pub(super) about: &'static str,
}

/// What may stand at a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag,
    /// Text, described by what it must be; it is read further by whoever takes it.
    Text(&'static str),
    /// Text that no error shows, as it may hold a secret.
    Secret(&'static str),
    /// The path of a file or socket, relative to the folder of the configuration.
    Path(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// A number of seconds, perhaps 0.
    Seconds,
    /// A number of seconds above 0.
    SomeSeconds,
    /// A number above 0, to this one.
    Positive(f64),
    /// Items of one kind.
    List(&'static Kind),
    /// A mapping.
    Table(&'static Table),
    /// Header names with values; no error shows a value.
    Headers,
    /// What first fits.
    Any(&'static [Kind]),
    /// PyServe's, and nothing here: a notice says why.
    Ignored(&'static str),
    /// Known, but not possible here: an error says why.
    Refused(&'static str),
}

/// What stands at a key where nothing is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Default {
    /// Nothing; the reader of the key knows what that means.
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(u64),
    /// A number.
    Number(f64),
    /// Text.
    Text(&'static str),
    /// A list of texts.
    Texts(&'static [&'static str]),
    /// A list of whole numbers.
    Wholes(&'static [u64]),
    /// An empty mapping or list: every key in it has its own default.
    Empty,
}

impl Table {
    /// Its keys in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.groups.iter().copied().flatten()
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

impl Kind {
    /// Every alternative, itself where there is one alone.
    pub(super) fn alternatives(&self) -> &[Self] {
        match self {
            Self::Any(kinds) => kinds,
            kind => std::slice::from_ref(kind),
        }
    }

    /// Whether no error may show what stands there.
    pub(super) fn is_secret(&self) -> bool {
        let secret = |kind: &Self| match kind {
            Self::Secret(_) | Self::Headers => true,
            Self::List(kind) => kind.is_secret(),
            // Whoever writes text in place of the mapping may have meant what is in it.
            Self::Table(table) => table.keys().any(|key| key.kind.is_secret()),
            _ => false,
        };
        self.alternatives().iter().any(secret)
    }

    /// What is allowed, as the end of "allowed is …".
    pub(super) fn description(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Text(what) | Self::Secret(what) | Self::Path(what) => (*what).to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Whole(least, u64::MAX) => format!("a whole number, {least} or more"),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Seconds => format!("a number of seconds from 0 to {LONGEST}"),
            Self::SomeSeconds => format!("a number of seconds above 0, to {LONGEST}"),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Positive(most) => format!("a number above 0, to {most}"),
            Self::List(kind) => format!("a list, each item {}", kind.description()),
            Self::Table(table) => format!("a mapping ({})", table.about),
            Self::Headers => "a mapping of header names to texts".to_owned(),
            Self::Any(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(Self::description).collect();
                match kinds.split_last() {
                    Some((last, [])) => last.clone(),
                    Some((last, first)) => format!("{}, or {last}", first.join(", ")),
                    None => String::new(),
                }
            }
            Self::Ignored(why) | Self::Refused(why) => (*why).to_owned(),
        }
    }
}
