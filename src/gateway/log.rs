//! The access log and the log of events: written by a thread of its own, from a bounded queue, so
//! that a slow disk delays no request. What does not fit into the queue is dropped and counted.

pub(super) mod entry;
mod line;
mod sink;

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use self::sink::Sink;
use super::account::Side;
use super::config::settings::{AccessLog, LogFormat};
use super::plan::PlanError;
use crate::engine::balance::outcome::Change;
use crate::engine::report::Event;

/// Lines that wait for the thread at most.
const QUEUE: usize = 8192;

/// Octets that these take at most.
const QUEUED: usize = 16 * 1024 * 1024;

/// Octets that are written at once at most.
const BATCH: usize = 64 * 1024;

/// How long the last lines may take at the end: whoever reads them may have stopped doing so.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How requests are written, and where to.
type Opened = Option<(LogFormat, Sink)>;

/// What is known of a request.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it came.
    pub at: SystemTime,
    /// The client's address, or nothing.
    pub client: String,
    /// The method.
    pub method: String,
    /// Path and query, the query's values left out.
    pub target: String,
    /// As in `HTTP/1.1`; empty where there was no head to be read.
    pub version: &'static str,
    /// What the client asked for.
    pub host: String,
    /// Without the values of its query.
    pub referer: String,
    /// The client's program.
    pub user_agent: String,
    /// Goes upstream, too.
    pub request_id: String,
    /// The route's path.
    pub route: String,
    /// The URL of the target of the last try; empty where there was none.
    pub upstream: String,
    /// The answer's status; 499 where the client left before.
    pub status: u16,
    /// Octets of the answer's body.
    pub sent: u64,
    /// To the end of the answer.
    pub time: Duration,
    /// To its head.
    pub first_byte: Option<Duration>,
    /// Where the answer was not complete, the side that ended first.
    pub cut_short: Option<Side>,
}

/// Something happened to a request.
#[derive(Debug)]
pub struct Told {
    /// What.
    pub event: Event,
    /// To which.
    pub request_id: String,
}

/// A target's state has changed.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Which target's, and how.
    pub change: Change,
    /// The route that it is a target of.
    pub route: String,
    /// As which worker sees it; `None` where there is but one.
    pub worker: Option<usize>,
}

/// Boxed: the queue has room for all of them from the beginning.
enum Item {
    Request(Box<Entry>),
    Event(SystemTime, Box<Told>),
    Changed(SystemTime, Box<Changed>),
    /// There are [`Orders`].
    Orders,
}

impl Item {
    /// Octets that it takes while it waits, beside its place in the queue.
    fn size(&self) -> usize {
        match self {
            Self::Request(entry) => {
                let texts = [
                    &entry.client,
                    &entry.method,
                    &entry.target,
                    &entry.host,
                    &entry.referer,
                    &entry.user_agent,
                    &entry.request_id,
                    &entry.route,
                    &entry.upstream,
                ];
                texts.map(String::capacity).iter().sum::<usize>() + size_of::<Entry>()
            }
            Self::Event(_, told) => {
                let Told { event, request_id } = &**told;
                let error = event.error.as_ref().map_or(0, String::capacity);
                event.url.capacity() + error + request_id.capacity() + size_of::<Told>()
            }
            Self::Changed(..) => size_of::<Changed>(),
            Self::Orders => 0,
        }
    }
}

/// Where requests and events are written to; a cheap clone.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: SyncSender<Item>,
    /// Octets in the queue.
    queued: AtomicUsize,
    dropped: AtomicU64,
    orders: Mutex<Orders>,
    /// The queue had no room to tell of them.
    overdue: AtomicBool,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Orders {
    /// From now on the access log is written so.
    settings: Option<Opened>,
    stop: bool,
}

impl Inner {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        let untold = || self.queue.try_send(Item::Orders).is_err();
        if untold() {
            self.overdue.store(true, Ordering::SeqCst);
            // Where there is still no room the thread has something to write, and looks behind it.
            untold();
        }
    }

    /// Takes them; whether the thread is to stop.
    fn obey(&self, settings: &mut Opened) -> bool {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = orders.settings.take() {
            let before = std::mem::replace(settings, new);
            if let (Some((_, sink)), Some((_, before))) = (settings, before) {
                sink.go_on_from(before);
            }
        }
        orders.stop
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Item")
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    log: Log,
    /// Disconnected when it has ended.
    over: Mutex<Receiver<()>>,
}

