//! The pipe for request bodies: bounded, whole or failed, and replayable up to a limit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::mailbox::CHUNK_COST;
use asgi_relay::engine::replay::REPLAY_LIMIT;
use asgi_relay::engine::upload::{CAPACITY, PIECE, Reader, Upload};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Alarm, counting_doorbell};

fn pipe(length: Option<u64>) -> std::sync::Arc<Upload> {
    Upload::new(length, Doorbell::new(|| {}))
}

fn next(reader: &mut Reader) -> Poll<Option<Result<Bytes, Kind>>> {
    let waker = Alarm::new().waker();
    let polled = reader.poll_next(&mut Context::from_waker(&waker));
    polled.map(|chunk| chunk.map(|chunk| chunk.map_err(|error| error.kind())))
}

fn chunk(text: &'static str) -> Poll<Option<Result<Bytes, Kind>>> {
    Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes()))))
}

const END: Poll<Option<Result<Bytes, Kind>>> = Poll::Ready(None);

fn failed(kind: Kind) -> Poll<Option<Result<Bytes, Kind>>> {
    Poll::Ready(Some(Err(kind)))
}

#[test]
fn chunks_come_out_in_order_and_then_the_end() {
    let upload = pipe(None);
    let mut reader = upload.reader().unwrap();
    assert!(upload.push(Bytes::from_static(b"a")));
    assert!(upload.push(Bytes::new()), "an empty chunk is none");
    assert!(upload.push(Bytes::from_static(b"b")));
    assert_eq!(
        (next(&mut reader), next(&mut reader)),
        (chunk("a"), chunk("b"))
    );
    assert_eq!(next(&mut reader), Poll::Pending);
    upload.finish();
    assert_eq!((next(&mut reader), next(&mut reader)), (END, END));
}

#[test]
fn a_reader_that_goes_leaves_no_waker() {
    for upload in [pipe(None), Upload::once(Doorbell::new(|| {}))] {
        let mut reader = upload.reader().unwrap();
        let alarm = Alarm::new();
        let polled = reader.poll_next(&mut Context::from_waker(&alarm.waker()));
        assert!(polled.is_pending());
        drop(reader);
        assert_eq!(Arc::strong_count(&alarm), 1);
    }
}

#[test]
fn a_waiting_reader_is_woken() {
    let upload = pipe(None);
    let mut reader = upload.reader().unwrap();
    let alarm = Alarm::new();
    assert!(
        reader
            .poll_next(&mut Context::from_waker(&alarm.waker()))
            .is_pending()
    );
    upload.push(Bytes::from_static(b"a"));
    assert_eq!(alarm.count(), 1);
}

#[test]
fn a_full_pipe_rings_its_writer_once_there_is_room() {
    let (doorbell, _) = counting_doorbell();
    let upload = Upload::new(None, doorbell.clone());
    let mut reader = upload.reader().unwrap();
    assert!(upload.push(Bytes::from(vec![0; CAPACITY - CHUNK_COST - 1])));
    assert!(!upload.park_writer(1), "there is room");
    assert!(!upload.push(Bytes::from_static(b"x")));
    assert!(upload.park_writer(2));
    assert!(doorbell.answer().is_empty());
    assert!(next(&mut reader).is_ready());
    assert_eq!(doorbell.answer(), [2]);
    assert!(!upload.park_writer(3));
}

#[test]
fn a_large_chunk_is_read_in_pieces() {
    let octets: Bytes = (0..3 * PIECE).map(|n| (n % 251) as u8).collect();
    let upload = pipe(Some(octets.len() as u64 + 1));
    assert!(!upload.push(octets.clone()));
    let mut reader = upload.reader().unwrap();
    let mut read = Vec::new();
    while let Poll::Ready(Some(Ok(piece))) = next(&mut reader) {
        assert!(piece.len() <= PIECE);
        read.extend_from_slice(&piece);
        // What was read makes room.
        let room = octets.len() - read.len() + CHUNK_COST < CAPACITY;
        assert_eq!(upload.park_writer(1), !room);
    }
    assert_eq!(read, octets);
    assert!(upload.push(Bytes::from_static(b"x")));
    assert_eq!(next(&mut reader), chunk("x"));
    assert!(reader.is_complete());
}

