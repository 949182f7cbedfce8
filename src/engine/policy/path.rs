//! Where a request's path goes: what of it belongs to the mount, and whether the rest stays below
//! the prefix. Works on octets; nothing is ever decoded and encoded again.

use std::borrow::Cow;

use http::uri::{InvalidUri, PathAndQuery};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode, utf8_percent_encode};

use super::request::BadRequest;

/// What must be encoded to make a `raw_path` from a decoded `path` (RFC 3986 §3.3: `pchar` and
/// `/` stand as they are; `%` itself is encoded, as the path was decoded once).
const NOT_PCHAR: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The path of an ASGI scope, in the several shapes that servers and frameworks give it.
#[derive(Debug, Clone, Copy)]
pub struct ScopePath<'a> {
    /// `scope["path"]`: percent-decoded.
    pub path: &'a str,
    /// `scope["raw_path"]`: as the client sent it, where the server supplies it.
    pub raw_path: Option<&'a [u8]>,
    /// `scope["root_path"]`: where the app is mounted.
    pub root_path: &'a str,
}

/// The octets of the path below the mount, as the client sent them; empty for the mount itself.
///
/// Three shapes exist: `root_path` stands in front of the path (or its longest suffix does, where
/// the server's own root path is not part of the path); the framework cut `path` but left
/// `raw_path` whole (Litestar); nothing is mounted.
#[must_use]
pub fn below_mount<'a>(scope: &ScopePath<'a>) -> Cow<'a, [u8]> {
    let raw: Cow<'a, [u8]> = match scope.raw_path {
        // Some test clients leave the query in raw_path.
        Some(raw) => Cow::Borrowed(origin_form(
            raw.split(|&b| b == b'?').next().unwrap_or_default(),
        )),
        None => Cow::Owned(
            utf8_percent_encode(scope.path, NOT_PCHAR)
                .to_string()
                .into_bytes(),
        ),
    };
    let mount = mount_of(scope);
    let cut = if !mount.is_empty() {
        raw_prefix_length(&raw, mount.as_bytes())
            .or_else(|| replaced_prefix_length(&raw, mount.as_bytes()))
            .unwrap_or(0)
    } else if *raw == *scope.path.as_bytes() || scope.raw_path.is_none() {
        0
    } else {
        tail_start(&raw, scope.path.as_bytes())
    };
    match raw {
        Cow::Borrowed(raw) => Cow::Borrowed(raw.get(cut..).unwrap_or_default()),
        Cow::Owned(mut raw) => {
            raw.drain(..cut.min(raw.len()));
            Cow::Owned(raw)
        }
    }
}

/// The path of a request target in absolute form, which some servers hand on as it came (RFC 9112
/// §3.2.2); every other one as it is.
fn origin_form(raw: &[u8]) -> &[u8] {
    if raw.starts_with(b"/") {
        return raw;
    }
    let scheme_end = raw.windows(3).position(|part| part == b"://");
    let Some(behind) = scheme_end.and_then(|at| raw.get(at + 3..)) else {
        return raw;
    };
    let path = behind.iter().position(|&b| b == b'/');
    path.and_then(|at| behind.get(at..)).unwrap_or_default()
}

/// The part of `root_path` that stands in front of the path: the longest suffix on a segment
/// boundary that starts it.
fn mount_of<'a>(scope: &ScopePath<'a>) -> &'a str {
    let mut suffix = scope.root_path.trim_end_matches('/');
    loop {
        if suffix.is_empty() {
            return "";
        }
        if let Some(rest) = scope.path.strip_prefix(suffix)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return suffix;
        }
        suffix = match suffix.get(1..).and_then(|tail| tail.find('/')) {
            Some(at) => suffix.get(at + 1..).unwrap_or_default(),
            None => "",
        };
    }
}

/// How many octets of `raw` decode to exactly `decoded`, if it starts so.
#[must_use]
pub fn raw_prefix_length(raw: &[u8], decoded: &[u8]) -> Option<usize> {
    if raw.starts_with(decoded) {
        return Some(decoded.len());
    }
    let mut at = 0;
    for &expected in decoded {
        let (octet, width) = decode_one(raw.get(at..)?)?;
        if octet != expected {
            return None;
        }
        at += width;
    }
    Some(at)
}

/// As [`raw_prefix_length`], where a server has put replacement characters in `decoded` for what
/// is not UTF-8.
fn replaced_prefix_length(raw: &[u8], decoded: &[u8]) -> Option<usize> {
    let whole = replaced(raw);
    let (prefix, rest) = whole.split_at_checked(decoded.len())?;
    let same = prefix.iter().map(|pair| &pair.0).eq(decoded);
    same.then(|| rest.first().map_or(raw.len(), |pair| pair.1))
}

/// The octets of a path as servers decode it, each with where it stands there.
fn replaced(raw: &[u8]) -> Vec<(u8, usize)> {
    let decoded: Vec<(u8, usize)> = Decoded { raw, at: 0 }.collect();
    let octets: Vec<u8> = decoded.iter().map(|pair| pair.0).collect();
    if str::from_utf8(&octets).is_ok() {
        return decoded;
    }
    let mut positions = decoded.iter().map(|pair| pair.1);
    let mut out = Vec::with_capacity(decoded.len());
    for chunk in octets.utf8_chunks() {
        out.extend(chunk.valid().bytes().zip(positions.by_ref()));
        let invalid = positions.by_ref().take(chunk.invalid().len());
        if let Some(start) = invalid.reduce(|first, _| first) {
            out.extend("\u{FFFD}".bytes().map(|octet| (octet, start)));
        }
    }
    out
}

