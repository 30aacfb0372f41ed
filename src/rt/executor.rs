//! A core's thread: glommio's executor, our ring, and the driver that turns them.
//!
//! See the room's door for why the driver sleeps in our own ring and what that asks of tasks.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use io_uring::opcode;
use io_uring::types::Fd;

use super::counters::{Counters, Counts, add};
use super::gate::Gate;
use super::ring::{Ring, WAKE_FAILED, WOKEN};
use super::timer::{Sleepers, yield_now};
use super::writing::Writing;
use super::{Doorbells, clock, limits};
use crate::base::{Buf, CoreId, Mono, Now};

/// Reads at a time that bring what is to be sent into the page cache.
const COLD_READS_MAX: usize = 8;
/// The same beside durable writes with pauses between them: a write waits behind these at the device.
const COLD_READS_BESIDE_FEW_WRITES_MAX: usize = 3;

/// How the shards of a process run.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// The longest a shard spins before it sleeps; zero never spins. Idle shards do not spin.
    pub spin_max: Duration,
    /// The longest a shard sleeps at a time.
    pub park_max: Duration,
}

impl Default for ShardConfig {
    fn default() -> ShardConfig {
        ShardConfig {
            spin_max: Duration::from_micros(50),
            park_max: Duration::from_millis(500),
        }
    }
}

/// Which shard a task runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    pub core: CoreId,
    /// How many shards there are.
    pub cores: usize,
    /// The CPU it is pinned to, as the kernel numbers it.
    pub cpu: usize,
}

/// Ends the turn: takes the time, returns the next deadline at which it wants to be called even
/// if nothing happens.
type Hook = Box<dyn FnMut(Now) -> Option<Mono>>;

/// Everything of one shard that its tasks share.
pub(super) struct Machine {
    pub(super) shard: Shard,
    pub(super) ring: Rc<Ring>,
    pub(super) sleepers: Sleepers,
    pub(super) counts: Counts,
    pub(super) doorbells: Doorbells,
    /// Who may read into the page cache what is to be sent from there.
    pub(super) cold_reads: Gate,
    /// The same while the shard writes to a disk.
    pub(super) cold_reads_beside_writes: Gate,
    /// The same while there are pauses between its durable writes.
    pub(super) cold_reads_beside_few_writes: Gate,
    /// What it writes to its disks.
    pub(super) writing: Writing,
    /// Who may send a slice of a file next.
    pub(super) file_turns: Gate,
    /// The round in which bytes of a file were sent last, and how many were in it.
    pub(super) file_sent: Cell<(u64, u64)>,
    /// Until when the kernel may still fill pages that it was made to read.
    pub(super) fills_until: Cell<Mono>,
    /// The descriptor that the kernel was last told to read ahead of, if not told otherwise since.
    pub(super) read_ahead_on: Cell<Option<RawFd>>,
    /// Rounds of the driver so far.
    pub(super) round: Cell<u64>,
    /// Operations that were found done at the beginning of this round.
    completed: Cell<usize>,
    /// What such reads land in; nobody looks at it.
    pub(super) scratch: RefCell<Vec<Buf>>,
    config: ShardConfig,
    polls: Cell<u64>,
    hook: RefCell<Option<Hook>>,
    hook_deadline: Cell<Option<Mono>>,
    watches: RefCell<Vec<Box<dyn Fn() -> bool>>>,
    stopping: Cell<bool>,
    spin: Cell<Duration>,
}

thread_local! {
    static MACHINE: RefCell<Option<Rc<Machine>>> = const { RefCell::new(None) };
}

/// The shard that the calling thread is, if it is one.
pub(super) fn try_current() -> Option<Rc<Machine>> {
    MACHINE.with(|machine| machine.borrow().clone())
}

/// The shard that the calling thread is. Calling this elsewhere is a bug.
pub(super) fn current() -> Rc<Machine> {
    try_current().expect("this belongs on a shard's thread")
}

/// The shard that the calling thread is. Panics on other threads.
pub fn this_shard() -> Shard {
    current().shard
}

/// What this shard's machine did so far. Panics on other threads.
pub fn counters() -> Counters {
    current().counts.snapshot()
}

