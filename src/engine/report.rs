//! What is told while an exchange goes on: events for the log, and what its owner should do.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;
use http::uri::PathAndQuery;
use url::Url;

use super::attempt::Destination;
use super::balance::turn::Turn;
use super::doorbell::Doorbell;
use super::error::{Error, Kind};
use super::relay::Relay;
use super::target::Target;
use super::upstream::memory::Call;

/// What is told while an exchange goes on.
#[derive(Debug)]
pub enum Note {
    /// Something for the log.
    Event(Event),
    /// The upstream in this process is to be called.
    Call(Arc<Call>),
    /// The exchange takes a while, so it is worth watching whether the client leaves.
    Slow,
}

/// An event of the log; the URL carries no secret.
#[derive(Debug)]
pub struct Event {
    /// Its name, without `reverse_proxy.`.
    pub name: &'static str,
    /// Which URL, masked.
    pub url: String,
    /// Which try, counted from 1.
    pub attempt: Option<u32>,
    /// The upstream's status, where it answered.
    pub status: Option<u16>,
    /// What went wrong, where it did not.
    pub error: Option<String>,
}

/// Who is told.
pub trait Observer: Send + Sync {
    /// Takes a note; called from the engine's thread.
    fn note(&self, note: Note);
    /// A try failed at this target.
    fn failed(&self, _: &Target) {}
    /// An in-process upstream's way to wake whoever serves it.
    fn doorbell(&self) -> Doorbell;
}

impl Relay {
    pub(super) fn report_error(
        &self,
        observer: &dyn Observer,
        to: &Destination,
        attempt: u32,
        error: &Error,
    ) {
        // The client's doing, of which an upstream's log need not know.
        if error.kind() == Kind::Abandoned {
            return;
        }
        let (name, attempt) = if error.kind().is_timeout() {
            ("upstream_timeout", Some(attempt))
        } else if self.config.retry.kinds.contains(&error.kind()) {
            ("upstream_retryable_error", Some(attempt))
        } else {
            ("upstream_error", None)
        };
        self.report(observer, name, to, attempt, Err(error));
    }

    pub(super) fn report(
        &self,
        observer: &dyn Observer,
        name: &'static str,
        to: &Destination,
        attempt: Option<u32>,
        outcome: Result<StatusCode, &Error>,
    ) {
        let (name, attempt) = match outcome {
            Err(_) if to.web_socket => ("websocket_error", None),
            _ => (name, attempt),
        };
        if outcome.is_err() {
            observer.failed(&to.target);
        }
        if self.config.report {
            observer.note(Note::Event(Event {
                name,
                url: to.target.shown(&masked(to.target.url(&to.path))),
                attempt,
                status: outcome.ok().map(|status| status.as_u16()),
                error: outcome.err().map(ToString::to_string),
            }));
        }
    }

    /// Reports that a response broke off after it had begun, and notes it.
    pub fn report_interrupted(&self, observer: &dyn Observer, origin: &Provenance, error: &Error) {
        origin.interrupted(error);
        self.report_ended(observer, origin, error);
    }

    /// Reports that what had begun was ended, which says nothing of the target.
    pub(super) fn report_ended(&self, observer: &dyn Observer, origin: &Provenance, error: &Error) {
        let (name, attempt) = match error.kind().is_timeout() {
            true => ("upstream_timeout", Some(origin.attempt)),
            false => ("upstream_error", None),
        };
        self.report(observer, name, &origin.to, attempt, Err(error));
    }

    /// Reports that no target could take a request.
    pub(super) fn report_unavailable(
        &self,
        observer: &dyn Observer,
        path: &PathAndQuery,
        error: &Error,
    ) {
        if self.config.report {
            observer.note(Note::Event(Event {
                name: "upstream_unavailable",
                url: masked_path(path),
                attempt: None,
                status: None,
                error: Some(error.to_string()),
            }));
        }
    }
}

/// Which try brought a response, and from where.
#[derive(Debug)]
pub struct Provenance {
    pub(super) to: Destination,
    pub(super) attempt: u32,
    /// In flight as long as this is.
    pub(super) turn: Turn,
}

/// A request target for the log: no value of its query or of its path's parameters.
fn masked_path(path: &PathAndQuery) -> String {
    let query = path.query().map(masked_query);
    let query = query.map(|query| format!("?{query}"));
    let shown = without_parameters(path.path());
    format!("{shown}{}", query.unwrap_or_default())
}

/// A path with no value of its parameters, which are a query's by other means: `/a;sid=***/b`.
#[must_use]
pub fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').map(|segment| {
        let mut parts = segment.split(';');
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let name = part.split_once('=').map(|(name, _)| format!("{name}="));
            shown.push_str(&format!(";{}***", name.unwrap_or_default()));
        }
        shown
    });
    Cow::Owned(segments.collect::<Vec<_>>().join("/"))
}

fn masked_query(query: &str) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

impl Provenance {
    /// Notes that the response has come to its end.
    pub fn completed(&self) {
        if self.to.own {
            self.turn.completed();
        }
    }

    /// Notes that the response broke off.
    pub fn interrupted(&self, error: &Error) {
        if self.to.own {
            self.turn.interrupted(error);
        }
    }

    /// The number of the try, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The upstream.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.to.target
    }
}

/// A URL for the log: no user information, no value of its query or of its path's parameters.
fn masked(mut url: Url) -> Url {
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if let Cow::Owned(path) = without_parameters(url.path()) {
        url.set_path(&path);
    }
    let query = url.query().map(masked_query);
    url.set_query(query.as_deref());
    url
}
