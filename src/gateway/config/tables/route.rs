//! A route: which requests it is for, and all that `asgi_relay.Relay` has for them, under the same
//! names and with the same defaults.

use super::super::keys::{Default, Key, Kind, Table};
use super::upstream::{
    BALANCE, CONNECTIONS, HEALTH_CHECK, PASSIVE_HEALTH, RATE_LIMIT, STICKY, TARGET, TIMEOUT, TLS,
};
use super::{COUNT_OR_ANY, MOST, SIZE_OR_ANY, SOME_SECONDS_OR_NEVER};

const URL: Kind = Kind::Secret("a URL such as http://host:8000/base");
const TARGETS: Kind = Kind::Any(&[
    URL,
    Kind::Table(&TARGET),
    Kind::List(&Kind::Any(&[URL, Kind::Table(&TARGET)])),
]);
const HEADER_NAMES: Kind = Kind::List(&Kind::Text("a header name"));
const HEADER_NAMES_OR_ALL: Kind = Kind::Any(&[Kind::Null, HEADER_NAMES]);
const POLICIES: Kind = Kind::Choice(&[
    "p2c",
    "round_robin",
    "weighted_round_robin",
    "random",
    "least_connections",
    "least_latency",
]);
const FAILURES: Kind = Kind::Choice(&[
    "ConnectError",
    "NameResolutionError",
    "TLSError",
    "ConnectTimeout",
    "ReadTimeout",
    "WriteTimeout",
    "PoolTimeout",
    "ReadError",
    "WriteError",
    "RemoteProtocolError",
    "TooManyRedirects",
    "TimeoutException",
    "NetworkError",
    "ProtocolError",
    "TransportError",
]);

/// An item of `routes`.
pub(super) static ROUTE: Table = Table {
    name: "route",
    about: "which requests go where, and how",
    groups: &[
        MATCHING,
        UPSTREAM,
        HEADERS,
        RETRIES,
        SEVERAL_TARGETS,
        NEEDS_PYTHON,
    ],
};

/// An item of `server.reverse_proxy`.
pub(super) static RULE: Table = Table {
    name: "rule",
    about: "a rule of PyServe's: a route whose target may be given as host, port and ssl",
    groups: &[
        PYSERVE,
        MATCHING,
        UPSTREAM,
        HEADERS,
        RETRIES,
        SEVERAL_TARGETS,
        NEEDS_PYTHON,
    ],
};

const PYSERVE: &[Key] = &[
    Key {
        name: "host",
        kind: Kind::Text("a host name or an address"),
        default: Default::Text("localhost"),
        about: "the target's host; not beside `targets` or `unix`",
    },
    Key {
        name: "port",
        kind: Kind::Whole(1, 65535),
        default: Default::Whole(80),
        about: "the target's port",
    },
    Key {
        name: "ssl",
        kind: Kind::Flag,
        default: Default::Flag(false),
        about: "speak TLS to the target",
    },
    Key {
        name: "websocket",
        kind: Kind::Ignored("every route carries WebSockets, as in PyServe since its removal"),
        default: Default::Absent,
        about: "what PyServe once had; every route carries WebSockets",
    },
];

const MATCHING: &[Key] = &[
    Key {
        name: "path",
        kind: Kind::Text("a path that begins with /"),
        default: Default::Text("/"),
        about: "the prefix of the paths it is for, on segment boundaries; the longest wins",
    },
    Key {
        name: "hosts",
        kind: Kind::List(&Kind::Text(
            "a host such as api.example.org or *.example.org",
        )),
        default: Default::Empty,
        about: "the hosts it is for; none is all of them",
    },
    Key {
        name: "methods",
        kind: Kind::List(&Kind::Text("a method such as GET")),
        default: Default::Empty,
        about: "the methods it is for, others get a 405; none is all of them; GET includes HEAD",
    },
    Key {
        name: "max_body_size",
        kind: SIZE_OR_ANY,
        default: Default::Absent,
        about: "octets of a request's body; more is a 413; otherwise as `server.limits` has it",
    },
    Key {
        name: "rate_limit",
        kind: Kind::Any(&[Kind::Null, Kind::Table(&RATE_LIMIT)]),
        default: Default::Null,
        about: "how many requests a client may make; more get a 429",
    },
    Key {
        name: "strip_prefix",
        kind: Kind::Flag,
        default: Default::Flag(true),
        about: "ask the target for what is behind `path`, as a mounted Relay and PyServe do",
    },
    Key {
        name: "upstream_prefix",
        kind: Kind::Text("a path"),
        default: Default::Text("/"),
        about: "put between the target's base path and the client's path",
    },
];

