//! When records are due: the arithmetic of an open loop. Knows no clock and no socket.
//!
//! An open loop sends at a fixed rate whatever the broker does. Records that could not be sent in
//! time stay due at the time that was intended, and their latency counts from there: a broker that
//! stops for a second is charged for every record of that second, and not for one (Gil Tene calls
//! the other way *coordinated omission*).

/// One connection's records: the first at `first`, then one each `step` nanoseconds.
#[derive(Clone, Debug)]
pub struct Schedule {
    first: u64,
    step: f64,
    /// Nothing is due from here on.
    end: u64,
    /// How long the oldest record that is due may wait for others, nanoseconds.
    linger: u64,
    taken: u64,
}

/// Records that are due and were taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When the first was due, nanoseconds of the monotonic clock.
    pub intended: u64,
    /// How many, at least one.
    pub count: u64,
}

impl Schedule {
    /// `rate` records a second from `first` until `end`, both in nanoseconds of one clock; a record
    /// that is due waits up to `linger` nanoseconds for others.
    pub fn new(first: u64, end: u64, rate: f64, linger: u64) -> Schedule {
        assert!(rate > 0.0, "a rate of {rate}");
        Schedule {
            first,
            step: 1e9 / rate,
            end,
            linger,
            taken: 0,
        }
    }

    /// Nanoseconds between two records.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Nothing is due from `end` on, if that is sooner than was said before.
    pub fn end_by(&mut self, end: u64) {
        self.end = self.end.min(end);
    }

    /// When record `index` is due.
    fn intended(&self, index: u64) -> u64 {
        // A rate that is all but nothing has its second record beyond the end of time.
        let since = (index as f64 * self.step).round() as u64;
        self.first.saturating_add(since)
    }

    /// Records that are due by `now` and not taken.
    pub fn backlog(&self, now: u64) -> u64 {
        let now = now.min(self.end.saturating_sub(1));
        if now < self.first {
            return 0;
        }
        // One more than the last index whose time has come; the division rounds, so it is tried.
        let mut due = ((now - self.first) as f64 / self.step) as u64;
        while self.intended(due) <= now {
            due += 1;
        }
        while due > 0 && self.intended(due - 1) > now {
            due -= 1;
        }
        due.saturating_sub(self.taken)
    }

    /// When [`Schedule::take`] with this `most` gives something: the oldest record has waited long
    /// enough, or a batch is full. None when nothing will be due any more.
    pub fn next_at(&self, most: u64) -> Option<u64> {
        let oldest = self.intended(self.taken);
        if oldest >= self.end {
            return None;
        }
        let full = self.intended(self.taken + most.max(1) - 1);
        Some((oldest + self.linger).min(full))
    }

    /// Takes up to `most` records that are due, if the oldest has waited long enough or they fill
    /// a batch of `most`.
    pub fn take(&mut self, now: u64, most: u64) -> Option<Due> {
        if self.next_at(most)? > now {
            return None;
        }
        let count = self.backlog(now).min(most.max(1));
        if count == 0 {
            return None;
        }
        let intended = self.intended(self.taken);
        self.taken += count;
        Some(Due { intended, count })
    }

    /// True when nothing is due now or later.
    pub fn is_over(&self) -> bool {
        self.intended(self.taken) >= self.end
    }

    /// The times of the records that are due by `now` and were not taken: what an overloaded
    /// connection never sent.
    pub fn left(&self, now: u64) -> impl Iterator<Item = u64> + '_ {
        let backlog = self.backlog(now);
        (self.taken..self.taken + backlog).map(|index| self.intended(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_record_is_due_at_its_time_and_not_before() {
        let mut schedule = Schedule::new(100, SECOND, 1000.0, 0);
        assert_eq!(schedule.take(99, 10), None);
        let due = schedule.take(100, 10);
        assert_eq!(
            due,
            Some(Due {
                intended: 100,
                count: 1
            })
        );
        assert_eq!(schedule.next_at(10), Some(1_000_100));
        assert_eq!(schedule.take(1_000_099, 10), None);
    }

    #[test]
    fn what_a_stop_held_up_keeps_the_time_that_was_intended() {
        let mut schedule = Schedule::new(0, 10 * SECOND, 1000.0, 0);
        // The broker did not let us send for half a second.
        let due = schedule.take(SECOND / 2, 100_000).expect("a backlog");
        assert_eq!((due.intended, due.count), (0, 501));
        let next = schedule.take(SECOND / 2 + 1_000_000, 1).expect("the next");
        assert_eq!(next.intended, 501_000_000);
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_its_oldest_record_waited_long_enough() {
        let mut schedule = Schedule::new(0, SECOND, 1000.0, 5_000_000);
        assert_eq!(schedule.next_at(3), Some(2_000_000));
        assert_eq!(schedule.next_at(100), Some(5_000_000));
        assert_eq!(schedule.take(4_999_999, 100), None);
        assert_eq!(schedule.take(5_000_000, 100).map(|due| due.count), Some(6));
        assert_eq!(schedule.take(8_000_000, 3).map(|due| due.count), Some(3));
    }

    #[test]
    fn as_many_records_are_due_as_rate_and_time_say_at_odd_rates_too() {
        for rate in [0.7, 3.0, 997.0, 1_000_003.0] {
            let mut schedule = Schedule::new(12_345, 12_345 + 7 * SECOND, rate, 0);
            let mut total = 0;
            let mut now = 0;
            while !schedule.is_over() {
                now += 1_234_567;
                if let Some(due) = schedule.take(now, u64::MAX / 2) {
                    assert!(due.intended <= now);
                    total += due.count;
                }
            }
            assert_eq!(total, (7.0 * rate).ceil() as u64, "{rate}");
        }
    }

    #[test]
    fn after_the_end_nothing_is_due_and_what_is_left_can_be_told() {
        let mut schedule = Schedule::new(0, SECOND, 10.0, 0);
        assert_eq!(schedule.take(SECOND * 2, 4).map(|due| due.count), Some(4));
        assert_eq!(schedule.backlog(SECOND * 2), 6);
        assert_eq!(schedule.left(SECOND * 2).next(), Some(400_000_000));
        assert_eq!(schedule.left(SECOND * 2).count(), 6);
        assert_eq!(schedule.take(SECOND * 3, 10).map(|due| due.count), Some(6));
        assert!(schedule.is_over());
        assert_eq!(schedule.next_at(1), None);
    }
}
