//! Where many small messages come, the event loop's thread reads them itself: a socket leaves the
//! runtime for a while, and is in the loop's [`Lookout`](super::lookout::Lookout).
//!
//! It goes back for whatever is not a small message in one frame, so that tungstenite sees that and all
//! that comes behind it, for whatever else the session has to do, and after a second: a loop that does
//! not go round must not keep the upstream's pings from being answered for longer.

use std::io::{Cursor, ErrorKind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::direct::SMALL;
use super::lookout::Watch;
use super::message::Message;
use super::session::Inbox;
use crate::engine::io::stream::Released;
use crate::engine::mailbox::CHUNK_COST;

/// How long the event loop has a socket at most.
pub(super) const LOAN: Duration = Duration::from_secs(1);

/// How often something must have come in that time before it gets it: to and fro takes ten system calls.
const CALM: u32 = 16;

/// Octets that are read at once.
const SPACE: usize = 2 * SMALL;

/// A socket that the event loop reads.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) socket: Arc<Released>,
    pub(super) watch: Watch,
    pub(super) inbox: Arc<Inbox>,
    /// The engine's, to be told that it has to go on.
    pub(super) task: Waker,
    /// Octets of a message at most.
    pub(super) most: usize,
    pub(super) back: Back,
    /// The engine has been told.
    pub(super) over: bool,
}

/// Whether a session is worth a loan: much comes, and all of it is small.
#[derive(Debug)]
pub(super) struct Calm {
    count: u32,
    since: Instant,
}

impl Calm {
    /// Nothing has come by now.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            count: 0,
            since: now,
        }
    }

    /// Messages have come together that count for so much.
    pub(super) fn note(&mut self, cost: usize, now: Instant) {
        let small = cost <= SMALL + CHUNK_COST;
        if !small || now.duration_since(self.since) > LOAN {
            *self = Self::new(now);
        }
        self.count += u32::from(small);
    }

    /// Whether it is.
    pub(super) const fn is_enough(&self) -> bool {
        self.count >= CALM
    }
}

/// What the engine gets back with a socket.
#[derive(Debug, Default)]
pub struct Back {
    /// What has been read and is for the engine.
    pub(super) unread: Vec<u8>,
    /// When something came last.
    pub(super) read_at: Option<Instant>,
    /// When a message did.
    pub(super) received_at: Option<Instant>,
}

impl Loan {
    /// Receives what has come; with `ended`, nothing comes behind it. Whether the next is the event
    /// loop's, too: the engine has been told if not.
    pub(super) fn receive(&mut self, ended: bool) -> bool {
        if self.over {
            return false;
        }
        self.over = !self.read() || ended;
        if self.over {
            self.task.wake_by_ref();
        }
        !self.over
    }

    /// What the engine goes on with. It hears of what comes from now on alone, so what has come by now
    /// is read here.
    pub(super) fn end(mut self) -> Back {
        let _ = self.over || self.read();
        self.back
    }

    /// Whether all that there is were small messages.
    fn read(&mut self) -> bool {
        if !self.inbox.has_room() {
            return false;
        }
        let mut space = [0; SPACE];
        let count = match self.socket.try_read(&mut space) {
            Ok(0) => return false,
            Ok(count) => count,
            // Any other means the same to the engine as the end that it finds.
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let now = Some(Instant::now());
        self.back.read_at = now;
        let mut octets = space.get(..count).unwrap_or_default();
        let mut messages = Vec::new();
        while let Some((message, behind)) = small_message(octets, self.most) {
            messages.push(message);
            octets = behind;
        }
        self.back.unread = octets.to_vec();
        if !messages.is_empty() {
            self.back.received_at = now;
            self.inbox.publish(|contents| contents.extend(messages));
        }
        // As much as there is room for may not be all that there is.
        octets.is_empty() && count < SPACE
    }
}

/// A message that is one frame of at most so many octets (RFC 6455 §5.2), and what comes behind it;
/// `None` where that is not what there is.
fn small_message(octets: &[u8], most: usize) -> Option<(Message, &[u8])> {
    let mut cursor = Cursor::new(octets);
    let (header, length) = FrameHeader::parse(&mut cursor).ok()??;
    let length = usize::try_from(length).ok().filter(|it| *it <= most)?;
    let start = usize::try_from(cursor.position()).ok()?;
    let (payload, behind) = octets.get(start..)?.split_at_checked(length)?;
    let FrameHeader { opcode, .. } = header;
    let plain = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let message = match opcode {
        _ if header != plain => return None,
        OpCode::Data(Data::Text) => Message::Text(std::str::from_utf8(payload).ok()?.into()),
        OpCode::Data(Data::Binary) => Message::Binary(Bytes::copy_from_slice(payload)),
        _ => return None,
    };
    Some((message, behind))
}

#[cfg(test)]
mod tests;
