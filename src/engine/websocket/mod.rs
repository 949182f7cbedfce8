//! WebSockets (RFC 6455): the handshake goes through the same policies, retries and timeouts as
//! any request; what follows is a [`session`] between the client's messages and the upstream's.
//!
//! Towards the client messages go through a mailbox, from it through a pipe, as bodies do.

mod bulk;
mod carry;
pub mod direct;
mod fault;
pub mod handshake;
pub mod loan;
pub mod lookout;
mod masked;
pub mod memory;
pub mod message;
pub mod peer;
mod plain;
pub mod pulse;
mod readahead;
pub mod session;
pub mod socket;

/// A handshake that an upstream has accepted.
#[derive(Debug)]
pub struct Switched {
    /// Its choice among those that were offered.
    pub subprotocol: Option<String>,
    /// What comes behind the handshake.
    pub stream: Stream,
}

/// What comes behind a handshake.
#[derive(Debug)]
pub enum Stream {
    /// A connection.
    Socket(socket::Switching),
    /// An upstream in this process.
    Memory(memory::MemoryPeer),
}
