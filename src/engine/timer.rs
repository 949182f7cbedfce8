//! A timer that is set anew as seldom as possible.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is made when it is first needed.
pub type Timer = Option<Pin<Box<Sleep>>>;

/// Waits until `due`, which may be another time at each call. A timer that rings too early is
/// cheaper than one that is set anew with each octet, so whoever is woken looks at the clock.
pub fn poll_due(timer: &mut Timer, due: Instant, context: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if timer.deadline() > due || timer.is_elapsed() {
        timer.as_mut().reset(due);
    }
    timer.as_mut().poll(context)
}
