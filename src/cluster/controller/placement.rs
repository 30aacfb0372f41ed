//! Which brokers hold a partition: chosen round the brokers, or as a client asks
//! (apache/kafka `ReplicationControlManager`, `StripedReplicaPlacer` without racks).

use crate::base::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::cluster::image::Image;
use crate::cluster::records::{NewPartition, Record, UNASSIGNED_DIRECTORY};
use crate::protocol::ErrorCode;

use super::Refusal;

/// The replicas of `count` partitions from number `first` on, `factor` each, on active brokers:
/// each partition begins one broker further on.
pub(super) fn spread(
    image: &Image,
    first: usize,
    count: usize,
    factor: i16,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let brokers: Vec<BrokerId> = image.active_brokers().collect();
    let wanted = usize::try_from(factor).unwrap_or(0);
    if wanted > brokers.len() {
        let message = format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of \
             {factor} cannot be reached because only {} broker(s) are registered.",
            brokers.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let replicas = |partition: usize| {
        (0..wanted)
            .map(|place| brokers[(partition + place) % brokers.len()])
            .collect()
    };
    Ok((first..first + count).map(replicas).collect())
}

/// Checks a client's choice of replicas for one partition; `factor` is that of the partitions
/// before it.
pub(super) fn check_manual(
    image: &Image,
    replicas: &[BrokerId],
    factor: Option<usize>,
) -> Result<(), Refusal> {
    let refused = |why: String| {
        let message = format!("The manual partition assignment includes {why}.");
        Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
    };
    if replicas.is_empty() {
        return refused("an empty replica list".to_owned());
    }
    if let Some(factor) = factor.filter(|factor| *factor != replicas.len()) {
        let count = replicas.len();
        return refused(format!(
            "a partition with {count} replica(s), but previous partitions have {factor}"
        ));
    }
    if let Some(unknown) = replicas.iter().find(|id| !image.brokers().contains_key(id)) {
        return refused(format!(
            "broker {unknown}, but no such broker is registered"
        ));
    }
    if let Some(twice) = super::duplicates(replicas.iter()).first() {
        return refused(format!("the broker {twice} more than once"));
    }
    Ok(())
}

/// The record of a new partition; refused if none of its replicas is active.
pub(super) fn record(
    image: &Image,
    topic: TopicId,
    partition: usize,
    replicas: Vec<BrokerId>,
) -> Result<Record, Refusal> {
    let active = |id: &&BrokerId| {
        let broker = image.brokers().get(id);
        broker.is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
    };
    let isr: Vec<BrokerId> = replicas.iter().filter(active).copied().collect();
    if isr.is_empty() {
        let message = format!(
            "All brokers specified in the manual partition assignment for partition {partition} \
             are fenced or in controlled shutdown."
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let directories = replicas.iter().map(|id| directory(image, *id)).collect();
    Ok(Record::Partition(NewPartition {
        partition: PartitionIndex(partition as i32),
        topic,
        leader: isr.first().copied(),
        isr,
        replicas,
        removing: Vec::new(),
        adding: Vec::new(),
        recovering: false,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        directories,
        eligible_leaders: None,
        last_known_eligible: None,
    }))
}

/// A broker with one data directory puts everything there; with several it chooses later.
fn directory(image: &Image, broker: BrokerId) -> TopicId {
    match image
        .brokers()
        .get(&broker)
        .map(|broker| broker.log_dirs.as_slice())
    {
        Some([only]) => *only,
        _ => UNASSIGNED_DIRECTORY,
    }
}
