//! Issue 3, item 2: groups of real clients while the broker is killed again and again: every record is processed,
//! no committed offset is lost, no commit goes back, no partition has two owners.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::broker::{Broker, Kind};
use crate::diary::{Diary, judge};
use crate::groups::{Library, Member, PARTITIONS};
use crate::librdkafka;

const MEMBERS: usize = 3;
/// After so many kills a member leaves and another one comes.
const CHANGE_EVERY: usize = 4;
/// For how long the broker runs before it is killed, at least; more with every round, up to twice as long.
const RUN_MS_MIN: u64 = 400;
/// How long a silent member is taken to be alive.
const SESSION_MS: u32 = 30_000;
/// How long a commit may take after a start.
const COMMIT_MAX: Duration = Duration::from_secs(60);

/// Watches what is committed from a thread of its own: it never goes back, and moves on after each start.
struct Watch {
    starts: Sender<Instant>,
    commits: Receiver<Duration>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<BTreeMap<i32, i64>, String>>,
}

impl Watch {
    fn start(bootstrap: &str, name: &str) -> Watch {
        let (starts, started) = mpsc::channel();
        let (committed, commits) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (bootstrap, name, until) = (bootstrap.to_owned(), name.to_owned(), stop.clone());
        let thread =
            std::thread::spawn(move || watch(&bootstrap, &name, &until, &started, &committed));
        Watch {
            starts,
            commits,
            stop,
            thread,
        }
    }

    /// From this start of the broker to the first commit after it.
    fn first_commit(&self, start: Instant) -> Result<Duration, String> {
        let sent = self.starts.send(start);
        sent.map_err(|_| "the watch has ended".to_owned())?;
        self.commits
            .recv_timeout(COMMIT_MAX)
            .map_err(|error| format!("no commit after a start: {error}"))
    }

    fn end(self) -> Result<BTreeMap<i32, i64>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic")
    }
}

fn watch(
    bootstrap: &str,
    name: &str,
    stop: &AtomicBool,
    started: &Receiver<Instant>,
    committed: &Sender<Duration>,
) -> Result<BTreeMap<i32, i64>, String> {
    let mut admin = librdkafka::Committed::of(bootstrap, name, name, PARTITIONS)?;
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    // The start whose first commit is awaited, and what was committed before.
    let mut awaited: Option<(Instant, Option<i64>)> = None;
    loop {
        let last = stop.load(Ordering::Relaxed);
        if let Ok(start) = started.try_recv() {
            awaited = Some((start, None));
        }
        for (partition, offset) in admin.sample()? {
            let before = highest.insert(partition, offset).unwrap_or(offset);
            if offset < before {
                return Err(format!(
                    "the commit of partition {partition} went from {before} back to {offset}"
                ));
            }
        }
        let sum = highest.values().sum();
        match awaited {
            // What is there at first was committed before the kill, or it is too early to tell.
            Some((start, None)) => awaited = Some((start, Some(sum))),
            Some((start, Some(before))) if sum > before => {
                let _ = committed.send(start.elapsed());
                awaited = None;
            }
            Some(_) | None => {}
        }
        if last {
            return Ok(highest);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn check(name: &str, library: Library, assignor: &'static str) {
    let checked = kills(name, library, assignor);
    checked.unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn kills(name: &str, library: Library, assignor: &'static str) -> Result<(), String> {
    // One at a time: each has a broker of its own, and times are taken.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let rounds = std::env::var("CORELANE_INTEROP_KILLS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(5);
    // Longer than a client may take to find the broker again: who is away for longer than its session loses its
    // partitions before it can know.
    let session = SESSION_MS.to_string();
    let configs = [("group.consumer.session.timeout.ms", session.as_str())];
    let mut broker = Broker::start_with(Kind::Corelane, &configs)?;
    let bootstrap = broker.bootstrap().to_owned();
    let topic = format!("k-{name}-{}", std::process::id());
    librdkafka::create_topics(&bootstrap, std::slice::from_ref(&topic), PARTITIONS)?;
    let diary: Arc<Diary> = Arc::default();
    let join = |number| {
        let words = [bootstrap.as_str(), &topic, &topic, assignor];
        Member::start_with(library, number, &diary, words, SESSION_MS)
    };
    let mut members = (1..=MEMBERS)
        .map(join)
        .collect::<Result<std::collections::VecDeque<_>, _>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (until, to, into) = (Arc::clone(&stop), bootstrap.clone(), topic.clone());
    let sender = std::thread::spawn(move || librdkafka::send_until(&to, &into, PARTITIONS, &until));
    diary.wait("every member has an assignment", |pages| {
        (1..=MEMBERS).all(|number| pages.assigned_once.contains(&number))
    })?;
    let watch = Watch::start(&bootstrap, &topic);
    let mut times = Vec::new();
    for round in 1..=rounds {
        let more = RUN_MS_MIN * round as u64 / rounds as u64;
        std::thread::sleep(Duration::from_millis(RUN_MS_MIN + more));
        if round % CHANGE_EVERY == 0 {
            members.push_back(join(MEMBERS + round)?);
        }
        let start = broker.crash()?;
        times.push(watch.first_commit(start)?.as_millis());
        if round % CHANGE_EVERY == 0
            && let Some(member) = members.pop_front()
        {
            member.leave()?;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("the sender does not panic")?;
    diary.wait("every record is processed", |pages| {
        pages.processed.len() >= sent
    })?;
    members.into_iter().try_for_each(Member::leave)?;
    let committed = watch.end()?;
    let pages = diary.pages.lock().expect("unpoisoned");
    let processed = pages.processed_by_partition();
    if committed != processed {
        return Err(format!("processed {processed:?}, committed {committed:?}"));
    }
    let judged = judge(&pages, true);
    println!(
        "\n| {name} | {rounds} kills | {sent} records | first commit after each, in ms: {times:?} | {} |",
        if judged.is_ok() {
            "sound"
        } else {
            "violations"
        }
    );
    judged
}

#[test]
fn interop_kills_librdkafka_range() {
    check("librdkafka-range", Library::Librdkafka, "range");
}

#[test]
fn interop_kills_librdkafka_next_generation() {
    check("librdkafka-consumer", Library::Librdkafka, "consumer");
}

#[test]
fn interop_kills_java_classic_cooperative_sticky() {
    check("java-cooperative", Library::Java, "cooperative-sticky");
}

#[test]
fn interop_kills_java_next_generation() {
    check("java-consumer", Library::Java, "consumer");
}

#[test]
fn interop_kills_franz_go_cooperative_sticky() {
    check(
        "franz-go-cooperative",
        Library::Go("franz-go"),
        "cooperative-sticky",
    );
}

#[test]
fn interop_kills_franz_go_next_generation() {
    check("franz-go-consumer", Library::Go("franz-go"), "consumer");
}
