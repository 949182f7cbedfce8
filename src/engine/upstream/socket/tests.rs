use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWrite as _, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::engine::io::stream::Stream;

/// Both ends of a connection.
pub(in crate::engine) async fn connected() -> io::Result<(SocketIo, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    Ok((SocketIo::new(Stream::Tcp(near), None), far))
}

async fn is_at_rest(io: &SocketIo) -> bool {
    poll_fn(|context| Poll::Ready(io.socket().is_at_rest(context))).await
}

#[tokio::test]
async fn it_is_at_rest_between_requests() -> io::Result<()> {
    let (mut io, mut far) = connected().await?;
    assert!(!is_at_rest(&io).await, "nobody has said so");
    io.socket().set_idle(true);
    assert!(is_at_rest(&io).await);
    io.socket().bound_head(100);
    assert!(!is_at_rest(&io).await, "a request is on its way");

    io.socket().set_idle(true);
    far.write_all(b"x").await?;
    poll_fn(|context| io.poll_readable(context)).await;
    assert!(!is_at_rest(&io).await, "something has come");
    assert_eq!(io.read(&mut [0; 8]).await?, 1);
    assert!(is_at_rest(&io).await);
    drop(far);
    poll_fn(|context| io.poll_readable(context)).await;
    assert!(!is_at_rest(&io).await, "it has ended");
    Ok(())
}

#[tokio::test]
async fn no_more_is_read_at_once_than_may_be() -> io::Result<()> {
    let (mut io, far) = connected().await?;
    let mut far = far.into_std()?;
    let octets = vec![0; 64 * 1024];
    let mut buffer = vec![0; 2 * READ_BUFFER];
    let mut most = 0;
    // The system's own buffers grow while much goes through them.
    for _ in 0..100 {
        while std::io::Write::write(&mut far, &octets).is_ok() {}
        most = most.max(io.read(&mut buffer).await?);
    }
    assert!(most <= READ_BUFFER, "{most}");
    Ok(())
}

/// The end of an upload may still be on its way when its answer has come.
#[tokio::test]
async fn what_is_not_written_yet_keeps_it_from_rest() -> io::Result<()> {
    let (mut io, mut far) = connected().await?;
    io.socket().set_idle(true);
    let octets = vec![0; 64 * 1024];
    let mut written = 0;
    poll_fn(|context| {
        while let Poll::Ready(some) = Pin::new(&mut io).poll_write(context, &octets) {
            written += some?;
        }
        Poll::Ready(io::Result::Ok(()))
    })
    .await?;
    assert!(!is_at_rest(&io).await);
    let socket = Arc::clone(io.socket());
    let waiting = tokio::spawn(async move { poll_fn(|c| socket.poll_unblocked(c)).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());

    let mut come = vec![0; written];
    far.read_exact(&mut come).await?;
    io.write_all(&octets).await?;
    assert!(is_at_rest(&io).await);
    tokio::time::timeout(Duration::from_secs(20), waiting).await??;
    Ok(())
}
