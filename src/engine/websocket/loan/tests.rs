mod limits;

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role};

use super::*;
use crate::engine::config::WebSockets;
use crate::engine::websocket::carry::{Outcome, Session};
use crate::engine::websocket::direct::Sent;
use crate::engine::websocket::direct::tests::{look, new_ends, session};
use crate::engine::websocket::lookout::Lookout;
use crate::engine::websocket::message::{Close, GOING_AWAY};
use crate::engine::websocket::session::Ends;

/// Nothing is due.
const UNASKED: WebSockets = WebSockets {
    ping_interval: None,
    ping_timeout: None,
    idle_timeout: None,
    max_message_size: None,
};

/// A frame as a server sends it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        ..FrameHeader::default()
    };
    let mut frame = Vec::new();
    let formatted = header.format(payload.len() as u64, &mut frame);
    assert!(formatted.is_ok());
    [frame.as_slice(), payload].concat()
}

fn text(payload: &str) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), true, payload.as_bytes())
}

/// The texts of what has come for the client.
fn come(ends: &Ends) -> Vec<String> {
    let contents = ends.inbox.take();
    let messages = contents.into_iter().flat_map(|contents| contents.chunks);
    messages
        .map(|message| match message {
            Message::Text(text) => text.to_string(),
            Message::Binary(octets) => format!("{} octets", octets.len()),
            Message::Close(close) => format!("close {}", close.code()),
        })
        .collect()
}

