//! What a route's mappings hold: the side of the targets.

use super::super::keys::{Default, Key, Kind, Table};
use super::{COUNT_OR_ANY, MOST, SECONDS_OR_NEVER, SHARE};

/// A target with more than its URL.
pub(super) static TARGET: Table = Table {
    name: "target",
    about: "one of several targets",
    groups: &[&[
        Key {
            name: "url",
            kind: Kind::Secret("a URL such as http://host:8000/base"),
            default: Default::Absent,
            about: "its base URL",
        },
        Key {
            name: "unix",
            kind: Kind::Path("the path of a Unix socket"),
            default: Default::Absent,
            about: "a Unix socket, in place of `url`",
        },
        Key {
            name: "weight",
            kind: Kind::Whole(0, 65_535),
            default: Default::Whole(1),
            about: "its share beside the others; 0 gives it nothing",
        },
        Key {
            name: "max_in_flight",
            kind: COUNT_OR_ANY,
            default: Default::Absent,
            about: "requests at once; otherwise as the route has it",
        },
        Key {
            name: "health_check",
            kind: Kind::Any(&[Kind::Null, Kind::Table(&HEALTH_CHECK)]),
            default: Default::Absent,
            about: "how it is checked; otherwise as the route has it",
        },
    ]],
};

/// `timeout`.
pub(super) static TIMEOUT: Table = Table {
    name: "timeout",
    about: "seconds that things may stand still; `null` is for ever",
    groups: &[&[
        Key {
            name: "connect",
            kind: SECONDS_OR_NEVER,
            default: Default::Number(5.0),
            about: "until connected, with resolving and TLS",
        },
        Key {
            name: "read",
            kind: SECONDS_OR_NEVER,
            default: Default::Number(10.0),
            about: "between octets of the response, and from the end of the request to its head",
        },
        Key {
            name: "write",
            kind: SECONDS_OR_NEVER,
            default: Default::Number(10.0),
            about: "between octets of the request that the target takes",
        },
        Key {
            name: "pool",
            kind: SECONDS_OR_NEVER,
            default: Default::Number(10.0),
            about: "until a connection comes free",
        },
    ]],
};

/// `limits` of a route.
pub(super) static CONNECTIONS: Table = Table {
    name: "limits",
    about: "connections to each target; `null` is any number, or for ever",
    groups: &[&[
        Key {
            name: "max_connections",
            kind: COUNT_OR_ANY,
            default: Default::Whole(100),
            about: "in use at once; a request beyond them waits for `timeout.pool`",
        },
        Key {
            name: "max_keepalive_connections",
            kind: Kind::Any(&[Kind::Null, Kind::Whole(0, MOST)]),
            default: Default::Whole(20),
            about: "idle ones that are kept",
        },
        Key {
            name: "keepalive_expiry",
            kind: SECONDS_OR_NEVER,
            default: Default::Number(5.0),
            about: "seconds for which an idle one is kept",
        },
    ]],
};

/// `tls` of a route.
pub(super) static TLS: Table = Table {
    name: "tls",
    about: "how TLS is spoken to targets",
    groups: &[&[
        Key {
            name: "ca_file",
            kind: Kind::Path("the path of a PEM file or folder with certificate authorities"),
            default: Default::Absent,
            about: "the authorities that are trusted, in place of the platform's",
        },
        Key {
            name: "cert_file",
            kind: Kind::Path("the path of a PEM file with a certificate and its chain"),
            default: Default::Absent,
            about: "the gateway's own certificate, for targets that ask for one",
        },
        Key {
            name: "key_file",
            kind: Kind::Path("the path of a PEM file with an unencrypted private key"),
            default: Default::Absent,
            about: "its private key; `cert_file` where it is in there",
        },
        Key {
            name: "server_name",
            kind: Kind::Text("a host name"),
            default: Default::Absent,
            about: "the name to ask for and to check the certificate against; otherwise the target's",
        },
        Key {
            name: "verify",
            kind: Kind::Flag,
            default: Default::Flag(true),
            about: "check certificates; `false` believes everyone's",
        },
    ]],
};

/// `balance`, where it is more than a word.
pub(super) static BALANCE: Table = Table {
    name: "balance",
    about: "a policy with something to it",
    groups: &[&[Key {
        name: "consistent_hash",
        kind: Kind::Table(&CONSISTENT_HASH),
        default: Default::Absent,
        about: "the same target for the same key: exactly one of the three",
    }]],
};

static CONSISTENT_HASH: Table = Table {
    name: "consistent_hash",
    about: "what the target is chosen by: exactly one of these",
    groups: &[&[
        Key {
            name: "header",
            kind: Kind::Text("a header name"),
            default: Default::Absent,
            about: "the value of this header",
        },
        Key {
            name: "cookie",
            kind: Kind::Text("a cookie's name"),
            default: Default::Absent,
            about: "the value of this cookie",
        },
        Key {
            name: "client_address",
            kind: Kind::Flag,
            default: Default::Flag(false),
            about: "the client's address",
        },
    ]],
};

