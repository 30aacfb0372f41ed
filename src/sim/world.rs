//! The run: a heap of what is to happen, the crashes in between, and the end, at which everything
//! has to come right.

use std::collections::BTreeMap;

use crate::base::{CoreId, FaultKind, Pool, Prng, TopicPartition};
use crate::cluster::Image;
use crate::log::{Fault, SPACE_RETRY_MS};
use crate::shard::{Event, Request, Ticket};

use super::admin::Admin;
use super::batcher::Batcher;
use super::broker::{Answer, Broker};
use super::consumer::Consumer;
use super::disk::Disk;
use super::invariants::{Watch, housekept};
use super::model::Model;
use super::plan::{Crash, Plan};
use super::producer::Producer;
use super::trace::Trace;
use super::{Failure, Options, Report};

/// How long everything may take to come right once the faults are over, in events and in nanoseconds
/// of virtual time: a busy world has many events in a second, and a log that found the disk full tries
/// again after one.
const CALM_STEPS_MAX: u64 = 60_000;
const CALM_NS_MAX: u64 = 3_000_000_000;
/// How long a log that found the disk full keeps from all else, in milliseconds.
const FULL_DISK_MS_MAX: u64 = SPACE_RETRY_MS as u64 + 100;
/// So many events are too many, however little time went by.
const CALM_STEPS_TOO_MANY: u64 = 20 * CALM_STEPS_MAX;
/// The largest `retention.ms` that the workload sets.
pub(super) const RETENTION_MS_MAX: u64 = 100;
/// The most virtual time in which a stop must have closed everything, in nanoseconds.
const STOP_NS_MAX: u64 = 10_000_000_000;

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// A core gets an event.
    Event(CoreId, Event),
    /// A disk operation is done.
    Disk(u64),
    /// A core's turn ends.
    EndTurn(usize),
    /// A core's timer goes off.
    Tick(usize),
    /// The answer to a ticket arrives.
    Answer(u64, Box<Answer>),
    /// A client does something.
    Client(usize),
    /// The disk fills up, or has room again.
    Space(bool),
}

/// One of the workload.
pub(super) enum Client {
    Producer(Producer),
    Batcher(Batcher),
    Consumer(Consumer),
    Admin(Admin),
}

/// Who waits for an answer: the client, and its own mark for the question.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    client: usize,
    mark: u64,
}

/// All there is.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) prng: Prng,
    pub(super) now_ns: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    pub(super) broker: Broker,
    pub(super) disk: Disk,
    pub(super) model: Model,
    pub(super) watch: Watch,
    pub(super) trace: Trace,
    pub(super) cache_bytes_max: usize,
    clients: Vec<Option<Client>>,
    waiting: BTreeMap<u64, Waiting>,
    tickets: u64,
    /// The faults are over: clients finish what they have begun.
    pub(super) calm: bool,
    pub(super) report: Report,
}

/// Runs a seed. The error is a promise that the broker broke.
pub fn run(seed: u64, options: &Options) -> Result<Report, Failure> {
    run_plan(&Plan::new(seed, options))
}

/// Runs a plan, which may differ from what its seed says.
pub fn run_plan(plan: &Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan.clone());
    match world.live() {
        Ok(()) => Ok(world.report()),
        Err(broken) => Err(Failure {
            seed: plan.seed,
            step: world.trace.step,
            broken,
            events: world.trace.story(),
        }),
    }
}

impl World {
    fn new(plan: Plan) -> World {
        let mut prng = Prng::new(plan.seed);
        let mut disk = Disk::new(plan.disks, Prng::new(prng.next_u64()));
        disk.trouble.error_one_in = plan.disk_error_one_in;
        disk.trouble.names_fail = plan.names_fail;
        disk.trouble.canary = plan.canary;
        let mut world = World {
            now_ns: 1_000_000,
            queue: BTreeMap::new(),
            queued: 0,
            broker: Broker::default(),
            disk,
            model: Model::default(),
            watch: Watch::default(),
            trace: Trace::default(),
            cache_bytes_max: if prng.one_in(2) { 8 << 10 } else { 8 << 20 },
            clients: Vec::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
            calm: false,
            report: Report {
                seed: plan.seed,
                ..Report::default()
            },
            prng,
            plan,
        };
        let expiration = world.plan.producer_expiration_ms;
        world.model.producer_expiration_ms = expiration.map_or(86_400_000, |ms| ms as i64);
        world.employ();
        world
    }

