//! Cookies (RFC 6265): the Domain attribute of a Set-Cookie line, found, dropped or replaced with
//! every other octet of the line left as it was; and single cookies of a Cookie header. Pure.

use std::ops::Range;

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// Where the Domain attribute of a Set-Cookie line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The attribute with the `;` in front of it.
    pub attribute: Range<usize>,
    /// Its value, white space around it left out.
    pub value: Range<usize>,
}

/// Every Domain attribute of a Set-Cookie line, in order; the last one is what a browser obeys.
#[must_use]
pub fn domains(line: &[u8]) -> Vec<Domain> {
    let mut found = Vec::new();
    let mut at = 0;
    // The first part is the cookie itself, which may well be named "domain".
    for (index, part) in line.split(|&b| b == b';').enumerate() {
        let end = at + part.len();
        if index > 0 {
            let equals = part.iter().position(|&b| b == b'=').unwrap_or(part.len());
            let (name, value) = part.split_at_checked(equals).unwrap_or((part, &[]));
            if name.trim_ascii().eq_ignore_ascii_case(b"domain") {
                let value = value.strip_prefix(b"=").unwrap_or(value);
                let start = end - value.trim_ascii_start().len();
                found.push(Domain {
                    attribute: at - 1..end,
                    value: start..start + value.trim_ascii().len(),
                });
            }
        }
        at = end + 1;
    }
    found
}

/// The Domain value that a browser would obey, `b""` for a host-only cookie.
#[must_use]
pub fn domain_value(line: &[u8]) -> &[u8] {
    domains(line)
        .last()
        .and_then(|domain| line.get(domain.value.clone()))
        .unwrap_or_default()
}

/// The line with its Domain set to `domain`, or without any where `domain` is empty.
#[must_use]
pub fn with_domain(line: &[u8], domain: &[u8]) -> Vec<u8> {
    let found = domains(line);
    let mut out = Vec::with_capacity(line.len() + domain.len() + 9);
    let mut at = 0;
    for (index, old) in found.iter().enumerate() {
        let keep = !domain.is_empty() && index + 1 == found.len();
        let cut = if keep { &old.value } else { &old.attribute };
        out.extend_from_slice(line.get(at..cut.start).unwrap_or_default());
        if keep {
            if line
                .get(old.attribute.clone())
                .is_some_and(|a| !a.contains(&b'='))
            {
                out.push(b'=');
            }
            out.extend_from_slice(domain);
        }
        at = cut.end;
    }
    out.extend_from_slice(line.get(at..).unwrap_or_default());
    if found.is_empty() && !domain.is_empty() {
        out.extend_from_slice(b"; Domain=");
        out.extend_from_slice(domain);
    }
    out
}

/// The values of the cookies of this name in the lines of Cookie headers.
pub fn cookie_values<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    let pairs = lines.flat_map(|line| line.split(|&b| b == b';'));
    pairs.filter_map(move |pair| value_if_named(pair, name))
}

/// Takes all cookies of this name out; the others stay octet by octet.
pub fn without_cookie(headers: &mut HeaderMap, name: &str) {
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let pairs = line.as_bytes().split(|&b| b == b';');
        let kept: Vec<&[u8]> = pairs
            .filter(|pair| value_if_named(pair, name).is_none())
            .collect();
        let kept = kept.join(&b';');
        let kept = kept.trim_ascii();
        if let (false, Ok(line)) = (kept.is_empty(), HeaderValue::from_bytes(kept)) {
            headers.append(COOKIE, line);
        }
    }
}

fn value_if_named<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
    rest.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(line: &str, domain: &str) -> String {
        String::from_utf8_lossy(&with_domain(line.as_bytes(), domain.as_bytes())).into_owned()
    }

    #[test]
    fn the_domain_is_dropped_and_the_rest_stays() {
        let line = "a=b; Path=/; DOMAIN = .x.org ;Secure;HttpOnly";
        assert_eq!(set(line, ""), "a=b; Path=/;Secure;HttpOnly");
        assert_eq!(set("a=b; Domain=x.org", ""), "a=b");
        assert_eq!(set("a=b; Domain", ""), "a=b");
    }

    #[test]
    fn the_domain_is_set_where_it_stood_or_at_the_end() {
        assert_eq!(
            set("a=b; Domain=x.org; Secure", "y.org"),
            "a=b; Domain=y.org; Secure"
        );
        assert_eq!(
            set("a=b; domain=; Secure", "y.org"),
            "a=b; domain=y.org; Secure"
        );
        assert_eq!(
            set("a=b; Domain; Secure", "y.org"),
            "a=b; Domain=y.org; Secure"
        );
        assert_eq!(set("a=b; Secure", "y.org"), "a=b; Secure; Domain=y.org");
        assert_eq!(set("a=b; Domain=1; Domain=2", "y"), "a=b; Domain=y");
    }

    #[test]
    fn a_cookie_that_is_named_domain_is_not_the_attribute() {
        assert_eq!(set("domain=v; Path=/", ""), "domain=v; Path=/");
        assert_eq!(domain_value(b"domain=v; Path=/"), b"");
        assert_eq!(domain_value(b"a=b; Domain= x.org "), b"x.org");
    }
}
