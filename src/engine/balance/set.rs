//! The set of targets: takes them in and out while requests are in flight. What comes of those is
//! noted in [`outcome`](super::outcome).

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use super::gate::Gate;
use super::member::{Member, State, Status};
use super::outcome::Listener;
use super::policy::Chooser;
use super::settings::{Balancing, TargetSettings};
use crate::engine::config::{Limits, Timeouts};
use crate::engine::target::{Endpoint, Target};
use crate::engine::upstream::connect::Connector;
use crate::engine::upstream::pool::Pool;

/// Targets at once, so that a name cannot resolve into more than anyone means.
pub const MAX_TARGETS: usize = 10_000;

/// Health checks at once; others wait for their turn.
pub const MAX_PROBES: usize = 100;

/// Why a target cannot be added, drained or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// It is there already.
    #[error("{0} is a target already")]
    Duplicate(String),
    /// The others are of another scheme.
    #[error("{0} mixes http and https with the other targets")]
    MixedSchemes(String),
    /// There are too many.
    #[error("more than {MAX_TARGETS} targets")]
    TooMany,
    /// It is not there.
    #[error("{0} is not a target")]
    Unknown(String),
}

/// The set of targets.
pub struct Balancer {
    pub(super) settings: Balancing,
    pub(super) connector: Arc<Connector>,
    limits: Limits,
    pub(super) timeouts: Timeouts,
    set: Mutex<Set>,
    pub(super) room: Notify,
    pub(super) waiting: AtomicUsize,
    /// Those of them that wait for one target alone.
    pub(super) choosy: AtomicUsize,
    pub(super) ejected: AtomicUsize,
    pub(super) gate: Gate,
    /// A single target is never ejected, so how it answers need not be noted.
    pub(super) several: AtomicBool,
    checks: AtomicU64,
    /// Checks that may go on at once, so that many targets do not use up all descriptors.
    pub(super) probes: Semaphore,
    pub(super) listener: Mutex<Option<Listener>>,
}

pub(super) struct Set {
    pub(super) members: Arc<[Arc<Member>]>,
    named: Vec<Named>,
    pub(super) chooser: Chooser,
    closed: bool,
}

/// A target whose name is resolved into a set of targets.
struct Named {
    settings: TargetSettings,
    /// The task that does it, once it has begun.
    refresh: Option<AbortHandle>,
}

impl Named {
    fn new(settings: TargetSettings) -> Self {
        let refresh = None;
        Self { settings, refresh }
    }

    fn is(&self, url: &str) -> bool {
        self.settings.target.name() == url
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(refresh) = &self.refresh {
            refresh.abort();
        }
    }
}

impl Set {
    /// Resolves a name no more; whether it was one of those that are.
    fn forget_name(&mut self, url: &str) -> bool {
        let names = self.named.len();
        self.named.retain(|named| !named.is(url));
        self.named.len() < names
    }
}

impl Balancer {
    /// A set with these targets.
    #[must_use]
    pub fn new(
        targets: Vec<TargetSettings>,
        settings: Balancing,
        connector: Arc<Connector>,
        limits: Limits,
        timeouts: Timeouts,
    ) -> Arc<Self> {
        let chooser = Chooser::new(settings.policy, settings.seed);
        let unchecked = targets.iter().any(|target| target.health_check.is_some())
            || settings.dns_refresh.is_some();
        let balancer = Self {
            settings,
            connector,
            limits,
            timeouts,
            set: Mutex::new(Set {
                members: Arc::new([]),
                named: Vec::new(),
                chooser,
                closed: false,
            }),
            room: Notify::new(),
            waiting: AtomicUsize::new(0),
            choosy: AtomicUsize::new(0),
            ejected: AtomicUsize::new(0),
            gate: Gate::new(!unchecked),
            several: AtomicBool::new(false),
            checks: AtomicU64::new(0),
            probes: Semaphore::new(MAX_PROBES),
            listener: Mutex::default(),
        };
        let mut set = balancer.lock();
        set.named = targets
            .iter()
            .filter(|t| balancer.is_named(t))
            .cloned()
            .map(Named::new)
            .collect();
        let members = targets
            .into_iter()
            .map(|target| balancer.member(target, None, None));
        balancer.replace(&mut set, members.collect());
        drop(set);
        Arc::new(balancer)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(
        &self,
        target: TargetSettings,
        source: Option<String>,
        before: Option<&Member>,
    ) -> Arc<Member> {
        let pool = Pool::new(Arc::clone(&self.connector), self.limits, self.timeouts.pool);
        let sticky = self.settings.sticky.as_ref();
        let cookie = sticky.map(|sticky| sticky.value(target.target.name()));
        let awaits_addresses = source.is_none() && self.is_named(&target);
        Member::new(target, pool, cookie, (source, awaits_addresses), before)
    }

    /// Whether a target's name is resolved into a set of targets.
    fn is_named(&self, target: &TargetSettings) -> bool {
        let Endpoint::Tcp { host, .. } = &target.target.origin().endpoint else {
            return false;
        };
        self.settings.dns_refresh.is_some() && host.parse::<IpAddr>().is_err()
    }

    /// Has `spawn` begin with each name that is to be resolved, but that it has not begun with.
    pub(super) fn refresh_each(&self, spawn: impl Fn(Arc<Target>) -> AbortHandle) {
        let mut set = self.lock();
        if set.closed {
            return;
        }
        for named in &mut set.named {
            let target = &named.settings.target;
            named
                .refresh
                .get_or_insert_with(|| spawn(Arc::clone(target)));
        }
    }

    fn replace(&self, set: &mut Set, members: Vec<Arc<Member>>) {
        self.count_ejected(&members);
        self.several.store(members.len() > 1, Ordering::Release);
        set.chooser.rebuild(&members);
        set.members = members.into();
        self.room.notify_waiters();
    }

    /// The clock, which tests can hold.
    pub(super) fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// The targets at this moment.
    #[must_use]
    pub fn members(&self) -> Arc<[Arc<Member>]> {
        Arc::clone(&self.lock().members)
    }

    /// What is known of each target.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        self.members().iter().map(|m| m.status()).collect()
    }

