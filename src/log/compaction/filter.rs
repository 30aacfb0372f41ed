//! What stays of one batch. Bytes in, bytes out; knows no file and no segment.
//!
//! The rules are Kafka's (apache/kafka `Cleaner.cleanInto`, `MemoryRecords.filterTo`): a record stays
//! if it is the last one of its key, or was not looked at when the keys were gathered. A tombstone
//! stays until the delete horizon that its batch was given when the cleaner first saw it (KIP-534);
//! the horizon takes the base timestamp's place. A batch that loses nothing is not touched.

use std::collections::BTreeMap;

use crate::base::{Offset, ProducerEpoch, ProducerId};
use crate::record::{BatchBuilder, BatchHeader, Record, Scratch, read_records};

use super::keys::KeyMap;

/// What one batch may unpack to, in bytes.
pub(super) const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// The newest batch of a producer that is remembered: it stays, without records if need be, so that
/// the producer's sequence can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// The offset of its last record; none when only a marker of the producer is known.
    pub last_offset: Option<Offset>,
    /// Its producer epoch.
    pub epoch: ProducerEpoch,
}

/// By what a round judges.
#[derive(Debug)]
pub(super) struct Rules {
    pub keys: KeyMap,
    /// Records from here on were not looked at: they stay.
    pub mapped_to: Offset,
    /// The wall clock when the round began, in milliseconds.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    pub producers: BTreeMap<ProducerId, LastBatch>,
}

/// What the log knows of a batch besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// Its transaction was aborted, or it is a marker that nothing needs any more.
    pub needless: bool,
    /// Nothing may be missing at this place: it stays, without records if need be.
    pub keep_place: bool,
}

