//! The broker as a whole against the machine it runs on: durable produce against `fio`, fetches from
//! memory and from the disk against a bare sendfile loop, all in one run, interleaved.
//!
//! `cargo bench --bench whole` runs everything; `-- produce`, `-- fetch` (or one of its
//! sources, `-- fetch memory`, `cached`, `disk`), `-- catch-up`, `-- routing` a part;
//! `-- large` and `-- small` only the broker's side of `produce`, for a profiler beside it;
//! `-- cleaner` a tail writer beside it; `-- partitions` small batches to many partitions. The broker has CPU 0, this process CPU 1.
//! `CORELANE_BENCH_SECONDS` (default 4) is the length of a measurement, `CORELANE_BENCH_ROUNDS`
//! (default 3) how often each is taken; medians are printed. `CORELANE_BENCH_BROKERS`, paths with a
//! comma between, has `large`, `small` and `partitions` measure these programs in turn.

#[path = "whole/catch_up.rs"]
mod catch_up;
#[path = "whole/fetch.rs"]
mod fetch;
#[path = "whole/routing.rs"]
mod routing;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelane::base::PartitionIndex;
use corelane::bench::fetches::{FETCH, RECORDS_PER_BATCH, batch, fetch_frame};
use corelane::protocol::header::parse_response_header;
use corelane::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use corelane::protocol::messages::{CreateTopicsRequest, StrBytes, TopicName, encode_request};
use corelane::protocol::produce::{PartitionData, ProduceRequest, ProduceResponse, TopicData};
use corelane::protocol::{ApiKey, TopicRef};
use corelane::record::{BatchBuilder, Codec};
use hdrhistogram::Histogram;

const PRODUCE: i16 = 9;
const RECORD_BYTES: usize = 1024;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A broker of our own, killed when it is dropped.
struct Broker {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    directory: PathBuf,
}

impl Broker {
    fn start(name: &str, cores: &str, extra: &[&str]) -> Broker {
        Broker::start_program(env!("CARGO_BIN_EXE_corelane"), name, cores, extra)
    }

    fn start_program(program: &str, name: &str, cores: &str, extra: &[&str]) -> Broker {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("whole-{name}"));
        let _ = std::fs::remove_dir_all(&directory);
        Broker::run(program, directory, cores, extra)
    }

    fn start_in(directory: PathBuf, cores: &str, extra: &[&str]) -> Broker {
        Broker::run(env!("CARGO_BIN_EXE_corelane"), directory, cores, extra)
    }

    fn run(program: &str, directory: PathBuf, cores: &str, extra: &[&str]) -> Broker {
        // The broker inherits what this thread may run on.
        pin(&[0, 1]);
        let mut child = Command::new(program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--cores",
                cores,
            ])
            .arg("--data-dir")
            .arg(&directory)
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        pin(&[1]);
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let ready = lines.next().expect("a line").expect("readable");
        let address = |name: &str| -> SocketAddr {
            let mut words = ready.split_whitespace();
            let address = words.find_map(|word| word.strip_prefix(name));
            address.expect("an address").parse().expect("an address")
        };
        Broker {
            child,
            address: address("kafka="),
            admin: address("admin="),
            directory,
        }
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("a running broker");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<f64>().unwrap_or(0.0))
            .sum();
        ticks / 100.0
    }

    fn create(&self, topic: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        self.create_topic(topic);
    }

    /// A compacted topic of one partition.
    fn create_compacted(&self, topic: &str) {
        let policy = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("cleanup.policy"))
            .with_value(Some(StrBytes::from_static_str("compact")));
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(vec![policy]);
        self.create_topic(topic);
    }

    fn create_topic(&self, topic: CreatableTopic) {
        let topics = vec![topic];
        let request = CreateTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(10_000);
        let frame = encode_request(5, 1, &StrBytes::from_static_str("bench"), &request);
        let mut client = Client::connect(self.address);
        client.send(&frame.expect("a request"));
        client.receive();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a broker");
        stream.set_nodelay(true).expect("an option");
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).expect("a broker that reads");
    }

    /// Receives a whole frame, without its length.
    fn receive(&mut self) -> &[u8] {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).expect("a reply");
        self.buffer.resize(u32::from_be_bytes(size) as usize, 0);
        self.stream
            .read_exact(&mut self.buffer)
            .expect("a whole reply");
        &self.buffer
    }
}