/// Nanoseconds in turns of this shard in which something happened, those before the one that is
/// under way. Panics on other threads.
pub fn busy_ns() -> u64 {
    current().counts.busy_ns.get()
}

/// Sets what ends each turn of this shard: called after each round in which completions came,
/// timers fired, tasks ran, or mail is waiting, and when the deadline that it returned last is
/// due. It may submit work and spawn tasks; it must not block. There is one; the last one counts.
pub fn on_turn(hook: impl FnMut(Now) -> Option<Mono> + 'static) {
    *current().hook.borrow_mut() = Some(Box::new(hook));
}

/// Has the hook called, and sleep put off, whenever `waiting` says that there is something to do.
/// It is asked each round; it may wake tasks, but must not submit operations: it is asked for the
/// last time just before the shard sleeps.
pub(super) fn watch(waiting: impl Fn() -> bool + 'static) {
    current().watches.borrow_mut().push(Box::new(waiting));
}

/// A future whose polls are counted: the driver sleeps only when none happened.
struct Counted<F> {
    machine: Rc<Machine>,
    future: F,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.machine
            .polls
            .set(self.machine.polls.get().wrapping_add(1));
        // SAFETY: `future` is pinned whenever `self` is: nothing moves it out, there is no Drop.
        unsafe { self.map_unchecked_mut(|counted| &mut counted.future) }.poll(context)
    }
}

/// A task on this shard. Dropping it cancels the task; a panic in it ends the shard.
#[must_use = "dropping a task cancels it"]
pub struct Task<T>(glommio::Task<T>);

impl<T: 'static> Task<T> {
    /// Lets the task run on by itself.
    pub fn detach(self) {
        drop(self.0.detach());
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Runs `future` as a task of this shard. Panics on other threads.
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(Counted {
        machine: current(),
        future,
    }))
}

/// A running shard.
pub struct ShardHandle {
    core: usize,
    thread: ExecutorJoinHandle<io::Result<()>>,
}

impl ShardHandle {
    /// Waits for the shard's main to end. An error says that it panicked or could not start.
    pub fn join(self) -> io::Result<()> {
        match self.thread.join() {
            Ok(result) => result,
            Err(error) => Err(io::Error::other(format!(
                "shard {} failed: {error}",
                self.core
            ))),
        }
    }
}

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardHandle({})", self.core)
    }
}

/// Starts one shard on each of `cpus`, giving each its seed. Returns when all of them are up, or
/// the error of the first that is not, in which case none runs its main. A shard ends when its
/// main does: then its operations are cancelled and its other tasks never run again.
pub fn spawn_shards<S, F, M>(
    cpus: &[usize],
    config: ShardConfig,
    doorbells: &Doorbells,
    seeds: Vec<S>,
    main: F,
) -> io::Result<Vec<ShardHandle>>
where
    S: Send + 'static,
    F: Fn(Shard, S) -> M + Clone + Send + 'static,
    M: Future<Output = ()> + 'static,
{
    let cores = cpus.len();
    assert!(
        seeds.len() == cores && doorbells.cores() == cores,
        "one seed and bell for each core"
    );
    let mut starting = Vec::with_capacity(cores);
    for (core, seed) in seeds.into_iter().enumerate() {
        let shard = Shard {
            core: CoreId(core as u16),
            cores,
            cpu: cpus[core],
        };
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (go, may_go) = mpsc::sync_channel::<()>(1);
        let (main, doorbells) = (main.clone(), doorbells.clone());
        let thread = LocalExecutorBuilder::new(Placement::Unbound)
            .name(&format!("shard-{core}"))
            .io_memory(1 << 20)
            .spawn(move || async move {
                // glommio's own name has a number behind it, which is not the core's.
                name_this_thread(&format!("shard-{core}"));
                let machine = Machine::start(shard, config, doorbells)?;
                let _ = ready.send(());
                if may_go.recv().is_ok() {
                    machine.run(|| main(shard, seed)).await;
                }
                Ok(())
            })
            .map_err(|error| io::Error::other(format!("shard {core} cannot start: {error}")))?;
        starting.push((ShardHandle { core, thread }, is_ready, go));
    }
    let all_up = starting
        .iter()
        .all(|(_, is_ready, _)| is_ready.recv().is_ok());
    let (mut handles, mut failed) = (Vec::with_capacity(cores), None);
    for (handle, _, go) in starting {
        if all_up {
            let _ = go.send(());
            handles.push(handle);
        } else {
            drop(go);
            failed = failed.or(handle.join().err());
        }
    }
    failed.map_or(Ok(handles), Err)
}

