//! The listener, over real sockets: bytes in, bytes out.

mod certificates;
mod http1;
mod http2;
mod limits;
mod operating;
mod routing;
mod support;
mod tls;
mod upgrade;
