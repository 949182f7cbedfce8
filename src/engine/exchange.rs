//! One exchange: tries, retries and redirects until there is a response or a final error.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use tokio::time::timeout;
use url::Position;

use super::attempt::{Answer, Destination};
use super::balance::turn::Turn;
use super::body::{RequestBody, ResponseBody, Source};
use super::error::{Error, Kind};
use super::policy::path::request_target;
use super::policy::redirect::{MAX_REDIRECTS, keeps_credentials, redirect};
use super::policy::request::Framing;
use super::relay::{Relay, Request};
use super::report::{Observer, Provenance};
use super::target::Target;
use super::websocket::handshake::Handshake;

/// A response on its way to the client.
#[derive(Debug)]
pub struct Response {
    /// What it is.
    pub answer: Box<Answer>,
    /// Where it came from, for the log.
    pub origin: Box<Provenance>,
}

/// Octets of an answer that may not be passed on which are read so that its connection can be kept.
pub(super) const DISCARD_LIMIT: usize = 16 * 1024;
/// How long that may take.
pub(super) const DISCARD_TIME: Duration = Duration::from_millis(50);

impl Relay {
    /// Sends a request and brings the response head; the body streams behind it.
    ///
    /// # Errors
    /// The last try's failure.
    pub async fn exchange(
        &self,
        mut request: Box<Request>,
        observer: &dyn Observer,
    ) -> Result<Response, Error> {
        self.deposit();
        request.frame();
        let mut turn = match self
            .balancer()
            .turn_at_once(request.affinity.as_deref(), request.came)
        {
            Some(turn) => turn,
            // Boxed: each exchange would have room for it.
            None => Box::pin(self.first_turn(&request, observer)).await?,
        };
        let mut to = self.destination(&turn, &mut request)?;
        let mut tried = Vec::new();
        let mut retries = 0;
        let mut redirects = 0;
        let mut body = request.body.body();
        loop {
            let Some(this_body) = body.take() else {
                return Err(Error::new(Kind::Abandoned, "the body cannot be sent again"));
            };
            let retry = &self.config.retry;
            let pool = turn.member().pool();
            let outcome = self.attempt(&mut request, &to, pool, this_body, observer);
            let last = match outcome.await {
                Err(error) => Err(error),
                Ok(mut answer) => {
                    answer.body.read_ahead().await;
                    let status = answer.status;
                    if to.own {
                        let waited = redirects > 0 || request.body.is_arriving();
                        turn.answered(status, answer.arrived.into_std(), waited);
                    }
                    if retry.statuses.contains(&status) {
                        let attempt = Some(retries + 1);
                        let name = "upstream_retryable_status";
                        self.report(observer, name, &to, attempt, Ok(status));
                    }
                    if retry.retries_status(&request.method, status, retries)
                        && self.affords_retry()
                    {
                        body = request.body.body();
                    }
                    if body.is_some() {
                        Ok(answer)
                    } else if let Some(next) = self.follow(&request, &to, &answer) {
                        redirects += 1;
                        if redirects > MAX_REDIRECTS {
                            let error =
                                Error::new(Kind::TooManyRedirects, "more than 20 redirects");
                            self.report_error(observer, &to, retries + 1, &error);
                            return Err(error);
                        }
                        turn.completed();
                        let led = self.led(answer, next, turn, &mut request, observer);
                        (turn, to, body) = Box::pin(led).await?;
                        continue;
                    } else if let Some(error) = answer.body.failed_ahead() {
                        Err(error)
                    } else {
                        let origin = Provenance {
                            to,
                            attempt: retries + 1,
                            turn,
                        };
                        return self.respond(answer, &request, origin, observer);
                    }
                }
            };
            if let Err(error) = &last {
                if to.own {
                    turn.failed(error);
                }
                self.report_error(observer, &to, retries + 1, error);
                if retry.retries_error(&request.method, error, retries) && self.affords_retry() {
                    body = request.body.body();
                }
                if body.is_none() {
                    return Err(error.clone());
                }
            }
            retries += 1;
            let origin = Provenance {
                to,
                attempt: retries,
                turn,
            };
            let redirected = redirects > 0;
            let again = self.again(&mut request, last, origin, &mut tried, redirected, observer);
            match Box::pin(again).await {
                Ok(next) => (turn, to) = next,
                Err(last) => return last,
            }
        }
    }

