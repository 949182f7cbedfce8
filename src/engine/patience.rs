//! Notes which exchanges take long.
//!
//! All of them are given the same time, so one timer serves a queue of them. One of tokio's timers
//! for each would write to the engine's own wake descriptor for nearly each: that is what it does
//! for a timer which is due before all that it knew when the thread went to sleep.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::deliver::ExchangeMailbox;
use super::report::{Note, Observer};

/// An exchange that is not over by then is worth watching: the client may leave.
pub const SLOW: Duration = Duration::from_millis(30);

#[derive(Default)]
struct Queue {
    /// Those that have begun within the last [`SLOW`], the oldest first.
    young: VecDeque<(Instant, Weak<ExchangeMailbox>)>,
    /// There is a task for them.
    watched: bool,
}

thread_local! {
    static QUEUE: RefCell<Queue> = RefCell::default();
}

/// Has [`Note::Slow`] published if the exchange is not over in time.
pub(super) fn watch(mailbox: &Arc<ExchangeMailbox>) {
    let entry = (Instant::now() + SLOW, Arc::downgrade(mailbox));
    let watched = QUEUE.with_borrow_mut(|queue| {
        queue.young.push_back(entry);
        std::mem::replace(&mut queue.watched, true)
    });
    if !watched {
        tokio::spawn(work(Watching));
    }
}

async fn work(watching: Watching) {
    while let Some(due) = next_due() {
        sleep_until(due).await;
    }
    drop(watching);
}

/// Publishes what is due; returns when the next one is.
fn next_due() -> Option<Instant> {
    let now = Instant::now();
    loop {
        let (due, mailbox) = QUEUE.with_borrow_mut(|queue| {
            let (due, mailbox) = queue.young.front()?;
            let (due, mailbox) = (*due, mailbox.upgrade().filter(|mailbox| !mailbox.is_over()));
            if due <= now || mailbox.is_none() {
                queue.young.pop_front();
            }
            Some((due, mailbox))
        })?;
        match mailbox {
            Some(_) if due > now => return Some(due),
            Some(mailbox) => mailbox.note(Note::Slow),
            None => {}
        }
    }
}

/// The task's end, be it that of its runtime.
struct Watching;

impl Drop for Watching {
    fn drop(&mut self) {
        // It fails where the thread has ended, and its queue with it.
        let _ = QUEUE.try_with(|queue| queue.take());
    }
}
