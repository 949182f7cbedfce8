//! What is too much for a loan, or too little.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};

use super::*;
use crate::engine::mailbox::{CAPACITY, Item as _};

#[tokio::test]
async fn one_that_is_too_big_is_none_for_the_event_loop() -> io::Result<()> {
    let settings = WebSockets {
        max_message_size: Some(10),
        ..WebSockets::default()
    };
    lent!(settings, ends, lookout, session, far);
    assert_eq!(ends.send(&[0; 11]), Sent::Not);
    far.write_all(&[text("0123456789"), text("0123456789a")].concat())
        .await?;
    assert_eq!(read(&ends, &lookout).await?, ["0123456789"]);
    assert!(end(&ends, &mut session).await?.0.is_empty());
    Ok(())
}

#[tokio::test]
async fn where_the_client_takes_nothing_it_is_the_engine_s() -> io::Result<()> {
    lent!(WebSockets::default(), ends, lookout, session, far);
    ends.inbox.publish(|contents| {
        contents.push(Message::Binary(vec![0; CAPACITY].into()));
    });
    far.write_all(&text("behind")).await?;
    told(&ends, &lookout).await?;
    look(&mut session);
    assert_eq!(come(&ends), [format!("{CAPACITY} octets")]);
    assert_eq!(go_on(&ends, &mut session).await?.0, ["behind"]);
    Ok(())
}

/// What has come counts, though the runtime has not told of it yet.
#[tokio::test]
async fn what_has_come_is_read_before_the_time_is_looked_at() -> io::Result<()> {
    let idle = Duration::from_secs(60);
    let settings = WebSockets {
        idle_timeout: Some(idle),
        ..WebSockets::default()
    };
    lent!(settings, ends, lookout, session, far);
    far.write_all(&text("here")).await?;
    lookout.wait()?;
    tokio::time::pause();
    tokio::time::advance(idle).await;
    look(&mut session);
    assert_eq!(come(&ends), ["here"]);
    assert_eq!(lookout.count(), 0);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_lent_is_left_alone() -> io::Result<()> {
    let fragments = [
        frame(OpCode::Data(Data::Text), false, b"a"),
        frame(OpCode::Data(Data::Continue), true, b"b"),
    ];
    for (first, lendable) in [
        (fragments.concat(), false),
        (frame(OpCode::Data(Data::Binary), true, &[1; 70_000]), false),
        (text("x"), true),
        (frame(OpCode::Control(Control::Ping), true, b"1"), true),
        (frame(OpCode::Control(Control::Pong), true, b"1"), true),
    ] {
        let ends = new_ends()?;
        let lookout = Arc::clone(&ends.lookout);
        let (mut session, _, mut far) = session(&ends, UNASKED).await?;
        far.write_all(&first).await?;
        for _ in 0..3 * CALM {
            if lookout.count() == 0 {
                far.write_all(&text("calm")).await?;
                while !go_on(&ends, &mut session)
                    .await?
                    .0
                    .contains(&"calm".to_owned())
                {}
            }
        }
        assert_eq!(lookout.count() == 1, lendable);
        if !lendable {
            let told = Arc::new(Told::default());
            let waker = Waker::from(Arc::clone(&told));
            assert!(session.poll(&mut Context::from_waker(&waker)).is_pending());
            tokio::time::pause();
            tokio::time::advance(3600 * LOAN).await;
            tokio::time::resume();
            assert_eq!(told.0.load(Ordering::Relaxed), 0);
        }
    }
    Ok(())
}

/// Counts how often it is told.
#[derive(Default)]
struct Told(AtomicUsize);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_loan_has_an_end() -> io::Result<()> {
    let ends = new_ends()?;
    let lookout = Arc::clone(&ends.lookout);
    let (mut session, _, mut far) = session(&ends, UNASKED).await?;
    let told = Arc::new(Told::default());
    let waker = Waker::from(Arc::clone(&told));
    while lookout.count() == 0 {
        far.write_all(&text("calm")).await?;
        while come(&ends).is_empty() {
            assert!(session.poll(&mut Context::from_waker(&waker)).is_pending());
            tokio::task::yield_now().await;
        }
    }
    let before = told.0.load(Ordering::Relaxed);
    tokio::time::pause();
    tokio::time::advance(2 * LOAN).await;
    assert!(told.0.load(Ordering::Relaxed) > before);
    look(&mut session);
    assert_eq!(lookout.count(), 0);
    Ok(())
}

#[test]
fn only_much_that_is_small_is_worth_it() {
    let start = Instant::now();
    let mut calm = Calm::new(start);
    for _ in 1..CALM {
        calm.note(SMALL + CHUNK_COST, start);
        assert!(!calm.is_enough());
    }
    calm.note(1, start + LOAN);
    assert!(calm.is_enough());
    calm.note(SMALL + CHUNK_COST + 1, start + LOAN);
    assert!(!calm.is_enough());
    for number in 0..3 * CALM {
        calm.note(1, start + LOAN + LOAN * number / (CALM - 2));
        assert!(!calm.is_enough(), "{number}");
    }
}

#[test]
fn only_one_small_frame_is_a_small_message() {
    let parsed = |octets: &[u8], most| {
        let (message, behind) = small_message(octets, most)?;
        Some((message.size(), behind.len()))
    };
    for length in [0, 1, 125, 126, 127, SMALL] {
        let whole = frame(OpCode::Data(Data::Binary), true, &vec![1; length]);
        assert_eq!(parsed(&whole, length), Some((length, 0)));
        let more = [whole.as_slice(), b"more"].concat();
        assert_eq!(parsed(&more, SMALL), Some((length, 4)));
        for cut in 0..whole.len() {
            assert_eq!(parsed(whole.get(..cut).unwrap_or_default(), SMALL), None);
        }
        if let Some(less) = length.checked_sub(1) {
            assert_eq!(parsed(&whole, less), None);
        }
    }
    for opcode in 0..=u8::MAX {
        let expected = matches!(opcode, 0x81 | 0x82).then_some((2, 0));
        assert_eq!(parsed(&[opcode, 2, b'o', b'k'], SMALL), expected);
        assert_eq!(parsed(&[opcode, 0x82, 0, 0, 0, 0, b'o', b'k'], SMALL), None);
    }
}
