//! A timer that is set anew as seldom as possible, and tells nobody to be late whose octets wait.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A timer that is made when it is first needed.
///
/// It rings once the runtime has looked at its sockets behind the time: where the thread stood still,
/// on a machine that is busy or a process that was stopped, what has come meanwhile is read first.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The time has come.
    look: Option<Arc<Look>>,
}

/// The runtime's next look at its sockets.
#[derive(Debug)]
struct Look {
    is_over: AtomicBool,
    task: Waker,
}

impl Look {
    fn begin(context: &Context<'_>) -> Arc<Self> {
        let look = Arc::new(Self {
            is_over: AtomicBool::new(false),
            task: context.waker().clone(),
        });
        // A task that yields is woken behind it.
        let waker = Waker::from(Arc::clone(&look));
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        look
    }
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Timer {
    /// Waits until `due`, which may be another time at each call. A timer that rings too early is
    /// cheaper than one that is set anew with each octet, so whoever is woken looks at the clock.
    pub fn poll_due(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        let is_other = match sleep.is_elapsed() {
            true => Instant::now() < due,
            false => due < sleep.deadline(),
        };
        if is_other {
            sleep.as_mut().reset(due);
        }
        poll(sleep.as_mut(), &mut self.look, context)
    }

    /// Waits for so long, from the first call on.
    pub fn poll_after(&mut self, time: Duration, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(time)));
        poll(sleep.as_mut(), &mut self.look, context)
    }

    /// Whether anything has been waited for since it was last cleared.
    pub const fn has_begun(&self) -> bool {
        self.sleep.is_some()
    }

    /// The timer for another task, of which the one before is forgotten.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let sleep = self.sleep.take();
        Self { sleep, look: None }
    }

    /// What was waited for has come.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn poll(
    sleep: Pin<&mut Sleep>,
    look: &mut Option<Arc<Look>>,
    context: &mut Context<'_>,
) -> Poll<()> {
    if sleep.poll(context).is_pending() {
        *look = None;
        return Poll::Pending;
    }
    match look.take() {
        Some(begun) if begun.is_over.load(Ordering::Acquire) => return Poll::Ready(()),
        // The task may be woken for other reasons before.
        Some(begun) if begun.task.will_wake(context.waker()) => *look = Some(begun),
        _ => *look = Some(Look::begin(context)),
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;
    use std::task::ready;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_has_come_by_then_is_read_first() -> io::Result<()> {
        let (mut near, far) = UnixStream::pair()?;
        let due = Instant::now() + LIMIT;
        // It comes when the runtime has seen that the time is over, and has not looked again.
        let writing = tokio::spawn(async move {
            sleep_until(due).await;
            far.try_write(b"x").map(|_| far)
        });
        let mut timer = Timer::default();
        let mut reading = pin!(near.read_u8());
        let read = poll_fn(|context| {
            if let Poll::Ready(read) = reading.as_mut().poll(context) {
                return Poll::Ready(read.map(Some));
            }
            ready!(timer.poll_due(due, context));
            Poll::Ready(Ok(None))
        });
        assert_eq!(read.await?, Some(b'x'));
        writing.await??;
        Ok(())
    }

    #[tokio::test]
    async fn it_rings_though_what_is_due_is_always_now() {
        let due = Instant::now() + LIMIT;
        let mut timer = Timer::default();
        poll_fn(|context| timer.poll_due(due.max(Instant::now()), context)).await;
        assert!(Instant::now() >= due);
    }
}
