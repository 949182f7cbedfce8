//! The engine's thread: a single-threaded tokio runtime that the whole process shares.
//!
//! Jobs are handed over in batches, with one wake of the thread for many. Doorbells that are rung
//! there wake their event loops once the thread has looked at its sockets again and has nothing else
//! to do: one wake for many there, too. It starts with the first user and ends with the last one.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;

use super::deliver::{ExchangeMailbox, deliver, refuse};
use super::doorbell;
use super::packed::Packed;
use super::relay::{InFlight, Ongoing, Request};

/// Something to call on the engine's thread; it may spawn tasks.
pub type Call = Box<dyn FnOnce() + Send>;

/// Something to do on the engine's thread. What is frequent is no [`Call`], which is a block of
/// memory that one thread takes and another one gives back.
pub enum Job {
    /// A call.
    Call(Call),
    /// An exchange to be carried into its mailbox.
    Deliver(InFlight, Box<Request>, Arc<ExchangeMailbox>),
    /// The same for a request without a body, which is still to be prepared.
    Prepare(InFlight, Packed, Arc<ExchangeMailbox>),
    /// A task to be woken.
    Wake(Waker),
}

impl Job {
    fn run(self) {
        match self {
            Self::Call(call) => call(),
            Self::Deliver(in_flight, request, mailbox) => {
                tokio::spawn(deliver(in_flight, request, mailbox));
            }
            Self::Prepare(in_flight, packed, mailbox) => {
                let prepare = || packed.read(|inbound| in_flight.relay().prepare(inbound));
                // Nothing there panics; if something did, it would end the thread of all requests.
                match catch_unwind(AssertUnwindSafe(prepare)) {
                    Ok(Ok(request)) => Self::Deliver(in_flight, Box::new(request), mailbox).run(),
                    Ok(Err(bad)) => mailbox.publish(|contents| refuse(contents, &bad)),
                    Err(_) => Ongoing::cut(&*mailbox),
                }
            }
            Self::Wake(waker) => waker.wake(),
        }
    }
}

/// The name of the engine's threads.
pub const THREAD_NAME: &str = "asgi-relay";

/// How long a resolver that does not return may delay the end of the thread.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The running thread; dropping the last reference ends it.
#[derive(Debug)]
pub struct Runtime {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue(Mutex<Jobs>);

#[derive(Default)]
struct Jobs {
    waiting: Vec<Job>,
    waker: Option<Waker>,
    stopped: bool,
}

impl Runtime {
    /// Starts a thread.
    ///
    /// # Errors
    /// Where the system has no more threads or descriptors.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name(THREAD_NAME)
            .on_thread_park(before_park)
            .build()?;
        let queue = Arc::new(Queue::default());
        let jobs = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || {
                doorbell::hold_wakes();
                runtime.block_on(jobs.work());
                runtime.shutdown_timeout(LAST_WORDS);
                doorbell::release_wakes();
            })?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    /// The thread that `registry` knows, or a new one.
    ///
    /// # Errors
    /// As for [`Runtime::start`].
    pub fn shared(registry: &Registry) -> io::Result<Arc<Self>> {
        let mut current = registry.lock();
        if let Some(runtime) = current.upgrade() {
            return Ok(runtime);
        }
        let runtime = Arc::new(Self::start()?);
        *current = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    /// Has something called on the thread.
    pub fn submit(&self, call: Call) {
        self.enqueue(Job::Call(call));
        self.flush();
    }

    /// Has a job done at the next [`Runtime::flush`], or earlier: what comes together is done
    /// together, and the thread is woken once.
    pub fn enqueue(&self, job: Job) {
        self.queue.lock().waiting.push(job);
    }

    /// Wakes the thread for what has been enqueued.
    pub fn flush(&self) {
        wake(self.queue.lock());
    }

    /// Ends the thread and waits for it.
    pub fn stop(mut self) {
        self.tell_to_stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }

    fn tell_to_stop(&self) {
        let mut jobs = self.queue.lock();
        jobs.stopped = true;
        wake(jobs);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}

/// The thread has nothing to do.
fn before_park() {
    if doorbell::should_look() {
        // A task that yields has tokio look at its sockets without waiting for them.
        tokio::spawn(tokio::task::yield_now());
    } else {
        doorbell::release_wakes();
    }
}

fn wake(mut jobs: MutexGuard<'_, Jobs>) {
    let waker = jobs.waker.take();
    drop(jobs);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self) {
        poll_fn(|context| {
            let mut jobs = self.lock();
            if jobs.stopped {
                return Poll::Ready(());
            }
            let waiting = std::mem::take(&mut jobs.waiting);
            // Taken by the next submission, so that only that one pays for a wake.
            jobs.waker = Some(context.waker().clone());
            drop(jobs);
            for job in waiting {
                job.run();
            }
            Poll::Pending
        })
        .await;
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

/// Where the process' one runtime is found.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Weak<Runtime>>);

impl Registry {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Runtime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime that is running, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Runtime>> {
        self.lock().upgrade()
    }

    /// Forgets the runtime without touching it: in a forked child its thread does not exist.
    pub fn forget(&self) {
        std::mem::forget(std::mem::take(&mut *self.lock()));
    }
}
