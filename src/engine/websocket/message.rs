//! What goes over a WebSocket: messages, and the close that ends them.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::engine::mailbox::Item;

/// Octets of a close frame's reason at most (RFC 6455 §5.5).
pub const MAX_REASON: usize = 123;

/// A normal end (RFC 6455 §7.4.1).
pub const NORMAL: u16 = 1000;
/// An endpoint goes away.
pub const GOING_AWAY: u16 = 1001;
/// A frame broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// A frame said there was no code.
pub const NO_CODE: u16 = 1005;
/// A text was not UTF-8.
pub const INVALID_TEXT: u16 = 1007;
/// A message is larger than its receiver takes.
pub const TOO_BIG: u16 = 1009;
/// What a proxy may say (IANA's registry); tungstenite does not know it.
pub const BAD_GATEWAY: u16 = 1014;
/// Something failed at the side that says so.
pub const FAILED: u16 = 1011;

/// A whole message, however many frames it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(Utf8Bytes),
    /// Octets.
    Binary(Bytes),
    /// The last one.
    Close(Close),
}

impl Item for Message {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(octets) => octets.len(),
            Self::Close(_) => 0,
        }
    }
}

/// A refused handshake's body goes to the client as octets.
impl From<Bytes> for Message {
    fn from(octets: Bytes) -> Self {
        Self::Binary(octets)
    }
}

/// Why a WebSocket ends: a code that a close frame may carry, and a reason that fits into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    code: u16,
    reason: Utf8Bytes,
}

impl Close {
    /// A close of our own.
    #[must_use]
    pub const fn new(code: u16, reason: &'static str) -> Self {
        Self {
            code,
            reason: Utf8Bytes::from_static(reason),
        }
    }

    /// What a peer gave as its reason to leave. No code is [`NORMAL`]; one that no frame may carry
    /// (RFC 6455 §7.4: 1006, the client vanished) is [`GOING_AWAY`]; a reason too long is cut.
    #[must_use]
    pub fn from_peer(code: Option<u16>, reason: &str) -> Self {
        let code = match code {
            None | Some(NO_CODE) => NORMAL,
            Some(code) if code == BAD_GATEWAY || CloseCode::from(code).is_allowed() => code,
            Some(_) => return Self::new(GOING_AWAY, ""),
        };
        let end = (0..=MAX_REASON.min(reason.len())).rfind(|&end| reason.is_char_boundary(end));
        let reason = reason.get(..end.unwrap_or(0)).unwrap_or_default();
        Self {
            code,
            reason: Utf8Bytes::from(reason),
        }
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<Close> for CloseFrame {
    fn from(close: Close) -> Self {
        Self {
            code: close.code.into(),
            reason: close.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_can_always_be_sent() {
        fn close(code: Option<u16>, reason: &str) -> (u16, usize) {
            let close = Close::from_peer(code, reason);
            (close.code(), close.reason().len())
        }
        assert_eq!(close(None, ""), (1000, 0));
        assert_eq!(close(Some(1005), ""), (1000, 0));
        assert_eq!(close(Some(4999), "bye"), (4999, 3));
        assert_eq!(close(Some(1014), ""), (1014, 0));
        for code in [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(close(Some(code), "x"), (1001, 0), "{code}");
        }
        assert_eq!(close(Some(3000), &"x".repeat(200)), (3000, 123));
        assert_eq!(close(Some(3000), &"€".repeat(60)), (3000, 123));
        assert_eq!(
            close(Some(3000), &format!("x{}", "€".repeat(60))),
            (3000, 121)
        );
    }
}
