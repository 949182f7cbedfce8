//! Header lines as they go to the event loop's thread, or wait for another try.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::pieces::Pieces;

/// Names and values in one block of memory. The buffer that they were read into is free again, and
/// the other thread has one block to look at and to give back, and not a map's and that buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Of each line the name and the value.
    pieces: Pieces,
    count: usize,
}

/// Octets that a line mostly has room in; to count them all first takes as long as to copy them.
pub(super) const LINE: usize = 64;

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
        let mut pieces = self.pieces.iter();
        std::iter::from_fn(move || Some((pieces.next()?, pieces.next()?)))
    }
}

/// In the map's order: values of the same name stand together.
impl From<&HeaderMap> for Lines {
    fn from(headers: &HeaderMap) -> Self {
        let mut pieces = Pieces::with_capacity(headers.len() * LINE);
        for (name, value) in headers {
            pieces.push(name.as_str().as_bytes());
            pieces.push(value.as_bytes());
        }
        let count = headers.len();
        Self { pieces, count }
    }
}

/// Lines that were a map's. Which values are not to be shown or indexed is forgotten: that matters to
/// HTTP/2 only.
impl From<&Lines> for HeaderMap {
    fn from(lines: &Lines) -> Self {
        let mut headers = Self::with_capacity(lines.len());
        for (name, value) in lines.iter() {
            let line = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = line {
                headers.append(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use http::header::{SET_COOKIE, VIA};

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
        assert_eq!(HeaderMap::from(&lines), map);
    }
}
