//! The broker as its clients see it: a real process, real sockets, a real disk.
//!
//! | variable | what it counts | default |
//! |---|---|---|
//! | `CORELANE_KILLS` | rounds of `kill -9` under load | 5 |
//! | `CORELANE_SCANNED_PARTITIONS` | logs of one core that are written to evenly, then killed | 48 |
//! | `CORELANE_SCANNED_MIB` | what is written to all of them together, in MiB | 576 |
//! | `CORELANE_FUZZ_INPUTS` | hostile inputs | 20,000 |
//! | `CORELANE_PARTITIONS` | partitions on one node | 300 |
//! | `CORELANE_METADATA_CHANGES` | creations and deletions of topics | 2,000 |
//! | `CORELANE_METADATA_STARTS` | starts after them | 12 |
//! | `CORELANE_METADATA_BYTES` | bytes of metadata records between two snapshots | 60,000 |
//! | `CORELANE_PRODUCERS` | producers of 1 MiB at once, against a budget of `CORELANE_PRODUCERS_MEMORY_MIB` (128) | 400 |
//! | `CORELANE_HANG_SECONDS` | for how long a disk hangs | 4 |
//! | `CORELANE_LIVES` | times a topic is made and deleted under load | 12 |
//! | `CORELANE_CHURN_SECONDS` | for how long a log is shortened under its readers | 3 |
//! | `CORELANE_JUMPS` | rounds of four jumps of the clock | 4 |
//! | `CORELANE_STORM_GROUPS` | groups of two members each | 40 |
//! | `CORELANE_STORM_MEMBERS` | members of the group whose members come and go | 30 |
//! | `CORELANE_STORM_SECONDS` | for how long they do, and for how long each quiet stretch is measured | 3 |
//! | `CORELANE_STORM_HEARTBEAT_MS` | milliseconds between two heartbeats | 300 |
//! | `CORELANE_GROUP_KILLS` | rounds of `kill -9` under groups that commit | 4 |
//!
//! `CORELANE_BINARY` names another build of the broker than this one's; `CORELANE_STORM_BOOTSTRAP`
//! lets the storms go over a broker that runs already, such as Apache Kafka; `CORELANE_STORM_CORES`
//! is its `--cores`; with `CORELANE_STORM_YIELD` the crowd leaves the CPUs to the broker.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod churn;
mod clock_jumps;
mod compaction;
mod crowd;
mod damage;
mod durability;
mod exposition;
mod fetch;
mod frames;
mod full_disk;
mod fuzz;
mod golden;
mod group_kills;
mod groups;
mod idempotence;
mod jbod;
mod list_offsets;
mod many;
mod metadata;
mod metadata_log;
mod per_core;
mod pressure;
mod slow_consumers;
mod startup;
mod storms;
mod versions;
