//! Real client libraries against a broker: librdkafka, Java, franz-go, confluent-kafka, kafka-python,
//! aiokafka, kafkajs, `@platformatic/kafka`, sarama, kafka-go, kcat, and Apache Kafka's own tools.
//!
//! ```text
//! cargo test --features interop --test interop                          everything
//! cargo test --features interop --test interop interop_produce_consume  3 writers, all readers, 5 codecs
//! cargo test --features interop --test interop interop_groups           groups: members come and go
//! cargo test --features interop --test interop interop_kills           groups under kill -9 of the broker
//! cargo test --features interop --test interop interop_tools            Kafka's command-line tools
//! cargo test --features interop --test interop interop_compaction       Kafka's test of compaction
//! cargo test --features interop --test interop interop_import           a directory that Apache Kafka wrote
//! ```
//!
//! The clients are fetched by name from their registries into `target/interop` by the first run.
//! A runtime that is missing fails the test and says so; nothing is skipped.
//!
//! | variable | meaning |
//! |---|---|
//! | `CORELANE_INTEROP_AGAINST=kafka` | Apache Kafka instead of corelane: the suites hold themselves to the yardstick |
//! | `CORELANE_INTEROP_BOOTSTRAP=HOST:PORT` | a broker that runs already |
//! | `CORELANE_BINARY=PATH` | another build of corelane than this one's, such as a release |
//! | `CORELANE_INTEROP_WRITERS=java,librdkafka` | only these writers |
//! | `CORELANE_INTEROP_RECORDS=200000` | how many records flow through each group |
//! | `CORELANE_INTEROP_KILLS=20` | how often the broker is killed under each group |
//! | `CORELANE_INTEROP_DEBUG=cgrp,protocol` | what librdkafka's members tell in `target/interop/logs` |
//! | `CORELANE_INTEROP_TRANSCRIPT=1` | with `--nocapture`: what Kafka's tools say about Apache Kafka |
#![cfg(feature = "interop")]

mod broker;
mod clients;
mod compaction;
mod diary;
mod group_kills;
mod groups;
mod import;
mod librdkafka;
mod produce_consume;
mod records;
mod tools;
