//! What a pool keeps for its next request: a connection, or one that rests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::Connection;
use super::rest::Resting;
use crate::engine::target::Origin;

/// How long a connection in HTTP/1.1 is idle before it rests: longer than a busy pool leaves one
/// alone, as resting and waking cost half as much as a request.
pub const REST: Duration = Duration::from_secs(1);

/// One that nobody uses.
#[derive(Debug)]
pub(super) struct IdleConnection {
    pub(super) origin: Arc<Origin>,
    pub(super) kept: Kept,
    /// When it came back from its last request.
    pub(super) since: Instant,
}

impl IdleConnection {
    /// When it is to rest; `None` where it does, or cannot.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.kept {
            Kept::Awake(connection) => connection.rest.as_ref().map(|_| self.since + REST),
            Kept::Resting(_) => None,
        }
    }

    /// Has it rest if that is due.
    pub(super) fn lulled(mut self, now: Instant) -> Self {
        if self.due().is_some_and(|due| due <= now)
            && let Kept::Awake(connection) = self.kept
        {
            self.kept = connection.rest().map_or_else(Kept::Awake, Kept::Resting);
        }
        self
    }
}

/// What there is of it. Dropping this closes the connection, though not at once.
#[derive(Debug)]
pub(super) enum Kept {
    /// All of it.
    Awake(Connection),
    /// What is left once it rests.
    Resting(Resting),
}

impl Kept {
    /// Whether it has not ended, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Awake(connection) => !connection.sender.is_closed(),
            Self::Resting(resting) => !resting.is_closed(),
        }
    }

    /// Whether it does not rest.
    pub(super) fn is_awake(&self) -> bool {
        matches!(self, Self::Awake(_))
    }

    /// Whether it rests.
    pub(super) fn rests(&self) -> bool {
        !self.is_awake()
    }

    /// Closes it.
    pub(super) fn close(&self) {
        match self {
            Self::Awake(connection) => connection.task.abort(),
            Self::Resting(resting) => resting.close(),
        }
    }
}
