//! The listener, over real sockets: bytes in, bytes out.

mod certificates;
mod doubtful;
mod heads;
mod http1;
mod http2;
mod http2_fields;
mod http2_frames;
mod late;
mod limits;
mod logging;
mod operating;
mod parking;
mod reloading;
mod routing;
mod stopping;
mod support;
mod tls;
mod upgrade;
mod watching;
mod web_sockets;
