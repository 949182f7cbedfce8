//! What hyper does not tell of a connection in HTTP/2: whether its client owes the rest of a head, or
//! of its preface, and whether an answer's end has been written. hyper has handed that on long
//! before, where the client grants no room for it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{InspectReader, InspectWriter};

use super::connection::PREFACE;
use super::watch::Watch;

/// Octets in front of each frame's payload (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;

/// Types of frames, and the flags of the last one of a stream and of a head (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection in HTTP/2, from its first octet, whose watch knows when a head is not complete, and
/// how many answers are not.
pub(super) fn watched_heads<I>(io: I, watch: Arc<Watch>) -> impl AsyncRead + AsyncWrite + Unpin
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut said, mut owed) = (Frames::behind(PREFACE.len()), Owed::default());
    let mut answers = Frames::behind(0);
    watch.owe(owed.owed);
    let unanswered = Arc::new(Mutex::new(Unanswered::default()));
    let asked = Arc::clone(&unanswered);
    let writing = Arc::clone(&watch);
    let io = InspectWriter::new(io, move |octets: &[u8]| {
        let mut unanswered = asked.lock().unwrap_or_else(PoisonError::into_inner);
        answers.take(octets, |step| unanswered.written(step));
        writing.write(unanswered.streams.len());
    });
    InspectReader::new(io, move |octets: &[u8]| {
        let mut unanswered = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unanswered.streams.len();
        said.take(octets, |step| {
            owed.read(step);
            unanswered.read(step);
        });
        watch.owe(owed.owed);
        if unanswered.streams.len() != before {
            watch.write(unanswered.streams.len());
        }
    })
}

/// How far it has come.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A frame begins.
    Frame(Frame),
    /// The payload of the last one has come to its end, or the preface has.
    End,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    const fn ends_stream(self) -> bool {
        match self.kind {
            DATA | HEADERS => self.flags & END_STREAM != 0,
            kind => kind == RST_STREAM,
        }
    }
}

/// What a client owes.
#[derive(Debug)]
struct Owed {
    /// More is to come of a head, or of the preface, which SETTINGS end.
    owed: bool,
    /// The end of what comes is that of what is owed.
    last: bool,
}

impl Default for Owed {
    /// The preface.
    fn default() -> Self {
        Self {
            owed: true,
            last: false,
        }
    }
}

impl Owed {
    fn read(&mut self, step: Step) {
        match step {
            Step::Frame(Frame { kind, flags, .. }) => {
                let of_a_head = kind == HEADERS || kind == CONTINUATION;
                self.owed |= of_a_head;
                // What else may come between is an error, and ends the connection.
                self.last = kind == SETTINGS || of_a_head && flags & END_HEADERS != 0;
            }
            Step::End => self.owed &= !self.last,
        }
    }
}

/// Streams that a client has opened and whose answers' ends have not been written. As many as h2
/// lets a client open, and what it has yet to refuse.
#[derive(Debug, Default)]
struct Unanswered {
    streams: Vec<u32>,
    /// The last that was opened: what comes on others are trailers.
    last: u32,
}

impl Unanswered {
    fn read(&mut self, step: Step) {
        let Step::Frame(frame) = step else { return };
        if frame.kind == HEADERS && frame.stream > self.last {
            self.last = frame.stream;
            self.streams.push(frame.stream);
        } else if frame.kind == RST_STREAM {
            self.close(frame.stream);
        }
    }

    fn written(&mut self, step: Step) {
        if let Step::Frame(frame) = step
            && frame.ends_stream()
        {
            self.close(frame.stream);
        }
    }

    fn close(&mut self, stream: u32) {
        if let Some(at) = self.streams.iter().position(|other| *other == stream) {
            self.streams.swap_remove(at);
        }
    }
}

/// Where one is in what one end says.
#[derive(Debug)]
struct Frames {
    /// Octets of the preface or of a payload that are still to come.
    left: usize,
    head: [u8; FRAME_HEAD],
    /// Octets of a frame's head that have come.
    filled: usize,
}

impl Frames {
    /// Those behind a preface of so many octets.
    const fn behind(preface: usize) -> Self {
        Self {
            left: preface,
            head: [0; FRAME_HEAD],
            filled: 0,
        }
    }

    /// Goes on over what has come, and tells of each step.
    fn take(&mut self, mut octets: &[u8], mut tell: impl FnMut(Step)) {
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
                tell(Step::Frame(self.begin()));
            }
            if self.left == 0 {
                tell(Step::End);
            }
        }
    }

    /// The payload of a frame begins.
    fn begin(&mut self) -> Frame {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.filled = 0;
        let stream = u32::from_be_bytes(stream);
        Frame {
            kind,
            flags,
            stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::clock::Clock;
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap_or_default();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What is owed after each of the parts, however these come.
    fn owed(parts: &[(&[u8], bool)]) {
        for size in [1, 7, 1000] {
            let (mut frames, mut owed) = (Frames::behind(PREFACE.len()), Owed::default());
            for (part, expected) in parts {
                for octets in part.chunks(size) {
                    frames.take(octets, |step| owed.read(step));
                }
                assert_eq!(owed.owed, *expected, "{part:?} in pieces of {size}");
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

    /// How many answers are not written after the client and the gateway have said this.
    async fn unwritten(said: &[u8], answers: &[u8]) -> std::io::Result<u32> {
        let watch = Arc::new(Watch::new(Clock::new()));
        let (near, mut far) = duplex(1000);
        let mut near = watched_heads(near, Arc::clone(&watch));
        far.write_all(said).await?;
        near.read_exact(&mut vec![0; said.len()]).await?;
        near.write_all(answers).await?;
        Ok(watch.unwritten())
    }

    #[tokio::test]
    async fn an_answer_is_written_when_its_end_is() -> std::io::Result<()> {
        let request = frame(HEADERS, END_HEADERS, b"abc");
        let said = [PREFACE, &frame(SETTINGS, 0, b""), &request].concat();
        assert_eq!(unwritten(&said, b"").await?, 1);
        let head = frame(HEADERS, END_HEADERS, b"abc");
        let part = frame(DATA, 0, b"abc");
        assert_eq!(unwritten(&said, &[&*head, &part].concat()).await?, 1);
        for end in [
            frame(DATA, END_STREAM, b""),
            frame(HEADERS, END_STREAM | END_HEADERS, b"abc"),
            frame(RST_STREAM, 0, b"1234"),
        ] {
            let answer = [&*head, &part, &end].concat();
            assert_eq!(unwritten(&said, &answer).await?, 0);
        }

        // One that the client does not want any more, and trailers behind one that is answered.
        let reset = [&*said, &frame(RST_STREAM, 0, b"1234")].concat();
        assert_eq!(unwritten(&reset, b"").await?, 0);
        let trailers = [&*reset, &frame(HEADERS, END_STREAM | END_HEADERS, b"abc")].concat();
        assert_eq!(unwritten(&trailers, b"").await?, 0);
        Ok(())
    }
}
