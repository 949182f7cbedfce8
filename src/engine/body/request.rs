//! A request's body on its way to hyper; each try gets its own.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::engine::error::Error;
use crate::engine::pull::{self, Pull};
use crate::engine::upload::{Reader, Upload};
use crate::engine::upstream::socket::Socket;

/// Octets of a body that is still arriving after which hyper has to write before it takes more. It
/// may exceed this by a chunk.
const UNWRITTEN: usize = 128 * 1024;

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
        Some(RequestBody(Some(Box::new(Sending {
            content,
            sent: Arc::new(Sent::default()),
            socket: None,
            taken: 0,
        }))))
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
    /// What it is written to, where hyper is to take no more than goes out.
    socket: Option<Arc<Socket>>,
    /// Octets that hyper has taken since it had the chance to write.
    taken: usize,
}

#[derive(Debug)]
enum Content {
    Sent,
    Whole(Bytes),
    Streamed(Reader),
    Pulled(pull::Reader),
}

impl RequestBody {
    /// Has hyper take only what goes out: it keeps as much as it may read at once otherwise.
    #[must_use]
    pub fn paced(mut self, socket: Option<Arc<Socket>>) -> Self {
        if let Some(sending) = &mut self.0 {
            sending.socket = socket;
        }
        self
    }

    /// To be asked later whether all of the body was taken; `None` where there is none to take.
    #[must_use]
    pub fn progress(&self) -> Option<Arc<Sent>> {
        self.0.as_ref().map(|sending| Arc::clone(&sending.sent))
    }
}

impl Sending {
    /// Waits while the socket takes nothing, and lets hyper write before it takes more.
    fn poll_pace(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(socket) = &self.socket else {
            return Poll::Ready(());
        };
        ready!(socket.poll_unblocked(context));
        if self.taken < UNWRITTEN {
            return Poll::Ready(());
        }
        self.taken = 0;
        context.waker().wake_by_ref();
        Poll::Pending
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
        ready!(sending.poll_pace(context));
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
        if let Some(Ok(frame)) = &next {
            sending.taken += frame.data_ref().map_or(0, Bytes::len);
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
