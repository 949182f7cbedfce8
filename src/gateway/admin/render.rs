//! All counters as Prometheus reads them, added up over the workers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::Admin;
use crate::engine::balance::member::State;
use crate::gateway::metrics::{BUCKETS, Counter, Histogram, RouteMetrics, TargetMetrics};
use crate::gateway::plan::{Way, label};
use crate::gateway::worker::Worker;

/// All metrics.
pub(super) fn metrics(admin: &Admin) -> String {
    let mut page = Page(String::new());
    connections(&mut page, &admin.workers);
    page.family(
        "asgi_relay_log_lines_dropped_total",
        "counter",
        "Lines that the log had no room for.",
    );
    page.line(
        "asgi_relay_log_lines_dropped_total",
        &[],
        admin.log.dropped(),
    );
    let workers = admin.workers.iter();
    let plans: Vec<_> = workers.map(|worker| Arc::clone(&worker.plan())).collect();
    let ways = plans.iter().flat_map(|plan| &plan.ways);
    let mut routes: BTreeMap<&str, Vec<&Arc<RouteMetrics>>> = BTreeMap::new();
    for way in ways {
        routes
            .entry(&way.metrics.route)
            .or_default()
            .push(&way.metrics);
    }
    by_route(&mut page, &routes);
    by_target(&mut page, &routes);
    let ways: Vec<_> = plans.iter().flat_map(|plan| &plan.ways).collect();
    health(&mut page, &ways);
    page.0
}

/// Whether each target is healthy, as all workers see it; it is what all are that share its name, as
/// those of one server with other paths.
fn health(page: &mut Page, ways: &[&Arc<Way>]) {
    let mut healthy: BTreeMap<(&str, String), bool> = BTreeMap::new();
    for way in ways {
        for member in way.relay.balancer().members().iter() {
            let key = (way.metrics.route.as_str(), label(member.target()));
            *healthy.entry(key).or_insert(true) &= member.state() == State::Healthy;
        }
    }
    let name = "asgi_relay_target_healthy";
    let help = "1 where the target is neither unhealthy nor ejected nor draining.";
    page.family(name, "gauge", help);
    for ((route, target), healthy) in healthy {
        let labels = [("route", route), ("target", &*target)];
        page.line(name, &labels, u8::from(healthy));
    }
}

/// One of a route's numbers.
type OfRoute<T> = fn(&RouteMetrics) -> &T;

/// One of a target's numbers.
type OfTarget<T> = fn(&TargetMetrics) -> &T;

type Routes<'a> = BTreeMap<&'a str, Vec<&'a Arc<RouteMetrics>>>;

fn connections(page: &mut Page, workers: &[Arc<Worker>]) {
    let sum = |of: fn(&Worker) -> &Counter| -> u64 {
        workers.iter().map(|worker| of(worker).get()).sum()
    };
    let accepted = sum(|worker| &worker.connections.accepted);
    let open: usize = workers.iter().map(|worker| worker.open_connections()).sum();
    let name = "asgi_relay_connections_total";
    page.family(name, "counter", "Connections of clients.");
    page.line(name, &[], accepted);
    let name = "asgi_relay_connections";
    page.family(name, "gauge", "Connections of clients that are open.");
    page.line(name, &[], open);
    let parked = workers.iter().map(|worker| worker.parked_connections());
    let name = "asgi_relay_connections_parked";
    let help = "Of these, those that are idle and hold next to nothing.";
    page.family(name, "gauge", help);
    page.line(name, &[], parked.sum::<usize>());
    let name = "asgi_relay_connections_failed_total";
    let help = "Connections that came to nothing: no TLS, no PROXY header.";
    page.family(name, "counter", help);
    page.line(name, &[], sum(|worker| &worker.connections.failed));
    let mut malformed: BTreeMap<String, u64> = BTreeMap::new();
    for worker in workers {
        for listener in worker.connections.listeners().iter() {
            *malformed.entry(listener.address.clone()).or_default() += listener.malformed.get();
        }
    }
    let name = "asgi_relay_malformed_requests_total";
    let help = "Heads in HTTP/1.1 that could not be read, answered with 400 or 431.";
    page.family(name, "counter", help);
    for (listener, count) in malformed {
        page.line(name, &[("listener", &listener)], count);
    }
}

