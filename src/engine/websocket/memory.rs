//! An upstream in this process: messages go through a mailbox and a pipe of its own.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::message::Message;
use super::peer::{Fault, Peer};
use super::session::{Inbox, Outbox};
use crate::engine::doorbell::Doorbell;
use crate::engine::mailbox::{End, Mailbox};
use crate::engine::pipe::Pipe;
use crate::engine::upstream::memory::Guard;

/// The app's end of a WebSocket: what comes for it, and where it writes.
#[derive(Debug, Clone)]
pub struct Link {
    /// What comes from the client.
    pub inbox: Arc<Inbox>,
    /// What goes to the client; its last item is a close.
    pub outbox: Arc<Outbox>,
}

impl Link {
    /// An empty one, whose app is woken through `doorbell`.
    #[must_use]
    pub fn new(doorbell: Doorbell) -> Self {
        Self {
            inbox: Mailbox::new(doorbell.clone()),
            outbox: Pipe::new(doorbell),
        }
    }
}

/// The engine's end of a [`Link`].
#[derive(Debug)]
pub struct MemoryPeer {
    link: Link,
    _guard: Guard,
}

impl MemoryPeer {
    /// Dropping `guard` tells the app that the session is over.
    #[must_use]
    pub fn new(link: Link, guard: Guard) -> Self {
        Self {
            link,
            _guard: guard,
        }
    }
}

impl Peer for MemoryPeer {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Fault>> {
        let next = self.link.outbox.poll_next(context);
        next.map(|(message, _)| Ok(message))
    }

    /// It lives as long as this process does.
    fn heard_at(&self) -> Instant {
        Instant::now()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (_, room) = self.link.inbox.poll(context);
        match room || self.link.outbox.has_ended() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn send(&mut self, message: Message) {
        let ended = matches!(message, Message::Close(_));
        self.link.inbox.publish(|contents| {
            contents.push(message);
            if ended {
                contents.end = Some(End::Complete);
            }
        });
    }

    fn ping(&mut self) {}

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for MemoryPeer {
    fn drop(&mut self) {
        self.link.outbox.close();
        self.link.inbox.publish(|contents| contents.aborted = true);
    }
}
