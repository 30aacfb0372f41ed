//! How the values of records are written and read: after the version, which the caller reads.

use std::collections::BTreeMap;

use super::values::{
    ClassicMemberValue, ClassicProtocols, ClassicValue, CurrentValue, MemberState, MemberValue,
    OffsetValue, Partitions, RegexValue, TopicMetadata,
};
use crate::group::wire::{Malformed, Reader, Writer};

pub(super) fn write_offset(value: &OffsetValue) -> Vec<u8> {
    let expires = value.expire_timestamp_ms != -1;
    let mut writer = Writer::versioned(if expires { 1 } else { 3 }, false);
    writer.int64(value.offset);
    if !expires {
        writer.int32(value.leader_epoch);
    }
    writer.string(&value.metadata);
    writer.int64(value.commit_timestamp_ms);
    if expires {
        writer.int64(value.expire_timestamp_ms);
    }
    writer.finish()
}

pub(super) fn read_offset(reader: &mut Reader<'_>, version: i16) -> Result<OffsetValue, Malformed> {
    Ok(OffsetValue {
        offset: reader.int64()?,
        leader_epoch: if version >= 3 { reader.int32()? } else { -1 },
        metadata: reader.string()?,
        commit_timestamp_ms: reader.int64()?,
        expire_timestamp_ms: if version == 1 { reader.int64()? } else { -1 },
    })
}

pub(super) fn write_classic(value: &ClassicValue) -> Vec<u8> {
    let mut writer = Writer::versioned(3, false);
    writer.string(&value.protocol_type);
    writer.int32(value.generation);
    writer.nullable_string(value.protocol.as_deref());
    writer.nullable_string(value.leader.as_deref());
    writer.int64(value.state_timestamp_ms);
    writer.array(value.members.iter(), |writer, member| {
        writer.string(&member.id);
        writer.nullable_string(member.instance_id.as_deref());
        writer.string(&member.client_id);
        writer.string(&member.client_host);
        writer.int32(member.rebalance_timeout_ms);
        writer.int32(member.session_timeout_ms);
        writer.bytes(&member.subscription);
        writer.bytes(&member.assignment);
    });
    writer.finish()
}

pub(super) fn read_classic(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<ClassicValue, Malformed> {
    let value = ClassicValue {
        protocol_type: reader.string()?,
        generation: reader.int32()?,
        protocol: reader.nullable_string()?,
        leader: reader.nullable_string()?,
        state_timestamp_ms: if version >= 2 { reader.int64()? } else { -1 },
        members: reader.vec(|reader| read_classic_member(reader, version))?,
    };
    reader.skip_tagged()?;
    Ok(value)
}

fn read_classic_member(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<ClassicMemberValue, Malformed> {
    let id = reader.string()?;
    let instance_id = if version >= 3 {
        reader.nullable_string()?
    } else {
        None
    };
    let client_id = reader.string()?;
    let client_host = reader.string()?;
    let rebalance_timeout_ms = if version >= 1 { reader.int32()? } else { -1 };
    let session_timeout_ms = reader.int32()?;
    let member = ClassicMemberValue {
        id,
        instance_id,
        client_id,
        client_host,
        // As Kafka does: a record without the one timeout takes the other.
        rebalance_timeout_ms: match rebalance_timeout_ms {
            -1 => session_timeout_ms,
            told => told,
        },
        session_timeout_ms,
        subscription: reader.bytes()?,
        assignment: reader.bytes()?,
    };
    reader.skip_tagged()?;
    Ok(member)
}

pub(super) fn write_epoch(epoch: i32) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.int32(epoch);
    writer.no_tagged();
    writer.finish()
}

pub(super) fn write_topics(topics: &BTreeMap<String, TopicMetadata>) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.array(topics.iter(), |writer, (name, topic)| {
        writer.uuid(topic.id);
        writer.string(name);
        writer.int32(topic.partitions);
        writer.array(topic.racks.iter(), |writer, (partition, racks)| {
            writer.int32(*partition);
            writer.array(racks.iter(), |writer, rack| writer.string(rack));
            writer.no_tagged();
        });
        writer.no_tagged();
    });
    writer.no_tagged();
    writer.finish()
}

pub(super) fn read_topics(
    reader: &mut Reader<'_>,
    _version: i16,
) -> Result<BTreeMap<String, TopicMetadata>, Malformed> {
    let topics = reader.vec(|reader| {
        let id = reader.uuid()?;
        let name = reader.string()?;
        let partitions = reader.int32()?;
        let racks = reader.vec(|reader| {
            let partition = reader.int32()?;
            let racks = reader.vec(|reader| reader.string())?;
            reader.skip_tagged()?;
            Ok((partition, racks.into_iter().collect()))
        })?;
        reader.skip_tagged()?;
        Ok((
            name,
            TopicMetadata {
                id,
                partitions,
                racks: racks.into_iter().collect(),
            },
        ))
    })?;
    Ok(topics.into_iter().collect())
}

