//! A client's body on its way upstream, bounded in size and in time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::forward::clean_trailers;
use super::metrics::Counter;
use super::watch::Watch;
use crate::engine::error::{Error, Kind};
use crate::engine::relay::Relay;
use crate::engine::timer::Timer;

/// How long the last frame of a body may take whose octets have all come.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// What a client did wrong with its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// It is larger than allowed.
    TooLarge = 1,
    /// It stopped.
    TooSlow = 2,
    /// It is malformed, or the client left.
    Broken = 3,
}

/// What has become of a body, to be asked when its exchange is over.
#[derive(Debug, Default)]
pub struct Verdict {
    fault: AtomicU8,
    patient: AtomicBool,
    received: Counter,
}

impl Verdict {
    /// What went wrong, if anything did.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self.fault.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Fault::TooLarge),
            2 => Some(Fault::TooSlow),
            _ => Some(Fault::Broken),
        }
    }

    /// Octets of it that were read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// The body may take its time from now on: the answer has begun, and the two may be a
    /// conversation.
    pub fn be_patient(&self) {
        self.patient.store(true, Ordering::Release);
    }
}

/// The body. Until its end has been seen, its connection is not parked.
#[derive(Debug)]
pub struct Upload {
    /// Only `None` while dropping.
    incoming: Option<Incoming>,
    /// Octets that may still come.
    room: u64,
    idle: Option<Duration>,
    timer: Timer,
    verdict: Arc<Verdict>,
    watch: Arc<Watch>,
    /// Says which trailers pass.
    relay: Arc<Relay>,
    multiplexed: bool,
    ended: bool,
}

impl Upload {
    /// A body for `relay` of at most `most` octets, with at most `idle` between two of its pieces, in
    /// HTTP/2 where it is `multiplexed`.
    #[must_use]
    pub fn new(
        incoming: Incoming,
        most: Option<u64>,
        idle: Option<Duration>,
        watch: Arc<Watch>,
        relay: Arc<Relay>,
        multiplexed: bool,
    ) -> Self {
        watch.upload(true);
        Self {
            incoming: Some(incoming),
            room: most.unwrap_or(u64::MAX),
            idle,
            timer: Timer::default(),
            verdict: Arc::default(),
            watch,
            relay,
            multiplexed,
            ended: false,
        }
    }

    /// To be asked later what went wrong.
    #[must_use]
    pub fn verdict(&self) -> Arc<Verdict> {
        Arc::clone(&self.verdict)
    }

    fn fail(&mut self, fault: Fault) -> Error {
        self.verdict.fault.store(fault as u8, Ordering::Release);
        let detail = match fault {
            Fault::TooLarge => "the client's body is too large",
            Fault::TooSlow => "the client's body stopped",
            Fault::Broken => "the client's body broke off",
        };
        Error::new(Kind::Abandoned, detail)
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        if self.verdict.patient.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let rings = self.timer.poll_after(idle, context);
        rings.map(|()| self.fail(Fault::TooSlow))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let Poll::Ready(next) = Pin::new(&mut *incoming).poll_frame(context) else {
            return this.poll_idle(context).map(|error| Some(Err(error)));
        };
        this.timer.clear();
        Poll::Ready(match next {
            // hyper takes a reset without an error for the end.
            None if this.multiplexed && !incoming.is_end_stream() => {
                Some(Err(this.fail(Fault::Broken)))
            }
            None => {
                this.ended = true;
                None
            }
            Some(Err(_)) => Some(Err(this.fail(Fault::Broken))),
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers, &this.relay);
                }
                let size = frame.data_ref().map_or(0, |chunk| chunk.len() as u64);
                this.verdict.received.add(size);
                match this.room.checked_sub(size) {
                    Some(room) => this.room = room,
                    None => return Poll::Ready(Some(Err(this.fail(Fault::TooLarge)))),
                }
                this.ended = incoming.is_end_stream();
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let incoming = self.incoming.as_ref();
        incoming.map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.watch.upload(false);
            return;
        }
        let whole = self.size_hint().exact() == Some(0);
        match (self.incoming.take(), Handle::try_current()) {
            (Some(incoming), Ok(runtime)) if whole => {
                runtime.spawn(timeout(LAST_FRAME, end_of(incoming)));
            }
            _ => self.watch.leave_unread(),
        }
    }
}

/// Waits for the end of a body whose octets have all come: in HTTP/2 that may be a frame of its
/// own, and a client whose stream is reset before it takes that for a failure (RFC 9113 §8.1).
async fn end_of(mut incoming: Incoming) {
    while poll_fn(|context| Pin::new(&mut incoming).poll_frame(context))
        .await
        .is_some_and(|frame| frame.is_ok())
    {}
}
