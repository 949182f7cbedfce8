//! What comes of requests and checks: notes how they went, and tells of what that changes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::ejection::most_ejected;
use super::member::{Member, State};
use super::set::Balancer;

/// A target's state has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which target's.
    pub url: String,
    /// What it was.
    pub before: State,
    /// What it is.
    pub after: State,
}

/// Who is told of changes; called from whichever thread notices one.
pub type Listener = Arc<dyn Fn(Change) + Send + Sync>;

impl Balancer {
    pub(super) fn succeeded(&self, member: &Member, trial: bool) {
        if let Some(passive) = &self.settings.passive
            && (trial || self.several.load(Ordering::Acquire))
        {
            let change = member.succeeded(passive, trial, self.now());
            self.tell(member, change);
        }
    }

    pub(super) fn failed(
        &self,
        member: &Member,
        error: String,
        latency: Option<Duration>,
        trial: bool,
    ) {
        // Locked, so that two that fail at once are not both ejected beyond the share.
        let set = self.lock();
        let in_service = set.members.iter().filter(|m| m.state() != State::Draining);
        let in_service = in_service.count();
        let several = set.members.len() > 1;
        let passive = self.settings.passive.as_ref();
        let passive = passive.filter(|_| several || trial);
        let may_eject = passive.is_some_and(|passive| {
            let ejected = set.members.iter().filter(|m| m.state() == State::Ejected);
            ejected.count() < most_ejected(in_service, passive.max_ejected)
        });
        let change = member.failed(error, latency, passive, (trial, may_eject), self.now());
        drop(set);
        self.tell(member, change);
    }

    /// Tells of a change, unless the target has been taken out meanwhile.
    pub(super) fn tell(&self, member: &Member, change: Option<(State, State)>) {
        let Some((before, after)) = change else {
            return;
        };
        let set = self.lock();
        if !set.members.iter().any(|m| std::ptr::eq(&**m, member)) {
            return;
        }
        self.count_ejected(&set.members);
        drop(set);
        // Whoever waits for room may be better off now, or wait for nothing.
        self.room.notify_waiters();
        let listener = self.listener().clone();
        if let Some(listener) = listener {
            let url = member.url().to_owned();
            listener(Change { url, before, after });
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `listener` told of each change, in place of an earlier one.
    pub fn listen(&self, listener: Option<Listener>) {
        *self.listener() = listener;
    }
}
