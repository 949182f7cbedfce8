//! Whether a WebSocket's upstream is still there: when it is asked, and when it is given up. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What an upstream was last heard of, and what it has been asked since.
#[derive(Debug)]
pub struct Pulse {
    interval: Option<Duration>,
    patience: Option<Duration>,
    heard_at: Instant,
    asked: Option<Asked>,
}

/// Pings since something came.
#[derive(Debug)]
struct Asked {
    first_at: Instant,
    last_at: Instant,
}

/// What is to be done by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing, until then if ever.
    Nothing(Option<Instant>),
    /// It is to be asked.
    Ask,
    /// It is gone.
    GiveUp,
}

impl Pulse {
    /// Of an upstream that has been heard at this moment. It is asked after each `interval` of
    /// silence, and given up where it is silent for `patience` after it was asked first.
    #[must_use]
    pub const fn new(interval: Option<Duration>, patience: Option<Duration>, now: Instant) -> Self {
        Self {
            interval,
            patience,
            heard_at: now,
            asked: None,
        }
    }

    /// When it has given a sign of life last, whatever it was.
    pub fn heard(&mut self, at: Instant) {
        if at > self.heard_at {
            (self.heard_at, self.asked) = (at, None);
        }
    }

    /// It has been asked.
    pub fn asked(&mut self, now: Instant) {
        let first_at = self.asked.as_ref().map_or(now, |asked| asked.first_at);
        self.asked = Some(Asked {
            first_at,
            last_at: now,
        });
    }

    /// When it is given up, unless it is heard before; `None` while it need not answer.
    #[must_use]
    pub fn gone_at(&self) -> Option<Instant> {
        let asked = self.asked.as_ref()?;
        asked.first_at.checked_add(self.patience?)
    }

    /// What is to be done.
    #[must_use]
    pub fn due(&self, now: Instant) -> Due {
        let silent_at = self.asked.as_ref().map_or(self.heard_at, |a| a.last_at);
        let ask_at = self.interval.and_then(|i| silent_at.checked_add(i));
        let gone_at = self.gone_at();
        if gone_at.is_some_and(|at| at <= now) {
            Due::GiveUp
        } else if ask_at.is_some_and(|at| at <= now) {
            Due::Ask
        } else {
            Due::Nothing([ask_at, gone_at].into_iter().flatten().min())
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
        // What it said before says nothing now.
        pulse.heard(start + SECOND);
        assert_eq!(pulse.due(due + SECOND), Due::GiveUp);
        pulse.heard(due + SECOND);
        let next = due + SECOND * 3;
        assert_eq!(pulse.due(due + SECOND), Due::Nothing(Some(next)));
        assert_eq!(pulse.gone_at(), None);
    }

    #[test]
    fn each_interval_of_silence_is_asked_about() {
        let start = Instant::now();
        for patience in [None, Some(SECOND * 5)] {
            let mut pulse = Pulse::new(Some(SECOND * 2), patience, start);
            for seconds in [2, 4, 6] {
                let now = start + SECOND * seconds;
                assert_eq!(pulse.due(now), Due::Ask);
                pulse.asked(now);
                assert_ne!(pulse.due(now), Due::Ask);
            }
            // Counted from the first.
            assert_eq!(pulse.gone_at(), patience.map(|p| start + SECOND * 2 + p));
            let now = start + SECOND * 7;
            assert_eq!(pulse.due(now) == Due::GiveUp, patience.is_some());
        }
    }

    #[test]
    fn nobody_is_asked_or_given_up_unless_that_is_wanted() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, None, start);
        assert_eq!(pulse.due(start + SECOND), Due::Nothing(None));
        pulse.asked(start);
        assert_eq!(pulse.due(start + SECOND), Due::Nothing(None));
        let forever = Some(Duration::MAX);
        let mut pulse = Pulse::new(forever, forever, start);
        pulse.asked(start);
        assert_eq!(pulse.due(start + SECOND), Due::Nothing(None));
    }
}