pub(super) fn write_member(value: &MemberValue) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.nullable_string(value.instance_id.as_deref());
    writer.nullable_string(value.rack_id.as_deref());
    writer.string(&value.client_id);
    writer.string(&value.client_host);
    writer.array(value.topics.iter(), |writer, topic| writer.string(topic));
    writer.nullable_string(value.regex.as_deref());
    writer.int32(value.rebalance_timeout_ms);
    writer.nullable_string(value.server_assignor.as_deref());
    match &value.classic {
        None => writer.no_tagged(),
        // A nullable structure is led by a byte: 1, since it is there.
        Some(classic) => writer.one_tagged(0, |writer| {
            writer.int8(1);
            writer.int32(classic.session_timeout_ms);
            writer.array(classic.protocols.iter(), |writer, (name, metadata)| {
                writer.string(name);
                writer.bytes(metadata);
                writer.no_tagged();
            });
            writer.no_tagged();
        }),
    }
    writer.finish()
}

pub(super) fn read_member(
    reader: &mut Reader<'_>,
    _version: i16,
) -> Result<MemberValue, Malformed> {
    let mut value = MemberValue {
        instance_id: reader.nullable_string()?,
        rack_id: reader.nullable_string()?,
        client_id: reader.string()?,
        client_host: reader.string()?,
        topics: reader.vec(|reader| reader.string())?.into_iter().collect(),
        regex: reader.nullable_string()?.filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: reader.int32()?,
        server_assignor: reader.nullable_string()?,
        classic: None,
    };
    reader.tagged(|tag, mut field| {
        if tag == 0 && field.int8()? == 1 {
            let session_timeout_ms = field.int32()?;
            let protocols = field.vec(|reader| {
                let protocol = (reader.string()?, reader.bytes()?);
                reader.skip_tagged()?;
                Ok(protocol)
            })?;
            value.classic = Some(ClassicProtocols {
                session_timeout_ms,
                protocols,
            });
        }
        Ok(())
    })?;
    Ok(value)
}

pub(super) fn write_target(partitions: &Partitions) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    write_partitions(&mut writer, partitions);
    writer.no_tagged();
    writer.finish()
}

fn write_partitions(writer: &mut Writer, partitions: &Partitions) {
    writer.array(partitions.iter(), |writer, (topic, partitions)| {
        writer.uuid(*topic);
        writer.array(partitions.iter(), |writer, partition| {
            writer.int32(*partition)
        });
        writer.no_tagged();
    });
}

pub(super) fn read_partitions(reader: &mut Reader<'_>) -> Result<Partitions, Malformed> {
    let partitions = reader.vec(|reader| {
        let topic = reader.uuid()?;
        let partitions = reader.vec(|reader| reader.int32())?;
        reader.skip_tagged()?;
        Ok((topic, partitions.into_iter().collect()))
    })?;
    Ok(partitions.into_iter().collect())
}

pub(super) fn write_current(value: &CurrentValue) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.int32(value.epoch);
    writer.int32(value.previous_epoch);
    writer.int8(value.state.number());
    write_partitions(&mut writer, &value.assigned);
    write_partitions(&mut writer, &value.pending_revocation);
    writer.no_tagged();
    writer.finish()
}

pub(super) fn read_current(
    reader: &mut Reader<'_>,
    _version: i16,
) -> Result<CurrentValue, Malformed> {
    Ok(CurrentValue {
        epoch: reader.int32()?,
        previous_epoch: reader.int32()?,
        state: MemberState::from_number(reader.int8()?),
        assigned: read_partitions(reader)?,
        pending_revocation: read_partitions(reader)?,
    })
}

pub(super) fn write_regex(value: &RegexValue) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.array(value.topics.iter(), |writer, topic| writer.string(topic));
    writer.int64(value.version);
    writer.int64(value.timestamp_ms);
    writer.no_tagged();
    writer.finish()
}

pub(super) fn read_regex(reader: &mut Reader<'_>, _version: i16) -> Result<RegexValue, Malformed> {
    Ok(RegexValue {
        topics: reader.vec(|reader| reader.string())?.into_iter().collect(),
        version: reader.int64()?,
        timestamp_ms: reader.int64()?,
    })
}
