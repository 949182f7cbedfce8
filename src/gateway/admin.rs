//! The admin listener: `/healthz` for load balancers, `/metrics` for Prometheus.

mod render;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as Socket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::bind;
use super::log::Log;
use super::running::Running;
use super::worker::Worker;

/// Requests that are served at once.
const MOST: usize = 64;

/// How long one connection may take for a request's head.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one connection may last: who asks and does not read keeps a place no longer.
const LIFETIME: Duration = Duration::from_secs(60);

/// What is shown.
#[derive(Debug, Clone)]
pub struct Admin {
    /// All workers.
    pub workers: Vec<Arc<Worker>>,
    /// Where lines may have been dropped.
    pub log: Log,
    /// The gateway stops: no new clients should be sent to it.
    pub draining: Arc<AtomicBool>,
}

/// Serves it in a thread of its own, so that it can be asked until the last worker is done.
///
/// # Errors
/// Where the system has no more threads or descriptors.
pub fn start(socket: Socket, admin: Admin, running: &Arc<Running>) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let run = running.attend();
    let thread = std::thread::Builder::new().name("asgi-relay-admin".to_owned());
    thread.spawn(move || {
        runtime.block_on(async {
            let Ok(socket) = TcpListener::from_std(socket) else {
                return;
            };
            tokio::select! {
                () = serve(&socket, admin, LIFETIME) => {}
                () = run.worked() => bind::close(&socket),
            }
        });
    })?;
    Ok(())
}

async fn serve(socket: &TcpListener, admin: Admin, lifetime: Duration) {
    let places = Arc::new(tokio::sync::Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = admin.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            // A client that leaves is nobody's concern.
            let _ = tokio::time::timeout(lifetime, connection).await;
            drop(place);
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => {
                match self.draining.load(Ordering::Relaxed) {
                    true => (
                        StatusCode::SERVICE_UNAVAILABLE,
                        PLAIN,
                        "draining\n".to_owned(),
                    ),
                    false => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
                }
            }
            (&Method::GET | &Method::HEAD, "/metrics") => {
                (StatusCode::OK, PROMETHEUS, render::metrics(self))
            }
            (_, "/healthz" | "/metrics") => {
                let text = "Method Not Allowed\n".to_owned();
                (StatusCode::METHOD_NOT_ALLOWED, PLAIN, text)
            }
            _ => (StatusCode::NOT_FOUND, PLAIN, "Not Found\n".to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
        }
        response
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::super::log::Writer;
    use super::*;

    #[tokio::test]
    async fn who_asks_and_does_not_read_is_let_go() -> io::Result<()> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let writer = Writer::start()?;
        let admin = Admin {
            workers: Vec::new(),
            log: writer.log(),
            draining: Arc::default(),
        };
        tokio::spawn(async move { serve(&socket, admin, Duration::from_millis(200)).await });
        let mut client = TcpStream::connect(address).await?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n";
        let asking = async { while client.write_all(request).await.is_ok() {} };
        timeout(Duration::from_secs(20), asking).await?;
        Ok(())
    }
}
