//! `${NAME}` and `${NAME:-default}` in scalars: what stands there is text, whatever it looks like.

/// Asks for a variable, as [`std::env::var`] does.
pub type Environment<'a> = &'a dyn Fn(&str) -> Result<String, std::env::VarError>;

/// A scalar with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    /// The text.
    pub(super) text: String,
    /// The variables in it, for messages, which must not show what they hold.
    pub(super) variables: Vec<String>,
}

/// Fills in the variables of `text`; `$$` is a dollar, and so is a `$` without `{` behind it.
///
/// # Errors
/// What is wrong, naming the variable and showing no value.
pub(super) fn substitute(text: &str, environment: Environment<'_>) -> Result<Substituted, String> {
    let mut out = String::with_capacity(text.len());
    let mut variables = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else if let Some(behind) = behind.strip_prefix('{') {
            let (inside, behind) = behind
                .split_once('}')
                .ok_or("a ${ without its }; $$ stands for a dollar")?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            out.push_str(&value(name, default, environment)?);
            variables.push(format!("${{{name}}}"));
            rest = behind;
        } else {
            out.push('$');
            rest = behind;
        }
    }
    out.push_str(rest);
    Ok(Substituted {
        text: out,
        variables,
    })
}

/// As in a shell, an empty variable counts as missing where there is a default.
fn value(
    name: &str,
    default: Option<&str>,
    environment: Environment<'_>,
) -> Result<String, String> {
    let first = name.bytes().next();
    let named = first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !named {
        return Err(
            "a ${…} that is neither ${NAME} nor ${NAME:-default}; $$ stands for a dollar"
                .to_owned(),
        );
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!(
            "a ${{ within the default of ${{{name}:-…}}: defaults do not nest"
        ));
    }
    match (environment(name), default) {
        (Ok(value), None) => Ok(value),
        (Ok(value), Some(_)) if !value.is_empty() => Ok(value),
        (Err(std::env::VarError::NotUnicode(_)), _) => {
            Err(format!("the environment variable {name} is not UTF-8"))
        }
        (_, Some(default)) => Ok(default.to_owned()),
        (Err(std::env::VarError::NotPresent), None) => Err(format!(
            "the environment variable {name} is not set; ${{{name}:-default}} would give it a default"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env::VarError;

    fn filled(text: &str) -> Result<String, String> {
        let environment = |name: &str| match name {
            "PORT" => Ok("8000".to_owned()),
            "EMPTY" => Ok(String::new()),
            "NESTED" => Ok("${PORT} $$".to_owned()),
            _ => Err(VarError::NotPresent),
        };
        substitute(text, &environment).map(|substituted| substituted.text)
    }

    #[test]
    fn variables_and_defaults_are_filled_in_once() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${PORT}", "8000"),
            ("a${PORT}b${PORT}", "a8000b8000"),
            ("${MISSING:-x:-y}", "x:-y"),
            ("${MISSING:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NESTED}", "${PORT} $$"),
            ("$${PORT}", "${PORT}"),
            ("$$$${PORT}", "$${PORT}"),
            ("$5 $", "$5 $"),
        ] {
            assert_eq!(filled(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn mistakes_name_the_variable() {
        let missing = filled("${API_KEY}").err().unwrap_or_default();
        assert!(missing.contains("API_KEY is not set"), "{missing}");
        for text in [
            "${",
            "${PORT",
            "${}",
            "${1}",
            "${PORT-x}",
            "${PO RT}",
            "${PORT:x}",
            "${${PORT}}",
        ] {
            assert!(filled(text).is_err(), "{text}");
        }
        // Whether or not it would be looked at.
        for text in [
            "${MISSING:-${PORT}}",
            "${PORT:-x${MISSING:-y}}",
            "${PORT:-$${x}",
        ] {
            let told = filled(text).err().unwrap_or_default();
            assert!(told.ends_with(":-…}: defaults do not nest"), "{told}");
        }
    }
}
