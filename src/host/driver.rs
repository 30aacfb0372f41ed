//! The core's event loop, less the waiting: what a turn does and how effects are carried out.

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{
    BrokerId, CoreId, DiskDone, DiskFault, DiskOp, FaultKind, FilePath, Mono, Now, TopicPartition,
};
use crate::cluster::Image;
use crate::cluster::configs::StaticConfigs;
use crate::log::{Abandoned, Compacted, Fault, Slice, settled_name};
use crate::net::Descriptor;
use crate::obs::{CoreSnapshot, DiskVerb, FetchStage, Measurements, ProduceStage};
use crate::partition::Refusal;
use crate::rt::{self, Counters, Disk, File, Port};
use crate::shard::{
    Core, Effects, Event, PeerMessage, Progress, Reply, Request, Setup, Ticket, VolumeState,
};

use super::call::{Answer, Call, Calls};
use super::faces::CoreDoor;

/// How many messages a turn takes from each queue of the mesh.
const MAIL_PER_TURN: usize = 256;

/// What travels between cores, and to them from other threads.
pub enum Mail {
    /// Something for the core.
    Event(Event),
    /// A question to the core, and when it was sent.
    Asked(Ticket, Request, Mono),
    /// The answer to a call of the core that gets it.
    Answer {
        /// Its number there.
        number: u64,
        /// The answer.
        answer: Answer,
        /// When it was sent.
        sent: Mono,
    },
    /// A connection that is to live on the core that gets it.
    Adopt(Handover),
    /// Something to be done on that core's thread.
    Run(Box<dyn FnOnce(&Host) + Send>),
}

/// A connection on its way from one core to another.
pub struct Handover {
    /// Its socket.
    pub socket: Descriptor,
    /// What was received and not begun yet.
    pub leftover: Bytes,
    /// What the door remembers of it.
    pub state: Box<dyn Any + Send>,
    /// When the last request on it was begun where it was.
    pub since: Mono,
}

/// What the node is told of its cores.
#[derive(Debug)]
pub enum Status {
    /// The core has opened everything that it owns.
    Ready(CoreId),
    /// The core's door is open: clients can connect.
    Listening(CoreId),
    /// The core has closed everything.
    Stopped(CoreId),
    /// How far the core's start has come.
    Progress(CoreId, Progress),
    /// SIGTERM or SIGINT.
    Signal,
    /// The core cannot go on.
    Fatal(CoreId, String),
    /// A log was fenced; its partition by name, or the metadata log.
    Fault {
        /// `topic-partition`, or `the metadata log`.
        what: String,
        /// Why.
        fault: Fault,
    },
    /// A partition that was fenced is not any more, by name; or it was deleted.
    Healed(String),
    /// A data directory's state changed, as the core sees it.
    Volume {
        /// The core.
        core: CoreId,
        /// The directory.
        disk: u16,
        /// How it is now.
        state: VolumeState,
    },
}

/// What the node is.
#[derive(Debug)]
pub struct Node {
    /// Its broker id.
    pub broker: BrokerId,
    /// Its cluster.
    pub cluster_id: String,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Its data directories.
    pub data_dirs: Vec<String>,
    /// The configs it was started with.
    pub static_configs: Arc<StaticConfigs>,
    /// Where clients find each core; empty unless each has a listener of its own.
    pub core_doors: Vec<CoreDoor>,
}

/// What a host is started with.
pub struct Start {
    /// For the core.
    pub setup: Setup,
    /// The core's end of the mesh.
    pub port: Rc<Port<Mail>>,
    /// The core's disks.
    pub disk: Disk,
    /// What the node is.
    pub node: Arc<Node>,
    /// Whom to tell.
    pub status: mpsc::Sender<Status>,
}

/// Adds what the doors have counted themselves.
type Measure = Box<dyn Fn(&mut Measurements)>;

struct Inner {
    id: CoreId,
    cores: u16,
    core: RefCell<Core>,
    calls: Calls,
    port: Rc<Port<Mail>>,
    /// What did not fit into a queue, by core, in order.
    overflow: Vec<RefCell<VecDeque<Mail>>>,
    /// What the core told itself.
    to_self: RefCell<VecDeque<PeerMessage>>,
    disk: Disk,
    node: Arc<Node>,
    status: mpsc::Sender<Status>,
    adopt: RefCell<Option<Box<dyn Fn(Handover)>>>,
    doors: RefCell<Option<Box<dyn FnOnce()>>>,
    measure: RefCell<Option<Measure>>,
    waiting_for_end: RefCell<Option<Waker>>,
    counted: Cell<Counters>,
    /// Busy time when the last turn ended.
    busy_ns: Cell<u64>,
    stopped: Cell<bool>,
}

