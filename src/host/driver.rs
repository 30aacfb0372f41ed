//! The core's event loop, less the waiting: what a turn does and how effects are carried out.

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::base::{BrokerId, CoreId, DiskDone, DiskOp, FilePath, Mono, Now, TopicPartition};
use crate::cluster::Image;
use crate::cluster::configs::StaticConfigs;
use crate::log::{Fault, Slice};
use crate::net::Descriptor;
use crate::obs::{CoreSnapshot, DiskVerb, Measurements};
use crate::partition::Refusal;
use crate::rt::{self, Counters, Disk, File, Port};
use crate::shard::{Core, Effects, Event, PeerMessage, Reply, Request, Setup, Ticket, VolumeState};

use super::call::{Answer, Call, Calls};

/// How many messages a turn takes from each queue of the mesh.
const MAIL_PER_TURN: usize = 256;

/// What travels between cores, and to them from other threads.
pub enum Mail {
    /// Something for the core.
    Event(Event),
    /// The answer to a call of the core that gets it.
    Answer {
        /// Its number there.
        number: u64,
        /// The answer.
        answer: Answer,
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
    /// The core has opened so many partitions, of so many.
    Progress(CoreId, usize, usize),
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
    waiting_for_end: RefCell<Option<Waker>>,
    counted: Cell<Counters>,
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
            waiting_for_end: RefCell::new(None),
            counted: Cell::default(),
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

    /// Tells the node how many partitions this core has opened, of how many.
    pub fn report_progress(&self) {
        let (opened, of) = self.0.core.borrow().progress();
        let _ = self.0.status.send(Status::Progress(self.0.id, opened, of));
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
        self.event(to, Event::Request { ticket, request });
        Call::new(self.clone(), ticket, to, slot)
    }

    pub(super) fn cancel(&self, to: CoreId, ticket: Ticket) {
        self.event(to, Event::Cancel(ticket));
    }

    fn event(&self, to: CoreId, event: Event) {
        if to == self.0.id {
            self.measurements().requests.local += 1;
            self.step(event);
        } else {
            self.measurements().requests.forwarded += 1;
            self.send(to, Mail::Event(event));
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

    /// What has been measured on this core.
    pub fn snapshot(&self) -> CoreSnapshot {
        self.count_machine();
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
        let nanos = std::time::Duration::from_nanos;
        measurements
            .turns
            .worked(nanos(now.busy_ns - before.busy_ns));
        measurements
            .turns
            .parked(nanos(now.idle_ns - before.idle_ns));
        measurements.mesh.wakes += now.wakes_sent - before.wakes_sent;
    }

    fn send(&self, to: CoreId, mail: Mail) {
        let index = usize::from(to.0);
        let mut overflow = self.0.overflow[index].borrow_mut();
        if !overflow.is_empty() {
            overflow.push_back(mail);
            return;
        }
        if let Err(mail) = self.0.port.send(index, mail) {
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
        self.0
            .core
            .borrow_mut()
            .step(rt::clock::now(), event, &mut effects);
        self.perform(effects);
    }

    /// Takes the mail, lets time pass, writes what the turn has gathered.
    fn end_turn(&self, now: Now) -> Option<Mono> {
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
            Mail::Event(event) => {
                self.measurements().requests.served_for_peers += 1;
                self.step(event);
            }
            Mail::Answer { number, answer } => self.0.calls.complete(number, answer),
            Mail::Adopt(connection) => {
                self.measurements().network.adopted += 1;
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
                self.measurements().mesh.sent += 1;
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
        self.measurements().disk.in_flight += 1;
        self.0
            .disk
            .submit(op, move |done| host.disk_done(done, measured, start));
    }

    fn disk_done(&self, done: DiskDone, measured: Option<(DiskVerb, u64)>, start: Mono) {
        {
            let mut measurements = self.measurements();
            measurements.disk.in_flight -= 1;
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
        let paths = cold_files(&reply);
        if paths.is_empty() {
            self.deliver(
                ticket,
                Answer {
                    reply,
                    files: Vec::new(),
                },
            );
            return;
        }
        let host = self.clone();
        rt::spawn_local(async move {
            let (reply, files) = host.open_files(reply, paths).await;
            host.deliver(ticket, Answer { reply, files });
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
                },
            );
        }
    }

    /// Opens the files of a read's slices here, on the core that owns them: what they are renamed
    /// to or replaced by later, the reader keeps the ones it was told of.
    async fn open_files(&self, mut reply: Reply, paths: Vec<FilePath>) -> (Reply, Vec<Arc<File>>) {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            match self.0.disk.open_file(&path).await {
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
