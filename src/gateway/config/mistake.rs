//! What is wrong with a configuration: collected, so that one run shows every mistake, and told with
//! the place where it stands. A message never holds what may be a secret.

use std::fmt;
use std::path::PathBuf;

/// Mistakes that are told one by one; of others their number is told.
pub(super) const MOST_MISTAKES: usize = 20;
/// Characters of a key or value that a message repeats.
const LONGEST_QUOTE: usize = 60;

/// Where something stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1; 0 for what comes from the command line.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The keys that lead there: `routes[0].timeout.read`.
    pub path: String,
}

impl Place {
    /// The place of a key or an item below this one; the line and column stay.
    #[must_use]
    pub(super) fn below(&self, key: &str) -> Self {
        let mut place = self.clone();
        if !place.path.is_empty() && !key.starts_with('[') {
            place.path.push('.');
        }
        place.path.push_str(key);
        place
    }
}

/// Why a configuration cannot be used; its text is a line for each mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// There is nothing to look at.
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// There is something wrong with it.
    Mistakes {
        /// The file.
        file: String,
        /// What is wrong where, in the file's order.
        mistakes: Vec<(Place, String)>,
        /// The files it names, whether or not they are there: a change of one may mend it.
        named: Vec<PathBuf>,
    },
}

impl ConfigError {
    /// A file that cannot be read.
    #[must_use]
    pub(super) fn unreadable(file: &str, reason: String) -> Self {
        let file = file.to_owned();
        Self::Unreadable { file, reason }
    }

    /// The mistakes of `file`.
    #[must_use]
    pub(super) fn new(file: &str, mut mistakes: Vec<(Place, String)>) -> Self {
        mistakes.sort_by_key(|(place, _)| (place.line, place.column));
        Self::Mistakes {
            file: file.to_owned(),
            mistakes,
            named: Vec::new(),
        }
    }

    /// The same of a file that names these.
    #[must_use]
    pub(super) fn naming(mut self, files: Vec<PathBuf>) -> Self {
        if let Self::Mistakes { named, .. } = &mut self {
            *named = files;
        }
        self
    }

    /// The files that are named in it, as far as it could be read.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Mistakes { named, .. } => named,
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, mistakes) = match self {
            Self::Unreadable { file, reason } => {
                return write!(f, "{file}: cannot be read: {reason}");
            }
            Self::Mistakes { file, mistakes, .. } => (file, mistakes),
        };
        for (index, (place, message)) in mistakes.iter().take(MOST_MISTAKES).enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}{message}", Located(file, place))?;
        }
        match mistakes.len().checked_sub(MOST_MISTAKES) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n{file}: and {more} more"),
        }
    }
}

/// A place in a file, as messages begin with it.
pub(super) struct Located<'a>(pub(super) &'a str, pub(super) &'a Place);

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(file, place) = self;
        match (place.line, option(&place.path)) {
            (0, Some(option)) => return write!(f, "{option}: "),
            (0, None) => write!(f, "command line: ")?,
            (line, _) => write!(f, "{file}:{line}:{}: ", place.column)?,
        }
        if !place.path.is_empty() {
            write!(f, "{}: ", place.path)?;
        }
        Ok(())
    }
}

/// What was typed, where `path` is on the command line.
fn option(path: &str) -> Option<&'static str> {
    Some(match path {
        "server.host" => "--host",
        "server.port" => "--port",
        "server.workers" => "--workers",
        "ssl.cert_file" => "--cert",
        "ssl.key_file" => "--key",
        "routes[0].targets" => "--to",
        _ => return None,
    })
}

/// Text from a file as a message repeats it: in quotes, without control characters, not too long.
#[must_use]
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// The word among `words` that `word` is most like, if it is like any.
#[must_use]
pub(super) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    // A distance that leaves most of the word as it is; for anything else this would be guessing.
    let farthest = (length / 3).max(1);
    words
        .filter(|known| known.chars().count().abs_diff(length) <= farthest)
        .map(|known| (distance(word, known), known))
        .filter(|(distance, _)| *distance <= farthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`, cases and
/// hyphens apart.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> {
        let text = text.to_lowercase().replace('-', "_");
        text.chars().collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&last, j) + usize::from(x != y);
            let mut best = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let words = ["timeout", "targets", "path", "hosts", "preserve_host"];
        let nearest = |word| nearest(word, words.into_iter());
        assert_eq!(nearest("tiemout"), Some("timeout"));
        assert_eq!(nearest("target"), Some("targets"));
        assert_eq!(nearest("Preserve-Host"), Some("preserve_host"));
        assert_eq!(nearest("pth"), Some("path"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn quotes_are_bounded_and_escaped() {
        assert_eq!(quoted("a\n\"b"), r#""a\n\"b""#);
        assert_eq!(quoted(&"ä".repeat(100)).chars().count(), LONGEST_QUOTE + 3);
    }
}