/// `sticky`.
pub(super) static STICKY: Table = Table {
    name: "sticky",
    about: "the cookie that keeps a client with its target",
    groups: &[&[
        Key {
            name: "name",
            kind: Kind::Text("a cookie's name"),
            default: Default::Text("relay"),
            about: "its name",
        },
        Key {
            name: "secret",
            kind: Kind::Any(&[Kind::Null, Kind::Secret("text")]),
            default: Default::Null,
            about: "what its value is made with, so that none can be made up",
        },
        Key {
            name: "max_age",
            kind: COUNT_OR_ANY,
            default: Default::Null,
            about: "seconds it lives; `null` is until the browser closes",
        },
        Key {
            name: "path",
            kind: Kind::Text("a path that begins with /"),
            default: Default::Text("/"),
            about: "its Path",
        },
        Key {
            name: "same_site",
            kind: Kind::Choice(&["lax", "strict", "none"]),
            default: Default::Text("lax"),
            about: "its SameSite",
        },
        Key {
            name: "secure",
            kind: Kind::Any(&[Kind::Null, Kind::Flag]),
            default: Default::Null,
            about: "its Secure; `null` is as the client's connection is",
        },
    ]],
};

/// `health_check`.
pub(super) static HEALTH_CHECK: Table = Table {
    name: "health_check",
    about: "requests that find out whether a target is well",
    groups: &[&[
        Key {
            name: "path",
            kind: Kind::Text("a path that begins with /"),
            default: Default::Text("/"),
            about: "asked for, behind the target's own base path",
        },
        Key {
            name: "interval",
            kind: Kind::SomeSeconds,
            default: Default::Number(10.0),
            about: "seconds between two",
        },
        Key {
            name: "timeout",
            kind: Kind::SomeSeconds,
            default: Default::Number(5.0),
            about: "seconds until one has failed",
        },
        Key {
            name: "method",
            kind: Kind::Choice(&["HEAD", "GET"]),
            default: Default::Text("HEAD"),
            about: "the method",
        },
        Key {
            name: "headers",
            kind: Kind::Headers,
            default: Default::Empty,
            about: "sent with it",
        },
        Key {
            name: "expected_statuses",
            kind: Kind::List(&Kind::Any(&[
                Kind::Whole(200, 599),
                Kind::Text("a range such as 200-399"),
            ])),
            default: Default::Texts(&["200-399"]),
            about: "answers that are well",
        },
        Key {
            name: "rise",
            kind: Kind::Whole(1, 1000),
            default: Default::Whole(1),
            about: "good ones in a row that make it healthy",
        },
        Key {
            name: "fall",
            kind: Kind::Whole(1, 1000),
            default: Default::Whole(2),
            about: "bad ones in a row that make it unhealthy",
        },
        Key {
            name: "jitter",
            kind: SHARE,
            default: Default::Number(0.1),
            about: "the share by which the interval varies",
        },
    ]],
};

/// `passive_health`.
pub(super) static PASSIVE_HEALTH: Table = Table {
    name: "passive_health",
    about: "when a target that fails is left alone",
    groups: &[&[
        Key {
            name: "consecutive_failures",
            kind: COUNT_OR_ANY,
            default: Default::Whole(5),
            about: "failures in a row; `null` counts none",
        },
        Key {
            name: "failure_rate",
            kind: Kind::Any(&[Kind::Null, Kind::Positive(1.0)]),
            default: Default::Number(0.5),
            about: "the share of failures; `null` for none",
        },
        Key {
            name: "eject_time",
            kind: Kind::Positive(300.0),
            default: Default::Number(10.0),
            about: "seconds at first; doubled each time after that, to 300 at most",
        },
        Key {
            name: "max_ejected",
            kind: SHARE,
            default: Default::Number(0.5),
            about: "the share of targets that may be left alone at once",
        },
    ]],
};

/// `rate_limit`.
pub(super) static RATE_LIMIT: Table = Table {
    name: "rate_limit",
    about: "a token bucket for each client",
    groups: &[&[
        Key {
            name: "rate",
            kind: Kind::Positive(1_000_000.0),
            default: Default::Absent,
            about: "requests per second; needed",
        },
        Key {
            name: "burst",
            kind: Kind::Whole(1, 1_000_000),
            default: Default::Absent,
            about: "requests at once; otherwise as many as `rate`, and at least 1",
        },
        Key {
            name: "key",
            kind: Kind::Text("client_address, or header: and a header name"),
            default: Default::Text("client_address"),
            about: "what tells clients apart: `client_address`, or `header:x-api-key`",
        },
    ]],
};
