//! The machine: the only room that names glommio, io_uring, files, sockets, threads and clocks.
//!
//! Knows no Kafka: no frames, no requests, no logs. It gives a core its thread, its ring, sockets,
//! disks, timers and a mesh to the other cores, and carries [`crate::base::DiskOp`]s out.
//!
//! # How a shard runs
//!
//! One glommio executor a core runs the tasks; one `io_uring` of our own a core
//! (`SINGLE_ISSUER | DEFER_TASKRUN`) carries everything they wait for. A driver task goes round:
//! submit and reap without waiting, fire due timers, let the tasks run, call the hook that ends
//! the turn ([`executor::on_turn`]). After an empty round it spins a little, then sleeps.
//!
//! **It sleeps in our ring, not in glommio's.** The prototype slept by letting glommio read an
//! eventfd registered with the ring. Sleeping in `io_uring_enter` of our own ring instead has
//! these grounds: a wake goes through one ring and not two; no task can run, hence no operation be
//! submitted, while the thread is asleep (the deadlock of the prototype cannot be written); the
//! deadline is an argument of the call; and glommio never parks while the driver lives, so its
//! habit of parking with runnable tasks is out of reach, save for the case that its preempt timer
//! fires between two of its instructions, for which a slow glommio timer ticks.
//! Sleeping there is sound only when nothing is runnable. The driver knows, because each task is
//! spawned through [`executor::spawn_local`], which counts polls, and glommio's queue is first in,
//! first out: when a yield of the driver let no task be polled, the queue held the driver alone.
//! What follows: wakers must be woken on their own shard; other threads reach a shard through
//! [`mesh`] and [`doorbell`] only.

pub mod bare;
pub mod blocking;
pub mod clock;
pub mod counters;
mod descriptors;
pub mod device;
pub mod disk;
pub mod doorbell;
pub mod executor;
pub mod gate;
pub mod limits;
pub mod listener;
pub mod mesh;
mod metadata;
pub mod process;
pub mod properties;
mod ring;
pub mod self_test;
mod sendfile;
mod shared_sync;
pub mod signals;
mod space;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod timer;
pub mod trial;
mod writing;

pub use blocking::BlockingPool;
pub use counters::Counters;
pub use device::{DeviceFacts, DurableWrite, probe_device};
pub use disk::{DataDirectory, Disk, DiskOptions};
pub use doorbell::Doorbells;
pub use executor::{Shard, ShardConfig, ShardHandle, Task, on_turn, spawn_local, spawn_shards};
pub use listener::{BoundSocket, Listener, bind_all, bind_each};
pub use mesh::{Outside, Port};
pub use metadata::sync_directory;
pub use signals::{Signals, Stop};
pub use std::fs::File;
pub use std::os::fd::OwnedFd as Descriptor;
pub use stream::Stream;
pub use timer::{TimedOut, sleep_until, timeout, yield_now};
