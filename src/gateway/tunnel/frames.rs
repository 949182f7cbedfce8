//! Where WebSocket frames begin and end (RFC 6455 §5.2), and nothing else of them.

/// How far a direction is within a frame.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: Vec<u8>,
    /// Octets of the payload that are still to come.
    left: u64,
}

impl Frames {
    /// Whether the next octet begins a frame.
    pub(super) fn at_border(&self) -> bool {
        self.left == 0 && self.header.is_empty()
    }

    /// Takes octets in, all of them, or up to the first border where one is wanted; returns how
    /// many.
    pub(super) fn take(&mut self, octets: &[u8], to_border: bool) -> usize {
        let mut rest = octets;
        while !(rest.is_empty() || to_border && self.at_border()) {
            if self.left > 0 {
                let count = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                rest = rest.get(count..).unwrap_or_default();
                self.left -= count as u64;
                continue;
            }
            if let Some((octet, behind)) = rest.split_first() {
                self.header.push(*octet);
                rest = behind;
                self.read_header();
            }
        }
        octets.len() - rest.len()
    }

    /// Reads the header where it is complete.
    fn read_header(&mut self) {
        let (mask, length, at) = match *self.header.as_slice() {
            [_, second, ..] => (second & 0x80 != 0, second & 0x7F, 2),
            _ => return,
        };
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.header.len() < at + extended + if mask { 4 } else { 0 } {
            return;
        }
        let octets = self.header.get(at..at + extended).unwrap_or_default();
        let big_endian = |sum: u64, octet: &u8| sum << 8 | u64::from(*octet);
        self.left = match extended {
            0 => u64::from(length),
            _ => octets.iter().fold(0, big_endian),
        };
        self.header.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked text, a long binary, an empty ping.
    fn stream() -> (Vec<u8>, Vec<usize>) {
        let mut octets = vec![0x81, 0x82, 1, 2, 3, 4, b'a', b'b'];
        let mut borders = vec![0, octets.len()];
        octets.extend([0x82, 126, 1, 0]);
        octets.extend([7; 256]);
        borders.push(octets.len());
        octets.extend([0x89, 0]);
        borders.push(octets.len());
        octets.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        octets.extend(vec![7; 65_536]);
        borders.push(octets.len());
        (octets, borders)
    }

    #[test]
    fn borders_are_found_however_the_octets_come() {
        let (octets, borders) = stream();
        for piece in [1, 3, 100, 1 << 20] {
            let mut frames = Frames::default();
            let mut found = vec![0];
            let mut at = 0;
            while at < octets.len() {
                let end = octets.len().min(at + piece);
                // One octet past a border, as at a border nothing more is taken.
                if frames.at_border() {
                    at += frames.take(octets.get(at..=at).unwrap_or_default(), false);
                    continue;
                }
                at += frames.take(octets.get(at..end).unwrap_or_default(), true);
                if frames.at_border() {
                    found.push(at);
                }
            }
            assert_eq!(found, borders, "{piece}");
        }
    }

    #[test]
    fn all_is_taken_where_no_border_is_wanted() {
        let (octets, _) = stream();
        let mut frames = Frames::default();
        assert_eq!(frames.take(&octets, false), octets.len());
        assert!(frames.at_border());
    }
}
