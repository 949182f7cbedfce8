//! Credentials towards targets: routes that name the same files share what is read of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::upstream::tls::{Authorities, Credentials, Identity, Trust};

/// Those of one configuration.
#[derive(Debug, Default)]
pub(super) struct Vault {
    authorities: HashMap<Trust, Arc<Authorities>>,
    credentials: HashMap<(Trust, Option<Identity>), Arc<Credentials>>,
}

impl Vault {
    /// The credentials of all who trust these and show this.
    pub(super) fn credentials(
        &mut self,
        trust: Trust,
        identity: Option<Identity>,
    ) -> Arc<Credentials> {
        let authorities = self.authorities.entry(trust.clone());
        let authorities = authorities.or_insert_with_key(|trust| Authorities::new(trust.clone()));
        let credentials = self.credentials.entry((trust, identity));
        let credentials = credentials.or_insert_with_key(|(_, identity)| {
            Credentials::sharing(Arc::clone(authorities), identity.clone())
        });
        Arc::clone(credentials)
    }
}
