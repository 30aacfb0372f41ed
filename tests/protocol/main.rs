//! The protocol room against the `kafka-protocol` crate, and against hostile bytes.
//!
//! `CORELANE_FUZZ_INPUTS` is the number of inputs for each message in each version.

mod apis;
mod crosscheck;
mod fuzz;
mod memory;
mod sample;
mod shapes;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
