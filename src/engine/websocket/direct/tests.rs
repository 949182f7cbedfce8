use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{Stream as _, StreamExt as _};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role};

use super::*;
use crate::engine::config::WebSockets;
use crate::engine::doorbell::Doorbell;
use crate::engine::io::stream::Stream;
use crate::engine::mailbox::Mailbox;
use crate::engine::pipe::Pipe;
use crate::engine::upstream::socket::SocketIo;
use crate::engine::websocket::carry::Session;
use crate::engine::websocket::lookout::Lookout;
use crate::engine::websocket::message::{Close, GOING_AWAY, Message};
use crate::engine::websocket::plain::Plain;
use crate::engine::websocket::session::Ends;
use crate::engine::websocket::socket::SocketPeer;

/// The ends of a session whose client is the test.
pub(in crate::engine::websocket) fn new_ends() -> io::Result<Ends> {
    let doorbell = Doorbell::new(|| {});
    Ok(Ends {
        inbox: Mailbox::new(doorbell.clone()),
        outbox: Pipe::new(doorbell),
        direct: Arc::default(),
        lookout: Lookout::new()?,
    })
}

/// A session whose upstream is the other end of the socket that is returned, too.
pub(in crate::engine::websocket) async fn session(
    ends: &Ends,
    settings: WebSockets,
) -> io::Result<(Session<'_>, Weak<Socket>, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    near.writable().await?;
    let io = SocketIo::new(Stream::Tcp(near), None);
    let socket = Arc::downgrade(io.socket());
    let peer = SocketPeer::over(Box::new(Plain::from(io)), Bytes::new(), None).await;
    Ok((Session::new(Box::new(peer), ends, settings), socket, far))
}

impl Ends {
    pub(in crate::engine::websocket) fn send(&self, octets: &[u8]) -> Sent {
        self.direct.send(octets, Data::Binary, &self.outbox)
    }

    fn put(&self, octets: &'static [u8]) {
        drop(
            self.outbox
                .push(Message::Binary(Bytes::from_static(octets))),
        );
    }
}

/// The session has nothing to do but wait.
pub(in crate::engine::websocket) fn look(session: &mut Session<'_>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(session.poll(&mut context).is_pending());
}

#[tokio::test]
async fn one_goes_at_once_and_those_behind_it_together() -> io::Result<()> {
    let ends = new_ends()?;
    assert_eq!(ends.send(b"too early"), Sent::Not);
    let (mut session, _socket, far) = session(&ends, WebSockets::default()).await?;
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
fn fill(socket: &Weak<Socket>) -> io::Result<usize> {
    let socket = socket.upgrade().ok_or(io::ErrorKind::NotConnected)?;
    let mut before = 0;
    while let Ok(count) = socket.try_write(&[0; 64 * 1024]) {
        before += count;
    }
    Ok(before)
}

#[tokio::test]
async fn what_the_socket_does_not_take_goes_first() -> io::Result<()> {
    let ends = new_ends()?;
    let (mut session, socket, mut far) = session(&ends, WebSockets::default()).await?;
    look(&mut session);
    let before = fill(&socket)?;
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
    let ends = new_ends()?;
    let (mut session, socket, mut far) = session(&ends, WebSockets::default()).await?;
    look(&mut session);
    let before = fill(&socket)?;
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
        let ends = new_ends()?;
        let settings = WebSockets {
            max_message_size: most,
            ..WebSockets::default()
        };
        let (mut session, _socket, _far) = session(&ends, settings).await?;
        look(&mut session);
        assert_eq!(ends.send(&vec![0; longest + 1]), Sent::Not);
        assert_eq!(ends.send(&vec![0; longest]), Sent::Wholly);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_overtakes_what_waits() -> io::Result<()> {
    let ends = new_ends()?;
    let (mut session, socket, _far) = session(&ends, WebSockets::default()).await?;
    look(&mut session);
    ends.put(&[0; SMALL + 1]);
    assert_eq!(ends.send(b"behind one in the outbox"), Sent::Not);
    fill(&socket)?;
    look(&mut session);
    assert!(ends.outbox.is_empty());
    assert_eq!(ends.send(b"behind one in a buffer"), Sent::Not);
    Ok(())
}

#[tokio::test]
async fn an_end_closes_the_way() -> io::Result<()> {
    let ends = new_ends()?;
    let (mut session, _socket, _far) = session(&ends, WebSockets::default()).await?;
    look(&mut session);
    drop(session);
    assert_eq!(ends.send(b"late"), Sent::Not);
    Ok(())
}
