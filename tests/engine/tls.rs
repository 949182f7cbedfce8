//! TLS to an upstream: whom the engine believes, and how it says why not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use asgi_relay::engine::config::Config;
use asgi_relay::engine::error::Kind;
use asgi_relay::engine::relay::Relay;
use asgi_relay::engine::upstream::tls::{Credentials, Identity, Part, Trust};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{config, fetch, ok, relay, request};

/// A folder of its own for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("asgi-relay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Speaks TLS as `name`; and its certificate in PEM.
pub(crate) fn acceptor(name: &str) -> (TlsAcceptor, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(server)), cert.pem())
}

/// Serves one request over TLS as `name`; the URL, and the certificate in PEM.
async fn serve(name: &str) -> (String, String) {
    let (acceptor, certificate) = acceptor(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not believe us says so; the test asserts its side of it.
        let Ok(mut stream) = acceptor.accept(stream).await else {
            return;
        };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(ok("secret").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    });
    (url, certificate)
}

fn trusting(url: &str, trust: Trust) -> Config {
    Config {
        credentials: Credentials::new(trust, None),
        ..config(url)
    }
}

async fn get(config: Config) -> Result<(u16, Vec<u8>), Kind> {
    let relay = relay(config);
    fetch(&relay, request(&relay, "GET", "/")).await
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_believed() {
    let (url, pem) = serve("127.0.0.1").await;
    let folder = Folder::new("trusted");
    let file = folder.write("authority.pem", &pem);
    assert_eq!(
        get(trusting(&url, Trust::File(file))).await,
        Ok((200, b"secret".to_vec()))
    );
}

#[tokio::test]
async fn the_authorities_may_be_a_folder() {
    let (url, pem) = serve("127.0.0.1").await;
    let folder = Folder::new("folder");
    folder.write("authority.pem", &pem);
    folder.write("README", "no certificate");
    let trust = Trust::File(folder.0.clone());
    assert_eq!(
        get(trusting(&url, trust)).await,
        Ok((200, b"secret".to_vec()))
    );
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_believed() {
    let (url, pem) = serve("elsewhere.test").await;
    let folder = Folder::new("other-host");
    let file = folder.write("authority.pem", &pem);
    assert_eq!(get(trusting(&url, Trust::File(file))).await, Err(Kind::Tls));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_believed() {
    let (url, _) = serve("127.0.0.1").await;
    let (_, other) = serve("127.0.0.1").await;
    let folder = Folder::new("unknown");
    let file = folder.write("authority.pem", &other);
    assert_eq!(get(trusting(&url, Trust::File(file))).await, Err(Kind::Tls));
}

#[tokio::test]
async fn anyone_is_believed_on_demand() {
    let (url, _) = serve("elsewhere.test").await;
    assert_eq!(
        get(trusting(&url, Trust::Anyone)).await,
        Ok((200, b"secret".to_vec()))
    );
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_is_a_tls_error() {
    let plain = crate::support::Upstream::bind().await;
    let url = plain.url().replace("http:", "https:");
    let (answer, ()) = tokio::join!(get(trusting(&url, Trust::Anyone)), async {
        plain
            .accept()
            .await
            .say("HTTP/1.1 400 Bad Request\r\n\r\n")
            .await;
    });
    assert_eq!(answer, Err(Kind::Tls));
}

#[tokio::test]
async fn what_becomes_of_a_file_later_changes_no_connection() {
    let (url, certificate) = serve("127.0.0.1").await;
    let folder = Folder::new("later");
    let file = folder.write("authority.pem", &certificate);
    let credentials = Credentials::new(Trust::File(file.clone()), None);
    credentials.read().unwrap();
    std::fs::remove_file(file).unwrap();
    // Whatever is offered in ALPN: for a request, and for a WebSocket's handshake.
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        assert_eq!(
            credentials.client(protocols).unwrap().alpn_protocols.len(),
            protocols.len()
        );
    }
    assert!(credentials.afresh().read().is_err());
    let own = Config {
        credentials,
        ..config(&url)
    };
    assert_eq!(get(own).await, Ok((200, b"secret".to_vec())));
}

#[test]
fn files_that_cannot_be_used_are_found_before_any_request() {
    let folder = Folder::new("files");
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["h".to_owned()]).unwrap();
    let other = generate_simple_self_signed(["h".to_owned()]).unwrap();
    let (pem, key) = (cert.pem(), signing_key.serialize_pem());
    let write = |name: &str, text: &str| folder.write(name, text);
    let good = write("good.pem", &pem);
    let bad_base64 = pem.replacen("\nM", "\n!", 1);
    let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let der = folder.0.join("der");
    std::fs::write(&der, cert.der()).unwrap();
    let nothing = folder.0.join("folder");
    std::fs::create_dir(&nothing).unwrap();
    for (file, reason) in [
        (write("empty", ""), "it is empty"),
        (write("text", "x"), "it holds no certificate in PEM"),
        (der.clone(), "it is in DER, not in PEM"),
        (
            write("cut", pem.split_once("-----END").unwrap().0),
            "it is cut off: an -----END line is missing",
        ),
        (
            write("letters", &bad_base64),
            "what stands below a -----BEGIN line in it is not base64",
        ),
        (
            write("begin", &pem.replace("CERTIFICATE-----", "CERTIFICATE")),
            "a -----BEGIN line in it is malformed",
        ),
        (
            write("malformed", malformed),
            "its certificate is malformed",
        ),
        (nothing, "no file in it holds a usable certificate in PEM"),
        (
            folder.0.join("missing"),
            "No such file or directory (os error 2)",
        ),
    ] {
        refused(
            Trust::File(file.clone()),
            None,
            Part::Authorities,
            &file,
            reason,
        );
    }
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = key.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE").replacen(
        '\n',
        "\nProc-Type: 4,ENCRYPTED\n\n",
        1,
    );
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (key, reason) in [
        (write("none", &pem), "it holds no private key in PEM"),
        (write("new", encrypted), "its private key is encrypted"),
        (write("old", &old), "its private key is encrypted"),
        (
            write("nonsense", nonsense),
            "its private key is malformed, or not RSA, ECDSA or Ed25519",
        ),
        (
            write("other", &other.signing_key.serialize_pem()),
            "its private key is not the certificate's",
        ),
        (folder.0.clone(), "it is a folder"),
    ] {
        let certificate = good.clone();
        let identity = Identity { certificate, key };
        let file = identity.key.clone();
        refused(Trust::Anyone, Some(identity), Part::Key, &file, reason);
    }
    let identity = Identity {
        certificate: der.clone(),
        key: write("key", &key),
    };
    let reason = "it is in DER, not in PEM";
    refused(
        Trust::Anyone,
        Some(identity),
        Part::Certificate,
        &der,
        reason,
    );
}

fn refused(trust: Trust, identity: Option<Identity>, part: Part, file: &Path, reason: &str) {
    let config = Config {
        credentials: Credentials::new(trust, identity),
        ..config("https://h")
    };
    let error = Relay::new(config).unwrap_err();
    assert_eq!((error.part, error.path.as_deref()), (part, Some(file)));
    let parameter = if part == Part::Authorities {
        "verify"
    } else {
        "cert"
    };
    let told = format!("{parameter}: {}: {reason}", file.display());
    assert_eq!(error.to_string(), told);
}
