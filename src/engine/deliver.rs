//! Carries one exchange into its mailbox: head and whatever of the body is there go in one
//! publication, so that a small response costs the event loop one wake.

use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::body::{ResponseBody, Source};
use super::doorbell::Doorbell;
use super::error::{Error, Kind};
use super::exchange::Response;
use super::lines::Lines;
use super::mailbox::{CHUNK_COST, Contents, End, Item, Mailbox};
use super::patience;
use super::policy::request::BadRequest;
use super::relay::{InFlight, Ongoing, Relay, Request};
use super::report::{Note, Observer};

/// Octets from which on a batch waits for no more: large ones may be on their way to a client that
/// does not read, and 1 MiB is all that may be.
const BATCH: usize = 64 * 1024;

/// Status and headers of a response.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers, framing included.
    pub headers: Lines,
    /// What a WebSocket's upstream has chosen.
    pub subprotocol: Option<String>,
    /// The relay's own answer, as there was none from upstream.
    pub own: bool,
}

/// The mailbox of an exchange.
pub type ExchangeMailbox<I = Bytes> = Mailbox<Head, Note, I>;

impl<I: Item + Send + 'static> Observer for ExchangeMailbox<I> {
    fn note(&self, note: Note) {
        self.publish(|contents| contents.notes.push(note));
    }

    fn doorbell(&self) -> Doorbell {
        Mailbox::doorbell(self).clone()
    }
}

impl<I: Item + From<Bytes> + Debug + Send + 'static> Ongoing for ExchangeMailbox<I> {
    fn cut(&self) {
        let error = Error::new(Kind::Shutdown, "the relay was shut down");
        Mailbox::cut(self, |contents, begun| {
            if begun {
                contents.end = Some(End::Failed(error));
            } else {
                fail(contents, &error);
            }
        });
    }
}

/// Runs an exchange to its end, or until its mailbox is aborted. The request is boxed, as a future
/// has room for all that it is given for as long as it lives.
pub async fn deliver(in_flight: InFlight, request: Box<Request>, mailbox: Arc<ExchangeMailbox>) {
    let ending = Ending(Some(&*mailbox));
    let upload = match &request.body {
        Source::Streamed(upload) => Some(Arc::clone(upload)),
        _ => None,
    };
    let mut work = std::pin::pin!(work(in_flight.relay(), request, &mailbox));
    patience::watch(&mailbox);
    poll_fn(|context| match mailbox.poll_aborted(context) {
        true => Poll::Ready(()),
        false => work.as_mut().poll(context),
    })
    .await;
    ending.disarm();
    if let Some(upload) = upload {
        // Nobody will read the rest; whoever waits to write it must not wait for that.
        upload.fail(Error::new(Kind::Abandoned, "the exchange is over"));
    }
}

/// Whoever waits for the mailbox must not wait for ever, whatever ends the task.
pub(super) struct Ending<'a>(pub(super) Option<&'a dyn Ongoing>);

impl Ending<'_> {
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(mailbox) = self.0 {
            mailbox.cut();
        }
    }
}

async fn work(relay: &Relay, request: Box<Request>, mailbox: &ExchangeMailbox) {
    // Boxed: a stream that stays open does not keep what only its beginning needed.
    match Box::pin(relay.exchange(request, mailbox)).await {
        Ok(mut response) => pass_on(relay, &mut response, mailbox).await,
        Err(error) => mailbox.publish(|contents| fail(contents, &error)),
    }
}

/// Carries a response into the mailbox, to its end. Borrowed, as a future keeps what it is given
/// beside what it makes of that.
pub(super) async fn pass_on<I: Item + From<Bytes> + Send + 'static>(
    relay: &Relay,
    response: &mut Response,
    mailbox: &ExchangeMailbox<I>,
) {
    let mut begun = false;
    loop {
        let batch = next_batch(&mut response.answer.body, mailbox, !begun).await;
        match &batch.end {
            Some(End::Failed(error)) => relay.report_interrupted(mailbox, &response.origin, error),
            Some(End::Complete) => response.origin.completed(),
            None => {}
        }
        let ended = batch.end.is_some();
        let head = (!std::mem::replace(&mut begun, true)).then(|| Head {
            status: response.answer.status,
            headers: Lines::from(&std::mem::take(&mut response.answer.headers)),
            subprotocol: None,
            own: false,
        });
        mailbox.publish(|contents| {
            contents.head = head.or(contents.head.take());
            for chunk in batch.chunks {
                contents.push(I::from(compact(chunk)));
            }
            contents.end = batch.end;
        });
        if ended {
            return;
        }
    }
}

