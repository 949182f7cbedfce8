//! The tasks of an HTTP/2 connection's requests. One whose client grants its answer no room for too
//! long ends, and its target is free again; those beside it go on. What TCP holds up ends the whole
//! connection, which is its watch's to see.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::engine::timer::Timer;

/// For whom an answer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// It has handed something on, and is not asked for more before that is taken.
    Client,
    /// It has been asked for more than there is.
    Upstream,
}

thread_local! {
    /// What the answer of the task that is polled has said last.
    static SAID: Cell<Option<Waits>> = const { Cell::new(None) };
}

/// An answer tells the task that it is polled by.
pub(super) fn say(waits: Waits) {
    SAID.set(Some(waits));
}

/// Starts the tasks.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    /// How long a client may take nothing.
    pub(super) patience: Option<Duration>,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        match self.patience {
            None => drop(tokio::spawn(future)),
            Some(patience) => drop(tokio::spawn(Patient {
                future,
                patience,
                offered_at: None,
                timer: Timer::default(),
            })),
        }
    }
}

pin_project! {
    /// A request's task, which ends when its client takes nothing.
    struct Patient<F> {
        #[pin]
        future: F,
        patience: Duration,
        // Since when the client takes nothing of what it is offered.
        offered_at: Option<Instant>,
        timer: Timer,
    }
}

impl<F: Future<Output = ()>> Future for Patient<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        SAID.set(None);
        if this.future.poll(context).is_ready() {
            return Poll::Ready(());
        }
        match SAID.take() {
            Some(Waits::Client) => *this.offered_at = Some(Instant::now()),
            Some(Waits::Upstream) => *this.offered_at = None,
            None => {}
        }
        let due = this
            .offered_at
            .and_then(|at| at.checked_add(*this.patience));
        while let Some(due) = due {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            ready!(this.timer.poll_due(due, context));
        }
        Poll::Pending
    }
}
