use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream as Peer;
use std::sync::atomic::AtomicBool;
use std::task::{Wake, Waker};

use tokio::net::UnixStream;

use super::*;
use crate::engine::io::round::{LONGEST, MOST, Round, Rounds};
use crate::engine::io::stream::Stream;

/// Both ends of a connection; the far one does not wait.
async fn connected() -> io::Result<(Arc<Outlet>, Peer)> {
    let (near, far) = Peer::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let near = UnixStream::from_std(near)?;
    near.writable().await?;
    let (_, write) = Stream::Unix(near).into_split();
    Ok((Arc::new(Outlet::new(write)), far))
}

async fn give(outlet: &Arc<Outlet>, side: Side, octets: &[u8]) -> io::Result<usize> {
    poll_fn(|context| Outlet::poll_defer(outlet, side, context, &[IoSlice::new(octets)])).await
}

/// What has come so far.
fn come(far: &mut Peer) -> io::Result<String> {
    let mut octets = Vec::new();
    match far.read_to_end(&mut octets) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(String::from_utf8_lossy(&octets).into_owned()),
    }
}

#[tokio::test]
async fn a_small_message_goes_when_the_round_ends() -> io::Result<()> {
    let (outlet, mut far) = connected().await?;
    assert_eq!(give(&outlet, Side::Client, b"at once").await?, 7);
    assert_eq!(come(&mut far)?, "at once", "nobody holds back");
    let rounds = Rounds::begin(Round::new());
    assert_eq!(give(&outlet, Side::Upstream, b"last").await?, 4);
    assert_eq!(give(&outlet, Side::Client, b"first ").await?, 6);
    assert_eq!(come(&mut far)?, "");
    round::end();
    assert_eq!(come(&mut far)?, "first last");
    give(&outlet, Side::Upstream, b"the end").await?;
    drop(rounds);
    assert_eq!(come(&mut far)?, "the end");
    give(&outlet, Side::Client, b"at once").await?;
    assert_eq!(come(&mut far)?, "at once", "nobody holds back any more");
    Ok(())
}

#[tokio::test]
async fn order_is_kept() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (outlet, mut far) = connected().await?;
    give(&outlet, Side::Client, b"a").await?;
    let large = "b".repeat(SMALL + 1);
    assert_eq!(
        give(&outlet, Side::Client, large.as_bytes()).await?,
        SMALL + 1
    );
    assert_eq!(come(&mut far)?, format!("a{large}"));
    give(&outlet, Side::Client, b"c").await?;
    let refused = outlet.try_write(&[IoSlice::new(b"d")]);
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    poll_fn(|context| outlet.poll_shutdown(context)).await?;
    let mut text = String::new();
    far.read_to_string(&mut text)?;
    assert_eq!(text, "c");
    Ok(())
}

/// Whoever never runs out of work would keep them for ever.
#[tokio::test]
async fn a_round_does_not_last_for_ever() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (outlet, mut far) = connected().await?;
    give(&outlet, Side::Upstream, b"x").await?;
    (1..LONGEST).for_each(|_| round::pass());
    assert_eq!(come(&mut far)?, "");
    round::pass();
    assert_eq!(come(&mut far)?, "x");
    Ok(())
}

#[tokio::test]
async fn no_more_is_held_back_than_there_is_room_for() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let octets = vec![b'x'; SMALL];
    let mut peers = Vec::new();
    for _ in 0..=MOST / SMALL {
        let (outlet, far) = connected().await?;
        give(&outlet, Side::Client, &octets).await?;
        peers.push(far);
    }
    let mut last = peers.pop().ok_or(ErrorKind::NotFound)?;
    assert_eq!(come(&mut last)?.len(), SMALL);
    for peer in &mut peers {
        assert_eq!(come(peer)?, "");
    }
    round::end();
    for peer in &mut peers {
        assert_eq!(come(peer)?.len(), SMALL);
    }
    Ok(())
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Leaves no room for another octet in the system's buffer; how many there were.
fn fill(outlet: &Outlet) -> usize {
    let mut full = 0;
    while let Ok(some) = outlet.half().try_write(&[IoSlice::new(b"f")]) {
        full += some;
    }
    assert!(full > 0);
    full
}

