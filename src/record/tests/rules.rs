//! What a produced batch must be, and what becomes of it.

use std::borrow::Cow;

use crate::base::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::{NOW, batch_of};
use crate::record::header::seal;
use crate::record::{
    Batch, BatchBuilder, BatchError, Codec, Compression, EndTransactionMarker, HEADER_BYTES,
    Invalid, InvalidKind, Origin, RECORD_ERRORS_MAX, RecordRefusal, Rules, Scratch, TimestampType,
    Valid, validate, verify,
};

const LIMIT: usize = 8 << 20;

fn check<'a>(batch: &'a [u8], rules: &Rules) -> Result<Valid<'a>, Invalid> {
    let valid = validate(batch, rules, NOW, &mut Scratch::new());
    if let Ok(valid) = &valid {
        assert_eq!(
            verify(&valid.batch),
            Ok(valid.header),
            "what comes out must be whole"
        );
    }
    valid
}

fn refused(batch: &[u8], rules: &Rules) -> Invalid {
    check(batch, rules).expect_err("a refusal")
}

/// `batch` with `bytes` at `at`, and a right CRC.
fn patched(batch: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch
}

/// Offset, timestamp, key and value of a record.
type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn rows(batch: &[u8]) -> Vec<Row> {
    let mut scratch = Scratch::new();
    let records = Batch::parse(batch)
        .and_then(|b| b.records(&mut scratch, LIMIT))
        .expect("ok");
    let records = records.map(|record| record.expect("a record"));
    records
        .map(|r| {
            (
                r.offset.0,
                r.timestamp,
                r.key.map(<[u8]>::to_vec),
                r.value.map(<[u8]>::to_vec),
            )
        })
        .collect()
}

#[test]
fn a_good_batch_of_every_codec_comes_back_borrowed_and_untouched() {
    for codec in Codec::ALL {
        let batch = batch_of(codec, 10, 100);
        let valid = check(&batch, &Rules::default()).expect("valid");
        assert!(matches!(valid.batch, Cow::Borrowed(bytes) if bytes == &batch[..]));
        assert_eq!(
            (valid.log_append_time_ms, valid.header.record_count),
            (-1, 10)
        );
    }
}

#[test]
fn a_request_holds_exactly_one_batch_of_format_2() {
    let rules = Rules::default();
    let batch = batch_of(Codec::None, 2, 10);
    let version = rules.produce_version;
    assert_eq!(refused(b"", &rules), Invalid::NoBatch { version });
    assert_eq!(
        refused(&batch[..batch.len() - 1], &rules),
        Invalid::NoBatch { version }
    );
    let two = [&batch[..], &batch[..]].concat();
    assert_eq!(refused(&two, &rules), Invalid::MoreThanOneBatch { version });
    assert_eq!(refused(&two, &rules).kind(), InvalidKind::InvalidRecord);
    // A second batch that is cut off is dropped.
    let valid = check(&two[..two.len() - 1], &rules).expect("valid");
    assert_eq!(&valid.batch[..], &batch[..]);
    for magic in [0, 1] {
        let old = patched(&batch, 16, &[magic as u8]);
        assert_eq!(refused(&old, &rules), Invalid::Magic { magic, version });
        assert_eq!(refused(&old, &rules).kind(), InvalidKind::InvalidRecord);
    }
    let new = patched(&batch, 16, &[3]);
    assert_eq!(refused(&new, &rules).kind(), InvalidKind::CorruptMessage);
    for length in [i32::MIN, 0, 13, 48] {
        let short = patched(&batch, 8, &length.to_be_bytes());
        let error = refused(&short, &rules);
        assert_eq!(
            error,
            Invalid::Batch(BatchError::Length {
                batch_length: length
            })
        );
        assert_eq!(error.kind().code(), 2);
    }
}

