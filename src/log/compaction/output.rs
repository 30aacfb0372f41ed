//! The file that a round writes: batches gather in memory, whole blocks go to the disk.
//!
//! `<base>.cleaned` is nobody's until it is renamed; a start removes it.

use std::sync::Arc;

use crate::base::{BLOCK, Buf, FilePath, Offset, Pool};
use crate::record::BatchHeader;

use super::super::segment::Walk;

/// Bytes that one write takes at most. A durable write of somebody else that follows pays for what the
/// disk's cache holds of it: small ones keep that short.
pub(super) const WRITE_BYTES: usize = 64 << 10;
/// What the name of an unfinished file ends in.
pub(in crate::log) const UNFINISHED: &str = ".cleaned";

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Output {
    pub base: Offset,
    pub file: FilePath,
    /// What has been gathered from `written` on.
    pending: Vec<u8>,
    /// Bytes given to the disk: whole blocks.
    written: u64,
    /// What the segment holds, its index included.
    pub walk: Walk,
    /// The first of the sources that it replaces.
    pub first: usize,
    /// Something of the sources was left out or rewritten.
    pub changed: bool,
}

impl Output {
    /// An empty one, in place of the sources from `first` on.
    pub(super) fn new(directory: &FilePath, base: Offset, first: usize) -> Output {
        Output {
            base,
            file: directory.join(&format!("{:020}{UNFINISHED}", base.0)),
            pending: Vec::new(),
            written: 0,
            walk: Walk::from_start(base),
            first,
            changed: false,
        }
    }

    /// Bytes of batches so far.
    pub(super) fn size(&self) -> u64 {
        self.walk.position
    }

    /// Adds a batch.
    pub(super) fn push(&mut self, batch: &[u8], header: &BatchHeader, index_interval: u32) {
        self.pending.extend_from_slice(batch);
        self.walk.pass(self.base, header, index_interval);
    }

    /// True when there is enough for a write.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= WRITE_BYTES
    }

    /// The next write, and where it goes; with `all`, the last blocks too, padded with zeros.
    pub(super) fn take_write(&mut self, pool: &Pool, all: bool) -> Option<(u64, Arc<Buf>)> {
        let whole = self.pending.len() - self.pending.len() % BLOCK;
        let taken = if all { self.pending.len() } else { whole };
        let taken = taken.min(WRITE_BYTES.max(BLOCK));
        let taken = if all && taken == self.pending.len() {
            taken
        } else {
            taken - taken % BLOCK
        };
        if taken == 0 {
            return None;
        }
        let mut buf = pool.take(taken.next_multiple_of(BLOCK));
        buf.extend_from_slice(&self.pending[..taken]);
        buf.pad_to_block();
        let at = self.written;
        self.written += buf.len() as u64;
        self.pending.drain(..taken);
        Some((at, Arc::new(buf)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Codec};

    #[test]
    fn what_was_pushed_is_written_in_whole_blocks_in_order() {
        let pool = Pool::new(1 << 20);
        let mut output = Output::new(&FilePath::new(0, "t-0"), Offset(7), 0);
        assert_eq!(output.file.name(), "00000000000000000007.cleaned");
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        for n in 0..900i64 {
            let mut builder = BatchBuilder::new(Codec::None).base_offset(Offset(7 + n));
            builder.append(n, Some(b"k"), Some(&vec![n as u8; 1000]), &[]);
            let batch = builder.finish();
            let header = BatchHeader::parse(&batch).expect("a batch");
            output.push(&batch, &header, 4096);
            expected.extend_from_slice(&batch);
            while output.is_full() {
                let (at, buf) = output.take_write(&pool, false).expect("a write");
                assert_eq!((at, buf.len() % BLOCK), (written.len() as u64, 0));
                written.extend_from_slice(&buf);
            }
        }
        while let Some((at, buf)) = output.take_write(&pool, true) {
            assert_eq!(at, written.len() as u64);
            written.extend_from_slice(&buf);
        }
        assert_eq!(output.size(), expected.len() as u64);
        assert_eq!(written[..expected.len()], expected);
        assert!(written.len() - expected.len() < BLOCK);
        assert_eq!(
            (output.walk.next, output.walk.max_timestamp),
            (Offset(907), 899)
        );
    }
}
