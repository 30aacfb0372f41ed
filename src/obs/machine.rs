//! The core as a machine: its sockets, its peers, its turns, its memory.

use std::time::Duration;

use super::Histogram;
use super::histogram::nanoseconds;
use super::sample::{Family, Kind, Unit, Walk, family, text};

/// The connections of one core.
#[derive(Debug, Default)]
pub struct Network {
    /// Bytes read from clients.
    pub received_bytes: u64,
    /// Bytes sent to clients.
    pub sent_bytes: u64,
    /// Connections accepted by this core.
    pub accepted: u64,
    /// Connections refused at the door: over a limit.
    pub rejected: u64,
    /// Connections closed by either side.
    pub closed: u64,
    /// Connections taken over from another core.
    pub adopted: u64,
    /// Connections handed over to another core.
    pub handed_over: u64,
}

impl Network {
    /// Connections open on this core now.
    pub fn open(&self) -> u64 {
        (self.accepted + self.adopted).saturating_sub(self.closed + self.handed_over)
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_received_bytes_total",
            "Bytes read from clients.",
            self.received_bytes,
        );
        walk.counter(
            "corelane_sent_bytes_total",
            "Bytes sent to clients.",
            self.sent_bytes,
        );
        walk.gauge("corelane_connections", "Connections open.", self.open());
        walk.counter(
            "corelane_connections_accepted_total",
            "Connections accepted.",
            self.accepted,
        );
        walk.counter(
            "corelane_connections_rejected_total",
            "Connections refused at the door.",
            self.rejected,
        );
        walk.counter(
            "corelane_connections_closed_total",
            "Connections closed.",
            self.closed,
        );
        walk.counter(
            "corelane_connections_adopted_total",
            "Connections taken over from another core.",
            self.adopted,
        );
        walk.counter(
            "corelane_connections_handed_over_total",
            "Connections handed over to another core.",
            self.handed_over,
        );
    }
}

/// Messages between cores.
#[derive(Debug, Default)]
pub struct Mesh {
    there: Histogram,
    back: Histogram,
    moved: Histogram,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Times a peer's queue was full.
    pub full: u64,
    /// Times a parked peer had to be woken.
    pub wakes: u64,
}

impl Mesh {
    /// A request of another core's connection was taken up, `took` after it was sent here.
    #[inline]
    pub fn request_arrived(&mut self, took: Duration) {
        self.there.record(took);
    }

    /// The answer to a request that was sent to another core came back `took` after it was given.
    #[inline]
    pub fn answer_arrived(&mut self, took: Duration) {
        self.back.record(took);
    }

    /// A connection was taken over, `took` after the core that had it had begun the last request
    /// on it: its requests in flight were answered there first.
    #[inline]
    pub fn connection_arrived(&mut self, took: Duration) {
        self.moved.record(took);
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_mesh_sent_total",
            "Messages sent to other cores.",
            self.sent,
        );
        walk.counter(
            "corelane_mesh_received_total",
            "Messages received from other cores.",
            self.received,
        );
        walk.counter(
            "corelane_mesh_full_total",
            "Times a peer's queue was full.",
            self.full,
        );
        walk.counter(
            "corelane_mesh_wakes_total",
            "Times a parked peer had to be woken.",
            self.wakes,
        );
        for (what, histogram) in [
            ("request", &self.there),
            ("answer", &self.back),
            ("connection", &self.moved),
        ] {
            let help = "Time on the way between two cores, by what travelled; \
                        a connection's begins with the last request on its old core.";
            walk.histogram("corelane_mesh_seconds", help, text("what", what), histogram);
        }
    }
}

/// The turns of a core: what it does between two looks at its ring.
#[derive(Debug, Default)]
pub struct Turns {
    took: Histogram,
    parks: u64,
    parked_ns: u64,
    spun_ns: u64,
}

impl Turns {
    /// A turn with work in it took this long.
    #[inline]
    pub fn worked(&mut self, took: Duration) {
        self.took.record(took);
    }

    /// Nothing to do: looked for work this long without sleeping.
    #[inline]
    pub fn spun(&mut self, took: Duration) {
        self.spun_ns += nanoseconds(took);
    }

    /// Nothing to do: went to sleep so many times, and slept so long altogether.
    #[inline]
    pub fn parked(&mut self, times: u64, took: Duration) {
        self.parks += times;
        self.parked_ns += nanoseconds(took);
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        let seconds = |name, help| {
            let counter = family(name, help, Kind::Counter);
            Family {
                unit: Unit::Nanoseconds,
                ..counter
            }
        };
        let help = "Time of a turn with work in it; the sum is the time the core was busy.";
        walk.histogram("corelane_turn_seconds", help, None, &self.took);
        walk.counter(
            "corelane_parks_total",
            "Times the core went to sleep.",
            self.parks,
        );
        let parked = seconds("corelane_parked_seconds_total", "Time asleep.");
        walk.number(parked, None, self.parked_ns);
        let help = "Time spent looking for work without sleeping.";
        walk.number(
            seconds("corelane_spun_seconds_total", help),
            None,
            self.spun_ns,
        );
    }
}

/// The memory planned for what clients send to a core.
#[derive(Debug, Default)]
pub struct Memory {
    /// Bytes of frames in use.
    pub frame_bytes: u64,
    /// Bytes that frames may use together.
    pub frame_budget_bytes: u64,
    /// Frames that had to wait for room: their connections were not read meanwhile.
    pub frame_waits: u64,
}

impl Memory {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.gauge(
            "corelane_frame_memory_bytes",
            "Memory that frames of clients use; small ones are not counted.",
            self.frame_bytes,
        );
        walk.gauge(
            "corelane_frame_memory_budget_bytes",
            "Memory that frames of clients may use together.",
            self.frame_budget_bytes,
        );
        walk.counter(
            "corelane_frame_memory_waits_total",
            "Frames that waited for memory, their connections unread.",
            self.frame_waits,
        );
    }
}
