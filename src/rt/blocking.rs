//! A few threads for work that would hold a shard up: names, directories, small files.
//!
//! Shared by all shards; each shard has a bounded number of jobs in it.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread;

use crossbeam::channel::{Receiver, Sender, unbounded};
use crossbeam::queue::SegQueue;

use super::doorbell::Doorbells;
use super::executor;
use super::gate::Gate;

/// At most this many jobs of one shard wait or run; more wait on the shard.
const JOBS_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;
type Outcome = thread::Result<Box<dyn Any + Send>>;

/// The threads. They end when the last pool and port are gone.
#[derive(Clone)]
pub struct BlockingPool {
    jobs: Sender<Job>,
}

/// What the threads share.
struct Crew {
    queue: Receiver<Job>,
    threads: AtomicUsize,
    threads_max: usize,
}

impl BlockingPool {
    /// Starts the first of at most `threads_max` threads (at least one); the others come when work
    /// has to wait. Syncs that are under way together share the file system's commits.
    pub fn new(threads_max: usize) -> io::Result<BlockingPool> {
        let (jobs, queue) = unbounded::<Job>();
        let crew = Arc::new(Crew {
            queue,
            threads: AtomicUsize::new(0),
            threads_max: threads_max.max(1),
        });
        crew.grow()?;
        Ok(BlockingPool { jobs })
    }

    /// The calling shard's way in. Panics on a thread that is no shard.
    pub fn attach(&self) -> BlockingPort {
        let machine = executor::current();
        let inside = Rc::new(Inside {
            jobs: self.jobs.clone(),
            core: usize::from(machine.shard.core.0),
            doorbells: machine.doorbells.clone(),
            gate: Gate::new(JOBS_MAX),
            finished: Arc::default(),
            running: RefCell::default(),
        });
        let watched = Rc::downgrade(&inside);
        executor::watch(move || watched.upgrade().is_some_and(|inside| inside.collect()));
        BlockingPort { inside }
    }
}

impl Crew {
    /// One thread more. Called on the threads themselves and before the shards are there: a shard
    /// would hand its CPU down to them.
    fn grow(self: &Arc<Crew>) -> io::Result<()> {
        let number = self.threads.fetch_add(1, Ordering::Relaxed);
        let crew = self.clone();
        let builder = thread::Builder::new().name(format!("blocking-{number}"));
        let spawned = builder.spawn(move || crew.work());
        if spawned.is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
        spawned.map(drop)
    }

    fn work(self: Arc<Crew>) {
        for job in self.queue.iter() {
            let more = !self.queue.is_empty();
            if more && self.threads.load(Ordering::Relaxed) < self.threads_max {
                // Without it the work only takes longer.
                let _ = self.grow();
            }
            job();
        }
    }
}

#[derive(Default)]
struct Running {
    next: u64,
    jobs: BTreeMap<u64, Place>,
}

enum Place {
    Waiting(Option<Waker>),
    Finished(Outcome),
}

struct Inside {
    jobs: Sender<Job>,
    core: usize,
    doorbells: Doorbells,
    gate: Gate,
    finished: Arc<SegQueue<(u64, Outcome)>>,
    running: RefCell<Running>,
}

/// One shard's way into the pool.
#[derive(Clone)]
pub struct BlockingPort {
    inside: Rc<Inside>,
}

impl BlockingPort {
    /// Runs `job` on one of the threads and waits for it. Jobs run in no particular order. A panic
    /// in the job goes on here. The job runs even if nobody waits for it any more.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let inside = &self.inside;
        let _permit = inside.gate.enter().await;
        let id = inside.begin();
        let _place = LeaveOnDrop { inside, id };
        let (finished, doorbells, core) = (
            inside.finished.clone(),
            inside.doorbells.clone(),
            inside.core,
        );
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(job));
            finished.push((
                id,
                outcome.map(|value| Box::new(value) as Box<dyn Any + Send>),
            ));
            doorbells.ring(core);
        };
        assert!(
            inside.jobs.send(Box::new(job)).is_ok(),
            "the blocking threads are gone"
        );
        let outcome = poll_fn(|context| inside.poll(id, context.waker())).await;
        match outcome.map(|value| value.downcast::<T>()) {
            Ok(Ok(value)) => *value,
            Ok(Err(_)) => panic!("job {id} gave a value of another type"),
            Err(panic) => resume_unwind(panic),
        }
    }
}

struct LeaveOnDrop<'a> {
    inside: &'a Inside,
    id: u64,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        self.inside.running.borrow_mut().jobs.remove(&self.id);
    }
}

impl Inside {
    fn begin(&self) -> u64 {
        let mut running = self.running.borrow_mut();
        running.next += 1;
        let id = running.next;
        running.jobs.insert(id, Place::Waiting(None));
        id
    }

    fn poll(&self, id: u64, waker: &Waker) -> Poll<Outcome> {
        let mut running = self.running.borrow_mut();
        match running.jobs.remove(&id) {
            Some(Place::Finished(outcome)) => Poll::Ready(outcome),
            Some(Place::Waiting(_)) | None => {
                running.jobs.insert(id, Place::Waiting(Some(waker.clone())));
                Poll::Pending
            }
        }
    }

    /// Takes what the threads have finished and wakes who waits; true if there was anything.
    fn collect(&self) -> bool {
        let mut any = false;
        while let Some((id, outcome)) = self.finished.pop() {
            any = true;
            let mut running = self.running.borrow_mut();
            let Some(place) = running.jobs.get_mut(&id) else {
                continue;
            };
            let before = std::mem::replace(place, Place::Finished(outcome));
            if let Place::Waiting(Some(waker)) = before {
                drop(running);
                waker.wake();
            }
        }
        any
    }
}
