//! The four codecs a batch's records may be compressed with, as one unit.
//!
//! Unpacking never believes a size that the input declares: output grows as it comes out, and
//! stops at the caller's limit. Snappy is read raw (librdkafka, Go) and Xerial-framed (Java).

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

use super::{lz4, snappy};

/// A scratch buffer or zstd context larger than this is given back after its use.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// The least that zstd output grows by: one of its blocks.
const ZSTD_STEP_BYTES: usize = 128 << 10;

/// What the records of a batch are compressed with; the discriminant is the id in the attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Written in Xerial's framing, as Java's clients do.
    Snappy = 2,
    /// LZ4 frame format, independent blocks.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

/// Why a compressed section did not unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// Not what the codec writes.
    Malformed,
    /// More than `limit` bytes would come out.
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec of an attribute id, 0 to 4.
    pub fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(id)).copied()
    }

    /// Its name in `compression.type`; "none" is called "uncompressed" there.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Appends `bytes`, compressed, to `out`. `level` is the codec's own scale (KIP-390): gzip -1
    /// (its default, 6) and 1 to 9, zstd -131072 to 22 (default 3); a level outside is brought
    /// inside. Snappy has none. Lz4 has levels in Kafka only: the encoder here has one, its fast
    /// one, and the level is ignored.
    pub fn compress(self, bytes: &[u8], level: Option<i32>, out: &mut Vec<u8>) {
        match self {
            Codec::None => out.extend_from_slice(bytes),
            Codec::Gzip => gzip(bytes, level, out),
            Codec::Snappy => snappy::compress(bytes, out),
            Codec::Lz4 => lz4::compress(bytes, out),
            Codec::Zstd => {
                let range = zstd::compression_level_range();
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let packed = zstd::bulk::compress(bytes, level.clamp(*range.start(), *range.end()));
                // zstd's only refusals are a bad level and too small a buffer.
                out.extend_from_slice(&packed.expect("zstd compresses any bytes"));
            }
        }
    }

    /// Unpacks `bytes` to at most `limit` bytes; see [`Scratch::unpack`] for the reusable way.
    pub fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, Unpack> {
        let mut scratch = Scratch::default();
        self.unpack(bytes, limit, &mut scratch)?;
        Ok(scratch.out)
    }

    fn unpack(self, bytes: &[u8], limit: usize, scratch: &mut Scratch) -> Result<(), Unpack> {
        let out = &mut scratch.out;
        out.clear();
        match self {
            Codec::None if bytes.len() > limit => return Err(Unpack::TooLarge { limit }),
            Codec::None => out.extend_from_slice(bytes),
            Codec::Gzip => gunzip(bytes, limit, out)?,
            Codec::Snappy => snappy::decompress(bytes, limit, out)?,
            Codec::Lz4 => lz4::decompress(bytes, limit, out)?,
            Codec::Zstd => {
                // A context that met an error is not used again.
                let mut context = scratch.zstd.take().unwrap_or_else(DCtx::create);
                unzstd(&mut context, bytes, limit, out)?;
                scratch.zstd = (context.sizeof() <= KEPT_BYTES_MAX).then_some(context);
            }
        }
        Ok(())
    }
}

/// Buffers for unpacking, reused from batch to batch: one for each shard is enough. Keeps at most
/// a few MiB between uses.
#[derive(Default)]
pub struct Scratch {
    out: Vec<u8>,
    zstd: Option<DCtx<'static>>,
}

impl Scratch {
    /// Without buffers yet.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Unpacks `bytes` to at most `limit` bytes, which stay until the next call.
    ///
    /// Errors: `Malformed`, and `TooLarge` as soon as the output passes the limit.
    pub fn unpack(&mut self, codec: Codec, bytes: &[u8], limit: usize) -> Result<&[u8], Unpack> {
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        codec.unpack(bytes, limit, self)?;
        Ok(&self.out)
    }

    /// Gives back what an unusually large batch has left behind.
    pub fn shrink(&mut self) {
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
    }

    /// Bytes of memory that are kept for the next use.
    pub fn kept_bytes(&self) -> usize {
        self.out.capacity() + self.zstd.as_ref().map_or(0, DCtx::sizeof)
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch")
            .field("kept_bytes", &self.kept_bytes())
            .finish()
    }
}

fn gzip(bytes: &[u8], level: Option<i32>, out: &mut Vec<u8>) {
    let level = match level {
        Some(level @ 0..) => flate2::Compression::new(level.min(9) as u32),
        Some(_) | None => flate2::Compression::default(),
    };
    let mut encoder = GzEncoder::new(out, level);
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("writing to memory does not fail");
}

fn gunzip(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Unpack> {
    let bound = (limit as u64).saturating_add(1);
    let read = MultiGzDecoder::new(bytes).take(bound).read_to_end(out);
    if out.len() > limit {
        return Err(Unpack::TooLarge { limit });
    }
    read.map(|_| ()).map_err(|_| Unpack::Malformed)
}

/// One or more zstd frames. A frame may ask for a window of up to 128 MiB, as zstd's own default
/// allows and its highest levels do; the window is only touched as far as output comes out.
fn unzstd(
    context: &mut DCtx<'static>,
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unpack> {
    context
        .reset(ResetDirective::SessionOnly)
        .map_err(|_| Unpack::Malformed)?;
    // Room for the whole frame lets zstd write straight into it, without its window; but a
    // declared size is only believed while it is small.
    let declared = zstd::zstd_safe::get_frame_content_size(bytes)
        .ok()
        .flatten()
        .unwrap_or(0);
    let believed = usize::try_from(declared)
        .unwrap_or(usize::MAX)
        .min(KEPT_BYTES_MAX / 4);
    out.reserve(believed.min(limit));
    let mut input = InBuffer::around(bytes);
    loop {
        if out.len() == out.capacity() {
            out.reserve(ZSTD_STEP_BYTES.min(limit - out.len() + 1));
        }
        let position = out.len();
        let mut output = OutBuffer::around_pos(&mut *out, position);
        let more = context.decompress_stream(&mut output, &mut input);
        let more = more.map_err(|_| Unpack::Malformed)?;
        if out.len() > limit {
            return Err(Unpack::TooLarge { limit });
        }
        match (more == 0, input.pos() == bytes.len()) {
            (true, true) => return Ok(()),
            // The input ended within a frame, and nothing waits for room.
            (false, true) if out.len() < out.capacity() => return Err(Unpack::Malformed),
            (true, false) | (false, _) => {}
        }
    }
}
