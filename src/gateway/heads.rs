//! Whether a client in HTTP/2 owes the rest of a head, or of its preface: hyper tells of requests
//! alone, whose heads are complete.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::InspectReader;

use super::connection::PREFACE;
use super::watch::Watch;

/// Octets in front of each frame's payload (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;

/// Types of frames, and the flag of the last one of a head (RFC 9113 §6).
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A connection in HTTP/2, from its first octet, whose watch knows when a head is not complete.
pub(super) fn watched_heads<I>(io: I, watch: Arc<Watch>) -> impl AsyncRead + AsyncWrite + Unpin
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut frames = Frames::new();
    watch.owe(frames.owed);
    InspectReader::new(io, move |octets: &[u8]| {
        frames.take(octets);
        watch.owe(frames.owed);
    })
}

/// Where one is in what a client says.
#[derive(Debug)]
struct Frames {
    /// Octets of the preface or of a payload that are still to come.
    left: usize,
    head: [u8; FRAME_HEAD],
    /// Octets of a frame's head that have come.
    filled: usize,
    /// The end of what comes is that of what is owed.
    last: bool,
    /// More is to come of a head, or of the preface, which SETTINGS end.
    owed: bool,
}

impl Frames {
    const fn new() -> Self {
        Self {
            left: PREFACE.len(),
            head: [0; FRAME_HEAD],
            filled: 0,
            last: false,
            owed: true,
        }
    }

    /// Goes on over what has come.
    fn take(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let wanted = match self.left {
                0 => FRAME_HEAD - self.filled,
                left => left,
            };
            let (now, rest) = octets.split_at(wanted.min(octets.len()));
            octets = rest;
            if self.left > 0 {
                self.left -= now.len();
            } else {
                let place = self.head.iter_mut().skip(self.filled);
                place.zip(now).for_each(|(place, octet)| *place = *octet);
                self.filled += now.len();
                if self.filled < FRAME_HEAD {
                    return;
                }
                self.begin();
            }
            if self.left == 0 && self.last {
                self.owed = false;
            }
        }
    }

    /// The payload of a frame begins.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.filled = 0;
        let of_a_head = kind == HEADERS || kind == CONTINUATION;
        self.owed |= of_a_head;
        // What else may come between is an error, and ends the connection.
        self.last = kind == SETTINGS || of_a_head && flags & END_HEADERS != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap_or_default();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What is owed after each of the parts, however these come.
    fn owed(parts: &[(&[u8], bool)]) {
        for size in [1, 7, 1000] {
            let mut frames = Frames::new();
            for (part, expected) in parts {
                part.chunks(size).for_each(|octets| frames.take(octets));
                assert_eq!(frames.owed, *expected, "{part:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_head_is_owed_until_its_last_octet() {
        let settings = frame(SETTINGS, 0, b"123456");
        let (front, end) = settings.split_at(10);
        let whole = frame(HEADERS, END_HEADERS, b"abc");
        let (begun, rest) = whole.split_at(11);
        owed(&[
            (PREFACE, true),
            (front, true),
            (end, false),
            (&frame(8, 0, b"1234"), false),
            (&whole, false),
            (begun, true),
            (rest, false),
            (&frame(HEADERS, 1, b"abc"), true),
            (&frame(CONTINUATION, 0, b""), true),
            (&frame(CONTINUATION, END_HEADERS, b""), false),
            (&frame(0, 1, &[HEADERS; 40]), false),
        ]);
    }
}
