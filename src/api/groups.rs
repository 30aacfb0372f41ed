//! Questions about groups: each goes to the core that owns its group's partition of
//! `__consumer_offsets`, where the group's coordinator lives.

use crate::base::PartitionIndex;
use crate::cluster::image::{Image, Topic};
use crate::group::{self, Body, Reply};
use crate::host::{Call, Stopping};
use crate::net::{Outcome, Started};
use crate::protocol::ErrorCode;
use crate::protocol::messages::Encodable;
use crate::shard;

use super::connection::Connection;
use super::find::{Owned, View};
use super::incoming::{Incoming, Refused};
use super::service::Service;

/// The topic of groups and committed offsets.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// A question on its way.
pub(crate) enum Asked {
    /// The coordinator is not here.
    Refused(ErrorCode),
    /// The coordinator is asked.
    Call(Call),
}

impl Asked {
    /// Waits for the answer, or for the reason why there is none.
    pub(crate) async fn answer(self) -> Result<Result<Reply, ErrorCode>, Stopping> {
        match self {
            Asked::Refused(error) => Ok(Err(error)),
            Asked::Call(call) => match call.await?.reply {
                shard::Reply::Group(Ok(reply)) => Ok(Ok(*reply)),
                shard::Reply::Group(Err(error)) => Ok(Err(error)),
                other => panic!("a question about a group was answered with {other:?}"),
            },
        }
    }
}

/// The partition that has the group, and its core. A topic that is not there yet is made when a
/// client looks for its coordinator, so that is what a client is told to do.
pub(crate) fn home(view: View<'_>, group: &str) -> Result<Owned, ErrorCode> {
    let topic = view.image.topic(TOPIC).ok_or(ErrorCode::NotCoordinator)?;
    let owned = view.owned(topic, partition_of(topic, group));
    owned.map_err(|_| ErrorCode::NotCoordinator)
}

/// The partition of `__consumer_offsets` that has the group.
pub(crate) fn partition_of(topic: &Topic, group: &str) -> PartitionIndex {
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    PartitionIndex(group::partition_for(group, partitions))
}

/// True while the members of consumer groups (KIP-848) are served.
pub(crate) fn have_consumer_protocol(image: &Image) -> bool {
    image
        .features()
        .get("group.version")
        .is_some_and(|level| *level >= 1)
}

/// Asks the group's coordinator, at once.
pub(crate) fn ask(
    service: &Service,
    connection: &Connection,
    incoming: &Incoming,
    group: &str,
    body: Body,
) -> Asked {
    let image = service.host().image();
    match home(service.view(&image), group) {
        Ok(owned) => ask_at(service, connection, incoming, owned, body),
        Err(error) => Asked::Refused(error),
    }
}

/// Asks the coordinator at a partition, at once.
pub(crate) fn ask_at(
    service: &Service,
    connection: &Connection,
    incoming: &Incoming,
    Owned { core, partition }: Owned,
    body: Body,
) -> Asked {
    let request = group::Request {
        token: 0,
        version: incoming.version(),
        client_id: incoming.header.client_id.to_string(),
        client_host: connection.client_host.clone(),
        body,
    };
    let request = Box::new(request);
    let question = shard::Request::Group { partition, request };
    Asked::Call(service.host().call(core, question))
}

/// A request about one group, from here on: the group's coordinator is asked, at once, and its
/// answer becomes the reply.
pub(crate) fn one<M: Encodable>(
    service: &Service,
    connection: &Connection,
    incoming: Incoming,
    group: &str,
    body: Body,
    reply: impl FnOnce(Result<Reply, ErrorCode>) -> M + 'static,
) -> Result<Started, Refused> {
    let asked = ask(service, connection, &incoming, group, body);
    Ok(Started::Later(Box::pin(async move {
        match asked.answer().await {
            Ok(answer) => incoming.reply(&reply(answer)),
            Err(Stopping) => Outcome::Close,
        }
    })))
}

/// Waits for the answers about several groups; they come in the order of the questions.
pub(crate) async fn all<N>(
    asked: Vec<(N, Asked)>,
) -> Result<Vec<(N, Result<Reply, ErrorCode>)>, Stopping> {
    let mut answers = Vec::with_capacity(asked.len());
    for (name, asked) in asked {
        answers.push((name, asked.answer().await?));
    }
    Ok(answers)
}

/// Every partition of `__consumer_offsets`, and its core.
pub(crate) fn homes(view: View<'_>) -> Vec<Owned> {
    let Some(topic) = view.image.topic(TOPIC) else {
        return Vec::new();
    };
    let indexes = (0..).zip(&topic.partitions).map(|(index, _)| index);
    let owned = indexes.filter_map(|index| view.owned(topic, PartitionIndex(index)).ok());
    owned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::World;
    use crate::base::TopicPartition;

    #[test]
    fn a_group_lives_in_the_partition_of_its_hash() {
        let mut world = World::new(4);
        assert_eq!(home(world.view(), "g"), Err(ErrorCode::NotCoordinator));
        let topic = world.topic(TOPIC, 1, 50);
        let partition = PartitionIndex(i32::from(b'g') % 50);
        let owned = home(world.view(), "g").unwrap();
        assert_eq!(owned.partition, TopicPartition { topic, partition });
        assert_eq!(owned.core, Image::owner(topic, partition, 4));
        assert_eq!(homes(world.view()).len(), 50);
    }

    #[test]
    fn consumer_groups_need_their_feature() {
        let mut world = World::new(1);
        assert!(!have_consumer_protocol(&world.image));
        world.feature("group.version", 0, 1, 1);
        assert!(have_consumer_protocol(&world.image));
    }
}
