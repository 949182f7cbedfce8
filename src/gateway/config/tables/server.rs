//! The file as a whole, and the side of the clients.

use super::super::keys::{Default, Key, Kind, Table};
use super::super::network::Trusted;
use super::route::{ROUTE, RULE};
use super::{COUNT_OR_ANY, SECONDS_OR_NEVER, SIZE_OR_ANY, SOME_SECONDS_OR_NEVER};

const CERTIFICATE_FILE: Kind =
    Kind::Path("the path of a PEM file with a certificate and its chain");
const KEY_FILE: Kind = Kind::Path("the path of a PEM file with an unencrypted private key");
const AUTHORITIES: Kind =
    Kind::Path("the path of a PEM file or folder with certificate authorities");
const HOST: Kind = Kind::Text("a host name or an address");
const PORT: Kind = Kind::Whole(0, 65535);

/// The whole file.
pub(in super::super) static GATEWAY: Table = Table {
    name: "gateway",
    about: "a gateway's configuration",
    groups: &[&[
        Key {
            name: "server",
            kind: Kind::Table(&SERVER),
            default: Default::Empty,
            about: "the side of the clients, and PyServe's rules",
        },
        Key {
            name: "ssl",
            kind: Kind::Table(&SSL),
            default: Default::Empty,
            about: "TLS at `server.host` and `server.port`, as in PyServe",
        },
        Key {
            name: "routes",
            kind: Kind::List(&Kind::Table(&ROUTE)),
            default: Default::Empty,
            about: "which requests go where; together with `server.reverse_proxy` at least one",
        },
        Key {
            name: "admin",
            kind: Kind::Any(&[Kind::Null, Kind::Table(&ADMIN)]),
            default: Default::Null,
            about: "a listener of its own for `/healthz` and `/metrics`",
        },
        Key {
            name: "access_log",
            kind: Kind::Any(&[Kind::Null, Kind::Table(&ACCESS_LOG)]),
            default: Default::Null,
            about: "a line for each request",
        },
        Key {
            name: "http",
            kind: Kind::Ignored("PyServe's files and templates, which a gateway does not serve"),
            default: Default::Absent,
            about: "PyServe's `static_dir` and `templates_dir`",
        },
        Key {
            name: "logging",
            kind: Kind::Ignored("PyServe's logging; access_log is the gateway's"),
            default: Default::Absent,
            about: "PyServe's logging",
        },
    ]],
};

static SERVER: Table = Table {
    name: "server",
    about: "the side of the clients",
    groups: &[&[
        Key {
            name: "host",
            kind: HOST,
            default: Default::Text("127.0.0.1"),
            about: "where to listen; not beside `listeners`",
        },
        Key {
            name: "port",
            kind: PORT,
            default: Default::Whole(8000),
            about: "the port there; 0 takes any that is free; not beside `listeners`",
        },
        Key {
            name: "listeners",
            kind: Kind::List(&Kind::Table(&LISTENER)),
            default: Default::Empty,
            about: "several addresses, in place of `host` and `port`",
        },
        Key {
            name: "reverse_proxy",
            kind: Kind::List(&Kind::Table(&RULE)),
            default: Default::Empty,
            about: "PyServe's rules, which may have every key of a route, too",
        },
        Key {
            name: "workers",
            kind: Kind::Any(&[Kind::Null, Kind::Whole(1, 1024)]),
            default: Default::Null,
            about: "threads; `null` is one for each core",
        },
        Key {
            name: "shutdown_grace",
            kind: Kind::Seconds,
            default: Default::Number(30.0),
            about: "seconds that requests in flight get when the gateway stops",
        },
        Key {
            name: "trusted_proxies",
            kind: Kind::List(&Kind::Text(Trusted::ITEM)),
            default: Default::Empty,
            about: "peers whose `X-Forwarded-*` headers are passed on; those of others are replaced; `unix:` is those on Unix sockets",
        },
        Key {
            name: "limits",
            kind: Kind::Table(&LIMITS),
            default: Default::Empty,
            about: "what clients may take",
        },
        Key {
            name: "backlog",
            kind: Kind::Ignored("PyServe's queue of connections; the gateway has its own"),
            default: Default::Absent,
            about: "PyServe's queue of connections",
        },
        Key {
            name: "redirect_instructions",
            kind: Kind::Ignored("PyServe's redirects, which a gateway does not make"),
            default: Default::Absent,
            about: "PyServe's redirects",
        },
        Key {
            name: "locations",
            kind: Kind::Refused(
                "PyServe asks for passwords there, and the gateway does not: what they protect \
                 would be open; take it out, and protect it elsewhere",
            ),
            default: Default::Absent,
            about: "PyServe's passwords",
        },
    ]],
};

