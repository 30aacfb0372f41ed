//! What a seed means.

use crate::base::Prng;

use super::Options;

/// How a run of the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// What was not synced may be gone, whole or in parts.
    PowerCut,
    /// What the kernel was given stays.
    Kill,
    /// SIGTERM: everything is closed.
    Stop,
}

/// A bug planted on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The disk says that durable writes are done while they are still in its cache.
    LyingDisk,
    /// The disk says that writes to journals are done before they are.
    HastyJournal,
    /// Where writes to a journal are on their way side by side, the disk says that one is done before
    /// it is.
    LooseJournal,
    /// Journals are gone after each crash: nothing is brought home from them.
    LostJournal,
    /// A journal's syncs of the files that it has brought something to do nothing.
    IdleSync,
    /// Now and then a core gives the answer of an earlier append again, to another request.
    StaleReply,
}

/// Everything about a run that its seed decides beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Events before the faults end.
    pub steps: u64,
    /// After how many events which crash comes, in order.
    pub crashes: Vec<(u64, Crash)>,
    /// Data directories.
    pub disks: u16,
    /// One in so many disk operations fails with EIO; 0 for none.
    pub disk_error_one_in: u64,
    /// The disk is full for some of the time.
    pub fills_up: bool,
    /// Idempotent producers.
    pub idempotent_producers: usize,
    /// Producers without idempotence.
    pub plain_producers: usize,
    /// Consumers.
    pub consumers: usize,
    /// The longest a usual disk operation takes, in nanoseconds.
    pub disk_ns_max: u64,
    /// Producers that write to several partitions with one request.
    pub batchers: usize,
    /// How often retention and the expiry of producers are looked after, in milliseconds.
    pub housekeeping_ms: u64,
    /// How long a silent producer is remembered, in milliseconds; the broker's default when none.
    pub producer_expiration_ms: Option<u64>,
    /// No topic is ever relaxed (`flush.messages` above 1).
    pub strict: bool,
    /// Now and then a file that is derived from others (a checkpoint, an index) is garbled, cut or
    /// gone after a crash.
    pub derived_damage: bool,
    /// After how many bytes of metadata records a snapshot is taken.
    pub metadata_snapshot_bytes: u64,
    /// Small durable writes go by the cores' journals from so many on their way; none: there are no
    /// journals.
    pub journal_writes_min: Option<u64>,
    /// What changes names, lengths and whole small files fails as well as writes, reads and syncs,
    /// and a full disk may refuse a write of the metadata log.
    pub names_fail: bool,
    /// The bug that is planted.
    pub canary: Option<Canary>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, options: &Options) -> Plan {
        let mut prng = Prng::new(seed ^ 0x51ed_270b_76f2_1c95);
        let steps = 300 + prng.below(1200);
        let steps = options.steps.map_or(steps, u64::from);
        let mut crashes: Vec<(u64, Crash)> = (0..prng.below(5))
            .map(|_| {
                let crash = match prng.below(8) {
                    0..4 => Crash::PowerCut,
                    4..7 => Crash::Kill,
                    _ => Crash::Stop,
                };
                (prng.below(steps.max(1)), crash)
            })
            .collect();
        crashes.sort_by_key(|(step, _)| *step);
        let canaries = [Canary::LyingDisk, Canary::StaleReply];
        Plan {
            seed,
            steps,
            crashes,
            disks: if prng.one_in(4) { 2 } else { 1 },
            disk_error_one_in: if prng.one_in(3) {
                20 + prng.below(300)
            } else {
                0
            },
            fills_up: prng.one_in(4),
            idempotent_producers: 1 + prng.below(3) as usize,
            plain_producers: prng.below(2) as usize,
            consumers: 1 + prng.below(3) as usize,
            disk_ns_max: 20_000 + prng.below(2_000_000),
            batchers: prng.below(3) as usize,
            housekeeping_ms: 3 + prng.below(20),
            producer_expiration_ms: prng.one_in(3).then(|| 10 + prng.below(500)),
            strict: prng.one_in(3),
            derived_damage: prng.one_in(3),
            // Often in most seeds, never in some.
            metadata_snapshot_bytes: [400, 2000, 8000, 20 << 20][prng.below(4) as usize],
            journal_writes_min: prng.one_in(2).then(|| prng.below(3)),
            names_fail: prng.one_in(2),
            canary: options.canary.then(|| canaries[(seed % 2) as usize]),
        }
    }
}
