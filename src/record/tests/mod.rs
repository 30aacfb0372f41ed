//! The room's cases: format, codecs, rules, and inputs from a seed.

mod format;
mod fuzz;
mod rules;

use crate::base::Wall;

use super::{BatchBuilder, Codec};

/// The time in all cases, in milliseconds.
const NOW: Wall = Wall(1_700_000_000_000);

/// A batch of `count` records with keys, values of `value_bytes` bytes and one header.
fn batch_of(codec: Codec, count: usize, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    let value: Vec<u8> = (0..value_bytes).map(|n| (n * 31 % 251) as u8).collect();
    for index in 0..count {
        let key = format!("key-{index}");
        let timestamp = NOW.0 + index as i64;
        builder.append(
            timestamp,
            Some(key.as_bytes()),
            Some(&value),
            &[(b"h", Some(b"v"))],
        );
    }
    builder.finish()
}
