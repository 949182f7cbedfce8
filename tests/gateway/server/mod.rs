//! The listener, over real sockets: bytes in, bytes out.

mod http1;
mod limits;
mod support;