#[test]
fn zstd_needs_a_request_of_version_7_from_clients() {
    let batch = batch_of(Codec::Zstd, 2, 10);
    let old = Rules {
        produce_version: 6,
        ..Rules::default()
    };
    assert_eq!(refused(&batch, &old), Invalid::ZstdTooEarly { version: 6 });
    assert_eq!(refused(&batch, &old).kind().code(), 76);
    assert!(
        check(
            &batch,
            &Rules {
                produce_version: 7,
                ..old
            }
        )
        .is_ok()
    );
    assert!(
        check(
            &batch,
            &Rules {
                origin: Origin::Coordinator,
                ..old
            }
        )
        .is_ok()
    );
    let unknown = patched(&batch, 21, &5i16.to_be_bytes());
    assert_eq!(refused(&unknown, &old).kind().code(), 76);
}

#[test]
fn a_clients_header_is_held_to_its_rules() {
    let rules = Rules::default();
    let batch = batch_of(Codec::None, 2, 10);
    let patch = |at: usize, bytes: &[u8]| patched(&batch, at, bytes);
    let cases: [(Vec<u8>, Invalid); 7] = [
        (
            patch(0, &5i64.to_be_bytes()),
            Invalid::BaseOffset { base_offset: 5 },
        ),
        (
            patch(23, &(-1i32).to_be_bytes()),
            Invalid::OffsetRange { first: 0, last: -1 },
        ),
        (patch(57, &0i32.to_be_bytes()), Invalid::Count { count: 0 }),
        (
            patch(57, &(-2i32).to_be_bytes()),
            Invalid::Count { count: -2 },
        ),
        (
            patch(57, &3i32.to_be_bytes()),
            Invalid::CountMismatch {
                first: 0,
                last: 1,
                count: 3,
            },
        ),
        (patch(21, &0x20i16.to_be_bytes()), Invalid::Control),
        (
            patch(43, &7i64.to_be_bytes()),
            Invalid::Sequence {
                base_sequence: -1,
                producer_id: 7,
            },
        ),
    ];
    for (bytes, wanted) in cases {
        let error = refused(&bytes, &rules);
        assert_eq!(error, wanted);
        assert_eq!(error.kind().code(), 87);
    }
    let mut flipped = batch.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    assert_eq!(
        refused(&flipped, &rules).kind(),
        InvalidKind::CorruptMessage
    );
    let full = BatchError::Record {
        index: 2,
        fault: crate::record::RecordFault::Missing,
    };
    let more = patched(
        &patched(&batch, 57, &3i32.to_be_bytes()),
        23,
        &2i32.to_be_bytes(),
    );
    assert_eq!(refused(&more, &rules), Invalid::Batch(full));
}

#[test]
fn the_broker_itself_may_write_control_batches_and_they_are_not_compressed() {
    let marker = EndTransactionMarker {
        committed: true,
        coordinator_epoch: 1,
    };
    let batch = marker.batch(ProducerId(3), ProducerEpoch(0), NOW.0);
    assert_eq!(refused(&batch, &Rules::default()), Invalid::Control);
    let compression = Compression::Codec {
        codec: Codec::Zstd,
        level: None,
    };
    let rules = Rules {
        origin: Origin::Coordinator,
        compression,
        ..Rules::default()
    };
    assert!(matches!(
        check(&batch, &rules).expect("valid").batch,
        Cow::Borrowed(_)
    ));
}

#[test]
fn sizes_are_checked_as_sent_and_as_stored() {
    let batch = batch_of(Codec::Gzip, 100, 100);
    let size = batch.len();
    let rules = Rules {
        max_message_bytes: size - 1,
        ..Rules::default()
    };
    let error = refused(&batch, &rules);
    assert_eq!(
        error,
        Invalid::TooLarge {
            size,
            limit: size - 1,
            recompressed: false
        }
    );
    assert_eq!(error.kind().code(), 10);
    let rules = Rules {
        max_message_bytes: size,
        ..rules
    };
    assert!(check(&batch, &rules).is_ok());
    // Small enough as sent, too large when stored uncompressed.
    let rules = Rules {
        compression: Compression::Uncompressed,
        ..rules
    };
    assert!(matches!(
        refused(&batch, &rules),
        Invalid::TooLarge {
            recompressed: true,
            ..
        }
    ));
    let rules = Rules {
        segment_bytes: size - 1,
        ..Rules::default()
    };
    let error = refused(&batch, &rules);
    assert_eq!(
        error,
        Invalid::LargerThanSegment {
            size,
            limit: size - 1
        }
    );
    assert_eq!(error.kind().code(), 18);
}

