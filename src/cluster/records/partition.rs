//! PartitionRecord (3) and PartitionChangeRecord (5).

use crate::base::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::cluster::wire::{Read, Reader, Writer, contents};

/// The directory of a replica that has not been given one (apache/kafka `DirectoryId.UNASSIGNED`).
pub const UNASSIGNED_DIRECTORY: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// A partition as it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartition {
    /// Its number in the topic.
    pub partition: PartitionIndex,
    /// Its topic.
    pub topic: TopicId,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync.
    pub isr: Vec<BrokerId>,
    /// Those on their way out.
    pub removing: Vec<BrokerId>,
    /// Those on their way in.
    pub adding: Vec<BrokerId>,
    /// Its leader; none while there is no leader.
    pub leader: Option<BrokerId>,
    /// True while it recovers from an unclean election.
    pub recovering: bool,
    /// The term of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this partition.
    pub partition_epoch: i32,
    /// The data directory on each replica, in the order of `replicas`; [`UNASSIGNED_DIRECTORY`]
    /// while it has none.
    pub directories: Vec<TopicId>,
    /// Replicas that may lead although they are not in sync (KIP-966).
    pub eligible_leaders: Option<Vec<BrokerId>>,
    /// The last of those that were known.
    pub last_known_eligible: Option<Vec<BrokerId>>,
}

/// A change of a partition: what is none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionChange {
    /// Its number in the topic.
    pub partition: PartitionIndex,
    /// Its topic.
    pub topic: TopicId,
    /// The new in-sync replicas.
    pub isr: Option<Vec<BrokerId>>,
    /// The new leader; the inner none is "no leader".
    pub leader: Option<Option<BrokerId>>,
    /// The new replicas.
    pub replicas: Option<Vec<BrokerId>>,
    /// The replicas on their way out.
    pub removing: Option<Vec<BrokerId>>,
    /// The replicas on their way in.
    pub adding: Option<Vec<BrokerId>>,
    /// True: elected uncleanly; false: recovered.
    pub recovering: Option<bool>,
    /// Replicas that may lead although they are not in sync.
    pub eligible_leaders: Option<Vec<BrokerId>>,
    /// The last of those that were known.
    pub last_known_eligible: Option<Vec<BrokerId>>,
    /// The data directory on each replica.
    pub directories: Option<Vec<TopicId>>,
}

fn write_brokers(out: &mut Writer, brokers: &[BrokerId]) {
    out.list(brokers, |out, broker| out.i32(broker.0));
}

fn read_brokers(from: &mut Reader<'_>) -> Read<Vec<BrokerId>> {
    from.list(4, |from| from.i32().map(BrokerId))
}

fn read_nullable_brokers(from: &mut Reader<'_>) -> Read<Option<Vec<BrokerId>>> {
    from.nullable_list(4, |from| from.i32().map(BrokerId))
}

/// Adds a tagged list if it is there.
fn tag_brokers(fields: &mut Vec<(u32, Vec<u8>)>, tag: u32, brokers: &Option<Vec<BrokerId>>) {
    if let Some(brokers) = brokers {
        fields.push((tag, contents(|out| write_brokers(out, brokers))));
    }
}

