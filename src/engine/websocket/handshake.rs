//! The opening handshake (RFC 6455 §4): what it adds to a request, and whether the answer is one.
//! Pure.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::engine::error::{Error, Kind};
use crate::engine::policy::headers::has_token;
use crate::engine::policy::request::BadRequest;

/// One handshake with an upstream.
#[derive(Debug, Clone)]
pub struct Handshake(
    // Boxed, as every request has room for one.
    Box<Mode>,
);

#[derive(Debug, Clone)]
enum Mode {
    /// The engine speaks WebSocket with the upstream.
    Ends {
        key: String,
        subprotocols: Vec<String>,
    },
    /// The client and the upstream speak with each other, in a protocol of this name.
    Passes { protocol: HeaderValue },
}

impl Handshake {
    /// A handshake that offers the client's subprotocols, and no extension.
    #[must_use]
    pub fn new(mut subprotocols: Vec<String>) -> Self {
        // Some test clients offer one without a name where they offer none.
        subprotocols.retain(|name| !name.trim().is_empty());
        Self(Box::new(Mode::Ends {
            key: generate_key(),
            subprotocols,
        }))
    }

    /// A handshake that is the client's own, for an upgrade to `protocol`: whatever the client and
    /// the upstream agree on is theirs.
    #[must_use]
    pub fn passing(protocol: HeaderValue) -> Self {
        Self(Box::new(Mode::Passes { protocol }))
    }

    /// Whether it is the client's own.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(*self.0, Mode::Passes { .. })
    }

    /// Puts the handshake's headers in place of the client's, which belong to its own hop.
    ///
    /// # Errors
    /// [`BadRequest::Header`] for a subprotocol that is no header value.
    pub fn apply(&self, headers: &mut HeaderMap) -> Result<(), BadRequest> {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let (key, subprotocols) = match &*self.0 {
            Mode::Ends { key, subprotocols } => (key, subprotocols),
            Mode::Passes { protocol } => {
                headers.insert(UPGRADE, protocol.clone());
                return Ok(());
            }
        };
        let own: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_own(name))
            .cloned()
            .collect();
        for name in own {
            headers.remove(name);
        }
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| BadRequest::Header);
        headers.insert(SEC_WEBSOCKET_KEY, value(key)?);
        if !subprotocols.is_empty() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value(&subprotocols.join(", "))?);
        }
        Ok(())
    }

    /// Checks a 101 that came over a connection (RFC 6455 §4.1), and returns its subprotocol.
    ///
    /// # Errors
    /// [`Kind::Protocol`].
    pub fn check(&self, headers: &HeaderMap) -> Result<Option<String>, Error> {
        let (key, protocol) = match &*self.0 {
            Mode::Ends { key, .. } => (key, "websocket"),
            Mode::Passes { protocol } => {
                let protocol = protocol.to_str().unwrap_or_default();
                return match has_token(headers, UPGRADE, protocol) {
                    true => Ok(None),
                    false => Err(refused("it upgrades to another protocol")),
                };
            }
        };
        if !has_token(headers, UPGRADE, protocol) || !has_token(headers, CONNECTION, "upgrade") {
            return Err(refused("it does not upgrade to WebSocket"));
        }
        let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        let accept = derive_accept_key(key.as_bytes());
        if accepts.next().map(HeaderValue::as_bytes) != Some(accept.as_bytes())
            || accepts.next().is_some()
        {
            return Err(refused("its Sec-WebSocket-Accept is wrong"));
        }
        if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err(refused("it has an extension that was not offered"));
        }
        self.subprotocol(headers)
    }

    /// The subprotocol that an upstream has chosen.
    ///
    /// # Errors
    /// [`Kind::Protocol`] where it was not offered.
    pub fn subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, Error> {
        let mut choices = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let Some(choice) = choices.next() else {
            return Ok(None);
        };
        let choice = choice.to_str().unwrap_or_default();
        let offered = match &*self.0 {
            Mode::Ends { subprotocols, .. } => subprotocols.iter().any(|offer| offer == choice),
            Mode::Passes { .. } => true,
        };
        if !offered || choices.next().is_some() {
            return Err(refused("it has a subprotocol that was not offered"));
        }
        Ok(Some(choice.to_owned()))
    }
}

/// Whether a header belongs to the handshake of one hop.
#[must_use]
pub fn is_own(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

fn refused(reason: &'static str) -> Error {
    Error::new(Kind::Protocol, format!("no WebSocket handshake: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(handshake: &Handshake, change: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        if let Mode::Ends { key, .. } = &*handshake.0
            && let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        for (name, value) in change {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn an_answer_must_match_what_was_asked() {
        let handshake = Handshake::new(vec!["chat".to_owned(), "v2".to_owned()]);
        let outcome = |change: &[_]| handshake.check(&answer(&handshake, change)).ok();
        assert_eq!(outcome(&[]), Some(None));
        let chosen = outcome(&[("sec-websocket-protocol", "v2")]);
        assert_eq!(chosen, Some(Some("v2".to_owned())));
        for wrong in [
            ("upgrade", "h2c"),
            ("connection", "keep-alive"),
            ("sec-websocket-accept", "AAAA"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-protocol", "V2"),
            ("sec-websocket-protocol", ""),
        ] {
            assert_eq!(outcome(&[wrong]), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_handshake_that_passes_is_the_clients() {
        let handshake = Handshake::passing(HeaderValue::from_static("WebSocket"));
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("theirs"));
        assert!(handshake.apply(&mut headers).is_ok());
        assert_eq!(
            headers.get(SEC_WEBSOCKET_KEY),
            Some(&HeaderValue::from_static("theirs"))
        );
        assert_eq!(
            headers.get(UPGRADE),
            Some(&HeaderValue::from_static("WebSocket"))
        );
        let extension = ("sec-websocket-extensions", "permessage-deflate");
        assert!(handshake.check(&answer(&handshake, &[extension])).is_ok());
        assert!(
            handshake
                .check(&answer(&handshake, &[("upgrade", "other")]))
                .is_err()
        );
    }

    #[test]
    fn the_clients_handshake_stays_on_its_hop() {
        let mut headers = HeaderMap::new();
        for name in ["sec-websocket-key", "sec-websocket-extensions", "x-own"] {
            headers.insert(name, HeaderValue::from_static("client"));
        }
        let handshake = Handshake::new(Vec::new());
        assert!(handshake.apply(&mut headers).is_ok());
        assert_eq!(headers.len(), 5);
        assert!(headers.contains_key("x-own"));
        assert!(!headers.contains_key(SEC_WEBSOCKET_EXTENSIONS));
        assert!(
            headers
                .get(SEC_WEBSOCKET_KEY)
                .is_some_and(|key| key.len() == 24)
        );
    }
}
