//! Bodies that are pulled: each try reads from the start, as long as that is kept.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::pull::{Pull, Reader};
use asgi_relay::engine::replay::REPLAY_LIMIT;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

/// A body that is there as a whole, in pieces.
struct Pieces(VecDeque<Result<Frame<Bytes>, Error>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn pull(pieces: &[&'static str], replay: bool) -> Arc<Pull> {
    let frames = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::from(*piece))));
    Pull::new(Box::pin(Pieces(frames.collect())), replay)
}

async fn next(reader: &mut Reader) -> Option<Result<String, Kind>> {
    let frame = poll_fn(|context| reader.poll_frame(context)).await?;
    Some(match frame {
        Ok(frame) => Ok(match frame.into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
            Err(_) => "trailers".to_owned(),
        }),
        Err(error) => Err(error.kind()),
    })
}

#[tokio::test]
async fn a_second_try_reads_the_same_from_the_start() {
    let pull = pull(&["a", "b", "c"], true);
    let mut first = pull.reader().unwrap();
    assert_eq!(next(&mut first).await, Some(Ok("a".to_owned())));
    assert_eq!(next(&mut first).await, Some(Ok("b".to_owned())));
    let mut second = pull.reader().unwrap();
    // The first try is over, and must not take what the second one needs.
    assert_eq!(next(&mut first).await, Some(Err(Kind::Abandoned)));
    for expected in ["a", "b", "c"] {
        assert!(!second.is_complete());
        assert_eq!(next(&mut second).await, Some(Ok(expected.to_owned())));
    }
    assert!(second.is_complete());
    assert_eq!(next(&mut second).await, None);
}

#[tokio::test]
async fn without_replay_only_an_unread_body_can_be_read_again() {
    let pull = pull(&["a", "b"], false);
    drop(pull.reader().unwrap());
    let mut reader = pull.reader().unwrap();
    assert_eq!(next(&mut reader).await, Some(Ok("a".to_owned())));
    assert!(pull.reader().is_none());
    assert_eq!(next(&mut reader).await, Some(Ok("b".to_owned())));
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let large = Bytes::from(vec![b'x'; REPLAY_LIMIT]);
    let frames = [Bytes::from("a"), large].map(|piece| Ok(Frame::data(piece)));
    let pull = Pull::new(Box::pin(Pieces(frames.into())), true);
    let mut reader = pull.reader().unwrap();
    assert_eq!(next(&mut reader).await, Some(Ok("a".to_owned())));
    assert!(pull.reader().is_some());
    let mut reader = pull.reader().unwrap();
    assert_eq!(next(&mut reader).await, Some(Ok("a".to_owned())));
    assert_eq!(
        next(&mut reader).await.unwrap().unwrap().len(),
        REPLAY_LIMIT
    );
    assert!(pull.reader().is_none());
}

#[tokio::test]
async fn trailers_and_failures_pass() {
    let failure = Error::new(Kind::Abandoned, "gone");
    let frames = [
        Ok(Frame::data(Bytes::from("a"))),
        Ok(Frame::trailers(HeaderMap::new())),
        Err(failure),
    ];
    let pull = Pull::new(Box::pin(Pieces(frames.into())), true);
    let mut reader = pull.reader().unwrap();
    assert_eq!(next(&mut reader).await, Some(Ok("a".to_owned())));
    assert_eq!(next(&mut reader).await, Some(Ok("trailers".to_owned())));
    assert_eq!(next(&mut reader).await, Some(Err(Kind::Abandoned)));
    assert_eq!(next(&mut reader).await, Some(Err(Kind::Abandoned)));
    assert!(pull.reader().is_none());
}