    /// Where a request goes at this turn; its Host is set to match.
    ///
    /// # Errors
    /// [`Kind::Protocol`] where its target is longer there than a request's may be.
    pub(super) fn destination(
        &self,
        turn: &Turn,
        request: &mut Request,
    ) -> Result<Destination, Error> {
        let (prepared_for, target) = (&self.config.target, turn.member().target());
        if request.own_host && !comes_first(&request.headers, target.authority()) {
            let authority = target.authority().clone();
            request.headers.insert(HOST, authority);
        }
        let path = target.rebased(&request.target, prepared_for, request.at_mount);
        let path = path.map_err(|bad| Error::not_sent(Kind::Protocol, bad.to_string()))?;
        Ok(Destination {
            target: Arc::clone(target),
            path,
            web_socket: request.handshake.is_some(),
            own: true,
        })
    }

    /// The response that the client gets for an answer.
    pub(super) fn respond(
        &self,
        mut answer: Box<Answer>,
        request: &Request,
        origin: Provenance,
        observer: &dyn Observer,
    ) -> Result<Response, Error> {
        let policy = &self.response_policy;
        let filtered = match &answer.switched {
            None => policy.filter(answer.status, &mut answer.headers),
            Some(_) => {
                let passes = request.handshake.as_ref().is_some_and(Handshake::passes);
                policy.filter_handshake(&mut answer.headers, passes)
            }
        };
        filtered.inspect_err(|error| {
            self.report(observer, "upstream_error", &origin.to, None, Err(error));
        })?;
        if let Some(sticky) = &self.config.balancing.sticky
            && let Some(affinity) = &request.affinity
            && let Some(value) = affinity.home.as_deref().or(origin.turn.member().cookie())
            && !affinity.cookies.iter().any(|cookie| cookie == value)
            && let Some(line) = sticky.line(value, affinity.secure)
        {
            answer.headers.append(SET_COOKIE, line);
        }
        Ok(Response {
            answer,
            origin: Box::new(origin),
        })
    }

    /// The next request, where the answer is a redirect to be followed.
    fn follow(&self, request: &Request, from: &Destination, answer: &Answer) -> Option<Box<Next>> {
        if !self.config.follow_redirects || request.handshake.is_some() {
            return None;
        }
        let current = from.target.url(&from.path);
        let found = redirect(&request.method, &current, answer.status, &answer.headers)?;
        let same_origin = current.origin() == found.url.origin();
        let target = if same_origin {
            from.target.clone()
        } else {
            Arc::new(Target::from_url(&found.url).ok()?)
        };
        let path = &found.url[Position::BeforePath..Position::AfterQuery];
        let path = request_target(path.as_bytes().to_vec()).ok()?;
        let body = if found.keeps_body {
            request.body.body()?
        } else {
            Source::Empty.body()?
        };
        let mut headers = request.headers.clone();
        if !keeps_credentials(&current, &found.url) {
            let policy = &self.request_policy;
            policy.strip_credentials(&mut headers, &request.given);
        }
        if !same_origin {
            headers.insert(HOST, target.authority().clone());
        }
        if !found.keeps_body {
            for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING] {
                headers.remove(name);
            }
        }
        Some(Box::new(Next {
            to: Destination {
                target,
                path,
                web_socket: false,
                own: same_origin && from.own,
            },
            method: found.method,
            headers,
            body: Some(body),
            keeps_body: found.keeps_body,
        }))
    }
}

impl Request {
    /// Puts in the header that tells how the body is framed, which is known by now.
    fn frame(&mut self) {
        let (name, value) = match self.framing {
            Framing::None => return,
            Framing::Length(length) => (CONTENT_LENGTH, HeaderValue::from(length)),
            Framing::Chunked => (TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        };
        self.headers.insert(name, value);
    }

    /// Becomes the request that a redirect makes of it; where it goes, and its body.
    pub(super) fn redirected(&mut self, next: Next) -> (Destination, Option<RequestBody>) {
        self.method = next.method;
        self.headers = next.headers;
        if !next.keeps_body {
            if let Source::Streamed(upload) = &self.body {
                upload.discard();
            }
            self.body = Source::Empty;
        }
        (next.to, next.body)
    }
}

/// Whether the Host is this one, at its usual place: a look at the first line is all that takes.
fn comes_first(headers: &HeaderMap, host: &HeaderValue) -> bool {
    headers.iter().next() == Some((&HOST, host))
}

/// What a redirect makes of a request.
pub(super) struct Next {
    to: Destination,
    method: Method,
    headers: HeaderMap,
    body: Option<RequestBody>,
    keeps_body: bool,
}

/// Reads a small answer that nobody will see to its end, so that its connection can be kept.
pub(super) async fn discard(mut body: ResponseBody) {
    let mut size = 0;
    let reading = async {
        while size <= DISCARD_LIMIT {
            match std::future::poll_fn(|context| body.poll_next(context)).await {
                Some(Ok(chunk)) => size += chunk.len(),
                _ => return,
            }
        }
    };
    let _ = timeout(DISCARD_TIME, reading).await;
}