fn small_batch() -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    batch.append(
        1_700_000_000_000,
        None,
        Some(&vec![b'x'; RECORD_BYTES]),
        &[],
    );
    Bytes::from(batch.finish())
}

fn produce_frame(topic: &str, partition: i32, records: &Bytes) -> Bytes {
    let partitions = vec![PartitionData {
        index: PartitionIndex(partition),
        records: Some(records.clone()),
    }];
    let topic = TopicRef::Name(StrBytes::from_string(topic.to_owned()));
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![TopicData { topic, partitions }],
    }
    .frame(PRODUCE, 1, &StrBytes::from_static_str("bench"))
}

struct Produced {
    megabytes_a_second: f64,
    requests_a_second: f64,
    latency: Histogram<u64>,
    cpu_seconds_a_gigabyte: f64,
}

/// Keeps `in_flight` requests under way on each of `connections` connections. One thread: the
/// replies come in order on each, so a round robin of receive and send keeps all of them busy.
fn produce(
    broker: &Broker,
    topic: &str,
    partitions: i32,
    records: &Bytes,
    connections: usize,
    in_flight: usize,
) -> Produced {
    let seconds = Duration::from_secs(setting("CORELANE_BENCH_SECONDS", 4));
    let frames: Vec<Bytes> = (0..partitions)
        .map(|partition| produce_frame(topic, partition, records))
        .collect();
    let mut frames = frames.iter().cycle();
    let mut clients: Vec<Client> = (0..connections)
        .map(|_| Client::connect(broker.address))
        .collect();
    let mut sent: Vec<std::collections::VecDeque<Instant>> = vec![Default::default(); connections];
    for (index, client) in clients.iter_mut().enumerate() {
        for _ in 0..in_flight {
            sent[index].push_back(Instant::now());
            client.send(frames.next().expect("an endless row"));
        }
    }
    let mut latency = Histogram::new(3).expect("a histogram");
    let begin = Instant::now();
    let warm = begin + Duration::from_millis(500);
    let mut measured_from = None;
    let mut count = 0u64;
    let mut cpu = 0.0;
    loop {
        let now = Instant::now();
        if measured_from.is_none() && now >= warm {
            measured_from = Some(now);
            cpu = broker.cpu_seconds();
        }
        if now >= warm + seconds {
            break;
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let reply = Bytes::copy_from_slice(client.receive());
            let (_, body) =
                parse_response_header(&reply, ApiKey::Produce, PRODUCE).expect("a header");
            let reply = ProduceResponse::decode(&body, PRODUCE).expect("a reply");
            let error = reply.topics[0].partitions[0].error;
            assert!(error.is_none(), "{error}");
            let took = sent[index]
                .pop_front()
                .expect("a request in flight")
                .elapsed();
            if measured_from.is_some() {
                count += 1;
                let _ = latency.record(took.as_nanos() as u64);
            }
            sent[index].push_back(Instant::now());
            client.send(frames.next().expect("an endless row"));
        }
    }
    let took = measured_from
        .expect("a measurement")
        .elapsed()
        .as_secs_f64();
    let bytes = count as f64 * records.len() as f64;
    Produced {
        megabytes_a_second: bytes / took / 1e6,
        requests_a_second: count as f64 / took,
        latency,
        cpu_seconds_a_gigabyte: (broker.cpu_seconds() - cpu) / (bytes / 1e9),
    }
}