/// Opens what an access log is written to; nothing waits for whoever reads it.
///
/// # Errors
/// [`PlanError::Log`].
pub fn open(settings: Option<&AccessLog>) -> Result<Opened, PlanError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let open =
        |path: &Path| Sink::open(path).map_err(|error| PlanError::Log(path.to_owned(), error));
    let sink = settings.path.as_deref().map(open).transpose()?;
    Ok(Some((settings.format, sink.unwrap_or_default())))
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no more threads.
    pub fn start() -> io::Result<Self> {
        let (log, items) = Log::new();
        let (running, over) = channel();
        let inner = Arc::clone(&log.0);
        std::thread::Builder::new()
            .name("asgi-relay-log".to_owned())
            .spawn(move || {
                write_all(&items, &inner);
                drop(running);
            })?;
        Ok(Self {
            log,
            over: Mutex::new(over),
        })
    }

    /// Where to write to.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Writes requests so from now on; `None` not at all.
    pub fn configure(&self, opened: Opened) {
        self.log.0.order(|orders| orders.settings = Some(opened));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.0.order(|orders| orders.stop = true);
        let over = self.over.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _: Result<(), _> = over.recv_timeout(LAST_LINES);
    }
}

impl Log {
    /// An empty one, with what its thread reads.
    fn new() -> (Self, Receiver<Item>) {
        let (queue, items) = sync_channel(QUEUE);
        let inner = Inner {
            queue,
            queued: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            orders: Mutex::default(),
            overdue: AtomicBool::new(false),
        };
        (Self(Arc::new(inner)), items)
    }

    fn put(&self, item: Item) {
        let size = item.size();
        let queued = &self.0.queued;
        let room = queued.fetch_add(size, Ordering::Relaxed) + size <= QUEUED;
        if !room || matches!(self.0.queue.try_send(item), Err(TrySendError::Full(_))) {
            queued.fetch_sub(size, Ordering::Relaxed);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a request.
    pub fn write(&self, entry: Entry) {
        self.put(Item::Request(Box::new(entry)));
    }

    /// Writes an event, to standard error.
    pub fn event(&self, told: Told) {
        self.put(Item::Event(SystemTime::now(), Box::new(told)));
    }

    /// Writes a change of a target's state, to standard error.
    pub fn changed(&self, changed: Changed) {
        self.put(Item::Changed(SystemTime::now(), Box::new(changed)));
    }

    /// Lines that were dropped because the thread could not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

fn write_all(items: &Receiver<Item>, inner: &Inner) {
    let mut settings = None;
    let mut lines = Vec::new();
    let mut events = Vec::new();
    let mut stop = false;
    loop {
        let next = match stop {
            true => items.try_recv().ok(),
            false => items.recv().ok(),
        };
        let Some(mut item) = next else {
            return;
        };
        loop {
            inner.queued.fetch_sub(item.size(), Ordering::Relaxed);
            match item {
                Item::Orders => {
                    flush(&mut settings, &mut lines, &mut events, inner);
                    stop |= inner.obey(&mut settings);
                }
                Item::Event(at, told) => line::event(&mut events, at, &told),
                Item::Changed(at, changed) => line::changed(&mut events, at, &changed),
                Item::Request(entry) => {
                    if let Some((format, _)) = &settings {
                        line::request(&mut lines, *format, &entry);
                    }
                }
            }
            if lines.len() + events.len() >= BATCH {
                break;
            }
            match items.try_recv() {
                Ok(next) => item = next,
                Err(_) => break,
            }
        }
        flush(&mut settings, &mut lines, &mut events, inner);
        if inner.overdue.swap(false, Ordering::SeqCst) {
            stop |= inner.obey(&mut settings);
        }
    }
}

/// Writes what has been gathered. What cannot be written is counted; there is nowhere else to say so.
fn flush(settings: &mut Opened, lines: &mut Vec<u8>, events: &mut Vec<u8>, inner: &Inner) {
    if let Some((_, sink)) = settings
        && !lines.is_empty()
    {
        inner
            .dropped
            .fetch_add(sink.write(lines), Ordering::Relaxed);
    }
    lines.clear();
    if !events.is_empty() {
        let _ = io::stderr().lock().write_all(events);
        events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: String) -> Told {
        let event = Event {
            name: "upstream_error",
            url,
            attempt: None,
            status: None,
            error: None,
        };
        Told {
            event,
            request_id: String::new(),
        }
    }

    #[test]
    fn what_waits_is_bounded_by_the_room_it_takes() {
        let (log, _items) = Log::new();
        const EACH: usize = 1024 * 1024;
        for _ in 0..QUEUED / EACH {
            // As what is put together has more room than it fills.
            log.event(told(String::with_capacity(EACH - size_of::<Told>())));
        }
        assert_eq!(log.dropped(), 0);
        log.event(told("http://a".to_owned()));
        assert_eq!(log.dropped(), 1);
    }
}
