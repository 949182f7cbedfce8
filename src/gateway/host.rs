//! Which text may name the host that a client asks for. Pure.

use std::net::Ipv6Addr;

/// Whether it is a name or an address that no reader takes for another, and perhaps a port.
pub(super) fn is_host(octets: &[u8]) -> bool {
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