/// What `fio` reaches with sequential durable O_DIRECT writes on the same file system, MB/s.
fn fio(block_bytes: u64, depth: u64) -> Option<f64> {
    if !corelane::bench::fio::is_there() {
        return None;
    }
    let seconds = setting("CORELANE_BENCH_SECONDS", 4);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let written =
        corelane::bench::fio::durable_writes(directory, (block_bytes, depth), seconds, "0");
    Some(written.expect("fio's result"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(0.0, f64::max);
    format!("{:.0} ({min:.0}..{max:.0})", median(values.to_vec()))
}

fn produce_against_fio() {
    let rounds = setting("CORELANE_BENCH_ROUNDS", 3);
    let records = batch();
    println!(
        "durable produce, {} KiB batches of 1 KiB records, one partition, one core",
        records.len() >> 10
    );
    let names = [
        "corelane",
        "fio 64k depth 1",
        "fio 64k depth 16",
        "fio 1m depth 1",
    ];
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let mut last = None;
    for _ in 0..rounds {
        let broker = Broker::start("produce", "0-0", &[]);
        broker.create("p", 1);
        let produced = produce(&broker, "p", 1, &records, 8, 5);
        all[0].push(produced.megabytes_a_second);
        last = Some(produced);
        let fios = [(64 << 10, 1), (64 << 10, 16), (1 << 20, 1)];
        for (place, (block_bytes, depth)) in fios.into_iter().enumerate() {
            all[place + 1].extend(fio(block_bytes, depth));
        }
    }
    for (name, values) in names.iter().zip(&all) {
        if values.is_empty() {
            println!("  {name:<18} not measured: `fio` is not installed");
        } else {
            let ratio = median(all[0].clone()) / median(values.clone());
            println!(
                "  {name:<18} {:>22} MB/s   corelane is {ratio:.2} of it",
                spread(values)
            );
        }
    }
    if let Some(produced) = last {
        print_latency(
            "  latency at saturation (8 x 5 in flight)",
            &produced.latency,
        );
        println!("  broker CPU {:.2} s a GB", produced.cpu_seconds_a_gigabyte);
    }
    let broker = Broker::start("produce-1", "0-0", &[]);
    broker.create("p", 1);
    for (connections, in_flight) in [(1, 1), (8, 1), (8, 5)] {
        let produced = produce(&broker, "p", 1, &small_batch(), connections, in_flight);
        let name = format!(
            "  one 1 KiB record a request, {connections} x {in_flight} in flight: {:.0} requests/s",
            produced.requests_a_second
        );
        print_latency(&name, &produced.latency);
    }
}

/// The programs to compare: this build, or those that were named.
fn programs() -> Vec<String> {
    match std::env::var("CORELANE_BENCH_BROKERS") {
        Ok(list) => list.split(',').map(str::to_owned).collect(),
        Err(_) => vec![env!("CARGO_BIN_EXE_corelane").to_owned()],
    }
}

/// Each program in turn, so often as there are rounds; prints medians with their spread.
fn compare(title: &str, measure: impl Fn(&str) -> Produced) {
    println!("{title}");
    let programs = programs();
    let mut all: Vec<Vec<Produced>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..setting("CORELANE_BENCH_ROUNDS", 3) {
        for (program, results) in programs.iter().zip(&mut all) {
            results.push(measure(program));
        }
    }
    for (program, results) in programs.iter().zip(&all) {
        let name = program.rsplit('/').next().unwrap_or(program);
        let of =
            |value: &dyn Fn(&Produced) -> f64| -> Vec<f64> { results.iter().map(value).collect() };
        let micros = |quantile: f64| {
            median(of(&|one| {
                one.latency.value_at_quantile(quantile) as f64 / 1e3
            }))
        };
        println!(
            "  {name:<12} {} MB/s, {} requests/s, broker CPU {:.2} s a GB, {:.1} us a request, \
             p50 {:.0} us, p99 {:.0} us",
            spread(&of(&|one| one.megabytes_a_second)),
            spread(&of(&|one| one.requests_a_second)),
            median(of(&|one| one.cpu_seconds_a_gigabyte)),
            median(of(&|one| {
                one.cpu_seconds_a_gigabyte * one.megabytes_a_second / one.requests_a_second * 1e3
            })),
            micros(0.5),
            micros(0.99),
        );
    }
}

/// The broker alone at saturation with large batches.
fn produce_large() {
    let records = batch();
    let title = format!("{} KiB batches, 8 x 5 in flight", records.len() >> 10);
    compare(&title, |program| {
        let broker = Broker::start_program(program, "large", "0-0", &[]);
        broker.create("p", 1);
        produce(&broker, "p", 1, &records, 8, 5)
    });
}

/// The broker alone with one record a request.
fn produce_small() {
    for (connections, in_flight) in [(1, 1), (8, 1), (8, 5)] {
        let title = format!("one 1 KiB record a request, {connections} x {in_flight} in flight");
        compare(&title, |program| {
            let broker = Broker::start_program(program, "small", "0-0", &[]);
            broker.create("p", 1);
            produce(&broker, "p", 1, &small_batch(), connections, in_flight)
        });
    }
}

/// A batch to each partition, so that their files are made.
fn touch_all(broker: &Broker, topic: &str, partitions: i32) {
    let (mut client, records) = (Client::connect(broker.address), small_batch());
    for partition in 0..partitions {
        client.send(&produce_frame(topic, partition, &records));
        if partition >= 40 {
            client.receive();
        }
    }
    for _ in 0..partitions.min(40) {
        client.receive();
    }
}

/// Small batches to many partitions, each request to the next one: every write is its own file's.
fn produce_partitions() {
    for partitions in [1, 100, 1_000] {
        let title = format!("one 1 KiB record a request, 8 x 5 in flight, {partitions} partitions");
        compare(&title, |program| {
            let broker = Broker::start_program(program, "partitions", "0-0", &[]);
            broker.create("p", partitions);
            touch_all(&broker, "p", partitions);
            produce(&broker, "p", partitions, &small_batch(), 8, 5)
        });
    }
}

fn print_latency(name: &str, latency: &Histogram<u64>) {
    let micros = |quantile| latency.value_at_quantile(quantile) / 1000;
    println!(
        "{name}: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        micros(0.5),
        micros(0.99),
        micros(0.999),
        latency.max() / 1000
    );
}

fn pin(cpus: &[usize]) {
    corelane::rt::limits::pin_to(cpus).expect("CPUs of this machine");
}

/// A batch of 1 KiB records with keys out of so many.
fn keyed_batch(first: u64, keys: u64) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    let value = vec![b'x'; RECORD_BYTES];
    for index in 0..RECORDS_PER_BATCH as u64 {
        // Every key comes round, in an order that spreads the work over the table.
        let key = (first + index).wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
        batch.append(
            1_700_000_000_000,
            Some(&key.to_be_bytes()),
            Some(&value),
            &[],
        );
    }
    Bytes::from(batch.finish())
}

/// Bytes that the cleaner has read so far: of the data directory's `compaction` notes nothing can be
/// told while it works, so the kernel's account of the process is taken.
fn disk_bytes(broker: &Broker) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{}/io", broker.child.id()));
    let text = text.expect("a running broker");
    let field = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0.0)
    };
    (field("read_bytes:"), field("write_bytes:"))
}