/// The first octet of `raw`, percent-decoded, and how many octets it takes there.
fn decode_one(raw: &[u8]) -> Option<(u8, usize)> {
    let hex = |b: &u8| (*b as char).to_digit(16);
    match raw {
        [b'%', high, low, ..] => match (hex(high), hex(low)) {
            (Some(high), Some(low)) => u8::try_from(high * 16 + low).ok().map(|b| (b, 3)),
            _ => Some((b'%', 1)),
        },
        [octet, ..] => Some((*octet, 1)),
        [] => None,
    }
}

/// Where the tail of `raw` begins that a framework shows as `path` after cutting its mount,
/// collapsing slashes and adding one at the end. 0 where `path` is no tail of it.
fn tail_start(raw: &[u8], path: &[u8]) -> usize {
    let wanted = normalized(path.iter().copied().map(|octet| (octet, 0)));
    let whole = normalized(replaced(raw).into_iter());
    let Some(cut) = whole.len().checked_sub(wanted.len()) else {
        return 0;
    };
    let (mount, tail) = whole.split_at_checked(cut).unwrap_or_default();
    let octet = |pair: &(u8, usize)| pair.0;
    if !tail.iter().map(octet).eq(wanted.iter().map(octet)) {
        return 0;
    }
    match (tail.first(), mount.is_empty()) {
        (Some((_, start)), _) => *start,
        // The mount itself, perhaps with slashes behind it.
        (None, false) => raw.len() - raw.iter().rev().take_while(|&&b| b == b'/').count(),
        (None, true) => 0,
    }
}

/// Octets with runs of slashes collapsed and none at the end, each with where it comes from.
fn normalized(octets: impl Iterator<Item = (u8, usize)>) -> Vec<(u8, usize)> {
    let mut out: Vec<(u8, usize)> = Vec::with_capacity(octets.size_hint().0);
    for (octet, at) in octets {
        if octet != b'/' || out.last().is_none_or(|last| last.0 != b'/') {
            out.push((octet, at));
        }
    }
    if out.last().is_some_and(|last| last.0 == b'/') {
        out.pop();
    }
    out
}

/// The percent-decoded octets of a path, each with where it stands there.
struct Decoded<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Iterator for Decoded<'_> {
    type Item = (u8, usize);

    fn next(&mut self) -> Option<(u8, usize)> {
        let start = self.at;
        let (octet, width) = decode_one(self.raw.get(start..)?)?;
        self.at += width;
        Some((octet, start))
    }
}

/// Whether dot segments of `path` climb above where it starts (RFC 3986 §5.2.4).
///
/// Read the way the most generous upstream would: `%2e` is a dot, `%2F`, `\` and `%5C` separate
/// segments, `;parameters` are not part of a segment's name, and empty segments count for nothing.
#[must_use]
pub fn climbs(path: &[u8]) -> bool {
    if !path.contains(&b'.') && !path.contains(&b'%') {
        return false;
    }
    // Nobody should have left a query behind it, but "..?" is a dot segment to who reads on.
    let path = path.split(|&b| b == b'?').next().unwrap_or_default();
    let decoded: Cow<'_, [u8]> = percent_decode(path).into();
    let mut depth: usize = 0;
    for segment in decoded.split(|&b| b == b'/' || b == b'\\') {
        match segment.split(|&b| b == b';').next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

/// What a URI cannot carry although servers let it in (RFC 3986 §2).
pub const NOT_IN_A_URI: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>').add(b'`');

/// `octets` as a request target: unchanged where they make a URI, else with the octets that a URI
/// cannot carry percent-encoded, which reads the same at the upstream.
///
/// # Errors
/// [`BadRequest::Target`] for a control character or a space, and for a `#`, which the parser
/// would cut off with all behind it.
pub fn request_target(octets: Vec<u8>) -> Result<PathAndQuery, BadRequest> {
    if octets.iter().all(|octet| is_plain(*octet)) {
        let whole = PathAndQuery::from_maybe_shared(bytes::Bytes::from(octets));
        return whole.map_err(|_| BadRequest::Target);
    }
    if octets.iter().any(|b| matches!(b, b'#' | 0x7F | ..=b' ')) {
        return Err(BadRequest::Target);
    }
    let octets = bytes::Bytes::from(octets);
    let encoded = |_| percent_encode(&octets, NOT_IN_A_URI).to_string().try_into();
    PathAndQuery::from_maybe_shared(octets.clone())
        .or_else(encoded)
        .map_err(|_: InvalidUri| BadRequest::Target)
}

/// Whether an octet is one of nearly every URI, so that nothing of it needs to be encoded.
fn is_plain(octet: u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
        || matches!(
            octet,
            b'/' | b'-' | b'.' | b'_' | b'~' | b'%' | b'?' | b'=' | b'&' | b'+'
        )
}

#[cfg(test)]
mod tests;
