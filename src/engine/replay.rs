//! What was read of a request's body, kept for another try.

use bytes::Bytes;

use super::error::{Error, Kind};
use super::mailbox::CHUNK_COST;

/// Octets of a body that are kept so that it can be sent again.
pub const REPLAY_LIMIT: usize = 256 * 1024;

/// The beginning of a body that one try after the other reads, of which only the newest may go on.
#[derive(Debug)]
pub(super) struct Replay {
    /// What was read so far, while it is kept.
    log: Option<Vec<Bytes>>,
    /// Octets in it, by what they cost.
    logged: usize,
    /// Something has been read that is not in the log.
    lost: bool,
    newest: u64,
}

/// How far one try has read.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    read: usize,
}

impl Replay {
    /// With `keep` what is read is kept up to [`REPLAY_LIMIT`]; without, nothing is.
    pub(super) fn new(keep: bool) -> Self {
        Self {
            log: keep.then(Vec::new),
            logged: 0,
            lost: false,
            newest: 0,
        }
    }

    /// Another try begins at the start, and those before it are over; `None` where the start is no
    /// longer there.
    pub(super) fn begin(&mut self) -> Option<Place> {
        // The first is always let in, be it to hear why there is nothing.
        if self.lost && self.newest > 0 {
            return None;
        }
        self.newest += 1;
        Some(Place {
            number: self.newest,
            read: 0,
        })
    }

    /// Whether no other try has begun since.
    pub(super) fn is_newest(&self, place: &Place) -> bool {
        self.newest == place.number
    }

    /// What earlier tries have read and this one has not.
    ///
    /// # Errors
    /// Where another try has begun since.
    pub(super) fn again(&self, place: &mut Place) -> Result<Option<Bytes>, Error> {
        if !self.is_newest(place) {
            let detail = "another try reads the body";
            return Err(Error::new(Kind::Abandoned, detail));
        }
        let kept = self.log.as_ref().and_then(|log| log.get(place.read));
        place.read += usize::from(kept.is_some());
        Ok(kept.cloned())
    }

    /// Whether it has been read as far as it is kept.
    pub(super) fn is_read(&self, place: &Place) -> bool {
        place.read >= self.log.as_ref().map_or(0, Vec::len)
    }

    /// A chunk was read for the first time.
    pub(super) fn keep(&mut self, place: &mut Place, chunk: &Bytes) {
        self.logged += chunk.len() + CHUNK_COST;
        match &mut self.log {
            Some(log) if self.logged <= REPLAY_LIMIT => {
                log.push(chunk.clone());
                place.read += 1;
            }
            _ => self.lose(),
        }
    }

    /// Something else was read, or is no longer to be had: nobody may begin again.
    pub(super) fn lose(&mut self) {
        self.log = None;
        self.lost = true;
    }
}