fn by_route(page: &mut Page, routes: &Routes<'_>) {
    let name = "asgi_relay_requests_in_flight";
    page.family(name, "gauge", "Requests that have begun and are not over.");
    for (route, all) in routes {
        let flying = |metrics: &&Arc<RouteMetrics>| {
            // Read first, so that what ends meanwhile does not make it negative.
            let ended = metrics.ended.get();
            metrics.begun.get().saturating_sub(ended)
        };
        let sum: u64 = all.iter().map(flying).sum();
        page.line(name, &[("route", route)], sum);
    }
    let counters: [(&str, &str, OfRoute<Counter>); 5] = [
        ("asgi_relay_retries_total", "Tries after the first.", |of| {
            &of.retries
        }),
        (
            "asgi_relay_ejections_total",
            "Targets that were ejected for how they answered.",
            |of| &of.ejections,
        ),
        (
            "asgi_relay_rate_limited_total",
            "Requests that were refused for coming too often.",
            |of| &of.limited,
        ),
        (
            "asgi_relay_broken_responses_total",
            "Responses that broke off.",
            |of| &of.broken,
        ),
        (
            "asgi_relay_upgrades_total",
            "Connections that became another protocol's, as WebSockets do.",
            |of| &of.upgrades,
        ),
    ];
    for (name, help, of) in counters {
        page.family(name, "counter", help);
        for (route, all) in routes {
            let sum: u64 = all.iter().map(|metrics| of(metrics).get()).sum();
            page.line(name, &[("route", route)], sum);
        }
    }
}

fn by_target(page: &mut Page, routes: &Routes<'_>) {
    let name = "asgi_relay_requests_total";
    page.family(
        name,
        "counter",
        "Responses, by status; no target where none was tried. 499: the client left before.",
    );
    each_target(routes, |route, target, all| {
        let mut statuses: BTreeMap<usize, u64> = BTreeMap::new();
        for (status, count) in all.iter().flat_map(|target| target.statuses()) {
            *statuses.entry(status).or_default() += count;
        }
        for (status, count) in statuses {
            let status = status.to_string();
            let labels = [("route", route), ("target", target), ("status", &*status)];
            page.line(name, &labels, count);
        }
    });
    let octets: [(&str, &str, OfTarget<Counter>); 2] = [
        (
            "asgi_relay_request_bytes_total",
            "Octets of requests' bodies.",
            |of| &of.received,
        ),
        (
            "asgi_relay_response_bytes_total",
            "Octets of responses' bodies.",
            |of| &of.sent,
        ),
    ];
    for (name, help, of) in octets {
        page.family(name, "counter", help);
        each_target(routes, |route, target, all| {
            let sum: u64 = all.iter().map(|target| of(target).get()).sum();
            page.line(name, &[("route", route), ("target", target)], sum);
        });
    }
    let histograms: [(&str, &str, OfTarget<Histogram>); 2] = [
        (
            "asgi_relay_request_duration_seconds",
            "From a request's head to the end of its response.",
            |of| &of.duration,
        ),
        (
            "asgi_relay_time_to_first_byte_seconds",
            "From a request's head to its response's.",
            |of| &of.first_byte,
        ),
    ];
    for (name, help, of) in histograms {
        page.family(name, "histogram", help);
        each_target(routes, |route, target, all| {
            let labels = [("route", route), ("target", target)];
            page.histogram(name, &labels, all.iter().map(|target| of(target)));
        });
    }
}

fn each_target(routes: &Routes<'_>, mut show: impl FnMut(&str, &str, &[&TargetMetrics])) {
    for (route, all) in routes {
        let mut targets: BTreeMap<&str, Vec<&TargetMetrics>> = BTreeMap::new();
        for target in all.iter().flat_map(|metrics| &metrics.targets) {
            targets.entry(&target.target).or_default().push(target);
        }
        for (target, all) in targets {
            show(route, target, &all);
        }
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        labels: &[(&str, &str); 2],
        all: impl Iterator<Item = &'a Histogram>,
    ) {
        let mut below = [0; BUCKETS.len()];
        let (mut count, mut seconds) = (0, 0.0);
        for histogram in all {
            let (cumulative, own, sum) = histogram.read();
            for (total, part) in below.iter_mut().zip(cumulative) {
                *total += part;
            }
            count += own;
            seconds += sum;
        }
        if count == 0 {
            return;
        }
        let [route, target] = *labels;
        for (bound, below) in BUCKETS.iter().zip(below) {
            let bound = bound.to_string();
            self.line(
                &format!("{name}_bucket"),
                &[route, target, ("le", &bound)],
                below,
            );
        }
        self.line(
            &format!("{name}_bucket"),
            &[route, target, ("le", "+Inf")],
            count,
        );
        self.line(&format!("{name}_sum"), labels, seconds);
        self.line(&format!("{name}_count"), labels, count);
    }
}
