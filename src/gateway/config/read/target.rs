//! Where a route goes: its targets, in every form in which a file may name them.

use data_encoding::BASE64;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::check::Check;
use super::super::mistake::Place;
use super::super::section::{Item, Section, Value};
use super::super::settings::{HealthCheck, RouteTarget};
use super::health::health_check;
use crate::engine::target::{Target, TargetError};

/// Most targets of a route: a choice looks at each of them.
const MOST_TARGETS: usize = 256;

/// A route's targets, with the `Authorization` that user information in their URLs makes.
pub(super) fn targets(
    check: &mut Check<'_>,
    route: &Section,
) -> (Vec<RouteTarget>, Option<HeaderValue>) {
    let mut reader = Reader {
        prefix: route.text("upstream_prefix").unwrap_or("/"),
        max_in_flight: route.count("max_in_flight"),
        health_check: route
            .section("health_check")
            .map(|section| health_check(check, section)),
        route,
        found: Vec::new(),
    };
    let ways = ["targets", "target_base_url", "unix", "host", "port"];
    let mut written = ways.iter().filter(|way| route.is_written(way));
    match written.next() {
        Some(&way @ ("targets" | "target_base_url")) => {
            reader.list(check, way);
            for other in written {
                let message = format!("not beside {way}; name the target in one of them");
                check.mistake(&route.place_of(other), message);
            }
        }
        Some(&"unix") => {
            if let Some(item) = route.item("unix") {
                reader.unix(check, route, item);
            }
            for other in written {
                let message = "not beside unix; name the target in one of them";
                check.mistake(&route.place_of(other), message);
            }
        }
        _ if route.item("host").is_some() => reader.rule(check),
        _ => check.missing(route, "has no target; name it in targets or unix"),
    }
    reader.finish(check)
}

/// A target with where it stands and its user information.
type Found = (RouteTarget, Place, Option<String>);

struct Reader<'a> {
    prefix: &'a str,
    max_in_flight: Option<usize>,
    health_check: Option<HealthCheck>,
    route: &'a Section,
    found: Vec<Found>,
}

