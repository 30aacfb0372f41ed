//! Inputs from a seed: no panic, no memory beyond the limit, and what passes is whole.

use crate::base::{Offset, Prng, ProducerEpoch, ProducerId, Sequence};

use super::{NOW, batch_of};
use crate::record::header::{HEADER_BYTES, seal};
use crate::record::{
    BatchBuilder, Batches, Codec, Compression, Origin, Rules, Scratch, TimestampType,
    find_timestamp, offset_of_timestamp_max, validate, verify,
};

const LIMIT: usize = 64 << 10;
const SEED: u64 = 0x636f_7265_6c61_6e65;

fn inputs() -> usize {
    let asked = std::env::var("CORELANE_FUZZ_INPUTS").ok();
    asked
        .and_then(|count| count.parse().ok())
        .unwrap_or(200_000)
}

fn valid_batches() -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for codec in Codec::ALL {
        batches.push(batch_of(codec, 1, 0));
        batches.push(batch_of(codec, 7, 30));
        let mut builder = BatchBuilder::new(codec)
            .producer(ProducerId(1), ProducerEpoch(0), Sequence(3))
            .transactional(true);
        for index in 0..5 {
            let value = vec![index as u8; 200];
            builder.append(
                index,
                None,
                Some(&value),
                &[(b"h", None), (b"h", Some(&value[..9]))],
            );
        }
        batches.push(builder.finish());
    }
    batches
}

/// A handful of changes anywhere: bits, bytes, edges of integers, cuts, repeats.
fn mutate(random: &mut Prng, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len() as u64;
        // As often within the records as within header and records.
        let lowest = if random.one_in(2) {
            length.min(HEADER_BYTES as u64)
        } else {
            0
        };
        let at = (lowest + random.below((length - lowest).max(1))).min(length - 1) as usize;
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next_u64() as u8,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.next_u64() as u8),
            5 => drop(bytes.remove(at)),
            _ => {
                let edge = [0, -1, i32::MAX, i32::MIN, 1 << 24][random.below(5) as usize];
                for (byte, new) in bytes[at..].iter_mut().zip(edge.to_be_bytes()) {
                    *byte = new;
                }
            }
        }
    }
}

/// Makes length and CRC right again, so that the input gets past them.
fn mend(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        seal(bytes);
    }
}

fn rules(random: &mut Prng) -> Rules {
    let codec = Codec::ALL[random.below(5) as usize];
    Rules {
        timestamp_type: match random.one_in(3) {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: if random.one_in(8) { 1000 } else { i64::MAX },
        // Recompression is the slow part, and needs only a share of the inputs.
        compression: match (random.below(64), codec) {
            (0, Codec::None) | (1, _) => Compression::Uncompressed,
            (0, codec) => Compression::Codec {
                codec,
                level: Some(1),
            },
            _ => Compression::Producer,
        },
        compacted: random.one_in(3),
        produce_version: 3 + random.below(10) as i16,
        origin: if random.one_in(3) {
            Origin::Coordinator
        } else {
            Origin::Client
        },
        decompressed_bytes_max: LIMIT,
        ..Rules::default()
    }
}

/// Everything that reads a stranger's bytes.
fn read_all(bytes: &[u8], random: &mut Prng, scratch: &mut Scratch) {
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { break };
        let Ok(records) = batch.records(scratch, LIMIT) else {
            continue;
        };
        for record in records.flatten() {
            let bytes = record
                .headers
                .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
            assert!(bytes.sum::<usize>() <= LIMIT);
        }
    }
    let _ = find_timestamp(bytes, random.next_u64() as i64, Offset(0), scratch, LIMIT);
    let _ = offset_of_timestamp_max(bytes, scratch, LIMIT);
}

fn check(bytes: &[u8], random: &mut Prng, scratch: &mut Scratch) -> bool {
    let Ok(valid) = validate(bytes, &rules(random), NOW, scratch) else {
        return false;
    };
    assert_eq!(verify(&valid.batch), Ok(valid.header));
    true
}

#[test]
fn no_mutation_of_a_batch_makes_it_panic_or_take_memory() {
    let (mut random, mut scratch) = (Prng::new(SEED), Scratch::new());
    let (batches, mut passed) = (valid_batches(), 0);
    for round in 0..inputs() {
        let mut bytes = batches[random.below(batches.len() as u64) as usize].clone();
        mutate(&mut random, &mut bytes);
        if !random.one_in(4) {
            mend(&mut bytes);
        }
        if round % 4 == 0 {
            read_all(&bytes, &mut random, &mut scratch);
        } else {
            passed += usize::from(check(&bytes, &mut random, &mut scratch));
        }
        assert!(scratch.kept_bytes() <= 8 << 20, "round {round}");
    }
    assert!(
        passed > inputs() / 200,
        "{passed} of {} inputs passed: too few",
        inputs()
    );
}

#[test]
fn no_garbage_makes_it_panic_or_take_memory() {
    let (mut random, mut scratch) = (Prng::new(SEED ^ 1), Scratch::new());
    for round in 0..inputs() / 4 {
        let mut bytes = vec![0; random.below(300) as usize];
        random.fill(&mut bytes);
        if random.one_in(2) {
            mend(&mut bytes);
        }
        read_all(&bytes, &mut random, &mut scratch);
        check(&bytes, &mut random, &mut scratch);
        let codec = Codec::ALL[random.below(5) as usize];
        if let Ok(unpacked) = scratch.unpack(codec, &bytes, LIMIT) {
            assert!(unpacked.len() <= LIMIT);
        }
        assert!(scratch.kept_bytes() <= 8 << 20, "round {round}");
    }
}
