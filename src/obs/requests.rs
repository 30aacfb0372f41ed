//! Requests by API key, refusals by error code, and where requests were served.

use std::time::Duration;

use super::histogram::nanoseconds;
use super::sample::{Family, Kind, Label, LabelValue, Unit, Walk, family, text};

/// API keys 0 to 127 are counted apart, all others together: a client makes up any key it likes.
const API_KEYS: usize = 128;

/// Error codes -1 to 254 are counted apart, all others together.
const ERROR_CODES: usize = 256;

/// What a core's connections asked for.
#[derive(Debug)]
pub struct Requests {
    received: [u64; API_KEYS + 1],
    answered: [u64; API_KEYS + 1],
    took_ns: [u64; API_KEYS + 1],
    refused: [u64; API_KEYS + 1],
    errors: [u64; ERROR_CODES + 1],
    /// Frames that were no request: the connection was closed.
    pub malformed: u64,
    /// Requests, or parts of them, served on the core of their connection.
    pub local: u64,
    /// Requests, or parts of them, sent to the core that owns the partition.
    pub forwarded: u64,
    /// Requests, or parts of them, served for a connection of another core.
    pub served_for_peers: u64,
}

impl Requests {
    /// Nothing counted yet.
    pub fn new() -> Requests {
        Requests {
            received: [0; API_KEYS + 1],
            answered: [0; API_KEYS + 1],
            took_ns: [0; API_KEYS + 1],
            refused: [0; API_KEYS + 1],
            errors: [0; ERROR_CODES + 1],
            malformed: 0,
            local: 0,
            forwarded: 0,
            served_for_peers: 0,
        }
    }

    /// A request of this API was read whole.
    #[inline]
    pub fn received(&mut self, api_key: i16) {
        self.received[api_slot(api_key)] += 1;
    }

    /// The kernel had the reply, `took` after the request was read whole.
    #[inline]
    pub fn answered(&mut self, api_key: i16, took: Duration) {
        let slot = api_slot(api_key);
        self.answered[slot] += 1;
        self.took_ns[slot] += nanoseconds(took);
    }

    /// A reply of this API carried this error code, once for each place that carried it. Code 0 is
    /// no error and is not counted.
    #[inline]
    pub fn refused(&mut self, api_key: i16, error_code: i16) {
        if error_code != 0 {
            self.refused[api_slot(api_key)] += 1;
            self.errors[error_slot(error_code)] += 1;
        }
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        let by_api = |name, help| family(name, help, Kind::Counter);
        let received = by_api("corelane_requests_total", "Requests read, by API.");
        visit_slots(walk, received, &self.received, api_label);
        let answered = by_api("corelane_replies_total", "Replies sent, by API.");
        visit_slots(walk, answered, &self.answered, api_label);
        let took = by_api(
            "corelane_request_seconds_total",
            "Time from reading a request whole to sending its reply, added up by API.",
        );
        let took = Family {
            unit: Unit::Nanoseconds,
            ..took
        };
        visit_slots(walk, took, &self.took_ns, api_label);
        let refused = by_api(
            "corelane_request_errors_total",
            "Error codes sent in replies, by API.",
        );
        visit_slots(walk, refused, &self.refused, api_label);
        let errors = by_api(
            "corelane_errors_total",
            "Error codes sent in replies, by code.",
        );
        visit_slots(walk, errors, &self.errors, error_label);

        walk.counter(
            "corelane_malformed_requests_total",
            "Frames that were no request and closed their connection.",
            self.malformed,
        );
        let routes = by_api(
            "corelane_routed_requests_total",
            "Requests or parts of them, by where served.",
        );
        walk.number(routes, text("route", "local"), self.local);
        walk.number(routes, text("route", "forwarded"), self.forwarded);
        walk.number(
            routes,
            text("route", "served_for_peer"),
            self.served_for_peers,
        );
    }
}

impl Default for Requests {
    fn default() -> Requests {
        Requests::new()
    }
}

#[inline]
fn api_slot(api_key: i16) -> usize {
    usize::try_from(api_key).map_or(API_KEYS, |key| key.min(API_KEYS))
}

#[inline]
fn error_slot(error_code: i16) -> usize {
    usize::try_from(i32::from(error_code) + 1).map_or(ERROR_CODES, |slot| slot.min(ERROR_CODES))
}

fn api_label(slot: usize) -> Label {
    let value = if slot < API_KEYS {
        LabelValue::Api(slot as i16)
    } else {
        LabelValue::Other
    };
    Label { name: "api", value }
}

fn error_label(slot: usize) -> Label {
    let code = slot as i16 - 1;
    let value = if slot < ERROR_CODES {
        LabelValue::Error(code)
    } else {
        LabelValue::Other
    };
    Label {
        name: "error",
        value,
    }
}

/// Shows the slots that are in use: 128 rows of zeros a core would say nothing.
fn visit_slots(walk: &mut Walk<'_>, family: Family, slots: &[u64], label: fn(usize) -> Label) {
    for (slot, &value) in slots.iter().enumerate().filter(|(_, value)| **value > 0) {
        walk.number(family, Some(label(slot)), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_codes_that_a_client_makes_up_fall_into_one_slot() {
        let mut requests = Requests::new();
        for key in [i16::MIN, -1, 128, i16::MAX] {
            requests.received(key);
            requests.answered(key, Duration::from_nanos(5));
            requests.refused(key, key);
        }
        assert_eq!(requests.received[API_KEYS], 4);
        assert_eq!(requests.took_ns[API_KEYS], 20);
        assert_eq!(requests.errors[ERROR_CODES], 2);
    }

    #[test]
    fn unknown_server_error_and_the_first_codes_are_told_apart() {
        let mut requests = Requests::new();
        for code in [-1, 0, 1, 3] {
            requests.refused(0, code);
        }
        assert_eq!(requests.errors[..5], [1, 0, 1, 0, 1]);
        assert_eq!(requests.refused[0], 3, "code 0 is no error");
        assert_eq!(error_label(0).value, LabelValue::Error(-1));
    }
}