const UPSTREAM: &[Key] = &[
    Key {
        name: "targets",
        kind: TARGETS,
        default: Default::Absent,
        about: "where it goes: a URL, or a list of URLs and of targets; user information in a URL is \
                sent as Basic `Authorization`",
    },
    Key {
        name: "target_base_url",
        kind: TARGETS,
        default: Default::Absent,
        about: "Relay's name for `targets`",
    },
    Key {
        name: "unix",
        kind: Kind::Path("the path of a Unix socket"),
        default: Default::Absent,
        about: "a Unix socket, in place of `targets`",
    },
    Key {
        name: "tls",
        kind: Kind::Table(&TLS),
        default: Default::Empty,
        about: "how TLS is spoken to targets that have it",
    },
    Key {
        name: "verify",
        kind: Kind::Any(&[
            Kind::Flag,
            Kind::Path("the path of a PEM file or folder with certificate authorities"),
        ]),
        default: Default::Flag(true),
        about: "Relay's name for `tls.verify` and `tls.ca_file`: the platform's authorities, these, \
                or none (`false`)",
    },
    Key {
        name: "cert",
        kind: Kind::Any(&[
            Kind::Null,
            Kind::Path("the path of a PEM file with a certificate and its key"),
            Kind::List(&Kind::Path("the path of a PEM file")),
        ]),
        default: Default::Null,
        about: "Relay's name for `tls.cert_file` and `tls.key_file`: one file, or a pair of them",
    },
    Key {
        name: "http2",
        kind: Kind::Choice(&["auto", "always", "never"]),
        default: Default::Text("auto"),
        about: "HTTP/2 to the target: as ALPN decides, always (without TLS by prior knowledge), never",
    },
    Key {
        name: "timeout",
        kind: Kind::Any(&[Kind::Null, Kind::Seconds, Kind::Table(&TIMEOUT)]),
        default: Default::Empty,
        about: "how long things may stand still: one number for all four, or each its own",
    },
    Key {
        name: "limits",
        kind: Kind::Table(&CONNECTIONS),
        default: Default::Empty,
        about: "connections to each target",
    },
    Key {
        name: "follow_redirects",
        kind: Kind::Flag,
        default: Default::Flag(false),
        about: "follow up to 20 instead of passing them on",
    },
    Key {
        name: "ws_ping_interval",
        kind: SOME_SECONDS_OR_NEVER,
        default: Default::Number(20.0),
        about: "seconds of a WebSocket upstream's silence after which it gets a ping",
    },
    Key {
        name: "ws_ping_timeout",
        kind: SOME_SECONDS_OR_NEVER,
        default: Default::Number(20.0),
        about: "seconds that it may stay silent after that",
    },
    Key {
        name: "ws_idle_timeout",
        kind: SOME_SECONDS_OR_NEVER,
        default: Default::Null,
        about: "seconds without a message either way after which a WebSocket is closed",
    },
    Key {
        name: "ws_max_message_size",
        kind: COUNT_OR_ANY,
        default: Default::Null,
        about: "octets of a WebSocket message, as it is framed: compressed ones count as they are",
    },
];

