//! The event loop's thread writes a small message to the upstream's socket itself, where nothing else
//! waits to go there: handing it to the engine's thread costs more than writing it.
//!
//! A permit for one message at a time keeps bursts together: the second message of one finds none,
//! goes through the outbox with all that follow, and they are written as one.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::masked::Masked;
use super::session::Outbox;
use crate::engine::upstream::socket::Socket;

/// Octets of a message at most. The event loop does nothing else while they are masked and written.
const SMALL: usize = 4 * 1024;

/// What the engine and the event loop share of a session.
#[derive(Debug, Default)]
pub struct Direct(Mutex<Lane>);

/// The way to the socket. The engine holds it as long as it looks at the session.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Whoever takes this may write one frame: the session has sent all that it had.
    permit: Option<Permit>,
    /// What the socket did not take of that frame. It has to go before anything else.
    rest: Vec<u8>,
    /// When a message went this way last.
    sent_at: Option<Instant>,
}

#[derive(Debug)]
struct Permit {
    socket: Weak<Socket>,
    /// Octets of a message at most.
    most: usize,
}

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The socket has it.
    Wholly,
    /// The engine has to write the rest, and must be woken for that.
    Partly,
    /// It is for the outbox.
    Not,
}

impl Direct {
    /// Sends a message, if it may go this way; never waits. All others of this session are put into
    /// `outbox` by the calling thread.
    pub fn send(&self, octets: &[u8], code: Data, outbox: &Outbox) -> Sent {
        let Ok(mut lane) = self.0.try_lock() else {
            return Sent::Not;
        };
        let fits = |permit: &mut Permit| octets.len() <= permit.most && outbox.is_empty();
        let Some(permit) = lane.permit.take_if(fits) else {
            return Sent::Not;
        };
        let frame = Masked::begin(octets, code, true, octets.len());
        let (Some(socket), Ok((mut frame, odd))) = (permit.socket.upgrade(), frame) else {
            return Sent::Not;
        };
        frame.add(octets.get(odd..).unwrap_or_default());
        lane.sent_at = Some(Instant::now());
        // Whatever is wrong with it: the engine finds out.
        let written = socket.try_write(frame.octets(0)).unwrap_or(0);
        lane.rest = frame.octets(written).to_vec();
        match lane.rest.is_empty() {
            true => Sent::Wholly,
            false => Sent::Partly,
        }
    }

    /// Keeps others from writing as long as the lane is held, and from then on unless it is opened.
    pub(super) fn enter(&self) -> MutexGuard<'_, Lane> {
        let mut lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lane.permit = None;
        lane
    }
}

impl Lane {
    /// What must be written first, and when a message went this way since it was asked last.
    pub(super) fn take(&mut self) -> (Vec<u8>, Option<Instant>) {
        (std::mem::take(&mut self.rest), self.sent_at.take())
    }