    fn employ(&mut self) {
        let mut clients = vec![Client::Admin(Admin::new(0))];
        let producers = self.plan.idempotent_producers + self.plan.plain_producers;
        for number in 0..producers {
            let idempotent = number < self.plan.idempotent_producers;
            clients.push(Client::Producer(Producer::new(clients.len(), idempotent)));
        }
        for _ in 0..self.plan.batchers {
            clients.push(Client::Batcher(Batcher::new(clients.len())));
        }
        for _ in 0..self.plan.consumers {
            clients.push(Client::Consumer(Consumer::new(clients.len())));
        }
        self.clients = clients.into_iter().map(Some).collect();
    }

    fn live(&mut self) -> Result<(), String> {
        let pool = Pool::new(4 << 20);
        self.start(&pool)?;
        let mut crashes = self.plan.crashes.clone().into_iter().peekable();
        while self.trace.step < self.plan.steps {
            if let Some((_, crash)) = crashes.next_if(|(at, _)| *at <= self.trace.step) {
                self.end_process(crash)?;
                self.start(&pool)?;
            } else if self.broker.fatal {
                self.end_process(Crash::Kill)?;
                self.start(&pool)?;
            }
            self.next()?;
        }
        self.come_right(&pool)
    }

    /// The faults are over: what was begun is finished, and all that was promised is there.
    fn come_right(&mut self, pool: &Pool) -> Result<(), String> {
        self.calm = true;
        self.disk.trouble.error_one_in = 0;
        self.disk.trouble.full = false;
        if !self.disk.harmed.is_empty() || self.broker.fatal {
            self.end_process(Crash::Kill)?;
            self.start(pool)?;
        }
        self.settle("everything that was begun to be finished")?;
        self.audit()?;
        self.keep_house()?;
        let last = [Crash::Stop, Crash::Kill, Crash::PowerCut][self.prng.below(3) as usize];
        self.end_process(last)?;
        self.start(pool)?;
        self.settle("the last start to be over")?;
        self.audit()
    }

    /// Nothing happens any more but what the cores do by themselves; then that must be done.
    fn keep_house(&mut self) -> Result<(), String> {
        let slack_ms = 3 * self.plan.housekeeping_ms;
        let expiration_ms = self.plan.producer_expiration_ms.unwrap_or(0);
        let mut wait_ms = RETENTION_MS_MAX.max(expiration_ms) + 2 * slack_ms;
        if self.plan.fills_up {
            // A log that found the disk full does nothing else until it has asked again.
            wait_ms += FULL_DISK_MS_MAX;
        }
        let until = self.now_ns + wait_ms * 1_000_000;
        while self.now_ns < until {
            self.next()?;
        }
        for seat in &self.broker.seats {
            housekept(&seat.core, &self.model, slack_ms as i64)?;
        }
        Ok(())
    }

    /// Everything that can be read is read.
    fn audit(&mut self) -> Result<(), String> {
        let mut wanted: Vec<TopicPartition> = Vec::new();
        for seat in &self.broker.seats {
            for partition in seat.core.partitions() {
                if let Some(fault) = partition.fault() {
                    return Err(format!("{:?} stays fenced: {fault}", partition.id()));
                }
                wanted.push(partition.id());
            }
        }
        let auditor = self.clients.len();
        self.clients
            .push(Some(Client::Consumer(Consumer::auditor(auditor, wanted))));
        self.later(0, Happening::Client(auditor));
        self.settle("all records to be read")?;
        self.clients.pop();
        Ok(())
    }

    /// Runs until nobody waits for anything.
    fn settle(&mut self, what: &str) -> Result<(), String> {
        let (begun, until) = (self.trace.step, self.now_ns + CALM_NS_MAX);
        while !(self.is_ready()
            && self.waiting.is_empty()
            && self.clients_are_done()
            && self.nothing_comes_back())
        {
            let steps = self.trace.step - begun;
            if steps > CALM_STEPS_TOO_MANY || (steps > CALM_STEPS_MAX && self.now_ns > until) {
                let waiting: Vec<_> = self.waiting.iter().take(5).collect();
                let (ready, done) = (self.is_ready(), self.clients_are_done());
                let faults: Vec<_> = self.faults().collect();
                return Err(format!(
                    "too long waited for {what}; tickets {waiting:?}, cores ready: {ready}, \
                     clients done: {done}, faults {faults:?}"
                ));
            }
            self.next()?;
        }
        Ok(())
    }

