//! TLS towards clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use asgi_relay::gateway::Handle;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::server::certificates::Authority;
use crate::server::support::{NOBODY, PATIENCE, Peer, Upstream, header, ok, settings, start};

pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn connect(gateway: &Handle, config: &Arc<ClientConfig>, name: &str) -> Secure {
    let stream = TcpStream::connect(&gateway.addresses()[0]).unwrap();
    over(stream, config, name)
}

pub(crate) fn over(stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> Secure {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(client, stream)
}

/// What comes for a request, until the connection ends.
fn ask(stream: &mut Secure, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8(text).unwrap())
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: one.example\r\nconnection: close\r\n\r\n";

fn gateway(authority: &Authority, url: &str, more: &str) -> Handle {
    start(&configuration(authority, url, more))
}

pub(crate) fn configuration(authority: &Authority, url: &str, more: &str) -> String {
    let folder = authority.folder.0.display();
    format!(
        "server:\n  workers: 1\n  listeners:\n    - host: 127.0.0.1\n      port: 0\n      ssl:\n        \
         certificates:\n          - {{cert_file: {folder}/one.example.pem, key_file: \
         {folder}/one.example.key}}\n          - {{cert_file: {folder}/two.example.pem, key_file: \
         {folder}/two.example.key}}\n{more}\n  reverse_proxy:\n    - path: /\n      targets: [{url}]\n"
    )
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let authority = Authority::new("sni");
    authority.issue("one.example");
    authority.issue("two.example");
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-proto").unwrap()));
    let gateway = gateway(&authority, &url, "");
    let config = authority.client(&["http/1.1"], None);
    for name in ["one.example", "two.example"] {
        let mut stream = connect(&gateway, &config, name);
        let answer = ask(&mut stream, ASK).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhttps"), "{answer}");
    }
    // Who asks for a name that there is none for gets the first, and can see that it is wrong.
    let error = ask(&mut connect(&gateway, &config, "three.example"), ASK).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn clients_show_certificates_where_they_must() {
    let authority = Authority::new("client");
    authority.issue("one.example");
    authority.issue("two.example");
    let stranger = Authority::new("stranger");
    stranger.issue("client");
    authority.issue("client");
    let url = Upstream::bind().serve(|_| ok("in"));
    let more = format!(
        "        client_ca_file: {}",
        authority.path("ca.pem").display()
    );
    let gateway = gateway(&authority, &url, &more);
    let known = authority.client(&[], Some("client"));
    let answer = ask(&mut connect(&gateway, &known, "one.example"), ASK).unwrap();
    assert!(answer.ends_with("\r\n\r\nin"), "{answer}");
    let nobody = authority.client(&[], None);
    assert!(ask(&mut connect(&gateway, &nobody, "one.example"), ASK).is_err());
}

#[test]
fn who_does_not_shake_hands_is_let_go() {
    let authority = Authority::new("hands");
    authority.issue("one.example");
    authority.issue("two.example");
    let gateway = gateway(&authority, NOBODY, "  limits: {header_timeout: 0.2}");
    let mut silent = Peer::client(&gateway);
    assert_eq!(silent.ended(), "");
    let mut plain = Peer::client(&gateway);
    plain.say(ASK);
    assert!(!plain.ended().contains("HTTP"));
}

#[test]
fn plain_http_is_redirected() {
    let gateway = start(
        "server:\n  workers: 1\n  listeners:\n    - {host: 127.0.0.1, port: 0, redirect_https: 443}\n  \
         reverse_proxy:\n    - path: /\n",
    );
    let mut client = Peer::client(&gateway);
    client.say("GET /a%20b?c HTTP/1.1\r\nhost: example.org:8080\r\n\r\n");
    let (head, _) = client.message();
    assert!(head.starts_with("HTTP/1.1 308 "), "{head}");
    let location = header(&head, "location");
    assert_eq!(location, Some("https://example.org/a%20b?c"));
    // The server as a whole, which a URI names without a path.
    client.say("OPTIONS * HTTP/1.1\r\nhost: example.org\r\n\r\n");
    let (head, _) = client.message();
    assert_eq!(header(&head, "location"), Some("https://example.org"));
    client.say("GET * HTTP/1.1\r\nhost: example.org\r\n\r\n");
    assert!(client.message().0.starts_with("HTTP/1.1 400 "));
}

#[test]
fn listeners_with_any_port_are_told_apart() {
    let authority = Authority::new("ports");
    authority.issue("one.example");
    let url = Upstream::bind().serve(|_| ok("in"));
    let folder = authority.folder.0.display();
    let text = format!(
        "server:\n  workers: 2\n  listeners:\n    - {{host: 127.0.0.1, port: 0}}\n    - {{host: \
         127.0.0.1, port: 0, redirect_https: true}}\n    - {{host: 127.0.0.1, port: 0, ssl: {{cert_file: \
         {folder}/one.example.pem, key_file: {folder}/one.example.key}}}}\n  reverse_proxy:\n    - path: \
         /\n      targets: [{url}]\n"
    );
    let gateway = start(&text);
    let plain = |at: usize| {
        let stream = TcpStream::connect(&gateway.addresses()[at]).unwrap();
        Peer::new(stream).get("/", "")
    };
    let config = authority.client(&["http/1.1"], None);
    for _ in 0..2 {
        assert_eq!(plain(0).1, b"in");
        let secure = gateway.addresses()[2].clone();
        let stream = TcpStream::connect(&secure).unwrap();
        let answer = ask(&mut over(stream, &config, "one.example"), ASK).unwrap();
        assert!(answer.ends_with("\r\n\r\nin"), "{answer}");
        let port = secure.rsplit(':').next().unwrap();
        let location = format!("https://gateway:{port}/");
        assert_eq!(header(&plain(1).0, "location"), Some(&*location));
        let before = gateway.addresses();
        gateway.reload(settings(&text)).unwrap();
        assert_eq!(gateway.addresses(), before);
    }
}

#[test]
fn certificates_are_those_of_when_the_configuration_was_read() {
    let authority = Authority::new("renewal");
    authority.issue("one.example");
    authority.issue("two.example");
    let url = Upstream::bind().serve(|_| ok("in"));
    let text = configuration(&authority, &url, "");
    let gateway = start(&text);
    let before = authority.client(&[], None);
    let mut kept = connect(&gateway, &before, "one.example");
    kept.write_all(b"GET / HTTP/1.1\r\nhost: one.example\r\n\r\n")
        .unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).unwrap();
    // What becomes of a file later changes nothing.
    let read = settings(&text);
    std::fs::write(authority.path("one.example.pem"), "nothing").unwrap();
    gateway.reload(read).unwrap();
    assert!(ask(&mut connect(&gateway, &before, "one.example"), ASK).is_ok());
    // One by another authority is what new connections see.
    let other = Authority::new("renewed");
    other.issue("one.example");
    for kind in ["pem", "key"] {
        let name = format!("one.example.{kind}");
        std::fs::copy(other.path(&name), authority.path(&name)).unwrap();
    }
    gateway.reload(settings(&text)).unwrap();
    let after = other.client(&[], None);
    assert!(ask(&mut connect(&gateway, &after, "one.example"), ASK).is_ok());
    assert!(ask(&mut connect(&gateway, &before, "one.example"), ASK).is_err());
    // Those that are open go on.
    assert!(ask(&mut kept, ASK).unwrap().ends_with("\r\n\r\nin"));
}