#[test]
fn timestamps_are_held_to_the_bounds_and_minus_one_passes() {
    let rules = Rules {
        timestamp_before_max_ms: 1000,
        timestamp_after_max_ms: 500,
        ..Rules::default()
    };
    let of = |timestamps: &[i64]| {
        let mut builder = BatchBuilder::new(Codec::Lz4);
        timestamps
            .iter()
            .for_each(|timestamp| builder.append(*timestamp, None, None, &[]));
        builder.finish()
    };
    assert!(check(&of(&[NOW.0 - 1000, NOW.0 + 500, -1]), &rules).is_ok());
    let bad = of(&[NOW.0, NOW.0 - 1001, NOW.0, NOW.0 + 501]);
    let error = refused(&bad, &rules);
    let indexes: Vec<i32> = error
        .record_errors()
        .iter()
        .map(|(index, _)| *index)
        .collect();
    assert_eq!((indexes, error.kind().code()), (vec![1, 3], 32));
    assert_eq!(
        error.record_errors()[0].1.to_string(),
        "Timestamp 1699999998999 of message with offset 1 is out of range. \
         The timestamp should be within [1699999999000, 1700000000500]"
    );
    assert_eq!(
        error.to_string(),
        "One or more records have been rejected due to invalid timestamp"
    );
    let unbounded = Rules {
        timestamp_after_max_ms: i64::MAX,
        ..Rules::default()
    };
    assert!(check(&of(&[i64::MIN, i64::MAX, 0]), &unbounded).is_ok());
    // With append times the producer's do not matter.
    let append = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..rules
    };
    assert!(check(&bad, &append).is_ok());
}

#[test]
fn append_time_is_set_in_the_header_and_sealed_again() {
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..Rules::default()
    };
    for codec in Codec::ALL {
        let batch = batch_of(codec, 3, 10);
        let valid = check(&batch, &rules).expect("valid");
        assert_eq!(valid.log_append_time_ms, NOW.0);
        assert_eq!(valid.header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(
            (valid.header.max_timestamp, valid.batch.len()),
            (NOW.0, batch.len())
        );
        assert_eq!(valid.batch[HEADER_BYTES..], batch[HEADER_BYTES..]);
        assert!(rows(&valid.batch).iter().all(|row| row.1 == NOW.0));
    }
}

#[test]
fn a_client_may_not_claim_append_time_whatever_the_topic_says() {
    let mut builder = BatchBuilder::new(Codec::None).log_append_time(NOW.0);
    builder.append(NOW.0, Some(b"k"), None, &[]);
    let batch = builder.finish();
    for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
        let error = refused(
            &batch,
            &Rules {
                timestamp_type,
                ..Rules::default()
            },
        );
        assert_eq!(error.kind().code(), 32);
        assert_eq!(
            error.record_errors(),
            [(0, RecordRefusal::ClaimsLogAppendTime)]
        );
    }
}

#[test]
fn a_wrong_max_timestamp_in_the_header_is_put_right() {
    for codec in Codec::ALL {
        let batch = batch_of(codec, 3, 10);
        let wrong = patched(&batch, 35, &9i64.to_be_bytes());
        let valid = check(&wrong, &Rules::default()).expect("valid");
        assert_eq!(&valid.batch[..], &batch[..]);
    }
}

#[test]
fn a_compacted_topic_names_every_record_without_a_key() {
    let rules = Rules {
        compacted: true,
        ..Rules::default()
    };
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec);
        for index in 0..6 {
            let key = (index % 2 == 0).then_some(&b""[..]);
            builder.append(NOW.0, key, None, &[]);
        }
        let error = refused(&builder.finish(), &rules);
        assert_eq!(error.kind().code(), 87);
        let null = RecordRefusal::NullKey;
        assert_eq!(error.record_errors(), [(1, null), (3, null), (5, null)]);
        let text = error.to_string();
        assert!(text.starts_with(
            "One or more records have been rejected due to 3 record errors in total, and only \
             showing the first three errors at most: [RecordError(batchIndex=1, message='Compacted \
             topic cannot accept message without key'), "
        ));
    }
}

