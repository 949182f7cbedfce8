//! What requests wait for at the start: the first check of each target, and names that are resolved
//! into targets. A name that takes long is waited for only where no other target is fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::member::State;
use super::set::Balancer;

/// How long names have before nobody waits for them any more who could go elsewhere.
pub const GRACE: Duration = Duration::from_secs(1);

/// Open once, it stays so.
#[derive(Debug)]
pub(super) struct Gate {
    open: AtomicBool,
    opened: Notify,
    /// Checks have begun: before that there is nothing to be seen of them.
    begun: AtomicBool,
    /// [`GRACE`] is over.
    late: AtomicBool,
}

impl Gate {
    pub(super) fn new(open: bool) -> Self {
        Self {
            open: AtomicBool::new(open),
            opened: Notify::new(),
            begun: AtomicBool::new(false),
            late: AtomicBool::new(false),
        }
    }

    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.opened.notify_waiters();
    }
}

impl Balancer {
    /// Waits until requests may go out: each target that is there has been checked once, where it
    /// is to be, and each name resolved, or one of the targets is fit and [`GRACE`] is over.
    pub async fn until_checked(&self) {
        loop {
            let opened = self.gate.opened.notified();
            if self.is_checked() {
                return;
            }
            opened.await;
        }
    }

    /// Whether that has happened.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.gate.open.load(Ordering::Acquire)
    }

    /// To be called when something has come that is waited for.
    pub(super) fn look_at_gate(&self) {
        if self.is_checked() || !self.gate.begun.load(Ordering::Acquire) {
            return;
        }
        let members = self.members();
        if members.iter().any(|member| member.awaits_check()) {
            return;
        }
        let late = self.gate.late.load(Ordering::Acquire);
        let fit = || members.iter().any(|m| m.state() == State::Healthy);
        if !members.iter().any(|m| m.awaits_addresses()) || late && fit() {
            self.gate.open();
        }
    }

    pub(super) fn begin_grace(self: &Arc<Self>) {
        if self.is_checked() {
            return;
        }
        let balancer = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(GRACE).await;
            if let Some(balancer) = balancer.upgrade() {
                balancer.gate.late.store(true, Ordering::Release);
                balancer.look_at_gate();
            }
        });
    }
}
