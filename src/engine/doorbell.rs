//! Doorbells: how the engine wakes an event loop, once for many who wait there. No octet of Python
//! here.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// With this many keys waiting, a loop is woken even if the engine is still busy.
const HELD_WAKES: usize = 16;

thread_local! {
    /// Doorbells whose loops are to be woken once this thread has nothing else to do; `None` on
    /// threads that do not hold wakes back.
    static HELD: RefCell<Option<Vec<Arc<DoorbellInner>>>> = const { RefCell::new(None) };
    /// The thread has looked once more.
    static LOOKED: Cell<bool> = const { Cell::new(false) };
    /// The thread is the loop's own.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something on the thread of the loop whose doorbell alone may be rung meanwhile: it need not be
/// woken, and asks for the keys by itself.
pub fn quietly(work: impl FnOnce()) {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            QUIET.set(false);
        }
    }
    let _loud = Loud;
    QUIET.set(true);
    work();
}

/// Whether this thread should look once more for something to do, before it rings: what is ready by
/// then goes with the same ring.
pub fn should_look() -> bool {
    let holds = HELD.with_borrow(|held| held.as_ref().is_some_and(|held| !held.is_empty()));
    holds && !LOOKED.replace(true)
}

/// From now on this thread holds back wakes until [`release_wakes`].
pub fn hold_wakes() {
    HELD.with_borrow_mut(|held| *held = Some(Vec::new()));
}

/// Wakes the loops whose doorbells were rung on this thread.
pub fn release_wakes() {
    LOOKED.set(false);
    HELD.with_borrow_mut(|held| {
        for doorbell in held.iter_mut().flat_map(|held| held.drain(..)) {
            (doorbell.wake)();
        }
    });
}

/// The queue of one event loop: keys of those to be woken.
#[derive(Clone)]
pub struct Doorbell {
    inner: Arc<DoorbellInner>,
}

struct DoorbellInner {
    keys: Mutex<Vec<usize>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Doorbell {
    /// `wake` makes the loop call [`Doorbell::answer`]; it is called from any thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let inner = DoorbellInner {
            keys: Mutex::new(Vec::new()),
            wake: Box::new(wake),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Queues a key, if there is one.
    pub fn ring(&self, key: Option<usize>) {
        let Some(key) = key else { return };
        let mut keys = self
            .inner
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.push(key);
        let waiting = keys.len();
        drop(keys);
        if QUIET.get() {
            return;
        }
        if waiting == 1 && !self.hold() || waiting == HELD_WAKES {
            (self.inner.wake)();
        }
    }

    /// Leaves the wake to [`release_wakes`], on a thread that will come to it.
    fn hold(&self) -> bool {
        HELD.with_borrow_mut(|held| {
            let held = held.as_mut();
            held.map(|held| held.push(Arc::clone(&self.inner)))
                .is_some()
        })
    }

    /// Takes all keys that were queued.
    #[must_use]
    pub fn answer(&self) -> Vec<usize> {
        let mut keys = self
            .inner
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *keys)
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doorbell")
    }
}

/// The keys of those who wait; in all but in-process calls there is at most one.
#[derive(Debug, Default)]
pub struct Waiting {
    pub(super) first: Option<usize>,
    rest: Vec<usize>,
}

impl Waiting {
    /// One more waits.
    pub fn add(&mut self, key: usize) {
        match self.first {
            None => self.first = Some(key),
            Some(first) if first == key || self.rest.contains(&key) => {}
            Some(_) => self.rest.push(key),
        }
    }

    /// One waits no longer; `false` where it did not wait.
    pub fn remove(&mut self, key: usize) -> bool {
        let before = self.rest.len();
        self.rest.retain(|other| *other != key);
        if self.first == Some(key) {
            self.first = self.rest.pop();
            return true;
        }
        self.rest.len() < before
    }

    /// All of them; nobody waits any more.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Wakes them.
    pub fn ring(self, doorbell: &Doorbell) {
        doorbell.ring(self.first);
        for key in self.rest {
            doorbell.ring(Some(key));
        }
    }
}
