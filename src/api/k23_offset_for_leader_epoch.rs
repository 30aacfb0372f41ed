//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! | version | what it added |
//! |---|---|
//! | 2 | current leader epoch (KIP-320) |
//! | 3 | replica id |
//! | 4 | flexible |
//!
//! Where the largest epoch that is not above the one asked for ends; -1 and -1 if there is none.
//! Consumers ask it to find out whether the log was cut behind them. Truth: apache/kafka
//! `Partition.lastOffsetForLeaderEpoch`.

use crate::base::{LeaderEpoch, Offset};
use crate::net::{Outcome, Started};
use crate::partition::Refusal;
use crate::protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use crate::protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};
use crate::shard::{EpochQuery, Reply, Request};

use super::Api;
use super::connection::Connection;
use super::find::{Owned, View};
use super::incoming::{Incoming, Refused};
use super::scatter::{self, Gathered, Scatter, Topics, all};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::OffsetForLeaderEpoch);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: OffsetForLeaderEpochRequest = incoming.decode()?;
    let host = service.host();
    let image = host.image();
    let (topics, queries) = plan(&request, service.view(&image));
    let calls = queries.send(host, Request::EpochEnds);
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = all(calls).await else {
            return Outcome::Close;
        };
        let lanes = answers.into_iter().map(|answer| match answer.reply {
            Reply::EpochEnds(results) => results,
            other => panic!("a lookup of epochs was answered with {other:?}"),
        });
        incoming.reply(&reply(topics, Gathered::new(lanes)))
    })))
}

/// Asks the owner of each partition, and fills the slots of what is refused.
fn plan(request: &OffsetForLeaderEpochRequest, view: View<'_>) -> (Topics, Scatter<EpochQuery>) {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| (&topic.topic, &topic.partitions[..]));
    scatter::plan(topics, |name, partition: &OffsetForLeaderPartition| {
        let owned = view.named(name, partition.partition);
        let query = |owned: Owned| EpochQuery {
            partition: owned.partition,
            current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
            epoch: LeaderEpoch(partition.leader_epoch),
        };
        let question = owned.map(|owned| (owned.core, query(owned)));
        (partition.partition, question)
    })
}

fn reply(
    topics: Topics,
    gathered: Gathered<Result<(LeaderEpoch, Offset), Refusal>>,
) -> OffsetForLeaderEpochResponse {
    let partition = |index, end: Result<(LeaderEpoch, Offset), ErrorCode>| {
        let answer = EpochEndOffset::default().with_partition(index);
        match end {
            Ok((epoch, offset)) => answer.with_leader_epoch(epoch.0).with_end_offset(offset.0),
            Err(error) => answer
                .with_error_code(error.code())
                .with_leader_epoch(-1)
                .with_end_offset(-1),
        }
    };
    let topics = gathered.fill(topics, partition, |name, partitions| {
        OffsetForLeaderTopicResult::default()
            .with_topic(name)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, topic_name};
    use crate::protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;

    #[test]
    fn epochs_are_looked_up_by_their_owners_and_unknown_partitions_are_refused() {
        let mut world = World::new(1);
        world.topic("t", 1, 1);
        let partition = |index| {
            let partition = OffsetForLeaderPartition::default().with_partition(index);
            partition.with_leader_epoch(2).with_current_leader_epoch(3)
        };
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition(0), partition(1)]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let (topics, queries) = plan(&request, world.view());
        let query = queries.lanes()[0].1[0];
        assert_eq!(
            (query.epoch, query.current_leader_epoch),
            (LeaderEpoch(2), LeaderEpoch(3))
        );
        let gathered = Gathered::new([vec![Ok((LeaderEpoch(1), Offset(40)))]]);
        let response = reply(topics, gathered);
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|end| {
                (
                    end.partition,
                    end.error_code,
                    end.leader_epoch,
                    end.end_offset,
                )
            })
            .collect();
        assert_eq!(told, [(0, 0, 1, 40), (1, 3, -1, -1)]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