#[test]
fn where_it_is_read_once_a_chunk_stays_whole() {
    let upload = Upload::once(Doorbell::new(|| {}));
    upload.push(Bytes::from(vec![1; 3 * PIECE]));
    let mut reader = upload.reader().unwrap();
    let Poll::Ready(Some(Ok(whole))) = next(&mut reader) else {
        panic!("no chunk");
    };
    assert_eq!(whole.len(), 3 * PIECE);
}

#[test]
fn a_body_that_is_shorter_than_announced_never_ends_well() {
    let upload = pipe(Some(3));
    let mut reader = upload.reader().unwrap();
    upload.push(Bytes::from_static(b"ab"));
    upload.finish();
    assert_eq!(
        (next(&mut reader), next(&mut reader)),
        (chunk("ab"), failed(Kind::BodyLength))
    );
}

#[test]
fn a_body_that_is_longer_than_announced_fails() {
    let upload = pipe(Some(3));
    let mut reader = upload.reader().unwrap();
    assert_eq!(reader.length(), Some(3));
    upload.push(Bytes::from_static(b"ab"));
    upload.push(Bytes::from_static(b"cd"));
    assert_eq!(
        (next(&mut reader), next(&mut reader)),
        (chunk("ab"), failed(Kind::BodyLength))
    );
}

#[test]
fn a_client_that_leaves_fails_the_body_at_once_and_frees_the_writer() {
    let (doorbell, _) = counting_doorbell();
    let upload = Upload::new(None, doorbell.clone());
    let mut reader = upload.reader().unwrap();
    assert!(!upload.push(Bytes::from(vec![0; CAPACITY])));
    assert!(upload.park_writer(4));
    upload.fail(Error::new(Kind::Abandoned, "the client left"));
    assert_eq!(doorbell.answer(), [4]);
    assert_eq!(next(&mut reader), failed(Kind::Abandoned));
    upload.finish();
    assert_eq!(
        next(&mut reader),
        failed(Kind::Abandoned),
        "the first end counts"
    );
}

#[test]
fn a_new_reader_begins_at_the_start_and_the_old_one_ends() {
    let upload = pipe(None);
    let mut first = upload.reader().unwrap();
    upload.push(Bytes::from_static(b"a"));
    upload.push(Bytes::from_static(b"b"));
    assert_eq!(next(&mut first), chunk("a"));
    let mut second = upload.reader().unwrap();
    upload.finish();
    assert_eq!(next(&mut first), failed(Kind::Abandoned));
    assert_eq!(
        (next(&mut second), next(&mut second)),
        (chunk("a"), chunk("b"))
    );
    assert_eq!(next(&mut second), END);
}

#[test]
fn a_body_over_the_limit_is_sent_once() {
    let upload = pipe(None);
    let mut reader = upload.reader().unwrap();
    let pieces = REPLAY_LIMIT / PIECE;
    upload.push(Bytes::from(vec![0; REPLAY_LIMIT - pieces * CHUNK_COST]));
    assert!((0..pieces).all(|_| next(&mut reader).is_ready()));
    assert!(upload.reader().is_some(), "it just fits");
    let mut reader = upload.reader().unwrap();
    upload.push(Bytes::from_static(b"x"));
    assert!((0..=pieces).all(|_| next(&mut reader).is_ready()));
    assert!(upload.reader().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Pushes and reads in any order, with new readers between: what comes out of the last reader
    /// is what went in.
    #[test]
    fn the_last_reader_gets_all_that_was_pushed(
        chunks in vec(vec(any::<u8>(), 0..20), 0..12), reads in vec(0_usize..4, 12), restart in 0_usize..12,
    ) {
        let upload = pipe(Some(chunks.iter().map(Vec::len).sum::<usize>() as u64));
        let mut reader = upload.reader().unwrap();
        let mut got = Vec::new();
        let mut left: VecDeque<_> = chunks.iter().cloned().collect();
        for (turn, count) in reads.into_iter().enumerate() {
            if turn == restart {
                reader = upload.reader().unwrap();
                got.clear();
            }
            if let Some(octets) = left.pop_front() {
                upload.push(Bytes::from(octets));
            }
            for _ in 0..count {
                if let Poll::Ready(Some(Ok(octets))) = next(&mut reader) {
                    got.extend(octets);
                }
            }
        }
        upload.finish();
        while let Poll::Ready(Some(octets)) = next(&mut reader) {
            got.extend(octets.unwrap());
        }
        prop_assert_eq!(next(&mut reader), END);
        prop_assert_eq!(got, chunks.concat());
    }
}
