//! Header lines as they go to the event loop's thread.

use http::HeaderMap;

/// Names and values in one block of memory. The buffer that they were read into is free again, and
/// the other thread has one block to look at and to give back, and not a map's and that buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Of each line the name and the value, both behind their lengths.
    octets: Vec<u8>,
    count: usize,
}

/// Octets that a line mostly has room in; to count them all first takes as long as to copy them.
const LINE: usize = 64;

/// Octets of a length.
const LENGTH: usize = size_of::<usize>();

impl Lines {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names in lower case, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut octets = &*self.octets;
        std::iter::from_fn(move || {
            let (name, rest) = split(octets)?;
            let (value, rest) = split(rest)?;
            octets = rest;
            Some((name, value))
        })
    }
}

/// What stands behind its length, and what comes next.
fn split(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::from_ne_bytes(*length))
}

/// In the map's order: values of the same name stand together.
impl From<&HeaderMap> for Lines {
    fn from(headers: &HeaderMap) -> Self {
        let mut octets = Vec::with_capacity(headers.len() * LINE);
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                octets.extend_from_slice(&part.len().to_ne_bytes());
                octets.extend_from_slice(part);
            }
        }
        let count = headers.len();
        Self { octets, count }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderValue, SET_COOKIE, VIA};

    use super::*;

    #[test]
    fn a_map_keeps_its_lines() {
        let mut map = HeaderMap::new();
        assert!(Lines::from(&map).is_empty());
        map.append(SET_COOKIE, HeaderValue::from_static("a=1"));
        map.append(VIA, HeaderValue::from_static(""));
        map.append(SET_COOKIE, HeaderValue::from_static("b=2"));
        let lines = Lines::from(&map);
        assert_eq!(lines.len(), 3);
        let expected: [(&[u8], &[u8]); 3] = [
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"via", b""),
        ];
        assert!(lines.iter().eq(expected));
    }
}
