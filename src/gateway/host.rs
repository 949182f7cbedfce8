//! Which text may name the host that a client asks for.

use std::cell::RefCell;
use std::net::Ipv6Addr;

use http::HeaderValue;
use http::uri::Scheme;

thread_local! {
    /// What was asked for last: most of a thread's clients ask for the same.
    static LAST: RefCell<HeaderValue> = const { RefCell::new(HeaderValue::from_static("")) };
}

/// The value that names this host; `None` where it is none. No part of what it was read from, which
/// would have hyper take a new buffer.
pub(super) fn host_line(octets: &[u8]) -> Option<HeaderValue> {
    LAST.with_borrow_mut(|last| {
        if last.as_bytes() != octets {
            if !is_host(octets) {
                return None;
            }
            *last = HeaderValue::from_bytes(octets).ok()?;
        }
        Some(last.clone())
    })
}

/// Whether it is a name or an address that no reader takes for another, and perhaps a port.
fn is_host(octets: &[u8]) -> bool {
    let end = match octets.first() {
        Some(b'[') => octets.iter().position(|octet| *octet == b']'),
        _ => octets.iter().position(|octet| *octet == b':'),
    };
    let (name, port) = match (octets.strip_prefix(b"["), end) {
        (None, None) => (octets, None),
        (None, Some(colon)) => (octets.get(..colon).unwrap_or_default(), octets.get(colon..)),
        (Some(_), None) => return false,
        (Some(address), Some(bracket)) => {
            let address = address.get(..bracket - 1).unwrap_or_default();
            let address = std::str::from_utf8(address).unwrap_or_default();
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (&[][..], octets.get(bracket + 1..))
        }
    };
    let port = match port.unwrap_or_default() {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    let named = octets.starts_with(b"[") || is_name(name) || octets.is_empty();
    port && named
}

/// Whether it is a port, or none.
fn is_port(digits: &[u8]) -> bool {
    let mut port = 0;
    digits.iter().all(|digit| {
        port = port * 10 + u32::from(digit.wrapping_sub(b'0'));
        digit.is_ascii_digit() && port <= u32::from(u16::MAX)
    })
}

/// Whether it is a name by RFC 3986 §3.2.2, with no label left out. Neither are commas of it, which
/// part the items of a list, nor what is percent-encoded, as not every reader decodes it.
fn is_name(name: &[u8]) -> bool {
    let mut before = b'.';
    let labelled = name.iter().all(|octet| {
        let doubled = *octet == b'.' && before == b'.';
        before = *octet;
        !doubled && is_in_a_name(*octet)
    });
    labelled && !name.is_empty()
}

fn is_in_a_name(octet: u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
        || matches!(
            octet,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\''
        )
        || matches!(octet, b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

/// Whether two hosts are one, as far as their letters' case and the scheme's own port go.
pub(super) fn is_same_host(one: &[u8], other: &[u8], scheme: Option<&Scheme>) -> bool {
    let port: &[u8] = match scheme {
        Some(scheme) if *scheme == Scheme::HTTPS => b":443",
        _ => b":80",
    };
    let [one, other] = [one, other].map(|host| host.strip_suffix(port).unwrap_or(host));
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_whatever_came_before() {
        let line = |octets: &[u8]| host_line(octets).map(|line| line.as_bytes().to_vec());
        for _ in 0..2 {
            for host in [
                &b"a.test"[..],
                b"",
                b"a.test:80",
                b"a.test",
                b"a.test",
                b"[::1]",
            ] {
                assert_eq!(line(host).as_deref(), Some(host));
                for bad in [&b"a test"[..], b"a,b", b"a.test:80:80", b"\xff"] {
                    assert_eq!(line(bad), None);
                }
            }
        }
    }
}
