//! Which route a request is for: the most exact host first, then the longest prefix on segment
//! boundaries, then the method.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

use http::Method;
use percent_encoding::percent_decode_str;

use super::config::settings::{HostPattern, Route};
use crate::engine::policy::path::{climbs, raw_prefix_length};

/// Octets of a name in DNS (RFC 1035 §2.3.4); longer ones are nobody's.
const LONGEST_HOST: usize = 255;

/// What [`Routes::find`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A route.
    Route {
        /// Its place in [`super::config::settings::Settings::routes`].
        index: usize,
        /// Octets of the request's path that are the route's prefix; what is behind them goes
        /// upstream where the prefix is stripped.
        below: usize,
    },
    /// None is for such a host and path: 404.
    NotFound,
    /// None takes the method: 405, with these as `Allow`.
    MethodNotAllowed(Vec<Method>),
    /// The path leads somewhere else once its dot segments, encoded slashes and the like are taken
    /// out, as some upstreams do: 400, or a route's rules would be easy to evade.
    BadPath,
    /// The same where it is dot segments that lead out of the route, or above the root.
    PathEscape,
}

/// Every route, to be asked for each request.
#[derive(Debug)]
pub struct Routes {
    exact: HashMap<String, Level>,
    below: HashMap<String, Level>,
    any: Level,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Level {
    /// The longest first.
    prefixes: Vec<Prefix>,
}

/// The routes of one host and prefix.
#[derive(Debug)]
struct Prefix {
    /// Percent-decoded, empty for `/`.
    path: String,
    /// Methods, empty for all of them, with the route; that for all methods comes last.
    routes: Vec<(Vec<Method>, usize)>,
}

impl Routes {
    /// A table of `routes`.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            any: Level::default(),
        };
        for (index, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() {
                table.any.add(route, index);
            }
            for host in &route.hosts {
                let level = match host {
                    HostPattern::Exact(host) => table.exact.entry(host.clone()),
                    HostPattern::Below(host) => table.below.entry(host.clone()),
                };
                level.or_default().add(route, index);
            }
        }
        table
    }

    /// The route for a request: `host` from `Host` or `:authority`, `path` as the client sent it,
    /// without the query.
    ///
    /// Where a host has no prefix for the path, wildcards are asked, and then what is for all hosts.
    #[must_use]
    pub fn find(&self, host: &[u8], method: &Method, path: &str) -> Found {
        let path = if path.is_empty() { "/" } else { path };
        // Where no route asks for it, it need not be read.
        let host = match self.exact.is_empty() && self.below.is_empty() {
            true => Cow::Borrowed(""),
            false => normal_host(host),
        };
        let found = self.prefix(&host, |prefix| prefix.matches(path));
        if is_doubtful(path) {
            let Some(plain) = plain_path(path) else {
                return Found::PathEscape;
            };
            let meant = self.prefix(&host, |prefix| prefix.matches_plain(&plain));
            let same = match (found, meant) {
                (Some((one, _)), Some((other, _))) => std::ptr::eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            if !same {
                let below = found.and_then(|(_, below)| path.as_bytes().get(below..));
                return match below.is_some_and(climbs) {
                    true => Found::PathEscape,
                    false => Found::BadPath,
                };
            }
        }
        match found {
            Some((prefix, below)) => prefix.route(method, below),
            None => Found::NotFound,
        }
    }

    /// The first prefix that matches, with what `matches` says of it.
    fn prefix<'a, T>(
        &'a self,
        host: &'a str,
        matches: impl Fn(&Prefix) -> Option<T>,
    ) -> Option<(&'a Prefix, T)> {
        let mut prefixes = self.levels(host).flat_map(|level| &level.prefixes);
        prefixes.find_map(|prefix| Some((prefix, matches(prefix)?)))
    }

    /// What may be for `host`, the most exact first.
    fn levels<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Level> {
        let labels = match self.below.is_empty() || host.starts_with('[') {
            true => "",
            false => host,
        };
        let parents = labels
            .match_indices('.')
            .filter_map(|(at, _)| labels.get(at + 1..));
        let exact = match self.exact.is_empty() {
            true => None,
            false => self.exact.get(host),
        };
        let below = parents.filter_map(|parent| self.below.get(parent));
        exact.into_iter().chain(below).chain([&self.any])
    }
}

