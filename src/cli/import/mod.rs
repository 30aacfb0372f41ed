//! `corelane import`: a stopped Apache Kafka's log directory becomes a data directory.
//!
//! Kafka's files are never written to. Full segments are hard links where that is possible (nobody
//! writes into them any more, here or there); the last one of each partition is a copy, since
//! corelane goes on in it. Gaps that compaction left are filled with batches without records, in a
//! copy, as Kafka's own cleaner leaves them for producers: the chain of offsets shall hold. Records of
//! transactions that were aborted, or are still open, are left out, in a copy, in the same way.

mod aborted;
mod kafka;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failed;
use crate::base::{BrokerId, LeaderEpoch, Offset, ProducerId};
use crate::cluster::Record;
use crate::cluster::records::{NewPartition, UNASSIGNED_DIRECTORY};
use crate::log::{CHECKPOINT_NAME, repair, start_checkpoint};
use crate::node;
use crate::record::{BatchBuilder, Codec, stamp};
use crate::rt::sync_directory;
use crate::shard::METADATA_DIRECTORY;
use aborted::Aborted;
use kafka::{Found, Partition, Topic};

const EXAMPLES: &str = "\
Examples:
  corelane import --from /var/lib/kafka --data-dir /nvme/corelane
  corelane serve --data-dir /nvme/corelane --set node.id=3

Topics, their ids and configs, partitions, offsets, leader epochs and records are taken over; also
committed offsets. Records of aborted transactions, and of those in progress, are left out; their
offsets stay. Not taken over: ACLs, quotas, users. The configs of topics are found only where the
broker was a controller too. Run serve with Kafka's node.id.";

/// From where to where.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log directory of a stopped Apache Kafka (log.dirs)
    #[arg(long, value_name = "KAFKA_LOG_DIR")]
    from: PathBuf,

    /// The data directory to make: missing or empty
    #[arg(long, value_name = "DIR", default_value = crate::config::DATA_DIRECTORY_DEFAULT)]
    data_dir: PathBuf,

    /// Copy everything; otherwise full segments are hard links where the file system allows it
    #[arg(long)]
    copy: bool,

    /// Take a directory that Kafka did not leave by a clean shutdown
    #[arg(long)]
    unclean: bool,
}

#[derive(Debug, Default)]
struct Tally {
    partitions: usize,
    linked: usize,
    copied: usize,
    /// Transactions that were aborted, and that were in progress; counted in each partition.
    aborted: usize,
    open: usize,
    /// Batches whose records are left out for it.
    emptied: usize,
    /// Above every producer's id in the logs.
    next_producer: i64,
}

/// Makes the data directory.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let (from, to) = (&arguments.from, &arguments.data_dir);
    kafka::check(from, arguments.unclean).map_err(Failed::usage)?;
    let mut found = kafka::read(from).map_err(Failed::operation)?;
    fs::create_dir_all(to).map_err(|error| Failed::usage(format!("{}: {error}", to.display())))?;
    let mut tally = Tally::default();
    for (name, topic) in &found.topics {
        for partition in topic.partitions.values() {
            let take = || take_partition(name, topic, partition, to, arguments.copy);
            let taken = take().map_err(Failed::operation)?;
            tally.partitions += 1;
            tally.linked += taken.linked;
            tally.copied += taken.copied;
            tally.aborted += taken.aborted;
            tally.open += taken.open;
            tally.emptied += taken.emptied;
            tally.next_producer = tally.next_producer.max(taken.next_producer);
        }
    }
    found.next_producer = found.next_producer.max(ProducerId(tally.next_producer));
    write_metadata(&found, to).map_err(Failed::operation)?;
    // Last: until now it is a directory that nobody takes for a data directory.
    let cluster = (!found.cluster_id.is_empty()).then_some(found.cluster_id.as_str());
    node::make_directory_ours(to, BrokerId(found.node_id), cluster).map_err(Failed::operation)?;
    let mut out = std::io::stdout().lock();
    if tally.emptied > 0 {
        eprintln!(
            "corelane: left out: the records of {} aborted transactions and of {} in progress \
             (counted by partition, {} batches); their offsets stay",
            tally.aborted, tally.open, tally.emptied
        );
    }
    for line in &found.left_out {
        eprintln!("corelane: left out: {line}");
    }
    if !found.knows_configs {
        eprintln!(
            "corelane: there is no metadata log in {}: topics have default configs",
            from.display()
        );
    }
    writeln!(
        out,
        "{} topics, {} partitions: {} segments linked, {} copied\nnow: corelane serve --data-dir {} --set node.id={}",
        found.topics.len(),
        tally.partitions,
        tally.linked,
        tally.copied,
        to.display(),
        found.node_id
    )
    .map_err(Failed::output)
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