/// A tail writer beside a cleaner on the same core: latencies without and with it, interleaved.
fn cleaner() {
    let rounds = setting("CORELANE_BENCH_ROUNDS", 3);
    let megabytes = setting("CORELANE_BENCH_MEGABYTES", 1024);
    println!(
        "a tail writer on the core that compacts a log of {megabytes} MB, one 1 KiB record a request"
    );
    let flights = [(1, 1), (8, 1)];
    let mut p99: Vec<[Vec<f64>; 2]> = vec![[Vec::new(), Vec::new()]; flights.len()];
    for _ in 0..rounds {
        for (cleans, enabled) in ["log.cleaner.enable=false", "log.cleaner.enable=true"]
            .into_iter()
            .enumerate()
        {
            for (flight, (connections, in_flight)) in flights.into_iter().enumerate() {
                let configs = [
                    "--set",
                    enabled,
                    "--set",
                    "log.cleaner.backoff.ms=1",
                    "--set",
                    "log.segment.bytes=67108864",
                    "--set",
                    "log.cleaner.min.cleanable.ratio=0.01",
                ];
                let broker = Broker::start("cleaner", "0-0", &configs);
                broker.create("tail", 1);
                broker.create_compacted("compacted");
                fill_keyed(&broker, "compacted", megabytes << 20);
                let before = disk_bytes(&broker);
                let produced = produce(&broker, "tail", 1, &small_batch(), connections, in_flight);
                let after = disk_bytes(&broker);
                let seconds = setting("CORELANE_BENCH_SECONDS", 4) as f64 + 0.5;
                let name = format!(
                    "  cleaner {}, {connections} x {in_flight}: {:.0} requests/s, disk reads {:.0} MB/s, writes {:.0} MB/s",
                    ["off", "on "][cleans],
                    produced.requests_a_second,
                    (after.0 - before.0) / seconds / 1e6,
                    (after.1 - before.1) / seconds / 1e6,
                );
                print_latency(&name, &produced.latency);
                p99[flight][cleans].push(produced.latency.value_at_quantile(0.99) as f64 / 1000.0);
            }
        }
    }
    for ((connections, in_flight), [off, on]) in flights.into_iter().zip(&p99) {
        let ratio = median(on.clone()) / median(off.clone());
        println!(
            "  {connections} x {in_flight}: p99 off {} us, on {} us, ratio {ratio:.2}",
            spread(off),
            spread(on)
        );
    }
}

