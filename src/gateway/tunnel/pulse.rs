//! Whether a WebSocket's upstream is still there: when it is asked, and when it is given up. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What an upstream was last heard of.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Its silence after which it is asked.
    interval: Option<Duration>,
    /// How long it may be silent after that.
    patience: Option<Duration>,
    heard_at: Instant,
    asked_at: Option<Instant>,
}

/// What is to be done by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing, until then if ever.
    Nothing(Option<Instant>),
    /// It is to be asked.
    Ask,
    /// It is gone.
    GiveUp,
}

impl Pulse {
    /// Of an upstream that has been heard at this moment.
    pub(super) fn new(
        interval: Option<Duration>,
        patience: Option<Duration>,
        now: Instant,
    ) -> Self {
        Self {
            interval,
            patience,
            heard_at: now,
            asked_at: None,
        }
    }

    /// It has said something, whatever it is.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// It has been asked.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        let (since, limit, action) = match self.asked_at {
            None => (self.heard_at, self.interval, Due::Ask),
            Some(asked_at) => (asked_at, self.patience, Due::GiveUp),
        };
        match limit.and_then(|limit| since.checked_add(limit)) {
            Some(due) if due <= now => action,
            due => Due::Nothing(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_asked_about_and_then_the_end() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Some(SECOND * 2), Some(SECOND), start);
        assert_eq!(pulse.due(start), Due::Nothing(Some(start + SECOND * 2)));
        pulse.heard(start + SECOND);
        let due = start + SECOND * 3;
        assert_eq!(pulse.due(start + SECOND * 2), Due::Nothing(Some(due)));
        assert_eq!(pulse.due(due), Due::Ask);
        pulse.asked(due);
        assert_eq!(pulse.due(due), Due::Nothing(Some(due + SECOND)));
        assert_eq!(pulse.due(due + SECOND), Due::GiveUp);
        pulse.heard(due + SECOND);
        assert_eq!(
            pulse.due(due + SECOND),
            Due::Nothing(Some(due + SECOND * 3))
        );
    }

    #[test]
    fn nobody_is_asked_or_given_up_unless_that_is_wanted() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, None, start);
        assert_eq!(pulse.due(start + SECOND), Due::Nothing(None));
        pulse.asked(start);
        assert_eq!(pulse.due(start + SECOND), Due::Nothing(None));
    }
}