impl Reader<'_> {
    /// One URL, or a list of URLs and mappings.
    fn list(&mut self, check: &mut Check<'_>, key: &str) {
        let Some(item) = self.route.item(key) else {
            return;
        };
        let items = match &item.value {
            Some(Value::List(items)) => items.as_slice(),
            Some(_) => std::slice::from_ref(item),
            None => return,
        };
        if items.is_empty() || items.len() > MOST_TARGETS {
            let message = format!(
                "found {} targets; allowed are 1 to {MOST_TARGETS}",
                items.len()
            );
            check.mistake(&item.place, message);
            return;
        }
        for item in items {
            match item.section() {
                Some(section) => self.mapping(check, section),
                None => {
                    self.url(check, item, None);
                }
            }
        }
    }

    fn mapping(&mut self, check: &mut Check<'_>, section: &Section) {
        match (section.item("url"), section.item("unix")) {
            (Some(item), None) => self.url(check, item, Some(section)),
            (None, Some(item)) => self.unix(check, section, item),
            (None, None) => check.missing(section, "has neither url nor unix; name one of the two"),
            (Some(_), Some(item)) => {
                check.mistake(&item.place, "not beside url; name one of the two");
            }
        }
    }

    /// PyServe's `host`, `port` and `ssl`.
    fn rule(&mut self, check: &mut Check<'_>) {
        let scheme = if self.route.flag("ssl") {
            "https"
        } else {
            "http"
        };
        let port = self.route.whole("port").unwrap_or_default();
        let Some(host) = check.host(self.route, "host") else {
            return;
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let place = self.route.place_of("host");
        self.target(
            check,
            &format!("{scheme}://{host}:{port}"),
            &place,
            None,
            None,
        );
    }

    fn url(&mut self, check: &mut Check<'_>, item: &Item, section: Option<&Section>) {
        if let Some(text) = item.text() {
            let (url, user) = without_user_information(text);
            self.target(check, &url, &item.place, section, user);
        }
    }

    fn unix(&mut self, check: &mut Check<'_>, section: &Section, item: &Item) {
        let Some(path) = item.text().map(|path| check.folder.join(path)) else {
            return;
        };
        let Some(path) = path.to_str() else {
            check.mistake(&item.place, "its folder's path is not UTF-8");
            return;
        };
        let scheme = if self.route.flag("ssl") {
            "https"
        } else {
            "http"
        };
        let path = utf8_percent_encode(path, NON_ALPHANUMERIC);
        let url = format!("{scheme}+unix://{path}");
        self.target(check, &url, &item.place, Some(section), None);
    }

    fn target(
        &mut self,
        check: &mut Check<'_>,
        url: &str,
        place: &Place,
        section: Option<&Section>,
        user: Option<String>,
    ) {
        let target = match Target::parse(url, self.prefix) {
            Ok(target) => target,
            Err(TargetError::Prefix) => {
                // Every target would say so again.
                let place = self.route.place_of("upstream_prefix");
                let message = TargetError::Prefix.to_string();
                if !check.mistakes.iter().any(|(known, _)| *known == place) {
                    check.mistake(&place, message);
                }
                return;
            }
            Err(TargetError::Scheme(_)) => {
                // Of a URL nothing is shown.
                let message = "has another scheme; allowed are http, https, ws, wss, http+unix and \
                               https+unix";
                check.mistake(place, message);
                return;
            }
            Err(error) => {
                check.mistake(place, error.to_string());
                return;
            }
        };
        // A `unix` of the route itself has the route's section, where these mean the same.
        let written = |key| section.filter(|section| section.item(key).is_some());
        let target = RouteTarget {
            target,
            weight: written("weight")
                .map_or(Some(1), |section| section.count("weight"))
                .unwrap_or(1),
            max_in_flight: match written("max_in_flight") {
                Some(section) => section.count("max_in_flight"),
                None => self.max_in_flight,
            },
            health_check: match written("health_check") {
                Some(section) => section
                    .section("health_check")
                    .map(|section| health_check(check, section)),
                None => self.health_check.clone(),
            },
        };
        self.found.push((target, place.clone(), user));
    }

    /// What holds for all targets of a route together.
    fn finish(self, check: &mut Check<'_>) -> (Vec<RouteTarget>, Option<HeaderValue>) {
        let Some((first, _, user)) = self.found.first() else {
            return (Vec::new(), None);
        };
        for (index, (target, place, other)) in self.found.iter().enumerate() {
            let twin = |(known, ..): &&Found| known.target == target.target;
            if let Some((_, first, _)) = self.found.iter().take(index).find(twin) {
                check.mistake(place, format!("the same target as {}", first.path));
            }
            if target.target.origin().secure != first.target.origin().secure {
                check.mistake(
                    place,
                    "http beside https: the targets of a route have one scheme",
                );
            }
            if other != user {
                let message =
                    "other user information than the first target's: all get the same headers";
                check.mistake(place, message);
            }
        }
        if self.found.iter().all(|(target, ..)| target.weight == 0) {
            check.mistake(
                &self.route.place,
                "every target has the weight 0: none gets anything",
            );
        }
        let credentials = user.as_deref().and_then(basic);
        let targets = self.found.into_iter().map(|(mut target, ..)| {
            // A check is let in where requests are.
            if let (Some(check), Some(credentials)) = (&mut target.health_check, &credentials) {
                let authorization = check.headers.entry(AUTHORIZATION);
                authorization.or_insert_with(|| credentials.clone());
            }
            target
        });
        (targets.collect(), credentials)
    }
}

/// A URL without its `user:password@`, and that.
fn without_user_information(url: &str) -> (String, Option<String>) {
    let plain = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else {
        return plain();
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}{path}"), Some(user.to_owned())),
        None => plain(),
    }
}

/// User information as Basic credentials (RFC 7617).
fn basic(user: &str) -> Option<HeaderValue> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(&pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
