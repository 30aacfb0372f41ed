//! Many groups, and one large group whose members come and go: how long until all is settled, and
//! what a produce through the core that coordinates takes before and during.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corelane::base::{PartitionIndex, Prng, TopicId};
use corelane::cluster::image::Image;
use corelane::group::partition_for;
use corelane::protocol::messages;

use crate::crowd::{self, Crowd, Group, Pace, Probe, Protocol, Topic};
use crate::support::client::Client;
use crate::support::{Broker, setting};

/// Members of each small group.
const SMALL: usize = 2;
/// Partitions of the small groups' topic.
const SMALL_PARTITIONS: i32 = 4;
/// Partitions of the topic that the probe writes to: enough that each core has one.
const PROBE_PARTITIONS: i32 = 64;
/// Partitions a member of the large group.
const SHARE: i32 = 2;
/// Between two members that come or go.
const CHANGE: Duration = Duration::from_millis(100);
/// How long anything may take to settle.
const PATIENCE: Duration = Duration::from_secs(150);

/// How large the storm is.
struct Size {
    groups: usize,
    members: usize,
    stretch: Duration,
    heartbeat: Duration,
}

impl Size {
    fn of_the_environment() -> Size {
        Size {
            groups: setting("CORELANE_STORM_GROUPS", 40) as usize,
            members: setting("CORELANE_STORM_MEMBERS", 30) as usize,
            stretch: Duration::from_secs(setting("CORELANE_STORM_SECONDS", 3)),
            heartbeat: Duration::from_millis(setting("CORELANE_STORM_HEARTBEAT_MS", 300)),
        }
    }

    /// The broker's command line: its heartbeats, and a first rebalance that waits no longer.
    fn arguments(&self) -> Vec<String> {
        let heartbeat = self.heartbeat.as_millis();
        let settings = [
            ("group.consumer.heartbeat.interval.ms", heartbeat),
            (
                "group.consumer.min.heartbeat.interval.ms",
                heartbeat.min(5_000),
            ),
            ("group.initial.rebalance.delay.ms", heartbeat.min(3_000)),
        ];
        let words = settings
            .iter()
            .flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]);
        let cores = std::env::var("CORELANE_STORM_CORES").ok();
        let cores = cores.into_iter().flat_map(|of| ["--cores".to_owned(), of]);
        words.chain(cores).collect()
    }

    fn pace(&self) -> Pace {
        Pace {
            heartbeat: self.heartbeat,
            commit: (self.heartbeat * 2).min(Duration::from_secs(5)),
            session_ms: 45_000,
            rebalance_ms: 60_000,
        }
    }
}

/// The broker, if it is ours, and what goes on with it.
struct Storm {
    size: Size,
    protocol: Protocol,
    broker: Option<Broker>,
    place: Rc<Cell<SocketAddr>>,
    probe: Option<Probe>,
    ticks: (u64, Instant),
}

impl Storm {
    async fn new(protocol: Protocol) -> Storm {
        let size = Size::of_the_environment();
        let (broker, address) = match std::env::var("CORELANE_STORM_BOOTSTRAP") {
            Ok(other) => (None, other.parse().expect("an address")),
            Err(_) => {
                let arguments = size.arguments();
                let start = move || {
                    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    Broker::start_in(None, &words)
                };
                let broker = crowd::aside(start).await;
                let address = broker.address();
                (Some(broker), address)
            }
        };
        Storm {
            size,
            protocol,
            broker,
            place: Rc::new(Cell::new(address)),
            probe: None,
            ticks: (0, Instant::now()),
        }
    }

    fn topic(&self, client: &mut Client, name: &str, partitions: i32) -> Topic {
        let name = format!("{name}-{:?}-{}", self.protocol, std::process::id());
        let id = client.create(&name, partitions, &[]);
        Topic {
            name,
            id,
            partitions,
        }
    }

    fn group(&self, name: String, topic: &Topic) -> Crowd {
        let name = format!("{name}-{:?}-{}", self.protocol, std::process::id());
        let pace = self.size.pace();
        Crowd::new(Group::new(
            name,
            self.protocol,
            topic.clone(),
            pace,
            &self.place,
        ))
    }

    /// The partition of the probe's topic that is on the core that coordinates the group.
    fn beside(&self, client: &mut Client, topic: &Topic, group: &str) -> i32 {
        let Some(cores) = self.broker.as_ref().map(Broker::cores) else {
            return 0;
        };
        let known = client.metadata(Some(&["__consumer_offsets"]), false);
        let offsets = &known.topics[0];
        let partition = partition_for(group, offsets.partitions.len() as i32);
        let owner = |id: TopicId, index| Image::owner(id, PartitionIndex(index), cores);
        let core = owner(messages::topic_id(offsets.topic_id), partition);
        let beside = (0..topic.partitions).find(|index| owner(topic.id, *index) == core);
        beside.expect("as many partitions as cores")
    }

    /// What the stretch since the last report was like.
    fn report(&mut self, what: &str) {
        let probe = self.probe.as_ref().expect("a probe");
        let ticks = self.broker.as_ref().map_or(0, Broker::ticks);
        let (before, since) = std::mem::replace(&mut self.ticks, (ticks, Instant::now()));
        let share = (ticks - before) as f64 / since.elapsed().as_secs_f64();
        println!("{what}: {} ({share:.0} % of a CPU)", probe.take());
    }
}