/// One core's host. A clone is another handle to the same.
#[derive(Clone)]
pub struct Host(Rc<Inner>);

impl Host {
    /// Starts the core on the calling shard and hooks it to the end of each turn.
    pub fn start(start: Start) -> Host {
        let mut effects = Effects::default();
        let now = rt::clock::now();
        let (id, cores) = (start.setup.core, start.setup.cores);
        let core = Core::new(start.setup, now, &mut effects);
        let host = Host(Rc::new(Inner {
            id,
            cores,
            core: RefCell::new(core),
            calls: Calls::default(),
            port: start.port,
            overflow: (0..cores).map(|_| RefCell::default()).collect(),
            to_self: RefCell::default(),
            disk: start.disk,
            node: start.node,
            status: start.status,
            adopt: RefCell::new(None),
            doors: RefCell::new(None),
            measure: RefCell::new(None),
            waiting_for_end: RefCell::new(None),
            counted: Cell::default(),
            busy_ns: Cell::new(0),
            stopped: Cell::new(false),
        }));
        host.perform(effects);
        let hooked = host.clone();
        rt::on_turn(move |now| hooked.end_turn(now));
        host
    }

    /// Who takes connections that are handed over to this core.
    pub fn on_adopt(&self, adopt: impl Fn(Handover) + 'static) {
        *self.0.adopt.borrow_mut() = Some(Box::new(adopt));
    }

    /// What is done when the node is ready: clients may come.
    pub fn on_open(&self, open: impl FnOnce() + 'static) {
        *self.0.doors.borrow_mut() = Some(Box::new(open));
    }

    /// Who knows figures that the host does not; asked for each snapshot.
    pub fn on_measure(&self, measure: impl Fn(&mut Measurements) + 'static) {
        *self.0.measure.borrow_mut() = Some(Box::new(measure));
    }

    /// The node is ready.
    pub fn open(&self) {
        let doors = self.0.doors.borrow_mut().take();
        if let Some(open) = doors {
            open();
        }
    }

