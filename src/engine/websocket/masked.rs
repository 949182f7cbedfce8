//! Frames as a client sends them, masked (RFC 6455 §5.3), for what goes past tungstenite.

use std::cell::RefCell;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The mask repeats after so many octets.
type Word = [u8; 4];

/// Masks that a thread asks the system for at once.
const MASKS: usize = 64;

thread_local! {
    /// Masks that have not been used yet.
    static FRESH: RefCell<Vec<Word>> = const { RefCell::new(Vec::new()) };
}

/// A frame as it goes out, or a part of it. Words, so that they can be written without being cleared
/// first.
#[derive(Debug, Default)]
pub(super) struct Masked {
    words: Vec<Word>,
    length: usize,
    mask: Word,
}

impl Masked {
    /// The header of a frame, and as many octets of its payload as take that to a whole word: how many
    /// they are. There is room for `room` octets more.
    ///
    /// # Errors
    /// Where the system has no randomness: a mask must not be guessed (RFC 6455 §5.3).
    pub(super) fn begin(
        payload: &[u8],
        code: Data,
        is_final: bool,
        room: usize,
    ) -> io::Result<(Self, usize)> {
        let mut mask = random_mask()?;
        let header = FrameHeader {
            is_final,
            opcode: OpCode::Data(code),
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut start = [0; 16];
        let mut free = start.as_mut_slice();
        let formatted = header.format(payload.len() as u64, &mut free);
        formatted.map_err(io::Error::other)?;
        let odd = (free.len() % 4).min(payload.len());
        for ((to, octet), mask) in free.iter_mut().zip(payload.iter().take(odd)).zip(mask) {
            *to = octet ^ mask;
        }
        let unused = free.len() - odd;
        mask.rotate_left(odd);
        let start = start.get(..start.len() - unused).unwrap_or_default();
        let mut frame = Self::plain(start, room);
        frame.mask = mask;
        Ok((frame, odd))
    }

    /// Octets that go out as they are, and room for `room` more.
    pub(super) fn plain(octets: &[u8], room: usize) -> Self {
        let mut frame = Self {
            words: Vec::with_capacity((octets.len() + room).div_ceil(4)),
            ..Self::default()
        };
        frame.add(octets);
        frame
    }

    /// Masks octets behind the last whole word, in one pass.
    pub(super) fn add(&mut self, octets: &[u8]) {
        let (words, odd) = octets.as_chunks();
        let mask = u32::from_ne_bytes(self.mask);
        let masked = |word: &Word| (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
        self.words.extend(words.iter().map(masked));
        if !odd.is_empty() {
            let mut last = Word::default();
            last.iter_mut()
                .zip(odd)
                .for_each(|(to, octet)| *to = *octet);
            self.words.push(masked(&last));
        }
        self.length += octets.len();
    }

    /// What there is, from this octet on.
    pub(super) fn octets(&self, start: usize) -> &[u8] {
        let octets = self.words.as_flattened().get(start..self.length);
        octets.unwrap_or_default()
    }

    /// Forgets what there is, but for the room that it took.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.length = 0;
    }
}

#[cfg(test)]
impl Masked {
    /// Whether it holds no memory.
    pub(super) fn has_no_room(&self) -> bool {
        self.words.capacity() == 0
    }
}

fn random_mask() -> io::Result<Word> {
    FRESH.with_borrow_mut(|fresh| {
        if let Some(mask) = fresh.pop() {
            return Ok(mask);
        }
        let mut masks = [Word::default(); MASKS];
        let filled = SystemRandom::new().fill(masks.as_flattened_mut());
        filled.map_err(|_| io::Error::other("no random mask"))?;
        let [mask, rest @ ..] = masks;
        fresh.extend(rest);
        Ok(mask)
    })
}
