//! From checked values to settings: what a table cannot say, such as what a URL is, or which keys
//! exclude each other.

mod headers;
mod health;
mod route;
mod server;
mod target;
mod tls;

use std::path::PathBuf;

use http::{HeaderName, Method};
use url::Host;

use super::check::Check;
use super::section::{Item, Section};
use super::settings::{AccessLog, Admin, Bind, LogFormat, Route, Settings};
use crate::engine::upstream::pem::files_in;
use crate::gateway::words::words;

/// Most routes: each one is looked at for a request that none is for.
const MOST_ROUTES: usize = 1000;

/// The whole file; anything of it only counts if there was no mistake.
pub(super) fn settings(check: &mut Check<'_>, root: &Section) -> Settings {
    let server = server::server(check, root);
    let limit = server.limits.max_body_size;
    let mut routes = Vec::new();
    let rules = root
        .section("server")
        .map_or(&[][..], |server| server.list("reverse_proxy"));
    for item in rules.iter().chain(root.list("routes")) {
        if let Some(section) = item.section() {
            routes.push((item, route::route(check, section, limit)));
        }
    }
    let wrong = ["routes", "server"]
        .iter()
        .any(|key| !check.is_sound(&root.place_of(key)));
    if routes.is_empty() && !wrong && !root.misspelt {
        let place = root.place_of("routes");
        check.mistake(&place, "no route: name one here or in server.reverse_proxy");
    }
    if routes.len() > MOST_ROUTES {
        let message = format!("{} routes; allowed are {MOST_ROUTES}", routes.len());
        check.mistake(&root.place_of("routes"), message);
    } else {
        tell_doubles(check, &routes);
    }
    let admin = root.section("admin").map(|section| admin(check, section));
    if let Some(admin) = &admin {
        let bind = Bind::Tcp {
            host: admin.host.clone(),
            port: admin.port,
            nth: 0,
        };
        if admin.port != 0
            && server
                .listeners
                .iter()
                .any(|listener| listener.bind == bind)
        {
            check.mistake(
                &root.place_of("admin"),
                "the same address as a listener of the server",
            );
        }
    }
    Settings {
        server,
        admin,
        access_log: root
            .section("access_log")
            .map(|section| access_log(check, section)),
        routes: routes.into_iter().map(|(_, route)| route).collect(),
    }
}

/// Two routes that take the same requests: one of them would never get any.
fn tell_doubles(check: &mut Check<'_>, routes: &[(&Item, Route)]) {
    fn meet<T: PartialEq>(some: &[T], others: &[T]) -> bool {
        (some.is_empty() && others.is_empty()) || some.iter().any(|one| others.contains(one))
    }
    for (index, (item, route)) in routes.iter().enumerate() {
        let earlier = routes.iter().take(index).find(|(_, earlier)| {
            earlier.path == route.path
                && meet(&earlier.hosts, &route.hosts)
                && meet(&earlier.methods, &route.methods)
        });
        if let Some((first, _)) = earlier
            && check.is_sound(&first.place)
            && check.is_sound(&item.place)
        {
            let first = &first.place;
            let message = format!(
                "takes the same requests as {} on line {}: path, hosts and methods are the same",
                first.path, first.line
            );
            check.mistake(&item.place, message);
        }
    }
}

fn admin(check: &mut Check<'_>, section: &Section) -> Admin {
    Admin {
        host: check.own_host(section).unwrap_or_default(),
        port: section.count("port").unwrap_or_default(),
    }
}

fn access_log(check: &mut Check<'_>, section: &Section) -> AccessLog {
    AccessLog {
        format: match section.text("format") {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Combined,
        },
        path: check.new_file(section, "path"),
    }
}

impl Check<'_> {
    /// Tells that a value is not what its key wants.
    fn refuse(&mut self, item: &Item, allowed: &str) {
        let message = format!("found {}; allowed is {allowed}", item.found());
        self.mistake(&item.place, message);
    }

    /// A file that must be there, readable.
    fn file_at(&mut self, item: &Item) -> Option<PathBuf> {
        let path = self.folder.join(item.text()?);
        // Of one that is missing, too: it may come.
        self.files.push(path.clone());
        let readable = path.metadata().and_then(|data| match data.file_type() {
            // A folder does not change with the files in it.
            kind if kind.is_dir() => files_in(&path).map(|files| self.files.extend(files)),
            kind if kind.is_file() => std::fs::File::open(&path).map(drop),
            // Whoever opens a pipe may wait for ever.
            _ => Err(std::io::Error::other("it is no file")),
        });
        match readable {
            Ok(()) => Some(path),
            Err(error) => {
                let reason = words(&error);
                let message = format!("found {}, which cannot be read: {reason}", item.found());
                self.mistake(&item.place, message);
                None
            }
        }
    }

    /// A file that will be made in a folder that must be there.
    fn new_file(&mut self, section: &Section, key: &str) -> Option<PathBuf> {
        let item = section.item(key)?;
        let path = self.folder.join(item.text()?);
        let folder = path.parent().filter(|folder| folder.is_dir());
        if folder.is_none() || path.is_dir() {
            self.refuse(item, "the path of a file in a folder that is there");
        }
        Some(path)
    }

    /// A name or an address, IPv6 without brackets.
    fn host(&mut self, section: &Section, key: &str) -> Option<String> {
        let item = section.item(key)?;
        let host = bare_host(item.text()?);
        if host.is_none() {
            self.refuse(
                item,
                "a host name or an address, without a scheme or a port",
            );
        }
        host
    }

    /// Where to listen: `host` of a section.
    fn own_host(&mut self, section: &Section) -> Option<String> {
        match section.item("host").filter(|item| item.text() == Some("*")) {
            None => self.host(section, "host"),
            Some(item) => {
                let allowed = "a host name or an address: 0.0.0.0 is every one, :: with IPv6, too";
                self.refuse(item, allowed);
                None
            }
        }
    }

    fn header_name(&mut self, item: &Item) -> Option<HeaderName> {
        let name = HeaderName::from_bytes(item.text()?.as_bytes());
        if name.is_err() {
            self.refuse(item, "a header name (RFC 9110 §5.1)");
        }
        name.ok()
    }

    fn method(&mut self, item: &Item) -> Option<Method> {
        let text = item.text()?;
        // A method in small letters is another one (RFC 9110 §9.1), which nobody means.
        let method = Method::from_bytes(text.as_bytes())
            .ok()
            .filter(|method| *method != Method::CONNECT && !text.contains(char::is_lowercase));
        if method.is_none() {
            self.refuse(item, "a method in capital letters, but not CONNECT");
        }
        method
    }
}

/// A host as it is connected to or bound: a name in ASCII, or an address without brackets.
fn bare_host(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(address.to_string());
    }
    match Host::parse(text).ok()? {
        // In a URL a name may have `*` and the like, which no resolver knows.
        Host::Domain(name) => {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            name.bytes().all(known).then_some(name)
        }
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}
