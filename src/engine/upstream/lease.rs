//! A connection in use. Dropping it closes the connection, giving it back keeps it in its pool.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::connect::Connection;
use super::multiplex::Stream;
use super::pool::Slot;
use super::sender::Sender;
use super::socket::Socket;
use crate::engine::body::Sent;
use crate::engine::target::Origin;
use crate::engine::timer::Timer;

/// A connection in use, with its slot.
#[derive(Debug)]
pub struct Lease {
    pub(super) sending: Sending,
    pub(super) socket: Option<Arc<Socket>>,
    pub(super) reused: bool,
    pub(super) upload: Option<Arc<Sent>>,
    pub(super) timer: Timer,
    last: bool,
    /// `None` for a connection that is opened for a handshake, and for part of one.
    pub(super) slot: Option<Slot>,
}

/// What a request is sent over.
#[derive(Debug)]
pub(super) enum Sending {
    /// A connection of its own, which ends where it is not given back.
    Connection(Connection, Arc<Origin>),
    /// Part of one that is shared.
    Stream(Sender, Stream),
    /// Given back.
    Nothing,
}

impl Lease {
    pub(super) fn of(
        mut connection: Connection,
        origin: Arc<Origin>,
        slot: Option<Slot>,
        reused: bool,
    ) -> Self {
        Self {
            socket: connection.socket.upgrade(),
            timer: connection.timer.take(),
            sending: Sending::Connection(connection, origin),
            reused,
            upload: None,
            last: false,
            slot,
        }
    }

    /// Part of a connection that is shared.
    pub(super) fn of_stream(stream: Stream, reused: bool) -> Self {
        Self {
            sending: Sending::Stream(Sender::Http2(stream.sender()), stream),
            socket: None,
            reused,
            upload: None,
            timer: Timer::default(),
            last: false,
            slot: None,
        }
    }

    /// Whether requests share the connection.
    #[must_use]
    pub fn is_multiplexed(&self) -> bool {
        matches!(self.sending, Sending::Stream(..))
    }

    /// Whether the connection has served a request before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The socket, for as long as the connection is leased.
    #[must_use]
    pub fn socket(&self) -> Option<&Socket> {
        self.socket.as_deref()
    }

    /// The socket, for whoever writes to it.
    #[must_use]
    pub fn shared_socket(&self) -> Option<Arc<Socket>> {
        self.socket.clone()
    }

    /// For whoever waits for a response; it stays with a connection that is kept.
    pub fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    /// What sends a request whose body is `upload`.
    pub fn sender(&mut self, upload: Option<Arc<Sent>>) -> Option<&mut Sender> {
        self.upload = upload;
        match &mut self.sending {
            Sending::Connection(connection, _) => Some(&mut connection.sender),
            Sending::Stream(sender, _) => Some(sender),
            Sending::Nothing => None,
        }
    }

    /// The connection is not for another request.
    pub fn is_the_last(&mut self) {
        self.last = true;
    }

    /// The exchange is complete: keeps the connection, unless part of the request is unsent.
    pub fn give_back(mut self) {
        let unsent = self.upload.as_ref().is_some_and(|upload| !upload.is_done());
        if unsent {
            return;
        }
        let sending = std::mem::replace(&mut self.sending, Sending::Nothing);
        let Sending::Connection(mut connection, origin) = sending else {
            return;
        };
        connection.timer = self.timer.take();
        let Some(slot) = self.slot.take().filter(|_| !self.last) else {
            // Without its sender the connection ends, or has become another protocol's.
            return;
        };
        if connection.sender.is_ready() {
            if let Some(socket) = &self.socket {
                socket.set_idle(true);
            }
            slot.0.keep(connection, origin);
            return;
        }
        // hyper's task has not come round yet. The slot stays taken until it has.
        tokio::spawn(async move {
            let Slot(pool) = &slot;
            let ready = poll_fn(|context| connection.sender.poll_ready(context));
            let expiry = pool.limits.keepalive_expiry;
            let patience = expiry.unwrap_or(Duration::from_secs(5));
            match timeout(patience, ready).await {
                Ok(Ok(())) => pool.keep(connection, origin),
                _ => connection.task.abort(),
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Sending::Connection(connection, _) = &self.sending {
            if let Some(socket) = &self.socket {
                socket.reset_on_close();
            }
            connection.task.abort();
        }
    }
}