fn take_partition(
    name: &str,
    topic: &Topic,
    partition: &Partition,
    to: &Path,
    copy: bool,
) -> Result<Tally, String> {
    let directory = to.join(format!("{name}-{}", partition.index));
    fs::create_dir(&directory).map_err(failed(&directory))?;
    let transactions = Aborted::find(&partition.segments)?;
    let mut tally = Tally {
        aborted: transactions.aborted,
        open: transactions.open,
        next_producer: transactions.next_producer,
        ..Tally::default()
    };
    let mut epoch: Option<LeaderEpoch> = None;
    let mut segments = partition.segments.iter().peekable();
    while let Some((base, path)) = segments.next() {
        let target = directory.join(path.file_name().unwrap_or_default());
        let next = segments.peek().map(|(base, _)| **base);
        if topic.is_compacted(name) {
            let bytes = fs::read(path).map_err(failed(path))?;
            let mut filled = repair(&bytes, *base, epoch);
            if next.is_some() && !filled.lost.is_empty() {
                let at = filled.lost[0].bytes.start;
                return Err(format!("{} is damaged at byte {at}", path.display()));
            }
            filled.keep_offsets(next.unwrap_or(Offset(0)));
            epoch = filled.epoch;
            let (bytes, emptied) = transactions.without(&filled.bytes)?;
            write(&target, &bytes)?;
            tally.emptied += emptied;
            tally.copied += 1;
        } else if transactions.touches(*base) {
            let bytes = fs::read(path).map_err(failed(path))?;
            let (bytes, emptied) = transactions.without(&bytes)?;
            write(&target, &bytes)?;
            tally.emptied += emptied;
            tally.copied += 1;
        } else if next.is_some() && !copy && fs::hard_link(path, &target).is_ok() {
            tally.linked += 1;
        } else {
            fs::copy(path, &target).map_err(failed(path))?;
            sync(&target)?;
            tally.copied += 1;
        }
    }
    let metadata = format!("version: 0\ntopic_id: {}\n", topic.id);
    write(&directory.join("partition.metadata"), metadata.as_bytes())?;
    let first = partition
        .segments
        .keys()
        .next()
        .copied()
        .unwrap_or_default();
    if partition.start > first {
        let contents = start_checkpoint(partition.start, first);
        write(&directory.join(CHECKPOINT_NAME), &contents)?;
    }
    sync_directory(&directory).map_err(failed(&directory))?;
    Ok(tally)
}

/// The records that make the cluster: one batch for each topic, as the controller would write them.
///
/// New producers get ids that none of Kafka's had: the logs still know those, and would take the
/// first batches of a new producer with such an id for repetitions, and drop them.
fn write_metadata(found: &Found, to: &Path) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut next = Offset(0);
    let topics = found.topics.iter();
    let mut batches: Vec<Vec<Record>> = topics
        .map(|(name, topic)| records_of(found, name, topic))
        .collect();
    if found.next_producer > ProducerId(0) {
        batches.push(vec![Record::ProducerIds {
            broker: BrokerId(found.node_id),
            broker_epoch: -1,
            next: found.next_producer,
        }]);
    }
    for records in batches {
        let mut batch = BatchBuilder::new(Codec::None);
        for record in records {
            batch.append(0, None, Some(&record.encode()), &[]);
        }
        let count = i64::from(batch.record_count());
        let mut batch = batch.finish();
        stamp(&mut batch, next, LeaderEpoch(1));
        next = next.plus(count);
        bytes.extend_from_slice(&batch);
    }
    let directory = to.join(METADATA_DIRECTORY);
    fs::create_dir(&directory).map_err(failed(&directory))?;
    if !bytes.is_empty() {
        write(&directory.join("00000000000000000000.log"), &bytes)?;
    }
    sync_directory(&directory).map_err(failed(&directory))?;
    sync_directory(to).map_err(failed(to))
}

fn records_of(found: &Found, name: &str, topic: &Topic) -> Vec<Record> {
    let broker = BrokerId(found.node_id);
    let mut records = vec![Record::Topic {
        name: name.to_owned(),
        id: topic.id,
    }];
    records.extend(topic.partitions.values().map(|partition| {
        Record::Partition(NewPartition {
            // A new leader, a new term: clients that still know Kafka's are told so.
            leader_epoch: LeaderEpoch(partition.epoch.0 + 1),
            directories: vec![UNASSIGNED_DIRECTORY],
            ..NewPartition::on(broker, topic.id, partition.index)
        })
    }));
    records.extend(topic.configs.iter().map(|(key, value)| Record::Config {
        resource_type: 2,
        resource_name: name.to_owned(),
        name: key.clone(),
        value: Some(value.clone()),
    }));
    records
}

fn write(path: &Path, contents: &[u8]) -> Result<(), String> {
    let written = fs::File::create_new(path).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    written.map_err(failed(path))
}

fn sync(path: &Path) -> Result<(), String> {
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(failed(path))
}
