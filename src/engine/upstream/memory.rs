//! An upstream in this process: a [`Call`] goes out through the observer, whoever serves it
//! answers, and the exchange around it (policies, retries, timeouts) is the same as over a socket.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::engine::attempt::Answer;
use crate::engine::body::{RequestBody, ResponseBody};
use crate::engine::config::Timeouts;
use crate::engine::error::{Error, Kind};
use crate::engine::mailbox::{End, Mailbox};
use crate::engine::report::{Note, Observer};
use crate::engine::upload::{Reader, Upload};
use crate::engine::websocket::handshake::Handshake;
use crate::engine::websocket::memory::{Link, MemoryPeer};
use crate::engine::websocket::{Stream, Switched};

type Head = (StatusCode, HeaderMap, Reader);

/// A request to an upstream in this process.
#[derive(Debug)]
pub struct Call {
    /// Method, target and headers.
    pub head: Parts,
    /// The absolute URL.
    pub url: Url,
    /// The request's body; aborted contents mean that nobody waits for an answer any more.
    pub body: Arc<Mailbox<()>>,
    /// Where the response's body goes.
    pub response: Arc<Upload>,
    /// Where the messages go, where the call is a WebSocket's handshake.
    pub link: Option<Link>,
    reply: Mutex<Option<oneshot::Sender<Result<Head, Error>>>>,
}

impl Call {
    /// Asks `observer` to have the request served and waits for the response head, at most
    /// `timeouts.read` once the request's body has been handed over.
    ///
    /// # Errors
    /// What the call failed with, or [`Kind::ReadTimeout`].
    pub(in crate::engine) async fn start(
        message: Request<RequestBody>,
        url: Url,
        handshake: Option<&Handshake>,
        observer: &dyn Observer,
        timeouts: Timeouts,
    ) -> Result<Box<Answer>, Error> {
        let (head, body) = message.into_parts();
        let sent = body.progress();
        let (reply, answer) = oneshot::channel();
        let call = Arc::new(Self {
            head,
            url,
            body: Mailbox::new(observer.doorbell()),
            response: Upload::once(observer.doorbell()),
            link: handshake.map(|_| Link::new(observer.doorbell())),
            reply: Mutex::new(Some(reply)),
        });
        let guard = Guard(Arc::clone(&call.body));
        let patience = timeouts.read;
        let link = call.link.clone();
        tokio::spawn(deliver(body, Arc::clone(&call), timeouts.write));
        observer.note(Note::Call(call));
        let answer = async { answer.await.unwrap_or_else(|_| Err(unanswered())) };
        let mut answer = std::pin::pin!(answer);
        let early = match &sent {
            None => None,
            Some(sent) => tokio::select! {
                biased;
                result = &mut answer => Some(result),
                () = sent.done() => None,
            },
        };
        let (status, headers, reader) = match (early, patience) {
            (Some(result), _) => result?,
            (None, None) => answer.await?,
            (None, Some(patience)) => timeout(patience, answer)
                .await
                .map_err(|_| Error::new(Kind::ReadTimeout, "no answer in time"))??,
        };
        let (body, switched) = match (handshake, link) {
            (Some(handshake), Some(link)) if status == StatusCode::SWITCHING_PROTOCOLS => {
                let switched = Switched {
                    subprotocol: handshake.subprotocol(&headers)?,
                    stream: Stream::Memory(MemoryPeer::new(link, guard)),
                };
                (ResponseBody::ended(), Some(switched))
            }
            _ => (ResponseBody::memory(reader, guard, patience), None),
        };
        Ok(Box::new(Answer {
            arrived: Instant::now(),
            status,
            headers,
            body,
            switched,
        }))
    }

    /// Answers with a head; the body follows through [`Call::response`].
    pub fn respond(&self, status: StatusCode, headers: HeaderMap) {
        let Some(reply) = self.take_reply() else {
            return;
        };
        if let Some(reader) = self.response.reader() {
            // Nobody waits any more: the client left, or time ran out.
            let _ = reply.send(Ok((status, headers, reader)));
        }
    }

    /// Whether whoever serves the call has answered to the end; a call that failed has not.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.response.is_complete()
    }

    /// Answers with a failure, or breaks the body off where the head has gone.
    pub fn fail(&self, error: Error) {
        if self.response.has_ended() {
            return;
        }
        if let Some(reply) = self.take_reply() {
            let _ = reply.send(Err(error.clone()));
        }
        self.response.break_off(error);
    }

    fn take_reply(&self) -> Option<oneshot::Sender<Result<Head, Error>>> {
        self.reply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

fn unanswered() -> Error {
    Error::new(Kind::Protocol, "the application ended without a response")
}

/// Tells whoever serves a call when nobody waits for its answer any more, or all of it has come.
#[derive(Debug)]
pub struct Guard(Arc<Mailbox<()>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.publish(|contents| contents.aborted = true);
    }
}

/// Hands a request's body over, with backpressure; `patience` bounds the wait for room.
async fn deliver(mut body: RequestBody, call: Arc<Call>, patience: Option<Duration>) {
    let mailbox = &call.body;
    loop {
        let room = poll_fn(|context| match mailbox.poll_aborted(context) {
            true => Poll::Ready(false),
            false if mailbox.poll_room(context) => Poll::Ready(true),
            false => Poll::Pending,
        });
        let room = match patience {
            None => Ok(room.await),
            Some(patience) => timeout(patience, room).await,
        };
        match room {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                let detail = "the application stopped taking the request";
                return call.fail(Error::new(Kind::WriteTimeout, detail));
            }
        }
        let next = poll_fn(|context| match mailbox.poll_aborted(context) {
            true => Poll::Ready(None),
            false => Pin::new(&mut body).poll_frame(context),
        });
        match next.await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    mailbox.publish(|contents| contents.push(data));
                }
            }
            Some(Err(error)) => {
                return mailbox.publish(|contents| contents.end = Some(End::Failed(error)));
            }
            None => return mailbox.publish(|contents| contents.end = Some(End::Complete)),
        }
    }
}