#[test]
fn refused_records_are_listed_up_to_a_bound_and_counted_beyond() {
    let mut builder = BatchBuilder::new(Codec::None);
    (0..RECORD_ERRORS_MAX + 5).for_each(|_| builder.append(NOW.0, None, None, &[]));
    let batch = builder.finish();
    let Invalid::Records(errors) = refused(
        &batch,
        &Rules {
            compacted: true,
            ..Rules::default()
        },
    ) else {
        panic!("records are refused");
    };
    assert_eq!(
        (errors.list().len(), errors.total()),
        (RECORD_ERRORS_MAX, 1005)
    );
}

#[test]
fn wrong_offset_deltas_are_rewritten_not_refused() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec)
            .producer(ProducerId(4), ProducerEpoch(1), Sequence(8))
            .transactional(true)
            .last_offset(Offset(9));
        for index in [0, 4, 9] {
            builder.append_at(
                Offset(index),
                NOW.0 - index,
                None,
                Some(b"v"),
                &[(b"h", None)],
            );
        }
        let wrong = patched(&builder.finish(), 23, &2i32.to_be_bytes());
        let valid = check(&wrong, &Rules::default()).expect("valid");
        let offsets: Vec<_> = rows(&valid.batch)
            .iter()
            .map(|row| (row.0, row.1))
            .collect();
        assert_eq!(offsets, [(0, NOW.0), (1, NOW.0 - 4), (2, NOW.0 - 9)]);
        let header = valid.header;
        assert_eq!(
            (header.codec(), header.is_transactional()),
            (Ok(codec), true)
        );
        assert_eq!(
            (header.producer_id, header.base_sequence),
            (ProducerId(4), Sequence(8))
        );
    }
}

#[test]
fn a_topics_codec_replaces_the_producers_and_the_same_codec_is_left_alone() {
    for sent in Codec::ALL {
        let batch = batch_of(sent, 20, 200);
        for stored in Codec::ALL {
            for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
                let compression = match stored {
                    Codec::None => Compression::Uncompressed,
                    codec => Compression::Codec {
                        codec,
                        level: Some(9),
                    },
                };
                let rules = Rules {
                    compression,
                    timestamp_type,
                    ..Rules::default()
                };
                let valid = check(&batch, &rules).expect("valid");
                assert_eq!(valid.header.codec(), Ok(stored));
                assert_eq!(valid.header.timestamp_type(), timestamp_type);
                let strip = |rows: Vec<Row>| -> Vec<_> {
                    rows.into_iter()
                        .map(|(offset, _, key, value)| (offset, key, value))
                        .collect()
                };
                assert_eq!(strip(rows(&valid.batch)), strip(rows(&batch)));
                let create = timestamp_type == TimestampType::CreateTime;
                let borrowed = matches!(valid.batch, Cow::Borrowed(_));
                assert_eq!(borrowed, create && sent == stored);
            }
        }
    }
}

#[test]
fn records_that_unpack_to_too_much_are_too_large_and_garbage_is_no_record() {
    let bomb = batch_of(Codec::Zstd, 1, 2 << 20);
    let rules = Rules {
        decompressed_bytes_max: 1 << 20,
        ..Rules::default()
    };
    let error = refused(&bomb, &rules);
    assert_eq!(
        error,
        Invalid::Batch(BatchError::DecompressedTooLarge { limit: 1 << 20 })
    );
    assert_eq!(error.kind().code(), 10);
    let good = batch_of(Codec::None, 2, 10);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let garbage = patched(&good, 21, &(codec as i16).to_be_bytes());
        let error = refused(&garbage, &Rules::default());
        assert_eq!(error.kind().code(), 87, "{codec:?}");
    }
}
