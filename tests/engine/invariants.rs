//! What holds for any input at all: each function takes octets from anywhere and panics where the
//! engine breaks its word. The tests call them with proptest, the targets in `fuzz/` with libFuzzer.

use asgi_relay::engine::policy::cookie::{domain_value, domains, with_domain};
use asgi_relay::engine::policy::headers::is_hop_by_hop;
use asgi_relay::engine::policy::path::{ScopePath, below_mount, climbs};
use asgi_relay::engine::policy::request::{
    BadRequest, Connection, Framing, Outgoing, RequestPolicy,
};
use asgi_relay::engine::policy::response::ResponsePolicy;
use asgi_relay::engine::target::Target;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode;
use url::Url;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// What the proxy computes, so that it may be there whatever the client sent.
const COMPUTED: [&str; 5] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-extra",
];

/// A request target is base, path and query, octet by octet, and stays below the base for a reader
/// that resolves dot segments as browsers do.
pub fn target_join(base: &str, prefix: &str, path: &[u8], query: &[u8]) {
    let Ok(target) = Target::parse(base, prefix) else {
        return;
    };
    let root = target.join(b"", b"").expect("the base itself");
    let root = root.as_str().trim_end_matches('/');
    let joined = match target.join(path, query) {
        Ok(joined) => joined,
        Err(BadRequest::PathEscape) => {
            assert!(climbs(path) && path.len() >= 2);
            return;
        }
        Err(_) => return,
    };
    let joined = joined.as_str();
    let separator = match path {
        [b'/', ..] => "",
        [] if !root.is_empty() => "",
        _ => "/",
    };
    let mark: &[u8] = if query.is_empty() { b"" } else { b"?" };
    let expected = [root.as_bytes(), separator.as_bytes(), path, mark, query].concat();
    if expected
        .iter()
        .all(|b| matches!(b, b'!'..=b'~') && !b"\"<>`".contains(b))
    {
        assert_eq!(joined.as_bytes(), expected);
    } else {
        // What a URI cannot carry is encoded, and reads the same.
        let read = |octets| percent_decode(octets).collect::<Vec<u8>>();
        assert_eq!(read(joined.as_bytes()), read(&expected));
    }
    let (resolved, area) = (resolved(joined), resolved(&format!("{root}/")));
    let area = area.trim_end_matches('/');
    assert!(
        resolved
            .strip_prefix(area)
            .is_some_and(|rest| rest.starts_with(['/', '?']) || rest.is_empty()),
        "{joined:?} leads to {resolved:?}, out of {area:?}"
    );
}

/// A base URL that is taken is understood as any other reader of URLs understands it, and what is
/// shown of it is that same upstream.
pub fn base_url(text: &str) {
    let Ok(target) = Target::parse(text, "/") else {
        return;
    };
    let url = Url::parse(text).expect("what the engine takes is a URL");
    let ours = target.join(b"/x", b"").expect("a harmless path");
    let theirs = format!("{}/x", url.path().trim_end_matches('/'));
    assert_eq!(resolved(ours.as_str()), resolved(&theirs), "{text:?}");
    let shown = target.to_string();
    let again = Target::parse(&shown, "/");
    assert_eq!(
        again.as_ref(),
        Ok(&target),
        "{text:?} is shown as {shown:?}"
    );
}

/// The path of a request target, dot segments resolved.
fn resolved(target: &str) -> String {
    let url = Url::parse(&format!("http://h{target}")).expect("a request target");
    url.path().to_owned()
}

/// What is below a mount is a tail of the path that the client sent.
pub fn mounts(path: &str, raw_path: &[u8], root_path: &str) {
    let known = |raw_path| ScopePath {
        path,
        raw_path,
        root_path,
    };
    let sent = raw_path.split(|&octet| octet == b'?').next().unwrap_or(&[]);
    let below = below_mount(&known(Some(raw_path)));
    assert!(sent.ends_with(&below), "{below:?} is no tail of {sent:?}");
    // Made from the decoded path, it has no octet that a target cannot carry.
    let below = below_mount(&known(None));
    assert!(below.iter().all(u8::is_ascii_graphic), "{below:?}");
}

