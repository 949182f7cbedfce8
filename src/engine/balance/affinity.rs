//! Session affinity: what a request brings along that speaks for one target, and the cookie that
//! makes a client bring it.

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use http::header::{COOKIE, HeaderName, HeaderValue};
use ring::hmac;

use super::member::Member;
use super::ring::hash_of;
use crate::engine::policy::cookie::cookie_values;
use crate::engine::policy::request::Line;
use crate::engine::relay::Inbound;

/// Cookies of one name that are looked at.
const MAX_COOKIES: usize = 8;

/// What a consistent hash is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The first value of a request header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// The client's address.
    ClientAddress,
}

/// What a request brings along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The hash of what [`HashKey`] names, if the request has it.
    pub hash: Option<u64>,
    /// The values of the sticky cookie: a browser may have several, for several paths.
    pub cookies: Vec<String>,
    /// Whether the client's connection is secure, for a cookie that is sent back.
    pub secure: bool,
    /// The URL of the target that whoever passes the request on would like it to go to.
    pub preferred: Option<String>,
    /// The cookie of the target that was chosen, where a redirect has led to another one.
    pub home: Option<String>,
}

impl Affinity {
    /// Reads what a request brings along, before any policy has changed it.
    #[must_use]
    pub fn read(
        inbound: &Inbound<'_, impl Line>,
        key: Option<&HashKey>,
        sticky: Option<&StickyCookie>,
    ) -> Self {
        let connection = &inbound.connection;
        let hash = match key {
            None => None,
            Some(HashKey::Header(name)) => inbound.values(name).next().map(hash_of),
            Some(HashKey::Cookie(name)) => cookie_values(inbound.values(&COOKIE), name)
                .next()
                .map(hash_of),
            Some(HashKey::ClientAddress) => match connection.origin {
                Some(origin) => Some(hash_of(origin.to_string().as_bytes())),
                None => connection.client.map(|a| hash_of(a.as_bytes())),
            },
        };
        let cookies = sticky.map(|sticky| {
            let found = cookie_values(inbound.values(&COOKIE), &sticky.name);
            let texts = found.filter_map(|value| std::str::from_utf8(value).ok());
            texts.take(MAX_COOKIES).map(str::to_owned).collect()
        });
        Self {
            hash,
            cookies: cookies.unwrap_or_default(),
            secure: connection.secure,
            preferred: None,
            home: None,
        }
    }

    /// Whether it speaks for one target.
    #[must_use]
    pub fn is_for(&self, member: &Member) -> bool {
        let own = |cookie: &String| member.cookie() == Some(cookie);
        self.cookies.iter().any(own) || self.preferred.as_deref() == Some(member.url())
    }
}

/// Whether a cookie goes along with requests from other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// Where the user follows a link.
    Lax,
    /// Always; browsers want it to be `Secure`, too.
    None,
}

/// The cookie that brings a client back to its target (RFC 6265).
#[derive(Clone)]
pub struct StickyCookie {
    /// Its name.
    pub name: String,
    /// Signs the target's URL, so that a client can neither read nor choose it.
    pub key: hmac::Key,
    /// How long it lasts; `None` is as long as the browser runs.
    pub max_age: Option<Duration>,
    /// Where it is sent.
    pub path: String,
    /// Its SameSite attribute.
    pub same_site: SameSite,
    /// Its Secure attribute; `None` is as the client's connection.
    pub secure: Option<bool>,
}

impl StickyCookie {
    /// The key for a secret.
    #[must_use]
    pub fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    /// The value that stands for a target.
    #[must_use]
    pub fn value(&self, url: &str) -> String {
        let tag = hmac::sign(&self.key, url.as_bytes());
        let half = tag.as_ref().chunks(16).next();
        HEXLOWER.encode(half.unwrap_or_default())
    }

    /// The Set-Cookie line with `value`.
    #[must_use]
    pub fn line(&self, value: &str, secure: bool) -> Option<HeaderValue> {
        let mut line = format!("{}={value}; Path={}; HttpOnly", self.name, self.path);
        if let Some(max_age) = self.max_age {
            // Rounded up, as 0 deletes the cookie.
            line += &format!("; Max-Age={}", max_age.as_secs_f64().ceil());
        }
        line += match self.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        };
        if self.secure.unwrap_or(secure) {
            line += "; Secure";
        }
        HeaderValue::try_from(line).ok()
    }
}

impl fmt::Debug for StickyCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickyCookie")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
