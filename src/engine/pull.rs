//! A request's body that is read only as fast as the upstream takes it, with replay.
//!
//! Whoever owns the client's connection gives a [`Body`]; each try reads it through a [`Reader`],
//! from the start as long as what was read fits into [`REPLAY_LIMIT`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::error::{Error, Kind};
use super::mailbox::CHUNK_COST;
use super::upload::REPLAY_LIMIT;

/// A body as its receiver gives it.
pub type Origin = Pin<Box<dyn Body<Data = Bytes, Error = Error> + Send>>;

/// The body, shared by its readers, of which only the newest may read.
pub struct Pull {
    state: Mutex<State>,
    length: Option<u64>,
}

struct State {
    body: Origin,
    /// What was read so far, while it may be replayed.
    log: Option<Vec<Bytes>>,
    logged: usize,
    /// Something has been read that is not in the log.
    lost: bool,
    newest_reader: u64,
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
                log: replay.then(Vec::new),
                logged: 0,
                lost: false,
                newest_reader: 0,
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
        let mut state = self.lock();
        if state.lost {
            return None;
        }
        state.newest_reader += 1;
        Some(Reader {
            pull: Arc::clone(self),
            number: state.newest_reader,
            replayed: 0,
        })
    }
}

impl State {
    fn keep(&mut self, chunk: &Bytes) -> bool {
        self.logged += chunk.len() + CHUNK_COST;
        if self.logged > REPLAY_LIMIT {
            self.log = None;
        }
        match &mut self.log {
            Some(log) => log.push(chunk.clone()),
            None => self.lost = true,
        }
        !self.lost
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
    number: u64,
    replayed: usize,
}

impl Reader {
    /// Whether there is nothing more to read, so that nobody will ask for the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let state = self.pull.lock();
        let kept = state.log.as_ref().map_or(0, Vec::len);
        self.replayed >= kept && state.failed.is_none() && state.body.is_end_stream()
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
        if state.newest_reader != self.number {
            let detail = "another try reads the body";
            return Poll::Ready(Some(Err(Error::new(Kind::Abandoned, detail))));
        }
        let kept = state.log.as_ref().and_then(|log| log.get(self.replayed));
        if let Some(chunk) = kept.cloned() {
            self.replayed += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(error) = &state.failed {
            return Poll::Ready(Some(Err(error.clone())));
        }
        let next = ready!(state.body.as_mut().poll_frame(context));
        match &next {
            None => {}
            Some(Err(error)) => state.failed = Some(error.clone()),
            Some(Ok(frame)) => match frame.data_ref() {
                Some(chunk) => {
                    if state.keep(chunk) {
                        self.replayed += 1;
                    }
                }
                // Trailers are rare, and not worth keeping.
                None => state.lost = true,
            },
        }
        Poll::Ready(next)
    }
}
