//! Transactions in Kafka's segments that nobody committed. The index that tells a consumer which
//! records to skip is the broker's own business; corelane has none, and takes no transactions. So
//! their records are left out, as Kafka's own cleaner leaves them out of a compacted topic: the batch
//! stays, with its offsets and its producer's sequences, and without records. What is found comes from
//! the markers in the log itself, not from Kafka's `.txnindex` files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::{Offset, ProducerId};
use crate::record::{BatchBuilder, BatchHeader, Batches, ControlKind, HEADER_BYTES, Scratch};

/// Bytes before the part of a batch that its length counts.
const LENGTH_OVERHEAD: u64 = 12;
/// The largest batch that is taken for a marker: one small record.
const MARKER_BYTES_MAX: u64 = 4096;

/// An open transaction of one producer: its first offset, and the segments it has records in.
type Open = (Offset, BTreeSet<Offset>);

/// The transactions of one partition that were not committed.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// By producer: from the first record to the marker, in order.
    ranges: BTreeMap<ProducerId, Vec<(Offset, Offset)>>,
    /// The segments that have records of them, by base offset.
    segments: BTreeSet<Offset>,
    /// How many were aborted.
    pub(super) aborted: usize,
    /// How many were still open.
    pub(super) open: usize,
    /// Above every producer's id in the partition.
    pub(super) next_producer: i64,
}

impl Aborted {
    /// Walks over all segments, from header to header.
    pub(super) fn find(segments: &BTreeMap<Offset, PathBuf>) -> Result<Aborted, String> {
        let mut found = Aborted::default();
        let mut open: BTreeMap<ProducerId, Open> = BTreeMap::new();
        for (base, path) in segments {
            let walked = found.walk(*base, path, &mut open);
            walked.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        found.open = open.len();
        for (producer, transaction) in open {
            found.end(producer, transaction, Offset(i64::MAX));
        }
        Ok(found)
    }

    fn walk(
        &mut self,
        base: Offset,
        path: &Path,
        open: &mut BTreeMap<ProducerId, Open>,
    ) -> io::Result<()> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut at = 0;
        while at + HEADER_BYTES as u64 <= size {
            let mut bytes = [0; HEADER_BYTES];
            file.read_exact_at(&mut bytes, at)?;
            // What is no batch is the torn end of an unclean shutdown: whoever opens it cuts it off.
            let Ok(header) = BatchHeader::parse(&bytes) else {
                break;
            };
            self.next_producer = self
                .next_producer
                .max(header.producer_id.0.saturating_add(1));
            let len = header.batch_length as u64 + LENGTH_OVERHEAD;
            if header.is_control() && len <= MARKER_BYTES_MAX && at + len <= size {
                let mut batch = vec![0; len as usize];
                file.read_exact_at(&mut batch, at)?;
                self.marker(&header, kind(&batch), open);
            } else if header.is_transactional() && header.record_count > 0 {
                let transaction = open.entry(header.producer_id);
                let (_, segments) =
                    transaction.or_insert_with(|| (header.base_offset, BTreeSet::new()));
                segments.insert(base);
            }
            at += len;
        }
        Ok(())
    }

    fn marker(
        &mut self,
        header: &BatchHeader,
        kind: Option<ControlKind>,
        open: &mut BTreeMap<ProducerId, Open>,
    ) {
        match kind {
            Some(ControlKind::Commit) => drop(open.remove(&header.producer_id)),
            Some(ControlKind::Abort) => {
                if let Some(transaction) = open.remove(&header.producer_id) {
                    self.aborted += 1;
                    self.end(header.producer_id, transaction, header.base_offset);
                }
            }
            Some(_) | None => {}
        }
    }

    fn end(&mut self, producer: ProducerId, (first, segments): Open, last: Offset) {
        self.ranges.entry(producer).or_default().push((first, last));
        self.segments.extend(segments);
    }

    /// True when the segment has records that must go.
    pub(super) fn touches(&self, base: Offset) -> bool {
        self.segments.contains(&base)
    }

    fn holds(&self, header: &BatchHeader) -> bool {
        let ranges = self.ranges.get(&header.producer_id);
        let at = header.base_offset;
        header.is_transactional()
            && !header.is_control()
            && ranges.is_some_and(|ranges| {
                ranges
                    .iter()
                    .any(|(first, last)| *first <= at && at < *last)
            })
    }

    /// The segment without the records that must go; how many batches that was. What is no batch at
    /// the end stays as it is.
    pub(super) fn without(&self, bytes: &[u8]) -> Result<(Vec<u8>, usize), String> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut emptied = 0;
        let mut batches = Batches::new(bytes);
        while let Some(Ok(batch)) = batches.next() {
            if !self.holds(&batch.header) {
                out.extend_from_slice(batch.bytes);
                continue;
            }
            let empty = BatchBuilder::rebuild(&batch.header).map_err(|error| error.to_string())?;
            out.extend_from_slice(&empty.finish());
            emptied += 1;
        }
        out.extend_from_slice(&bytes[batches.position()..]);
        Ok((out, emptied))
    }
}

