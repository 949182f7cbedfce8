//! Following redirects as httpx does: which method, which URL, at most how many. Pure.

use http::{HeaderMap, Method, StatusCode, header::LOCATION};
use url::Url;

/// More redirects than this for one request are an error.
pub const MAX_REDIRECTS: usize = 20;

/// Where a redirect leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The absolute URL, `http` or `https`.
    pub url: Url,
    /// The method of the next request.
    pub method: Method,
    /// Whether the next request carries the body again.
    pub keeps_body: bool,
}

/// The next request that a response asks for; `None` where it is no redirect that can be followed
/// (RFC 9110 §15.4), so that the response itself is the answer.
#[must_use]
pub fn redirect(
    method: &Method,
    current: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Redirect> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let mut url = current.join(location).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    url.set_fragment(None);
    let becomes_get = match status.as_u16() {
        303 | 302 => *method != Method::HEAD,
        301 => *method == Method::POST,
        _ => false,
    };
    let next = if becomes_get {
        Method::GET
    } else {
        method.clone()
    };
    Some(Redirect {
        url,
        keeps_body: next == *method,
        method: next,
    })
}

/// Whether credentials may go along: the same origin, or the same host upgraded to TLS.
#[must_use]
pub fn keeps_credentials(from: &Url, to: &Url) -> bool {
    let upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host_str() == to.host_str()
        && from.port_or_known_default() == Some(80)
        && to.port_or_known_default() == Some(443);
    from.origin() == to.origin() || upgrade
}
