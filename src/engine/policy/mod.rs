//! Pure decisions about messages: which path, which headers, whether to try again. No I/O here.

pub mod budget;
pub mod cookie;
pub mod headers;
pub mod path;
pub mod redirect;
pub mod request;
pub mod response;
pub mod retry;
