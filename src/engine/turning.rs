//! Whose turn it is in an exchange: at first, for a retry, and where a redirect leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::attempt::{Answer, Destination};
use super::balance::affinity::Affinity;
use super::balance::member::Member;
use super::balance::turn::Turn;
use super::body::RequestBody;
use super::error::Error;
use super::exchange::{DISCARD_LIMIT, DISCARD_TIME, Next, Response, discard};
use super::relay::{Relay, Request};
use super::report::{Observer, Provenance};

impl Relay {
    pub(super) async fn first_turn(
        &self,
        request: &Request,
        observer: &dyn Observer,
    ) -> Result<Turn, Error> {
        let turn = self.balancer().turn(request.affinity.as_deref(), &[]).await;
        turn.inspect_err(|error| self.report_unavailable(observer, &request.target, error))
    }

    /// The turn of a retry, and where it leads. Where there is none, the error is what the client
    /// gets: the last try's answer or failure, unless it had been let go of.
    pub(super) async fn again(
        &self,
        request: &mut Request,
        mut last: Result<Box<Answer>, Error>,
        mut origin: Provenance,
        tried: &mut Vec<Arc<Member>>,
        redirected: bool,
        observer: &dyn Observer,
    ) -> Result<(Turn, Destination), Result<Response, Error>> {
        if let Ok(answer) = &mut last {
            origin.completed();
            answer.body.gather(DISCARD_LIMIT, DISCARD_TIME).await;
        }
        let backoff = self.config.retry.backoff(origin.attempt);
        if !origin.to.own {
            drop(last);
            sleep(backoff).await;
            return Ok((origin.turn, origin.to));
        }
        // Not in flight while it waits; it may be next again.
        origin.turn.rest();
        // What has not come holds a connection, for which others may wait: only while it may be all
        // that the client can get.
        let at = redirected.then(|| origin.to.target.origin());
        let needless = last.as_ref().is_ok_and(|answer| !answer.body.has_come())
            && self.balancer().is_open(at.map(AsRef::as_ref));
        let last = (!needless).then_some(last);
        let next = if redirected {
            // Nobody else was named.
            sleep(backoff).await;
            self.balancer().turn_at(origin.to.target.origin()).await
        } else {
            tried.push(Arc::clone(origin.turn.member()));
            self.next_turn(request.affinity.as_deref(), tried, backoff)
                .await
        };
        match next {
            Ok(turn) if redirected => {
                origin.to.arrive(&turn);
                Ok((turn, origin.to))
            }
            Ok(turn) => {
                let to = self.destination(&turn, request).map_err(Err)?;
                Ok((turn, to))
            }
            Err(error) => {
                self.report_unavailable(observer, &request.target, &error);
                let answer = last.unwrap_or(Err(error)).map_err(Err)?;
                if !answer.body.has_come() {
                    origin.turn.go_on();
                }
                Err(self.respond(answer, request, origin, observer))
            }
        }
    }

    /// A turn for a retry: at once with a target that has not been tried, else after the backoff.
    async fn next_turn(
        &self,
        affinity: Option<&Affinity>,
        tried: &[Arc<Member>],
        backoff: Duration,
    ) -> Result<Turn, Error> {
        if let Some(turn) = self.balancer().other_turn(affinity, tried) {
            return Ok(turn);
        }
        sleep(backoff).await;
        self.balancer().turn(affinity, tried).await
    }

    /// Where a redirect leads, in the turn of the target there; or still of the one that it came
    /// from, where it leads to its own paths or to no target.
    pub(super) async fn led(
        &self,
        answer: Box<Answer>,
        next: Box<Next>,
        turn: Turn,
        request: &mut Request,
        observer: &dyn Observer,
    ) -> Result<(Turn, Destination, Option<RequestBody>), Error> {
        discard(answer.body).await;
        let (mut to, body) = request.redirected(*next);
        if to.own || !self.balancer().has_target_at(to.target.origin()) {
            return Ok((turn, to, body));
        }
        if let Some(affinity) = &mut request.affinity
            && affinity.home.is_none()
        {
            affinity.home = turn.member().cookie().map(str::to_owned);
        }
        // Two that lead to each other would wait for each other's room.
        drop(turn);
        let turn = self.balancer().turn_at(to.target.origin()).await;
        let turn =
            turn.inspect_err(|error| self.report_unavailable(observer, &request.target, error))?;
        to.arrive(&turn);
        Ok((turn, to, body))
    }
}

impl Destination {
    /// Goes to the target whose turn it is, at the name or the address that was asked for.
    fn arrive(&mut self, turn: &Turn) {
        let target = turn.member().target();
        if target.origin().endpoint == self.target.origin().endpoint {
            self.target = Arc::clone(target);
        }
        self.own = true;
    }
}
