//! When a connection's time is over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Order, Phase, Watch};
use crate::gateway::config::settings::ServerLimits;

/// Milliseconds that a client in HTTP/2 has to take note of a goodbye when nothing is in flight.
const PARTING: u64 = 2000;

impl Watch {
    /// What is to become of it by now.
    pub(in crate::gateway) fn verdict(&self, limits: &ServerLimits, now: u64) -> Order {
        if self.tunnel.load(Ordering::Relaxed) {
            return Order::Stay;
        }
        let over = |since: u64, limit: Option<Duration>| {
            limit.is_some_and(|limit| Duration::from_millis(now.saturating_sub(since)) >= limit)
        };
        let blocked = self.blocked.load(Ordering::Relaxed);
        let owing = self.owing.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let leaving = self.leaving.load(Ordering::Relaxed);
        let kept = match self.is_fresh() {
            // Its first head has as long as any.
            true => {
                let both = limits.keepalive_timeout.zip(limits.header_timeout);
                both.map(|(kept, head)| kept.max(head))
            }
            false => limits.keepalive_timeout,
        };
        // What waits for room in HTTP/2 is not held up by the socket.
        let stuck = self.is_in(Phase::Idle) && self.unwritten() != 0;
        if blocked != 0 && over(blocked, limits.body_timeout)
            || stuck && over(since, limits.body_timeout)
            || owing != 0 && over(owing, limits.header_timeout)
            || self.is_in(Phase::Head)
                && !self.ending.load(Ordering::Relaxed)
                && over(since, limits.header_timeout)
            || leaving != 0
                && self.is_idle_for(PARTING, now)
                && now.saturating_sub(leaving) >= PARTING
        {
            Order::Die
        } else if self.is_in(Phase::Idle) && !self.is_writing() && over(since, kept) {
            Order::Leave
        } else {
            Order::Stay
        }
    }
}
