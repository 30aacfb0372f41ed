//! Placeholder of the batch header until the record room is merged.
use crate::base::*;
/// Header of a batch v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub max_timestamp: i64,
}
