//! A group under faults, from a seed: members of both kinds that crash, leave and come back; a
//! coordinator that restarts from what was durable, or whose append fails; a log that was compacted
//! meanwhile; requests that are late, lost or repeated. Then the faults stop, and the group has to
//! settle.
//!
//! Classic members are eager in the worlds of even seeds: they give up everything before they
//! rejoin. In those of odd seeds they are cooperative (KIP-429): they keep what they own, say so
//! when they rejoin, and a partition goes from one to another in two rebalances.
//!
//! In half of the worlds the network is orderly: a member's requests arrive once and in their order,
//! as on one connection after the other. Only there can it be promised that members never believe
//! that they own a partition at once: a heartbeat that comes again later says anew what its member
//! owned then.
//!
//! Knows nothing of the coordinator's insides: only requests, replies, records, and the groups
//! that anybody may look at. Invariants, held after every event:
//!
//! 1. a partition has one owner per epoch, as far as replies told anybody;
//! 2. in a consumer group, no two members own a partition at once, revocations included;
//! 3. the epoch of a group with members never goes back, as far as it is durable;
//! 4. a commit that was acknowledged is there, after any restart; none goes back;
//! 5. what a member of a consumer group is told of its epoch never goes back;
//! 6. in an orderly world, no two members that the group knows believe that they own a partition.
//!
//! When the faults stop: every partition has one owner, and the group is stable.
//!
//! A [`Canary`] is a bug planted on purpose, which the invariants must find.

mod checks;
mod leader;
mod member;

use std::collections::BTreeMap;
use std::fmt;

use member::{Kind, Member, Outgoing};

use super::request::{Body, Reply, Request, Settings, Token, Topic, TopicView};
use super::{Coordinator, Decision, Group};
use crate::base::{Mono, Now, Offset, Prng, TopicId, Wall};
use crate::protocol::ErrorCode;

/// The group.
pub(super) const GROUP: &str = "group";
/// Its topic.
pub(super) const TOPIC: &str = "topic";
/// The topic's id.
pub(super) const TOPIC_ID: TopicId = TopicId([7; 16]);
/// How many partitions it has.
pub(super) const PARTITIONS: i32 = 6;

const FAULTS_END: Mono = Mono(60_000 * MILLISECOND);
const SETTLED_BY: Mono = Mono(180_000 * MILLISECOND);
const MILLISECOND: u64 = 1_000_000;

/// A run without a broken invariant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many requests the coordinator handled.
    pub requests: u64,
    /// How often the coordinator was restarted.
    pub restarts: u64,
    /// How many records were durable in the end.
    pub records: u64,
}

/// A bug planted on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Replies leave before what they tell of is durable.
    EarlyReplies,
    /// A coordinator that restarts misses the last record that was durable.
    ForgottenRecord,
    /// The coordinator takes a member to have let go of everything; so does the leader of a
    /// cooperative group.
    EarlyHandOver,
}

impl Canary {
    /// The one that a seed plants.
    pub fn of(seed: u64) -> Canary {
        match seed % 3 {
            0 => Canary::EarlyReplies,
            1 => Canary::ForgottenRecord,
            _ => Canary::EarlyHandOver,
        }
    }
}

/// A broken invariant: the seed that shows it again, when, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Run this again.
    pub seed: u64,
    /// When, in the run's own time.
    pub at_ms: u64,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}

#[allow(clippy::large_enum_variant)]
enum Event {
    /// A member does what it does next.
    Wake(usize),
    /// A request arrives at the coordinator.
    Arrive {
        member: usize,
        life: u64,
        request: Box<Request>,
    },
    /// A reply arrives at its member.
    Answer {
        member: usize,
        life: u64,
        token: Token,
        reply: Reply,
    },
    /// What was appended becomes durable.
    Sync,
    /// The coordinator dies and comes back.
    Restart,
    /// What the coordinator has decided last cannot be appended: it is thrown away and loaded anew.
    Refuse,
}

/// A reply that waits until the log is durable up to here.
struct Held {
    durable: usize,
    token: Token,
    reply: Reply,
    /// Which succession of epochs it belongs to.
    succession: u64,
}

