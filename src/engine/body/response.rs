//! A response's body on its way from hyper, or from an upstream in this process.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::engine::error::{Error, Kind};
use crate::engine::timer::Timer;
use crate::engine::upload::Reader;
use crate::engine::upstream::failure;
use crate::engine::upstream::lease::Lease;
use crate::engine::upstream::memory::Guard;
use crate::engine::upstream::socket::Socket;

/// Octets of a body that may be expected together with its head.
const SHORT: u64 = 16 * 1024;
/// How long the head waits for it.
const RIGHT_BEHIND: Duration = Duration::from_millis(5);

/// A response's body, read with an idle timeout.
#[derive(Debug)]
pub struct ResponseBody {
    content: ResponseContent,
    /// What has been read ahead; boxed, as streams, which stay, have none.
    first: Option<Box<Ahead>>,
    idle: Option<Duration>,
    timer: Timer,
}

#[derive(Debug)]
struct Ahead {
    frame: Result<Frame<Bytes>, Error>,
    next: Option<Box<Self>>,
}

impl Ahead {
    fn of(frame: Result<Frame<Bytes>, Error>, next: Option<Box<Self>>) -> Option<Box<Self>> {
        Some(Box::new(Self { frame, next }))
    }
}

#[derive(Debug)]
enum ResponseContent {
    Ended,
    /// From a connection, which goes back to its pool after the last octet.
    Http {
        incoming: Incoming,
        lease: Lease,
    },
    /// From an upstream in this process.
    Memory {
        reader: Reader,
        _guard: Guard,
    },
}

impl ResponseBody {
    /// A body that comes over a connection; `idle` bounds the wait for each chunk.
    #[must_use]
    pub fn http(incoming: Incoming, lease: Lease, idle: Option<Duration>) -> Self {
        let content = if incoming.is_end_stream() {
            lease.give_back();
            ResponseContent::Ended
        } else {
            ResponseContent::Http { incoming, lease }
        };
        Self {
            content,
            first: None,
            idle,
            timer: Timer::default(),
        }
    }

    /// No body at all.
    #[must_use]
    pub fn ended() -> Self {
        Self {
            content: ResponseContent::Ended,
            first: None,
            idle: None,
            timer: Timer::default(),
        }
    }

    /// A body that an upstream in this process writes.
    #[must_use]
    pub fn memory(reader: Reader, guard: Guard, idle: Option<Duration>) -> Self {
        Self {
            content: ResponseContent::Memory {
                reader,
                _guard: guard,
            },
            first: None,
            idle,
            timer: Timer::default(),
        }
    }

