//! Bytes in and out.

use crate::base::{LeaderEpoch, Offset, Prng, ProducerEpoch, ProducerId, Sequence};

use super::{NOW, batch_of};
use crate::record::{
    Batch, BatchBuilder, BatchError, BatchHeader, Batches, Codec, ControlKind,
    EndTransactionMarker, HEADER_BYTES, RecordFault, Scratch, TimestampType, Unpack,
    find_timestamp, offset_of_timestamp_max, stamp, verify,
};

const LIMIT: usize = 8 << 20;

/// One record, owned: offset, timestamp, key, value, headers.
type Row = (
    i64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

/// Key, value and headers of a record to be written.
type Content<'a> = (
    Option<&'a [u8]>,
    Option<&'a [u8]>,
    &'a [(&'a [u8], Option<&'a [u8]>)],
);

fn rows(batch: &[u8]) -> Result<Vec<Row>, BatchError> {
    let mut scratch = Scratch::new();
    let records = Batch::parse(batch)?.records(&mut scratch, LIMIT)?;
    let row = |record: Result<crate::record::Record, _>| {
        record.map(|r: crate::record::Record| {
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let headers = r
                .headers
                .map(|(key, value)| (key.to_vec(), owned(value)))
                .collect();
            (
                r.offset.0,
                r.timestamp,
                owned(r.key),
                owned(r.value),
                headers,
            )
        })
    };
    records.map(row).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |d: u8| (d as char).to_digit(16).expect("a digit") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// CRC-32C bit by bit, so that the golden batch does not rest on the crate that made it.
fn crc_by_hand(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Two records by the drawing in `DefaultRecord`: ("k" -> "v", header a=null) and
/// (null -> empty, 5 ms later).
const GOLDEN: &str = "
    0000000000000000 00000044 ffffffff 02 CCCCCCCC 0010 00000001
    00000000000003e8 00000000000003ed 0000000000000007 0003 00000009 00000002
    16 00 00 00 02 6b 02 76 02 02 61 01
    0c 00 0a 02 01 00 00";

#[test]
fn golden_batch_is_written_byte_for_byte_as_the_format_says() {
    let text = GOLDEN.replace("CCCCCCCC", "00000000");
    let mut golden = hex(&text);
    let crc = crc_by_hand(&golden[21..]);
    golden[17..21].copy_from_slice(&crc.to_be_bytes());
    let mut builder = BatchBuilder::new(Codec::None)
        .producer(ProducerId(7), ProducerEpoch(3), Sequence(9))
        .transactional(true);
    builder.append(1000, Some(b"k"), Some(b"v"), &[(b"a", None)]);
    builder.append(1005, None, Some(b""), &[]);
    assert_eq!(builder.finish(), golden);
    let header = verify(&golden).expect("a good batch");
    assert_eq!((header.size(), header.crc), (golden.len(), crc));
    assert_eq!(header.last_sequence(), Sequence(10));
    assert!(header.is_transactional() && !header.is_control() && header.has_producer_id());
    let first = (
        0,
        1000,
        Some(b"k".to_vec()),
        Some(b"v".to_vec()),
        vec![(b"a".to_vec(), None)],
    );
    let second = (1, 1005, None, Some(vec![]), vec![]);
    assert_eq!(rows(&golden), Ok(vec![first, second]));
}

#[test]
fn every_codec_gives_back_every_kind_of_record() {
    let mut large = vec![0; 900 << 10];
    Prng::new(1).fill(&mut large[..300 << 10]);
    let repeated: &[(&[u8], Option<&[u8]>)] = &[
        (b"h", Some(b"1")),
        (b"h", None),
        (b"", Some(b"")),
        (b"h", Some(b"1")),
    ];
    let kinds: [Content; 6] = [
        (None, Some(b"null key"), &[]),
        (Some(b"null value"), None, &[]),
        (Some(b""), Some(b""), &[]),
        (None, None, repeated),
        (Some(b"large"), Some(&large), repeated),
        (Some(b"after"), Some(b"large"), &[]),
    ];
    for codec in Codec::ALL {
        let mut all = BatchBuilder::new(codec);
        let mut wanted = Vec::new();
        for (index, (key, value, headers)) in kinds.iter().enumerate() {
            // Deltas of more than 32 bits, forwards and back.
            let timestamp = if index % 2 == 0 { NOW.0 } else { 5 };
            all.append(timestamp, *key, *value, headers);
            let owned = |bytes: &Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let headers = headers
                .iter()
                .map(|(k, v)| (k.to_vec(), owned(v)))
                .collect();
            wanted.push((index as i64, timestamp, owned(key), owned(value), headers));
        }
        let batch = all.finish();
        let header = verify(&batch).expect("a good batch");
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!(
            (header.base_timestamp, header.max_timestamp),
            (NOW.0, NOW.0)
        );
        assert_eq!(rows(&batch), Ok(wanted), "{codec:?}");
    }
}

#[test]
fn levels_outside_a_codecs_scale_are_brought_inside() {
    let bytes = batch_of(Codec::None, 50, 100);
    for codec in Codec::ALL {
        for level in [i32::MIN, -1, 0, 1, 9, 22, i32::MAX] {
            let mut packed = Vec::new();
            codec.compress(&bytes, Some(level), &mut packed);
            assert_eq!(codec.decompress(&packed, bytes.len()).as_ref(), Ok(&bytes));
        }
    }
}

#[test]
fn snappy_is_read_raw_framed_and_joined() {
    let bytes = batch_of(Codec::None, 600, 100);
    let raw = snap::raw::Encoder::new()
        .compress_vec(&bytes)
        .expect("snappy");
    assert_eq!(Codec::Snappy.decompress(&raw, LIMIT).as_ref(), Ok(&bytes));
    let mut framed = Vec::new();
    Codec::Snappy.compress(&bytes, None, &mut framed);
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(
        Codec::Snappy.decompress(&framed, LIMIT).as_ref(),
        Ok(&bytes)
    );
    let joined = [&framed[..], &framed[..]].concat();
    assert_eq!(
        Codec::Snappy.decompress(&joined, LIMIT),
        Ok([&bytes[..], &bytes[..]].concat())
    );
    assert_eq!(
        Codec::Snappy.decompress(&framed[..100], LIMIT),
        Err(Unpack::Malformed)
    );
}

#[test]
fn a_decompression_bomb_is_an_error_at_the_limit_and_leaves_no_memory() {
    let zeros = vec![0; 48 << 20];
    let mut scratch = Scratch::new();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut bomb = Vec::new();
        codec.compress(&zeros, None, &mut bomb);
        for limit in [0, 1, 1000, 100_000, zeros.len() - 1] {
            assert_eq!(
                scratch.unpack(codec, &bomb, limit),
                Err(Unpack::TooLarge { limit }),
                "{codec:?} {limit}"
            );
        }
        assert_eq!(
            scratch.unpack(codec, &bomb, zeros.len()).map(<[u8]>::len),
            Ok(zeros.len())
        );
        scratch.shrink();
        assert!(
            scratch.kept_bytes() <= 8 << 20,
            "{codec:?} keeps {}",
            scratch.kept_bytes()
        );
    }
}

#[test]
fn a_small_input_that_declares_a_large_size_gets_no_memory() {
    // Raw snappy of "4 GiB - 1", and a zstd frame that declares 1 EiB.
    let mut scratch = Scratch::new();
    let snappy = hex("ff ff ff ff 0f 00 41");
    assert_eq!(
        scratch.unpack(Codec::Snappy, &snappy, LIMIT),
        Err(Unpack::Malformed)
    );
    let zstd = hex("28 b5 2f fd c0 58 00 00 00 00 00 00 00 10 09 00 00 41");
    assert!(scratch.unpack(Codec::Zstd, &zstd, LIMIT).is_err());
    assert!(scratch.kept_bytes() < 2 << 20, "{}", scratch.kept_bytes());
}

#[test]
fn a_compressed_section_that_is_cut_off_is_malformed() {
    let bytes = batch_of(Codec::None, 100, 100);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut packed = Vec::new();
        codec.compress(&bytes, None, &mut packed);
        for cut in [packed.len() / 2, packed.len() - 1] {
            assert_eq!(
                codec.decompress(&packed[..cut], LIMIT),
                Err(Unpack::Malformed)
            );
        }
    }
}

