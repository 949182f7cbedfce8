//! What a session needs from its upstream, be it behind a socket or in this process.

use std::io;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::loan::Back;
use super::message::{Close, Message};
use crate::engine::error::Error;
use crate::engine::io::stream::Released;
use crate::engine::upstream::socket::Socket;

/// Why nothing more comes from an upstream, although it has not closed.
#[derive(Debug)]
pub struct Fault {
    /// For the log.
    pub error: Error,
    /// What the upstream is told, where it can still be told something.
    pub farewell: Option<Close>,
}

/// The upstream's end of a session.
pub trait Peer {
    /// The next message; not to be called again after a close or a fault.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Fault>>;

    /// When anything came last, be it an octet of a message.
    fn heard_at(&self) -> Instant;

    /// Whether there is room for another message; brings on its way what waits.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Sends a message, or the close; only after [`Peer::poll_ready`].
    fn send(&mut self, message: Message);

    /// Asks for a sign of life.
    fn ping(&mut self);

    /// Sends what has been buffered.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Waits for the end of the connection, and ignores what still comes.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// The socket, where a frame may be written to it past this: it takes frames as they are, and
    /// all that was sent before has gone.
    fn shortcut(&self) -> Option<Weak<Socket>> {
        None
    }

    /// Gives the socket away, where there is a [`Peer::shortcut`] and between messages; until
    /// [`Peer::take_back`] nothing else of this may be called. An error: the socket is lost.
    fn lend(&mut self) -> Option<io::Result<Arc<Released>>> {
        None
    }

    /// Takes the socket back, which nobody else may have any more, with what was read meanwhile.
    fn take_back(&mut self, _back: Back) {}

    /// Writes the rest of a frame that went past this, before anything else.
    fn resume(&mut self, _rest: &[u8]) {}
}
