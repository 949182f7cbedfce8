//! An upstream behind a connection: tokio-tungstenite's frames over what hyper has upgraded.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role, WebSocketConfig};

use super::bulk::Bulk;
use super::fault::{broken, fault, is_replaced, lost, said_close};
use super::loan::Back;
use super::message::{Close, Message};
use super::peer::{Fault, Peer};
use super::plain::Plain;
use super::readahead::Readahead;
use crate::engine::error::{Error, Kind};
use crate::engine::io::stream::Released;
use crate::engine::upstream::connect::SecureIo;
use crate::engine::upstream::socket::{Socket, SocketIo};

/// Octets of a frame that goes upstream at most; a larger message goes in several (RFC 6455 §5.4), as
/// an answer to a ping has to wait for the end of a frame.
pub const FRAGMENT: usize = 1024 * 1024;

/// Octets of a message from which on it is written as [`Bulk`].
const LARGE: usize = 64 * 1024;

/// Octets that are read at once. Each connection keeps a buffer of this size.
const READ_BUFFER: usize = 8 * 1024;

/// Octets of small messages that are gathered for one write.
const WRITE_BUFFER: usize = 64 * 1024;

/// Octets of a message where the configuration has no bound: a frame may announce any number, and
/// tungstenite reserves what it announces.
pub const MAX_MESSAGE: usize = 1 << 30;

/// A connection after its handshake.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// A writer that waits is watched by pings from now on, not by the timeout of requests.
    fn switch(&mut self);

    /// Whether it may be worth reading; if not, the task is woken when it is.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Makes the end of the connection a reset.
    fn reset_on_close(&self);

    /// The socket, where what is written goes to it as it is.
    fn shortcut(&self) -> Option<Weak<Socket>> {
        None
    }

    /// Gives the socket away, if that can be done. An error: it is lost.
    fn lend(&mut self) -> Option<io::Result<Arc<Released>>> {
        None
    }

    /// Takes the socket back, which nobody else may have any more.
    fn take_back(&mut self) {}
}

impl Io for TlsStream<SocketIo> {
    fn switch(&mut self) {
        self.get_mut().0.switch();
    }

    /// There is no telling: it may hold octets that it has deciphered.
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn reset_on_close(&self) {
        self.get_ref().0.socket().reset_on_close();
    }
}

/// An upstream behind a connection.
pub struct SocketPeer {
    frames: WebSocketStream<Readahead<Bulk<Box<dyn Io>>>>,
    /// What has not begun to go out of a large message.
    rest: Option<Rest>,
    /// A frame of a large message is going out.
    bulky: bool,
    /// The upstream has closed, and tungstenite answers that by itself.
    closed: bool,
    /// Writing has failed; reading tells why.
    deaf: bool,
    /// The connection has ended in good order.
    ended: bool,
    /// Octets of what has come out of tungstenite, in as few as it can have come in.
    accounted: usize,
    /// tungstenite may have an answer to a ping to write.
    answers: bool,
}

impl SocketPeer {
    /// Takes the connection over from hyper, with what it has read already.
    ///
    /// # Errors
    /// [`Kind::Protocol`] where the connection ended meanwhile.
    pub async fn new(switching: Switching, max_message_size: Option<usize>) -> Result<Self, Error> {
        let (io, read) = switching.connection().await?;
        Ok(Self::over(io, read, max_message_size).await)
    }

    pub(super) async fn over(
        io: Box<dyn Io>,
        read: Bytes,
        max_message_size: Option<usize>,
    ) -> Self {
        let most = max_message_size.unwrap_or(MAX_MESSAGE).min(MAX_MESSAGE);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let frames = WebSocketStream::from_partially_read(
            Readahead::new(Bulk::new(io), read.len()),
            read.into(),
            Role::Client,
            Some(config),
        );
        Self {
            frames: frames.await,
            rest: None,
            bulky: false,
            closed: false,
            deaf: false,
            ended: false,
            accounted: 0,
            answers: false,
        }
    }

