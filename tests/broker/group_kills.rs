//! `kill -9` while groups commit and members come and go: no committed offset is lost, no commit
//! goes back, everybody goes on.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corelane::base::Prng;

use crate::crowd::{self, Crowd, Group, Pace, Protocol, Topic};
use crate::support::{Broker, setting};

const GROUPS: usize = 4;
const MEMBERS: usize = 6;
const PARTITIONS: i32 = 12;
/// Members of all groups that come or go between two kills.
const CHANGES: usize = 8;
/// How long a run of the broker lasts at most.
const RUN_MS_MAX: u64 = 1_500;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: [(&str, &str); 3] = [
    ("group.consumer.heartbeat.interval.ms", "200"),
    ("group.consumer.min.heartbeat.interval.ms", "200"),
    ("group.initial.rebalance.delay.ms", "100"),
];

/// One member comes or goes.
fn change(crowd: &mut Crowd, random: &mut Prng) {
    if crowd.len() > 2 && random.one_in(2) {
        crowd.leave(random.below(crowd.len() as u64) as usize);
    } else {
        crowd.join();
    }
}

async fn crash(mut broker: Broker, place: &Cell<SocketAddr>) -> (Broker, Instant) {
    let (broker, started) = crowd::aside(move || {
        broker.kill();
        let started = Instant::now();
        broker.run();
        (broker, started)
    })
    .await;
    place.set(broker.address());
    (broker, started)
}

/// Waits until every group has committed since the start; when the first did, and when the last.
async fn first_commits(crowds: &[Crowd], started: Instant) -> (Duration, Duration) {
    let mut firsts = Vec::new();
    for crowd in crowds {
        let committed = crowd.group.until(PATIENCE, "committed", |ledger| {
            ledger.last_commit.is_some_and(|at| at > started)
        });
        committed.await;
        firsts.push(started.elapsed());
    }
    let first = firsts.iter().min().copied().unwrap_or_default();
    (first, firsts.iter().max().copied().unwrap_or_default())
}

fn kills(protocol: Protocol) {
    let rounds = setting("CORELANE_GROUP_KILLS", 4);
    crowd::run(async {
        let mut broker = Broker::start_with(&SETTINGS);
        let place = Rc::new(Cell::new(broker.address()));
        let id = broker.client().create("t", PARTITIONS, &[]);
        let topic = Topic {
            name: "t".to_owned(),
            id,
            partitions: PARTITIONS,
        };
        let pace = Pace {
            heartbeat: Duration::from_millis(100),
            commit: Duration::from_millis(5),
            session_ms: 30_000,
            rebalance_ms: 30_000,
        };
        let group =
            |number| Group::new(format!("g{number}"), protocol, topic.clone(), pace, &place);
        crowd::find_coordinator(place.get(), "g0").await;
        let mut crowds: Vec<Crowd> = (0..GROUPS)
            .map(|number| Crowd::new(group(number)))
            .collect();
        for crowd in &mut crowds {
            (0..MEMBERS).for_each(|_| crowd.join());
        }
        let mut random = Prng::new(7);
        for round in 1..=rounds {
            for _ in 0..CHANGES {
                let wait = random.below(RUN_MS_MAX / CHANGES as u64);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let crowd = random.below(crowds.len() as u64) as usize;
                change(&mut crowds[crowd], &mut random);
            }
            let started;
            (broker, started) = crash(broker, &place).await;
            let ready = broker.ready_after();
            for crowd in &crowds {
                crowd.group.audit().await.expect("a broker that stays");
            }
            let (first, last) = first_commits(&crowds, started).await;
            println!(
                "{round}: ready after {ready:?}, first commit after {first:?}, every group's {last:?}"
            );
            for crowd in &crowds {
                crowd.group.ledger.borrow().check(&crowd.group.name);
            }
        }
        for crowd in &crowds {
            crowd.settle(PATIENCE).await;
            crowd.group.audit().await.expect("a broker that stays");
            let ledger = crowd.group.ledger.borrow();
            ledger.check(&crowd.group.name);
            println!(
                "{}: {} commits, {} assignments, {} members put out; {}",
                crowd.group.name,
                ledger.commits,
                ledger.assignments,
                ledger.put_out,
                ledger.state()
            );
        }
        drop(broker);
    });
}

#[test]
fn no_commit_of_a_classic_group_is_lost_by_kills() {
    kills(Protocol::Classic);
}

#[test]
fn no_commit_of_a_consumer_group_is_lost_by_kills() {
    kills(Protocol::Consumer);
}
