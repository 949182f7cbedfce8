//! Where WebSocket frames begin and end, and how long messages are on the wire (RFC 6455 §5.2);
//! nothing else of them.

/// The opcode of a close, and the first of the protocol's own.
const CLOSE: u8 = 8;

/// How far a direction is within a frame.
#[derive(Debug)]
pub(super) struct Frames {
    header: Vec<u8>,
    /// Octets of the payload that are still to come.
    left: u64,
    /// The frame is of a message, and not of the protocol's own.
    data: bool,
    /// Octets of the message so far, its frame at hand included.
    message: u64,
    most: u64,
    /// A close has passed, which nothing may follow.
    closed: bool,
}

/// What was taken in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many octets.
    pub(super) count: usize,
    /// Some of them are of messages.
    pub(super) message: bool,
    /// What follows would make a message too long.
    pub(super) over: bool,
}

impl Frames {
    /// Messages may have `most` octets, as they are framed.
    pub(super) fn new(most: Option<u64>) -> Self {
        Self {
            header: Vec::new(),
            left: 0,
            data: false,
            message: 0,
            most: most.unwrap_or(u64::MAX),
            closed: false,
        }
    }

    /// Whether a close has passed, so that no frame may follow.
    pub(super) fn are_closed(&self) -> bool {
        self.closed
    }

    /// Whether the next octet begins a frame.
    pub(super) fn at_border(&self) -> bool {
        self.left == 0 && self.header.is_empty()
    }

    /// Takes octets in: all of them, or up to the first border where one is wanted, or up to a
    /// frame that makes a message too long.
    pub(super) fn take(&mut self, octets: &[u8], to_border: bool) -> Taken {
        let mut taken = Taken::default();
        let mut rest = octets;
        let mut frame_at = None;
        while !(rest.is_empty() || to_border && self.at_border()) {
            if self.left > 0 {
                let count = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                rest = rest.get(count..).unwrap_or_default();
                self.left -= count as u64;
                taken.message |= self.data;
                continue;
            }
            if self.header.is_empty() {
                frame_at = Some(octets.len() - rest.len());
            }
            if let Some((octet, behind)) = rest.split_first() {
                self.header.push(*octet);
                rest = behind;
                taken.over = !self.read_header();
            }
            if taken.over {
                if frame_at.is_some() {
                    self.header.clear();
                }
                taken.count = frame_at.unwrap_or_default();
                return taken;
            }
        }
        taken.count = octets.len() - rest.len();
        taken
    }

    /// Reads the header where it is complete; whether its frame may pass.
    fn read_header(&mut self) -> bool {
        let (first, mask, length, at) = match *self.header.as_slice() {
            [first, second, ..] => (first, second & 0x80 != 0, second & 0x7F, 2),
            _ => return true,
        };
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.header.len() < at + extended + if mask { 4 } else { 0 } {
            return true;
        }
        let octets = self.header.get(at..at + extended).unwrap_or_default();
        let big_endian = |sum: u64, octet: &u8| sum << 8 | u64::from(*octet);
        let length = match extended {
            0 => u64::from(length),
            _ => octets.iter().fold(0, big_endian),
        };
        // Those from 8 on are the protocol's own, and may stand between a message's.
        let kind = first & 0x0F;
        self.closed |= kind == CLOSE;
        self.data = kind < CLOSE;
        if self.data {
            self.message = self.message.saturating_add(length);
            if self.message > self.most {
                return false;
            }
            if first & 0x80 != 0 {
                self.message = 0;
            }
        }
        self.left = length;
        self.header.clear();
        true
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
            let mut frames = Frames::new(None);
            let mut found = vec![0];
            let mut at = 0;
            while at < octets.len() {
                let end = octets.len().min(at + piece);
                // One octet past a border, as at a border nothing more is taken.
                if frames.at_border() {
                    at += frames
                        .take(octets.get(at..=at).unwrap_or_default(), false)
                        .count;
                    continue;
                }
                at += frames
                    .take(octets.get(at..end).unwrap_or_default(), true)
                    .count;
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
        let mut frames = Frames::new(None);
        assert_eq!(frames.take(&octets, false).count, octets.len());
        assert!(frames.at_border());
    }

    #[test]
    fn a_message_is_as_long_as_its_fragments_together() {
        // Three octets, a ping, two more that end it; then one of three.
        let mut octets = vec![0x01, 3, 1, 2, 3, 0x89, 4, 0, 0, 0, 0, 0x80, 2, 4, 5];
        octets.extend([0x82, 3, 1, 2, 3]);
        let mut frames = Frames::new(Some(5));
        let taken = frames.take(&octets, false);
        assert_eq!((taken.count, taken.over), (octets.len(), false));
        let mut frames = Frames::new(Some(4));
        let taken = frames.take(&octets, false);
        assert_eq!((taken.count, taken.over), (11, true));
        assert!(frames.at_border());
        let mut frames = Frames::new(Some(2));
        assert_eq!(
            frames
                .take(octets.get(..1).unwrap_or_default(), false)
                .count,
            1
        );
        let taken = frames.take(octets.get(1..).unwrap_or_default(), false);
        // Its beginning has passed already.
        assert_eq!((taken.count, taken.over), (0, true));
        assert!(!frames.at_border());
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut frames = Frames::new(None);
        frames.take(&[0x89, 0], false);
        assert!(!frames.are_closed());
        frames.take(&[0x88, 2, 3, 0xE8], false);
        assert!(frames.are_closed() && frames.at_border());
    }

    #[test]
    fn what_is_the_protocols_own_is_no_message() {
        let mut frames = Frames::new(None);
        assert!(!frames.take(&[0x89, 2, 1, 2, 0x8A, 1, 7], false).message);
        assert!(frames.take(&[0x8A, 0, 0x81, 1, 7], false).message);
    }
}