/// Octets of a chunk up to which it is copied, so that it keeps no more than it counts for: it is a
/// piece of what hyper has read at once, which is kept as a whole.
const COPIED: usize = 2 * 1024;

fn compact(chunk: Bytes) -> Bytes {
    match chunk.len() {
        ..=COPIED => Bytes::copy_from_slice(&chunk),
        _ => chunk,
    }
}

/// Body octets that go out together.
struct Batch {
    chunks: Vec<Bytes>,
    end: Option<End>,
}

/// Reads what is there, up to a mailbox full. Waits for room, and for the first chunk unless this
/// is the first batch, whose head does not wait.
async fn next_batch<I: Item>(
    body: &mut ResponseBody,
    mailbox: &ExchangeMailbox<I>,
    first: bool,
) -> Batch {
    let mut batch = Batch {
        chunks: Vec::new(),
        end: None,
    };
    let mut size = 0;
    // Before the first one the mailbox is empty.
    let mut room = first;
    let mut held = false;
    poll_fn(|context| {
        if !room {
            room = mailbox.poll_room(context);
            if !room {
                body.hold();
                held = true;
                return Poll::Pending;
            }
            if held {
                body.release();
            }
        }
        while size < BATCH {
            if body.is_ended() {
                batch.end = Some(End::Complete);
                return Poll::Ready(());
            }
            match body.poll_next(context) {
                Poll::Ready(Some(Ok(chunk))) => {
                    size += chunk.len() + CHUNK_COST;
                    batch.chunks.push(chunk);
                }
                Poll::Ready(Some(Err(error))) => batch.end = Some(End::Failed(error)),
                Poll::Ready(None) => batch.end = Some(End::Complete),
                Poll::Pending => break,
            }
            if batch.end.is_some() {
                return Poll::Ready(());
            }
        }
        if size > 0 || first {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    batch
}

/// The one place where an error becomes what the client sees: a response, as none has started.
pub(super) fn fail<I: Item + From<Bytes>>(contents: &mut Contents<Head, Note, I>, error: &Error) {
    if error.kind() == Kind::Abandoned {
        contents.end = Some(End::Failed(error.clone()));
        return;
    }
    let (status, text) = error.response();
    answer(contents, status, text, error.retry_after());
}

/// The answer to a request that cannot be passed on.
pub(super) fn refuse<I: Item + From<Bytes>>(
    contents: &mut Contents<Head, Note, I>,
    bad: &BadRequest,
) {
    answer(contents, StatusCode::BAD_REQUEST, bad.answer(), None);
}

/// A whole response of the relay's own.
fn answer<I: Item + From<Bytes>>(
    contents: &mut Contents<Head, Note, I>,
    status: StatusCode,
    text: String,
    retry_after: Option<u32>,
) {
    let mut headers = HeaderMap::new();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.extend(retry_after.map(|after| (RETRY_AFTER, after.into())));
    contents.head = Some(Head {
        status,
        headers: Lines::from(&headers),
        subprotocol: None,
        own: true,
    });
    contents.push(I::from(Bytes::from(text)));
    contents.end = Some(End::Complete);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<T>(_: impl FnOnce(InFlight, Box<Request>, Arc<ExchangeMailbox>) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn a_small_chunk_keeps_nothing_else() {
        let read = Bytes::from(vec![7; 2 * COPIED]);
        assert!(compact(read.slice(..COPIED)).is_unique());
        assert!(!compact(read.slice(..=COPIED)).is_unique());
    }

    /// Every stream that is open holds one of these, and every request moves one.
    #[test]
    fn an_exchange_is_small() {
        assert!(size(deliver) <= 440, "{}", size(deliver));
    }
}
