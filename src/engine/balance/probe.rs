//! Active health checks: one task per target asks it again and again, over connections of its own
//! that no pool counts.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::member::Member;
use super::set::Balancer;
use super::settings::HealthCheck;
use crate::engine::body::Source;
use crate::engine::error::{Error, Kind};
use crate::engine::policy::path::request_target;
use crate::engine::target::Target;
use crate::engine::upstream::connect::{Connection, Connector, Purpose};
use crate::engine::upstream::failure;
use crate::engine::upstream::sender::{Sender, multiplexed};

/// How checks introduce themselves.
const NAME: HeaderValue = HeaderValue::from_static("asgi-relay-health-check");

impl Balancer {
    /// Begins to check the targets that are to be checked, and to resolve names; on the engine's
    /// thread. Calling it again begins with those that have been added since.
    pub fn begin(self: &Arc<Self>) {
        self.reseed();
        self.gate.begin();
        if let Some(interval) = self.settings.dns_refresh {
            self.begin_refresh(interval);
        }
        self.begin_checks();
    }

    pub(super) fn begin_checks(self: &Arc<Self>) {
        if self.is_closed() {
            return;
        }
        for member in self.members().iter() {
            if let Some(check) = member.health_check() {
                let (balancer, checked) = (Arc::downgrade(self), Arc::downgrade(member));
                let work = keep_checking(balancer, checked, Arc::clone(check));
                member.keep_checks(|| tokio::spawn(work).abort_handle());
            }
        }
        self.look_at_gate();
    }

    /// Checks all targets that are to be checked, once and at the same time.
    pub async fn check_all(self: &Arc<Self>) {
        let members = self.members();
        // Dropped, it ends them.
        let mut checks = JoinSet::new();
        for member in members.iter() {
            if let (Some(check), false) = (member.health_check(), member.awaits_addresses()) {
                let check = Arc::clone(check);
                let (balancer, member) = (Arc::clone(self), Arc::clone(member));
                checks.spawn(async move { balancer.check(&member, &check).await });
            }
        }
        while checks.join_next().await.is_some() {}
    }

    async fn check(&self, member: &Member, check: &HealthCheck) {
        // It is never closed.
        let _turn = self.probes.acquire().await;
        let asked = ask(&self.connector, member.target(), check);
        let outcome = timeout(check.timeout, asked).await;
        let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let outcome = outcome.map_err(|error| format!("health check: {error}"));
        let change = member.checked(check, outcome, self.now());
        self.count_check();
        self.tell(member, change);
        self.look_at_gate();
    }
}

/// Keeps neither the set nor the target alive between two checks.
async fn keep_checking(balancer: Weak<Balancer>, member: Weak<Member>, check: Arc<HealthCheck>) {
    loop {
        let (Some(balancer), Some(member)) = (balancer.upgrade(), member.upgrade()) else {
            return;
        };
        balancer.check(&member, &check).await;
        drop((balancer, member));
        sleep(jittered(check.interval, check.jitter)).await;
    }
}

/// So that many relays do not ask at the same moment for ever.
fn jittered(interval: Duration, jitter: f64) -> Duration {
    let factor = 1.0 + jitter * (fastrand::f64() * 2.0 - 1.0);
    Duration::try_from_secs_f64(interval.as_secs_f64() * factor).unwrap_or(interval)
}

/// Asks once; how long the head of a good answer took.
async fn ask(
    connector: &Connector,
    target: &Target,
    check: &HealthCheck,
) -> Result<Duration, String> {
    let begun = Instant::now();
    let connected = connector.connect(target.origin(), Purpose::Requests).await;
    let connection = Once(connected.map_err(|error| error.to_string())?);
    let status = head(connection, target, check).await;
    match status.map_err(|error| error.to_string())? {
        status if check.expected.contains(&status) => Ok(begun.elapsed()),
        status => Err(format!("status {}", status.as_u16())),
    }
}

/// A connection for one request.
struct Once(Connection);

impl Drop for Once {
    fn drop(&mut self) {
        self.0.task.abort();
    }
}

async fn head(
    mut connection: Once,
    target: &Target,
    check: &HealthCheck,
) -> Result<StatusCode, Error> {
    let malformed = || Error::not_sent(Kind::Protocol, "the check's path is malformed");
    let path = format!("{}{}", target.own_base(), check.path);
    let path = request_target(path.into_bytes()).map_err(|_| malformed())?;
    let mut request = Request::new(Source::Empty.body().ok_or_else(malformed)?);
    *request.method_mut() = check.method.clone();
    *request.uri_mut() = path.into();
    let headers = request.headers_mut();
    headers.insert(HOST, target.authority().clone());
    headers.insert(USER_AGENT, NAME);
    for (name, value) in &check.headers {
        headers.insert(name, value.clone());
    }
    if matches!(connection.0.sender, Sender::Http2(_)) {
        multiplexed(&mut request, target.origin().secure)?;
    }
    let answer = connection.0.sender.send(request).await;
    answer
        .map(|answer| answer.status())
        .map_err(|failed| failure::head(failed.error()))
}
