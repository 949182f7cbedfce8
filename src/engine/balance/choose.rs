//! Gives requests their turns: which target is next, and waiting where all of them are full.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::affinity::Affinity;
use super::member::{Member, State};
use super::set::{Balancer, Set};
use super::turn::Turn;
use crate::engine::config::Timeouts;
use crate::engine::error::{Error, Kind};
use crate::engine::target::Origin;

/// Requests that wait for room at once; one more is turned away.
pub const MAX_WAITING: usize = 10_000;

/// Whom a request would like to be given to.
#[derive(Clone, Copy)]
struct Wish<'a> {
    affinity: Option<&'a Affinity>,
    /// Others are better.
    tried: &'a [Arc<Member>],
    /// Nobody else will do.
    at: Option<&'a Origin>,
    /// The time, where it need not be asked for.
    now: Option<Instant>,
}

impl<'a> Wish<'a> {
    fn new(affinity: Option<&'a Affinity>, tried: &'a [Arc<Member>]) -> Self {
        Self {
            affinity,
            tried,
            at: None,
            now: None,
        }
    }

    fn allows(&self, member: &Member) -> bool {
        self.at.is_none_or(|origin| member.is_at(origin))
    }

    fn is_new(&self, member: &Member) -> bool {
        !self.tried.iter().any(|t| std::ptr::eq(&**t, member)) && self.allows(member)
    }
}

/// What became of a request for a turn.
enum Choice {
    Taken(Turn),
    /// All that are healthy have no room.
    Full,
    /// None is healthy.
    Nobody,
}

impl Balancer {
    /// A turn for a request; waits for room where there is none, at most `queue_timeout`.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where no target is healthy, [`Kind::Busy`] where all are full.
    pub async fn turn(
        self: &Arc<Self>,
        affinity: Option<&Affinity>,
        tried: &[Arc<Member>],
    ) -> Result<Turn, Error> {
        if !self.is_checked() {
            self.until_checked().await;
        }
        self.wished(Wish::new(affinity, tried)).await
    }

    /// A turn that need not be waited for, of a request that came at `came`, where somebody has asked
    /// the clock then.
    #[must_use]
    pub fn turn_at_once(
        self: &Arc<Self>,
        affinity: Option<&Affinity>,
        came: Option<Instant>,
    ) -> Option<Turn> {
        if !self.is_checked() {
            return None;
        }
        let anybody = Wish::new(affinity, &[]);
        let wish = Wish {
            now: came,
            ..anybody
        };
        self.regular(&mut self.lock(), wish)
    }

    /// A turn with a target at `origin`, as if there were no others.
    ///
    /// # Errors
    /// As [`Balancer::turn`].
    pub async fn turn_at(self: &Arc<Self>, origin: &Origin) -> Result<Turn, Error> {
        let at = Some(origin);
        let anybody = Wish::new(None, &[]);
        self.wished(Wish { at, ..anybody }).await
    }

    /// Whether there is a target at `origin`.
    #[must_use]
    pub fn has_target_at(&self, origin: &Origin) -> bool {
        self.members().iter().any(|member| member.is_at(origin))
    }

    async fn wished(self: &Arc<Self>, wish: Wish<'_>) -> Result<Turn, Error> {
        match self.choose(wish) {
            Choice::Taken(turn) => Ok(turn),
            Choice::Nobody => Err(unavailable()),
            Choice::Full => Box::pin(self.wait(wish)).await,
        }
    }

    /// A turn for a retry with a target that has not been tried, if one is free.
    #[must_use]
    pub fn other_turn(
        self: &Arc<Self>,
        affinity: Option<&Affinity>,
        tried: &[Arc<Member>],
    ) -> Option<Turn> {
        let mut set = self.lock();
        self.regular(&mut set, Wish::new(affinity, tried))
    }

    /// Whether a request could be given to a target now, at `origin` where that is named.
    #[must_use]
    pub fn is_open(&self, origin: Option<&Origin>) -> bool {
        let open = |member: &Arc<Member>| {
            matches!(member.state(), State::Healthy | State::Ejected)
                && member.has_room()
                && origin.is_none_or(|origin| member.is_at(origin))
        };
        self.members().iter().any(open)
    }

    /// A target that a request could be given now, none of `without`; nothing is counted.
    #[must_use]
    pub fn pick(&self, without: &[String]) -> Option<String> {
        let mut set = self.lock();
        let Set {
            members, chooser, ..
        } = &mut *set;
        let usable =
            |member: &Member| member.is_usable() && !without.iter().any(|url| member.is(url));
        let chosen = chooser.choose(members, usable, None, self.now())?;
        members.get(chosen).map(|member| member.url().to_owned())
    }

