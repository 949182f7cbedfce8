//! The mailbox and its doorbell: one wake for many publications, and none that is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::task::Context;
use std::thread;

use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::mailbox::{CAPACITY, End, MESSAGE, Mailbox, UNPAUSED, WAITING};
use asgi_relay::engine::upstream::socket::READ_BUFFER;
use bytes::Bytes;

use crate::support::{Alarm, counting_doorbell};

type Letters = Mailbox<&'static str, &'static str>;

#[test]
fn nobody_is_woken_who_does_not_wait() {
    let (doorbell, wakes) = counting_doorbell();
    let mailbox = Letters::new(doorbell.clone());
    mailbox.publish(|contents| contents.head = Some("200"));
    assert_eq!(wakes.load(Ordering::Relaxed), 0);
    assert!(doorbell.answer().is_empty());
    assert!(!mailbox.park(1), "there is news already");
}

#[test]
fn who_waits_is_rung_for_once() {
    let (doorbell, wakes) = counting_doorbell();
    let mailbox = Letters::new(doorbell.clone());
    assert!(mailbox.park(7));
    mailbox.publish(|contents| contents.head = Some("200"));
    mailbox.publish(|contents| contents.push(Bytes::from_static(b"body")));
    assert_eq!(doorbell.answer(), [7]);
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_loop_is_woken_once_for_all_its_mailboxes() {
    let (doorbell, wakes) = counting_doorbell();
    let mailboxes: Vec<_> = (0..5).map(|_| Letters::new(doorbell.clone())).collect();
    for (key, mailbox) in mailboxes.iter().enumerate() {
        assert!(mailbox.park(key));
        mailbox.publish(|contents| contents.notes.push("note"));
    }
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    assert_eq!(doorbell.answer(), [0, 1, 2, 3, 4]);
    assert!(mailboxes[0].take().is_some() && mailboxes[0].park(0));
    mailboxes[0].publish(|contents| contents.notes.push("another"));
    assert_eq!(
        wakes.load(Ordering::Relaxed),
        2,
        "the queue was empty again"
    );
}

#[test]
fn a_task_that_ends_leaves_no_waker() {
    let ways: [fn(&Letters); 2] = [
        |mailbox| {
            mailbox.abort();
        },
        |mailbox| mailbox.cut(|_, _| {}),
    ];
    for end in ways {
        let mailbox = Letters::new(Doorbell::new(|| {}));
        let alarm = Alarm::new();
        let waker = alarm.waker();
        let mut context = Context::from_waker(&waker);
        assert!(!mailbox.poll_aborted(&mut context));
        end(&mailbox);
        // As the task does when it is woken.
        mailbox.poll_aborted(&mut context);
        drop(waker);
        assert_eq!(Arc::strong_count(&alarm), 1);
    }
}

#[test]
fn taking_empties_and_keeps_the_order() {
    let mailbox = Letters::new(Doorbell::new(|| {}));
    assert!(mailbox.take().is_none());
    mailbox.publish(|contents| {
        contents.head = Some("200");
        contents.push(Bytes::from_static(b"a"));
    });
    mailbox.publish(|contents| contents.push(Bytes::from_static(b"bc")));
    let taken = mailbox.take().unwrap();
    assert_eq!(
        (taken.head, taken.size, taken.chunks.concat()),
        (Some("200"), 3, b"abc".to_vec())
    );
    assert!(taken.end.is_none() && !taken.aborted);
    assert!(mailbox.take().is_none());
}

#[test]
fn a_full_mailbox_has_room_again_once_a_quarter_of_it_is_free() {
    for (left, has_room) in [(CAPACITY / 2, true), (CAPACITY, false)] {
        let alarm = Alarm::new();
        let waker = alarm.waker();
        let mut context = Context::from_waker(&waker);
        let mailbox = Letters::new(Doorbell::new(|| {}));
        mailbox.publish(|contents| contents.push(Bytes::from_static(b"x")));
        assert!(mailbox.poll_room(&mut context));
        mailbox.publish(|contents| {
            contents.push(Bytes::from(vec![0; MESSAGE]));
            contents.push(Bytes::from(vec![0; left]));
        });
        assert!(!mailbox.poll_room(&mut context));
        assert_eq!(alarm.count(), 0);
        // A message ends with the chunk that fills it.
        assert_eq!(mailbox.take().unwrap().size, 1 + MESSAGE);
        assert_eq!(alarm.count(), usize::from(has_room));
        assert_eq!(mailbox.poll_room(&mut context), has_room);
        assert_eq!(mailbox.take().unwrap().size, left);
        assert_eq!(alarm.count(), 1);
        assert!(mailbox.take().is_none());
    }
}

#[test]
fn what_the_server_may_still_hold_counts() {
    for (octets, has_room) in [
        ((WAITING - UNPAUSED - READ_BUFFER) / 2, true),
        ((WAITING - UNPAUSED - READ_BUFFER) / 2 + 1, false),
    ] {
        let alarm = Alarm::new();
        let waker = alarm.waker();
        let mut context = Context::from_waker(&waker);
        let mailbox = Letters::new(Doorbell::new(|| {}));
        for _ in 0..2 {
            assert!(mailbox.poll_room(&mut context));
            mailbox.publish(|contents| contents.push(Bytes::from(vec![0; octets])));
            assert_eq!(mailbox.take().unwrap().size, octets);
        }
        assert_eq!(mailbox.poll_room(&mut context), has_room, "{octets}");
        assert_eq!(alarm.count(), 0);
        // Whoever comes for more has sent the last one, so that the one before is with the client.
        for _ in 0..2 {
            assert!(mailbox.take().is_none());
        }
        assert_eq!(alarm.count(), usize::from(!has_room));
        assert!(mailbox.poll_room(&mut context));
    }
}

#[test]
fn a_chunk_that_is_larger_than_all_stops_nothing_for_good() {
    let waker = Alarm::new().waker();
    let mut context = Context::from_waker(&waker);
    let mailbox = Letters::new(Doorbell::new(|| {}));
    mailbox.publish(|contents| contents.push(Bytes::from(vec![0; 2 * WAITING])));
    assert!(!mailbox.poll_room(&mut context));
    assert!(mailbox.take().is_some());
    assert!(!mailbox.poll_room(&mut context));
    assert!(mailbox.park(1));
    assert!(mailbox.poll_room(&mut context));
}

#[test]
fn messages_of_any_size_have_room_in_an_empty_mailbox() {
    let alarm = Alarm::new();
    let waker = alarm.waker();
    let mut context = Context::from_waker(&waker);
    let mailbox = Letters::new(Doorbell::new(|| {}));
    for _ in 0..2 {
        mailbox.publish(|contents| contents.push(Bytes::from(vec![0; WAITING])));
        assert_eq!(mailbox.poll(&mut context), (false, false));
        assert!(mailbox.take().is_some());
        assert_eq!(mailbox.poll(&mut context), (false, true));
    }
    assert_eq!(alarm.count(), 2);
}

#[test]
fn small_chunks_are_not_free() {
    let alarm = Alarm::new();
    let waker = alarm.waker();
    let mut context = Context::from_waker(&waker);
    let mailbox = Letters::new(Doorbell::new(|| {}));
    for _ in 0..8192 {
        mailbox.publish(|contents| contents.push(Bytes::from_static(b"x")));
    }
    assert!(!mailbox.poll_room(&mut context));
}

#[test]
fn the_end_comes_behind_the_last_message() {
    let mailbox = Letters::new(Doorbell::new(|| {}));
    mailbox.publish(|contents| {
        contents.head = Some("200");
        contents.push(Bytes::from(vec![0; MESSAGE]));
        contents.push(Bytes::from_static(b"x"));
        contents.end = Some(End::Complete);
    });
    let first = mailbox.take().unwrap();
    assert!(first.head.is_some() && first.end.is_none());
    assert!(!mailbox.park(1));
    let last = mailbox.take().unwrap();
    assert_eq!((last.size, last.end.is_some()), (1, true));
}

#[test]
fn an_abort_wakes_the_task_and_stays() {
    let alarm = Alarm::new();
    let waker = alarm.waker();
    let mut context = Context::from_waker(&waker);
    let mailbox = Letters::new(Doorbell::new(|| {}));
    assert!(!mailbox.poll_aborted(&mut context));
    assert!(mailbox.park(3));
    assert_eq!(
        mailbox.abort(),
        Some(3),
        "whoever waits is told by the caller"
    );
    assert_eq!(alarm.count(), 1);
    assert!(mailbox.poll_aborted(&mut context));
    assert!(mailbox.take().unwrap().aborted);
    assert!(mailbox.take().unwrap().aborted);
    assert_eq!(mailbox.abort(), None);
}

#[test]
fn the_end_may_be_a_failure() {
    let mailbox = Letters::new(Doorbell::new(|| {}));
    let error = Error::new(Kind::Read, "reset");
    mailbox.publish(|contents| contents.end = Some(End::Failed(error)));
    let Some(End::Failed(error)) = mailbox.take().unwrap().end else {
        panic!()
    };
    assert_eq!(error.kind(), Kind::Read);
}

/// A writer on a thread of its own and a reader that sleeps between wakes: were a single wake lost,
/// the reader would wait for ever.
#[test]
fn no_wake_is_lost_between_threads() {
    const LETTERS: usize = 20_000;
    let (wake, woken) = channel();
    let doorbell = Doorbell::new(move || wake.send(()).unwrap());
    let mailbox = Mailbox::<()>::new(doorbell.clone());
    let writer = thread::spawn({
        let mailbox = Arc::clone(&mailbox);
        move || {
            for number in 0..LETTERS {
                let chunk = Bytes::copy_from_slice(&number.to_be_bytes());
                mailbox.publish(|contents| contents.push(chunk));
            }
        }
    });
    let mut seen = Vec::new();
    while seen.len() < LETTERS {
        if mailbox.park(0) {
            woken.recv().unwrap();
            assert_eq!(doorbell.answer(), [0]);
        }
        seen.extend(mailbox.take().unwrap().chunks);
    }
    writer.join().unwrap();
    let numbers = seen
        .iter()
        .map(|chunk| usize::from_be_bytes((**chunk).try_into().unwrap()));
    assert!(numbers.eq(0..LETTERS));
}

#[test]
fn behind_its_end_there_is_nothing_to_cut() {
    for taken in [false, true] {
        let mailbox = Letters::new(Doorbell::new(|| {}));
        mailbox.publish(|contents| contents.end = Some(End::Complete));
        let before = taken.then(|| mailbox.take().unwrap());
        mailbox.cut(|contents, _| {
            let error = Error::new(Kind::Shutdown, "the relay was shut down");
            contents.end = Some(End::Failed(error));
        });
        let end = before.or_else(|| mailbox.take()).unwrap().end;
        assert!(matches!(end, Some(End::Complete)), "{end:?}");
        assert!(mailbox.take().is_none());
    }
}