const HEADERS: &[Key] = &[
    Key {
        name: "preserve_host",
        kind: Kind::Flag,
        default: Default::Flag(false),
        about: "send the client's `Host` in place of the target's authority",
    },
    Key {
        name: "rewrite_set_cookie_domain",
        kind: Kind::Any(&[Kind::Null, Kind::Text("a domain, or \"\" to drop it")]),
        default: Default::Null,
        about: "the Domain of every cookie that the target sets: `\"\"` drops it, a name replaces it, \
                `null` leaves the cookie octet for octet",
    },
    Key {
        name: "extra_request_headers",
        kind: Kind::Headers,
        default: Default::Empty,
        about: "sent in place of the client's of the same names",
    },
    Key {
        name: "drop_request_headers",
        kind: HEADER_NAMES,
        default: Default::Empty,
        about: "names that do not go to the target",
    },
    Key {
        name: "drop_response_headers",
        kind: HEADER_NAMES,
        default: Default::Empty,
        about: "names that do not go to the client",
    },
    Key {
        name: "allow_request_headers",
        kind: HEADER_NAMES_OR_ALL,
        default: Default::Null,
        about: "if not `null`, only these go to the target, beside what the gateway computes",
    },
    Key {
        name: "allow_response_headers",
        kind: HEADER_NAMES_OR_ALL,
        default: Default::Null,
        about: "if not `null`, only these go to the client",
    },
];

const RETRIES: &[Key] = &[
    Key {
        name: "max_retries",
        kind: Kind::Whole(0, MOST),
        default: Default::Whole(0),
        about: "tries after the first",
    },
    Key {
        name: "retry_backoff_factor",
        kind: Kind::Seconds,
        default: Default::Number(0.2),
        about: "seconds before the first retry at the same target; doubled for each one after it",
    },
    Key {
        name: "retry_statuses",
        kind: Kind::List(&Kind::Whole(200, 599)),
        default: Default::Wholes(&[502, 503, 504]),
        about: "answers worth another try",
    },
    Key {
        name: "retry_exceptions",
        kind: Kind::List(&FAILURES),
        default: Default::Texts(&["ConnectError", "ReadTimeout"]),
        about: "failures worth another try; one that stands for several covers them",
    },
    Key {
        name: "retry_non_idempotent",
        kind: Kind::Flag,
        default: Default::Flag(false),
        about: "retry POST, PATCH and unknown methods, too",
    },
    Key {
        name: "retry_budget",
        kind: Kind::Any(&[Kind::Null, Kind::Number(0.0, 100.0)]),
        default: Default::Number(0.2),
        about: "retries for each request, over time; `null` is no bound",
    },
];

const SEVERAL_TARGETS: &[Key] = &[
    Key {
        name: "balance",
        kind: Kind::Any(&[POLICIES, Kind::Table(&BALANCE)]),
        default: Default::Text("p2c"),
        about: "how a target is chosen",
    },
    Key {
        name: "sticky",
        kind: Kind::Any(&[Kind::Null, Kind::Table(&STICKY)]),
        default: Default::Null,
        about: "a cookie that keeps a client with its target; `{}` has the defaults",
    },
    Key {
        name: "health_check",
        kind: Kind::Any(&[Kind::Null, Kind::Table(&HEALTH_CHECK)]),
        default: Default::Null,
        about: "requests that find out whether a target is well; `{}` has the defaults",
    },
    Key {
        name: "passive_health",
        kind: Kind::Any(&[Kind::Null, Kind::Table(&PASSIVE_HEALTH)]),
        default: Default::Empty,
        about: "when a target that fails is left alone; `null` is never",
    },
    Key {
        name: "max_in_flight",
        kind: COUNT_OR_ANY,
        default: Default::Null,
        about: "requests at once to each target",
    },
    Key {
        name: "queue_timeout",
        kind: Kind::Seconds,
        default: Default::Number(1.0),
        about: "seconds that a request waits for room under `max_in_flight`",
    },
    Key {
        name: "dns_refresh",
        kind: SOME_SECONDS_OR_NEVER,
        default: Default::Null,
        about: "seconds after which a target's name is resolved anew, each address a target of its own",
    },
];

const NEEDS_PYTHON: &[Key] = &[
    Key {
        name: "transport",
        kind: Kind::Refused("a Relay's transport is Python, which the gateway does not run"),
        default: Default::Absent,
        about: "",
    },
    Key {
        name: "logger",
        kind: Kind::Refused("a Relay's logger is Python; the gateway has access_log"),
        default: Default::Absent,
        about: "",
    },
    Key {
        name: "on_target_change",
        kind: Kind::Refused("a Relay's callback is Python, which the gateway does not run"),
        default: Default::Absent,
        about: "",
    },
];
