use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::TcpStream as Peer;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::engine::io::round::{Round, Rounds};
use crate::gateway::clock::Clock;

/// A client's connection of which a request has been read, and the client.
async fn connected() -> io::Result<(ClientIo, Peer)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let peer = Peer::connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept().await?;
    stream.writable().await?;
    let watch = Arc::new(Watch::new(Clock::new()));
    watch.begin();
    Ok((ClientIo::new(Stream::Tcp(stream), watch), peer))
}

/// All that comes until the end, and how that comes.
fn all(mut peer: Peer) -> (String, io::Result<usize>) {
    let mut octets = Vec::new();
    let end = peer.read_to_end(&mut octets);
    (String::from_utf8_lossy(&octets).into_owned(), end)
}

fn has_come(peer: &Peer) -> io::Result<bool> {
    peer.set_nonblocking(true)?;
    let peeked = peer.peek(&mut [0]);
    peer.set_nonblocking(false)?;
    Ok(!peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
}

#[tokio::test]
async fn an_answer_is_deferred_and_a_handshake_is_not() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (mut io, peer) = connected().await?;
    io.write_all(b"answer").await?;
    assert!(!has_come(&peer)?);
    let (mut fresh, others) = connected().await?;
    fresh.watch = Arc::new(Watch::new(Clock::new()));
    fresh.write_all(b"handshake").await?;
    assert!(has_come(&others)?);
    assert!(!has_come(&peer)?);
    // What is read first may take long to be answered.
    poll_fn(|context| {
        let mut octet = [0];
        let _ = Pin::new(&mut fresh).poll_read(context, &mut ReadBuf::new(&mut octet));
        Poll::Ready(())
    })
    .await;
    assert!(has_come(&peer)?);
    Ok(())
}

#[tokio::test]
async fn a_deferred_answer_goes_before_the_end() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (mut io, peer) = connected().await?;
    io.write_all(b"complete").await?;
    drop(io);
    let (text, end) = all(peer);
    assert_eq!((text.as_str(), end.is_ok()), ("complete", true));

    let (mut io, peer) = connected().await?;
    io.write_all(b"begun").await?;
    io.watch.break_off();
    drop(io);
    assert!(
        all(peer)
            .1
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[tokio::test]
async fn a_socket_is_given_away_when_all_has_gone() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (mut io, peer) = connected().await?;
    io.write_all(b"deferred").await?;
    let stream = io.take();
    assert!(stream.is_some());
    drop(stream);
    assert_eq!(all(peer).0, "deferred");

    let (mut io, peer) = connected().await?;
    let outlet = Arc::clone(&io.halves()?.outlet);
    let full = vec![0; 64 * 1024];
    while outlet.half().try_write(&[IoSlice::new(&full)]).is_ok() {}
    io.write_all(b"no room").await?;
    round::end();
    assert!(outlet.has_left());
    drop(outlet);
    assert!(io.take().is_none());
    drop(io);
    let (_, end) = all(peer);
    assert!(end.is_err(), "an answer that is cut off looks complete");
    Ok(())
}
