//! One thread: its connections, and the loop that waits for sockets and for times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::consumer::Consumer;
use super::content::Maker;
use super::plan::{ConsumerPlan, Plan, ProducerPlan};
use super::producer::{Out, Producer};
use super::shared::{Progress, Window};
use super::socket::{Came, Outgoing, Socket};
use super::tally::Tally;
use crate::rt::{clock, limits};

/// `epoll` waits in milliseconds: what is due sooner than this is waited for awake. Awake, but not
/// jealously: the kernel's threads that finish the broker's writes may sit on this CPU, and one that
/// is never left holds each of them up until the next tick (4 ms).
const AWAKE: u64 = 1_100_000;
/// So long after something came, more is waited for awake, nanoseconds. What wakes a CPU that sleeps
/// is an interrupt sent by the CPU that the broker runs on, and where a hypervisor has to deliver it,
/// it was a third of what serving a fetch cost: the client's sleep, not the broker's work.
const AWAKE_AFTER: u64 = 100_000;
/// So long a thread that has something to do keeps its CPU without asking whether somebody else wants
/// it, nanoseconds: to ask in each round was a tenth of what a reader of several GB a second cost.
const KEPT_MAX: u64 = 20_000;
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How a thread gets along with others on its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It has its CPU to itself, and waits awake where that makes the measurement better.
    Alone,
    /// It measures beside a thread that has more to do: sleeps whenever it can, and goes first.
    First,
    /// It lets all others go first.
    Last,
}

enum Work {
    Write(Producer),
    Read(Consumer),
}

struct Connection {
    socket: Socket,
    address: String,
    work: Work,
    /// The earliest time in the heap, if any.
    timer: Option<u64>,
    /// True if the socket may hold more to read.
    is_readable: bool,
    is_done: bool,
}

impl Connection {
    /// True for a reader that has read everything there is for it.
    fn is_through(&self) -> bool {
        match &self.work {
            Work::Write(_) => false,
            Work::Read(consumer) => consumer.is_through(),
        }
    }
}

impl Out for Outgoing {
    fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), String> {
        Outgoing::send(self, head, body).map_err(|error| error.to_string())
    }
}

/// Connections of one thread.
pub(super) struct Worker {
    poll: Poll,
    connections: Vec<Connection>,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// Connections whose sockets may hold more.
    readable: Vec<usize>,
    /// When something came last.
    came_at: u64,
    left: usize,
    manner: Manner,
}

impl Worker {
    /// Connects all.
    pub(super) fn connect(
        plan: &Plan,
        producers: Vec<ProducerPlan>,
        consumers: Vec<ConsumerPlan>,
        manner: Manner,
    ) -> Result<Worker, String> {
        let poll = Poll::new().map_err(|error| error.to_string())?;
        let mut connections = Vec::new();
        let mut add = |address: String, work: Work| -> Result<(), String> {
            let token = Token(connections.len());
            let socket = Socket::connect(&address, poll.registry(), token)
                .map_err(|error| format!("cannot connect to {address}: {error}"))?;
            connections.push(Connection {
                socket,
                address,
                work,
                timer: None,
                is_readable: false,
                is_done: false,
            });
            Ok(())
        };
        // Readers first, so that they wait when the first record comes.
        for consumer in consumers {
            let address = consumer.address.clone();
            let consumer = Consumer::new(consumer, &plan.topic, plan.run);
            add(address, Work::Read(consumer))?;
        }
        for producer in producers {
            let address = producer.address.clone();
            let producer = Producer::new(producer, &plan.topic);
            add(address, Work::Write(producer))?;
        }
        Ok(Worker {
            poll,
            left: connections.len(),
            connections,
            timers: BinaryHeap::new(),
            readable: Vec::new(),
            came_at: 0,
            manner,
        })
    }