/// A broker id on the wire: negative is none.
fn broker(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

impl NewPartition {
    /// A partition whose only replica, in sync and leading, is `broker`: of its first term, and in no
    /// data directory that anybody named.
    pub fn on(broker: BrokerId, topic: TopicId, partition: PartitionIndex) -> NewPartition {
        NewPartition {
            partition,
            topic,
            replicas: vec![broker],
            isr: vec![broker],
            removing: Vec::new(),
            adding: Vec::new(),
            leader: Some(broker),
            recovering: false,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            directories: Vec::new(),
            eligible_leaders: None,
            last_known_eligible: None,
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.i32(self.partition.0);
        out.uuid(self.topic);
        for brokers in [&self.replicas, &self.isr, &self.removing, &self.adding] {
            write_brokers(out, brokers);
        }
        out.i32(self.leader.map_or(-1, |leader| leader.0));
        out.i32(self.leader_epoch.0);
        out.i32(self.partition_epoch);
        out.list(&self.directories, |out, id| out.uuid(*id));
        let mut fields = Vec::new();
        if self.recovering {
            fields.push((0, contents(|out| out.i8(1))));
        }
        tag_brokers(&mut fields, 1, &self.eligible_leaders);
        tag_brokers(&mut fields, 2, &self.last_known_eligible);
        out.tags(&fields);
    }

    pub(super) fn read(version: u32, from: &mut Reader<'_>) -> Read<NewPartition> {
        let mut partition = NewPartition {
            partition: PartitionIndex(from.i32()?),
            topic: from.uuid()?,
            replicas: read_brokers(from)?,
            isr: read_brokers(from)?,
            removing: read_brokers(from)?,
            adding: read_brokers(from)?,
            leader: broker(from.i32()?),
            recovering: false,
            leader_epoch: LeaderEpoch(from.i32()?),
            partition_epoch: from.i32()?,
            directories: Vec::new(),
            eligible_leaders: None,
            last_known_eligible: None,
        };
        if version >= 1 {
            partition.directories = from.list(16, |from| from.uuid())?;
        }
        from.tags(|tag, from| {
            match tag {
                0 => partition.recovering = from.i8()? == 1,
                1 if version >= 2 => partition.eligible_leaders = read_nullable_brokers(from)?,
                2 if version >= 2 => partition.last_known_eligible = read_nullable_brokers(from)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(partition)
    }
}

impl PartitionChange {
    pub(super) fn write(&self, out: &mut Writer) {
        out.i32(self.partition.0);
        out.uuid(self.topic);
        let mut fields = Vec::new();
        tag_brokers(&mut fields, 0, &self.isr);
        if let Some(leader) = self.leader {
            fields.push((
                1,
                contents(|out| out.i32(leader.map_or(-1, |leader| leader.0))),
            ));
        }
        tag_brokers(&mut fields, 2, &self.replicas);
        tag_brokers(&mut fields, 3, &self.removing);
        tag_brokers(&mut fields, 4, &self.adding);
        if let Some(recovering) = self.recovering {
            fields.push((5, contents(|out| out.bool(recovering))));
        }
        tag_brokers(&mut fields, 6, &self.eligible_leaders);
        tag_brokers(&mut fields, 7, &self.last_known_eligible);
        if let Some(directories) = &self.directories {
            fields.push((
                8,
                contents(|out| out.list(directories, |out, id| out.uuid(*id))),
            ));
        }
        out.tags(&fields);
    }

    pub(super) fn read(version: u32, from: &mut Reader<'_>) -> Read<PartitionChange> {
        let (partition, topic) = (PartitionIndex(from.i32()?), from.uuid()?);
        let mut change = PartitionChange {
            partition,
            topic,
            ..PartitionChange::default()
        };
        from.tags(|tag, from| {
            match tag {
                0 => change.isr = read_nullable_brokers(from)?,
                1 => {
                    let leader = from.i32()?;
                    change.leader = (leader != -2).then_some(broker(leader));
                }
                2 => change.replicas = read_nullable_brokers(from)?,
                3 => change.removing = read_nullable_brokers(from)?,
                4 => change.adding = read_nullable_brokers(from)?,
                5 => {
                    let state = from.i8()?;
                    change.recovering = (state >= 0).then_some(state == 1);
                }
                6 if version >= 2 => change.eligible_leaders = read_nullable_brokers(from)?,
                7 if version >= 2 => change.last_known_eligible = read_nullable_brokers(from)?,
                8 if version >= 1 => {
                    change.directories = from.nullable_list(16, |from| from.uuid())?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(change)
    }
}