    fn faults(&self) -> impl Iterator<Item = &Fault> {
        let seats = self.broker.seats.iter();
        let partitions = seats.flat_map(|seat| seat.core.partitions());
        partitions.filter_map(|partition| partition.fault())
    }

    /// No log waits to be opened again after it found no space for a write.
    fn nothing_comes_back(&self) -> bool {
        let mut partitions = self
            .broker
            .seats
            .iter()
            .flat_map(|seat| seat.core.partitions());
        partitions.all(|partition| match partition.fault() {
            Some(Fault::Disk(fault)) => fault.kind != FaultKind::NoSpace,
            Some(Fault::Corrupt { .. } | Fault::Foreign { .. }) => true,
            None => partition.is_ready(),
        })
    }

    fn clients_are_done(&self) -> bool {
        self.clients.iter().flatten().all(|client| match client {
            Client::Producer(producer) => producer.is_done(),
            Client::Batcher(batcher) => batcher.is_done(),
            Client::Consumer(consumer) => consumer.is_done(),
            Client::Admin(_) => true,
        })
    }

    fn start(&mut self, pool: &Pool) -> Result<(), String> {
        let cores = 1 + self.prng.below(4) as u16;
        self.trace
            .note(self.now_ns, 0, "START with cores", [i64::from(cores), 0, 0]);
        self.start_broker(cores, pool)?;
        for index in 0..self.clients.len() {
            let home = CoreId(self.prng.below(u64::from(cores)) as u16);
            match self.clients[index].as_mut() {
                Some(Client::Producer(producer)) => producer.restarted(home),
                Some(Client::Batcher(batcher)) => batcher.restarted(home),
                Some(Client::Consumer(consumer)) => consumer.restarted(home),
                Some(Client::Admin(admin)) => admin.restarted(home),
                None => {}
            }
            let after = self.prng.below(1_000_000);
            self.later(after, Happening::Client(index));
        }
        if self.plan.fills_up && !self.calm {
            let after = self.prng.below(20_000_000);
            self.later(after, Happening::Space(true));
        }
        Ok(())
    }

    /// The process ends, one way or another; only the disk stays.
    fn end_process(&mut self, crash: Crash) -> Result<(), String> {
        if crash == Crash::Stop {
            self.stop_cleanly()?;
        }
        self.note_claims();
        let power = crash == Crash::PowerCut;
        let told = [i64::from(power), i64::from(crash == Crash::Stop), 0];
        self.trace
            .note(self.now_ns, 0, "CRASH (power, clean)", told);
        match crash {
            Crash::PowerCut => self.report.power_cuts += 1,
            Crash::Kill => self.report.kills += 1,
            Crash::Stop => self.report.stops += 1,
        }
        if power {
            self.model.power_cut();
        }
        self.disk.trouble.full = false;
        self.disk.crash(power);
        // What a relaxed topic lost to the power only its checkpoint could tell from damage.
        let bearable = !power || self.plan.strict;
        if self.plan.derived_damage && bearable && self.disk.damage_derived() {
            self.model.derived_damaged();
        }
        self.broker = Broker::default();
        self.watch = Watch::default();
        self.queue.clear();
        self.waiting.clear();
        self.now_ns += 1_000_000 + self.prng.below(1_000_000_000);
        Ok(())
    }

    fn note_claims(&mut self) {
        for seat in &self.broker.seats {
            for partition in seat
                .core
                .partitions()
                .filter(|partition| partition.is_ready())
            {
                self.model
                    .durable_claimed(partition.id(), partition.durable_end());
            }
        }
    }

    fn stop_cleanly(&mut self) -> Result<(), String> {
        // In virtual time, not in steps: a full disk is tried again once a second, and readers poll
        // a stopping broker many times meanwhile.
        let limit = self.now_ns + STOP_NS_MAX;
        for index in 0..self.broker.seats.len() {
            self.step(index, Event::Stop)?;
        }
        while !self.broker.seats.iter().all(|seat| seat.stopped) {
            if self.broker.fatal {
                return Ok(());
            }
            self.disk.trouble.full = false;
            if self.now_ns > limit {
                return Err("the broker does not stop".to_owned());
            }
            self.next()?;
        }
        Ok(())
    }