    /// Waits until the core has closed everything.
    pub async fn stopped(&self) {
        poll_fn(|context| {
            if self.0.stopped.get() {
                return Poll::Ready(());
            }
            *self.0.waiting_for_end.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The core.
    pub fn core(&self) -> CoreId {
        self.0.id
    }

    /// How many cores there are.
    pub fn cores(&self) -> u16 {
        self.0.cores
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        rt::clock::now()
    }

    /// The image that is in force on this core.
    pub fn image(&self) -> Arc<Image> {
        self.0.core.borrow().image().clone()
    }

    /// What the node is.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The core's measurements.
    pub fn measurements(&self) -> RefMut<'_, Measurements> {
        RefMut::map(self.0.core.borrow_mut(), Core::measurements)
    }

    /// Tells the node how far this core's start has come.
    pub fn report_progress(&self) {
        let progress = self.0.core.borrow().progress();
        let _ = self.0.status.send(Status::Progress(self.0.id, progress));
    }

    /// Waits until `at`.
    pub async fn sleep_until(&self, at: Mono) {
        rt::sleep_until(at).await;
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    /// Sends a request at once: what is asked of one core arrives there in the order of the calls.
    pub fn call(&self, to: CoreId, request: Request) -> Call {
        let (number, slot) = self.0.calls.open();
        let ticket = Ticket {
            core: self.0.id,
            number,
        };
        if to == self.0.id {
            self.measurements().requests.local += 1;
            self.step(Event::Request { ticket, request });
        } else {
            self.measurements().requests.forwarded += 1;
            self.send(to, Mail::Asked(ticket, request, rt::clock::mono()));
        }
        Call::new(self.clone(), ticket, to, slot)
    }

    pub(super) fn cancel(&self, to: CoreId, ticket: Ticket) {
        if to == self.0.id {
            self.step(Event::Cancel(ticket));
        } else {
            self.send(to, Mail::Event(Event::Cancel(ticket)));
        }
    }

    /// Gives a connection to another core.
    pub fn hand_over(&self, to: CoreId, connection: Handover) {
        self.measurements().network.handed_over += 1;
        self.send(to, Mail::Adopt(connection));
    }

    /// Begins to close everything on this core.
    pub fn stop(&self) {
        self.step(Event::Stop);
    }

    /// Looks at the core, which does not move meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.0.core.borrow())
    }

    /// What has been measured on this core.
    pub fn snapshot(&self) -> CoreSnapshot {
        self.count_machine();
        if let Some(measure) = &*self.0.measure.borrow() {
            measure(&mut self.measurements());
        }
        let ticket = Ticket {
            core: self.0.id,
            number: u64::MAX,
        };
        let mut effects = Effects::default();
        let request = Request::Measurements;
        self.0
            .core
            .borrow_mut()
            .step(self.now(), Event::Request { ticket, request }, &mut effects);
        match effects.replies.pop() {
            Some((_, Reply::Measurements(snapshot))) => *snapshot,
            other => unreachable!("measurements are answered at once, not with {other:?}"),
        }
    }

    /// Adds what the machine has counted since the last time.
    fn count_machine(&self) {
        let now = rt::executor::counters();
        let before = self.0.counted.replace(now);
        let mut core = self.0.core.borrow_mut();
        let measurements = core.measurements();
        measurements.network.received_bytes += now.received_bytes - before.received_bytes;
        measurements.network.sent_bytes +=
            now.sent_bytes - before.sent_bytes + (now.sendfile_bytes - before.sendfile_bytes);
        let parked = now.parked_ns - before.parked_ns;
        let spun = (now.idle_ns - before.idle_ns).saturating_sub(parked);
        measurements
            .turns
            .parked(now.parks - before.parks, Duration::from_nanos(parked));
        measurements.turns.spun(Duration::from_nanos(spun));
        measurements.disk.look(rt::clock::mono());
        measurements.mesh.wakes += now.wakes_sent - before.wakes_sent;
    }

    /// Notes how long the turn before this one took.
    fn count_turn(&self) {
        let busy_ns = rt::executor::busy_ns();
        let took = busy_ns - self.0.busy_ns.replace(busy_ns);
        if took > 0 {
            let took = Duration::from_nanos(took);
            self.measurements().turns.worked(took);
        }
    }

    fn send(&self, to: CoreId, mail: Mail) {
        self.measurements().mesh.sent += 1;
        let index = usize::from(to.0);
        let mut overflow = self.0.overflow[index].borrow_mut();
        if !overflow.is_empty() {
            overflow.push_back(mail);
            return;
        }
        if let Err(mail) = self.0.port.send(index, mail) {
            self.measurements().mesh.full += 1;
            // Bounded by the connections' requests in flight, each of which is.
            overflow.push_back(mail);
        }
    }

    fn flush_overflow(&self) {
        for (index, overflow) in self.0.overflow.iter().enumerate() {
            let mut overflow = overflow.borrow_mut();
            while let Some(mail) = overflow.pop_front() {
                if let Err(mail) = self.0.port.send(index, mail) {
                    overflow.push_front(mail);
                    break;
                }
            }
        }
    }

    fn step(&self, event: Event) {
        let mut effects = Effects::default();
        let measured = Step::of(&event);
        let start = rt::clock::now();
        {
            let mut core = self.0.core.borrow_mut();
            core.step(start, event, &mut effects);
            if let Some(step) = measured {
                let took = rt::clock::mono().since(start.mono);
                match step {
                    Step::Append => core
                        .measurements()
                        .produce
                        .passed(ProduceStage::Append, took),
                    Step::Read => core.measurements().fetch.passed(FetchStage::Locate, took),
                }
            }
        }
        self.perform(effects);
    }

    /// Takes the mail, lets time pass, writes what the turn has gathered.
    fn end_turn(&self, now: Now) -> Option<Mono> {
        self.count_turn();
        let mut mail = Vec::new();
        self.0.port.receive(MAIL_PER_TURN, |sender, message| {
            mail.push((sender, message))
        });
        for (sender, message) in mail {
            self.take_mail(sender, message);
        }
        if self
            .0
            .core
            .borrow()
            .next_deadline()
            .is_some_and(|at| at <= now.mono)
        {
            self.step(Event::Tick);
        }
        while let Some(message) = self.next_to_self() {
            self.step(Event::Peer {
                from: self.0.id,
                message,
            });
        }
        let mut effects = Effects::default();
        self.0.core.borrow_mut().end_turn(now, &mut effects);
        self.perform(effects);
        self.flush_overflow();
        let overflowing = self
            .0
            .overflow
            .iter()
            .any(|overflow| !overflow.borrow().is_empty());
        let to_self = !self.0.to_self.borrow().is_empty();
        let soon = (overflowing || to_self).then(|| now.mono.after_ms(1));
        let deadline = self.0.core.borrow().next_deadline();
        [soon, deadline].into_iter().flatten().min()
    }

    fn next_to_self(&self) -> Option<PeerMessage> {
        self.0.to_self.borrow_mut().pop_front()
    }

    fn take_mail(&self, _sender: rt::mesh::Sender, mail: Mail) {
        self.measurements().mesh.received += 1;
        match mail {
            Mail::Event(event) => self.step(event),
            Mail::Asked(ticket, request, sent) => {
                {
                    let mut measurements = self.measurements();
                    measurements.requests.served_for_peers += 1;
                    measurements
                        .mesh
                        .request_arrived(rt::clock::mono().since(sent));
                }
                self.step(Event::Request { ticket, request });
            }
            Mail::Answer {
                number,
                answer,
                sent,
            } => {
                let took = rt::clock::mono().since(sent);
                self.measurements().mesh.answer_arrived(took);
                self.0.calls.complete(number, answer);
            }
            Mail::Adopt(connection) => {
                {
                    let mut measurements = self.measurements();
                    measurements.network.adopted += 1;
                    measurements
                        .mesh
                        .connection_arrived(rt::clock::mono().since(connection.since));
                }
                if let Some(adopt) = &*self.0.adopt.borrow() {
                    adopt(connection);
                }
            }
            Mail::Run(run) => run(self),
        }
    }

    fn perform(&self, effects: Effects) {
        for op in effects.disk {
            self.submit(op);
        }
        for (ticket, reply) in effects.replies {
            self.reply(ticket, reply);
        }
        for (to, message) in effects.peers {
            if to == self.0.id {
                self.0.to_self.borrow_mut().push_back(message);
            } else {
                self.send(
                    to,
                    Mail::Event(Event::Peer {
                        from: self.0.id,
                        message,
                    }),
                );
            }
        }
        for (partition, fault) in effects.faults {
            let what = self.name_of(partition);
            let _ = self.0.status.send(Status::Fault { what, fault });
        }
        for (partition, outcome) in effects.compactions {
            tell_compaction(&self.name_of(Some(partition)), outcome);
        }
        for partition in effects.healed {
            let what = self.name_of(Some(partition));
            let _ = self.0.status.send(Status::Healed(what));
        }
        for (disk, state) in effects.volumes {
            let core = self.0.id;
            let _ = self.0.status.send(Status::Volume { core, disk, state });
        }
        if effects.ready {
            let _ = self.0.status.send(Status::Ready(self.0.id));
        }
        if let Some(why) = effects.fatal {
            let _ = self.0.status.send(Status::Fatal(self.0.id, why));
        }
        if effects.stopped && !self.0.stopped.replace(true) {
            self.0.calls.stop();
            if let Some(waker) = self.0.waiting_for_end.borrow_mut().take() {
                waker.wake();
            }
            let _ = self.0.status.send(Status::Stopped(self.0.id));
        }
    }

    fn name_of(&self, partition: Option<TopicPartition>) -> String {
        let Some(id) = partition else {
            return "the metadata log".to_owned();
        };
        let image = self.image();
        let name = image
            .topic_by_id(id.topic)
            .map_or_else(|| id.topic.to_string(), |topic| topic.name.to_string());
        format!("{name}-{}", id.partition)
    }

    fn submit(&self, op: DiskOp) {
        let measured = match &op {
            DiskOp::Write {
                data,
                durable: true,
                ..
            } => Some((DiskVerb::DurableWrite, data.len() as u64)),
            DiskOp::Write { data, .. } => Some((DiskVerb::Write, data.len() as u64)),
            DiskOp::Read { len, .. } => Some((DiskVerb::Read, *len as u64)),
            DiskOp::Sync { .. } => Some((DiskVerb::Sync, 0)),
            _ => None,
        };
        let (host, start) = (self.clone(), rt::clock::mono());
        let number = self.measurements().disk.began(start);
        self.0.disk.submit(op, move |done| {
            host.disk_done(done, measured, (number, start))
        });
    }

    fn disk_done(
        &self,
        done: DiskDone,
        measured: Option<(DiskVerb, u64)>,
        (number, start): (u64, Mono),
    ) {
        {
            let mut measurements = self.measurements();
            measurements.disk.ended(number);
            if let Some((verb, bytes)) = measured {
                match &done.result {
                    Ok(_) => {
                        measurements
                            .disk
                            .done(verb, bytes, rt::clock::mono().since(start));
                    }
                    Err(_) => measurements.disk.failed(verb),
                }
            }
        }
        self.step(Event::Disk(done));
    }

    fn reply(&self, ticket: Ticket, reply: Reply) {
        let given = rt::clock::mono();
        let paths = cold_files(&reply);
        let opened = paths.iter().map(|path| self.0.disk.opened_file(path));
        if let Some(files) = opened.collect::<Option<Vec<Arc<File>>>>() {
            let answer = Answer {
                reply,
                given,
                files,
            };
            return self.deliver(ticket, answer);
        }
        let host = self.clone();
        rt::spawn_local(async move {
            let (reply, files) = host.open_files(reply, paths).await;
            let answer = Answer {
                reply,
                given,
                files,
            };
            host.deliver(ticket, answer);
        })
        .detach();
    }

    fn deliver(&self, ticket: Ticket, answer: Answer) {
        if ticket.core == self.0.id {
            self.0.calls.complete(ticket.number, answer);
        } else {
            self.send(
                ticket.core,
                Mail::Answer {
                    number: ticket.number,
                    answer,
                    sent: rt::clock::mono(),
                },
            );
        }
    }

    /// Opens a file; one that a compaction has given its final name meanwhile, by that one.
    async fn open_file(&self, path: &FilePath) -> Result<Arc<File>, DiskFault> {
        match self.0.disk.open_file(path).await {
            Err(fault) if fault.kind == FaultKind::NotFound => match settled_name(path) {
                Some(settled) => self.0.disk.open_file(&settled).await,
                None => Err(fault),
            },
            other => other,
        }
    }

    /// Opens the files of a read's slices here, on the core that owns them: what they are renamed
    /// to or replaced by later, the reader keeps the ones it was told of.
    async fn open_files(&self, mut reply: Reply, paths: Vec<FilePath>) -> (Reply, Vec<Arc<File>>) {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            match self.open_file(&path).await {
                Ok(file) => files.push(file),
                Err(fault) => {
                    tracing::warn!(%fault, "a read is refused");
                    refuse_cold(&mut reply);
                    return (reply, Vec::new());
                }
            }
        }
        (reply, files)
    }
}

/// One line for each round of compaction, as Kafka logs them.
fn tell_compaction(log: &str, outcome: Result<Compacted, Abandoned>) {
    match outcome {
        Ok(done) => {
            let seconds = done.took.as_secs_f64();
            let moved = done.mapped_bytes + done.bytes_before + done.bytes_after;
            tracing::info!(
                log,
                from = done.from.0,
                to = done.to.0,
                bytes_before = done.bytes_before,
                bytes_after = done.bytes_after,
                records_before = done.records_before,
                records_after = done.records_after,
                segments_before = done.segments_before,
                segments_after = done.segments_after,
                key_table_percent = done.keys_percent,
                seconds = format_args!("{seconds:.3}"),
                mib_per_second =
                    format_args!("{:.1}", moved as f64 / seconds.max(1e-9) / 1_048_576.0),
                "compacted"
            );
        }
        Err(Abandoned::Changed) => tracing::debug!(log, "a compaction was given up"),
        Err(why @ (Abandoned::NoSpace | Abandoned::DiskFault | Abandoned::Unreadable)) => {
            tracing::warn!(log, ?why, "a compaction was given up");
        }
    }
}

/// The steps whose own time is a stage of a request's way.
#[derive(Clone, Copy)]
enum Step {
    Append,
    Read,
}

impl Step {
    fn of(event: &Event) -> Option<Step> {
        let Event::Request { request, .. } = event else {
            return None;
        };
        match request {
            Request::Append(_) => Some(Step::Append),
            Request::Read(_) => Some(Step::Read),
            Request::ListOffsets(_)
            | Request::EpochEnds(_)
            | Request::DeleteRecords(_)
            | Request::Describe(_)
            | Request::Producers(_)
            | Request::ProducerId
            | Request::Control(_)
            | Request::Group { .. }
            | Request::Volumes
            | Request::Measurements => None,
        }
    }
}

/// The file of each slice that is not in memory.
fn cold_files(reply: &Reply) -> Vec<FilePath> {
    let Reply::Read(results) = reply else {
        return Vec::new();
    };
    let slices = results
        .iter()
        .filter_map(|result| result.slices.as_ref().ok())
        .flatten();
    slices
        .filter_map(|slice| match slice {
            Slice::File { file, .. } => Some(file.clone()),
            Slice::Memory(_) => None,
        })
        .collect()
}

/// Turns every result with a slice that is not in memory into a refusal.
fn refuse_cold(reply: &mut Reply) {
    let Reply::Read(results) = reply else { return };
    for result in results {
        let is_cold = |slice: &Slice| matches!(slice, Slice::File { .. });
        if result
            .slices
            .as_ref()
            .is_ok_and(|slices| slices.iter().any(is_cold))
        {
            result.slices = Err(Refusal::Fenced);
            result.size = 0;
        }
    }
}
