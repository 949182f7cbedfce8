//! Bodies on their way through the engine: the request's towards hyper, the response's from it.

mod request;
mod response;

pub use request::{RequestBody, Sent, Source};
pub use response::ResponseBody;