struct World {
    random: Prng,
    now: Now,
    settings: Settings,
    topics: TopicView,
    coordinator: Coordinator,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    durable: usize,
    held: Vec<Held>,
    askers: BTreeMap<Token, (usize, u64, String)>,
    members: Vec<Member>,
    events: BTreeMap<(Mono, u64), Event>,
    sequence: u64,
    tokens: Token,
    next_offset: i64,
    acknowledged: BTreeMap<i32, i64>,
    sent_commits: BTreeMap<Token, Vec<(i32, i64)>>,
    offsets: BTreeMap<i32, i64>,
    owners: BTreeMap<(u64, i32, i32), String>,
    succession: u64,
    durable_epoch: i32,
    member_epochs: BTreeMap<(u64, String), i32>,
    orderly: bool,
    /// When each member's last request arrives.
    arrivals: Vec<Mono>,
    canary: Option<Canary>,
    report: Report,
}

/// Runs one seed.
pub fn run(seed: u64) -> Result<Report, Broken> {
    run_with(seed, None)
}

/// Runs one seed, with a bug planted.
pub fn run_with(seed: u64, canary: Option<Canary>) -> Result<Report, Broken> {
    let mut world = World::new(seed, canary);
    while let Some(((at, _), event)) = world.events.pop_first() {
        if at > SETTLED_BY {
            break;
        }
        let step = world.run_until(at).and_then(|()| world.event(event));
        step.map_err(|what| world.broken(seed, what))?;
    }
    world
        .check_settled()
        .map_err(|what| world.broken(seed, what))?;
    world.report.records = world.durable as u64;
    Ok(world.report)
}

impl World {
    fn new(seed: u64, canary: Option<Canary>) -> World {
        let mut random = Prng::new(seed);
        let orderly = random.one_in(2);
        let settings = Settings {
            initial_rebalance_delay_ms: 500,
            session_timeout_ms_min: 1_000,
            consumer_session_timeout_ms: 6_000,
            consumer_heartbeat_interval_ms: 500,
            new_member_join_timeout_ms: 10_000,
            ..Settings::default()
        };
        let mut topics = TopicView::new(1);
        let racks = BTreeMap::new();
        topics.insert(
            TOPIC,
            Topic {
                id: TOPIC_ID,
                partitions: PARTITIONS,
                racks,
            },
        );
        let mixture = random.below(3);
        let classic = match seed % 2 {
            0 => Kind::Eager,
            _ => Kind::Cooperative {
                hasty: canary == Some(Canary::EarlyHandOver),
            },
        };
        let members = (0..2 + random.below(4)).map(|number| {
            let old = mixture == 0 || (mixture == 1 && random.one_in(2));
            Member::new(number, if old { classic } else { Kind::Consumer })
        });
        let members = members.collect::<Vec<_>>();
        let arrivals = vec![Mono(0); members.len()];
        let mut world = World {
            coordinator: Coordinator::new(settings.clone(), seed),
            random,
            now: Now {
                mono: Mono(0),
                wall: Wall(1_000_000),
            },
            settings,
            topics,
            log: Vec::new(),
            durable: 0,
            held: Vec::new(),
            askers: BTreeMap::new(),
            members,
            events: BTreeMap::new(),
            sequence: 0,
            tokens: 0,
            next_offset: 1,
            acknowledged: BTreeMap::new(),
            sent_commits: BTreeMap::new(),
            offsets: BTreeMap::new(),
            owners: BTreeMap::new(),
            succession: 0,
            durable_epoch: 0,
            member_epochs: BTreeMap::new(),
            orderly,
            arrivals,
            canary,
            report: Report::default(),
        };
        for member in 0..world.members.len() {
            let wait = world.random.below(3_000);
            world.after(wait, Event::Wake(member));
        }
        for _ in 0..world.random.below(4) {
            let at = world.random.below(FAULTS_END.0 / MILLISECOND);
            let event = match world.random.one_in(3) {
                true => Event::Refuse,
                false => Event::Restart,
            };
            world.after(at, event);
        }
        world.after(1, Event::Sync);
        world
    }

