//! What becomes of one request, for the measurements: noted on its way, told when the kernel has the
//! reply.

use std::cell::Cell;

use crate::base::{CoreId, Mono};
use crate::host::{Answer, Host};
use crate::obs::{FetchStage, Measurements, ProduceStage, Route};
use crate::protocol::ApiKey;

/// One request's way. It stays on the core of its connection.
#[derive(Debug)]
pub struct Account {
    key: Cell<Option<i16>>,
    received: Mono,
    route: Cell<Route>,
    /// When the last core that was asked had answered.
    answered: Cell<Option<Mono>>,
}

impl Account {
    /// Of a frame that was whole at `received`.
    pub(crate) fn new(received: Mono) -> Account {
        Account {
            key: Cell::new(None),
            received,
            route: Cell::new(Route::Local),
            answered: Cell::new(None),
        }
    }

    /// It is a request of this API.
    pub(crate) fn is_of(&self, key: i16) {
        self.key.set(Some(key));
    }

    /// It was read and split, and is about to be sent to `cores`; the connection was handed over to
    /// this core or not. Returns the time, which those cores measure from.
    pub(crate) fn parsed(
        &self,
        host: &Host,
        cores: impl Iterator<Item = CoreId>,
        handed_over: bool,
    ) -> Mono {
        let mut cores = cores;
        let here = host.core();
        self.route.set(if cores.any(|core| core != here) {
            Route::Forwarded
        } else if handed_over {
            Route::HandedOver
        } else {
            Route::Local
        });
        let now = host.now().mono;
        let took = now.since(self.received);
        let mut measurements = host.measurements();
        if self.key.get() == Some(ApiKey::Produce.code()) {
            measurements.produce.passed(ProduceStage::Parse, took);
        } else if self.key.get() == Some(ApiKey::Fetch.code()) {
            measurements.fetch.passed(FetchStage::Parse, took);
        }
        now
    }

    /// The cores that were asked have answered.
    pub(crate) fn answered(&self, answers: &[Answer]) {
        self.answered
            .set(answers.iter().map(|answer| answer.given).max());
    }

    /// The kernel has the reply.
    pub(crate) fn sent(&self, now: Mono, measurements: &mut Measurements) {
        let Some(key) = self.key.get() else { return };
        let took = now.since(self.received);
        measurements.requests.answered(key, took);
        let since_answer = self.answered.get().map(|at| now.since(at));
        let route = self.route.get();
        if key == ApiKey::Produce.code() {
            measurements.produce.sent(route, took, since_answer);
        } else if key == ApiKey::Fetch.code() {
            measurements.fetch.sent(route, took, since_answer);
        }
    }
}
