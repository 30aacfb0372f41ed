//! Fetch (key 1), versions 4 to 18, both directions, without a copy of the records.
//!
//! | version | what it added |
//! |---|---|
//! | 4 | isolation level, aborted transactions (KIP-98) |
//! | 5 | log start offset |
//! | 7 | sessions (KIP-227) |
//! | 9 | current leader epoch (KIP-320) |
//! | 10 | zstd may be answered (KIP-110) |
//! | 11 | rack, preferred read replica (KIP-392) |
//! | 12 | flexible; last fetched epoch; tagged: cluster id, diverging epoch, leader (KIP-595) |
//! | 13 | topics by id (KIP-516) |
//! | 15 | the replica moves into a tagged field, with its epoch (KIP-903) |
//! | 16 | tagged: node endpoints (KIP-951) |
//! | 17 | tagged: the replica's directory (KIP-853) |
//! | 18 | tagged: the replica's high watermark (KIP-1166); decoded, not advertised |
//!
//! Knows nothing of sessions' state and of what is inside records. Truth: apache/kafka
//! `FetchRequest.json`, `FetchResponse.json`.

mod request;
mod response;

pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
pub use response::{
    AbortedTransaction, EpochEnd, FetchResponse, FetchedPartition, FetchedTopic, Piece, SnapshotId,
};

use super::api::{ApiKey, decodable_max, is_flexible};
use super::malformed::Malformed;
pub use super::topic::{CurrentLeader, NodeEndpoint, TopicRef};

/// The lowest version that there is a codec for.
pub const VERSION_MIN: i16 = 4;
/// The highest version that there is a codec for.
pub const VERSION_MAX: i16 = decodable_max(ApiKey::Fetch);

/// What a version decides about the form of the message.
#[derive(Clone, Copy)]
struct Form {
    version: i16,
    compact: bool,
    by_id: bool,
}

impl Form {
    fn of(version: i16) -> Result<Form, Malformed> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(Malformed::UnknownVersion {
                key: ApiKey::Fetch.code(),
                version,
            });
        }
        let compact = is_flexible(ApiKey::Fetch, version);
        Ok(Form {
            version,
            compact,
            by_id: version >= 13,
        })
    }

    /// For writing: we choose the version, so a wrong one is a bug.
    fn to_write(version: i16) -> Form {
        Form::of(version).unwrap_or_else(|malformed| panic!("{malformed}"))
    }
}
