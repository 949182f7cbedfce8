//! One exchange: tries, retries and redirects until there is a response or a final error.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderMap};
use http::{Method, StatusCode};
use tokio::time::{sleep, timeout};
use url::Position;

use super::attempt::{Answer, Destination};
use super::body::{RequestBody, ResponseBody, Source};
use super::error::{Error, Kind};
use super::policy::headers::HeaderList;
use super::policy::redirect::{MAX_REDIRECTS, keeps_credentials, redirect};
use super::policy::request::Framing;
use super::relay::{Relay, Request};
use super::report::{Observer, Provenance};
use super::target::{Target, request_target};
use super::websocket::Switched;
use super::websocket::handshake::Handshake;

/// A response on its way to the client.
#[derive(Debug)]
pub struct Response {
    /// The upstream's.
    pub status: StatusCode,
    /// What the response policy lets through.
    pub headers: HeaderList,
    /// To be read to its end, or dropped.
    pub body: ResponseBody,
    /// What comes behind a 101, which answers nothing but a handshake.
    pub switched: Option<Switched>,
    /// Where it came from, for the log.
    pub origin: Provenance,
}

/// Octets of an answer that is not passed on which are read so that its connection can be kept.
const DISCARD_LIMIT: usize = 16 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_millis(50);

impl Relay {
    /// Sends a request and brings the response head; the body streams behind it.
    ///
    /// # Errors
    /// The last try's failure.
    pub async fn exchange(
        &self,
        mut request: Request,
        observer: &dyn Observer,
    ) -> Result<Response, Error> {
        let mut to = Destination {
            target: self.config.target.clone(),
            path: request.target.clone(),
            web_socket: request.handshake.is_some(),
        };
        let mut retries = 0;
        let mut redirects = 0;
        let mut body = request.body.body();
        loop {
            let Some(this_body) = body.take() else {
                return Err(Error::new(Kind::Abandoned, "the body cannot be sent again"));
            };
            let retry = &self.config.retry;
            match self.attempt(&request, &to, this_body, observer).await {
                Ok(answer) => {
                    let retryable = retry.statuses.contains(&answer.status);
                    if retryable {
                        self.report(
                            observer,
                            "upstream_retryable_status",
                            &to,
                            Some(retries + 1),
                            Ok(answer.status),
                        );
                    }
                    if retryable && retry.retries_status(&request.method, answer.status, retries) {
                        body = request.body.body();
                    }
                    if body.is_some() {
                        Box::pin(discard(answer.body)).await;
                    } else if let Some(next) = self.follow(&request, &to, &answer) {
                        redirects += 1;
                        if redirects > MAX_REDIRECTS {
                            let error =
                                Error::new(Kind::TooManyRedirects, "more than 20 redirects");
                            self.report_error(observer, &to, retries + 1, &error);
                            return Err(error);
                        }
                        Box::pin(discard(answer.body)).await;
                        body = next.body;
                        request.method = next.method;
                        request.headers = next.headers;
                        if !next.keeps_body {
                            if let Source::Streamed(upload) = &request.body {
                                upload.discard();
                            }
                            request.body = Source::Empty;
                            request.framing = Framing::None;
                        }
                        to = next.to;
                        continue;
                    } else {
                        let policy = &self.response_policy;
                        let headers = match &answer.switched {
                            None => policy.headers(answer.status, &answer.headers),
                            Some(_) => {
                                let passes =
                                    request.handshake.as_ref().is_some_and(Handshake::passes);
                                policy.handshake_headers(&answer.headers, passes)
                            }
                        };
                        let headers = headers.inspect_err(|error| {
                            self.report(observer, "upstream_error", &to, None, Err(error));
                        })?;
                        return Ok(Response {
                            status: answer.status,
                            headers,
                            body: answer.body,
                            switched: answer.switched,
                            origin: Provenance {
                                to,
                                attempt: retries + 1,
                            },
                        });
                    }
                }
                Err(error) => {
                    self.report_error(observer, &to, retries + 1, &error);
                    if retry.retries_error(&request.method, &error, retries) {
                        body = request.body.body();
                    }
                    if body.is_none() {
                        return Err(error);
                    }
                }
            }
            retries += 1;
            sleep(self.config.retry.backoff(retries)).await;
        }
    }

    /// The next request, where the answer is a redirect to be followed.
    fn follow(&self, request: &Request, from: &Destination, answer: &Answer) -> Option<Next> {
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
            self.request_policy.strip_credentials(&mut headers);
        }
        if !same_origin {
            headers.insert(HOST, target.authority().clone());
        }
        if !found.keeps_body {
            headers.remove(CONTENT_TYPE);
        }
        Some(Next {
            to: Destination {
                target,
                path,
                web_socket: false,
            },
            method: found.method,
            headers,
            body: Some(body),
            keeps_body: found.keeps_body,
        })
    }
}

/// What a redirect makes of a request.
struct Next {
    to: Destination,
    method: Method,
    headers: HeaderMap,
    body: Option<RequestBody>,
    keeps_body: bool,
}

/// Reads a small answer that nobody will see to its end, so that its connection can be kept.
async fn discard(mut body: ResponseBody) {
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
