//! Sockets that an event loop watches itself: one for each loop, of the sessions whose small messages
//! its thread reads.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use super::direct::Direct;
use crate::engine::slots::Slots;

/// Sockets of which the system tells at once.
const EVENTS: usize = 128;

/// What an event loop watches by one descriptor.
pub struct Lookout {
    /// Asked by the event loop's thread alone.
    poll: Mutex<(Poll, Events)>,
    /// Readable when there is something to look at.
    number: RawFd,
    registry: Registry,
    watched: Mutex<Slots<Arc<Direct>>>,
}

impl Lookout {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// Where the process may have no more descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        Ok(Arc::new(Self {
            number: poll.as_raw_fd(),
            poll: Mutex::new((poll, Events::with_capacity(EVENTS))),
            registry,
            watched: Mutex::default(),
        }))
    }

    /// The descriptor for the event loop to watch: as long as it is readable, [`Lookout::look`] is to be
    /// called.
    pub const fn fileno(&self) -> RawFd {
        self.number
    }

    /// Has all those read whose sockets have something; never waits.
    pub fn look(&self) {
        let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        let (poll, events) = &mut *poll;
        // Whatever is wrong: it is readable still, and tried again.
        let _ = poll.poll(events, Some(Duration::ZERO));
        for event in &*events {
            let direct = self.lock().get(event.token().0).cloned();
            if let Some(direct) = direct {
                direct.receive(event.is_read_closed() || event.is_error());
            }
        }
    }

    /// A place for a session's socket, for [`Lookout::begin`].
    pub(super) fn reserve(self: &Arc<Self>, direct: &Arc<Direct>, socket: RawFd) -> Watch {
        let number = self.lock().insert(Arc::clone(direct));
        Watch {
            lookout: Arc::clone(self),
            place: Place { number, socket },
        }
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// Where the system watches too many already.
    pub(super) fn begin(&self, place: Place) -> io::Result<()> {
        let mut socket = SourceFd(&place.socket);
        self.registry
            .register(&mut socket, Token(place.number), Interest::READABLE)
    }

    fn lock(&self) -> MutexGuard<'_, Slots<Arc<Direct>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Lookout {
    /// How many sockets it watches.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Waits until one of them has something, and leaves that alone.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        let (poll, events) = &mut *poll;
        poll.poll(events, Some(Duration::from_secs(20)))
    }
}

impl fmt::Debug for Lookout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookout")
    }
}

/// A socket, and the number of its session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    number: usize,
    socket: RawFd,
}

/// A session's place in a lookout, until this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    lookout: Arc<Lookout>,
    place: Place,
}

impl Watch {
    pub(super) const fn place(&self) -> Place {
        self.place
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Place { number, socket } = self.place;
        // One that was never watched is not there.
        let _ = self.lookout.registry.deregister(&mut SourceFd(&socket));
        let direct = self.lookout.lock().remove(number);
        drop(direct);
    }
}
