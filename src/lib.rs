//! corelane: a Kafka-protocol broker for bare-metal Linux and NVMe. One process, one shard a core;
//! each shard owns its partitions, their files, their memory and its own io_uring.
//!
//! # The map
//!
//! Each module is a room. A room imports only from the rooms that its row names, all of them on
//! lower floors; rooms on one floor do not know each other. `tests/floors.rs` reads this table and
//! holds every `crate::` path in `src/` against it.
//!
//! | floor | room | may import |
//! |---|---|---|
//! | 11 | cli | node sim bench config api rt host net shard protocol record log cluster group obs base |
//! | 10 | node | config admin api host net rt shard cluster protocol obs base |
//! | 10 | sim | config shard cluster group partition log record protocol obs base |
//! | 10 | bench | rt protocol record base |
//! | 9 | config | rt net host shard cluster partition log group base |
//! | 8 | api | host net rt shard cluster partition log group protocol record obs base |
//! | 8 | admin | host rt shard cluster group obs base |
//! | 7 | host | net rt shard cluster partition log group protocol record obs base |
//! | 6 | net | rt protocol obs base |
//! | 5 | rt | obs base |
//! | 4 | shard | partition group cluster log record protocol obs base |
//! | 3 | partition | log record protocol obs base |
//! | 3 | group | record protocol obs base |
//! | 3 | cluster | record protocol obs base |
//! | 2 | log | record obs base |
//! | 1 | record | base |
//! | 1 | protocol | base |
//! | 1 | obs | base |
//! | 0 | base | |

pub mod admin;
pub mod api;
pub mod base;
pub mod bench;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod group;
pub mod host;
pub mod log;
pub mod net;
pub mod node;
pub mod obs;
pub mod partition;
pub mod protocol;
pub mod record;
pub mod rt;
pub mod shard;
pub mod sim;
