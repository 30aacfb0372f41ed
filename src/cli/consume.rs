//! `corelane consume`: records become lines of standard output.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;

use super::Failed;
use super::client::{Client, ClientError, Fetched, Position, Topic};
use super::connect::Broker;
use super::format::{Format, Item, Layout};
use super::progress::Progress;
use super::start::Start;
use crate::base::{Offset, PartitionIndex};
use crate::protocol::ErrorCode;
use crate::record::{Batch, BatchError, Batches, Scratch};

const EXAMPLES: &str = "\
Examples:
  corelane consume orders                       all there is, then end
  corelane consume orders --from latest --follow
  corelane consume orders --from -10 --keys     the last ten of each partition
  corelane consume orders --from 2026-01-31T09:00:00Z --count 100
  corelane consume orders --partition 2 --from 4711 --format json

Order holds within a partition. Without --follow, reading ends with the last record that was there
when it began. Null keys and values are written as nothing, or as the word of --null.";

/// How long a fetch waits at a leader for something new.
const WAIT: Duration = Duration::from_millis(500);
/// The most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// What to read, and how to show it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The topic
    topic: String,

    /// Where to begin: earliest, latest, an offset, the last so many (-10) of each partition, or a
    /// time (2026-01-31T09:00:00Z, or @MILLISECONDS since 1970)
    #[arg(
        long,
        value_name = "START",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    from: Start,

    /// Go on reading what comes
    #[arg(short, long)]
    follow: bool,

    /// Read these partitions only: 0, or 0,3
    #[arg(
        short,
        long,
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    partition: Vec<i32>,

    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,

    /// Begin each line with partition, offset and timestamp (json has them in any case)
    #[arg(long, help_heading = "Lines")]
    offsets: bool,

    #[command(flatten)]
    layout: Layout,

    #[command(flatten)]
    broker: Broker,
}

/// Reads until the end, or for ever.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let mut client = arguments.broker.client();
    let topic = client.retrying(|client| client.topic(&arguments.topic))?;
    let partitions = chosen(&topic, &arguments.partition)?;
    let (starts, ends) = client.retrying(|client| {
        let topic = client.topic(&arguments.topic)?;
        bounds(client, &topic, &partitions, arguments.from)
    })?;
    let reading = Reading {
        arguments,
        client,
        topic,
        positions: starts,
        ends: (!arguments.follow).then_some(ends),
        progress: Progress::new("read", !io::stdout().is_terminal()),
        scratch: Scratch::default(),
        lines: Vec::new(),
    };
    reading.run()
}

fn chosen(topic: &Topic, wanted: &[i32]) -> Result<Vec<PartitionIndex>, Failed> {
    let all = topic.partitions.iter().map(|partition| partition.index);
    if wanted.is_empty() {
        return Ok(all.collect());
    }
    let all: Vec<_> = all.collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|index| !all.contains(&PartitionIndex(**index)))
    {
        return Err(Failed::operation(format!(
            "{} has no partition {unknown}: it has {}, counted from 0",
            topic.name,
            all.len()
        )));
    }
    Ok(wanted.iter().copied().map(PartitionIndex).collect())
}

type Offsets = BTreeMap<PartitionIndex, Offset>;

/// Where to begin and where the end is, of each partition.
fn bounds(
    client: &mut Client,
    topic: &Topic,
    partitions: &[PartitionIndex],
    from: Start,
) -> Result<(Offsets, Offsets), ClientError> {
    let ends = client.offsets(topic, partitions, -1)?;
    let starts = match from {
        Start::Latest => ends.clone(),
        Start::Earliest => client.offsets(topic, partitions, -2)?,
        Start::Time(time) => {
            let mut found = client.offsets(topic, partitions, time)?;
            // Nothing is that late: what comes is.
            for (partition, offset) in &mut found {
                *offset = if offset.0 < 0 {
                    ends[partition]
                } else {
                    *offset
                };
            }
            found
        }
        Start::Last(count) => {
            let firsts = client.offsets(topic, partitions, -2)?;
            let last = |(partition, end): (&PartitionIndex, &Offset)| {
                let first = firsts.get(partition).copied().unwrap_or(Offset(0));
                (*partition, Offset((end.0 - count).max(first.0)))
            };
            ends.iter().map(last).collect()
        }
        Start::Offset(offset) => {
            let firsts = client.offsets(topic, partitions, -2)?;
            for (partition, end) in &ends {
                let first = firsts.get(partition).copied().unwrap_or(Offset(0));
                if offset < first.0 || offset > end.0 {
                    let what = format!("--from {offset}");
                    let range = format!("{}-{partition} has offsets {first} to {end}", topic.name);
                    let error = ErrorCode::OffsetOutOfRange;
                    return Err(ClientError::refused(what, error, Some(&range)));
                }
            }
            partitions
                .iter()
                .map(|partition| (*partition, Offset(offset)))
                .collect()
        }
    };
    Ok((starts, ends))
}

