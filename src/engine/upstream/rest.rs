//! The task of a connection in HTTP/1.1, which rests while nobody needs it: hyper's state, channel
//! and buffers go, some 16 to 25 KiB, and what is left watches the socket.
//!
//! Whatever comes while it rests is an octet that nobody asked for, or the end, and ends it.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::AbortHandle;

use super::connect::{Connection, SecureIo};
use super::sender::Sender;
use super::socket::{READ_BUFFER, Socket, SocketIo};
use crate::engine::body::RequestBody;
use crate::engine::timer::Timer;

/// Header lines up to which hyper keeps room for them on the stack.
const USUAL_HEADERS: usize = 100;

/// What HTTP/1.1 is spoken over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket below.
    fn socket(&self) -> &Arc<Socket>;
}

impl Io for SocketIo {
    fn socket(&self) -> &Arc<Socket> {
        Self::socket(self)
    }
}

impl Io for SecureIo {
    fn socket(&self) -> &Arc<Socket> {
        self.get_ref().0.socket()
    }
}

/// The order to rest. Whoever gives it drops hyper's handle next: that is what wakes the task.
#[derive(Debug)]
pub struct Rest(oneshot::Sender<Call>);

/// Where one that rests is called, with where it is to answer.
type Call = oneshot::Receiver<oneshot::Sender<Awake>>;

/// What a connection is used with until it rests.
#[derive(Debug)]
pub(super) struct Awake {
    /// Dropped first, as with a [`Connection`].
    pub(super) rest: Rest,
    pub(super) sender: http1::SendRequest<RequestBody>,
}

/// A connection that rests; without this it ends.
#[derive(Debug)]
pub(super) struct Resting {
    caller: oneshot::Sender<oneshot::Sender<Awake>>,
    task: AbortHandle,
    socket: Weak<Socket>,
}

/// Waits for the task of one that is to rest no longer.
type Waking = Pin<Box<dyn Future<Output = Option<Connection>> + Send>>;

impl Connection {
    /// Has it rest, with its timer gone, if it can: HTTP/2 cannot. It must be ready for a request.
    pub(super) fn rest(mut self) -> Result<Resting, Self> {
        let Some(Rest(order)) = self.rest.take() else {
            return Err(self);
        };
        let (caller, call) = oneshot::channel();
        // One that has ended drops the call, and is seen to be closed.
        let _ = order.send(call);
        drop(self.sender);
        Ok(Resting {
            caller,
            task: self.task,
            socket: self.socket,
        })
    }
}

impl Resting {
    /// Whether the connection is no more.
    pub(super) fn is_closed(&self) -> bool {
        self.caller.is_closed()
    }

    /// Closes it.
    pub(super) fn close(&self) {
        self.task.abort();
    }

    /// The connection as it was, unless it has ended meanwhile. Boxed: it is seldom wanted, and
    /// every exchange would have room for it.
    #[cold]
    pub(super) fn wake(self) -> Waking {
        Box::pin(async move {
            let (answer, awake) = oneshot::channel();
            self.caller.send(answer).ok()?;
            let Awake { sender, rest } = awake.await.ok()?;
            Some(Connection {
                rest: Some(rest),
                sender: Sender::Http1(sender),
                task: self.task,
                socket: self.socket,
                timer: Timer::default(),
            })
        })
    }
}

/// What speaks HTTP/1.1, as the engine wants it; `max_headers` are lines of a response.
pub(super) fn http1(max_headers: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_BUFFER);
    if max_headers != USUAL_HEADERS {
        builder.max_headers(max_headers);
    }
    builder
}

/// Speaks HTTP/1.1 over `io` in a task of its own.
///
/// # Errors
/// hyper's.
pub(super) async fn serve<I: Io>(io: I, max_headers: usize) -> hyper::Result<(Awake, AbortHandle)> {
    let (awake, line) = Line::new(io, max_headers).await?;
    let task = tokio::spawn(carry(line, max_headers));
    Ok((awake, task.abort_handle()))
}

