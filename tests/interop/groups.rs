//! Issue 3, item 1: members of every library come and go while records flow.
//!
//! A member is a process that keeps a diary on its stdout (see `diary`), commits as it goes and leaves when its
//! stdin closes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::diary::{Diary, Entry, Event, judge, now, parse};
use crate::{clients, librdkafka};

pub const PARTITIONS: i32 = 12;
const RECORDS: usize = 16_000;
/// How long the last commits may take to come before the members leave.
const COMMIT_MAX: Duration = Duration::from_secs(10);

/// How long a silent member is taken to be alive.
const SESSION_MS: u32 = 6_000;

/// A library, and the assignor or protocol that its members use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    Librdkafka,
    Python(&'static str),
    Node(&'static str),
    Go(&'static str),
    Java,
}

/// One process that is a member of a group; dropping it kills it.
pub struct Member {
    number: usize,
    process: Child,
    diary: Arc<Diary>,
}

impl Member {
    fn start(
        library: Library,
        number: usize,
        diary: &Arc<Diary>,
        words: [&str; 4],
    ) -> Result<Member, String> {
        Member::start_with(library, number, diary, words, SESSION_MS)
    }

    /// With another session timeout, for members of classic groups (librdkafka, franz-go and Java only).
    pub fn start_with(
        library: Library,
        number: usize,
        diary: &Arc<Diary>,
        words: [&str; 4],
        session_ms: u32,
    ) -> Result<Member, String> {
        let mut program = match library {
            Library::Librdkafka => librdkafka_member(words),
            Library::Python(client) => clients::python(client)?,
            Library::Node(client) => clients::node(client)?,
            Library::Go(client) => clients::go(client)?,
            Library::Java => clients::java("Client")?,
        };
        if !matches!(library, Library::Librdkafka) {
            program.arg("work").args(words);
        }
        let log = std::fs::File::create(
            clients::directory().join(format!("logs/{}-{number}.log", words[1])),
        );
        let errors = log.map_or_else(|_| Stdio::null(), Stdio::from);
        program
            .env("CORELANE_INTEROP_SESSION_MS", session_ms.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut process = program
            .spawn()
            .map_err(|error| format!("{program:?}: {error}"))?;
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let into = Arc::clone(diary);
        std::thread::spawn(move || {
            let read = lines
                .map_while(Result::ok)
                .filter_map(|line| parse(number, &line));
            read.for_each(|entry| into.write(entry));
            into.write(Entry {
                microseconds: now(),
                member: number,
                event: Event::Ended,
            });
        });
        Ok(Member {
            number,
            process,
            diary: Arc::clone(diary),
        })
    }

    /// A member of its own, for other suites.
    pub fn start_java(bootstrap: &str, group: &str, topic: &str, assignor: &str) -> Member {
        let diary = Arc::new(Diary::default());
        let member = Member::start(
            Library::Java,
            0,
            &diary,
            [bootstrap, group, topic, assignor],
        );
        member.unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn wait_for_a_record(&self) {
        let waited = self
            .diary
            .wait("a record", |pages| !pages.processed.is_empty());
        waited.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Closes its stdin and waits until it has left the group.
    pub fn leave(mut self) -> Result<(), String> {
        drop(self.process.stdin.take());
        let number = self.number;
        self.diary
            .wait("a member leaves", |pages| pages.ended.contains(&number))?;
        let status = self.process.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("member {number} ended: {status}"))
        }
    }

    /// `kill -9`.
    fn kill(mut self) -> Result<(), String> {
        self.process.kill().map_err(|error| error.to_string())?;
        let number = self.number;
        self.diary
            .wait("a member dies", |pages| pages.ended.contains(&number))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// librdkafka's members are this test binary once more: the way to have them as processes that can be killed.
fn librdkafka_member(words: [&str; 4]) -> Command {
    let mut program = Command::new(std::env::current_exe().expect("this program"));
    program.args([
        "--exact",
        "groups::becomes_a_librdkafka_member_when_asked",
        "--nocapture",
    ]);
    program.env("CORELANE_INTEROP_MEMBER", words.join(" "));
    program
}

#[test]
fn becomes_a_librdkafka_member_when_asked() {
    let Ok(words) = std::env::var("CORELANE_INTEROP_MEMBER") else {
        return;
    };
    let words: Vec<&str> = words.split(' ').collect();
    // Ends the line that the test harness has begun.
    println!();
    librdkafka::work(words[0], words[1], words[2], words[3]);
}

/// Samples the group's committed offsets, as an admin would, until told to stop.
struct Commits {
    stop: Arc<AtomicBool>,
    /// The latest, by partition.
    latest: Arc<Mutex<BTreeMap<i32, i64>>>,
    sampler: std::thread::JoinHandle<Result<BTreeMap<i32, i64>, String>>,
}

impl Commits {
    fn watch(bootstrap: &str, group: &str, topic: &str) -> Commits {
        let stop = Arc::new(AtomicBool::new(false));
        let (bootstrap, group, topic) = (bootstrap.to_owned(), group.to_owned(), topic.to_owned());
        let until = Arc::clone(&stop);
        let latest: Arc<Mutex<BTreeMap<i32, i64>>> = Arc::default();
        let into = Arc::clone(&latest);
        let sampler = std::thread::spawn(move || {
            let mut admin = librdkafka::Committed::of(&bootstrap, &group, &topic, PARTITIONS)?;
            let mut highest = BTreeMap::new();
            loop {
                let last = until.load(Ordering::Relaxed);
                for (partition, offset) in admin.sample()? {
                    let before = highest.insert(partition, offset).unwrap_or(offset);
                    if offset < before {
                        return Err(format!(
                            "the commit of partition {partition} went from {before} back to {offset}"
                        ));
                    }
                }
                into.lock().expect("unpoisoned").clone_from(&highest);
                if last {
                    return Ok(highest);
                }
                std::thread::park_timeout(Duration::from_millis(250));
            }
        });
        Commits {
            stop,
            latest,
            sampler,
        }
    }

    /// Waits a while for everything that was processed to be committed. A member that leaves in the middle of a
    /// rebalance cannot commit any more, and not every library waits for the rebalance; others commit the rest only
    /// when they leave.
    fn wait_for(&self, diary: &Diary) {
        let end = Instant::now() + COMMIT_MAX;
        while Instant::now() < end && !self.sampler.is_finished() {
            let pages = diary.pages.lock().expect("unpoisoned");
            let processed = pages.processed_by_partition();
            drop(pages);
            if *self.latest.lock().expect("unpoisoned") == processed {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// The committed offset of each partition at the end.
    fn end(self) -> Result<BTreeMap<i32, i64>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.sampler.thread().unpark();
        self.sampler.join().expect("the sampler does not panic")
    }
}

/// Six members, of which some leave, one is killed, and others come, while records flow.
struct Flow {
    library: Library,
    bootstrap: String,
    name: String,
    assignor: &'static str,
    diary: Arc<Diary>,
    members: BTreeMap<usize, Member>,
    produced: usize,
}

impl Flow {
    fn join(&mut self, numbers: &[usize]) -> Result<(), String> {
        for number in numbers {
            let words = [
                self.bootstrap.as_str(),
                &self.name,
                &self.name,
                self.assignor,
            ];
            let member = Member::start(self.library, *number, &self.diary, words)?;
            self.members.insert(*number, member);
        }
        Ok(())
    }

    fn leave(&mut self, numbers: &[usize]) -> Result<(), String> {
        let leaving: Vec<Member> = numbers
            .iter()
            .filter_map(|number| self.members.remove(number))
            .collect();
        leaving.into_iter().try_for_each(Member::leave)
    }

    /// Sends records, makes the change while they flow, and waits until they are processed and all belong.
    fn stage(
        &mut self,
        count: usize,
        change: impl FnOnce(&mut Flow) -> Result<(), String>,
    ) -> Result<(), String> {
        let (bootstrap, topic, from) = (self.bootstrap.clone(), self.name.clone(), self.produced);
        let sender = std::thread::spawn(move || {
            librdkafka::send_numbered(&bootstrap, &topic, PARTITIONS, from, count)
        });
        change(self)?;
        sender.join().expect("the sender does not panic")?;
        self.produced += count;
        let (produced, members) = (
            self.produced,
            self.members.keys().copied().collect::<Vec<_>>(),
        );
        self.diary.wait(
            "every record is processed and every member has an assignment",
            |pages| {
                pages.processed.len() >= produced
                    && members
                        .iter()
                        .all(|number| pages.assigned_once.contains(number))
            },
        )
    }

    fn run(&mut self, records: usize, commits: &Commits) -> Result<(), String> {
        let count = records.div_ceil(7);
        self.stage(count, |flow| flow.join(&[1, 2]))?;
        self.stage(count, |flow| flow.join(&[3, 4]))?;
        self.stage(count, |flow| flow.join(&[5, 6]))?;
        self.stage(count, |flow| flow.leave(&[1, 3]))?;
        self.stage(count, |flow| {
            flow.members.remove(&2).map_or(Ok(()), Member::kill)
        })?;
        self.stage(count, |flow| flow.join(&[7, 8, 9]))?;
        self.stage(count, |flow| flow.leave(&[4, 7]))?;
        commits.wait_for(&self.diary);
        let rest: Vec<usize> = self.members.keys().copied().collect();
        self.leave(&rest)
    }
}

fn check(name: &str, library: Library, assignor: &'static str) {
    static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();
    let broker = BROKER
        .get_or_init(Broker::under_test)
        .as_ref()
        .unwrap_or_else(|error| panic!("{error}"));
    let records = std::env::var("CORELANE_INTEROP_RECORDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let (records, began) = (records.unwrap_or(RECORDS), Instant::now());
    let checked = flow(broker.bootstrap(), name, library, assignor, records);
    let repeated = checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    let seconds = began.elapsed().as_secs_f64();
    println!("\n| {name} | {records} records | {seconds:.0} s | {repeated} processed again |");
}

/// How many records were processed more than once.
fn flow(
    bootstrap: &str,
    name: &str,
    library: Library,
    assignor: &'static str,
    records: usize,
) -> Result<usize, String> {
    let name = format!("g-{name}-{}", std::process::id());
    librdkafka::create_topics(bootstrap, std::slice::from_ref(&name), PARTITIONS)?;
    let commits = Commits::watch(bootstrap, &name, &name);
    let mut flow = Flow {
        library,
        bootstrap: bootstrap.to_owned(),
        name,
        assignor,
        diary: Arc::default(),
        members: BTreeMap::new(),
        produced: 0,
    };
    let ran = flow.run(records, &commits);
    let committed = commits.end();
    ran?;
    let committed = committed?;
    let pages = flow.diary.pages.lock().expect("unpoisoned");
    let processed = pages.processed_by_partition();
    if committed != processed {
        return Err(format!("processed {processed:?}, committed {committed:?}"));
    }
    judge(&pages, false)?;
    Ok(pages.records() - pages.processed.len())
}

#[test]
fn interop_groups_librdkafka_range() {
    check("librdkafka-range", Library::Librdkafka, "range");
}

#[test]
fn interop_groups_librdkafka_cooperative_sticky() {
    check(
        "librdkafka-cooperative",
        Library::Librdkafka,
        "cooperative-sticky",
    );
}

#[test]
fn interop_groups_librdkafka_next_generation() {
    check("librdkafka-consumer", Library::Librdkafka, "consumer");
}

#[test]
fn interop_groups_confluent_kafka_range() {
    check(
        "confluent-kafka-range",
        Library::Python("confluent-kafka"),
        "range",
    );
}

#[test]
fn interop_groups_confluent_kafka_next_generation() {
    check(
        "confluent-kafka-consumer",
        Library::Python("confluent-kafka"),
        "consumer",
    );
}

#[test]
fn interop_groups_kafka_python_range() {
    check(
        "kafka-python-range",
        Library::Python("kafka-python"),
        "range",
    );
}

#[test]
fn interop_groups_aiokafka_roundrobin() {
    check(
        "aiokafka-roundrobin",
        Library::Python("aiokafka"),
        "roundrobin",
    );
}

#[test]
fn interop_groups_kafkajs_roundrobin() {
    check("kafkajs", Library::Node("kafkajs"), "roundrobin");
}

#[test]
fn interop_groups_platformatic_roundrobin() {
    check("platformatic", Library::Node("platformatic"), "roundrobin");
}

#[test]
fn interop_groups_platformatic_next_generation() {
    check(
        "platformatic-consumer",
        Library::Node("platformatic"),
        "consumer",
    );
}

#[test]
fn interop_groups_sarama_sticky() {
    check("sarama-sticky", Library::Go("sarama"), "sticky");
}

#[test]
fn interop_groups_kafka_go_range() {
    check("kafka-go-range", Library::Go("kafka-go"), "range");
}

#[test]
fn interop_groups_franz_go_range() {
    check("franz-go-range", Library::Go("franz-go"), "range");
}

#[test]
fn interop_groups_franz_go_roundrobin() {
    check("franz-go-roundrobin", Library::Go("franz-go"), "roundrobin");
}

#[test]
fn interop_groups_franz_go_sticky() {
    check("franz-go-sticky", Library::Go("franz-go"), "sticky");
}

#[test]
fn interop_groups_franz_go_cooperative_sticky() {
    check(
        "franz-go-cooperative",
        Library::Go("franz-go"),
        "cooperative-sticky",
    );
}

#[test]
fn interop_groups_franz_go_next_generation() {
    check("franz-go-consumer", Library::Go("franz-go"), "consumer");
}

#[test]
fn interop_groups_java_classic_range() {
    check("java-range", Library::Java, "range");
}

#[test]
fn interop_groups_java_classic_cooperative_sticky() {
    check("java-cooperative", Library::Java, "cooperative-sticky");
}

#[test]
fn interop_groups_java_next_generation() {
    check("java-consumer", Library::Java, "consumer");
}