#[test]
fn stamping_offset_and_epoch_leaves_the_checksum_right() {
    let mut batch = batch_of(Codec::Lz4, 3, 10);
    stamp(&mut batch, Offset(77), LeaderEpoch(4));
    let header = verify(&batch).expect("the checksum does not cover them");
    assert_eq!(
        (header.base_offset, header.last_offset()),
        (Offset(77), Offset(79))
    );
    assert_eq!(header.leader_epoch, LeaderEpoch(4));
    assert_eq!(rows(&batch).map(|rows| rows[2].0), Ok(79));
}

#[test]
fn one_flipped_bit_anywhere_in_the_protected_part_is_noticed() {
    let batch = batch_of(Codec::None, 2, 20);
    for bit in 17 * 8..batch.len() * 8 {
        let mut flipped = batch.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(
            matches!(verify(&flipped), Err(BatchError::Crc { .. })),
            "bit {bit}"
        );
    }
}

#[test]
fn batches_end_at_the_first_one_that_is_cut_off_or_damaged() {
    let (first, second) = (batch_of(Codec::None, 2, 20), batch_of(Codec::Zstd, 5, 20));
    let both = [&first[..], &second[..]].concat();
    let sizes = |bytes: &[u8]| -> Vec<Result<usize, BatchError>> {
        Batches::new(bytes)
            .map(|batch| batch.map(|batch| batch.bytes.len()))
            .collect()
    };
    assert_eq!(sizes(&both), [Ok(first.len()), Ok(second.len())]);
    let cut = both.len() - 1;
    let incomplete = BatchError::Incomplete {
        have: second.len() - 1,
        need: second.len(),
    };
    assert_eq!(sizes(&both[..cut]), [Ok(first.len()), Err(incomplete)]);
    let incomplete = BatchError::Incomplete {
        have: 7,
        need: HEADER_BYTES,
    };
    assert_eq!(
        sizes(&both[..first.len() + 7]),
        [Ok(first.len()), Err(incomplete)]
    );
    let mut damaged = both.clone();
    damaged[first.len() + 16] = 1;
    assert_eq!(
        sizes(&damaged),
        [Ok(first.len()), Err(BatchError::Magic(1))]
    );
    damaged[16] = 2;
    damaged[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(
        sizes(&damaged),
        [Err(BatchError::Length { batch_length: 48 })]
    );
    let mut batches = Batches::new(&both[..cut]);
    assert!(batches.next().is_some_and(|batch| batch.is_ok()));
    assert!(batches.next().is_some_and(|batch| batch.is_err()));
    assert_eq!(
        (batches.next().is_none(), batches.position()),
        (true, first.len())
    );
}

#[test]
fn records_fewer_or_more_than_declared_are_an_error() {
    let mut batch = batch_of(Codec::None, 3, 10);
    batch[57..61].copy_from_slice(&4i32.to_be_bytes());
    let missing = BatchError::Record {
        index: 3,
        fault: RecordFault::Missing,
    };
    assert_eq!(rows(&batch), Err(missing));
    batch[57..61].copy_from_slice(&2i32.to_be_bytes());
    let bytes = (batch.len() - HEADER_BYTES) / 3;
    let remaining = BatchError::Record {
        index: 2,
        fault: RecordFault::Remaining { bytes },
    };
    assert_eq!(rows(&batch), Err(remaining));
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(rows(&batch), Err(missing));
}

#[test]
fn records_of_wrong_structure_are_named() {
    let record = |body: &str| -> Result<Vec<Row>, BatchError> {
        let body = hex(body);
        let mut batch = batch_of(Codec::None, 1, 1)[..HEADER_BYTES].to_vec();
        batch.extend_from_slice(&body);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        rows(&batch)
    };
    let fault = |fault| Err(BatchError::Record { index: 0, fault });
    assert!(record("0c 00 00 00 01 01 00").is_ok());
    assert_eq!(record("0e 00 00 00 01 01 00"), fault(RecordFault::Overrun));
    assert_eq!(
        record("01 00 00 00 01 01 00"),
        fault(RecordFault::Size {
            declared: -1,
            read: 0
        })
    );
    assert_eq!(
        record("0e 00 00 00 01 01 00 ff"),
        fault(RecordFault::Size {
            declared: 7,
            read: 6
        })
    );
    assert_eq!(
        record("0c 00 00 00 01 01 01"),
        fault(RecordFault::HeaderCount(-1))
    );
    assert_eq!(
        record("0c 00 00 00 01 01 02"),
        fault(RecordFault::HeaderCount(1))
    );
    assert_eq!(
        record("10 00 00 00 01 01 02 01 00"),
        fault(RecordFault::HeaderKey(-1))
    );
    assert_eq!(record("0c 00 00 00 7e 01 00"), fault(RecordFault::Overrun));
    assert_eq!(
        record("0e 00 ff ff ff ff ff ff"),
        fault(RecordFault::Overrun)
    );
}

#[test]
fn compaction_keeps_offsets_sequences_and_flags_though_records_go() {
    let mut builder = BatchBuilder::new(Codec::Zstd)
        .base_offset(Offset(100))
        .leader_epoch(LeaderEpoch(2))
        .producer(ProducerId(5), ProducerEpoch(1), Sequence(40))
        .transactional(true);
    for index in 0..10 {
        builder.append(
            NOW.0 + index,
            Some(&[index as u8]),
            Some(b"value"),
            &[(b"h", None)],
        );
    }
    let original = builder.finish();
    let header = verify(&original).expect("a good batch");
    let mut kept = BatchBuilder::rebuild(&header)
        .expect("a codec")
        .delete_horizon(NOW.0 + 86_400);
    let mut scratch = Scratch::new();
    for record in Batch::parse(&original)
        .and_then(|b| b.records(&mut scratch, LIMIT))
        .expect("ok")
    {
        let record = record.expect("a record");
        if record.offset.0 % 3 == 1 {
            kept.append_record(&record);
        }
    }
    let kept = kept.finish();
    let after = verify(&kept).expect("a good batch");
    let same = |h: &BatchHeader| {
        (
            h.base_offset,
            h.last_offset(),
            h.leader_epoch,
            h.base_sequence,
            h.last_sequence(),
        )
    };
    assert_eq!(same(&after), same(&header));
    assert_eq!(
        (after.producer_id, after.producer_epoch),
        (ProducerId(5), ProducerEpoch(1))
    );
    assert_eq!(
        (after.record_count, after.delete_horizon()),
        (4, Some(NOW.0 + 86_400))
    );
    assert!(after.is_transactional());
    let offsets_and_times: Vec<_> = rows(&kept)
        .expect("ok")
        .iter()
        .map(|r| (r.0, r.1))
        .collect();
    let wanted = [
        (100, NOW.0),
        (103, NOW.0 + 3),
        (106, NOW.0 + 6),
        (109, NOW.0 + 9),
    ];
    assert_eq!(offsets_and_times, wanted);
}

#[test]
fn an_emptied_batch_still_tells_its_producers_last_sequence() {
    let mut builder = BatchBuilder::new(Codec::Gzip).producer(
        ProducerId(5),
        ProducerEpoch(1),
        Sequence(i32::MAX),
    );
    builder.append(NOW.0, None, None, &[]);
    builder.append(NOW.0 + 9, None, None, &[]);
    let header = verify(&builder.finish()).expect("a good batch");
    let empty = BatchBuilder::rebuild(&header).expect("a codec").finish();
    let after = verify(&empty).expect("a good batch");
    assert_eq!(
        (empty.len(), after.record_count, after.last_offset()),
        (61, 0, Offset(1))
    );
    assert_eq!(
        (after.last_sequence(), after.max_timestamp),
        (Sequence(0), NOW.0 + 9)
    );
    assert_eq!((after.base_timestamp, after.codec()), (-1, Ok(Codec::None)));
    assert_eq!(rows(&empty), Ok(vec![]));
}

#[test]
fn records_of_an_append_time_batch_all_have_the_append_time() {
    let mut builder = BatchBuilder::new(Codec::None).log_append_time(NOW.0);
    builder.append(3, None, None, &[]);
    builder.append(NOW.0 + 50, None, None, &[]);
    let batch = builder.finish();
    let header = verify(&batch).expect("a good batch");
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((header.base_timestamp, header.max_timestamp), (3, NOW.0));
    let times: Vec<i64> = rows(&batch).expect("ok").iter().map(|row| row.1).collect();
    assert_eq!(times, [NOW.0, NOW.0]);
}

#[test]
fn timestamp_lookup_takes_the_first_in_offset_order() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec).base_offset(Offset(10));
        for timestamp in [50, 20, 70, 40, 70] {
            builder.append(timestamp, None, None, &[]);
        }
        let (batch, mut scratch) = (builder.finish(), Scratch::new());
        let mut find = |target, from| {
            find_timestamp(&batch, target, Offset(from), &mut scratch, LIMIT).expect("ok")
        };
        assert_eq!(find(30, 0), Some((Offset(10), 50)));
        assert_eq!(find(51, 0), Some((Offset(12), 70)));
        assert_eq!(find(30, 13), Some((Offset(13), 40)));
        assert_eq!((find(71, 0), find(0, 15)), (None, None));
        let largest = offset_of_timestamp_max(&batch, &mut scratch, LIMIT);
        assert_eq!(largest, Ok(Some((Offset(12), 70))));
    }
}