/// A system that is busy may take its time from one end of a socket to the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the event loop reads next, by itself.
async fn read(ends: &Ends, lookout: &Lookout) -> io::Result<Vec<String>> {
    let reading = async {
        loop {
            lookout.look();
            let texts = come(ends);
            if !texts.is_empty() {
                return texts;
            }
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(PATIENCE, reading).await?)
}

/// Exchanges small messages until the event loop reads them.
async fn lend(
    ends: &Ends,
    session: &mut Session<'_>,
    far: &mut TcpStream,
    lookout: &Lookout,
) -> io::Result<()> {
    while lookout.count() == 0 {
        far.write_all(&text("calm")).await?;
        assert_eq!(go_on(ends, session).await?.0, ["calm"]);
    }
    Ok(())
}

/// A session that is lent; what remains of its ends.
macro_rules! lent {
    ($settings:expr, $ends:ident, $lookout:ident, $session:ident, $far:ident) => {
        let $ends = new_ends()?;
        let $lookout = Arc::clone(&$ends.lookout);
        let (mut $session, _, mut $far) = session(&$ends, $settings).await?;
        look(&mut $session);
        lend(&$ends, &mut $session, &mut $far, &$lookout).await?;
    };
}
use lent;

/// Has the session go on until something has come for the client, or it is over.
async fn go_on(
    ends: &Ends,
    session: &mut Session<'_>,
) -> io::Result<(Vec<String>, Option<Outcome>)> {
    let going_on = poll_fn(|context| {
        let polled = session.poll(context);
        let texts = come(ends);
        match polled {
            Poll::Ready(outcome) => Poll::Ready((texts, Some(outcome))),
            Poll::Pending if texts.is_empty() => Poll::Pending,
            Poll::Pending => Poll::Ready((texts, None)),
        }
    });
    Ok(timeout(PATIENCE, going_on).await?)
}

/// Has the session go on until it is over; what has come for the client.
async fn end(ends: &Ends, session: &mut Session<'_>) -> io::Result<(Vec<String>, Outcome)> {
    let mut all = Vec::new();
    loop {
        let (texts, outcome) = go_on(ends, session).await?;
        all.extend(texts);
        if let Some(outcome) = outcome {
            return Ok((all, outcome));
        }
    }
}

/// As `look`, where the event loop has been told that the engine has to go on.
async fn told(ends: &Ends, lookout: &Lookout) -> io::Result<()> {
    let being_told = async {
        while ends.direct.is_lent() {
            lookout.look();
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(PATIENCE, being_told).await?)
}

#[tokio::test]
async fn the_event_loop_reads_and_writes_by_itself() -> io::Result<()> {
    lent!(WebSockets::default(), ends, lookout, session, far);
    for number in 0..50 {
        assert_eq!(ends.send(b"up"), Sent::Wholly);
        // Those behind it go together.
        assert_eq!(ends.send(b"up"), Sent::Not);
        let mut octets = [0; 8];
        far.read_exact(&mut octets).await?;
        far.write_all(&[text(&number.to_string()), text("é")].concat())
            .await?;
        assert_eq!(
            read(&ends, &lookout).await?,
            [number.to_string(), "é".to_owned()]
        );
    }
    look(&mut session);
    assert_eq!(lookout.count(), 0);
    // Nothing was lost on the way back.
    far.write_all(&text("back")).await?;
    assert_eq!(go_on(&ends, &mut session).await?.0, ["back"]);
    Ok(())
}

#[tokio::test]
async fn what_is_no_small_message_is_the_engine_s() -> io::Result<()> {
    let fragments = [
        frame(OpCode::Data(Data::Text), false, "a\u{e9}".as_bytes()),
        frame(OpCode::Data(Data::Continue), true, b"b"),
    ];
    let long = frame(OpCode::Data(Data::Binary), true, &[7; SMALL + 1]);
    let longer = frame(OpCode::Data(Data::Binary), true, &[7; 3 * SPACE]);
    let cases = [
        (fragments.concat(), "aéb"),
        (long, "4097 octets"),
        (longer, "24576 octets"),
        (frame(OpCode::Control(Control::Pong), true, b"1"), ""),
        (frame(OpCode::Control(Control::Ping), true, b"1"), ""),
    ];
    for (octets, expected) in cases {
        lent!(WebSockets::default(), ends, lookout, session, far);
        let all = [text("before"), octets, text("behind")].concat();
        far.write_all(&all).await?;
        assert_eq!(read(&ends, &lookout).await?, ["before"]);
        // It is not the event loop's any more.
        assert_eq!(ends.send(b"up"), Sent::Not);
        lookout.look();
        let mut rest = Vec::new();
        while rest.last().is_none_or(|text| text != "behind") {
            rest.extend(go_on(&ends, &mut session).await?.0);
        }
        let expected = [expected, "behind"].into_iter().filter(|it| !it.is_empty());
        assert!(rest.iter().eq(expected), "{rest:?}");
        assert_eq!(lookout.count(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn what_fills_a_reading_is_the_engine_s_from_there_on() -> io::Result<()> {
    let message = text(&"x".repeat(62));
    assert_eq!(SPACE % message.len(), 0);
    let (first, all) = (SPACE / message.len(), 2 * SPACE / message.len());
    lent!(WebSockets::default(), ends, lookout, session, far);
    far.write_all(&message.repeat(all)).await?;
    assert_eq!(read(&ends, &lookout).await?.len(), first);
    // There is no other word of what has come already.
    assert!(!ends.direct.is_lent());
    let mut count = first;
    while count < all {
        count += go_on(&ends, &mut session).await?.0.len();
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_has_not_come_whole_is_the_engine_s() -> io::Result<()> {
    let whole = [
        text("one"),
        frame(OpCode::Data(Data::Binary), true, &[1; 300]),
    ]
    .concat();
    for cut in (1..whole.len()).filter(|cut| *cut != text("one").len()) {
        let (first, second) = whole.split_at(cut);
        lent!(WebSockets::default(), ends, lookout, session, far);
        far.write_all(first).await?;
        told(&ends, &lookout).await?;
        let mut all = come(&ends);
        far.write_all(second).await?;
        while all.len() < 2 {
            all.extend(go_on(&ends, &mut session).await?.0);
        }
        assert_eq!(all, ["one", "300 octets"]);
    }
    Ok(())
}

#[tokio::test]
async fn what_ends_it_is_the_engine_s() -> io::Result<()> {
    let bad = frame(OpCode::Data(Data::Text), true, b"\xff");
    let masked = [0x81, 0x81, 0, 0, 0, 0, b'x'].to_vec();
    let compressed = [0xC1, 1, b'x'].to_vec();
    let close = frame(
        OpCode::Control(Control::Close),
        true,
        &4001_u16.to_be_bytes(),
    );
    for octets in [bad, masked, compressed, close, Vec::new()] {
        lent!(WebSockets::default(), ends, lookout, session, far);
        far.write_all(&text("before")).await?;
        far.write_all(&octets).await?;
        far.shutdown().await?;
        told(&ends, &lookout).await?;
        let (all, outcome) = end(&ends, &mut session).await?;
        let is_close = octets.first() == Some(&0x88);
        assert_eq!(all.first().map(String::as_str), Some("before"));
        assert_eq!(all.get(1).is_some_and(|it| it == "close 4001"), is_close);
        assert_eq!(matches!(outcome, Outcome::Closed), is_close);
        assert_eq!(matches!(outcome, Outcome::Fault(_)), !is_close);
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_is_a_fault() -> io::Result<()> {
    lent!(WebSockets::default(), ends, lookout, session, far);
    far.set_zero_linger()?;
    drop(far);
    told(&ends, &lookout).await?;
    let (texts, outcome) = end(&ends, &mut session).await?;
    assert!(texts.is_empty() && matches!(outcome, Outcome::Fault(_)));
    Ok(())
}

#[tokio::test]
async fn an_end_takes_it_back_and_the_upstream_learns_of_it() -> io::Result<()> {
    lent!(WebSockets::default(), ends, lookout, session, far);
    drop(session);
    assert_eq!(lookout.count(), 0);
    assert_eq!(ends.send(b"late"), Sent::Not);
    let ended = far.read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
    Ok(())
}

#[tokio::test]
async fn nothing_comes_behind_the_close() -> io::Result<()> {
    lent!(WebSockets::default(), ends, lookout, session, far);
    session.tell_client(Close::new(GOING_AWAY, ""));
    far.write_all(&text("late")).await?;
    lookout.look();
    assert_eq!(come(&ends), ["close 1001"]);
    assert_eq!(lookout.count(), 0);
    Ok(())
}

#[tokio::test]
async fn nothing_gets_into_the_middle_of_a_frame() -> io::Result<()> {
    lent!(WebSockets::default(), ends, lookout, session, far);
    let mut count = 0;
    loop {
        far.write_all(&text("calm")).await?;
        assert_eq!(read(&ends, &lookout).await?, ["calm"]);
        count += 1;
        match ends.send(&[7; SMALL]) {
            Sent::Wholly => {}
            Sent::Partly => break,
            Sent::Not => return Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
    // The engine has not looked at it, and the event loop reads on.
    far.write_all(&text("calm")).await?;
    assert_eq!(read(&ends, &lookout).await?, ["calm"]);
    let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    let first = far.next().await.and_then(Result::ok);
    assert_eq!(first, Some(WsMessage::binary([7; SMALL].to_vec())));
    assert_eq!(ends.send(b"past it"), Sent::Not);
    let receiving = async {
        for _ in 1..count {
            let next = far.next().await.and_then(Result::ok);
            assert_eq!(next, Some(WsMessage::binary([7; SMALL].to_vec())));
        }
    };
    let carrying = poll_fn(|context| session.poll(context));
    tokio::select! {
        () = receiving => Ok(()),
        _ = carrying => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
