//! A client's head as the engine reads it.

use http::header::{HOST, HeaderName, HeaderValue};

use crate::engine::policy::request::{BadRequest, Line};

/// A line of it.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// A line as it came.
    Line(&'a HeaderName, &'a HeaderValue),
    /// The host that is asked for, wherever that stood.
    Host(&'a HeaderValue),
}

impl Line for Said<'_> {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Line(_, value) | Self::Host(value) => value.as_bytes(),
        }
    }

    fn is_named(&self, name: &HeaderName) -> bool {
        match self {
            Self::Line(own, _) => *own == name,
            Self::Host(_) => *name == HOST,
        }
    }

    fn name(&self) -> Result<HeaderName, BadRequest> {
        Ok(match self {
            Self::Line(name, _) => (*name).clone(),
            Self::Host(_) => HOST,
        })
    }

    fn value(&self) -> Result<HeaderValue, BadRequest> {
        let (Self::Line(_, value) | Self::Host(value)) = self;
        Ok((*value).clone())
    }
}
