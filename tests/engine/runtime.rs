//! The engine's one thread: shared, ended with its last user, and never waited for in vain.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::runtime::{Registry, Runtime, THREAD_NAME};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn jobs_are_done_in_order_on_one_named_thread() {
    let runtime = Runtime::start().unwrap();
    let (done, results) = channel();
    for number in 0..1_000 {
        let done = done.clone();
        let job = move || {
            let name = thread::current().name().map(str::to_owned);
            done.send((number, name)).unwrap();
        };
        runtime.submit(Box::new(job));
    }
    for number in 0..1_000 {
        let expected = (number, Some(THREAD_NAME.to_owned()));
        assert_eq!(results.recv_timeout(PATIENCE).unwrap(), expected);
    }
    runtime.stop();
}

#[test]
fn jobs_of_many_threads_are_all_done() {
    let runtime = Arc::new(Runtime::start().unwrap());
    let (done, results) = channel();
    let submitters: Vec<_> = (0..4)
        .map(|_| {
            let (runtime, done) = (Arc::clone(&runtime), done.clone());
            thread::spawn(move || {
                for _ in 0..2_000 {
                    let done = done.clone();
                    runtime.submit(Box::new(move || done.send(()).unwrap()));
                }
            })
        })
        .collect();
    for _ in 0..8_000 {
        results.recv_timeout(PATIENCE).unwrap();
    }
    for submitter in submitters {
        submitter.join().unwrap();
    }
}

#[test]
fn a_job_may_spawn_tasks() {
    let runtime = Runtime::start().unwrap();
    let (done, results) = channel();
    runtime.submit(Box::new(move || {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            done.send("slept").unwrap();
        });
    }));
    assert_eq!(results.recv_timeout(PATIENCE).unwrap(), "slept");
}

#[test]
fn a_ring_waits_for_what_is_ready() {
    let runtime = Runtime::start().unwrap();
    let (wake, woken) = channel();
    let doorbell = Doorbell::new(move || wake.send(()).unwrap());
    let (one, other) = (doorbell.clone(), doorbell.clone());
    runtime.submit(Box::new(move || {
        let (mut writer, mut reader) = tokio::net::UnixStream::pair().unwrap();
        tokio::spawn(async move {
            // It waits in the kernel, where nobody sees it until the thread looks.
            reader.read_u8().await.unwrap();
            other.ring(Some(2));
        });
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            writer.write_u8(0).await.unwrap();
            one.ring(Some(1));
        });
    }));
    woken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(doorbell.answer(), [1, 2]);
    runtime.stop();
    assert!(woken.try_recv().is_err());
}

#[test]
fn stopping_drops_what_is_going_on_and_joins_the_thread() {
    let runtime = Runtime::start().unwrap();
    let (held, dropped) = channel::<()>();
    let (started, running) = channel();
    runtime.submit(Box::new(move || {
        tokio::spawn(async move {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
    }));
    running.recv_timeout(PATIENCE).unwrap();
    runtime.stop();
    assert!(dropped.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected));
}

#[test]
fn the_thread_is_shared_while_it_is_used() {
    let registry = Registry::new();
    let first = Runtime::shared(&registry).unwrap();
    let second = Runtime::shared(&registry).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let address = Arc::as_ptr(&first);
    drop(first);
    assert_eq!(Arc::as_ptr(&Runtime::shared(&registry).unwrap()), address);
    assert!(Arc::into_inner(second).is_some(), "nobody else holds it");
}

#[test]
fn a_registry_that_forgot_makes_a_new_thread() {
    let registry = Registry::new();
    let parents = Runtime::shared(&registry).unwrap();
    registry.forget();
    let childs = Runtime::shared(&registry).unwrap();
    assert!(!Arc::ptr_eq(&parents, &childs));
    let (done, results) = channel();
    childs.submit(Box::new(move || done.send("done").unwrap()));
    assert_eq!(results.recv_timeout(PATIENCE).unwrap(), "done");
}
