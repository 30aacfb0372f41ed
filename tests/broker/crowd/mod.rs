//! Many members of many groups on one thread: each is a task with a connection of its own that does
//! what a client of its protocol does, and writes what it was told into its group's ledger. Knows
//! no records: a member that owns a partition commits ever higher offsets for it.
//!
//! | file | what it does |
//! |---|---|
//! | `line` | a connection |
//! | `member` | a member's life, whichever protocol it speaks; commits and their reading |
//! | `classic`, `consumer` | the two protocols |
//! | `ledger` | what a group's members were told, and what must hold of it |
//! | `probe` | how long a produce takes meanwhile |

mod classic;
mod consumer;
mod ledger;
mod line;
mod member;
mod probe;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corelane::base::TopicId;
use corelane::protocol::ErrorCode;
use corelane::protocol::messages::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, FindCoordinatorRequest,
};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use crate::support::client::text;
use ledger::Ledger;
pub use line::Line;
pub use probe::Probe;

/// How long a coordinator may take to load.
const LOAD_MAX: Duration = Duration::from_secs(60);
/// Before anything is tried again that the broker could not do just now.
const AGAIN: Duration = Duration::from_millis(20);

/// Which protocol a group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// JoinGroup, SyncGroup, Heartbeat; all partitions are given up before every rejoin.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
}

/// How fast members live.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two heartbeats; members of the new protocol do as the broker says.
    pub heartbeat: Duration,
    /// Between two commits.
    pub commit: Duration,
    /// How long the broker may take a silent classic member for alive.
    pub session_ms: i32,
    /// How long a member may take to rejoin, or to let go of partitions.
    pub rebalance_ms: i32,
}

/// A group and its topic.
pub struct Group {
    pub name: String,
    pub protocol: Protocol,
    pub topic: Topic,
    pub pace: Pace,
    /// Where the broker is now.
    pub place: Rc<Cell<SocketAddr>>,
    pub ledger: RefCell<Ledger>,
    changed: Notify,
}

/// What a group reads.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub partitions: i32,
}

/// The members of a group.
pub struct Crowd {
    pub group: Rc<Group>,
    /// Each member's order to leave.
    members: Vec<Rc<Notify>>,
    next: usize,
}

/// Runs something that waits, with all the tasks that it spawns, on this thread. With
/// `CORELANE_STORM_YIELD` set, the thread runs only when nobody else wants its CPU: a crowd that
/// shares its CPUs with the broker is then not what the broker is measured by.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(3_600))
        .build()
        .expect("a runtime");
    // Threads and processes are as willing to yield as the thread that starts them, so the one
    // that starts all others is there first.
    runtime.block_on(aside(|| ()));
    if std::env::var_os("CORELANE_STORM_YIELD").is_some() {
        let thread = std::fs::read_link("/proc/thread-self").expect("a thread");
        let number = thread.file_name().expect("its number").to_os_string();
        let mut command = std::process::Command::new("chrt");
        let status = command.args(["--idle", "--pid", "0"]).arg(number).status();
        assert!(status.expect("chrt").success());
    }
    LocalSet::new().block_on(&runtime, work)
}

/// Runs something that takes its time, on the thread for that.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The answer of a code.
fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code that we know")
}