/// What stays.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it, as it is.
    Whole,
    /// This batch in its place.
    Rewritten(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// A batch that holds what it should not: it can be neither read nor cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Judges one whole, verified batch. Gives what stays, and how many records it had and keeps.
pub(super) fn filter(
    batch: &[u8],
    header: &BatchHeader,
    standing: Standing,
    rules: &Rules,
    scratch: &mut Scratch,
) -> Result<(Kept, u64, u64), Unreadable> {
    let horizon = header.delete_horizon();
    let over = horizon.is_some_and(|horizon| horizon <= rules.now_ms);
    let drop_all = standing.needless && (!header.is_control() || over);
    let keep_place = standing.keep_place || rules.is_last_of_producer(header);
    let count = header.record_count.max(0) as u64;
    if drop_all {
        return match keep_place {
            true => Ok((emptied(header)?, count, 0)),
            false => Ok((Kept::Nothing, count, 0)),
        };
    }
    let records =
        read_records(batch, header, scratch, UNPACKED_BYTES_MAX).map_err(|_| Unreadable)?;
    let mut kept: Vec<Record> = Vec::new();
    let (mut read, mut tombstones) = (0, false);
    for record in records {
        let record = record.map_err(|_| Unreadable)?;
        read += 1;
        if header.is_control() || rules.keeps(&record, over) {
            tombstones |= record.value.is_none();
            let follows = kept
                .last()
                .map_or(header.base_offset, |last| last.offset.plus(1));
            if record.offset < follows || record.offset > header.last_offset() {
                return Err(Unreadable);
            }
            kept.push(record);
        }
    }
    let left = kept.len() as u64;
    if kept.is_empty() {
        let was_empty = read == 0;
        return Ok(match keep_place {
            true if was_empty => (Kept::Whole, read, 0),
            true => (emptied(header)?, read, 0),
            false => (Kept::Nothing, read, 0),
        });
    }
    let finite = tombstones || (header.is_control() && standing.needless);
    let new_horizon = finite && horizon.is_none();
    if left == read && !new_horizon {
        return Ok((Kept::Whole, read, left));
    }
    let mut builder = BatchBuilder::rebuild(header).map_err(|_| Unreadable)?;
    if new_horizon {
        builder = builder.delete_horizon(rules.now_ms.saturating_add(rules.delete_retention_ms));
    }
    for record in &kept {
        builder.append_record(record);
    }
    Ok((Kept::Rewritten(builder.finish()), read, left))
}

/// The batch without its records.
fn emptied(header: &BatchHeader) -> Result<Kept, Unreadable> {
    let builder = BatchBuilder::rebuild(header).map_err(|_| Unreadable)?;
    Ok(Kept::Rewritten(builder.finish()))
}

impl Rules {
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = header
            .has_producer_id()
            .then(|| self.producers.get(&header.producer_id))
            .flatten();
        last.is_some_and(|last| match last.last_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        })
    }

    /// `over`: the delete horizon of its batch is over.
    fn keeps(&self, record: &Record, over: bool) -> bool {
        if record.offset >= self.mapped_to {
            return true;
        }
        // A record without a key has no place in a compacted log: it was written before the log
        // became one.
        let Some(key) = record.key else { return false };
        let newest = self.keys.last(key).is_none_or(|last| record.offset >= last);
        newest && (record.value.is_some() || !over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, Sequence};
    use crate::record::{Batch, Codec, EndTransactionMarker, stamp, verify};

    const DAY: i64 = 86_400_000;

    fn rules(last: &[(&str, i64)], mapped_to: i64) -> Rules {
        let mut keys = KeyMap::new(100, 0.9, (1, 2));
        for (key, offset) in last {
            assert!(keys.put(key.as_bytes(), Offset(*offset)));
        }
        Rules {
            keys,
            mapped_to: Offset(mapped_to),
            now_ms: 5 * DAY,
            delete_retention_ms: DAY,
            producers: BTreeMap::new(),
        }
    }

    /// A batch at offset 10 of these keys and values; the timestamps are 100, 101 and so on.
    fn batch(codec: Codec, records: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new(codec).producer(ProducerId(4), ProducerEpoch(1), Sequence(8));
        for (index, (key, value)) in records.iter().enumerate() {
            let value = value.map(str::as_bytes);
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", None)];
            builder.append(100 + index as i64, Some(key.as_bytes()), value, headers);
        }
        let mut bytes = builder.finish();
        stamp(&mut bytes, Offset(10), LeaderEpoch(3));
        bytes
    }

    fn judge(bytes: &[u8], standing: Standing, rules: &Rules) -> Kept {
        let header = verify(bytes).expect("a batch");
        filter(bytes, &header, standing, rules, &mut Scratch::new())
            .expect("readable")
            .0
    }

    type Shown = Vec<(i64, i64, Option<Vec<u8>>)>;

    fn shown(bytes: &[u8]) -> Shown {
        let batch = Batch::parse(bytes).expect("a batch");
        let mut scratch = Scratch::new();
        let records = batch.records(&mut scratch, 1 << 20).expect("records");
        let read = records.map(|record| record.expect("a record"));
        read.map(|record| {
            assert_eq!(record.headers.len(), 1, "headers stay");
            (
                record.offset.0,
                record.timestamp,
                record.value.map(<[u8]>::to_vec),
            )
        })
        .collect()
    }

    #[test]
    fn a_batch_whose_records_are_all_the_newest_is_not_touched() {
        for codec in Codec::ALL {
            let bytes = batch(codec, &[("a", Some("1")), ("b", Some("2"))]);
            let kept = judge(
                &bytes,
                Standing::default(),
                &rules(&[("a", 10), ("b", 11)], 50),
            );
            assert_eq!(kept, Kept::Whole);
        }
    }

    #[test]
    fn older_values_go_and_the_rest_keeps_offset_time_codec_and_sequence() {
        for codec in Codec::ALL {
            let bytes = batch(
                codec,
                &[
                    ("a", Some("1")),
                    ("b", Some("2")),
                    ("a", Some("3")),
                    ("c", Some("4")),
                ],
            );
            let kept = judge(
                &bytes,
                Standing::default(),
                &rules(&[("a", 12), ("b", 11), ("c", 40)], 50),
            );
            let Kept::Rewritten(rest) = kept else {
                panic!("{kept:?}")
            };
            assert_eq!(
                shown(&rest),
                [
                    (11, 101, Some(b"2".to_vec())),
                    (12, 102, Some(b"3".to_vec()))
                ]
            );
            let (before, after) = (
                verify(&bytes).expect("sound"),
                verify(&rest).expect("sound"),
            );
            assert_eq!(after.codec(), Ok(codec));
            assert_eq!(
                (
                    after.base_offset,
                    after.last_offset(),
                    after.leader_epoch,
                    after.base_sequence,
                    after.last_sequence()
                ),
                (
                    before.base_offset,
                    before.last_offset(),
                    before.leader_epoch,
                    before.base_sequence,
                    before.last_sequence()
                )
            );
            assert_eq!((after.max_timestamp, after.record_count), (102, 2));
        }
    }

    #[test]
    fn what_was_not_looked_at_stays() {
        let bytes = batch(
            Codec::None,
            &[("a", Some("1")), ("a", Some("2")), ("a", None)],
        );
        let kept = judge(&bytes, Standing::default(), &rules(&[("a", 11)], 12));
        let Kept::Rewritten(rest) = kept else {
            panic!("{kept:?}")
        };
        assert_eq!(
            shown(&rest)
                .iter()
                .map(|(offset, ..)| *offset)
                .collect::<Vec<_>>(),
            [11, 12]
        );
    }

    #[test]
    fn a_tombstone_gets_a_horizon_the_first_time_and_goes_when_that_is_over() {
        let bytes = batch(Codec::Lz4, &[("a", None), ("b", Some("2"))]);
        let mut rules = rules(&[("a", 10), ("b", 11)], 50);
        let Kept::Rewritten(first) = judge(&bytes, Standing::default(), &rules) else {
            panic!("a horizon is set")
        };
        assert_eq!(
            verify(&first).expect("sound").delete_horizon(),
            Some(6 * DAY)
        );
        assert_eq!(
            shown(&first),
            [(10, 100, None), (11, 101, Some(b"2".to_vec()))]
        );
        rules.now_ms = 6 * DAY - 1;
        assert_eq!(
            judge(&first, Standing::default(), &rules),
            Kept::Whole,
            "not yet"
        );
        rules.now_ms = 6 * DAY;
        let Kept::Rewritten(second) = judge(&first, Standing::default(), &rules) else {
            panic!("it is over")
        };
        assert_eq!(shown(&second), [(11, 101, Some(b"2".to_vec()))]);
        let again = judge(&second, Standing::default(), &rules);
        assert_eq!(again, Kept::Whole, "nothing is left to do");
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_without_records() {
        let bytes = batch(Codec::Zstd, &[("a", Some("1"))]);
        let mut rules = rules(&[("a", 30)], 50);
        assert_eq!(judge(&bytes, Standing::default(), &rules), Kept::Nothing);
        let last = LastBatch {
            last_offset: Some(Offset(10)),
            epoch: ProducerEpoch(1),
        };
        rules.producers.insert(ProducerId(4), last);
        let Kept::Rewritten(empty) = judge(&bytes, Standing::default(), &rules) else {
            panic!("it stays")
        };
        let header = verify(&empty).expect("sound");
        assert_eq!(
            (header.record_count, empty.len(), header.base_sequence),
            (0, 61, Sequence(8))
        );
        assert_eq!(judge(&empty, Standing::default(), &rules), Kept::Whole);
        rules.producers.clear();
        assert_eq!(judge(&empty, Standing::default(), &rules), Kept::Nothing);
        let place = Standing {
            keep_place: true,
            ..Standing::default()
        };
        assert_eq!(judge(&empty, place, &rules), Kept::Whole);
        assert!(matches!(judge(&bytes, place, &rules), Kept::Rewritten(_)));
    }

    #[test]
    fn aborted_data_goes_at_once_and_its_marker_after_a_horizon_of_its_own() {
        let bytes = batch(Codec::None, &[("a", Some("1"))]);
        let mut rules = rules(&[], 50);
        let needless = Standing {
            needless: true,
            ..Standing::default()
        };
        assert_eq!(judge(&bytes, needless, &rules), Kept::Nothing);
        let marker = EndTransactionMarker {
            committed: false,
            coordinator_epoch: 0,
        };
        let marker = marker.batch(ProducerId(4), ProducerEpoch(1), 77);
        assert_eq!(
            judge(&marker, Standing::default(), &rules),
            Kept::Whole,
            "still needed"
        );
        let Kept::Rewritten(dated) = judge(&marker, needless, &rules) else {
            panic!("a horizon is set")
        };
        assert_eq!(judge(&dated, needless, &rules), Kept::Whole);
        rules.now_ms = 6 * DAY;
        assert_eq!(judge(&dated, needless, &rules), Kept::Nothing);
    }

    #[test]
    fn records_without_a_key_go() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(5, None, Some(b"v"), &[]);
        let bytes = builder.finish();
        assert_eq!(
            judge(&bytes, Standing::default(), &rules(&[], 50)),
            Kept::Nothing
        );
    }
}
