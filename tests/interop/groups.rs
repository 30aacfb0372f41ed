//! Issue 3, item 1: members of every library come and go while records flow.
//!
//! A member is a process that keeps a diary on its stdout: what it was assigned, what was revoked, each record
//! it processed; it commits as it goes and leaves when its stdin closes. The times in the diaries come from one
//! machine's clock, and a member writes `revoked` before it tells the broker, so sorting by time is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::broker::Broker;
use crate::{clients, librdkafka};

pub const PARTITIONS: i32 = 12;
const RECORDS: usize = 16_000;
/// How long the members may take to settle and catch up after each change.
const STAGE_MAX: Duration = Duration::from_secs(60);

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Started,
    Assigned(Vec<i32>),
    /// Given back, or lost.
    Revoked(Vec<i32>),
    Record(i32, i64),
    Refused(String),
    /// The member ended: by itself, or killed by us.
    Ended,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub microseconds: u64,
    member: usize,
    event: Event,
}

/// What all members of a group wrote down.
#[derive(Default)]
pub struct Diary {
    pub pages: Mutex<Pages>,
    changed: Condvar,
}

#[derive(Default)]
pub struct Pages {
    pub entries: Vec<Entry>,
    pub processed: BTreeSet<(i32, i64)>,
    pub assigned_once: BTreeSet<usize>,
    ended: BTreeSet<usize>,
}

impl Diary {
    fn write(&self, entry: Entry) {
        let mut pages = self.pages.lock().expect("unpoisoned");
        match &entry.event {
            Event::Record(partition, offset) => {
                pages.processed.insert((*partition, *offset));
            }
            Event::Assigned(_) => {
                pages.assigned_once.insert(entry.member);
            }
            Event::Ended => {
                pages.ended.insert(entry.member);
            }
            _ => {}
        }
        pages.entries.push(entry);
        self.changed.notify_all();
    }

    /// Waits until the pages say so.
    pub fn wait(&self, what: &str, done: impl Fn(&Pages) -> bool) -> Result<(), String> {
        let pages = self.pages.lock().expect("unpoisoned");
        let waited = self
            .changed
            .wait_timeout_while(pages, STAGE_MAX, |pages| !done(pages));
        let (pages, timeout) = waited.expect("unpoisoned");
        if !timeout.timed_out() {
            return Ok(());
        }
        let last = pages
            .entries
            .iter()
            .rev()
            .filter(|entry| !matches!(entry.event, Event::Record(..)));
        let last: Vec<String> = last.take(30).map(|entry| format!("{entry:?}")).collect();
        let processed = pages.processed.len();
        Err(format!(
            "not within {STAGE_MAX:?}: {what}; {processed} processed; latest first:\n{}",
            last.join("\n")
        ))
    }
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

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_micros() as u64
}

/// `@ <microseconds> <kind> <words>`; other lines are a runtime's chatter.
fn parse(member: usize, line: &str) -> Option<Entry> {
    let mut words = line.strip_prefix("@ ")?.split(' ');
    let microseconds = words.next()?.parse().ok()?;
    let kind = words.next()?;
    let rest: Vec<&str> = words.collect();
    let partitions = || {
        rest.get(1)?
            .split(',')
            .map(|word| word.parse().ok())
            .collect::<Option<Vec<i32>>>()
    };
    let event = match kind {
        "started" => Event::Started,
        "assigned" => Event::Assigned(partitions().unwrap_or_default()),
        "revoked" | "lost" => Event::Revoked(partitions().unwrap_or_default()),
        "record" => Event::Record(rest.first()?.parse().ok()?, rest.get(1)?.parse().ok()?),
        "refused" => Event::Refused(rest.join(" ")),
        _ => return None,
    };
    Some(Entry {
        microseconds,
        member,
        event,
    })
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
    sampler: std::thread::JoinHandle<Result<BTreeMap<i32, i64>, String>>,
}

