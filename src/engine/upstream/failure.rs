//! What hyper and the operating system report, as the engine's own errors. Nothing is told by the
//! text of a message.

use std::error::Error as StdError;
use std::io;

use crate::engine::error::{Error, Kind};

/// The failure of a request whose response head did not come.
#[must_use]
pub fn head(error: &hyper::Error) -> Error {
    if let Some(own) = find(error) {
        return own;
    }
    if let Some(error) = stream(error) {
        return error;
    }
    if error.is_incomplete_message() {
        return Error::new(
            Kind::Protocol,
            "closed before the response head was complete",
        );
    }
    if error.is_parse() {
        return Error::new(
            Kind::Protocol,
            "the response head is malformed or too large",
        );
    }
    if error.is_canceled() || error.is_closed() {
        return Error::new(Kind::Read, "the connection was closed");
    }
    match io_error(error) {
        Some(error) => Error::new(Kind::Read, error.kind().to_string()),
        None => Error::new(Kind::Protocol, "the upstream broke the protocol"),
    }
}

/// The failure of a response body.
#[must_use]
pub fn body(error: &hyper::Error) -> Error {
    if let Some(own) = find(error) {
        return own;
    }
    if let Some(error) = stream(error) {
        return error;
    }
    if error.is_incomplete_message() {
        return Error::new(
            Kind::Protocol,
            "closed before the response body was complete",
        );
    }
    match io_error(error) {
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => Error::new(
            Kind::Protocol,
            "closed before the response body was complete",
        ),
        Some(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            ) =>
        {
            Error::new(Kind::Protocol, "the response body is malformed")
        }
        Some(error) => Error::new(Kind::Read, error.kind().to_string()),
        None => Error::new(Kind::Protocol, "the response body is malformed"),
    }
}

/// The failure of one of many requests on an HTTP/2 connection.
fn stream(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(match error.reason() {
                // RFC 9113 §8.7: it has not been looked at.
                Some(h2::Reason::REFUSED_STREAM) => {
                    Error::refused(Kind::Read, "the upstream refused the stream")
                }
                Some(_) if error.is_reset() && error.is_remote() => reset(),
                // A GOAWAY that comes to this stream's ears is one that does not count it among
                // those looked at (§6.8).
                Some(_) if error.is_go_away() && error.is_remote() => {
                    Error::not_sent(Kind::Read, "the upstream is closing the connection")
                }
                Some(_) => Error::new(Kind::Protocol, "the upstream broke the protocol"),
                None => Error::new(Kind::Read, "the connection was closed"),
            });
        }
        cause = error.source();
    }
    None
}

/// One of many requests on an HTTP/2 connection has been ended by the upstream.
#[must_use]
pub fn reset() -> Error {
    Error::new(Kind::Protocol, "the upstream reset the stream")
}

/// Our own error, where it went through hyper or an `io::Error` on its way here.
fn find(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own.clone());
        }
        if let Some(own) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<Error>())
        {
            return Some(own.clone());
        }
        cause = error.source();
    }
    None
}

/// The first `io::Error` among the causes.
fn io_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}
