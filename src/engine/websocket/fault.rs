//! What an upstream's wrong frames and errors mean, and what tungstenite takes for wrong although it is not.

use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::message::{BAD_GATEWAY, Close, INVALID_TEXT, PROTOCOL_ERROR, TOO_BIG};
use super::peer::Fault;
use crate::engine::error::{Error, Kind};

/// The reason that tungstenite puts in place of a close frame which it takes for wrong, with
/// [`PROTOCOL_ERROR`].
const VIOLATION: &str = "Protocol violation";

/// Whether tungstenite has put this in place of what came.
pub(super) fn is_replaced(frame: &CloseFrame) -> bool {
    frame.code == CloseCode::Protocol && frame.reason == VIOLATION
}

/// The close frame at the end of these octets, where it says what tungstenite has replaced although
/// it may be said.
pub(super) fn said_close(octets: &[u8]) -> Option<Close> {
    let starts = (0..octets.len()).filter_map(|start| octets.get(start..));
    let mut frames = starts.filter_map(|frame| match frame {
        [0x88, length, payload @ ..] if usize::from(*length) == payload.len() => Some(payload),
        _ => None,
    });
    let (code, reason) = frames.next()?.split_first_chunk()?;
    let (code, reason) = (u16::from_be_bytes(*code), std::str::from_utf8(reason).ok()?);
    let may_be_said = code == BAD_GATEWAY || (code, reason) == (PROTOCOL_ERROR, VIOLATION);
    may_be_said.then(|| Close::from_peer(Some(code), reason))
}

/// The connection has ended.
pub(super) fn lost() -> Fault {
    Fault {
        error: Error::new(Kind::Read, "the connection ended without a close"),
        farewell: None,
    }
}

/// It broke the protocol.
pub(super) fn broken() -> Fault {
    Fault {
        error: Error::new(Kind::Protocol, "the upstream broke the protocol"),
        farewell: Some(Close::new(PROTOCOL_ERROR, "")),
    }
}

/// What an error of tungstenite's means.
pub(super) fn fault(error: &WsError) -> Fault {
    let (detail, farewell) = match error {
        WsError::Utf8(_) => ("a text is not UTF-8", Close::new(INVALID_TEXT, "")),
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            ("a message is too big", Close::new(TOO_BIG, ""))
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | WsError::Io(_)
        | WsError::ConnectionClosed
        | WsError::AlreadyClosed => return lost(),
        _ => return broken(),
    };
    Fault {
        error: Error::new(Kind::Protocol, detail),
        farewell: Some(farewell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_said_is_found_at_the_end() {
        let said = |octets: &[u8]| {
            let close = said_close(octets)?;
            Some((close.code(), close.reason().to_owned()))
        };
        let bad_gateway = |reason: &str| Some((BAD_GATEWAY, reason.to_owned()));
        assert_eq!(said(b"\x88\x02\x03\xf6"), bad_gateway(""));
        assert_eq!(said(b"\x81\x01x\x88\x05\x03\xf6why"), bad_gateway("why"));
        let violation = Some((PROTOCOL_ERROR, VIOLATION.to_owned()));
        assert_eq!(said(b"\x88\x14\x03\xeaProtocol violation"), violation);
        for wrong in [
            &b""[..],
            b"\x88",
            b"\x88\x00",
            b"\x88\x01\x03",
            b"\x88\x02\x03\xee",
            b"\x88\x02\x03\xf6behind",
            b"\x88\x05\x03\xf6",
            b"\x88\x03\x03\xf6\xff",
            b"\x88\x03\x03\xeax",
        ] {
            assert_eq!(said(wrong), None, "{wrong:?}");
        }
    }
}
