//! RegisterBrokerRecord (0) and BrokerRegistrationChangeRecord (17).

use crate::base::{BrokerId, TopicId};
use crate::cluster::wire::{Read, Reader, Writer, contents};

use super::Record;

/// A broker as it introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    /// Its id (`node.id`).
    pub broker: BrokerId,
    /// True for a ZooKeeper broker in migration: never for ours.
    pub is_migrating_zk_broker: bool,
    /// The UUID of this start of the process.
    pub incarnation: TopicId,
    /// The epoch that the controller gave it: the offset of this record.
    pub epoch: i64,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// The features it supports, with their ranges.
    pub features: Vec<BrokerFeature>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// True while it may not lead.
    pub fenced: bool,
    /// True while it is shutting down.
    pub in_controlled_shutdown: bool,
    /// The UUIDs of its data directories.
    pub log_dirs: Vec<TopicId>,
}

/// One listener of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name: `PLAINTEXT`.
    pub name: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A feature that a broker supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerFeature {
    /// Its name.
    pub name: String,
    /// The lowest level.
    pub min: i16,
    /// The highest level.
    pub max: i16,
}

impl RegisterBroker {
    pub(super) fn write(&self, out: &mut Writer) {
        out.i32(self.broker.0);
        out.bool(self.is_migrating_zk_broker);
        out.uuid(self.incarnation);
        out.i64(self.epoch);
        out.list(&self.endpoints, |out, endpoint| {
            out.string(&endpoint.name);
            out.string(&endpoint.host);
            out.u16(endpoint.port);
            out.i16(endpoint.security_protocol);
            out.tags(&[]);
        });
        out.list(&self.features, |out, feature| {
            out.string(&feature.name);
            out.i16(feature.min);
            out.i16(feature.max);
            out.tags(&[]);
        });
        out.nullable_string(self.rack.as_deref());
        out.bool(self.fenced);
        out.bool(self.in_controlled_shutdown);
        if self.log_dirs.is_empty() {
            return out.tags(&[]);
        }
        let log_dirs = |out: &mut Writer| out.list(&self.log_dirs, |out, id| out.uuid(*id));
        out.tags(&[(0, contents(log_dirs))]);
    }

    pub(super) fn read(version: u32, from: &mut Reader<'_>) -> Read<RegisterBroker> {
        let broker = BrokerId(from.i32()?);
        let is_migrating_zk_broker = version >= 2 && from.bool()?;
        let (incarnation, epoch) = (from.uuid()?, from.i64()?);
        let endpoints = from.list(7, read_endpoint)?;
        let features = from.list(6, read_feature)?;
        let rack = from.nullable_string()?;
        let fenced = from.bool()?;
        let in_controlled_shutdown = version >= 1 && from.bool()?;
        let mut log_dirs = Vec::new();
        from.tags(|tag, from| {
            let known = tag == 0 && version >= 3;
            if known {
                log_dirs = from.list(16, |from| from.uuid())?;
            }
            Ok(known)
        })?;
        Ok(RegisterBroker {
            broker,
            is_migrating_zk_broker,
            incarnation,
            epoch,
            endpoints,
            features,
            rack,
            fenced,
            in_controlled_shutdown,
            log_dirs,
        })
    }
}

fn read_endpoint(from: &mut Reader<'_>) -> Read<Endpoint> {
    let (name, host) = (from.string()?, from.string()?);
    let (port, security_protocol) = (from.u16()?, from.i16()?);
    from.no_tags()?;
    Ok(Endpoint {
        name,
        host,
        port,
        security_protocol,
    })
}

fn read_feature(from: &mut Reader<'_>) -> Read<BrokerFeature> {
    let feature = BrokerFeature {
        name: from.string()?,
        min: from.i16()?,
        max: from.i16()?,
    };
    from.no_tags()?;
    Ok(feature)
}

pub(super) fn write_change(
    out: &mut Writer,
    broker: BrokerId,
    epoch: i64,
    fenced: Option<bool>,
    in_controlled_shutdown: bool,
) {
    out.i32(broker.0);
    out.i64(epoch);
    let mut fields = Vec::new();
    if let Some(fenced) = fenced {
        fields.push((0, contents(|out| out.i8(if fenced { 1 } else { -1 }))));
    }
    if in_controlled_shutdown {
        fields.push((1, contents(|out| out.i8(1))));
    }
    out.tags(&fields);
}

pub(super) fn read_change(version: u32, from: &mut Reader<'_>) -> Read<Record> {
    let (broker, epoch) = (BrokerId(from.i32()?), from.i64()?);
    let (mut fenced, mut shutdown) = (0, 0);
    from.tags(|tag, from| {
        match tag {
            0 => fenced = from.i8()?,
            1 if version >= 1 => shutdown = from.i8()?,
            // Directories are not acted upon: they name the disks of a broker with several.
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let fenced = match fenced {
        0 => None,
        value => Some(value > 0),
    };
    Ok(Record::BrokerChange {
        broker,
        epoch,
        fenced,
        in_controlled_shutdown: shutdown == 1,
    })
}