    /// Waits a moment for a short body that a server sends right behind its head, as many do in
    /// two writes: the client gets both at once, and a failure between them can still be retried.
    pub async fn read_ahead(&mut self) {
        let short = match &self.content {
            ResponseContent::Http { incoming, .. } => incoming.size_hint().upper(),
            _ => None,
        };
        if short.is_some_and(|length| length <= SHORT) {
            let mut timer = None;
            let next = poll_fn(|context| match self.poll_frame(context) {
                Poll::Pending => {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep(RIGHT_BEHIND)));
                    timer.as_mut().poll(context).map(|()| None)
                }
                there => there,
            });
            self.first = next.await.and_then(|next| Ahead::of(next, None));
        }
    }

    /// The failure that [`ResponseBody::read_ahead`] has met.
    pub fn failed_ahead(&mut self) -> Option<Error> {
        let failed = self.first.take_if(|first| first.frame.is_err())?;
        failed.frame.err()
    }

    /// Reads the rest, as long as it is no more than about `most` octets and comes within `time`,
    /// so that its connection can be kept although nobody may see it. Whoever reads on has all of
    /// it.
    pub async fn gather(&mut self, most: usize, time: Duration) {
        let (mut octets, mut behind) = (BytesMut::new(), None);
        let reading = async {
            while octets.len() <= most {
                let Some(next) = poll_fn(|context| self.poll_frame(context)).await else {
                    return;
                };
                match next.map(Frame::into_data) {
                    Ok(Ok(data)) => octets.extend_from_slice(&data),
                    Ok(Err(trailers)) => behind = Ahead::of(Ok(trailers), None),
                    Err(error) => behind = Ahead::of(Err(error), None),
                }
            }
        };
        let _ = timeout(time, reading).await;
        self.first = match octets.is_empty() {
            true => behind,
            false => Ahead::of(Ok(Frame::data(octets.freeze())), behind),
        };
    }

    /// The next chunk; `None` at the end of a complete body. Trailers have no place in ASGI: they
    /// end here.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let frame = match ready!(self.poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            if let Ok(data) = frame.into_data() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    /// The next chunk, or the trailers; `None` at the end of a complete body.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            let Ahead { frame, next } = *first;
            self.first = next;
            return Poll::Ready(Some(frame));
        }
        let next = match &mut self.content {
            ResponseContent::Ended => return Poll::Ready(None),
            ResponseContent::Http { incoming, .. } => Pin::new(incoming)
                .poll_frame(context)
                .map_err(|error| failure::body(&error)),
            ResponseContent::Memory { reader, .. } => reader.poll_next(context).map_ok(Frame::data),
        };
        let Poll::Ready(next) = next else {
            return self.poll_idle(context).map(|error| Some(Err(error)));
        };
        let next = match next {
            None if self.is_cut() => Some(Err(failure::reset())),
            next => next,
        };
        self.timer.clear();
        match (&next, &self.content) {
            (None, _) => self.end(),
            (Some(Ok(_)), ResponseContent::Http { incoming, .. }) if incoming.is_end_stream() => {
                self.end();
            }
            (Some(Err(_)), _) => self.content = ResponseContent::Ended,
            _ => {}
        }
        Poll::Ready(next)
    }

    /// Whether its stream has been reset, where hyper has it end: a reset without an error is for
    /// what is left of the request, once the response is whole (RFC 9113 §8.1).
    fn is_cut(&self) -> bool {
        match &self.content {
            ResponseContent::Http { incoming, lease } => {
                lease.is_multiplexed() && !incoming.is_end_stream()
            }
            _ => false,
        }
    }

    /// The socket that it comes over.
    fn socket(&self) -> Option<&Socket> {
        match &self.content {
            ResponseContent::Http { lease, .. } => lease.socket(),
            _ => None,
        }
    }

    /// Nobody takes anything at the moment: has nothing read ahead until [`ResponseBody::release`],
    /// and does not count that time as the upstream's silence.
    pub fn hold(&mut self) {
        self.timer.clear();
        if let Some(socket) = self.socket() {
            socket.hold();
        }
    }

    /// There is room again.
    pub fn release(&self) {
        if let Some(socket) = self.socket() {
            socket.release();
        }
    }

    /// The body is complete: its connection may serve the next request.
    fn end(&mut self) {
        let content = std::mem::replace(&mut self.content, ResponseContent::Ended);
        if let ResponseContent::Http { lease, .. } = content {
            lease.give_back();
        }
    }

    /// Whether the last chunk has been read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.has_come() && self.first.is_none()
    }

    /// Whether all of it has come, though it may not have been read yet.
    #[must_use]
    pub const fn has_come(&self) -> bool {
        matches!(self.content, ResponseContent::Ended)
    }

    /// Whether every octet of it has been read, though its end may not have been seen.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.first.is_none()
            && match &self.content {
                ResponseContent::Ended => true,
                ResponseContent::Http { incoming, .. } => incoming.size_hint().exact() == Some(0),
                ResponseContent::Memory { .. } => false,
            }
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        ready!(self.timer.poll_after(idle, context));
        self.content = ResponseContent::Ended;
        Poll::Ready(Error::new(
            Kind::ReadTimeout,
            "the upstream stopped in the middle of its answer",
        ))
    }
}
