//! Active health: what probes say about a target.

/// A target's health as far as its probes tell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not probed yet, so not known to be fit.
    #[default]
    Unknown,
    /// Gets requests.
    Healthy,
    /// Gets none.
    Unhealthy,
}

/// The probes of one target so far.
#[derive(Debug, Default)]
pub struct Probing {
    health: Health,
    /// Results in a row that speak against `health`.
    against: u32,
}

impl Probing {
    /// Takes in a result. The first one decides at once; after that it takes `rise` good ones in a
    /// row to become healthy and `fall` bad ones to become unhealthy.
    pub fn record(&mut self, ok: bool, rise: u32, fall: u32) {
        let needed = match (self.health, ok) {
            (Health::Healthy, true) | (Health::Unhealthy, false) => {
                self.against = 0;
                return;
            }
            (Health::Unknown, _) => 1,
            (Health::Unhealthy, true) => rise,
            (Health::Healthy, false) => fall,
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return;
        }
        self.against = 0;
        self.health = match ok {
            true => Health::Healthy,
            false => Health::Unhealthy,
        };
    }

    /// What it is now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }
}