    async fn wait(self: &Arc<Self>, wish: Wish<'_>) -> Result<Turn, Error> {
        let _place = Place::take(self).ok_or_else(|| self.busy())?;
        let _choosy = wish.at.is_some().then(|| Choosy::enter(self));
        let deadline = tokio::time::Instant::now() + self.settings.queue_timeout;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.choose(wish) {
                Choice::Taken(turn) => return Ok(turn),
                Choice::Nobody => return Err(unavailable()),
                Choice::Full => {}
            }
            let members = self.members();
            let fit = |member: &&Arc<Member>| member.has_room() && wish.is_new(member);
            let trials = members.iter().filter(fit).filter_map(|m| m.next_trial());
            let next = trials.min().map(tokio::time::Instant::from_std);
            let until = next.map_or(deadline, |next| next.min(deadline));
            if timeout_at(until, room).await.is_err() && until == deadline {
                return Err(self.busy());
            }
        }
    }

    fn busy(&self) -> Error {
        let seconds = self.settings.queue_timeout.as_secs_f64().ceil() as u32;
        Error::not_sent(Kind::Busy, "all targets are full").with_retry_after(seconds.max(1))
    }

    fn choose(self: &Arc<Self>, wish: Wish<'_>) -> Choice {
        let mut set = self.lock();
        if let Some(turn) = self.regular(&mut set, wish) {
            return Choice::Taken(turn);
        }
        let Set {
            members, chooser, ..
        } = &mut *set;
        let now = self.now();
        let mut pick = |usable: &dyn Fn(&Member) -> bool| {
            let hash = wish.affinity.and_then(|affinity| affinity.hash);
            let usable = |member: &Member| usable(member) && wish.allows(member);
            let chosen = chooser.choose(members, usable, hash, now);
            chosen.and_then(|index| members.get(index)).cloned()
        };
        if let Some(member) = pick(&Member::is_usable) {
            return Choice::Taken(Turn::begin(self, &member, now, false));
        }
        let of = |state: State| members.iter().any(|m| m.state() == state && wish.allows(m));
        if of(State::Healthy) {
            return Choice::Full;
        }
        let ejected = |member: &Member| member.state() == State::Ejected;
        if let Some(member) = pick(&|member| ejected(member) && member.has_room()) {
            return Choice::Taken(Turn::begin(self, &member, now, false));
        }
        if of(State::Ejected) {
            Choice::Full
        } else {
            Choice::Nobody
        }
    }

    /// A turn with a target that is fit and has not been tried.
    fn regular(self: &Arc<Self>, set: &mut Set, wish: Wish<'_>) -> Option<Turn> {
        let Set {
            members, chooser, ..
        } = set;
        let now = wish.now.unwrap_or_else(|| self.now());
        if let Some(affinity) = wish.affinity {
            let own = |m: &&Arc<Member>| affinity.is_for(m) && m.is_usable() && wish.is_new(m);
            if let Some(member) = members.iter().find(own) {
                return Some(Turn::begin(self, member, now, false));
            }
        }
        if self.ejected.load(Ordering::Acquire) > 0 {
            let patience = self.patience();
            let due = |m: &&Arc<Member>| wish.is_new(m) && m.begin_trial(now, patience);
            if let Some(member) = members.iter().find(due) {
                return Some(Turn::begin(self, member, now, true));
            }
        }
        let usable = |member: &Member| member.is_usable() && wish.is_new(member);
        if let [only] = &**members {
            return usable(only).then(|| Turn::begin(self, only, now, false));
        }
        let hash = wish.affinity.and_then(|affinity| affinity.hash);
        let chosen = chooser.choose(members, usable, hash, now)?;
        let member = members.get(chosen)?;
        Some(Turn::begin(self, member, now, false))
    }

    /// How long a trial may take where its client does not keep it up.
    fn patience(&self) -> Duration {
        let Timeouts { connect, read, .. } = self.timeouts;
        connect.unwrap_or_default() + read.unwrap_or_default()
    }

    /// A turn has ended: somebody who waits may have it.
    ///
    /// Who waits says so and then looks for room; who leaves makes room and then looks whether
    /// somebody waits. All four are sequentially consistent: with less each could miss what the other
    /// has just done, and the one who waits would not be woken.
    pub(super) fn has_left(&self) {
        if self.choosy.load(Ordering::SeqCst) > 0 {
            // The one that is woken may not want what has come free.
            self.room.notify_waiters();
        } else if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}

fn unavailable() -> Error {
    Error::not_sent(Kind::Unavailable, "no target is healthy")
}

/// A place in the queue.
struct Place<'a>(&'a Balancer);

impl<'a> Place<'a> {
    fn take(balancer: &'a Balancer) -> Option<Self> {
        let place = Self(balancer);
        // See `Balancer::has_left`.
        let waiting = balancer.waiting.fetch_add(1, Ordering::SeqCst);
        (waiting < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits for one target alone.
struct Choosy<'a>(&'a Balancer);

impl<'a> Choosy<'a> {
    fn enter(balancer: &'a Balancer) -> Self {
        // See `Balancer::has_left`.
        balancer.choosy.fetch_add(1, Ordering::SeqCst);
        Self(balancer)
    }
}

impl Drop for Choosy<'_> {
    fn drop(&mut self) {
        self.0.choosy.fetch_sub(1, Ordering::AcqRel);
    }
}
