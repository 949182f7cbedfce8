//! A WebSocket from its handshake on: asks the upstream, tells the client, and has messages carried.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use super::carry::Session;
use super::direct::Direct;
use super::lookout::Lookout;
use super::message::Message;
use super::peer::Peer;
use super::socket::SocketPeer;
use super::{Stream, Switched};
use crate::engine::attempt::Answer;
use crate::engine::deliver::{Ending, ExchangeMailbox, Head, fail, pass_on};
use crate::engine::exchange::Response;
use crate::engine::lines::Lines;
use crate::engine::mailbox::Mailbox;
use crate::engine::pipe::Pipe;
use crate::engine::relay::{InFlight, Ongoing, Relay, Request};
use crate::engine::report::{Note, Observer, Provenance};

/// What goes to the client.
pub type Inbox = ExchangeMailbox<Message>;

/// What comes from the client.
pub type Outbox = Pipe<Message>;

/// What a session shares with the client's event loop.
#[derive(Debug, Clone)]
pub struct Ends {
    /// What goes to the client.
    pub inbox: Arc<Inbox>,
    /// What comes from the client.
    pub outbox: Arc<Outbox>,
    /// Where small messages go past both.
    pub direct: Arc<Direct>,
    /// Where the event loop watches what it reads itself.
    pub lookout: Arc<Lookout>,
}

/// Somebody beside the engine whom the end of a relay has to wait for, and then to call off.
#[derive(Debug)]
pub struct Presence(pub Arc<Mailbox<()>>);

impl Ongoing for Presence {
    fn cut(&self) {
        self.0.publish(|contents| contents.aborted = true);
    }
}

/// How long an upstream has to answer a close, and to end its connection, before it is dropped.
pub const CLOSING: Duration = Duration::from_secs(5);

/// Runs a WebSocket to its end. A refused handshake goes to `inbox` as any response does.
pub async fn run(in_flight: InFlight, request: Box<Request>, ends: Ends) {
    let ending = Ending(Some(&*ends.inbox));
    let relay = in_flight.relay();
    // Boxed: it is over when the session begins, which may last for days.
    let opened = Box::pin(open(relay, request, &ends.inbox)).await;
    if let Some((peer, origin)) = opened {
        let session = Session::new(peer, &ends, relay.config.web_sockets);
        session.run(relay, &origin).await;
    }
    ending.disarm();
    ends.outbox.close();
}

/// How long a refusal's body may take before its beginning should go out: whoever passes it on waits
/// for the end first.
pub const GATHERING: Duration = Duration::from_secs(1);

/// The work's outcome; `None` where the client leaves before.
async fn unless_aborted<F: Future>(inbox: &Inbox, work: F) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    poll_fn(|context| match inbox.poll_aborted(context) {
        true => Poll::Ready(None),
        false => work.as_mut().poll(context).map(Some),
    })
    .await
}

/// Says when what is gathered should go out; never ends.
async fn note_slow(inbox: &Inbox) {
    sleep(GATHERING).await;
    inbox.note(Note::Slow);
    pending().await
}

/// Opens the upstream's end and publishes its 101, or whatever it answers instead.
async fn open(
    relay: &Relay,
    request: Box<Request>,
    inbox: &Inbox,
) -> Option<(Box<dyn Peer + Send>, Box<Provenance>)> {
    let exchange = relay.exchange(request, inbox);
    let mut response = match unless_aborted(inbox, exchange).await? {
        Ok(response) => response,
        Err(error) => {
            inbox.publish(|contents| fail(contents, &error));
            return None;
        }
    };
    let Some(Switched {
        subprotocol,
        stream,
    }) = response.answer.switched.take()
    else {
        let refusal = async {
            tokio::select! {
                biased;
                () = pass_on(relay, &mut response, inbox) => {}
                () = note_slow(inbox) => {}
            }
        };
        unless_aborted(inbox, refusal).await;
        return None;
    };
    let most = relay.config.web_sockets.max_message_size;
    let peer: Box<dyn Peer + Send> = match stream {
        Stream::Memory(peer) => Box::new(peer),
        Stream::Socket(switching) => match SocketPeer::new(switching, most).await {
            Ok(peer) => Box::new(peer),
            Err(error) => {
                relay.report_interrupted(inbox, &response.origin, &error);
                inbox.publish(|contents| fail(contents, &error));
                return None;
            }
        },
    };
    let Response { answer, origin } = response;
    let Answer {
        status, headers, ..
    } = *answer;
    // What follows may last for days.
    origin.completed();
    inbox.publish(|contents| {
        contents.head = Some(Head {
            status,
            headers: Lines::from(&headers),
            subprotocol,
            own: false,
        });
    });
    Some((peer, origin))
}
