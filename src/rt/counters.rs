//! What one shard's machine did, as plain numbers that only grow.

use std::cell::Cell;

/// Declares the cells that a shard counts in and the snapshot that others read.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of one shard's counts since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// Where the shard counts.
        #[derive(Default)]
        pub(super) struct Counts {
            $(pub(super) $name: Cell<u64>,)*
        }

        impl Counts {
            /// The counts as they are now.
            pub(super) fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.get(),)* }
            }
        }

        impl Counters {
            /// Shows each count with its name.
            pub fn visit(&self, mut visitor: impl FnMut(&'static str, u64)) {
                $(visitor(stringify!($name), self.$name);)*
            }
        }
    };
}

counters! {
    /// Durable writes handed to the device.
    durable_writes_submitted,
    /// Durable writes that came back without an error.
    durable_writes_completed,
    /// Other writes that came back without an error.
    relaxed_writes_completed,
    /// Bytes written to disk.
    written_bytes,
    /// Syncs that came back without an error.
    syncs,
    /// Reads that came back without an error.
    reads,
    /// Bytes read from disk past the page cache.
    read_bytes,
    /// Disk operations that failed.
    disk_faults,
    /// Files opened.
    files_opened,
    /// Bytes sent from files.
    sendfile_bytes,
    /// Slices that were not in the page cache when they were to be sent.
    sendfile_cold_slices,
    /// Send system calls and operations completed.
    sends,
    /// Bytes sent from memory.
    sent_bytes,
    /// Receive operations completed.
    receives,
    /// Bytes received.
    received_bytes,
    /// Connections accepted.
    accepts,
    /// Connections turned away because descriptors had run out.
    accepts_refused,
    /// Sleeping shards woken by this one.
    wakes_sent,
    /// Times the shard went to sleep.
    parks,
    /// Nanoseconds asleep; a part of `idle_ns`.
    parked_ns,
    /// Times it spun before it slept or found work.
    spins,
    /// Times that spinning found work.
    spins_lucky,
    /// Turns of the driver in which something happened.
    turns,
    /// Nanoseconds in turns in which something happened.
    busy_ns,
    /// Nanoseconds asleep, spinning, or looking in vain.
    idle_ns,
}

/// Adds to a cell.
pub(super) fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get().wrapping_add(count));
}