    fn broken(&self, seed: u64, what: String) -> Broken {
        Broken {
            seed,
            at_ms: self.now.mono.0 / MILLISECOND,
            what,
        }
    }

    fn faulty(&self) -> bool {
        self.now.mono < FAULTS_END
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.sequence += 1;
        let at = Mono(self.now.mono.0 + millis * MILLISECOND);
        self.events.insert((at, self.sequence), event);
    }

    /// Lets time pass up to an event; the coordinator does what is due until then.
    fn run_until(&mut self, at: Mono) -> Result<(), String> {
        while let Some(due) = self.coordinator.next_deadline().filter(|due| *due <= at) {
            self.set_time(due.max(self.now.mono));
            let decision = self.coordinator.tick(self.now, &self.topics);
            self.decided(decision)?;
        }
        self.set_time(at);
        Ok(())
    }

    fn set_time(&mut self, mono: Mono) {
        self.now = Now {
            mono,
            wall: Wall(1_000_000 + (mono.0 / MILLISECOND) as i64),
        };
    }

    fn event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Wake(member) => self.wake(member),
            Event::Arrive {
                member,
                life,
                request,
            } => self.arrive(member, life, &request),
            Event::Answer {
                member,
                life,
                token,
                reply,
            } => {
                if self.members[member].life == life
                    && let Some(next) = self.members[member].answered(token, reply)
                {
                    self.send(member, next);
                }
                self.check_beliefs()
            }
            Event::Sync => {
                let wait = 1 + self.random.below(if self.faulty() { 60 } else { 100 });
                self.after(wait, Event::Sync);
                self.sync()
            }
            Event::Restart => self.restart(),
            Event::Refuse => self.refuse(),
        }
    }

    fn wake(&mut self, index: usize) -> Result<(), String> {
        let wait = 200 + self.random.below(600);
        self.after(wait, Event::Wake(index));
        let faulty = self.faulty();
        if faulty && self.random.one_in(60) {
            let away = self.random.below(12_000);
            let leaving = self
                .random
                .one_in(2)
                .then(|| self.members[index].leave())
                .flatten();
            self.members[index].crash(self.now.mono.after_ms(away as i64));
            if let Some(leaving) = leaving {
                self.send(index, leaving);
            }
            return Ok(());
        }
        if let Some(next) = self.members[index].wake(self.now.mono) {
            self.send(index, next);
        }
        self.commit(index)
    }

    /// Sends a request: late, lost or twice while there are faults.
    fn send(&mut self, member: usize, outgoing: Outgoing) {
        self.tokens += 1;
        let token = self.tokens;
        self.members[member].sent(token, self.now.mono);
        let life = self.members[member].life;
        let copies = match self.faulty() {
            true if self.random.one_in(20) => 0,
            true if !self.orderly && self.random.one_in(20) => 2,
            true | false => 1,
        };
        for _ in 0..copies {
            let delay = if self.faulty() {
                self.random.below(400)
            } else {
                1
            };
            let mut at = Mono(self.now.mono.0 + delay * MILLISECOND);
            if self.orderly {
                at = at.max(self.arrivals[member]);
                self.arrivals[member] = at;
            }
            let request = Box::new(self.members[member].request(token, outgoing.clone()));
            let arrive = Event::Arrive {
                member,
                life,
                request,
            };
            self.sequence += 1;
            self.events.insert((at, self.sequence), arrive);
        }
    }

    fn arrive(&mut self, member: usize, life: u64, request: &Request) -> Result<(), String> {
        self.report.requests += 1;
        // A repeated request is a request of its own to the broker; its answer finds nobody.
        self.tokens += 1;
        let token = match self.askers.contains_key(&request.token) {
            true => self.tokens,
            false => request.token,
        };
        let name = self.members[member].id.clone();
        self.askers.insert(token, (member, life, name));
        let mut request = Request {
            token,
            ..request.clone()
        };
        if self.canary == Some(Canary::EarlyHandOver)
            && let Body::ConsumerGroupHeartbeat(body) = &mut request.body
        {
            body.topic_partitions = Some(Vec::new());
        }
        let decision = self.coordinator.handle(self.now, &request, &self.topics);
        self.decided(decision)
    }

    /// A member commits what it owns, with ever higher offsets. Commits are not repeated: TCP
    /// does not, and a commit does not tell which came first.
    fn commit(&mut self, member: usize) -> Result<(), String> {
        let offset = self.next_offset;
        let Some((outgoing, partitions)) = self.members[member].commit(offset) else {
            return Ok(());
        };
        self.next_offset += 1;
        self.tokens += 1;
        let token = self.tokens;
        let sent = partitions
            .into_iter()
            .map(|partition| (partition, offset))
            .collect();
        self.sent_commits.insert(token, sent);
        let request = self.members[member].request(token, outgoing);
        let decision = self.coordinator.handle(self.now, &request, &self.topics);
        self.decided(decision)
    }

    fn decided(&mut self, decision: Decision) -> Result<(), String> {
        self.log.extend(decision.records);
        self.note_succession();
        let (durable, succession) = (self.log.len(), self.succession);
        let held = decision.replies.into_iter();
        self.held.extend(held.map(|(token, reply)| Held {
            durable,
            token,
            reply,
            succession,
        }));
        self.check_owners()?;
        self.check_offsets()?;
        if self.canary == Some(Canary::EarlyReplies) {
            for held in std::mem::take(&mut self.held) {
                self.released(held)?;
            }
        }
        Ok(())
    }

    /// A group without members may begin its epochs anew.
    fn note_succession(&mut self) {
        let empty = self
            .coordinator
            .groups()
            .get(GROUP)
            .is_none_or(Group::is_empty);
        if empty {
            self.succession += 1;
            self.durable_epoch = 0;
        }
    }

    /// Everything that was appended is durable: replies leave.
    fn sync(&mut self) -> Result<(), String> {
        self.durable = self.log.len();
        for held in std::mem::take(&mut self.held) {
            debug_assert!(held.durable <= self.durable);
            self.released(held)?;
        }
        let stable = self
            .coordinator
            .groups()
            .get(GROUP)
            .filter(|group| !group.is_empty());
        let epoch = match stable {
            Some(Group::Consumer(group)) => group.epoch(),
            // Between two rebalances a classic generation is not durable, as in Kafka.
            Some(Group::Classic(group)) if group.state().name() == "Stable" => group.generation(),
            Some(Group::Classic(_)) | None => return Ok(()),
        };
        if epoch < self.durable_epoch {
            return Err(format!(
                "the epoch went back from {} to {epoch}",
                self.durable_epoch
            ));
        }
        self.durable_epoch = epoch;
        Ok(())
    }

    fn released(&mut self, held: Held) -> Result<(), String> {
        if let Some(sent) = self.sent_commits.remove(&held.token) {
            for (partition, offset) in sent.into_iter().filter(|_| member::succeeded(&held.reply)) {
                let known = self.acknowledged.entry(partition).or_default();
                *known = (*known).max(offset);
            }
            return Ok(());
        }
        let Some((index, life, name)) = self.askers.remove(&held.token) else {
            return Ok(());
        };
        self.check_member_epoch(held.succession, &name, &held.reply)?;
        if let Some((epoch, owned)) = self.members[index].told(life, &held.reply) {
            for partition in owned {
                let place = (held.succession, epoch, partition);
                let owner = self.owners.entry(place).or_insert_with(|| name.clone());
                if *owner != name {
                    return Err(format!(
                        "{partition} is owned by {owner} and {name} at epoch {epoch}"
                    ));
                }
            }
        }
        if self.faulty() && self.random.one_in(30) {
            return Ok(());
        }
        let delay = if self.faulty() {
            self.random.below(300)
        } else {
            1
        };
        let (token, reply) = (held.token, held.reply);
        self.after(
            delay,
            Event::Answer {
                member: index,
                life,
                token,
                reply,
            },
        );
        Ok(())
    }

    /// The coordinator dies with everything that was not durable, and loads what was.
    fn restart(&mut self) -> Result<(), String> {
        self.askers.clear();
        let fresh = Coordinator::new(self.settings.clone(), self.random.next_u64());
        self.load(fresh)
    }

    /// The coordinator lives, but is ahead of its log: who waits for it is refused, and another one
    /// loads what is durable.
    fn refuse(&mut self) -> Result<(), String> {
        let fresh = Coordinator::new(self.settings.clone(), self.random.next_u64());
        let ahead = std::mem::replace(&mut self.coordinator, fresh.clone());
        for (token, reply) in ahead.unload(ErrorCode::CoordinatorNotAvailable) {
            if let Some((member, life, _)) = self.askers.remove(&token) {
                let delay = 1 + self.random.below(300);
                self.after(
                    delay,
                    Event::Answer {
                        member,
                        life,
                        token,
                        reply,
                    },
                );
            }
        }
        self.load(fresh)
    }

    /// Loads what was durable, of which compaction may have left only the latest record of each
    /// key.
    fn load(&mut self, mut coordinator: Coordinator) -> Result<(), String> {
        self.report.restarts += 1;
        self.log.truncate(self.durable);
        self.held.clear();
        self.sent_commits.clear();
        if self.random.one_in(2) {
            let keep_tombstones = self.random.one_in(2);
            compact(&mut self.log, keep_tombstones);
            self.durable = self.log.len();
        }
        let known = match self.canary {
            Some(Canary::ForgottenRecord) => self.log.len().saturating_sub(1),
            _ => self.log.len(),
        };
        for (place, (key, value)) in (0i64..).zip(&self.log[..known]) {
            let replayed = coordinator.replay(key, value.as_deref(), Offset(place));
            replayed.map_err(|malformed| format!("a record of our own: {malformed:?}"))?;
        }
        self.coordinator = coordinator;
        self.offsets.clear();
        let decision = self.coordinator.loaded(self.now);
        self.decided(decision)
    }
}

