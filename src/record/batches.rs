//! Walking over consecutive batches, as a segment or a fetch answer holds them.

use super::codec::Scratch;
use super::error::BatchError;
use super::header::{BatchHeader, verify};
use super::records::{Records, read_records};

/// One whole batch: its decoded header and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Decoded from `bytes`.
    pub header: BatchHeader,
    /// The whole batch, header included.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the beginning of `bytes`, whole but with an unchecked CRC.
    ///
    /// Errors: those of [`BatchHeader::parse`], and `Incomplete` for a batch that is cut off.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        match bytes.get(..header.size()) {
            Some(bytes) => Ok(Batch { header, bytes }),
            None => Err(BatchError::Incomplete {
                have: bytes.len(),
                need: header.size(),
            }),
        }
    }

    /// Checks the CRC. Errors: `Crc`.
    pub fn verify(&self) -> Result<(), BatchError> {
        verify(self.bytes).map(|_| ())
    }

    /// The records, decompressed into `scratch` when they are compressed; see [`read_records`].
    pub fn records<'s>(
        &self,
        scratch: &'s mut Scratch,
        limit: usize,
    ) -> Result<Records<'s>, BatchError>
    where
        'a: 's,
    {
        read_records(self.bytes, &self.header, scratch, limit)
    }
}

/// The whole batches at the beginning of some bytes, in order. Ends at the end of the bytes or
/// after the first error; a last batch that is cut off is the error `Incomplete`. CRCs are not
/// checked.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    taken: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Walks over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches {
            bytes,
            taken: 0,
            failed: false,
        }
    }

    /// Bytes of the batches given out so far: where the next one begins.
    pub fn position(&self) -> usize {
        self.taken
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.taken..];
        if self.failed || rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(rest);
        match &batch {
            Ok(batch) => self.taken += batch.bytes.len(),
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}