    /// Lets one message go this way, of so many octets at most; `None`: any number.
    pub(super) fn open(&mut self, socket: &Weak<Socket>, max_message_size: Option<usize>) {
        self.permit = Some(Permit {
            socket: Weak::clone(socket),
            most: max_message_size.unwrap_or(SMALL).min(SMALL),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use futures_util::{Stream as _, StreamExt as _};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role};

    use super::super::carry::Session;
    use super::super::message::{Close, GOING_AWAY, Message};
    use super::super::session::Inbox;
    use super::super::socket::SocketPeer;
    use super::*;
    use crate::engine::config::WebSockets;
    use crate::engine::doorbell::Doorbell;
    use crate::engine::mailbox::Mailbox;
    use crate::engine::pipe::Pipe;
    use crate::engine::upstream::socket::SocketIo;
    use crate::engine::upstream::stream::Stream;

    /// A session's two ends towards the client.
    struct Ends {
        inbox: Arc<Inbox>,
        outbox: Arc<Outbox>,
        direct: Direct,
    }

    impl Ends {
        fn new() -> Self {
            let doorbell = Doorbell::new(|| {});
            Self {
                inbox: Mailbox::new(doorbell.clone()),
                outbox: Pipe::new(doorbell),
                direct: Direct::default(),
            }
        }

        /// A session whose upstream is the other end of the socket that is returned, too.
        async fn session(
            &self,
            settings: WebSockets,
        ) -> io::Result<(Session<'_>, Arc<Socket>, TcpStream)> {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let near = TcpStream::connect(listener.local_addr()?).await?;
            let (far, _) = listener.accept().await?;
            near.writable().await?;
            let io = SocketIo::new(Stream::Tcp(near), None);
            let socket = Arc::clone(io.socket());
            let weak = Arc::downgrade(&socket);
            let peer = SocketPeer::over(Box::new(io), Bytes::new(), weak, None).await;
            let session = Session::new(
                Box::new(peer),
                &self.inbox,
                &self.outbox,
                &self.direct,
                settings,
            );
            Ok((session, socket, far))
        }

        fn send(&self, octets: &[u8]) -> Sent {
            self.direct.send(octets, Data::Binary, &self.outbox)
        }

        fn put(&self, octets: &'static [u8]) {
            drop(
                self.outbox
                    .push(Message::Binary(Bytes::from_static(octets))),
            );
        }
    }

    fn look(session: &mut Session<'_>) {
        let mut context = Context::from_waker(Waker::noop());
        assert!(session.poll(&mut context).is_pending());
    }

    #[tokio::test]
    async fn one_goes_at_once_and_those_behind_it_together() -> io::Result<()> {
        let ends = Ends::new();
        assert_eq!(ends.send(b"too early"), Sent::Not);
        let (mut session, _socket, far) = ends.session(WebSockets::default()).await?;
        look(&mut session);
        assert_eq!(ends.send(b"first"), Sent::Wholly);
        assert_eq!(ends.send(b"second"), Sent::Not);
        ends.put(b"second");
        assert_eq!(ends.send(b"third"), Sent::Not);
        ends.put(b"third");
        look(&mut session);
        assert_eq!(ends.send(&[7; SMALL]), Sent::Wholly);

        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        for expected in [&b"first"[..], b"second", b"third", &[7; SMALL]] {
            let message = far.next().await.and_then(Result::ok);
            assert_eq!(message, Some(WsMessage::binary(expected.to_vec())));
        }
        Ok(())
    }

    /// Fills the system's buffers; with how many octets.
    fn fill(socket: &Socket) -> usize {
        let mut before = 0;
        while let Ok(count) = socket.try_write(&[0; 64 * 1024]) {
            before += count;
        }
        before
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_goes_first() -> io::Result<()> {
        let ends = Ends::new();
        let (mut session, socket, mut far) = ends.session(WebSockets::default()).await?;
        look(&mut session);
        let before = fill(&socket);
        assert_eq!(ends.send(&[1; SMALL]), Sent::Partly);
        assert_eq!(ends.send(b"not past it"), Sent::Not);
        ends.put(b"behind");
        look(&mut session);
        assert_eq!(ends.send(b"not yet"), Sent::Not);

        let mut room = vec![0; before];
        far.read_exact(&mut room).await?;
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let mut context = Context::from_waker(Waker::noop());
        let mut come = Vec::new();
        while come.len() < 2 {
            look(&mut session);
            // Both ends are looked at in turn, as the system needs its time.
            if let Poll::Ready(message) = Pin::new(&mut far).poll_next(&mut context) {
                come.push(message.and_then(Result::ok));
            }
            tokio::task::yield_now().await;
        }
        let expected = [
            WsMessage::binary([1; SMALL].to_vec()),
            WsMessage::binary(&b"behind"[..]),
        ];
        assert_eq!(come, expected.map(Some));
        Ok(())
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_goes_before_the_close() -> io::Result<()> {
        let ends = Ends::new();
        let (mut session, socket, mut far) = ends.session(WebSockets::default()).await?;
        look(&mut session);
        let before = fill(&socket);
        assert_eq!(ends.send(&[1; SMALL]), Sent::Partly);
        let reading = async move {
            let mut room = vec![0; before];
            far.read_exact(&mut room).await?;
            let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
            let message = far.next().await.and_then(Result::ok);
            let close = far.next().await.and_then(Result::ok);
            io::Result::Ok((message, close.is_some_and(|close| close.is_close())))
        };
        let parting = session.part(Some(Close::new(GOING_AWAY, "")), false);
        let ((), read) = tokio::join!(parting, reading);
        let (message, closed) = read?;
        assert_eq!(message, Some(WsMessage::binary([1; SMALL].to_vec())));
        assert!(closed);
        assert_eq!(ends.send(b"late"), Sent::Not);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_too_long_is_for_the_outbox() -> io::Result<()> {
        for (most, longest) in [(None, SMALL), (Some(3), 3), (Some(1 << 20), SMALL)] {
            let ends = Ends::new();
            let settings = WebSockets {
                max_message_size: most,
                ..WebSockets::default()
            };
            let (mut session, _socket, _far) = ends.session(settings).await?;
            look(&mut session);
            assert_eq!(ends.send(&vec![0; longest + 1]), Sent::Not);
            assert_eq!(ends.send(&vec![0; longest]), Sent::Wholly);
        }
        Ok(())
    }

    #[tokio::test]
    async fn nothing_overtakes_what_waits() -> io::Result<()> {
        let ends = Ends::new();
        let (mut session, socket, _far) = ends.session(WebSockets::default()).await?;
        look(&mut session);
        ends.put(&[0; SMALL + 1]);
        assert_eq!(ends.send(b"behind one in the outbox"), Sent::Not);
        fill(&socket);
        look(&mut session);
        assert!(ends.outbox.is_empty());
        assert_eq!(ends.send(b"behind one in a buffer"), Sent::Not);
        Ok(())
    }

    #[tokio::test]
    async fn an_end_closes_the_way() -> io::Result<()> {
        let ends = Ends::new();
        let (mut session, socket, _far) = ends.session(WebSockets::default()).await?;
        look(&mut session);
        drop((session, socket));
        assert_eq!(ends.send(b"late"), Sent::Not);
        Ok(())
    }
}