async fn carry<I: Io>(mut line: Box<Line<I>>, max_headers: usize) {
    while let Some(mut call) = poll_fn(|context| line.poll_work(context)).await {
        let Some(mut io) = line.let_go() else {
            return;
        };
        let Some(answer) = poll_fn(|context| poll_call(&mut call, &mut io, context)).await else {
            return;
        };
        // Boxed: the task would have room for it all the time.
        let Ok((awake, anew)) = Box::pin(Line::new(io, max_headers)).await else {
            return;
        };
        if answer.send(awake).is_err() {
            return;
        }
        line = anew;
    }
}

/// A connection at work. Boxed: one that rests does without.
struct Line<I: Io> {
    connection: http1::Connection<TokioIo<I>, RequestBody>,
    socket: Arc<Socket>,
    order: oneshot::Receiver<Call>,
}

impl<I: Io> Line<I> {
    async fn new(io: I, max_headers: usize) -> hyper::Result<(Awake, Box<Self>)> {
        let socket = Arc::clone(io.socket());
        // hyper must look at it once before it can be idle.
        socket.set_idle(false);
        let handshake = http1(max_headers).handshake(TokioIo::new(io));
        let (sender, connection) = handshake.await?;
        let (rest, order) = oneshot::channel();
        let rest = Rest(rest);
        let line = Box::new(Self {
            connection,
            socket,
            order,
        });
        Ok((Awake { rest, sender }, line))
    }

    /// Works until the connection is to rest; `None` where it has ended instead.
    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<Option<Call>> {
        // The order does not wake the task, but hyper's handle does, which goes right after it.
        // hyper must not see that: it would end the connection.
        match self.order.try_recv() {
            Ok(call) => return Poll::Ready(Some(call)),
            // hyper has the task come once more when the end of a body is taken. It costs a
            // twentieth of a request to have it find that there is nothing to do.
            Err(TryRecvError::Empty) if self.socket.is_at_rest(context) => return Poll::Pending,
            Err(_) => {}
        }
        // An error reaches whoever waits for the response; there is nobody else to tell.
        Pin::new(&mut self.connection).poll(context).map(|_| None)
    }

    /// Lets go of all but the socket and what TLS knows; `None` where something has come.
    #[expect(
        clippy::boxed_local,
        reason = "the box is to go, too: emptied by its owner it would stay as long as the owner's variable"
    )]
    fn let_go(self: Box<Self>) -> Option<I> {
        let parts = self.connection.into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }
}

/// Waits until somebody calls; `None` where the connection is to end first.
fn poll_call(
    call: &mut Call,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    context: &mut Context<'_>,
) -> Poll<Option<oneshot::Sender<Awake>>> {
    let mut octet = [MaybeUninit::uninit()];
    let mut octet = ReadBuf::uninit(&mut octet);
    // hyper is ready once TLS has the last request, which may hold its end for as long as the
    // socket is full.
    if let Poll::Ready(Err(_)) = Pin::new(&mut *io).poll_flush(context) {
        return Poll::Ready(None);
    }
    match Pin::new(io).poll_read(context, &mut octet) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => Pin::new(call).poll(context).map(Result::ok),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    use super::*;

    fn size<T>(_: impl FnOnce(Box<Line<SocketIo>>, usize) -> T) -> usize {
        size_of::<T>()
    }

    /// As TLS does, what is written over keeps some of it.
    #[tokio::test]
    async fn what_is_still_to_be_written_goes_while_it_rests() -> std::io::Result<()> {
        let (near, mut far) = duplex(1024);
        let mut io = BufWriter::new(near);
        io.write_all(b"the end of a body").await?;
        let (_caller, mut call) = oneshot::channel();
        poll_fn(|context| {
            assert!(poll_call(&mut call, &mut io, context).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(io);
        let mut come = String::new();
        far.read_to_string(&mut come).await?;
        assert_eq!(come, "the end of a body");
        Ok(())
    }

    /// Every connection that rests holds one of these, with tokio's part of it 256 octets.
    #[test]
    fn a_task_is_small() {
        assert!(size(carry) <= 136, "{}", size(carry));
    }
}
