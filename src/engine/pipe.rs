//! A bounded pipe of items from the event loop to one reader in the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::doorbell::{Doorbell, Waiting};
use super::mailbox::{CHUNK_COST, Item};

/// Octets that wait in a pipe before its writer has to pause.
pub const CAPACITY: usize = 128 * 1024;

/// What an item counts for: many small ones must not be free.
pub fn cost(item: &impl Item) -> usize {
    item.size() + CHUNK_COST
}

/// The pipe. Clones of the `Arc` are its two ends.
#[derive(Debug)]
pub struct Pipe<T> {
    state: Mutex<State<T>>,
    doorbell: Doorbell,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    queued: usize,
    ended: bool,
    reader: Option<Waker>,
    writers: Waiting,
}

impl<T: Item> Pipe<T> {
    /// An empty pipe whose writers are woken through `doorbell`.
    #[must_use]
    pub fn new(doorbell: Doorbell) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            ended: false,
            reader: None,
            writers: Waiting::default(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            doorbell,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in; returns whether there is room for more, and the reader where it waits: to
    /// be woken by the caller, who may have others to wake with it.
    #[must_use]
    pub fn push(&self, item: T) -> (bool, Option<Waker>) {
        let mut state = self.lock();
        if state.ended {
            return (true, None);
        }
        state.queued += cost(&item);
        state.queue.push_back(item);
        (state.queued < CAPACITY, state.reader.take())
    }

    /// Whether nothing waits in it, and more may be put in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && !state.ended
    }

    /// The reader where it waits: to be woken by the caller, for another reason than an item.
    #[must_use]
    pub fn reader(&self) -> Option<Waker> {
        self.lock().reader.take()
    }

    /// Nothing comes behind `last`; `false` where the pipe had ended already.
    pub fn end(&self, last: T) -> bool {
        let mut state = self.lock();
        if state.ended {
            return false;
        }
        state.ended = true;
        state.queue.push_back(last);
        wake(state);
        true
    }

    /// Drops what waits, and whatever comes: nobody reads on, and no writer must wait for that.
    pub fn close(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.queue = VecDeque::new();
        state.queued = 0;
        // The reader's waker would keep its task's memory and its runtime's descriptors.
        let (writers, reader) = (state.writers.take(), state.reader.take());
        drop(state);
        drop(reader);
        writers.ring(&self.doorbell);
    }

    /// Whether the last item has been put in, or nobody reads on.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Asks for a ring once there is room; `false` where there is room already.
    pub fn park_writer(&self, key: usize) -> bool {
        let mut state = self.lock();
        if state.queued < CAPACITY || state.ended {
            return false;
        }
        state.writers.add(key);
        true
    }

    /// Takes back a key that was left; `false` where it has been rung for.
    pub fn unpark_writer(&self, key: usize) -> bool {
        self.lock().writers.remove(key)
    }

    /// The next item, and whether there are more; if not, the task is woken when there are.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<(T, bool)> {
        let mut state = self.lock();
        let item = state.queue.pop_front();
        let more = !state.queue.is_empty();
        if !more {
            match &mut state.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        let Some(item) = item else {
            return Poll::Pending;
        };
        state.queued = state.queued.saturating_sub(cost(&item));
        let writers = if state.queued < CAPACITY {
            state.writers.take()
        } else {
            Waiting::default()
        };
        drop(state);
        writers.ring(&self.doorbell);
        Poll::Ready((item, more))
    }
}

fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;

    use super::*;

    struct Alarm(AtomicUsize);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(pipe: &Pipe<Bytes>, item: &'static [u8]) {
        if let (_, Some(reader)) = pipe.push(Bytes::from_static(item)) {
            reader.wake();
        }
    }

    #[test]
    fn who_has_the_last_item_is_woken_for_the_next() {
        let pipe = Pipe::new(Doorbell::new(|| {}));
        let alarm = Arc::new(Alarm(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&alarm));
        let mut context = Context::from_waker(&waker);
        put(&pipe, b"a");
        put(&pipe, b"b");
        assert_eq!(
            pipe.poll_next(&mut context),
            Poll::Ready(("a".into(), true))
        );
        put(&pipe, b"c");
        assert_eq!(
            pipe.poll_next(&mut context),
            Poll::Ready(("b".into(), true))
        );
        assert_eq!(
            pipe.poll_next(&mut context),
            Poll::Ready(("c".into(), false))
        );
        assert_eq!(alarm.0.load(Ordering::Relaxed), 0);
        put(&pipe, b"d");
        put(&pipe, b"e");
        assert_eq!(alarm.0.load(Ordering::Relaxed), 1);
    }
}