struct Reading<'a> {
    arguments: &'a Arguments,
    client: Client,
    topic: Topic,
    /// Where to read on.
    positions: Offsets,
    /// Where to stop; none to go on for ever.
    ends: Option<Offsets>,
    progress: Progress,
    scratch: Scratch,
    lines: Vec<u8>,
}

impl Reading<'_> {
    fn run(mut self) -> Result<(), Failed> {
        let mut out = io::stdout().lock();
        while !self.is_counted() {
            let wanted = self.wanted();
            if wanted.is_empty() {
                break;
            }
            let fetched = self.fetch(&wanted)?;
            let mut taken = Ok(());
            for part in fetched {
                taken = taken.and_then(|()| self.take(&part));
            }
            // What was read before a fault is shown all the same.
            out.write_all(&self.lines).map_err(Failed::output)?;
            out.flush().map_err(Failed::output)?;
            self.lines.clear();
            taken?;
        }
        self.progress.finish();
        Ok(())
    }

    fn is_counted(&self) -> bool {
        let count = self.arguments.count;
        count.is_some_and(|count| self.progress.records() >= count)
    }

    /// The partitions that are not at their end.
    fn wanted(&self) -> Vec<Position> {
        let positions = self.positions.iter();
        let positions = positions.filter(|(partition, offset)| match &self.ends {
            None => true,
            Some(ends) => ends.get(partition).is_some_and(|end| *offset < end),
        });
        positions
            .map(|(partition, offset)| Position {
                partition: *partition,
                offset: *offset,
            })
            .collect()
    }

    fn fetch(&mut self, wanted: &[Position]) -> Result<Vec<Fetched>, ClientError> {
        let topic = &mut self.topic;
        let mut again = false;
        self.client.retrying(|client| {
            if std::mem::replace(&mut again, true) {
                *topic = client.topic(&topic.name)?;
            }
            client.fetch(topic, wanted, WAIT)
        })
    }

    fn take(&mut self, part: &Fetched) -> Result<(), Failed> {
        for bytes in &part.records {
            for batch in Batches::new(bytes) {
                match batch {
                    Ok(batch) => self.take_batch(part.partition, &batch)?,
                    // The broker cut the last one: it comes whole with the next fetch.
                    Err(BatchError::Incomplete { .. }) => break,
                    Err(error) => return Err(self.unreadable(part.partition, error)),
                }
                if self.is_counted() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, partition: PartitionIndex, batch: &Batch) -> Result<(), Failed> {
        let next = batch.header.last_offset().plus(1);
        let from = self.positions.get(&partition).copied().unwrap_or(Offset(0));
        if next <= from {
            return Ok(());
        }
        batch
            .verify()
            .map_err(|error| self.unreadable(partition, error))?;
        if !batch.header.is_control() {
            let mut scratch = std::mem::take(&mut self.scratch);
            let shown = self.show(partition, batch, from, &mut scratch);
            self.scratch = scratch;
            shown.map_err(|error| self.unreadable(partition, error))?;
        }
        self.positions.insert(partition, next);
        Ok(())
    }

    fn show(
        &mut self,
        partition: PartitionIndex,
        batch: &Batch,
        from: Offset,
        scratch: &mut Scratch,
    ) -> Result<(), BatchError> {
        for record in batch.records(scratch, UNPACKED_BYTES_MAX)? {
            let record = record?;
            let ended = self.ends.as_ref().and_then(|ends| ends.get(&partition));
            if self.is_counted() || ended.is_some_and(|end| record.offset >= *end) {
                break;
            }
            if record.offset < from {
                continue;
            }
            let headers = record.headers;
            let item = Item {
                partition: Some(partition.0),
                offset: Some(record.offset.0),
                timestamp: Some(record.timestamp),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers
                    .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                    .collect(),
            };
            let before = self.lines.len();
            if self.arguments.offsets && self.arguments.layout.format != Format::Json {
                let place = format!("{partition}\t{}\t{}\t", record.offset, record.timestamp);
                self.lines.extend_from_slice(place.as_bytes());
            }
            self.arguments.layout.write(&item, &mut self.lines);
            self.progress.add(1, (self.lines.len() - before) as u64);
        }
        Ok(())
    }

    fn unreadable(&self, partition: PartitionIndex, error: BatchError) -> Failed {
        let at = self.positions.get(&partition).copied().unwrap_or(Offset(0));
        Failed::operation(format!(
            "{}-{partition} cannot be read from offset {at} on: {error}",
            self.topic.name
        ))
    }
}
