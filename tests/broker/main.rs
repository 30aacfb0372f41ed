//! The broker as its clients see it: a real process, real sockets, a real disk.
//!
//! | variable | what it counts | default |
//! |---|---|---|
//! | `CORELANE_KILLS` | rounds of `kill -9` under load | 5 |
//! | `CORELANE_FUZZ_INPUTS` | hostile inputs | 20,000 |
//! | `CORELANE_PARTITIONS` | partitions on one node | 300 |

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod damage;
mod durability;
mod fetch;
mod frames;
mod full_disk;
mod fuzz;
mod golden;
mod idempotence;
mod list_offsets;
mod many;
mod metadata;
mod startup;
