//! Starting, reloading, and the sockets on both sides.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::server::certificates::Folder;
use crate::server::support::{
    Peer, Upstream, header, in_flight, ok, port_of, relaying, settings, start,
};

#[test]
fn a_reload_changes_all_or_nothing() {
    let old = Upstream::bind();
    let gateway = start(&relaying(&old, ""));
    let mut kept = Peer::client(&gateway);
    kept.say("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = old.accept();
    peer.head();
    let new = Upstream::bind().serve(|_| ok("new"));
    let text = |port: &str, more: &str| {
        format!(
            "server:\n  listeners:\n    - {{host: 127.0.0.1, port: 0}}\n{port}  reverse_proxy:\n    \
             - path: /\n      targets: [{new}]\n{more}"
        )
    };
    // What cannot be bound changes nothing.
    let occupied = Upstream::bind();
    let port = format!(
        "    - {{host: 127.0.0.1, port: {}}}\n",
        occupied.address().port()
    );
    let error = gateway.reload(settings(&text(&port, ""))).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );
    // What can be is in place for the next request, on connections that are kept, too.
    let port = "    - {host: 127.0.0.3, port: 0}\n";
    gateway.reload(settings(&text(port, ""))).unwrap();
    peer.say(ok("old"));
    assert_eq!(kept.message().1, b"old");
    assert_eq!(kept.get("/2", "").1, b"new");
    assert_eq!(gateway.addresses().len(), 2);
    let mut second = Peer::new(std::net::TcpStream::connect(&gateway.addresses()[1]).unwrap());
    assert_eq!(second.get("/", "").1, b"new");
    // A listener that is gone takes no new connection; those that are open go on.
    gateway.reload(settings(&text("", ""))).unwrap();
    assert_eq!(gateway.addresses().len(), 1);
    assert_eq!(second.get("/", "").1, b"new");
}