/// The headers that go upstream: nothing that belongs to one connection, nothing invented, nothing
/// lost or reordered, and a second pass changes nothing.
pub fn header_policy(lines: &Lines, multiplexed: bool) {
    let name = HeaderName::from_static;
    let extra = HeaderMap::from_iter([(name("x-extra"), HeaderValue::from_static("ours"))]);
    let authority = HeaderValue::from_static("upstream:8000");
    let policy = RequestPolicy::new(authority, true, extra, vec![name("x-dropped")], None);
    let connection = Connection {
        client: None,
        secure: false,
        multiplexed,
        origin: None,
    };
    let Ok(first) = policy.headers(&borrowed(lines), &[], &connection) else {
        return;
    };
    nothing_of_the_connection(lines, &first.headers);
    nothing_invented(lines, &first, multiplexed);
    given_alone(&policy, lines, &connection);
    let again = lines_of(&first);
    let second = policy
        .headers(&borrowed(&again), &[], &connection)
        .expect("what the policy lets through passes it again");
    assert_eq!(second.framing, first.framing);
    let named_host = first
        .headers
        .get("x-forwarded-host")
        .is_some_and(|host| !host.is_empty());
    let mut pair = (first.headers, second.headers);
    if !named_host {
        // The first pass had no Host to report; now there is one.
        pair.0.remove("x-forwarded-host");
        pair.1.remove("x-forwarded-host");
        assert_eq!(pair.0, pair.1);
        return;
    }
    let in_order = |map: &HeaderMap| -> Vec<(HeaderName, HeaderValue)> {
        map.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    };
    assert_eq!(in_order(&pair.0), in_order(&pair.1));
}

/// What is given for one request has the last word, whatever the client says, and is taken out again
/// with its credentials; the connection's own is not for it to give.
fn given_alone(policy: &RequestPolicy, lines: &Lines, connection: &Connection<'_>) {
    let given: [(&[u8], &[u8]); 6] = [
        (b"X-Dropped", b"given"),
        (b"x-extra", b"given"),
        (b"x-forwarded-for", b"given"),
        (b"connection", b"x-extra"),
        (b"host", b"given"),
        (b"content-length", b"9"),
    ];
    let Ok(mut outgoing) = policy.headers(&borrowed(lines), &given, connection) else {
        return;
    };
    let own = ["x-dropped", "x-extra", "x-forwarded-for"];
    for name in own {
        let values: Vec<_> = outgoing.headers.get_all(name).iter().collect();
        assert_eq!(values, ["given"], "{name}");
    }
    for name in ["connection", "content-length"] {
        assert!(!outgoing.headers.contains_key(name), "{name} crossed");
    }
    policy.strip_credentials(&mut outgoing.headers, &outgoing.given);
    for name in own {
        assert!(!outgoing.headers.contains_key(name), "{name} stayed");
    }
    assert!(outgoing.headers.contains_key("host"));
}

fn nothing_of_the_connection(lines: &Lines, headers: &HeaderMap) {
    for name in headers.keys() {
        assert!(!is_hop_by_hop(name), "{name} crossed");
    }
    for framing in ["content-length", "transfer-encoding", "x-dropped"] {
        assert!(!headers.contains_key(framing), "{framing} crossed");
    }
    for name in headers.keys().filter(|name| name.as_str().contains('_')) {
        let read = HeaderName::from_bytes(name.as_str().replace('_', "-").as_bytes());
        let read = read.expect("a name as good as the one before");
        let own = ["content-length", "x-dropped"].contains(&read.as_str());
        let computed = COMPUTED.contains(&read.as_str());
        assert!(!own && !computed && !is_hop_by_hop(&read), "{name} crossed");
    }
    let connection = lines
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    for token in connection.flat_map(|(_, value)| value.split(|&octet| octet == b',')) {
        if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
            let computed = COMPUTED.contains(&name.as_str());
            assert!(computed || !headers.contains_key(&name), "{name} crossed");
        }
    }
}

