//! Bodies on their way through the engine: the request's towards hyper, the response's from it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep, timeout};

use super::error::{Error, Kind};
use super::pull::{self, Pull};
use super::upload::{Reader, Upload};
use super::upstream::failure;
use super::upstream::lease::Lease;
use super::upstream::memory::Guard;
use super::upstream::socket::Socket;

/// A request's body as the client sends it; each try gets a [`RequestBody`] of its own.
#[derive(Debug, Clone)]
pub enum Source {
    /// No body.
    Empty,
    /// A body that is there as a whole.
    Whole(Bytes),
    /// A body that is still arriving.
    Streamed(Arc<Upload>),
    /// A body that arrives as it is asked for.
    Pulled(Arc<Pull>),
}

impl Source {
    /// Whether it is still arriving, so that it may be too large to be sent again.
    #[must_use]
    pub const fn is_arriving(&self) -> bool {
        matches!(self, Self::Streamed(_) | Self::Pulled(_))
    }

    /// The body for the next try, from its start; `None` where its start is gone.
    #[must_use]
    pub fn body(&self) -> Option<RequestBody> {
        let content = match self {
            Self::Empty => return Some(RequestBody(None)),
            Self::Whole(bytes) => Content::Whole(bytes.clone()),
            Self::Streamed(upload) => Content::Streamed(upload.reader()?),
            Self::Pulled(pull) => Content::Pulled(pull.reader()?),
        };
        let sent = Arc::new(Sent::default());
        Some(RequestBody(Some(Box::new(Sending { content, sent }))))
    }
}

/// Tells whether a request's body has been handed over whole.
#[derive(Debug, Default)]
pub struct Sent {
    done: AtomicBool,
    notify: tokio::sync::Notify,
}

impl Sent {
    /// Whether the last octet went out of the engine's hands.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits for it.
    pub async fn done(&self) {
        while !self.is_done() {
            self.notify.notified().await;
        }
    }

    fn set(&self) {
        self.done.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// What hyper sends as a request's body. Small, as hyper keeps room for 32 requests with each
/// connection.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Sending>>);

#[derive(Debug)]
struct Sending {
    content: Content,
    sent: Arc<Sent>,
}

#[derive(Debug)]
enum Content {
    Sent,
    Whole(Bytes),
    Streamed(Reader),
    Pulled(pull::Reader),
}

impl RequestBody {
    /// To be asked later whether all of the body was taken; `None` where there is none to take.
    #[must_use]
    pub fn progress(&self) -> Option<Arc<Sent>> {
        self.0.as_ref().map(|sending| Arc::clone(&sending.sent))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(sending) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        let (next, complete) = match &mut sending.content {
            Content::Sent => return Poll::Ready(None),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                sending.content = Content::Sent;
                (Some(Ok(Frame::data(bytes))), true)
            }
            Content::Streamed(reader) => {
                let next = ready!(reader.poll_next(context));
                (
                    next.map(|chunk| chunk.map(Frame::data)),
                    reader.is_complete(),
                )
            }
            Content::Pulled(reader) => (ready!(reader.poll_frame(context)), reader.is_complete()),
        };
        if next.is_none() || complete {
            sending.sent.set();
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_ref().map(|sending| &sending.content) {
            None | Some(Content::Sent) => true,
            Some(Content::Whole(_)) => false,
            Some(Content::Streamed(reader)) => reader.is_complete(),
            Some(Content::Pulled(reader)) => reader.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_ref().map(|sending| &sending.content) {
            None | Some(Content::Sent) => SizeHint::with_exact(0),
            Some(Content::Whole(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(Content::Streamed(reader)) => exactly(reader.length()),
            Some(Content::Pulled(reader)) => exactly(reader.length()),
        }
    }
}

fn exactly(length: Option<u64>) -> SizeHint {
    length.map_or_else(SizeHint::new, SizeHint::with_exact)
}

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
    timer: Option<Pin<Box<Sleep>>>,
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
            timer: None,
        }
    }

    /// No body at all.
    #[must_use]
    pub fn ended() -> Self {
        Self {
            content: ResponseContent::Ended,
            first: None,
            idle: None,
            timer: None,
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
            timer: None,
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
        self.timer = None;
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

    /// The socket that it comes over.
    fn socket(&self) -> Option<&Socket> {
        match &self.content {
            ResponseContent::Http { lease, .. } => lease.socket(),
            _ => None,
        }
    }

    /// Nobody takes anything at the moment: has nothing read ahead until [`ResponseBody::release`].
    pub fn hold(&self) {
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

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(context));
        self.content = ResponseContent::Ended;
        Poll::Ready(Error::new(
            Kind::ReadTimeout,
            "the upstream stopped in the middle of its answer",
        ))
    }
}