    /// Whether tungstenite certainly has nothing: all that was handed to it has come out as messages
    /// then, none of it with more of headers than needed.
    fn is_empty(&self) -> bool {
        let stream = self.frames.get_ref();
        !self.answers && stream.passed() == self.accounted && !stream.is_ahead()
    }

    /// Waits until there is something to read, where tungstenite has nothing: asking it clears its
    /// buffer for a read, each time.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.is_empty() {
            true => self.io().poll_readable(context),
            false => Poll::Ready(()),
        }
    }

    fn io(&self) -> &dyn Io {
        &**self.frames.get_ref().get_ref().get_ref()
    }

    fn io_mut(&mut self) -> &mut dyn Io {
        &mut **self.frames.get_mut().get_mut().get_mut()
    }

    fn account(&mut self, length: usize) {
        let header = match length {
            ..126 => 2,
            126..=0xFFFF => 4,
            // In one frame it would be 10, but nothing tells how many there were.
            _ => 6,
        };
        self.accounted = self.accounted.wrapping_add(header + length);
    }

    fn start(&mut self, message: WsMessage) {
        self.deaf |= Pin::new(&mut self.frames).start_send(message).is_err();
    }

    /// Begins the next frame of a large message; all that went before must be out.
    fn start_fragment(&mut self, mut rest: Rest) {
        let octets = rest.octets.split_to(FRAGMENT.min(rest.octets.len()));
        let last = rest.octets.is_empty();
        let bulk = self.frames.get_mut().get_mut();
        self.deaf |= bulk.begin(octets, rest.code, last).is_err();
        self.bulky = true;
        rest.code = Data::Continue;
        self.rest = (!last).then_some(rest);
    }
}

/// What is left of a message.
struct Rest {
    octets: Bytes,
    code: Data,
}

fn take_apart(upgraded: Upgraded) -> Option<(Box<dyn Io>, Bytes)> {
    match upgraded.downcast::<TokioIo<SocketIo>>() {
        Ok(parts) => Some((Box::new(Plain::from(parts.io.into_inner())), parts.read_buf)),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<SecureIo>>().ok()?;
            Some((parts.io.into_inner(), parts.read_buf))
        }
    }
}

