//! A configuration tried without serving anybody: every target is connected to.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::config::settings::Settings;
use super::log::Writer;
use super::plan::{Blueprint, Plan, PlanError};
use crate::engine::balance::member::Member;
use crate::engine::error::{Error, Kind};
use crate::engine::upstream::pool::Freshness;

/// Targets that are connected to at the same time.
const AT_ONCE: usize = 64;

/// How long a target has where its route would wait for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one worker would have.
///
/// # Errors
/// See [`PlanError`].
pub fn prepare(settings: &Settings) -> Result<Arc<Plan>, PlanError> {
    // Nobody asks for anything, so nothing is ever written.
    let writer = Writer::start()?;
    let blueprint = Blueprint::new(settings.clone(), writer.log())?;
    Plan::new(&blueprint, 0, 1, None)
}

/// Connects to every target, with TLS where it has it, and closes again. For each route, in the
/// file's order, why each of its targets cannot be reached; `None` for one that can.
///
/// # Errors
/// See [`PlanError`].
pub fn try_targets(plan: &Plan) -> Result<Vec<Vec<Option<Error>>>, PlanError> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    Ok(runtime.block_on(try_all(plan)))
}

async fn try_all(plan: &Plan) -> Vec<Vec<Option<Error>>> {
    let mut found = Vec::with_capacity(plan.ways.len());
    for way in &plan.ways {
        found.push(vec![None; way.relay.balancer().members().len()]);
    }
    let mut waiting = plan.ways.iter().enumerate().flat_map(|(route, way)| {
        let members: Vec<_> = way.relay.balancer().members().iter().cloned().collect();
        let patience = way.route.timeouts.connect.is_none().then_some(PATIENCE);
        let numbered = members.into_iter().enumerate();
        numbered.map(move |(target, member)| (route, target, member, patience))
    });
    let mut trying = JoinSet::new();
    loop {
        while trying.len() < AT_ONCE
            && let Some((route, target, member, patience)) = waiting.next()
        {
            trying.spawn(async move { (route, target, connect(&member, patience).await) });
        }
        let Some(tried) = trying.join_next().await else {
            return found;
        };
        if let Ok((route, target, outcome)) = tried
            && let Some(place) = found.get_mut(route).and_then(|route| route.get_mut(target))
        {
            *place = outcome.err();
        }
    }
}

/// Without `patience` the pool bounds how long it takes.
async fn connect(member: &Member, patience: Option<Duration>) -> Result<(), Error> {
    let lease = member
        .pool()
        .lease(member.target().origin(), Freshness::New);
    let Some(patience) = patience else {
        return lease.await.map(drop);
    };
    match tokio::time::timeout(patience, lease).await {
        Ok(lease) => lease.map(drop),
        Err(_) => Err(Error::not_sent(
            Kind::ConnectTimeout,
            "not connected in time",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::net::TcpListener;
    use std::path::Path;

    use tokio::time::Instant;

    use super::super::config::{Overrides, from_text};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_has_as_long_as_its_route_gives_it() -> Result<(), Box<dyn Error>> {
        // The system accepts connections to it, and nobody answers their handshakes.
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("https://{}", silent.local_addr()?);
        for (connect, seconds) in [("14", 14), ("null", PATIENCE.as_secs())] {
            let route = format!(
                "{{targets: '{url}', tls: {{verify: false}}, timeout: {{connect: {connect}}}}}"
            );
            let text = format!("routes: [{route}]");
            let unset = |_: &str| Err(std::env::VarError::NotPresent);
            let (folder, none) = (Path::new("/"), Overrides::default());
            let loaded = from_text(&text, "gateway.yaml", folder, &unset, &none)?;
            let plan = prepare(&loaded.settings)?;
            let begun = Instant::now();
            let found = try_all(&plan).await;
            assert_eq!(begun.elapsed().as_secs(), seconds, "connect: {connect}");
            let kinds = found.iter().flatten().flatten().map(|error| error.kind());
            assert_eq!(kinds.collect::<Vec<_>>(), [Kind::ConnectTimeout]);
        }
        Ok(())
    }
}