impl Level {
    fn add(&mut self, route: &Route, index: usize) {
        let path = route.path.trim_end_matches('/');
        let at = match self.prefixes.iter().position(|prefix| prefix.path == path) {
            Some(at) => at,
            None => {
                let longer = |prefix: &Prefix| prefix.path.len() >= path.len();
                let at = self.prefixes.partition_point(longer);
                let (path, routes) = (path.to_owned(), Vec::new());
                self.prefixes.insert(at, Prefix { path, routes });
                at
            }
        };
        if let Some(prefix) = self.prefixes.get_mut(at) {
            let methods = route.methods.clone();
            let before = match methods.is_empty() {
                true => prefix.routes.len(),
                false => prefix
                    .routes
                    .partition_point(|(methods, _)| !methods.is_empty()),
            };
            prefix.routes.insert(before, (methods, index));
        }
    }
}

impl Prefix {
    /// How many octets of a path as it came are this prefix, if it ends at a segment's end.
    fn matches(&self, path: &str) -> Option<usize> {
        let length = raw_prefix_length(path.as_bytes(), self.path.as_bytes())?;
        let behind = path.as_bytes().get(length);
        matches!(behind, None | Some(b'/')).then_some(length)
    }

    /// The same for a path from [`plain_path`].
    fn matches_plain(&self, path: &[u8]) -> Option<()> {
        let behind = path.strip_prefix(self.path.as_bytes())?;
        matches!(behind, [] | [b'/', ..]).then_some(())
    }

    fn route(&self, method: &Method, below: usize) -> Found {
        let takes = |methods: &[Method]| {
            methods.is_empty()
                || methods.contains(method)
                || (*method == Method::HEAD && methods.contains(&Method::GET))
        };
        if let Some((_, index)) = self.routes.iter().find(|(methods, _)| takes(methods)) {
            return Found::Route {
                index: *index,
                below,
            };
        }
        let mut allowed: Vec<Method> = Vec::new();
        for method in self.routes.iter().flat_map(|(methods, _)| methods) {
            let head = (*method == Method::GET).then_some(Method::HEAD);
            for method in [method.clone()].into_iter().chain(head) {
                if !allowed.contains(&method) {
                    allowed.push(method);
                }
            }
        }
        Found::MethodNotAllowed(allowed)
    }
}

/// A host in small letters, without its port and the dot of the root.
fn normal_host(host: &[u8]) -> Cow<'_, str> {
    let host = std::str::from_utf8(host).unwrap_or_default();
    if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Cow::Owned(format!("[{address}]")),
            Err(_) => Cow::Borrowed(""),
        };
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.len() > LONGEST_HOST {
        true => Cow::Borrowed(""),
        false if name.contains(|letter: char| letter.is_ascii_uppercase()) => {
            Cow::Owned(name.to_ascii_lowercase())
        }
        false => Cow::Borrowed(name),
    }
}

/// Whether readers of `path` may see different segments in it.
fn is_doubtful(path: &str) -> bool {
    let mut before = 0;
    path.bytes().any(|octet| {
        let before = std::mem::replace(&mut before, octet);
        matches!(octet, b'%' | b'\\' | b';') || (before == b'/' && matches!(octet, b'/' | b'.'))
    })
}

/// A path as the most generous upstream reads it, without a slash at its end: as
/// [`crate::engine::policy::path::climbs`] does, with dot segments taken out. `None` where they climb
/// above the root.
fn plain_path(path: &str) -> Option<Vec<u8>> {
    let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
    let mut plain = Vec::with_capacity(decoded.len());
    for segment in decoded.split(|&b| b == b'/' || b == b'\\') {
        match segment.split(|&b| b == b';').next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => {
                let parent = plain.iter().rposition(|&b| b == b'/')?;
                plain.truncate(parent);
            }
            name => {
                plain.push(b'/');
                plain.extend_from_slice(name);
            }
        }
    }
    Some(plain)
}