#[test]
fn transaction_markers_read_back_and_unknown_kinds_are_ignored() {
    for committed in [true, false] {
        let marker = EndTransactionMarker {
            committed,
            coordinator_epoch: 12,
        };
        let batch = marker.batch(ProducerId(9), ProducerEpoch(2), NOW.0);
        let header = verify(&batch).expect("a good batch");
        assert!(header.is_control() && header.is_transactional());
        assert_eq!(
            (header.producer_id, header.base_sequence),
            (ProducerId(9), Sequence(-1))
        );
        let mut scratch = Scratch::new();
        let mut records = Batch::parse(&batch)
            .and_then(|b| b.records(&mut scratch, 0))
            .expect("ok");
        let record = records.next().expect("one").expect("good");
        assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 12][..]));
        assert_eq!(EndTransactionMarker::decode(&record), Some(marker));
    }
    for id in -1..9 {
        let kind = ControlKind::from_id(id);
        assert_eq!(
            (kind.id(), ControlKind::decode_key(Some(&kind.encode_key()))),
            (id, Some(kind))
        );
    }
    assert_eq!(ControlKind::decode_key(Some(&[0, 0, 0])), None);
    assert_eq!(ControlKind::decode_key(Some(&[0xff, 0, 0, 0])), None);
    assert_eq!(
        ControlKind::decode_key(Some(&[0, 1, 0, 1, 9])),
        Some(ControlKind::Commit)
    );
}
