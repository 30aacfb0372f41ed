//! Time is a value: `rt` reads the clocks, everyone below is told.

use std::time::Duration;

/// Monotonic time in nanoseconds since an arbitrary start. Timeouts and sessions use this one, so
/// that a jump of the wall clock expires nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Wall-clock time in milliseconds since the Unix epoch, as Kafka's timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// Both clocks, read once at the beginning of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For measuring and for deadlines.
    pub mono: Mono,
    /// For timestamps that people and records see.
    pub wall: Wall,
}

impl Mono {
    /// The time `duration` later; saturates at the end of time.
    pub fn after(self, duration: Duration) -> Mono {
        Mono(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// The time `millis` milliseconds later; negative counts as zero.
    pub fn after_ms(self, millis: i64) -> Mono {
        Mono(
            self.0
                .saturating_add((millis.max(0) as u64).saturating_mul(1_000_000)),
        )
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