static LISTENER: Table = Table {
    name: "listener",
    about: "an address to listen on",
    groups: &[&[
        Key {
            name: "host",
            kind: HOST,
            default: Default::Text("127.0.0.1"),
            about: "a name or an address; `0.0.0.0` or `::` is every one",
        },
        Key {
            name: "port",
            kind: PORT,
            default: Default::Absent,
            about: "the port; 0 takes any that is free; needed unless there is `unix`",
        },
        Key {
            name: "unix",
            kind: Kind::Path("the path of a Unix socket to make"),
            default: Default::Absent,
            about: "a Unix socket, in place of `host` and `port`",
        },
        Key {
            name: "ssl",
            kind: Kind::Any(&[Kind::Null, Kind::Table(&LISTENER_SSL)]),
            default: Default::Null,
            about: "TLS",
        },
        Key {
            name: "redirect_https",
            kind: Kind::Any(&[Kind::Flag, Kind::Whole(1, 65535)]),
            default: Default::Flag(false),
            about: "answer with a redirect to https: `true` to the first listener with `ssl`, or a port",
        },
        Key {
            name: "proxy_protocol",
            kind: Kind::Flag,
            default: Default::Flag(false),
            about: "every connection begins with a PROXY protocol header (version 1 or 2), which whoever connects can make up",
        },
    ]],
};

const CERTIFICATE_KEYS: &[Key] = &[
    Key {
        name: "cert_file",
        kind: CERTIFICATE_FILE,
        default: Default::Absent,
        about: "a certificate with its chain (PEM)",
    },
    Key {
        name: "key_file",
        kind: KEY_FILE,
        default: Default::Absent,
        about: "its private key (PEM, not encrypted)",
    },
];

const TLS_KEYS: &[Key] = &[
    Key {
        name: "certificates",
        kind: Kind::List(&Kind::Table(&CERTIFICATE)),
        default: Default::Empty,
        about: "several, chosen by the name that a client asks for; the first is for others",
    },
    Key {
        name: "client_ca_file",
        kind: AUTHORITIES,
        default: Default::Absent,
        about: "clients must show a certificate of one of these authorities (PEM)",
    },
];

static CERTIFICATE: Table = Table {
    name: "certificate",
    about: "a certificate with its key",
    groups: &[CERTIFICATE_KEYS],
};

static LISTENER_SSL: Table = Table {
    name: "listener_ssl",
    about: "TLS of one listener: one certificate, or several",
    groups: &[CERTIFICATE_KEYS, TLS_KEYS],
};

static SSL: Table = Table {
    name: "ssl",
    about: "TLS as PyServe has it",
    groups: &[
        &[Key {
            name: "enabled",
            kind: Kind::Flag,
            default: Default::Flag(false),
            about: "speak TLS; without it, the other keys count for nothing",
        }],
        CERTIFICATE_KEYS,
        TLS_KEYS,
    ],
};

static LIMITS: Table = Table {
    name: "server_limits",
    about: "what clients may take",
    groups: &[&[
        Key {
            name: "header_timeout",
            kind: SOME_SECONDS_OR_NEVER,
            default: Default::Number(10.0),
            about: "seconds for a TLS handshake, and for the head of a request",
        },
        Key {
            name: "body_timeout",
            kind: SOME_SECONDS_OR_NEVER,
            default: Default::Number(30.0),
            about: "seconds between octets of a request's body",
        },
        Key {
            name: "keepalive_timeout",
            kind: SECONDS_OR_NEVER,
            default: Default::Number(75.0),
            about: "seconds that a connection is kept without a request",
        },
        Key {
            name: "max_header_size",
            kind: Kind::Whole(8192, 1 << 20),
            default: Default::Whole(65_536),
            about: "octets of a request's head; more is a 431",
        },
        Key {
            name: "max_headers",
            kind: Kind::Whole(1, 1000),
            default: Default::Whole(100),
            about: "header lines of a request, where more is a 431, and of an upstream's answer, where more is a 502",
        },
        Key {
            name: "max_body_size",
            kind: SIZE_OR_ANY,
            default: Default::Null,
            about: "octets of a request's body; more is a 413",
        },
        Key {
            name: "max_connections",
            kind: COUNT_OR_ANY,
            default: Default::Whole(20_000),
            about: "connections at once; further ones wait",
        },
    ]],
};

static ADMIN: Table = Table {
    name: "admin",
    about: "a listener for `/healthz` and `/metrics`",
    groups: &[&[
        Key {
            name: "host",
            kind: HOST,
            default: Default::Text("127.0.0.1"),
            about: "where to listen: it has no password, so keep it to yourself",
        },
        Key {
            name: "port",
            kind: PORT,
            default: Default::Whole(9901),
            about: "the port; 0 takes any that is free",
        },
    ]],
};

static ACCESS_LOG: Table = Table {
    name: "access_log",
    about: "a line for each request",
    groups: &[&[
        Key {
            name: "format",
            kind: Kind::Choice(&["combined", "json"]),
            default: Default::Text("combined"),
            about: "Apache's combined format, or an object in JSON",
        },
        Key {
            name: "path",
            kind: Kind::Any(&[Kind::Null, Kind::Path("the path of a file to append to")]),
            default: Default::Null,
            about: "appended to; `null` is standard output",
        },
    ]],
};
