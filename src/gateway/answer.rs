//! What a client gets: an upstream's response as it streams, or a short text of the gateway's own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::account::{Account, Side};
use super::streams::{self, Waits};
use crate::engine::body::ResponseBody;
use crate::engine::error::Error;
use crate::engine::exchange::Response as Relayed;
use crate::engine::report::Provenance;

/// Octets of an answer in HTTP/2 that its client has to take in time.
const PORTION: usize = 16 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    account: Box<Account>,
    /// Octets that are handed out at once.
    portion: usize,
}

#[derive(Debug)]
enum Content {
    Empty,
    Whole(Bytes),
    Upstream(Box<Upstream>),
}

/// A response that is still coming.
#[derive(Debug)]
struct Upstream {
    /// What has come of it already.
    first: Option<Frame<Bytes>>,
    /// The rest.
    body: ResponseBody,
    /// Where it comes from; counted there until it is complete.
    origin: Box<Provenance>,
}

impl Answer {
    fn new(content: Content, account: Box<Account>) -> Self {
        Self {
            content,
            account,
            portion: usize::MAX,
        }
    }

    /// An upstream's body, of which `first` has been read already.
    #[must_use]
    pub fn upstream(
        mut first: Option<Frame<Bytes>>,
        relayed: Relayed,
        account: Box<Account>,
    ) -> Self {
        if relayed.answer.body.is_ended() {
            relayed.origin.completed();
            match first.map(Frame::into_data) {
                None => return Self::new(Content::Empty, account),
                Some(Ok(data)) => return Self::new(Content::Whole(data), account),
                Some(Err(trailers)) => first = Some(trailers),
            }
        }
        let upstream = Upstream {
            first,
            body: relayed.answer.body,
            origin: relayed.origin,
        };
        Self::new(Content::Upstream(Box::new(upstream)), account)
    }

    /// What is kept of the request.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Is handed out little by little, so that it is seen whether its client takes any of it.
    pub fn portion(&mut self) {
        self.portion = PORTION;
    }

    /// A few octets.
    #[must_use]
    pub fn whole(octets: Bytes, account: Box<Account>) -> Self {
        let content = match octets.is_empty() {
            true => Content::Empty,
            false => Content::Whole(octets),
        };
        Self::new(content, account)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let next = match &mut this.content {
            Content::Empty => Poll::Ready(None),
            Content::Whole(octets) => {
                let portion = octets.split_to(this.portion.min(octets.len()));
                if octets.is_empty() {
                    this.content = Content::Empty;
                }
                Poll::Ready(Some(Ok(Frame::data(portion))))
            }
            Content::Upstream(upstream) => {
                let next = match upstream.first.take() {
                    Some(frame) => Poll::Ready(Some(Ok(frame))),
                    None => upstream.body.poll_frame(context),
                };
                match next {
                    Poll::Ready(Some(Ok(mut frame))) => {
                        if let Some(trailers) = frame.trailers_mut()
                            && let Some(way) = this.account.way()
                        {
                            way.relay.clean_trailers(trailers);
                        }
                        let (frame, rest) = portioned(frame, this.portion);
                        upstream.first = rest;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    other => other,
                }
            }
        };
        match &next {
            Poll::Ready(Some(Ok(frame))) => {
                streams::say(Waits::Client);
                this.account.sent(frame.data_ref().map_or(0, Bytes::len));
                if let Content::Upstream(upstream) = &this.content
                    && upstream.body.is_ended()
                {
                    upstream.origin.completed();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                this.account.cut_short(Side::Upstream);
                if let Content::Upstream(upstream) = &this.content {
                    this.account.interrupted(&upstream.origin, error);
                    this.account.connection().presence.watch().break_off();
                }
            }
            Poll::Ready(None) => {}
            Poll::Pending => streams::say(Waits::Upstream),
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(_) => false,
            Content::Upstream(upstream) => upstream.first.is_none() && upstream.body.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(octets) => SizeHint::with_exact(octets.len() as u64),
            Content::Upstream(_) => SizeHint::new(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Content::Upstream(upstream) = &self.content
            && !(upstream.first.is_none() && upstream.body.is_whole())
        {
            self.account.cut_short(Side::Downstream);
        }
    }
}

/// What of a frame goes out now, and what is left of it.
fn portioned(frame: Frame<Bytes>, most: usize) -> (Frame<Bytes>, Option<Frame<Bytes>>) {
    if frame.data_ref().is_none_or(|data| data.len() <= most) {
        return (frame, None);
    }
    match frame.into_data() {
        Ok(mut data) => {
            let rest = data.split_off(most);
            (Frame::data(data), Some(Frame::data(rest)))
        }
        Err(frame) => (frame, None),
    }
}

/// An answer of the gateway's own: plain text, and perhaps one header more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub text: String,
    /// What goes with it.
    pub header: Option<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// Nothing but a text.
    #[must_use]
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            header: None,
        }
    }

    /// 400, with the reason.
    #[must_use]
    pub fn bad_request(reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Bad request: {reason}"))
    }

    /// 404.
    #[must_use]
    pub fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    /// 405, with what is allowed.
    #[must_use]
    pub fn not_allowed(allowed: &[http::Method]) -> Self {
        let names: Vec<_> = allowed.iter().map(http::Method::as_str).collect();
        let value = HeaderValue::from_str(&names.join(", "));
        Self {
            header: value.ok().map(|value| (ALLOW, value)),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        }
    }

    /// 308 to `location`.
    #[must_use]
    pub fn redirect(location: HeaderValue) -> Self {
        Self {
            header: Some((LOCATION, location)),
            ..Self::new(StatusCode::PERMANENT_REDIRECT, "Permanent Redirect")
        }
    }

    /// 429, with the seconds until there is a token.
    #[must_use]
    pub fn too_many(seconds: u64) -> Self {
        Self {
            header: Some((RETRY_AFTER, HeaderValue::from(seconds))),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
        }
    }

    /// What the engine's error says.
    #[must_use]
    pub fn failure(error: &Error) -> Self {
        let (status, text) = error.response();
        let after = error.retry_after().map(HeaderValue::from);
        Self {
            header: after.map(|after| (RETRY_AFTER, after)),
            ..Self::new(status, text)
        }
    }

    /// As the gateway's own answer.
    #[must_use]
    pub fn refusal(self, mut account: Box<Account>) -> Response<Answer> {
        account.answered(self.status, 0, 0);
        self.response(account)
    }

    /// As a response.
    #[must_use]
    pub fn response(self, account: Box<Account>) -> Response<Answer> {
        let length = self.text.len();
        let mut response = Response::new(Answer::whole(self.text.into(), account));
        *response.status_mut() = self.status;
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}