impl Commits {
    fn watch(bootstrap: &str, group: &str, topic: &str) -> Commits {
        let stop = Arc::new(AtomicBool::new(false));
        let (bootstrap, group, topic) = (bootstrap.to_owned(), group.to_owned(), topic.to_owned());
        let until = Arc::clone(&stop);
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
                if last {
                    return Ok(highest);
                }
                std::thread::park_timeout(Duration::from_millis(250));
            }
        });
        Commits { stop, sampler }
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

    fn run(&mut self, records: usize) -> Result<(), String> {
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
    let ran = flow.run(records);
    let committed = commits.end();
    ran?;
    let committed = committed?;
    let pages = flow.diary.pages.lock().expect("unpoisoned");
    for partition in 0..PARTITIONS {
        let wanted = pages
            .processed
            .range((partition, 0)..(partition + 1, 0))
            .count() as i64;
        if committed.get(&partition) != Some(&wanted) {
            return Err(format!(
                "partition {partition}: committed {:?} of {wanted}",
                committed.get(&partition)
            ));
        }
    }
    let mut entries = pages.entries.clone();
    entries.sort_by_key(|entry| entry.microseconds);
    let wrong = violations(&entries, false);
    if wrong.is_empty() {
        let all = entries
            .iter()
            .filter(|entry| matches!(entry.event, Event::Record(..)));
        Ok(all.count() - pages.processed.len())
    } else {
        Err(wrong.into_iter().take(10).collect::<Vec<_>>().join("\n"))
    }
}

/// One owner at a time; in order, without gaps, for each owner; nothing processed that another one owns.
pub fn violations(entries: &[Entry], may_repeat: bool) -> Vec<String> {
    let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for Entry {
        microseconds,
        member,
        event,
    } in entries
    {
        match event {
            Event::Started | Event::Refused(_) => {}
            Event::Assigned(partitions) => {
                for partition in partitions {
                    let before = owners.insert(*partition, *member);
                    if let Some(owner) = before.filter(|owner| owner != member) {
                        wrong.push(format!(
                            "{microseconds}: {member} got {partition} while {owner} owned it"
                        ));
                    }
                    next.remove(partition);
                }
            }
            Event::Revoked(partitions) => {
                owners
                    .retain(|partition, owner| owner != member || !partitions.contains(partition));
            }
            Event::Ended => owners.retain(|_, owner| owner != member),
            Event::Record(partition, offset) => {
                if owners.get(partition) != Some(member) {
                    let owner = owners.get(partition);
                    wrong.push(format!("{microseconds}: {member} processed {partition}@{offset}, owned by {owner:?}"));
                    continue;
                }
                let wanted = next.insert(*partition, offset + 1).unwrap_or(*offset);
                if *offset > wanted || (*offset < wanted && !may_repeat) {
                    wrong.push(format!(
                        "{microseconds}: {member} processed {partition}@{offset}, not {wanted}"
                    ));
                }
            }
        }
    }
    wrong
}

fn diary(events: &[(usize, Event)]) -> Vec<Entry> {
    let numbered = events.iter().zip(1..);
    numbered
        .map(|((member, event), microseconds)| Entry {
            microseconds,
            member: *member,
            event: event.clone(),
        })
        .collect()
}

#[test]
fn interop_groups_a_partition_that_is_handed_over_has_no_violation() {
    let handed_over = diary(&[
        (1, Event::Assigned(vec![0, 1])),
        (1, Event::Record(0, 0)),
        (1, Event::Revoked(vec![0])),
        (2, Event::Assigned(vec![0])),
        (2, Event::Record(0, 0)),
        (1, Event::Record(1, 0)),
        (1, Event::Ended),
        (2, Event::Assigned(vec![1])),
    ]);
    assert_eq!(violations(&handed_over, false), Vec::<String>::new());
}

#[test]
fn interop_groups_two_owners_a_gap_and_a_stranger_are_violations() {
    let owned = (1, Event::Assigned(vec![0]));
    let two_owners = diary(&[owned.clone(), (2, Event::Assigned(vec![0]))]);
    assert_eq!(violations(&two_owners, false).len(), 1);
    let gap = diary(&[
        owned.clone(),
        (1, Event::Record(0, 4)),
        (1, Event::Record(0, 6)),
    ]);
    assert_eq!(violations(&gap, true).len(), 1);
    let stranger = diary(&[owned, (2, Event::Record(0, 0))]);
    assert_eq!(violations(&stranger, false).len(), 1);
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
