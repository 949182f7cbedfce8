//! What follows an upgrade: octets both ways, whatever they mean. Of WebSockets the frames' borders
//! are followed, so that something can be said between two of them: a goodbye, or a ping.

mod copy;
mod frames;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use self::copy::{Copy, Progress, Receiver};
use self::frames::Frames;
use super::rewound::Rewound;
use super::service::Client;
use super::watch::Order;
use crate::engine::config::WebSockets;
use crate::engine::report::Provenance;
use crate::engine::timer::Timer;
use crate::engine::websocket::message::{FAILED, GOING_AWAY, TOO_BIG};
use crate::engine::websocket::pulse::{Due, Pulse};
use crate::engine::websocket::socket::{Io, Switching};

/// How long the other side has to end after one side of a WebSocket has ended, or was told to.
const CLOSING: Duration = Duration::from_secs(5);

/// Two connections that are to be joined.
#[derive(Debug)]
pub struct Tunnel {
    /// The client's, once hyper hands it over.
    pub client: OnUpgrade,
    /// The upstream's.
    pub upstream: Switching,
    /// The protocol is WebSocket.
    pub web_socket: bool,
    /// How it is watched, if it is one; else how long both may be silent is all that counts.
    pub settings: WebSockets,
    /// Whose connection it is.
    pub owner: Arc<Client>,
    /// Counted with its target until the end.
    pub origin: Box<Provenance>,
}

/// Joins them, in a task of its own.
pub fn start(tunnel: Tunnel) {
    tokio::spawn(run(tunnel));
}

async fn run(tunnel: Tunnel) {
    let (client, upstream) = tokio::join!(tunnel.client, tunnel.upstream.connection());
    // Either has ended before it began; there is nobody to tell.
    let (Ok(client), Ok((upstream, early))) = (client, upstream) else {
        return;
    };
    let mut upstream = Rewound::new(upstream);
    upstream.give_back(early);
    let settings = tunnel.settings;
    let copy = |receiver| {
        let most = settings.max_message_size.map(|most| most as u64);
        Copy::new(receiver, tunnel.web_socket.then(|| Frames::new(most)))
    };
    let interval = settings.ping_interval.filter(|_| tunnel.web_socket);
    let mut joined = Joined {
        client: TokioIo::new(client),
        upstream,
        up: copy(Receiver::Upstream),
        down: copy(Receiver::Client),
        active_at: Instant::now(),
        idle: settings.idle_timeout,
        pulse: Pulse::new(interval, settings.ping_timeout, Instant::now()),
        deadline: None,
        timer: Timer::default(),
        web_socket: tunnel.web_socket,
    };
    let watch = tunnel.owner.presence.watch();
    poll_fn(|context| {
        watch.listen(context);
        match watch.order() {
            Order::Die => return Poll::Ready(()),
            Order::Leave if joined.web_socket => joined.part(GOING_AWAY, GOING_AWAY),
            Order::Leave | Order::Stay => {}
        }
        joined.poll(context)
    })
    .await;
}

struct Joined {
    client: TokioIo<Upgraded>,
    upstream: Rewound<Box<dyn Io>>,
    up: Copy,
    down: Copy,
    /// When something of a message passed last.
    active_at: Instant,
    idle: Option<Duration>,
    pulse: Pulse,
    /// When it is over whatever happens.
    deadline: Option<Instant>,
    timer: Timer,
    web_socket: bool,
}

impl Joined {
    /// Says goodbye both ways, with these codes.
    fn part(&mut self, client: u16, upstream: u16) {
        self.down.part(client);
        self.up.part(upstream);
        self.end_soon();
    }

    fn end_soon(&mut self) {
        self.deadline.get_or_insert(Instant::now() + CLOSING);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Asked once: a ping of our own that it takes is no sign of its life.
        let held_up = self.up.is_held_up();
        loop {
            let now = Instant::now();
            if self.poll_both(now, held_up, context).is_ready() {
                return Poll::Ready(());
            }
            let Some(next) = self.next(now) else {
                return Poll::Pending;
            };
            ready!(self.timer.poll_due(next, context));
            if self.is_late(Instant::now()) {
                return Poll::Ready(());
            }
        }
    }

    fn poll_both(&mut self, now: Instant, held_up: bool, context: &mut Context<'_>) -> Poll<()> {
        let up = self.up.poll(context, &mut self.client, &mut self.upstream);
        let down = self
            .down
            .poll(context, &mut self.upstream, &mut self.client);
        if up == Progress::Broken || down == Progress::Broken {
            return Poll::Ready(());
        }
        if up == Progress::Ended && down == Progress::Ended {
            return Poll::Ready(());
        }
        // One side of a WebSocket that is gone leaves nothing to say for the other.
        if self.web_socket && (up == Progress::Ended || down == Progress::Ended) {
            self.end_soon();
        }
        if up == Progress::Spoken || down == Progress::Spoken {
            self.active_at = now;
        }
        // An upstream that takes octets again is there, too, be it few.
        let takes = held_up && self.up.has_taken();
        if takes || matches!(down, Progress::Moved | Progress::Spoken) {
            self.pulse.heard(now);
        }
        if self.deadline.is_none() && (self.up.is_over() || self.down.is_over()) {
            match self.up.is_over() {
                true => self.part(TOO_BIG, GOING_AWAY),
                false => self.part(FAILED, TOO_BIG),
            }
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Does what is due by now; whether that is the end.
    fn is_late(&mut self, now: Instant) -> bool {
        if let Some(deadline) = self.deadline {
            return deadline <= now;
        }
        // What it says is not read then.
        if self.down.is_held_up() {
            self.pulse.heard(now);
        }
        match self.pulse.due(now) {
            Due::Ask if self.up.is_held_up() || self.up.ask() => self.pulse.asked(now),
            Due::GiveUp => self.part(FAILED, GOING_AWAY),
            Due::Ask | Due::Nothing(_) => {}
        }
        let idle = self.idle_at().is_some_and(|at| at <= now);
        if idle && self.web_socket {
            self.part(FAILED, GOING_AWAY);
        }
        idle && !self.web_socket
    }

    fn idle_at(&self) -> Option<Instant> {
        self.idle.and_then(|idle| self.active_at.checked_add(idle))
    }

    /// When the clock is to be looked at again.
    fn next(&self, now: Instant) -> Option<Instant> {
        if self.deadline.is_some() {
            return self.deadline;
        }
        let pulse = match self.pulse.due(now) {
            Due::Nothing(next) => next,
            Due::GiveUp => Some(now),
            Due::Ask if self.up.is_held_up() || self.up.can_ask() => Some(now),
            // In the middle of a frame of the client's there is nothing to do but wait for its end.
            Due::Ask => self.pulse.gone_at(),
        };
        [self.idle_at(), pulse].into_iter().flatten().min()
    }
}
