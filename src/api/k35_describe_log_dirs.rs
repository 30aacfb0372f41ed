//! DescribeLogDirs (key 35), versions 1 to 4.
//!
//! | version | what it added |
//! |---|---|
//! | 2 | flexible |
//! | 3 | an error of the whole request |
//! | 4 | bytes of the volume (KIP-827), as they were when it was last asked |
//!
//! A data directory that failed, or with a partition in it whose files cannot be read, written or
//! vouched for, carries KAFKA_STORAGE_ERROR; its partitions are told all the same. Sizes are those of the segment files; partitions that have no file yet count 0 bytes. There are no
//! other replicas to lag behind and no moves between directories. Partitions that are named and not
//! there are left out, as in Kafka. Truth: apache/kafka `ReplicaManager.describeLogDirs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::{CoreId, PartitionIndex, Space, TopicPartition};
use crate::cluster::image::Image;
use crate::host::Host;
use crate::net::{Outcome, Started};
use crate::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};
use crate::shard::{PartitionDescription, Reply, Request, VolumeDescription, VolumeState};

use super::Api;
use super::connection::Connection;
use super::find::View;
use super::incoming::{Incoming, Refused, text};
use super::scatter::{Scatter, all};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeLogDirs);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// The size of a volume is not known yet.
const UNKNOWN: i64 = -1;

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeLogDirsRequest = incoming.decode()?;
    let host = service.host().clone();
    let image = host.image();
    let only = connection.endpoint.core;
    let calls = match plan(&request, service.view(&image), only) {
        Some(wanted) => wanted.send(&host, |partitions| Request::Describe(Some(partitions))),
        None => every_core(&host, only),
    };
    Ok(Started::Later(Box::pin(async move {
        let volumes = host.call(host.core(), Request::Volumes);
        let (Ok(answers), Ok(volumes)) = (all(calls).await, volumes.await) else {
            return Outcome::Close;
        };
        let Reply::Volumes(volumes) = volumes.reply else {
            panic!(
                "a question about volumes was answered with {:?}",
                volumes.reply
            );
        };
        let described = answers.into_iter().flat_map(|answer| match answer.reply {
            Reply::Describe(partitions) => partitions,
            other => panic!("a description was answered with {other:?}"),
        });
        let results = results(described, &host.node().data_dirs, &volumes, &host.image());
        incoming.reply(&DescribeLogDirsResponse::default().with_results(results))
    })))
}

fn every_core(host: &Host, only: Option<CoreId>) -> Vec<crate::host::Call> {
    let cores = (0..host.cores()).map(CoreId);
    cores
        .filter(|core| only.is_none_or(|only| only == *core))
        .map(|core| host.call(core, Request::Describe(None)))
        .collect()
}

/// The partitions that are asked for, by owner, each once; none for all. Where each core is a broker
/// of its own it tells `only` of what it owns, lest a client that asks them all counts twice.
fn plan(
    request: &DescribeLogDirsRequest,
    view: View<'_>,
    only: Option<CoreId>,
) -> Option<Scatter<TopicPartition>> {
    let topics = request.topics.as_ref()?;
    let (mut wanted, mut seen) = (Scatter::default(), BTreeSet::new());
    for topic in topics {
        for index in &topic.partitions {
            if let Ok(owned) = view.named(&topic.topic, *index)
                && only.is_none_or(|only| only == owned.core)
                && seen.insert(owned.partition)
            {
                wanted.ask(owned.core, owned.partition);
            }
        }
    }
    Some(wanted)
}

