//! A bounded pipe from the owner of the client's connection to the engine, with replay.
//!
//! The owner pushes chunks as they arrive and waits when the pipe is full; the engine reads them,
//! and may read them again from the start as long as they fit into the replay log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::doorbell::{Doorbell, Waiting};
use super::error::{Error, Kind};
use super::mailbox::CHUNK_COST;
use super::replay::{Place, Replay};

/// Octets that wait in the pipe before the writer has to pause.
pub const CAPACITY: usize = 128 * 1024;

/// What a chunk counts for: many small ones must not be free.
fn cost(chunk: &Bytes) -> usize {
    chunk.len() + CHUNK_COST
}

/// Octets that the engine reads at once: some servers hand on 400 KiB, and who reads may take one
/// more when it has nearly enough.
pub const PIECE: usize = 64 * 1024;

/// The pipe. Clones of the `Arc` are its two ends.
#[derive(Debug)]
pub struct Upload {
    state: Mutex<State>,
    doorbell: Doorbell,
    /// The announced number of octets, where there is one.
    length: Option<u64>,
    /// It is read once, by one reader: nothing is kept for another.
    single: bool,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Bytes>,
    queued: usize,
    received: u64,
    ended: Option<Result<(), Error>>,
    replay: Replay,
    reader: Option<Waker>,
    /// Nobody will read on.
    forsaken: bool,
    /// Writers that wait for room.
    writers: Waiting,
}

impl Upload {
    /// An empty pipe for a body of `length` octets, or of unknown length.
    #[must_use]
    pub fn new(length: Option<u64>, doorbell: Doorbell) -> Arc<Self> {
        Self::with(length, false, doorbell)
    }

    /// An empty pipe of unknown length that one reader reads once.
    #[must_use]
    pub fn once(doorbell: Doorbell) -> Arc<Self> {
        Self::with(None, true, doorbell)
    }

    fn with(length: Option<u64>, single: bool, doorbell: Doorbell) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            received: 0,
            ended: None,
            replay: Replay::new(!single),
            reader: None,
            forsaken: false,
            writers: Waiting::default(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            doorbell,
            length,
            single,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a chunk in; returns whether the pipe has room for more.
    pub fn push(&self, chunk: Bytes) -> bool {
        let mut state = self.lock();
        if state.ended.is_some() || state.forsaken || chunk.is_empty() {
            return true;
        }
        state.received += chunk.len() as u64;
        if self.length.is_some_and(|length| state.received > length) {
            let detail = "the body is longer than its Content-Length";
            self.end(state, Err(Error::new(Kind::BodyLength, detail)));
            return true;
        }
        state.queued += cost(&chunk);
        state.queue.push_back(chunk);
        let room = state.queued < CAPACITY;
        wake_reader(state);
        room
    }

    /// The body is complete, unless it is shorter than announced.
    pub fn finish(&self) {
        let state = self.lock();
        let short = self.length.is_some_and(|length| state.received < length);
        let detail = "the body is shorter than its Content-Length";
        let end = if short {
            Err(Error::new(Kind::BodyLength, detail))
        } else {
            Ok(())
        };
        self.end(state, end);
    }

    /// The body breaks off behind what waits in the pipe.
    pub fn break_off(&self, error: Error) {
        self.end(self.lock(), Err(error));
    }

    /// The body will never be complete; what waits in the pipe is dropped.
    pub fn fail(&self, error: Error) {
        let mut state = self.lock();
        // Also where the last octet has come but not gone: what is cut must not look whole.
        state.ended = None;
        state.queue.clear();
        state.queued = 0;
        state.replay.lose();
        self.end(state, Err(error));
    }

    /// Nobody needs the body any more: what comes of it is dropped.
    pub fn discard(&self) {
        self.forsake(self.lock());
    }

    fn forsake(&self, mut state: MutexGuard<'_, State>) {
        state.queue.clear();
        state.queued = 0;
        state.forsaken = true;
        let writers = state.writers.take();
        drop(state);
        writers.ring(&self.doorbell);
    }

    /// Whether the last octet has come, or never will.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    fn end(&self, mut state: MutexGuard<'_, State>, end: Result<(), Error>) {
        state.ended.get_or_insert(end);
        let writers = state.writers.take();
        wake_reader(state);
        writers.ring(&self.doorbell);
    }

    /// Whether the body has come whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.lock().ended, Some(Ok(())))
    }

    /// Asks for a ring once there is room; `false` where there is room already.
    pub fn park_writer(&self, key: usize) -> bool {
        let mut state = self.lock();
        if state.queued < CAPACITY || state.ended.is_some() {
            return false;
        }
        state.writers.add(key);
        true
    }

    /// Takes back a key that was left; `false` where it has been rung for.
    pub fn unpark_writer(&self, key: usize) -> bool {
        self.lock().writers.remove(key)
    }

    /// A reader from the start of the body, which makes earlier readers fail; `None` where the
    /// start is no longer kept.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let place = self.lock().replay.begin()?;
        Some(Reader {
            upload: Arc::clone(self),
            place,
            read: 0,
        })
    }
}

impl State {
    /// The next chunk, or a piece of it unless it is to come `whole`.
    fn next(&mut self, whole: bool) -> Option<Bytes> {
        let first = self.queue.front_mut()?;
        if first.len() > PIECE && !whole {
            let piece = first.split_to(PIECE);
            self.queued -= piece.len();
            return Some(piece);
        }
        let chunk = self.queue.pop_front()?;
        self.queued -= cost(&chunk);
        Some(chunk)
    }
}

fn wake_reader(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Drop for Reader {
    /// Where nobody can read on, the writer must not wait for that.
    fn drop(&mut self) {
        let mut state = self.upload.lock();
        if !state.replay.is_newest(&self.place) {
            return;
        }
        // It would keep the task's memory and its runtime's descriptors.
        let waker = state.reader.take();
        match self.upload.single {
            true => self.upload.forsake(state),
            false => drop(state),
        }
        drop(waker);
    }
}

/// The engine's end of an [`Upload`].
#[derive(Debug)]
pub struct Reader {
    upload: Arc<Upload>,
    place: Place,
    read: u64,
}

impl Reader {
    /// Whether all announced octets have been read, so that nobody will ask for the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.upload.length == Some(self.read)
    }

    /// The announced number of octets.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.upload.length
    }

    /// The next chunk; `None` at the end of a complete body.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let next = self.poll_chunk(context);
        if let Poll::Ready(Some(Ok(chunk))) = &next {
            self.read += chunk.len() as u64;
        }
        next
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut state = self.upload.lock();
        if let Some(again) = state.replay.again(&mut self.place).transpose() {
            return Poll::Ready(Some(again));
        }
        if let Some(chunk) = state.next(self.upload.single) {
            state.replay.keep(&mut self.place, &chunk);
            let writers = if state.queued < CAPACITY {
                state.writers.take()
            } else {
                Waiting::default()
            };
            drop(state);
            writers.ring(&self.upload.doorbell);
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &state.ended {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
