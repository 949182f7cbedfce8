//! Names to addresses by the system's resolver, with failures that can be told from others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use tower_service::Service;

/// The system resolver said no.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub struct ResolveError;

/// hyper-util's resolver with [`ResolveError`] for its failures.
#[derive(Debug, Clone)]
pub struct Resolver(GaiResolver);

impl Resolver {
    /// The system's resolver.
    #[must_use]
    pub fn system() -> Self {
        Self(GaiResolver::new())
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, ResolveError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        self.0.poll_ready(context).map_err(|_| ResolveError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.0.call(name);
        Box::pin(async move { addresses.await.map_err(|_| ResolveError) })
    }
}