    /// Health checks that have come to an end.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    pub(super) fn count_check(&self) {
        self.checks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// To be called with the set locked.
    pub(super) fn count_ejected(&self, members: &[Arc<Member>]) {
        let ejected = members.iter().filter(|m| m.state() == State::Ejected);
        self.ejected.store(ejected.count(), Ordering::Release);
    }

    /// Takes a target in. One that is draining comes back.
    ///
    /// # Errors
    /// [`SetError::Duplicate`], [`SetError::MixedSchemes`], [`SetError::TooMany`].
    pub fn add(&self, target: TargetSettings) -> Result<(), SetError> {
        let named = self.is_named(&target).then(|| target.clone());
        let name = target.target.name().to_owned();
        let mut set = self.lock();
        let (before, others): (Vec<_>, Vec<_>) =
            set.members.iter().cloned().partition(|m| m.is(&name));
        let is_named = set.named.iter().any(|named| named.is(&name));
        if is_named || before.iter().any(|m| m.state() != State::Draining) {
            return Err(SetError::Duplicate(name));
        }
        let secure = target.target.origin().secure;
        if others.iter().any(|m| m.target().origin().secure != secure) {
            return Err(SetError::MixedSchemes(name));
        }
        if others.len() >= MAX_TARGETS {
            return Err(SetError::TooMany);
        }
        let before = before.first().map(|member| &**member);
        let mut members = others;
        let member = self.member(target, None, before);
        let comes_back = before.is_some();
        members.push(Arc::clone(&member));
        set.named.extend(named.map(Named::new));
        self.replace(&mut set, members);
        drop(set);
        if comes_back {
            let after = member.state();
            let changed = after != State::Draining;
            self.tell(&member, changed.then_some((State::Draining, after)));
        }
        Ok(())
    }

    /// Gives a target no new requests.
    ///
    /// # Errors
    /// [`SetError::Unknown`].
    pub fn drain(&self, url: &str) -> Result<(), SetError> {
        let mut set = self.lock();
        let was_named = set.forget_name(url);
        let members = Arc::clone(&set.members);
        drop(set);
        let mut found = members.iter().filter(|member| member.is(url)).peekable();
        if found.peek().is_none() && !was_named {
            return Err(SetError::Unknown(url.to_owned()));
        }
        for member in found {
            self.tell(member, member.drain());
        }
        self.look_at_gate();
        Ok(())
    }

    /// Takes a target out; what it has in flight ends there.
    ///
    /// # Errors
    /// [`SetError::Unknown`].
    pub fn remove(&self, url: &str) -> Result<(), SetError> {
        let mut set = self.lock();
        let all = set.members.iter().cloned();
        let (gone, kept): (Vec<_>, Vec<_>) = all.partition(|member| member.is(url));
        let was_named = set.forget_name(url);
        if gone.is_empty() && !was_named {
            return Err(SetError::Unknown(url.to_owned()));
        }
        self.replace(&mut set, kept);
        drop(set);
        retire(&gone);
        self.look_at_gate();
        Ok(())
    }

    /// Puts a target per address in place of a name, or of its earlier addresses; nothing where
    /// the name has been drained or taken out meanwhile.
    pub(super) fn replace_source(&self, source: &str, addresses: &[IpAddr]) {
        let mut set = self.lock();
        let named = set.named.iter().find(|named| named.is(source));
        let (Some(named), false) = (named.map(|n| n.settings.clone()), set.closed) else {
            return;
        };
        let (old, mut members): (Vec<_>, Vec<_>) =
            set.members.iter().cloned().partition(|m| m.is(source));
        let mut staying = Vec::new();
        for address in addresses {
            let target = Arc::new(named.target.at(*address));
            let name = target.name();
            if let Some(same) = old.iter().find(|member| member.url() == name) {
                staying.push(Arc::clone(same));
            } else if !members.iter().any(|member| member.url() == name) {
                let settings = TargetSettings {
                    target,
                    ..named.clone()
                };
                members.push(self.member(settings, Some(source.to_owned()), None));
            }
        }
        let gone = old.into_iter();
        let gone = gone.filter(|m| !staying.iter().any(|s| Arc::ptr_eq(s, m)));
        let gone: Vec<_> = gone.collect();
        members.extend(staying);
        members.truncate(MAX_TARGETS);
        self.replace(&mut set, members);
        drop(set);
        retire(&gone);
    }

    /// Ends the checks; connections that are idle are closed, the others when they are.
    pub fn close(&self) {
        let members = {
            let mut set = self.lock();
            set.closed = true;
            set.named.clear();
            Arc::clone(&set.members)
        };
        retire(&members);
        // Nobody will check them any more, so nobody is to wait for it.
        self.gate.open();
    }

    /// A process that was forked off must not choose as its siblings do.
    pub(super) fn reseed(&self) {
        if self.settings.seed.is_none() {
            self.lock().chooser.reseed();
        }
    }
}

fn retire(members: &[Arc<Member>]) {
    for member in members {
        member.stop_checks();
        member.pool().close();
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