    /// Works until all connections are done, or until `drain` nanoseconds after the window.
    pub(super) fn run(
        mut self,
        window: &Window,
        drain: u64,
        maker: &mut Maker,
        progress: &Arc<Progress>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let ready = match self.manner {
            Manner::Alone => Ok(()),
            Manner::First => limits::be_punctual(),
            Manner::Last => limits::let_others_go_first(),
        };
        ready.map_err(|error| error.to_string())?;
        let mut events = Events::with_capacity(1024);
        // What a reader gets before the run begins would count for nothing.
        let early = window.began.saturating_sub(clock::mono().0);
        std::thread::sleep(Duration::from_nanos(early));
        for index in 0..self.connections.len() {
            if let Work::Write(producer) = &mut self.connections[index].work {
                producer.begin(window);
            }
            self.pump(index, window, maker, tally)?;
        }
        let (mut settled_at, mut yielded_at) = (0, 0);
        while self.left > 0 {
            let mut wait = self.wait();
            let began = clock::mono().0;
            if self.manner == Manner::First && !wait.is_zero() {
                limits::wait_readable(&self.poll, wait);
                wait = Duration::ZERO;
            } else if events.is_empty() || began >= yielded_at + KEPT_MAX {
                // Also with something to read: a thread that always has would never leave its CPU
                // either.
                yielded_at = began;
                std::thread::yield_now();
            }
            self.poll
                .poll(&mut events, Some(wait))
                .or_else(|error| match error.kind() {
                    std::io::ErrorKind::Interrupted => Ok(()),
                    _ => Err(error.to_string()),
                })?;
            for event in &events {
                let index = event.token().0;
                if event.is_writable() {
                    let connection = &mut self.connections[index];
                    connection
                        .socket
                        .outgoing()
                        .flush()
                        .map_err(|error| format!("{}: {error}", connection.address))?;
                }
                if event.is_readable() || event.is_read_closed() {
                    self.mark_readable(index);
                }
            }
            for index in std::mem::take(&mut self.readable) {
                self.connections[index].is_readable = false;
                self.receive(index, progress, tally)?;
                self.pump(index, window, maker, tally)?;
                // Else it would wait for nothing until the next look, 50 ms at worst.
                if self.connections[index].is_through() {
                    settled_at = 0;
                }
            }
            let now = clock::mono().0;
            while let Some(Reverse((at, index))) = self.timers.peek().copied() {
                if at > now {
                    break;
                }
                self.timers.pop();
                if self.connections[index].timer == Some(at) {
                    self.connections[index].timer = None;
                    self.pump(index, window, maker, tally)?;
                }
            }
            tally.turn(now);
            // Catching up and the end are looked at now and then, not each turn.
            if now >= settled_at + 1_000_000 {
                settled_at = now;
                self.settle(now, window, maker, progress, tally)?;
                if now >= window.until().saturating_add(drain) {
                    break;
                }
            }
        }
        let now = clock::mono().0;
        for connection in &mut self.connections {
            match &mut connection.work {
                Work::Write(producer) => producer.give_up(now, window, progress, tally),
                Work::Read(consumer) => consumer.leave(progress, tally),
            }
        }
        tally.finish();
        Ok(())
    }

    fn mark_readable(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !std::mem::replace(&mut connection.is_readable, true) {
            self.readable.push(index);
        }
    }

    /// How long to wait for sockets.
    fn wait(&self) -> Duration {
        if !self.readable.is_empty() {
            return Duration::ZERO;
        }
        let now = clock::mono().0;
        let sleeps = self.manner == Manner::First;
        if now < self.came_at + AWAKE_AFTER && !sleeps {
            return Duration::ZERO;
        }
        let Some(Reverse((at, _))) = self.timers.peek() else {
            return WAIT_MAX;
        };
        let left = at.saturating_sub(now);
        if sleeps {
            return Duration::from_nanos(left).min(WAIT_MAX);
        }
        match left < AWAKE {
            true => Duration::ZERO,
            false => Duration::from_nanos(left - AWAKE).min(WAIT_MAX),
        }
    }

    /// Reads once and takes the whole frames.
    fn receive(
        &mut self,
        index: usize,
        progress: &Progress,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Connection {
            socket,
            address,
            work,
            is_done,
            ..
        } = &mut self.connections[index];
        let came = socket
            .read()
            .map_err(|error| format!("{address}: {error}"))?;
        if came == Came::End {
            return match is_done {
                true => Ok(()),
                false => Err(format!("{address}: the broker closed the connection")),
            };
        }
        let now = clock::mono().0;
        self.came_at = now;
        let taken = socket.frames(|frame, out| match work {
            Work::Write(producer) => producer.reply(now, &frame, progress, tally),
            Work::Read(consumer) => consumer.reply(now, &frame, tally, out),
        });
        taken.map_err(|error| format!("{address}: {error}"))?;
        if came == Came::Some {
            self.mark_readable(index);
        }
        Ok(())
    }

    fn pump(
        &mut self,
        index: usize,
        window: &Window,
        maker: &mut Maker,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Connection {
            socket,
            address,
            work,
            timer,
            ..
        } = &mut self.connections[index];
        let (now, out) = (clock::mono().0, socket.outgoing());
        let next = match work {
            Work::Write(producer) => producer.pump(now, window, maker, tally, out),
            Work::Read(consumer) => consumer.pump(out).map(|()| None),
        };
        let next = next.map_err(|error| format!("{address}: {error}"))?;
        if let Some(at) = next.filter(|at| timer.is_none_or(|known| *at < known)) {
            *timer = Some(at);
            self.timers.push(Reverse((at, index)));
        }
        Ok(())
    }

    /// Ends what is done.
    fn settle(
        &mut self,
        now: u64,
        window: &Window,
        maker: &mut Maker,
        progress: &Progress,
        tally: &mut Tally,
    ) -> Result<(), String> {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.is_done {
                continue;
            }
            let is_done = match &mut connection.work {
                Work::Write(producer) => producer.settle(now, window, progress),
                Work::Read(consumer) => consumer.settle(now, window, progress, tally),
            };
            if is_done {
                connection.is_done = true;
                self.left -= 1;
            } else if matches!(connection.work, Work::Read(_)) {
                // One that repeats may have begun again.
                self.pump(index, window, maker, tally)?;
            }
        }
        let readers = progress.catching_up.load(Ordering::Relaxed);
        if window.ends_with_catch_up && readers == 0 {
            window.end(now);
        }
        Ok(())
    }
}
