use http::Method;
use http::header::{HOST, HeaderValue};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::duplex;

use super::*;
use crate::engine::body::Source;
use crate::engine::error::Reach;
use crate::engine::io::round::{Round, Rounds};
use crate::engine::policy::request::Framing;
use crate::engine::upstream::sender::Sender;
use crate::engine::upstream::socket::tests::connected;

#[tokio::test]
async fn headers_that_were_not_sent_come_back() -> Result<(), Box<dyn std::error::Error>> {
    let target = Arc::new(Target::parse("http://localhost", "/")?);
    let host = HeaderValue::from_static("localhost");
    let mut request = Request {
        method: Method::POST,
        target: PathAndQuery::from_static("/"),
        headers: HeaderMap::from_iter([(HOST, host.clone())]),
        body: Source::Empty,
        framing: Framing::None,
        handshake: None,
        own_host: true,
        at_mount: false,
        affinity: None,
        given: Vec::new(),
        came: None,
    };
    let to = Destination {
        target,
        path: PathAndQuery::from_static("/"),
        web_socket: false,
        own: true,
    };
    let (near, _far) = duplex(64);
    let (sender, connection) = http1::handshake(TokioIo::new(near)).await?;
    drop(connection);

    let body = request.body.body().ok_or("no body")?;
    let message = message(&mut request, &to, body, false);
    assert!(request.headers.is_empty());
    let result = Sender::Http1(sender).send(message).await;
    let outcome = arrived(None, &mut request.headers, result).map(drop);

    assert_eq!(outcome.map_err(|error| error.reach()), Err(Reach::NotSent));
    assert_eq!(request.headers.get(HOST), Some(&host));
    Ok(())
}

/// Another try is no repetition, whatever the method.
#[tokio::test]
async fn a_request_of_which_nothing_went_was_not_sent() -> Result<(), Box<dyn std::error::Error>> {
    for (deferred, reach) in [(true, Reach::NotSent), (false, Reach::MaybeSent)] {
        let rounds = deferred.then(|| Rounds::begin(Round::new()));
        let (io, far) = connected().await?;
        let socket = Arc::clone(io.socket());
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        let mut connection = Box::pin(connection);
        socket.bound_head(HEAD_LIMIT);
        let sending =
            Sender::Http1(sender).send(HttpRequest::new(Source::Empty.body().ok_or("no body")?));
        poll_fn(|context| {
            assert!(connection.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(far);
        let (result, _) = tokio::join!(sending, connection);
        let outcome = arrived(Some(&socket), &mut HeaderMap::new(), result).map(drop);
        assert_eq!(outcome.map_err(|error| error.reach()), Err(reach));
        drop(rounds);
    }
    Ok(())
}
