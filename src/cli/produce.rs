//! `corelane produce`: lines of standard input become records.

use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::Failed;
use super::client::{Acks, Producer, ProducerSettings};
use super::connect::Broker;
use super::format::{Header, Item, Layout, parse_header};
use super::progress::Progress;
use crate::base::PartitionIndex;
use crate::record::Codec;
use crate::rt::{clock, limits};

const EXAMPLES: &str = "\
Examples:
  echo hello | corelane produce orders
  printf 'alice\\tone\\nbob\\ttwo\\n' | corelane produce orders --keys
  corelane produce orders --keys --separator : --null NULL < changes.txt
  corelane produce orders --header source=cli --compression zstd < big.log
  corelane consume old --format json | corelane produce new --format json

A record with a key goes to the partition where Kafka's clients put that key. With --format json a
line may name its partition and timestamp itself; its offset is not used.";

/// Chunks of lines that may wait between the reader and the sender.
const CHUNKS_MAX: usize = 16;
/// The longest line, in bytes: no broker takes more in one batch.
const LINE_BYTES_MAX: usize = 1 << 30;

/// What records are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

/// What to write, and how.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The topic
    topic: String,

    #[command(flatten)]
    layout: Layout,

    /// A header for every record; repeat it for more
    #[arg(long = "header", value_name = "NAME=VALUE", help_heading = "Lines")]
    headers: Vec<String>,

    /// Write to this partition only
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// Compress batches
    #[arg(
        short = 'z',
        long,
        value_enum,
        default_value = "none",
        value_name = "CODEC"
    )]
    compression: Compression,

    /// The compression level, on the codec's own scale
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    compression_level: Option<i32>,

    /// A record counts as written when it was sent (0), when the leader has it (1), or when all
    /// in-sync replicas have it (all)
    #[arg(long, value_enum, default_value = "all", value_name = "WHEN")]
    acks: Wanted,

    /// Wait so many milliseconds for more records before a batch that is not full is sent
    #[arg(long, value_name = "MS", default_value = "5")]
    linger: u64,

    /// Send a batch when it has so many bytes before compression
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "262144",
        value_parser = clap::value_parser!(u32).range(1..=1 << 28)
    )]
    batch_bytes: u32,

    /// Do without a producer id: a retry after a lost answer may write a batch twice
    #[arg(long)]
    no_idempotence: bool,

    #[command(flatten)]
    broker: Broker,
}

type Lines = io::Result<Vec<Vec<u8>>>;

/// Writes everything that comes in.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let settings = ProducerSettings {
        acks: match arguments.acks {
            Wanted::None => Acks::None,
            Wanted::Leader => Acks::Leader,
            Wanted::All => Acks::All,
        },
        codec: match arguments.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        level: arguments.compression_level,
        batch_bytes: arguments.batch_bytes as usize,
        idempotent: !arguments.no_idempotence,
    };
    let start = usize::from(u16::from_le_bytes(limits::random()));
    let client = arguments.broker.client();
    let producer = Producer::new(client, &arguments.topic, settings, start)?;
    if let Some(partition) = arguments
        .partition
        .filter(|partition| !producer.has(*partition))
    {
        return Err(Failed::operation(format!(
            "{} has no partition {partition}: see `corelane topic describe {}`",
            arguments.topic, arguments.topic
        )));
    }
    let (sender, chunks) = mpsc::sync_channel(CHUNKS_MAX);
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_lines(&sender))
        .map_err(Failed::operation)?;
    let headers = arguments.headers.iter();
    let sending = Sending {
        arguments,
        headers: headers
            .map(|header| parse_header(header.as_bytes()))
            .collect(),
        producer,
        progress: Progress::new("written", !io::stdin().is_terminal()),
        line: 0,
    };
    sending.run(&chunks)
}

/// Reads lines on a thread of its own, so that lingering works while nothing comes. What has come
/// goes on at once.
fn read_lines(sender: &SyncSender<Lines>) {
    let mut input = BufReader::with_capacity(256 << 10, io::stdin().lock());
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => break,
            Ok(LINE_BYTES_MAX) => {
                let _ = sender.send(Err(io::Error::other("a line of 1 GiB or more")));
                return;
            }
            Ok(_) => {}
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(line);
        if input.buffer().is_empty() && sender.send(Ok(std::mem::take(&mut lines))).is_err() {
            return;
        }
    }
    let _ = sender.send(Ok(lines));
}

struct Sending<'a> {
    arguments: &'a Arguments,
    headers: Vec<Header>,
    producer: Producer,
    progress: Progress,
    line: u64,
}

impl Sending<'_> {
    fn run(mut self, chunks: &Receiver<Lines>) -> Result<(), Failed> {
        let linger = Duration::from_millis(self.arguments.linger);
        loop {
            let deadline = self.producer.waiting_since().map(|since| since + linger);
            if deadline.is_some_and(|at| at <= Instant::now()) {
                self.producer.flush()?;
                continue;
            }
            let received = match deadline {
                None => chunks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => chunks.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match received {
                Ok(Ok(lines)) => {
                    for line in lines {
                        if let Err(failed) = self.take(&line) {
                            // What came before the bad line is written all the same.
                            self.producer.flush()?;
                            return Err(failed);
                        }
                    }
                }
                Ok(Err(error)) => {
                    self.producer.flush()?;
                    return Err(Failed::operation(format!("standard input: {error}")));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.producer.flush()?;
        self.progress.finish();
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Failed> {
        self.line += 1;
        let item = self.arguments.layout.parse(line);
        let item = item.map_err(|why| Failed::operation(format!("line {}: {why}", self.line)))?;
        self.append(&item)?;
        self.progress.add(1, line.len() as u64);
        Ok(())
    }

    fn append(&mut self, item: &Item) -> Result<(), Failed> {
        let partition = self.arguments.partition.or(item.partition);
        if let Some(partition) = partition.filter(|partition| !self.producer.has(*partition)) {
            let line = self.line;
            return Err(Failed::operation(format!(
                "line {line}: no partition {partition}"
            )));
        }
        let headers: Vec<_> = item
            .headers
            .iter()
            .chain(&self.headers)
            .map(|(name, value)| (&name[..], value.as_deref()))
            .collect();
        let timestamp = item.timestamp.unwrap_or_else(|| clock::now().wall.0);
        self.producer.append(
            partition.map(PartitionIndex),
            timestamp,
            (item.key.as_deref(), item.value.as_deref()),
            &headers,
        )?;
        Ok(())
    }
}