#[tokio::test]
async fn what_the_system_does_not_take_is_given_back() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (outlet, mut far) = connected().await?;
    let full = fill(&outlet);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    for part in [b"a", b"b"] {
        let part = [IoSlice::new(part)];
        let given = Outlet::poll_defer(&outlet, Side::Client, &mut context, &part);
        assert!(given.is_ready());
        assert!(
            outlet.poll_flush(&mut context).is_ready(),
            "it need not be waited for yet"
        );
    }
    round::end();
    assert!(woken.0.load(Ordering::Relaxed));
    assert!(outlet.has_left() && !outlet.is_clear());
    assert!(outlet.poll_flush(&mut context).is_pending());
    let late = Outlet::poll_defer(&outlet, Side::Client, &mut context, &[IoSlice::new(b"c")]);
    assert!(late.is_pending(), "it comes after what is left");
    assert!(Outlet::poll_defer(&outlet, Side::Client, &mut context, &[]).is_pending());

    assert_eq!(come(&mut far)?.len(), full);
    give(&outlet, Side::Client, b"c").await?;
    assert_eq!(come(&mut far)?, "abc");
    Ok(())
}

/// As in a worker, whose tasks write by `write_all` and wait for nothing else.
#[test]
fn a_task_goes_on_with_what_is_left() -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().on_thread_park(round::end).build()?;
    let _rounds = Rounds::begin(Round::new());
    runtime.block_on(async {
        let (outlet, mut far) = connected().await?;
        let full = fill(&outlet);
        let writer = Arc::clone(&outlet);
        let (woken, wake) = tokio::sync::oneshot::channel();
        let mut woken = Some(woken);
        let task = tokio::spawn(async move {
            give(&writer, Side::Upstream, b"late").await?;
            // What hyper does when it is woken.
            poll_fn(|context| {
                if writer.has_left()
                    && let Some(woken) = woken.take()
                {
                    let _ = woken.send(());
                }
                match writer.poll_flush(context) {
                    Poll::Ready(Ok(())) if !writer.is_clear() => Poll::Pending,
                    flushed => flushed,
                }
            })
            .await
        });
        assert!(wake.await.is_ok());
        assert_eq!(come(&mut far)?.len(), full);
        task.await??;
        assert_eq!(come(&mut far)?, "late");
        Ok(())
    })
}

/// Its timeouts would begin anew.
#[tokio::test]
async fn what_waits_already_is_not_deferred() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (outlet, mut far) = connected().await?;
    let mut context = Context::from_waker(Waker::noop());
    let large = vec![b'x'; SMALL + 1];
    let mut write = |octets: &[u8]| {
        Outlet::poll_defer(&outlet, Side::Client, &mut context, &[IoSlice::new(octets)])
    };
    while write(&large).is_ready() {}
    assert!(write(b"the rest of it").is_pending());
    assert!(outlet.is_clear());
    come(&mut far)?;
    give(&outlet, Side::Client, b"the rest of it").await?;
    assert_eq!(come(&mut far)?, "the rest of it");
    Ok(())
}

#[tokio::test]
async fn what_has_not_gone_can_be_taken_back() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (outlet, mut far) = connected().await?;
    outlet.begin();
    give(&outlet, Side::Upstream, b"sent").await?;
    round::end();
    give(&outlet, Side::Upstream, b"x").await?;
    assert!(!outlet.withdraw(), "some of it has gone");
    round::end();
    assert_eq!(come(&mut far)?, "sent");

    let (outlet, mut far) = connected().await?;
    give(&outlet, Side::Upstream, b"x").await?;
    assert!(outlet.withdraw());
    round::end();
    assert_eq!(come(&mut far)?, "");
    Ok(())
}

/// Its task finds out what has happened.
#[tokio::test]
async fn a_failure_is_given_back() -> io::Result<()> {
    let _rounds = Rounds::begin(Round::new());
    let (outlet, far) = connected().await?;
    give(&outlet, Side::Upstream, b"x").await?;
    drop(far);
    round::end();
    let flushed = poll_fn(|context| outlet.poll_flush(context)).await;
    assert!(flushed.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe));
    assert!(outlet.withdraw(), "nothing has gone");
    Ok(())
}
