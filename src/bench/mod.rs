//! A load generator for any broker that speaks Kafka's protocol: many connections on a few threads,
//! each thread one `epoll` loop over non-blocking sockets, with the codecs of [`crate::protocol`]
//! and [`crate::record`].
//!
//! [`Plan`] says what to do; [`run`] does it and gives an [`Outcome`]. Everything that a client
//! must ask first (versions, leaders, offsets, a producer id) is in the plan already. In an open
//! loop latency counts from the time at which a record was due ([`schedule`]); every record says
//! who wrote it and which it is, so that readers find what is missing, repeated or damaged
//! ([`content`]).
//!
//! `mio` gives `epoll` without unsafe code; it is in the tree already, under `tokio`. A whole
//! asynchronous runtime would put its own scheduling between a reply and its time stamp. `plotters`
//! draws the charts ([`page`]) as SVG, without fonts, scripts or images.
//!
//! Knows no terminal, no topic creation, no broker process but by its number in `/proc`.

pub mod chart;
mod consumer;
pub mod content;
pub mod fetches;
pub mod fio;
mod idle;
pub mod latency;
pub mod outcome;
pub mod page;
mod plan;
pub mod process;
mod producer;
mod run;
pub mod schedule;
mod shared;
mod socket;
mod tally;
mod worker;

pub use idle::{Idle, hold};
pub use outcome::Outcome;
pub use plan::{ConsumerPlan, Pace, Plan, ProducerPlan, Role};
pub use run::{Progress, run};