impl Peer for SocketPeer {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Fault>> {
        ready!(self.poll_readable(context));
        let message = loop {
            let received = match Pin::new(&mut self.frames).poll_next(context) {
                Poll::Ready(Some(Ok(received))) => received,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(fault(&error))),
                Poll::Ready(None) => return Poll::Ready(Err(lost())),
                Poll::Pending => {
                    if self.answers {
                        let _ = self.poll_flush(context);
                    }
                    return Poll::Pending;
                }
            };
            match received {
                WsMessage::Text(text) => {
                    self.account(text.len());
                    break Message::Text(text);
                }
                WsMessage::Binary(octets) => {
                    self.account(octets.len());
                    break Message::Binary(octets);
                }
                WsMessage::Close(None) => break Message::Close(Close::from_peer(None, "")),
                // What tungstenite makes of a code that no frame may carry, or that it does not know;
                // its answer is on its way.
                WsMessage::Close(Some(frame)) if is_replaced(&frame) => {
                    self.closed = true;
                    let said = said_close(self.frames.get_ref().tail());
                    return Poll::Ready(said.map(Message::Close).ok_or_else(broken));
                }
                WsMessage::Close(Some(frame)) => {
                    let code = Some(frame.code.into());
                    break Message::Close(Close::from_peer(code, &frame.reason));
                }
                WsMessage::Ping(octets) => {
                    self.account(octets.len());
                    self.answers = true;
                }
                WsMessage::Pong(octets) => self.account(octets.len()),
                WsMessage::Frame(_) => {}
            }
        };
        Poll::Ready(Ok(message))
    }

    /// A ping would stand behind what waits, so whoever takes some of that has given a sign.
    fn heard_at(&self) -> Instant {
        let stream = self.frames.get_ref();
        stream.read_at().max(stream.get_ref().moved_at())
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.bulky || self.rest.is_some() {
            ready!(self.poll_flush(context));
            self.bulky = false;
            match self.rest.take() {
                // Nothing may follow a close.
                Some(rest) if !self.deaf && !self.closed => self.start_fragment(rest),
                _ => {}
            }
        }
        if !self.deaf {
            self.deaf = ready!(Pin::new(&mut self.frames).poll_ready(context)).is_err();
        }
        Poll::Ready(())
    }

    fn send(&mut self, message: Message) {
        if self.deaf {
            return;
        }
        let (octets, code) = match message {
            Message::Close(_) if self.closed => return,
            Message::Close(close) => return self.start(WsMessage::Close(Some(close.into()))),
            Message::Text(text) if text.len() < LARGE => {
                return self.start(WsMessage::Text(text));
            }
            Message::Binary(octets) if octets.len() < LARGE => {
                return self.start(WsMessage::Binary(octets));
            }
            Message::Text(text) => (Bytes::from(text), Data::Text),
            Message::Binary(octets) => (octets, Data::Binary),
        };
        self.rest = Some(Rest { octets, code });
    }

    fn ping(&mut self) {
        if !self.deaf && self.rest.is_none() {
            self.start(WsMessage::Ping(Bytes::new()));
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.deaf {
            self.deaf = ready!(Pin::new(&mut self.frames).poll_flush(context)).is_err();
            self.answers = false;
        }
        Poll::Ready(())
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_flush(context));
        // Whoever waits for the other side to close first need not wait any more.
        let stream = Pin::new(self.frames.get_mut());
        let _ = ready!(stream.poll_shutdown(context));
        let mut space = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            let stream = Pin::new(self.frames.get_mut());
            match ready!(stream.poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => break,
            }
        }
        self.ended = true;
        Poll::Ready(())
    }

    fn shortcut(&self) -> Option<Weak<Socket>> {
        let waits = self.rest.is_some() || self.bulky || self.answers;
        let over = self.deaf || self.closed;
        (!waits && !over).then(|| self.io().shortcut())?
    }

    fn lend(&mut self) -> Option<io::Result<Arc<Released>>> {
        self.is_empty().then(|| self.io_mut().lend())?
    }

    fn take_back(&mut self, back: Back) {
        self.io_mut().take_back();
        if let Some(read_at) = back.read_at {
            self.frames.get_mut().resume_reading(back.unread, read_at);
        }
    }

    fn resume(&mut self, rest: &[u8]) {
        self.frames.get_mut().get_mut().resume(rest);
    }
}

impl Drop for SocketPeer {
    /// A peer that has not ended the connection must learn that nobody waits for it, even if it
    /// takes nothing.
    fn drop(&mut self) {
        if !self.ended {
            self.io().reset_on_close();
        }
    }
}

impl std::fmt::Debug for SocketPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SocketPeer")
    }
}

/// A connection that hyper hands over once it has upgraded it.
#[derive(Debug)]
pub struct Switching {
    /// hyper's promise.
    pub upgrade: OnUpgrade,
}

impl Switching {
    /// The connection, and what has been read from it already. Its writes may wait for as long as
    /// they like.
    ///
    /// # Errors
    /// [`Kind::Read`] where the connection ended meanwhile.
    pub async fn connection(self) -> Result<(Box<dyn Io>, Bytes), Error> {
        let lost = || Error::new(Kind::Read, "the connection was closed after its handshake");
        let upgraded = self.upgrade.await.map_err(|_| lost())?;
        let (mut io, read) = take_apart(upgraded).ok_or_else(lost)?;
        io.switch();
        Ok((io, read))
    }
}

#[cfg(test)]
mod tests;