/// One result for each data directory, with its partitions by topic.
fn results(
    described: impl Iterator<Item = PartitionDescription>,
    directories: &[String],
    volumes: &[VolumeDescription],
    image: &Image,
) -> Vec<DescribeLogDirsResult> {
    let mut by_disk: Vec<BTreeMap<Arc<str>, BTreeMap<PartitionIndex, u64>>> =
        vec![BTreeMap::new(); directories.len()];
    let mut ill = BTreeSet::new();
    for one in described {
        if one.fault.is_some() {
            ill.insert(usize::from(one.disk));
        }
        let topic = image.topic_by_id(one.partition.topic);
        if let (Some(topic), Some(topics)) = (topic, by_disk.get_mut(usize::from(one.disk))) {
            let partitions = topics.entry(topic.name.clone()).or_default();
            partitions.insert(one.partition.partition, one.size_bytes);
        }
    }
    let results = directories.iter().zip(by_disk).enumerate();
    let results = results.map(|(disk, (directory, topics))| {
        let volume = volumes.iter().find(|one| usize::from(one.disk) == disk);
        let failed = volume.is_some_and(|one| matches!(one.state, VolumeState::Failed(_)));
        let error = if failed || ill.contains(&disk) {
            ErrorCode::KafkaStorageError
        } else {
            ErrorCode::None
        };
        let known = volume.map(|one| one.space).filter(|space| space.total > 0);
        let bytes = |figure: fn(Space) -> u64| {
            known.map_or(UNKNOWN, |space| {
                i64::try_from(figure(space)).unwrap_or(i64::MAX)
            })
        };
        DescribeLogDirsResult::default()
            .with_error_code(error.code())
            .with_log_dir(text(directory.as_str()))
            .with_topics(topics.into_iter().map(topic).collect())
            .with_total_bytes(bytes(|space| space.total))
            .with_usable_bytes(bytes(|space| space.usable))
    });
    results.collect()
}

fn topic((name, partitions): (Arc<str>, BTreeMap<PartitionIndex, u64>)) -> DescribeLogDirsTopic {
    let partitions = partitions.into_iter().map(|(index, size)| {
        DescribeLogDirsPartition::default()
            .with_partition_index(index.0)
            .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(TopicName(text(&*name)))
        .with_partitions(partitions.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, topic_name};
    use crate::base::Offset;
    use crate::protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

    #[test]
    fn partitions_are_told_by_directory_and_topic() {
        let mut world = World::new(2);
        let id = world.topic("t", 1, 3);
        let described = |index, disk| PartitionDescription {
            partition: TopicPartition {
                topic: id,
                partition: PartitionIndex(index),
            },
            disk,
            size_bytes: 10 + index as u64,
            log_start: Offset(0),
            high_watermark: Offset(0),
            log_end: Offset(0),
            fault: None,
        };
        let described = [
            described(2, 0),
            described(0, 0),
            described(1, 1),
            described(1, 9),
        ];
        let directories = ["/a".to_owned(), "/b".to_owned()];
        let volumes = [0, 1].map(|disk| VolumeDescription {
            disk,
            space: Space {
                total: 100,
                usable: 40,
                reserve: 5,
            },
            state: VolumeState::Well,
        });
        let mut described = described.to_vec();
        described[2].fault = Some(crate::log::Fault::Corrupt {
            file: crate::base::FilePath::new(1, "t-1/0.log"),
            position: 0,
        });
        let results = results(described.into_iter(), &directories, &volumes, &world.image);
        let told: Vec<_> = results
            .iter()
            .map(|one| (one.error_code, one.usable_bytes))
            .collect();
        assert_eq!(told, [(0, 40), (ErrorCode::KafkaStorageError.code(), 40)]);
        let told: Vec<_> = results
            .iter()
            .flat_map(|result| &result.topics[0].partitions)
            .map(|one| (one.partition_index, one.partition_size))
            .collect();
        assert_eq!(told, [(0, 10), (2, 12), (1, 11)]);
        let volumes = results
            .iter()
            .map(|told| (told.total_bytes, told.usable_bytes));
        assert_eq!(volumes.collect::<Vec<_>>(), [(100, 40), (100, 40)]);
        let response = DescribeLogDirsResponse::default().with_results(results);
        encodes_in_every_version(VERSIONS, &response);
    }

    #[test]
    fn named_partitions_are_asked_for_once_and_null_means_all() {
        let mut world = World::new(1);
        world.topic("t", 1, 2);
        let topic = DescribableLogDirTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![0, 1, 1, 7]);
        let request = DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
        let wanted = plan(&request, world.view(), None).unwrap();
        assert_eq!(wanted.lanes()[0].1.len(), 2);
        assert!(plan(&request.with_topics(None), world.view(), None).is_none());
    }
}
