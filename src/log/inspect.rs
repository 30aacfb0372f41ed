//! Looks at a segment file from outside, as `corelane inspect` does. Needs nothing but its bytes.

use std::fmt;

use crate::base::{BLOCK, Offset};
use crate::record::{self, BatchError, BatchHeader, Codec};

use super::trailer::Trailer;

/// One batch of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Where it begins, in bytes.
    pub position: u64,
    /// Its size in bytes.
    pub size: usize,
    /// Its header.
    pub header: BatchHeader,
    /// What the records are compressed with; none for an unknown codec.
    pub codec: Option<Codec>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What can be wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not parse, is not whole, or its CRC does not hold.
    Batch(BatchError),
    /// Its base offset lies below what the batch before it, or the file's name, allows.
    OffsetGoesBack {
        /// The smallest offset that would be right.
        expected: Offset,
    },
    /// Its leader epoch is lower than that of the batch before it.
    EpochGoesBack,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Batch(error) => write!(f, "{error:?}"),
            Problem::OffsetGoesBack { expected } => {
                write!(f, "its base offset is below {expected}")
            }
            Problem::EpochGoesBack => f.write_str("its leader epoch goes back"),
        }
    }
}

/// What a segment file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its batches, in order. Ends at the first one whose size cannot be told.
    pub batches: Vec<Inspected>,
    /// Where the batches end.
    pub end: u64,
    /// Bytes behind them that are neither zero nor one of our trailers.
    pub trailing_bytes: u64,
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.trailing_bytes == 0 && self.batches.iter().all(|batch| batch.problems.is_empty())
    }
}

/// Walks over the bytes of the segment file whose name says `base`.
pub fn inspect(bytes: &[u8], base: Offset) -> Report {
    let mut report = Report::default();
    let (mut next, mut epoch) = (base, i32::MIN);
    let mut position = 0;
    while let Ok(header) = BatchHeader::parse(&bytes[position..]) {
        if header.size() > bytes.len() - position {
            break;
        }
        let mut problems = Vec::new();
        problems.extend(record::verify(&bytes[position..]).err().map(Problem::Batch));
        if header.base_offset < next {
            problems.push(Problem::OffsetGoesBack { expected: next });
        }
        if header.leader_epoch.0 < epoch {
            problems.push(Problem::EpochGoesBack);
        }
        next = header.last_offset().plus(1);
        epoch = header.leader_epoch.0;
        let codec = header.codec().ok();
        let size = header.size();
        report.batches.push(Inspected {
            position: position as u64,
            size,
            header,
            codec,
            problems,
        });
        position += size;
    }
    report.end = position as u64;
    report.trailing_bytes = trailing(bytes, position, base);
    report
}

/// Bytes from `end` to the last one that is not zero, a trailer in its place not counted.
pub(super) fn trailing(bytes: &[u8], end: usize, base: Offset) -> u64 {
    let mut last = end;
    for (at, block) in bytes.chunks(BLOCK).enumerate().skip(end / BLOCK) {
        let at = at * BLOCK;
        let mark = Trailer::of_block(block, at as u64, base).is_some();
        let counted = if mark {
            BLOCK - super::trailer::BYTES
        } else {
            block.len()
        };
        let from = end.saturating_sub(at).min(counted);
        if let Some(index) = block[from..counted].iter().rposition(|byte| *byte != 0) {
            last = at + from + index + 1;
        }
    }
    (last - end) as u64
}
