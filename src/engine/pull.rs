//! A request's body that is read only as fast as the upstream takes it, with replay.
//!
//! Whoever owns the client's connection gives a [`Body`]; each try reads it through a [`Reader`],
//! from the start as long as what was read fits into [`REPLAY_LIMIT`](super::replay::REPLAY_LIMIT).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::error::Error;
use super::replay::{Place, Replay};

/// A body as its receiver gives it.
pub type Origin = Pin<Box<dyn Body<Data = Bytes, Error = Error> + Send>>;

/// The body, shared by its readers, of which only the newest may read.
pub struct Pull {
    state: Mutex<State>,
    length: Option<u64>,
}

struct State {
    body: Origin,
    replay: Replay,
    failed: Option<Error>,
}

impl Pull {
    /// `replay` keeps what was read for further tries; without it there are further ones only as
    /// long as nothing was read.
    #[must_use]
    pub fn new(body: Origin, replay: bool) -> Arc<Self> {
        let length = body.size_hint().exact();
        Arc::new(Self {
            state: Mutex::new(State {
                body,
                replay: Replay::new(replay),
                failed: None,
            }),
            length,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader from the start of the body, which makes earlier readers fail; `None` where the
    /// start is no longer kept.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let place = self.lock().replay.begin()?;
        Some(Reader {
            pull: Arc::clone(self),
            place,
        })
    }
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pull")
    }
}

/// What one try reads of a [`Pull`].
#[derive(Debug)]
pub struct Reader {
    pull: Arc<Pull>,
    place: Place,
}

impl Reader {
    /// Whether there is nothing more to read, so that nobody will ask for the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let state = self.pull.lock();
        state.replay.is_read(&self.place) && state.failed.is_none() && state.body.is_end_stream()
    }

    /// The announced number of octets.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.pull.length
    }

    /// The next chunk, or the trailers; `None` at the end of a complete body.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.pull.lock();
        if let Some(again) = state.replay.again(&mut self.place).transpose() {
            return Poll::Ready(Some(again.map(Frame::data)));
        }
        if let Some(error) = &state.failed {
            return Poll::Ready(Some(Err(error.clone())));
        }
        let next = ready!(state.body.as_mut().poll_frame(context));
        match &next {
            None => {}
            Some(Err(error)) => state.failed = Some(error.clone()),
            Some(Ok(frame)) => match frame.data_ref() {
                Some(chunk) => state.replay.keep(&mut self.place, chunk),
                // Trailers are rare, and not worth keeping.
                None => state.replay.lose(),
            },
        }
        Poll::Ready(next)
    }
}