/// The coordinator is not there now, or not yet.
fn is_moving(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

impl Group {
    pub fn new(
        name: String,
        protocol: Protocol,
        topic: Topic,
        pace: Pace,
        place: &Rc<Cell<SocketAddr>>,
    ) -> Rc<Group> {
        Rc::new(Group {
            name,
            protocol,
            topic,
            pace,
            place: Rc::clone(place),
            ledger: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// Writes something down.
    fn note<T>(&self, entry: impl FnOnce(&mut Ledger) -> T) -> T {
        let noted = entry(&mut self.ledger.borrow_mut());
        self.changed.notify_waiters();
        noted
    }

    /// Waits until the ledger says so.
    pub async fn until(&self, patience: Duration, what: &str, is_so: impl Fn(&Ledger) -> bool) {
        let all = async {
            loop {
                let changed = self.changed.notified();
                if is_so(&self.ledger.borrow()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            let state = self.ledger.borrow().state();
            panic!("{}: not {what} within {patience:?}: {state}", self.name);
        }
    }

    /// The state by which the coordinator calls the group.
    pub async fn state(&self) -> Option<String> {
        let mut line = Line::connect(self.place.get()).await?;
        match self.protocol {
            Protocol::Classic => {
                let request =
                    DescribeGroupsRequest::default().with_groups(vec![text(&self.name).into()]);
                let answer = line.call(5, &request).await?;
                Some(answer.groups[0].group_state.to_string())
            }
            Protocol::Consumer => {
                let request = ConsumerGroupDescribeRequest::default()
                    .with_group_ids(vec![text(&self.name).into()]);
                let answer = line.call(1, &request).await?;
                Some(answer.groups[0].group_state.to_string())
            }
        }
    }

    /// What is committed of each partition, as an admin is told; none when the broker goes away.
    /// Waits for a coordinator that is loading.
    pub async fn committed(&self) -> Option<Vec<(i32, i64)>> {
        let mut line = Line::connect(self.place.get()).await?;
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < LOAD_MAX, "{}: no coordinator", self.name);
            match member::fetch(&mut line, self, None).await? {
                Ok(committed) => return Some(committed),
                Err(error) if is_moving(error) => tokio::time::sleep(AGAIN).await,
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
    }

    /// Holds what is committed against what was acknowledged before.
    pub async fn audit(&self) -> Option<()> {
        let partitions = 0..self.topic.partitions;
        let before: Vec<Option<i64>> = {
            let ledger = self.ledger.borrow();
            partitions
                .map(|partition| ledger.acknowledged(partition))
                .collect()
        };
        let committed = self.committed().await?;
        self.note(|ledger| {
            for (partition, offset) in committed {
                ledger.fetched(partition, offset, before[partition as usize]);
            }
        });
        Some(())
    }
}

impl Crowd {
    pub fn new(group: Rc<Group>) -> Crowd {
        Crowd {
            group,
            members: Vec::new(),
            next: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// One more member.
    pub fn join(&mut self) {
        let number = self.next;
        self.next += 1;
        self.group.note(|ledger| ledger.expect(number));
        let leave = Rc::new(Notify::new());
        let life = member::Member::new(Rc::clone(&self.group), number).live(Rc::clone(&leave));
        spawn_local(life);
        self.members.push(leave);
    }

    /// Tells the member at this place to leave; it does so on its own time.
    pub fn leave(&mut self, place: usize) {
        self.members.swap_remove(place).notify_one();
    }

    /// Waits until all partitions are shared out, all members know it, and the coordinator agrees.
    /// How long it took.
    pub async fn settle(&self, patience: Duration) -> Duration {
        let began = Instant::now();
        let (members, partitions) = (self.len(), self.group.topic.partitions);
        let settled = self.group.until(patience, "settled", |ledger| {
            ledger.is_settled(members, partitions)
        });
        settled.await;
        let took = began.elapsed();
        assert_eq!(
            self.group.state().await.as_deref(),
            Some("Stable"),
            "{}",
            self.group.name
        );
        took
    }
}

/// Has the topic of the groups made, and waits until its coordinators serve.
pub async fn find_coordinator(place: SocketAddr, group: &str) {
    let mut line = Line::connect(place).await.expect("a broker");
    let request = FindCoordinatorRequest::default()
        .with_key_type(0)
        .with_coordinator_keys(vec![text(group)]);
    loop {
        let answer = line.call(4, &request).await.expect("an answer");
        match error(answer.coordinators[0].error_code) {
            ErrorCode::None => return,
            error if is_moving(error) => tokio::time::sleep(AGAIN).await,
            error => panic!("{error}"),
        }
    }
}
