//! What a scalar may stand for (YAML 1.2 §10.3.2, decimal numbers alone), and whether it is of the
//! kind that a key wants.

use super::keys::{Kind, LONGEST};
use super::mistake::quoted;
use super::section::Value;

/// A scalar with its variables filled in.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// Without quotes.
    pub(super) text: String,
    /// Without quotes in the file.
    pub(super) plain: bool,
    /// Variables in it. With any, quotes mean nothing (`"${PORT}"` must be quoted within braces), and
    /// no message shows the text.
    pub(super) variables: Vec<String>,
}

/// What text without quotes stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plain {
    /// Not even `null`.
    Nothing,
    Null,
    Flag(bool),
    Whole(u64),
    Number(f64),
    Text,
}

impl Plain {
    fn of(text: &str) -> Self {
        match text {
            "" => return Self::Nothing,
            "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Flag(true),
            "false" | "False" | "FALSE" => return Self::Flag(false),
            _ => {}
        }
        let digits = text.trim_start_matches(['+', '-']);
        // 010 is ten in YAML 1.2 and eight in YAML 1.1: text, which no number may be.
        let octal = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
        let number = text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        if octal || !number {
            return Self::Text;
        }
        if let Ok(whole) = text.parse() {
            return Self::Whole(whole);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Self::Number(number),
            _ => Self::Text,
        }
    }
}

/// The value at a key of this kind, if it may stand there.
pub(super) fn fits(kind: &Kind, scalar: &Scalar) -> Option<Value> {
    let filled = !scalar.variables.is_empty();
    let plain = match scalar.plain || filled {
        true => Plain::of(&scalar.text),
        false => Plain::Text,
    };
    let text = || Value::Text {
        text: scalar.text.clone(),
        found: scalar.description(kind.is_secret()),
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "no number here needs more than 53 bits"
    )]
    let number = match plain {
        Plain::Whole(number) => Some(number as f64),
        Plain::Number(number) => Some(number),
        _ => None,
    };
    match kind {
        Kind::Null => (plain == Plain::Null).then_some(Value::Null),
        Kind::Flag => match plain {
            Plain::Flag(flag) => Some(Value::Flag(flag)),
            _ => None,
        },
        // A variable's value is data: where text may stand it is nothing else.
        Kind::Text(_) | Kind::Secret(_) | Kind::Path(_) => {
            (filled || plain == Plain::Text).then(text)
        }
        Kind::Choice(words) => words.contains(&scalar.text.as_str()).then(text),
        Kind::Whole(least, most) => match plain {
            Plain::Whole(number) if (least..=most).contains(&&number) => Some(Value::Whole(number)),
            _ => None,
        },
        Kind::Number(least, most) => number
            .filter(|number| least <= number && number <= most)
            .map(Value::Number),
        Kind::Seconds => number
            .filter(|number| (0.0..=LONGEST).contains(number))
            .map(Value::Number),
        Kind::SomeSeconds => number
            .filter(|number| *number > 0.0 && *number <= LONGEST)
            .map(Value::Number),
        Kind::Positive(most) => number
            .filter(|number| *number > 0.0 && number <= most)
            .map(Value::Number),
        Kind::Any(kinds) => {
            let is_text =
                |kind: &Kind| matches!(kind, Kind::Text(_) | Kind::Secret(_) | Kind::Path(_));
            let skips_null = filled && kinds.iter().any(is_text);
            let mut kinds = kinds
                .iter()
                .filter(|kind| !(skips_null && matches!(kind, Kind::Null)));
            kinds.find_map(|kind| fits(kind, scalar))
        }
        Kind::List(_) | Kind::Table(_) | Kind::Headers | Kind::Ignored(_) | Kind::Refused(_) => {
            None
        }
    }
}

impl Scalar {
    /// Whether `null` is written there, or nothing.
    pub(super) fn is_null(&self) -> bool {
        let null = matches!(Plain::of(&self.text), Plain::Null | Plain::Nothing);
        self.plain && self.variables.is_empty() && null
    }

    /// What was found, as a message tells it.
    pub(super) fn description(&self, secret: bool) -> String {
        if !self.variables.is_empty() {
            return format!("the value of {}", self.variables.join(" and "));
        }
        let plain = match self.plain {
            true => Plain::of(&self.text),
            false => Plain::Text,
        };
        match plain {
            Plain::Null => "null".to_owned(),
            Plain::Nothing => "nothing".to_owned(),
            Plain::Whole(_) | Plain::Number(_) if secret => "a number".to_owned(),
            _ if secret => "text".to_owned(),
            Plain::Flag(flag) => flag.to_string(),
            Plain::Whole(_) | Plain::Number(_) => format!("the number {}", self.text),
            Plain::Text => format!("the text {}", quoted(&self.text)),
        }
    }

    /// Whether quotes are all that it needs: where a number might stand, another one is meant.
    pub(super) fn would_fit_quoted(&self, kind: &Kind) -> bool {
        let quoted = Self {
            plain: false,
            ..self.clone()
        };
        let wants_text = kind.alternatives().iter().all(|kind| {
            matches!(
                kind,
                Kind::Null | Kind::Text(_) | Kind::Secret(_) | Kind::Path(_)
            )
        });
        self.plain && wants_text && !self.is_null() && fits(kind, &quoted).is_some()
    }

    /// Whether only its quotes are wrong.
    pub(super) fn would_fit_plain(&self, kind: &Kind) -> bool {
        let plain = Self {
            plain: true,
            ..self.clone()
        };
        !self.plain && !plain.is_null() && fits(kind, &plain).is_some()
    }
}
