//! What a line of a log looks like.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Changed, Entry, Told};
use crate::gateway::config::settings::LogFormat;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A line for a request.
pub(super) fn request(out: &mut Vec<u8>, format: LogFormat, entry: &Entry) {
    // Writing into memory does not fail.
    let _ = match format {
        LogFormat::Combined => combined(out, entry),
        LogFormat::Json => json(out, entry),
    };
}

/// A line for an event: when it was, and what a relay's logger writes, with the request's name.
pub(super) fn event(out: &mut Vec<u8>, at: SystemTime, told: &Told) {
    let Told { event, request_id } = told;
    let time = Civil::from(at);
    let mut line = format!("{time} reverse_proxy.{} url={:?}", event.name, event.url);
    if let Some(attempt) = event.attempt {
        line.push_str(&format!(" attempt={attempt}"));
    }
    if let Some(status) = event.status {
        line.push_str(&format!(" status={status}"));
    }
    if let Some(error) = &event.error {
        line.push_str(&format!(" error={error:?}"));
    }
    let _ = writeln!(out, "{line} request_id={request_id:?}");
}

/// A line for a change of a target's state: when it was, and what a relay's logger writes, with
/// whose it is.
pub(super) fn changed(out: &mut Vec<u8>, at: SystemTime, changed: &Changed) {
    let Changed {
        change,
        route,
        worker,
    } = changed;
    let _ = write!(
        out,
        "{} reverse_proxy.target_changed url={:?} before={:?} after={:?} route={route:?}",
        Civil::from(at),
        change.url,
        change.before.name(),
        change.after.name(),
    );
    let _ = match worker {
        None => writeln!(out),
        Some(worker) => writeln!(out, " worker={worker}"),
    };
}

fn combined(out: &mut Vec<u8>, entry: &Entry) -> std::io::Result<()> {
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => quoted(text, false),
    };
    let time = Civil::from(entry.at);
    let line = match entry.version {
        "" => "-".to_owned(),
        version => format!(
            "{} {} {version}",
            quoted(&entry.method, false),
            quoted(&entry.target, false),
        ),
    };
    let month = MONTHS.get(time.month - 1).unwrap_or(&"");
    writeln!(
        out,
        "{} - - [{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000] \"{line}\" {} {} \"{}\" \"{}\"",
        or_dash(&entry.client),
        time.day,
        time.year,
        time.hour,
        time.minute,
        time.second,
        entry.status,
        entry.sent,
        or_dash(&entry.referer),
        or_dash(&entry.user_agent),
    )
}

fn json(out: &mut Vec<u8>, entry: &Entry) -> std::io::Result<()> {
    write!(out, "{{\"time\":\"{}\"", Civil::from(entry.at))?;
    for (name, text) in [
        ("client", &*entry.client),
        ("method", &entry.method),
        ("host", &entry.host),
        ("target", &entry.target),
        ("protocol", entry.version),
        ("route", &entry.route),
        ("upstream", &entry.upstream),
        ("request_id", &entry.request_id),
        ("referer", &entry.referer),
        ("user_agent", &entry.user_agent),
    ] {
        write!(out, ",\"{name}\":\"{}\"", quoted(text, true))?;
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    write!(
        out,
        ",\"status\":{},\"sent\":{},\"duration_ms\":{:.3}",
        entry.status,
        entry.sent,
        milliseconds(entry.time)
    )?;
    if let Some(first_byte) = entry.first_byte {
        write!(out, ",\"first_byte_ms\":{:.3}", milliseconds(first_byte))?;
    }
    if let Some(side) = entry.cut_short {
        write!(out, ",\"cut_short\":\"{}\"", side.name())?;
    }
    writeln!(out, "}}")
}

/// Text that can stand between quotes: nothing in it ends them, or the line.
fn quoted(text: &str, json: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            c if c.is_control() => {
                let code = u32::from(c);
                out.push_str(&match json {
                    true => format!("\\u{code:04x}"),
                    false => format!("\\x{code:02x}"),
                });
            }
            c => out.push(c),
        }
    }
    out
}

/// A moment in UTC, by the calendar.
struct Civil {
    year: u64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u32,
}

impl From<SystemTime> for Civil {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let mut year = 1970;
        let mut left = days;
        while left >= days_of(year) {
            left -= days_of(year);
            year += 1;
        }
        let february = if days_of(year) == 366 { 29 } else { 28 };
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 1;
        for length in lengths {
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        Self {
            year,
            month,
            day: left + 1,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            millisecond: since.subsec_millis(),
        }
    }
}

/// As in RFC 3339.
impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.millisecond,
        )
    }
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::balance::member::State;
    use crate::engine::balance::outcome::Change;
    use crate::engine::report::Event;

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_709_210_096_007)
    }

    fn entry() -> Entry {
        Entry {
            at: at(),
            client: "192.0.2.1".to_owned(),
            method: "GET".to_owned(),
            target: "/a?token=***".to_owned(),
            version: "HTTP/1.1",
            host: "example.org".to_owned(),
            referer: String::new(),
            user_agent: "a \"b\"\n".to_owned(),
            request_id: "7f".to_owned(),
            route: "/a".to_owned(),
            upstream: "http://127.0.0.1:9000".to_owned(),
            status: 200,
            sent: 5,
            time: Duration::from_micros(1500),
            first_byte: None,
            cut_short: None,
        }
    }

    fn line(format: LogFormat) -> String {
        let mut out = Vec::new();
        request(&mut out, format, &entry());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn combined_is_apaches() {
        assert_eq!(
            line(LogFormat::Combined),
            "192.0.2.1 - - [29/Feb/2024:12:34:56 +0000] \"GET /a?token=*** HTTP/1.1\" 200 5 \"-\" \
             \"a \\\"b\\\"\\x0a\"\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = line(LogFormat::Json);
        assert!(
            line.starts_with("{\"time\":\"2024-02-29T12:34:56.007Z\",\"client\":\"192.0.2.1\"")
        );
        assert!(
            line.contains("\"user_agent\":\"a \\\"b\\\"\\u000a\""),
            "{line}"
        );
        assert!(
            line.ends_with("\"status\":200,\"sent\":5,\"duration_ms\":1.500}\n"),
            "{line}"
        );
    }

    #[test]
    fn events_say_when_they_were() {
        let mut out = Vec::new();
        let happened = Event {
            name: "upstream_timeout",
            url: "http://a:1/".to_owned(),
            attempt: Some(2),
            status: None,
            error: Some("ReadTimeout: no answer in time".to_owned()),
        };
        let told = Told {
            event: happened,
            request_id: "7f".to_owned(),
        };
        event(&mut out, at(), &told);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "2024-02-29T12:34:56.007Z reverse_proxy.upstream_timeout url=\"http://a:1/\" attempt=2 \
             error=\"ReadTimeout: no answer in time\" request_id=\"7f\"\n"
        );
    }

    #[test]
    fn changes_name_the_route_and_the_worker() {
        let mut out = Vec::new();
        let change = Change {
            url: "http://a:1".to_owned(),
            before: State::Healthy,
            after: State::Ejected,
        };
        let mut told = Changed {
            change,
            route: "/a".to_owned(),
            worker: None,
        };
        changed(&mut out, at(), &told);
        told.worker = Some(1);
        changed(&mut out, at(), &told);
        let line = "2024-02-29T12:34:56.007Z reverse_proxy.target_changed url=\"http://a:1\" \
                    before=\"healthy\" after=\"ejected\" route=\"/a\"";
        let lines = format!("{line}\n{line} worker=1\n");
        assert_eq!(String::from_utf8_lossy(&out), lines);
    }
}