/// Members come and go, one every tenth of a second, in turns.
async fn churn(crowd: &mut Crowd, stretch: Duration) -> u32 {
    let mut random = Prng::new(1);
    let (end, mut changes) = (Instant::now() + stretch, 0);
    let mut ticking = tokio::time::interval(CHANGE);
    while Instant::now() < end {
        ticking.tick().await;
        match changes % 2 {
            0 => crowd.leave(random.below(crowd.len() as u64) as usize),
            _ => crowd.join(),
        }
        changes += 1;
    }
    changes
}

/// From a start until the coordinators of all groups tell what is committed.
async fn audit(crowds: &[Crowd]) -> Duration {
    let began = Instant::now();
    for crowd in crowds {
        crowd.group.audit().await.expect("a broker that stays");
    }
    began.elapsed()
}

fn storm(protocol: Protocol) {
    crowd::run(async {
        let mut storm = Storm::new(protocol).await;
        let mut client = Client::connect(storm.place.get());
        let members = storm.size.members;
        let small = storm.topic(&mut client, "small", SMALL_PARTITIONS);
        let large = storm.topic(&mut client, "large", SHARE * members as i32);
        let probe = storm.topic(&mut client, "probe", PROBE_PARTITIONS);
        let mut large = storm.group("large".to_owned(), &large);
        crowd::find_coordinator(storm.place.get(), &large.group.name).await;
        let beside = storm.beside(&mut client, &probe, &large.group.name);
        let address = storm.place.get();
        let probe = crowd::aside(move || Probe::start(address, &probe.name, beside)).await;
        storm.probe = Some(probe);
        let stretch = storm.size.stretch;
        // The first batches make the files.
        tokio::time::sleep(stretch / 3).await;
        storm.report("first batches");
        tokio::time::sleep(stretch).await;
        storm.report("no groups");

        let names = (0..storm.size.groups).map(|number| format!("small-{number}"));
        let mut crowds: Vec<Crowd> = names.map(|name| storm.group(name, &small)).collect();
        let began = Instant::now();
        for crowd in &mut crowds {
            (0..SMALL).for_each(|_| crowd.join());
        }
        for crowd in &crowds {
            crowd.settle(PATIENCE).await;
        }
        let count = crowds.len();
        println!("{count} groups of {SMALL} settled in {:?}", began.elapsed());
        storm.report("while they joined");
        tokio::time::sleep(stretch).await;
        storm.report("settled groups");

        (0..members).for_each(|_| large.join());
        println!(
            "{members} members settled in {:?}",
            large.settle(PATIENCE).await
        );
        storm.report("while they joined");
        tokio::time::sleep(stretch).await;
        storm.report("settled members");

        let changes = churn(&mut large, stretch * 3).await;
        println!(
            "{changes} changes; meanwhile {}",
            large.group.ledger.borrow().state()
        );
        storm.report("while they came and went");
        println!(
            "settled {:?} after the last one",
            large.settle(PATIENCE).await
        );
        storm.report("until settled");
        tokio::time::sleep(stretch).await;
        storm.report("settled members");
        storm.probe = None;

        crowds.push(large);
        let mut commits = 0;
        for crowd in &crowds {
            let ledger = crowd.group.ledger.borrow();
            assert_eq!(
                ledger.put_out,
                0,
                "{}: {}",
                crowd.group.name,
                ledger.state()
            );
            commits += ledger.commits;
        }
        println!("{commits} commits");
        if let Some(broker) = storm.broker.take() {
            storm.broker = Some(reload(broker, &storm.place, &crowds).await);
        }
        audit(&crowds).await;
        for crowd in &crowds {
            crowd.group.ledger.borrow().check(&crowd.group.name);
        }
    });
}

/// The broker is killed, and then stopped, under all these groups: how long until all of them have
/// their coordinators again; nothing is lost, and everybody belongs as before.
async fn reload(mut broker: Broker, place: &Cell<SocketAddr>, crowds: &[Crowd]) -> Broker {
    for kill in [true, false] {
        let began = Instant::now();
        let down;
        (broker, down) = crowd::aside(move || {
            match kill {
                true => broker.kill(),
                false => broker.stop(),
            }
            let down = Instant::now();
            broker.run();
            (broker, down)
        })
        .await;
        place.set(broker.address());
        let ready = broker.ready_after();
        let audited = audit(crowds).await;
        for crowd in crowds {
            crowd.settle(PATIENCE).await;
        }
        println!(
            "after a {}: ready in {ready:?}, all groups' offsets told {audited:?} later; \
             {:?} from the end of the last run, {:?} from the order",
            if kill { "kill" } else { "stop" },
            down.elapsed(),
            began.elapsed()
        );
    }
    broker
}

#[test]
fn classic_groups_settle_while_members_come_and_go() {
    storm(Protocol::Classic);
}

#[test]
fn consumer_groups_settle_while_members_come_and_go() {
    storm(Protocol::Consumer);
}