/// Leaves the latest record of each key, where it was.
fn compact(log: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>, keep_tombstones: bool) {
    let mut latest: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (place, (key, _)) in log.iter().enumerate() {
        latest.insert(key.clone(), place);
    }
    let mut place = 0;
    log.retain(|(key, value)| {
        let kept = latest.get(key) == Some(&place) && (keep_tombstones || value.is_some());
        place += 1;
        kept
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_their_invariants_under_faults_and_settle_afterwards() {
        let seeds = if cfg!(debug_assertions) { 200 } else { 2_000 };
        let mut restarts = 0;
        for seed in 0..seeds {
            match run(seed) {
                Ok(report) => restarts += report.restarts,
                Err(broken) => panic!("{broken}"),
            }
        }
        assert!(restarts > seeds, "the faults did not happen: {restarts}");
    }

    /// A group went from consumer to classic and back while a member had still to give up what was
    /// another's target.
    #[test]
    fn seed_7216_a_downgrade_in_the_middle_of_a_hand_over() {
        run(7216).map_err(|broken| broken.to_string()).unwrap();
    }

    /// An upgrade in the middle of a cooperative rebalance, and a cooperative member that rejoined
    /// with partitions that it had lost unawares.
    #[test]
    fn seed_35_cooperative_members_and_an_upgrade() {
        run(35).map_err(|broken| broken.to_string()).unwrap();
    }

    /// A leader of a cooperative group that does not wait for its members is found as well.
    #[test]
    fn a_hasty_leader_is_found() {
        let odd = (0..60).map(|number| 2 * number + 1);
        let found = odd.map(|seed| run_with(seed, Some(Canary::EarlyHandOver)));
        let found = found.filter_map(Result::err);
        let found = found.filter(|broken| broken.what.contains("client-"));
        assert!(found.count() > 0);
    }

    #[test]
    fn planted_bugs_are_found() {
        for canary in [
            Canary::EarlyReplies,
            Canary::ForgottenRecord,
            Canary::EarlyHandOver,
        ] {
            let found = (0..60).any(|seed| run_with(seed, Some(canary)).is_err());
            assert!(found, "{canary:?}");
        }
    }

    #[test]
    fn the_same_seed_runs_the_same() {
        assert_eq!(run(7), run(7));
    }
}
