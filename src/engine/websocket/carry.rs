//! An open WebSocket: messages both ways, pings, timeouts, and the close.

use std::future::poll_fn;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, timeout};

use super::direct::{Lane, SMALL};
use super::loan::{Back, Calm, LOAN, Loan};
use super::message::{Close, FAILED, GOING_AWAY, Message, TOO_BIG};
use super::peer::{Fault, Peer};
use super::pulse::{Due, Pulse};
use super::session::{CLOSING, Ends};
use crate::engine::config::WebSockets;
use crate::engine::error::{Error, Kind};
use crate::engine::mailbox::{CHUNK_COST, End, Item, MESSAGE};
use crate::engine::relay::Relay;
use crate::engine::report::Provenance;
use crate::engine::timer::Timer;

/// How a session ends.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The client closed, or left.
    Left(Close),
    /// The upstream closed, which the client has been told.
    Closed,
    /// Nothing more comes from the upstream, by its fault.
    Fault(Fault),
    /// Each side is told its part; for the target it counts as no failure.
    Ended {
        client: Close,
        upstream: Option<Close>,
        error: Option<Error>,
    },
}

/// A session that is open.
pub(super) struct Session<'a> {
    peer: Box<dyn Peer + Send>,
    ends: &'a Ends,
    settings: WebSockets,
    /// Something has been sent that may still be buffered.
    unflushed: bool,
    /// The client is slow, so that nothing is read from the upstream.
    paused: bool,
    pulse: Pulse,
    /// When there was a message either way last.
    busy: Instant,
    calm: Calm,
    /// When a client that has left has waited long enough for its last messages to go.
    patience: Option<Instant>,
    timer: Timer,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        drop(self.ends.direct.enter().take_back());
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(peer: Box<dyn Peer + Send>, ends: &'a Ends, settings: WebSockets) -> Self {
        let now = Instant::now();
        Self {
            peer,
            ends,
            settings,
            unflushed: false,
            paused: false,
            pulse: Pulse::new(settings.ping_interval, settings.ping_timeout, now),
            busy: now,
            calm: Calm::new(now),
            patience: None,
            timer: Timer::default(),
        }
    }

    /// Carries messages until one side ends, and lets the other know.
    pub(super) async fn run(mut self, relay: &Relay, origin: &Provenance) {
        let mut leaving = std::pin::pin!(relay.leaving());
        // Asking takes locks, for each message. One task polls this, so it need be asked once.
        let changes = relay.changes();
        let mut asked = false;
        let outcome = poll_fn(|context| {
            let ask = !std::mem::replace(&mut asked, true) || changes();
            if ask && leaving.as_mut().poll(context).is_ready() {
                return Poll::Ready(Outcome::Ended {
                    client: Close::new(GOING_AWAY, ""),
                    upstream: Some(Close::new(GOING_AWAY, "")),
                    error: None,
                });
            }
            self.poll(context)
        });
        let (client, upstream, reads_on) = match outcome.await {
            Outcome::Left(close) => (None, Some(close), true),
            Outcome::Closed => (None, None, false),
            Outcome::Fault(Fault { error, farewell }) => {
                relay.report_interrupted(&*self.ends.inbox, origin, &error);
                (Some(Close::new(FAILED, "")), farewell, false)
            }
            Outcome::Ended {
                client,
                upstream,
                error,
            } => {
                if let Some(error) = error {
                    relay.report_ended(&*self.ends.inbox, origin, &error);
                }
                (Some(client), upstream, true)
            }
        };
        if let Some(close) = &client {
            self.tell_client(close.clone());
        }
        if client.is_none() || upstream.is_some() {
            tokio::select! {
                biased;
                () = relay.over() => {}
                _ = timeout(CLOSING, self.part(upstream, reads_on)) => {}
            }
        }
    }

    /// Sends the close and waits for the end of the connection.
    pub(super) async fn part(&mut self, farewell: Option<Close>, reads_on: bool) {
        // Whoever called it off has not looked whether something was left.
        drop(self.enter());
        if let Some(close) = farewell {
            poll_fn(|context| self.peer.poll_ready(context)).await;
            self.peer.send(Message::Close(close));
        }
        poll_fn(|context| self.peer.poll_flush(context)).await;
        let mut open = reads_on;
        while open {
            let received = poll_fn(|context| self.peer.poll_receive(context)).await;
            open = !matches!(received, Ok(Message::Close(_)) | Err(_));
        }
        poll_fn(|context| self.peer.poll_end(context)).await;
    }

    pub(super) fn tell_client(&mut self, close: Close) {
        // The event loop must read nothing that would come behind it.
        let _lane = self.enter();
        self.ends.inbox.publish(|contents| {
            contents.push(Message::Close(close));
            contents.end = Some(End::Complete);
        });
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut lane = self.enter();
        let polled = self.poll_both(context);
        if polled.is_pending()
            && !self.unflushed
            && let Some(socket) = self.peer.shortcut()
        {
            let most = self.settings.max_message_size.unwrap_or(SMALL).min(SMALL);
            match self.lend(context, most) {
                Some(loan) => {
                    let place = loan.watch.place();
                    lane.lend(loan);
                    // Whoever has something at once looks at the lane.
                    drop(lane);
                    let ends = self.timer.poll_due(Instant::now() + LOAN, context);
                    if self.ends.lookout.begin(place).is_err() || ends.is_ready() {
                        context.waker().wake_by_ref();
                    }
                }
                None => lane.open(&socket, most),
            }
        }
        polled
    }

    /// What the event loop gets where it may read from now on.
    fn lend(&mut self, context: &Context<'_>, most: usize) -> Option<Loan> {
        if self.paused || self.patience.is_some() || !self.calm.is_enough() {
            return None;
        }
        self.calm = Calm::new(self.busy);
        let Ok(socket) = self.peer.lend()? else {
            // Reading finds that it is lost.
            context.waker().wake_by_ref();
            return None;
        };
        let Ends {
            direct, lookout, ..
        } = self.ends;
        Some(Loan {
            watch: lookout.reserve(direct, socket.as_raw_fd()),
            socket,
            inbox: Arc::clone(&self.ends.inbox),
            task: context.waker().clone(),
            most,
            back: Back::default(),
            over: false,
        })
    }

    /// Has the lane to itself, and what was left there.
    fn enter(&mut self) -> MutexGuard<'a, Lane> {
        let mut lane = self.ends.direct.enter();
        let (rest, sent_at) = lane.take();
        self.busy = sent_at.map_or(self.busy, |at| self.busy.max(at));
        if let Some(back) = lane.take_back() {
            self.busy = back.received_at.map_or(self.busy, |at| self.busy.max(at));
            self.peer.take_back(back);
        }
        if !rest.is_empty() {
            self.peer.resume(&rest);
            self.unflushed = true;
        }
        lane
    }

    fn poll_both(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let now = Instant::now();
        let (left, room) = self.ends.inbox.poll(context);
        self.paused = !left && !room;
        if left && self.patience.is_none() {
            self.patience = Some(now + CLOSING);
        }
        if let Some(outcome) = self.poll_outbound(context, now) {
            return Poll::Ready(outcome);
        }
        if let Some(outcome) = self.poll_inbound(context, now, left) {
            return Poll::Ready(outcome);
        }
        self.poll_time(context, now)
    }

    /// Takes what the client has sent to the upstream.
    fn poll_outbound(&mut self, context: &mut Context<'_>, now: Instant) -> Option<Outcome> {
        let mut sent = 0;
        let mut more = true;
        // Asked behind the last message, too, as it brings a large one on its way.
        while self.peer.poll_ready(context).is_ready() && more {
            if sent > MESSAGE {
                // The other direction wants its turn.
                context.waker().wake_by_ref();
                break;
            }
            let Poll::Ready((message, others)) = self.ends.outbox.poll_next(context) else {
                break;
            };
            more = others;
            if let Message::Close(close) = message {
                return Some(Outcome::Left(close));
            }
            self.busy = now;
            if self.is_too_big(&message) {
                return Some(Outcome::Ended {
                    client: Close::new(TOO_BIG, ""),
                    upstream: Some(Close::new(GOING_AWAY, "")),
                    error: Some(Error::new(
                        Kind::Abandoned,
                        "the client sent a message that is too big",
                    )),
                });
            }
            sent += message.size() + CHUNK_COST;
            self.peer.send(message);
            self.unflushed = true;
        }
        if self.unflushed {
            self.unflushed = self.peer.poll_flush(context).is_pending();
        }
        None
    }

    fn is_too_big(&self, message: &Message) -> bool {
        let most = self.settings.max_message_size;
        most.is_some_and(|most| message.size() > most)
    }

    /// Takes what the upstream has sent to the client, as one publication.
    fn poll_inbound(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        left: bool,
    ) -> Option<Outcome> {
        if self.paused {
            return None;
        }
        let mut batch = Vec::new();
        let mut size = 0;
        let mut outcome = None;
        while size < MESSAGE && outcome.is_none() {
            let Poll::Ready(received) = self.peer.poll_receive(context) else {
                break;
            };
            match received {
                // Behind a socket tungstenite has counted before.
                Ok(message) if self.is_too_big(&message) => {
                    outcome = Some(Outcome::Ended {
                        client: Close::new(FAILED, ""),
                        upstream: Some(Close::new(TOO_BIG, "")),
                        error: Some(Error::new(Kind::Protocol, "a message is too big")),
                    });
                }
                Ok(message) => {
                    self.busy = now;
                    size += message.size() + CHUNK_COST;
                    if matches!(message, Message::Close(_)) {
                        outcome = Some(Outcome::Closed);
                    }
                    batch.push(message);
                }
                Err(fault) => outcome = Some(Outcome::Fault(fault)),
            }
        }
        if size >= MESSAGE {
            context.waker().wake_by_ref();
        }
        if size > 0 {
            self.calm.note(size, now);
        }
        if !batch.is_empty() && !left {
            let ended = matches!(outcome, Some(Outcome::Closed));
            self.ends.inbox.publish(|contents| {
                contents.extend(batch);
                if ended {
                    contents.end = Some(End::Complete);
                }
            });
        }
        outcome
    }

    /// Sends pings when they are due, and ends what takes too long.
    fn poll_time(&mut self, context: &mut Context<'_>, mut now: Instant) -> Poll<Outcome> {
        loop {
            // Where nobody listens silence says nothing.
            self.pulse.heard(match self.paused {
                true => now,
                false => self.peer.heard_at(),
            });
            let Some(next) = self.next_deadline(now) else {
                return Poll::Pending;
            };
            ready!(self.timer.poll_due(next, context));
            now = Instant::now();
            let failed = |error: &'static str| Error::new(Kind::ReadTimeout, error);
            let pulse = self.pulse.due(now);
            if pulse == Due::GiveUp {
                return Poll::Ready(Outcome::Fault(Fault {
                    error: failed("no answer to a ping in time"),
                    farewell: None,
                }));
            }
            if self.idle_at().is_some_and(|at| at <= now) {
                return Poll::Ready(Outcome::Ended {
                    client: Close::new(FAILED, ""),
                    upstream: Some(Close::new(GOING_AWAY, "")),
                    error: Some(failed("no message in time")),
                });
            }
            if self.patience.is_some_and(|due| due <= now) {
                return Poll::Ready(Outcome::Ended {
                    client: Close::new(GOING_AWAY, ""),
                    upstream: None,
                    error: None,
                });
            }
            if pulse == Due::Ask {
                self.pulse.asked(now);
                if self.peer.poll_ready(context).is_ready() {
                    self.peer.ping();
                    self.unflushed = self.peer.poll_flush(context).is_pending();
                }
            }
        }
    }

    fn idle_at(&self) -> Option<Instant> {
        let idle = self.settings.idle_timeout?;
        self.busy.checked_add(idle)
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let pulse = match self.pulse.due(now) {
            Due::Nothing(next) => next,
            Due::Ask | Due::GiveUp => Some(now),
        };
        let deadlines = [pulse, self.idle_at(), self.patience];
        deadlines.into_iter().flatten().min()
    }
}