    /// Lets the next thing happen.
    fn next(&mut self) -> Result<(), String> {
        let Some(((at, _), happening)) = self.queue.pop_first() else {
            return Err("nothing is left to happen".to_owned());
        };
        self.now_ns = at;
        self.model.now_ms = self.now().wall.0;
        self.trace.step += 1;
        match happening {
            Happening::Event(core, event) => {
                self.report.events += 1;
                self.step(usize::from(core.0), event)
            }
            Happening::Disk(number) => match self.disk.finish(number) {
                Some((core, done)) => {
                    self.report.events += 1;
                    self.step(usize::from(core.0), Event::Disk(done))
                }
                None => Ok(()),
            },
            Happening::EndTurn(index) => self.end_turn(index),
            Happening::Tick(index) => self.tick(index),
            Happening::Answer(ticket, answer) => self.answered(ticket, *answer),
            Happening::Client(index) => self.act(index, Client::wake),
            Happening::Space(full) => {
                self.fill_up(full);
                Ok(())
            }
        }
    }

    fn fill_up(&mut self, full: bool) {
        self.trace
            .note(self.now_ns, 0, "disk full", [i64::from(full), 0, 0]);
        self.disk.trouble.full = full && !self.calm;
        let after = 1_000_000 + self.prng.below(30_000_000);
        if full || !self.calm {
            self.later(after, Happening::Space(!full));
        }
    }

    fn answered(&mut self, ticket: u64, answer: Answer) -> Result<(), String> {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return Err(format!(
                "nobody waits for ticket {ticket}: {:?}",
                answer.reply
            ));
        };
        self.trace
            .note(self.now_ns, 0, "answer to ticket", [ticket as i64, 0, 0]);
        self.act(waiting.client, |client, world| {
            client.answered(world, waiting.mark, answer)
        })
    }

    fn act(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Client, &mut World) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(mut client) = self.clients.get_mut(index).and_then(Option::take) else {
            return Ok(());
        };
        let result = act(&mut client, self);
        self.clients[index] = Some(client);
        result
    }

    /// Something happens `after` nanoseconds.
    pub(super) fn later(&mut self, after: u64, happening: Happening) {
        self.queued += 1;
        self.queue
            .insert((self.now_ns.saturating_add(after), self.queued), happening);
    }

    /// Sends a request of a client on core `home` to core `to`. Gives the ticket.
    pub(super) fn ask(
        &mut self,
        (client, mark): (usize, u64),
        home: CoreId,
        to: CoreId,
        request: Request,
    ) -> Ticket {
        let ticket = Ticket {
            core: home,
            number: self.tickets,
        };
        self.tickets += 1;
        self.waiting.insert(ticket.number, Waiting { client, mark });
        self.mail(
            home,
            to,
            Happening::Event(to, Event::Request { ticket, request }),
        );
        ticket
    }

    /// The core that owns a partition now.
    pub(super) fn owner(&self, id: TopicPartition) -> CoreId {
        Image::owner(id.topic, id.partition, self.cores())
    }

    /// Some partition of the cluster as core `home` sees it.
    pub(super) fn some_partition(&mut self, home: CoreId) -> Option<TopicPartition> {
        let image = self.image(home);
        self.model.compacted.learn(&image);
        let all: Vec<TopicPartition> = image
            .topics()
            .flat_map(|topic| {
                let id = topic.id;
                (0..topic.partitions.len() as i32).map(move |index| TopicPartition {
                    topic: id,
                    partition: crate::base::PartitionIndex(index),
                })
            })
            .collect();
        let count = all.len() as u64;
        (count > 0).then(|| all[self.prng.below(count) as usize])
    }

    fn report(&self) -> Report {
        Report {
            disk_errors: self.disk.errors,
            name_errors: self.disk.name_errors,
            acked_records: self.model.acked_records,
            read_records: self.model.read_records,
            relaxed_records_lost: self.model.lost_records,
            retained: self.model.retained,
            config_changes: self.model.config_changes,
            compactions: self.model.compacted.rounds,
            hash: self.trace.hash(),
            ..self.report
        }
    }
}

impl Client {
    fn wake(&mut self, world: &mut World) -> Result<(), String> {
        match self {
            Client::Producer(producer) => producer.wake(world),
            Client::Batcher(batcher) => batcher.wake(world),
            Client::Consumer(consumer) => consumer.wake(world),
            Client::Admin(admin) => admin.wake(world),
        }
        Ok(())
    }

    fn answered(&mut self, world: &mut World, mark: u64, answer: Answer) -> Result<(), String> {
        match self {
            Client::Producer(producer) => producer.answered(world, mark, answer.reply),
            Client::Batcher(batcher) => batcher.answered(world, mark, answer.reply),
            Client::Consumer(consumer) => consumer.answered(world, mark, answer),
            Client::Admin(admin) => admin.answered(world, mark, answer.reply),
        }
    }
}