/// Fills a topic with keyed records, 8 requests in flight.
fn fill_keyed(broker: &Broker, topic: &str, bytes: u64) {
    let mut client = Client::connect(broker.address);
    let (mut sent, mut waiting, mut first) = (0, 0, 0);
    while sent < bytes {
        let records = keyed_batch(first, 100_000);
        first += RECORDS_PER_BATCH as u64;
        sent += records.len() as u64;
        client.send(&produce_frame(topic, 0, &records));
        waiting += 1;
        if waiting > 8 {
            client.receive();
            waiting -= 1;
        }
    }
    for _ in 0..waiting {
        client.receive();
    }
}

/// Moves this process, and the brokers that it starts, into a network namespace whose loopback
/// interface has plain congestion control. Where BBR is the machine's default, each connection paces
/// itself by kernel timers, on loopback too: that took up to two thirds of the CPU of a bare sendfile
/// loop, and what was measured was the pacing. `CORELANE_BENCH_NETWORK=machine` leaves all as it is.
fn unpaced_network() {
    const CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
    let asked = std::env::var("CORELANE_BENCH_NETWORK");
    let control = std::fs::read_to_string(CONTROL).unwrap_or_default();
    if control.trim() != "bbr" || asked.is_ok_and(|asked| asked == "machine") {
        return;
    }
    // SAFETY: no pointers; this is the process's only thread yet.
    let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    if moved && loopback_up() && std::fs::write(CONTROL, "reno").is_ok() {
        println!(
            "(in a network namespace of its own with reno: this machine's bbr paces loopback)"
        );
    } else {
        assert!(!moved, "a namespace without a network");
        println!("(not root: connections are paced by bbr, which is measured as well)");
    }
}

fn loopback_up() -> bool {
    // SAFETY: the structure is plain numbers, zeros are valid; it lives through both calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let result = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        libc::close(socket);
        result == 0
    }
}

fn main() {
    unpaced_network();
    pin(&[1]);
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wants_part = |name: &str| wanted.iter().any(|word| word == name);
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    if wants("produce") {
        produce_against_fio();
    }
    if wanted.iter().any(|word| word == "large") {
        produce_large();
    }
    if wanted.iter().any(|word| word == "small") {
        produce_small();
    }
    if wanted.iter().any(|word| word == "partitions") {
        produce_partitions();
    }
    if wants("fetch") {
        let sources = ["memory", "cached", "disk"];
        let only = sources.into_iter().find(|source| wants_part(source));
        fetch::fetch_against_sendfile(only);
    }
    if wants("catch-up") {
        catch_up::catch_up();
    }
    if wants("routing") {
        routing::routing();
    }
    if wants("cleaner") {
        cleaner();
    }
}