/// What a control batch says.
fn kind(batch: &[u8]) -> Option<ControlKind> {
    let batch = Batches::new(batch).next()?.ok()?;
    let mut scratch = Scratch::new();
    let mut records = batch
        .records(&mut scratch, MARKER_BYTES_MAX as usize)
        .ok()?;
    let record = records.next()?.ok()?;
    ControlKind::decode_key(record.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, ProducerEpoch, Sequence};
    use crate::record::{Codec, EndTransactionMarker, stamp};

    fn data(producer: i64, sequence: i32, value: &[u8]) -> Vec<u8> {
        let builder = BatchBuilder::new(Codec::Zstd);
        let id = (ProducerId(producer), ProducerEpoch(0));
        let transactional = producer >= 0;
        let mut builder = builder
            .producer(id.0, id.1, Sequence(sequence))
            .transactional(transactional);
        builder.append(1000, Some(b"k"), Some(value), &[]);
        builder.append(1001, Some(b"k"), Some(value), &[]);
        builder.finish()
    }

    fn marker(producer: i64, committed: bool) -> Vec<u8> {
        let marker = EndTransactionMarker {
            committed,
            coordinator_epoch: 0,
        };
        marker.batch(ProducerId(producer), ProducerEpoch(0), 1002)
    }

    /// Batches one after the other; those before `split` in a segment of their own.
    fn segments(
        batches: &[Vec<u8>],
        split: usize,
    ) -> (tempfile::TempDir, BTreeMap<Offset, PathBuf>) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files: BTreeMap<Offset, Vec<u8>> = BTreeMap::new();
        let (mut next, mut base) = (Offset(0), Offset(0));
        for (index, batch) in batches.iter().enumerate() {
            if index == split {
                base = next;
            }
            let mut batch = batch.clone();
            stamp(&mut batch, next, LeaderEpoch(2));
            let header = BatchHeader::parse(&batch).expect("a batch");
            next = header.last_offset().plus(1);
            files.entry(base).or_default().extend_from_slice(&batch);
        }
        let write = |(base, bytes): (Offset, Vec<u8>)| {
            let path = directory.path().join(format!("{:020}.log", base.0));
            std::fs::write(&path, bytes).expect("written");
            (base, path)
        };
        let paths = files.into_iter().map(write).collect();
        (directory, paths)
    }

    /// The values that are left, by offset.
    fn left(aborted: &Aborted, paths: &BTreeMap<Offset, PathBuf>) -> Vec<(i64, String)> {
        let mut left = Vec::new();
        for (base, path) in paths {
            let bytes = std::fs::read(path).expect("there");
            let (kept, emptied) = aborted.without(&bytes).expect("whole");
            assert_eq!(emptied > 0, aborted.touches(*base));
            let ends = |bytes: &[u8]| -> Vec<(Offset, Offset)> {
                let batches = Batches::new(bytes).map(|batch| batch.expect("whole").header);
                batches
                    .map(|header| (header.base_offset, header.last_offset()))
                    .collect()
            };
            assert_eq!(ends(&kept), ends(&bytes), "the chain of offsets holds");
            let mut scratch = Scratch::new();
            for batch in Batches::new(&kept) {
                let batch = batch.expect("whole");
                batch.verify().expect("a right CRC");
                if batch.header.is_control() {
                    continue;
                }
                for record in batch.records(&mut scratch, 1 << 20).expect("readable") {
                    let record = record.expect("readable");
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                    left.push((record.offset.0, value.into_owned()));
                }
            }
        }
        left
    }

    #[test]
    fn records_of_aborted_and_of_open_transactions_go_and_all_else_stays() {
        for split in 0..9 {
            let batches = [
                data(7, 0, b"aborted"),
                data(8, 0, b"committed"),
                data(-1, -1, b"plain"),
                marker(7, false),
                data(7, 2, b"committed later"),
                marker(8, true),
                marker(7, true),
                data(8, 2, b"open"),
                data(7, 4, b"open"),
            ];
            let (_directory, paths) = segments(&batches, split);
            let aborted = Aborted::find(&paths).expect("readable");
            assert_eq!((aborted.aborted, aborted.open), (1, 2));
            let wanted = [
                (2, "committed"),
                (3, "committed"),
                (4, "plain"),
                (5, "plain"),
            ];
            let later = [(7, "committed later"), (8, "committed later")];
            let wanted = wanted.iter().chain(&later);
            let wanted: Vec<(i64, String)> = wanted
                .map(|(offset, value)| (*offset, (*value).to_owned()))
                .collect();
            assert_eq!(left(&aborted, &paths), wanted, "split at {split}");
        }
    }

    #[test]
    fn a_log_without_transactions_is_left_alone() {
        let batches = [data(-1, -1, b"a"), data(-1, -1, b"b")];
        let (_directory, paths) = segments(&batches, 1);
        let aborted = Aborted::find(&paths).expect("readable");
        assert_eq!((aborted.aborted, aborted.open), (0, 0));
        assert_eq!(left(&aborted, &paths).len(), 4);
    }
}