#[test]
fn who_waits_at_a_listener_that_goes_is_served() {
    let upstream = Upstream::bind();
    let limits = "  limits: {max_connections: 1}";
    let gateway = start(&relaying(&upstream, limits));
    let mut first = Peer::client(&gateway);
    first.say("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    let mut second = Peer::client(&gateway);
    second.say("GET /2 HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut third = Peer::client(&gateway);
    third.say("GET /3 HTTP/1.1\r\nhost: h\r\n\r\n");
    let other = Upstream::bind();
    let elsewhere = relaying(&other, limits).replace("127.0.0.1\n  port", "127.0.0.3\n  port");
    gateway.reload(settings(&elsewhere)).unwrap();
    other.serve(|head| ok(head.split(' ').nth(1).unwrap()));
    peer.say(ok("1"));
    assert_eq!(first.message().1, b"1");
    assert_eq!(second.message().1, b"/2");
    assert_eq!(third.message().1, b"/3");
}

#[test]
fn reloads_lose_no_request() {
    let url = Upstream::bind().serve(|_| ok("x"));
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    );
    let gateway = start(&text);
    thread::scope(|scope| {
        let clients = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut client = Peer::client(&gateway);
                for _ in 0..200 {
                    assert_eq!(client.get("/", "").1, b"x");
                }
            })
        });
        while clients.iter().any(|client| !client.is_finished()) {
            gateway.reload(settings(&text)).unwrap();
        }
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn the_proxy_protocol_is_read_where_it_is_configured() {
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-for").unwrap_or("-")));
    let gateway = start(&format!(
        "server:\n  workers: 1\n  listeners:\n    - {{host: 127.0.0.1, port: 0, proxy_protocol: true}}\n    \
         - {{host: 127.0.0.3, port: 0, redirect_https: 443}}\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    ));
    let mut client = Peer::client(&gateway);
    client.say("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n");
    assert_eq!(client.get("/", "").1, b"192.0.2.7");
    assert_eq!(client.get("/", "").1, b"192.0.2.7");
    let mut without = Peer::client(&gateway);
    without.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(without.ended(), "");
    let mut elsewhere = Peer::new(std::net::TcpStream::connect(&gateway.addresses()[1]).unwrap());
    elsewhere.say("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(elsewhere.head().starts_with("HTTP/1.1 400"));
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let folder = Folder::new("unix");
    let (front, back) = (folder.0.join("front.sock"), folder.0.join("back.sock"));
    let upstream = std::os::unix::net::UnixListener::bind(&back).unwrap();
    let text = format!(
        "server:\n  workers: 2\n  listeners: [{{unix: {}}}]\n  reverse_proxy:\n    - path: /\n      unix: \
         {}\n",
        front.display(),
        back.display()
    );
    let gateway = start(&text);
    let mut client = UnixStream::connect(&front).unwrap();
    use std::io::Write;
    client
        .write_all(b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .unwrap();
    let (mut peer, _) = upstream.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        peer.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("GET /x HTTP/1.1\r\nhost: localhost\r\n"),
        "{head}"
    );
    peer.write_all(ok("unix").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nunix"), "{answer}");
    // Who listens there already is not pushed aside; what was left behind is.
    let error = asgi_relay::gateway::Gateway::start(settings(&text)).unwrap_err();
    assert!(error.to_string().contains("front.sock"), "{error}");
    drop(gateway);
    assert!(!front.exists());
    drop(std::os::unix::net::UnixListener::bind(&front).unwrap());
    drop(start(&text));
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let folder = Folder::new("nothing");
    let path = folder.0.join("front.sock");
    let taken = Upstream::bind();
    let text = format!(
        "server:\n  workers: 1\n  listeners: [{{unix: {}}}, {{host: 127.0.0.1, port: {}}}]\n  \
         reverse_proxy:\n    - path: /\n",
        path.display(),
        taken.address().port()
    );
    assert!(asgi_relay::gateway::Gateway::start(settings(&text)).is_err());
    assert!(!path.exists());
    let text = format!(
        "server:\n  workers: 1\n  listeners: [{{unix: {}}}]\n  reverse_proxy:\n    - path: /\n\
         admin: {{port: {}}}\n",
        path.display(),
        taken.address().port()
    );
    assert!(asgi_relay::gateway::Gateway::start(settings(&text)).is_err());
    assert!(!path.exists());
}

#[test]
fn a_start_that_fails_names_the_key_and_what_it_says() {
    let refused = |more: &str| {
        let text = "server: {port: 0, workers: 1}\nroutes: [{targets: 'http://h'}]\n";
        let refused = asgi_relay::gateway::Gateway::start(settings(&format!("{text}{more}")));
        refused.unwrap_err().to_string()
    };
    let taken = Upstream::bind();
    let address = taken.address();
    assert_eq!(
        refused(&format!("admin: {{port: {}}}", address.port())),
        format!("admin: cannot listen on {address}: the address is in use")
    );
    // A folder that is there, and takes no file.
    #[cfg(target_os = "linux")]
    assert_eq!(
        refused("access_log: {path: /proc/self/a.log}"),
        "access_log.path: cannot open /proc/self/a.log: No such file or directory"
    );
}

#[test]
fn what_listens_where_a_gateway_did_is_left_alone() {
    let folder = Folder::new("successor");
    let path = folder.0.join("front.sock");
    let text = format!(
        "server:\n  workers: 1\n  listeners: [{{unix: {}}}]\n  reverse_proxy:\n    - path: /\n",
        path.display()
    );
    let first = start(&text);
    first.drain(Duration::ZERO);
    let second = start(&text);
    drop(first);
    assert!(path.exists());
    // Neither is one that has put another socket there meanwhile.
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    second
        .reload(settings(
            "server: {host: 127.0.0.1, port: 0}\nroutes: [{targets: \"http://h\"}]",
        ))
        .unwrap();
    drop(second);
    assert!(path.exists());
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = Upstream::bind();
    let port = taken.address().port();
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: {port}\n  workers: 2\n  reverse_proxy:\n    - path: /\n"
    );
    let error = asgi_relay::gateway::Gateway::start(settings(&text)).unwrap_err();
    let expected = format!("cannot listen on 127.0.0.1:{port}: the address is in use");
    assert_eq!(error.to_string(), expected);
    // Another gateway is no better a neighbour.
    let first = start(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  reverse_proxy:\n    - path: /\n",
    );
    let port = port_of(&first);
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: {port}\n  workers: 2\n  reverse_proxy:\n    - path: /\n"
    );
    assert!(asgi_relay::gateway::Gateway::start(settings(&text)).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn clients_that_are_silent_are_asked_after() {
    let (_upstream, _gateway, client, _peer) = in_flight("", "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    // The kernel's table names addresses and ports in hex; timer 2 is the one for this.
    let port = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
    let ends = [client.0.peer_addr(), client.0.local_addr()].map(|end| port(end.unwrap()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == ends[0] && row[2] == ends[1]);
    assert!(row.unwrap()[5].starts_with("02:"), "{table}");
}