fn nothing_invented(lines: &Lines, outgoing: &Outgoing, multiplexed: bool) {
    let joined = |name: &HeaderName| multiplexed && name == "cookie";
    for name in outgoing.headers.keys() {
        if COMPUTED.contains(&name.as_str()) || joined(name) {
            continue;
        }
        let sent: Vec<&[u8]> = lines
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_str().as_bytes()))
            .map(|(_, value)| &**value)
            .collect();
        let passed = outgoing.headers.get_all(name).iter();
        let passed: Vec<&[u8]> = passed.map(HeaderValue::as_bytes).collect();
        assert_eq!(passed, sent, "{name}");
    }
}

fn lines_of(outgoing: &Outgoing) -> Lines {
    let mut lines: Lines = outgoing
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().into(), value.as_bytes().into()))
        .collect();
    match outgoing.framing {
        Framing::None => {}
        Framing::Length(length) => {
            lines.push((b"content-length".to_vec(), length.to_string().into_bytes()));
        }
        Framing::Chunked => lines.push((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
    }
    lines
}

fn borrowed(lines: &Lines) -> Vec<(&[u8], &[u8])> {
    lines
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}

/// The headers that come back: as for requests, and at most one Content-Length.
pub fn response_policy(status: u16, lines: &Lines) {
    let Ok(status) = StatusCode::from_u16(status) else {
        return;
    };
    let policy = ResponsePolicy::new(vec![HeaderName::from_static("x-dropped")], None);
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let mut map = headers.clone();
    if policy.filter(status, &mut map).is_err() {
        return;
    }
    assert!((200..600).contains(&status.as_u16()));
    let mut sent = headers.keys();
    for name in map.keys() {
        assert!(!is_hop_by_hop(name), "{name} crossed");
        assert!(sent.any(|other| other == name), "{name} out of order");
    }
    assert!(!map.contains_key("x-dropped"));
    assert!(map.get_all("content-length").iter().count() <= 1);
    let cookies = |map: &HeaderMap| {
        map.get_all("set-cookie")
            .iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    let nominated = headers.get_all("connection").iter().any(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .windows(10)
            .any(|w| w == b"set-cookie")
    });
    assert!(nominated || cookies(&map) == cookies(&headers));
    let mut again = map.clone();
    policy.filter(status, &mut again).expect("a second pass");
    assert_eq!(again, map);
}

/// A cookie's Domain is set or dropped, and every other octet stays.
pub fn cookie_rewrite(line: &[u8], domain: &[u8]) {
    // What a callback may return: see the bridge, which refuses anything else.
    let domain: Vec<u8> = domain
        .iter()
        .copied()
        .filter(|octet| octet.is_ascii_graphic() && !b";,".contains(octet))
        .collect();
    let bare = with_domain(line, b"");
    assert!(domains(&bare).is_empty());
    assert_eq!(domain_value(&bare), b"");
    let changed = with_domain(line, &domain);
    assert_eq!(domain_value(&changed), domain);
    assert!(domains(&changed).len() <= 1);
    assert_eq!(with_domain(&changed, &domain), changed, "a second time");
    assert_eq!(with_domain(&changed, b""), bare, "the rest of the line");
    let cookie = |line: &[u8]| {
        line.split(|&octet| octet == b';')
            .next()
            .map(<[u8]>::to_vec)
    };
    assert_eq!(cookie(&changed), cookie(line), "the cookie itself");
    if HeaderValue::from_bytes(line).is_ok() {
        assert!(HeaderValue::from_bytes(&changed).is_ok());
    }
    if domains(line).is_empty() {
        assert_eq!(bare, line, "a host-only cookie has nothing to drop");
    }
}