/// What `top -H`, `perf` and `corelane flame` call the calling thread; at most 15 bytes of it.
fn name_this_thread(name: &str) {
    let name = std::ffi::CString::new(name).expect("no byte of it is zero");
    // SAFETY: `name` is a string with its zero byte, which the kernel copies.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

impl Machine {
    fn start(shard: Shard, config: ShardConfig, doorbells: Doorbells) -> io::Result<Rc<Machine>> {
        limits::pin_to(&[shard.cpu])?;
        let ring = Rc::new(Ring::new()?);
        doorbells.attach(usize::from(shard.core.0), ring.descriptor());
        let machine = Rc::new(Machine {
            shard,
            ring,
            sleepers: Sleepers::default(),
            counts: Counts::default(),
            doorbells,
            cold_reads: Gate::new(COLD_READS_MAX),
            cold_reads_beside_writes: Gate::new(1),
            cold_reads_beside_few_writes: Gate::new(COLD_READS_BESIDE_FEW_WRITES_MAX),
            writing: Writing::default(),
            file_turns: Gate::new(1),
            file_sent: Cell::new((0, 0)),
            fills_until: Cell::new(Mono(0)),
            read_ahead_on: Cell::new(None),
            round: Cell::new(0),
            completed: Cell::new(0),
            scratch: RefCell::default(),
            config,
            polls: Cell::new(0),
            hook: RefCell::new(None),
            hook_deadline: Cell::new(None),
            watches: RefCell::new(Vec::new()),
            stopping: Cell::new(false),
            spin: Cell::new(Duration::ZERO),
        });
        MACHINE.with(|current| *current.borrow_mut() = Some(machine.clone()));
        Ok(machine)
    }

    /// Runs the shard's main with the driver beside it.
    async fn run<M: Future<Output = ()>>(self: Rc<Machine>, main: impl FnOnce() -> M) {
        let driver = glommio::spawn_local(self.clone().drive());
        let bell = spawn_local(self.clone().listen_to_bell());
        // Should glommio ever park with the driver runnable, this brings it back.
        let tick = glommio::spawn_local(async {
            loop {
                glommio::timer::sleep(Duration::from_millis(100)).await;
            }
        });
        let counted = pin!(Counted {
            machine: self.clone(),
            future: main()
        });
        counted.await;
        drop((bell, tick));
        self.doorbells.attach(self.core(), -1);
        self.stopping.set(true);
        self.ring.close();
        driver.await;
        // What they hold may hold the machine: break the circle.
        drop(self.hook.borrow_mut().take());
        self.watches.borrow_mut().clear();
    }

    fn core(&self) -> usize {
        usize::from(self.shard.core.0)
    }

    /// Keeps a read of the eventfd in the ring, so that other threads can end a sleep.
    async fn listen_to_bell(self: Rc<Machine>) {
        let event = self.doorbells.event(self.core());
        let doorbells = self.doorbells.clone();
        let mut count = Box::new(0u64);
        loop {
            let start = (&raw mut *count).cast::<u8>();
            let entry = opcode::Read::new(Fd(event), start, size_of::<u64>() as u32).build();
            // SAFETY: the eight bytes are on the heap and kept, and so is the descriptor's owner.
            let read = unsafe { self.ring.submit(entry, (count, doorbells.clone())) };
            let (result, (kept, _)) = read.await;
            count = kept;
            if result == -libc::ECANCELED {
                return;
            }
        }
    }

    /// The driver: see the module's docs for why and when it may sleep.
    async fn drive(self: Rc<Machine>) {
        let mut before = clock::mono();
        while !self.is_finished() {
            self.round.set(self.round.get() + 1);
            let completed = self
                .ring
                .turn(|user_data, _| self.handle_special(user_data));
            self.completed.set(completed);
            let fired = self.sleepers.fire(before);
            let polls = self.polls.get();
            yield_now().await;
            let polled = self.polls.get() != polls;
            let now = clock::now();
            let due = self.hook_deadline.get().is_some_and(|at| at <= now.mono);
            // Asked each round, busy or not: asking is also what delivers.
            let mail = self.has_mail();
            if completed > 0 || fired > 0 || polled || due || mail {
                self.end_turn(now);
                add(&self.counts.turns, 1);
                let end = clock::mono();
                add(&self.counts.busy_ns, end.0 - before.0);
                before = end;
                continue;
            }
            if self.ring.is_quiet() {
                self.rest(now.mono);
            }
            let end = clock::mono();
            add(&self.counts.idle_ns, end.0 - before.0);
            before = end;
        }
    }

    /// Lets what else is runnable go first, until a round brings nothing more, `rounds_max` at most.
    pub(super) async fn after_others(&self, rounds_max: usize) {
        for _ in 0..rounds_max {
            let polls = self.polls.get();
            yield_now().await;
            // The one poll is the caller's.
            if self.polls.get() == polls + 1 && self.completed.get() == 0 {
                return;
            }
        }
    }

    /// While stopping, waits until the kernel has let go of everything, two seconds at most.
    fn is_finished(&self) -> bool {
        if !self.stopping.get() {
            return false;
        }
        for _ in 0..200 {
            self.ring.turn(|_, _| ());
            if self.ring.in_flight() == 0 {
                return true;
            }
            self.ring.wait(Duration::from_millis(10));
        }
        true
    }

    fn handle_special(&self, user_data: u64) {
        if user_data != WOKEN && user_data & WAKE_FAILED == WAKE_FAILED {
            // The peer's ring is gone or full: its eventfd still reaches it.
            self.doorbells.ring_event(user_data as u32 as usize);
        }
    }

    fn end_turn(&self, now: Now) {
        let hook = self.hook.borrow_mut().take();
        let Some(mut hook) = hook else { return };
        self.hook_deadline.set(hook(now));
        // The hook may have set another in its place.
        self.hook.borrow_mut().get_or_insert(hook);
    }

    fn has_mail(&self) -> bool {
        let mut mail = false;
        for waiting in self.watches.borrow().iter() {
            mail |= waiting();
        }
        mail
    }

    /// Nothing is runnable: spins as long as that has paid of late, then sleeps.
    fn rest(&self, now: Mono) {
        if self.spin_for_work(now) {
            return;
        }
        let next = self.next_deadline();
        let start = clock::mono();
        let until_next = next.map_or(self.config.park_max, |at| at.since(start));
        if until_next.is_zero() {
            return;
        }
        self.doorbells.lie_down(self.core());
        if !self.has_mail() {
            add(&self.counts.parks, 1);
            self.ring.wait(until_next.min(self.config.park_max));
            let slept = clock::mono().since(start);
            add(&self.counts.parked_ns, slept.as_nanos() as u64);
            self.learn_from_sleep(slept);
        }
        self.doorbells.get_up(self.core());
    }

    fn next_deadline(&self) -> Option<Mono> {
        let deadlines = [self.sleepers.next_deadline(), self.hook_deadline.get()];
        deadlines.into_iter().flatten().min()
    }

    /// A sleep that was over at once should have been a spin: spin longer next time.
    fn learn_from_sleep(&self, slept: Duration) {
        if slept < self.config.spin_max {
            let longer = (self.spin.get() * 2).max(Duration::from_micros(4));
            self.spin.set(longer.min(self.config.spin_max));
        }
    }

    /// True when spinning found work. In vain, it halves the next spin, down to none.
    fn spin_for_work(&self, start: Mono) -> bool {
        let budget = self.spin.get();
        if budget.is_zero() {
            return false;
        }
        add(&self.counts.spins, 1);
        let deadline = self.next_deadline();
        loop {
            if !self.ring.is_quiet() || self.has_mail() {
                add(&self.counts.spins_lucky, 1);
                return true;
            }
            std::hint::spin_loop();
            let now = clock::mono();
            if deadline.is_some_and(|at| at <= now) {
                return true;
            }
            if now.since(start) >= budget {
                let shorter = budget / 2;
                let worth_it = shorter >= Duration::from_micros(2);
                self.spin
                    .set(if worth_it { shorter } else { Duration::ZERO });
                return false;
            }
        }
    }
}
