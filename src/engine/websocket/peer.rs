//! What a session needs from its upstream, be it behind a socket or in this process.

use std::task::{Context, Poll};

use super::message::{Close, Message};
use crate::engine::error::Error;

/// What comes from an upstream.
#[derive(Debug)]
pub enum Received {
    /// A message, or the close.
    Message(Message),
    /// A ping or a pong: the upstream is alive.
    SignOfLife,
}

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
    /// What comes next; not to be called again after a close or a fault.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Fault>>;

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
}
