//! The records of a batch (apache/kafka `DefaultRecord`), each
//!
//! ```text
//! size varint | attributes i8 (unused) | timestamp delta varlong | offset delta varint
//! | key size varint, key | value size varint, value | header count varint
//! | { key size varint, key | value size varint, value }*
//! ```
//!
//! A negative size is null: allowed for keys, values and header values. Header keys may repeat;
//! they are UTF-8 by convention, which is not checked.

use crate::base::Offset;

use super::codec::{Codec, Scratch};
use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, HEADER_BYTES, TimestampType};
use super::varint::Reader;

/// One record, borrowed from its (unpacked) batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Base offset of the batch plus the record's delta.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch, -1 for none; the batch's max timestamp when that is the
    /// time of append.
    pub timestamp: i64,
    /// Unused by Kafka.
    pub attributes: i8,
    /// Null is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// Null is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// In the order they were given.
    pub headers: Headers<'a>,
}

/// A record's headers: pairs of a key and a value that may be null, already checked.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    count: i32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// As they are encoded, without the count before them.
    pub(super) fn encoded(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.count <= 0 {
            return None;
        }
        let mut reader = Reader::new(self.bytes);
        let header = read_header(&mut reader).ok()?;
        self.bytes = reader.rest();
        self.count -= 1;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count.max(0) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn read_header<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), RecordFault> {
    let key_size = reader.varint()?;
    if key_size < 0 {
        return Err(RecordFault::HeaderKey(key_size));
    }
    Ok((reader.take(key_size as usize)?, reader.nullable()?))
}

/// The records of a batch, in order. After the declared number of records, bytes that remain are
/// an error; the first error ends the iteration.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    base_offset: Offset,
    base_timestamp: i64,
    append_time: Option<i64>,
    index: i32,
    count: i32,
    done: bool,
}

impl<'a> Records<'a> {
    /// Iterates `section`, the unpacked bytes after the header, as `header` says.
    pub fn new(header: &BatchHeader, section: &'a [u8]) -> Records<'a> {
        let append_time = header.timestamp_type() == TimestampType::LogAppendTime;
        Records {
            reader: Reader::new(section),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: append_time.then_some(header.max_timestamp),
            index: 0,
            count: header.record_count,
            done: false,
        }
    }

    /// Bytes of the section that are not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, RecordFault> {
        if self.reader.remaining() == 0 {
            return Err(RecordFault::Missing);
        }
        let size = self.reader.varint()?;
        if size < 0 {
            return Err(RecordFault::Size {
                declared: i64::from(size),
                read: 0,
            });
        }
        let mut body = Reader::new(self.reader.take(size as usize)?);
        let attributes = body.byte()? as i8;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let header_count = body.varint()?;
        let header_bytes = body.rest();
        // A header takes at least two bytes.
        if header_count < 0 || header_count as usize > header_bytes.len() / 2 {
            return Err(RecordFault::HeaderCount(header_count));
        }
        for _ in 0..header_count {
            read_header(&mut body)?;
        }
        if body.remaining() != 0 {
            let read = size as usize - body.remaining();
            return Err(RecordFault::Size {
                declared: i64::from(size),
                read,
            });
        }
        Ok(Record {
            offset: Offset(self.base_offset.0.wrapping_add(i64::from(offset_delta))),
            timestamp: self
                .append_time
                .unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta)),
            attributes,
            key,
            value,
            headers: Headers {
                count: header_count,
                bytes: header_bytes,
            },
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.index;
        let read = if index < self.count {
            self.read()
        } else {
            self.done = true;
            match self.reader.remaining() {
                0 => return None,
                bytes => Err(RecordFault::Remaining { bytes }),
            }
        };
        self.index += 1;
        self.done |= read.is_err();
        Some(read.map_err(|fault| BatchError::Record { index, fault }))
    }
}

/// The records of `batch`, which is whole and whose header is `header`. A compressed section is
/// unpacked into `scratch`, to at most `limit` bytes; an uncompressed one is iterated in place.
///
/// Errors: `Incomplete`, `UnknownCodec`, `Undecodable`, `DecompressedTooLarge`.
pub fn read_records<'a>(
    batch: &'a [u8],
    header: &BatchHeader,
    scratch: &'a mut Scratch,
    limit: usize,
) -> Result<Records<'a>, BatchError> {
    let Some(section) = batch.get(HEADER_BYTES..header.size()) else {
        return Err(BatchError::Incomplete {
            have: batch.len(),
            need: header.size(),
        });
    };
    let section = match header.codec()? {
        Codec::None => section,
        // What compaction leaves of a producer's last batch may keep its codec bits.
        _ if section.is_empty() => section,
        codec => scratch
            .unpack(codec, section, limit)
            .map_err(|fault| BatchError::unpack(codec, fault))?,
    };
    Ok(Records::new(header, section))
}

/// The first record, in offset order, at offset `from` or after it, whose timestamp is `target` or
/// later; its offset and timestamp (apache/kafka `FileRecords.searchForTimestamp`). Read errors as
/// in [`read_records`].
pub fn find_timestamp(
    batch: &[u8],
    target: i64,
    from: Offset,
    scratch: &mut Scratch,
    limit: usize,
) -> Result<Option<(Offset, i64)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp < target {
        return Ok(None);
    }
    first_with(batch, &header, scratch, limit, |record| {
        record.timestamp >= target && record.offset >= from
    })
}

/// The first record that has the batch's max timestamp; its offset and timestamp (apache/kafka
/// `RecordBatch.offsetOfMaxTimestamp`). Read errors as in [`read_records`].
pub fn offset_of_timestamp_max(
    batch: &[u8],
    scratch: &mut Scratch,
    limit: usize,
) -> Result<Option<(Offset, i64)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    first_with(batch, &header, scratch, limit, |record| {
        record.timestamp == header.max_timestamp
    })
}

fn first_with(
    batch: &[u8],
    header: &BatchHeader,
    scratch: &mut Scratch,
    limit: usize,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Option<(Offset, i64)>, BatchError> {
    for record in read_records(batch, header, scratch, limit)? {
        let record = record?;
        if wanted(&record) {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}
