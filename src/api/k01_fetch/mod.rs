//! Fetch (key 1), versions 4 to 17.
//!
//! | version | what it added |
//! |---|---|
//! | 4 | isolation level, last stable offset |
//! | 5 | log start offset |
//! | 6 | `KAFKA_STORAGE_ERROR` may be answered; before, it is `NOT_LEADER_OR_FOLLOWER` |
//! | 7 | sessions (KIP-227) |
//! | 9 | current leader epoch (KIP-320) |
//! | 10 | zstd may be answered; before, topics compressed by the broker with zstd are refused |
//! | 11 | rack, preferred read replica (KIP-392): there is one replica, none is ever preferred |
//! | 12 | flexible, last fetched epoch and diverging epoch (KIP-595) |
//! | 13 | topics by id (KIP-516) |
//! | 15 | replica state in a tagged field |
//! | 16 | node endpoints (KIP-951) |
//! | 17 | directory id of a follower |
//!
//! The first batch of the first partition that has any comes whole, whatever the limits (KIP-74).
//! Cores read side by side, each up to the whole limit; what passes it in the order of preference is
//! left for the next fetch. In a session, partitions that gave records move behind the others;
//! without a session the first partition changes from request to request: none starves. Records are
//! never copied here: slices of memory and ranges of files pass through.
//!
//! Followers are not served: there are none. Truth: apache/kafka `KafkaApis.handleFetchRequest`,
//! `ReplicaManager.fetchMessages`, `DelayedFetch`.

mod rounds;
pub(crate) mod sessions;

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{LeaderEpoch, Offset, PartitionIndex};
use crate::cluster::image::Resource;
use crate::host::Answer;
use crate::log::Slice;
use crate::net::{Outcome, Part, Started};
use crate::protocol::fetch::{
    EpochEnd, FetchPartition, FetchRequest, FetchResponse, FetchedPartition, FetchedTopic, Piece,
};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode, TopicRef};
use crate::shard::{ReadQuery, ReadResult, Reply};

use super::Api;
use super::connection::Connection;
use super::find::{self, Owned, View};
use super::incoming::{Incoming, Refused};
use super::scatter::{Gathered, Scatter, Slot};
use super::service::Service;
use rounds::{Limits, Reads};
use sessions::{Begun, Key, Sessions, Told, Wish};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::Fetch);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// The version from which topics are named by id.
const BY_ID: i16 = 13;
/// The last version whose clients do not know `KAFKA_STORAGE_ERROR`.
const WITHOUT_STORAGE_ERROR: i16 = 5;
/// The first version whose clients know zstd.
const WITH_ZSTD: i16 = 10;

/// A partition of the reply to come.
type Reserved = (Wish, Slot<ErrorCode>);

/// A fetch, split.
#[derive(Debug)]
struct Plan {
    /// In the order of the reply.
    partitions: Vec<Reserved>,
    /// The partition that is preferred to all others.
    first: usize,
    reads: Scatter<ReadQuery>,
}

/// What decides over every partition of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Manner {
    version: i16,
    refused: Option<ErrorCode>,
    committed: bool,
}

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let version = incoming.version();
    let request = FetchRequest::decode(&incoming.body, version)?;
    let by_id = version >= BY_ID;
    let Begun {
        session,
        incremental,
        wishes,
    } = match lock(&connection.sessions).begin(&request, by_id) {
        Ok(begun) => begun,
        Err(error) => return Ok(Started::Now(session_error(service, &incoming, error))),
    };
    let manner = manner(&request, version);
    let first = if session.is_some() {
        0
    } else {
        connection.turn()
    };
    let host = service.host().clone();
    let image = host.image();
    let Plan {
        partitions,
        first,
        reads,
    } = plan(wishes, first, manner, service.view(&image));
    connection.went_to(reads.cores());
    let limits = limits(&request, service.settings().fetch_max_bytes, &incoming);
    let account = incoming.account.clone();
    account.parsed(&host, reads.cores(), connection.handed_over);
    let reads = Reads::send(&host, reads, limits);
    let (sessions, endpoint) = (connection.sessions.clone(), connection.endpoint.clone());
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = reads.answers(&host).await else {
            return Outcome::Close;
        };
        account.answered(&answers);
        let gathered = Gathered::new(answers.into_iter().map(taken));
        let image = host.image();
        let view = View {
            image: &image,
            node: host.node(),
            cores: host.cores(),
        };
        let mut fetched = reply(partitions, gathered, manner, view);
        trim(&mut fetched, first, limits.max_bytes);
        if let Some(session) = session {
            let mut sessions = lock(&sessions);
            fetched.retain(|(topic, partition)| {
                tell(&mut sessions, session, topic, partition) || !incremental
            });
        }
        for (_, partition) in &fetched {
            let code = partition.error.code();
            host.measurements()
                .requests
                .refused(ApiKey::Fetch.code(), code);
        }
        count_sent(&mut host.measurements().fetch, &fetched);
        let leaders = fetched
            .iter()
            .any(|(_, partition)| partition.current_leader.is_some());
        let mut response = FetchResponse {
            topics: by_topic(fetched),
            ..FetchResponse::default()
        };
        response.session_id = session.unwrap_or(0);
        if leaders {
            response.node_endpoints = find::brokers(&image, host.node(), &endpoint);
        }
        Outcome::Reply(parts(response, &incoming))
    })))
}

/// Counts what goes out, and from where.
fn count_sent(counted: &mut crate::obs::Fetch, fetched: &[(TopicRef, FetchedPartition<Part>)]) {
    let mut sent = 0;
    for part in fetched.iter().flat_map(|(_, partition)| &partition.records) {
        match part {
            Part::Bytes(bytes) => counted.memory_bytes += bytes.len() as u64,
            Part::File { len, .. } => counted.file_bytes += *len,
        }
        sent += 1;
    }
    counted.empty += u64::from(sent == 0);
}

/// The lock is never held across a wait, and by one core at a time: it goes with the connection.
fn lock(sessions: &Arc<Mutex<Sessions>>) -> std::sync::MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

fn session_error(service: &Service, incoming: &Incoming, error: ErrorCode) -> Outcome {
    service
        .host()
        .measurements()
        .requests
        .refused(ApiKey::Fetch.code(), error.code());
    let response = FetchResponse {
        error,
        ..FetchResponse::default()
    };
    Outcome::Reply(parts(response, incoming))
}

fn parts(response: FetchResponse<Part>, incoming: &Incoming) -> Vec<Part> {
    let pieces = response.frame(incoming.version(), incoming.header.correlation_id);
    let part = |piece| match piece {
        Piece::Bytes(bytes) => Part::Bytes(bytes),
        Piece::Records(part) => part,
    };
    pieces.into_iter().map(part).collect()
}

fn limits(request: &FetchRequest, fetch_max_bytes: u32, incoming: &Incoming) -> Limits {
    let max_bytes = request
        .max_bytes
        .max(0)
        .min(i32::try_from(fetch_max_bytes).unwrap_or(i32::MAX));
    Limits {
        max_bytes: max_bytes as usize,
        min_bytes: i64::from(request.min_bytes.min(max_bytes)),
        deadline: incoming.received.after_ms(i64::from(request.max_wait_ms)),
    }
}

fn manner(request: &FetchRequest, version: i16) -> Manner {
    let refused = if request.is_from_follower() {
        Some(ErrorCode::NotLeaderOrFollower)
    } else if !matches!(request.isolation_level, 0 | 1) {
        Some(ErrorCode::InvalidRequest)
    } else {
        None
    };
    Manner {
        version,
        refused,
        committed: request.isolation_level == 1,
    }
}

/// Sends each partition to its owner, the preferred one first, and fills the slots of what is
/// refused.
fn plan(wishes: Vec<Wish>, turn: usize, manner: Manner, view: View<'_>) -> Plan {
    let first = turn.checked_rem(wishes.len()).unwrap_or(0);
    let mut reads = Scatter::default();
    let order = (first..wishes.len()).chain(0..first);
    let mut slots: Vec<Slot<ErrorCode>> = order
        .map(|at| {
            let (topic, wish) = &wishes[at];
            match check(topic, wish.index, manner, view) {
                Ok(owned) => Slot::Asked(reads.ask(owned.core, query(owned, wish))),
                Err(error) => Slot::Filled(error),
            }
        })
        .collect();
    let back = wishes.len() - first;
    slots.rotate_left(back.checked_rem(wishes.len()).unwrap_or(0));
    Plan {
        partitions: wishes.into_iter().zip(slots).collect(),
        first,
        reads,
    }
}

fn check(
    topic: &TopicRef,
    index: PartitionIndex,
    manner: Manner,
    view: View<'_>,
) -> Result<Owned, ErrorCode> {
    let found = view.topic(topic)?;
    if let Some(refused) = manner.refused {
        return Err(refused);
    }
    if manner.version < WITH_ZSTD && is_zstd(&found.name, view) {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    view.owned(found, index)
}

/// True for a topic that the broker itself compresses with zstd. What producers compressed with
/// zstd is sent as it is, as Kafka does.
fn is_zstd(topic: &str, view: View<'_>) -> bool {
    let configs = view.image.configs(&Resource::Topic(topic.to_owned()));
    configs
        .and_then(|configs| configs.get("compression.type"))
        .is_some_and(|codec| codec == "zstd")
}

fn query(owned: Owned, wish: &FetchPartition) -> ReadQuery {
    ReadQuery {
        partition: owned.partition,
        offset: wish.fetch_offset,
        max_bytes: usize::try_from(wish.max_bytes).unwrap_or(0),
        current_leader_epoch: wish.current_leader_epoch,
        last_fetched_epoch: wish.last_fetched_epoch,
    }
}

/// One core's results with their records as parts of a frame. Files come in order of appearance.
fn taken(answer: Answer) -> Vec<(ReadResult, Vec<Part>)> {
    let Reply::Read(results) = answer.reply else {
        panic!("a read was answered with {:?}", answer.reply)
    };
    let mut files = answer.files.into_iter();
    let mut part = |slice| match slice {
        Slice::Memory(bytes) => Part::Bytes(bytes),
        Slice::File { at, len, .. } => {
            let file = files.next().expect("a file for each slice of a file");
            Part::File {
                file,
                at,
                len: len as u64,
            }
        }
    };
    let taken = results.into_iter().map(|mut result| {
        let slices = result
            .slices
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        let parts = slices.into_iter().map(&mut part).collect();
        (result, parts)
    });
    taken.collect()
}

/// Puts the cores' answers into their slots.
fn reply<R>(
    partitions: Vec<Reserved>,
    mut gathered: Gathered<(ReadResult, Vec<R>)>,
    manner: Manner,
    view: View<'_>,
) -> Vec<(TopicRef, FetchedPartition<R>)> {
    let fetched = partitions.into_iter().map(|((topic, wish), slot)| {
        let index = wish.index;
        let result = match slot {
            Slot::Filled(error) => Err(error),
            Slot::Asked(place) => gathered.take(place).ok_or(ErrorCode::UnknownServerError),
        };
        let mut partition = match result {
            Ok((result, records)) => fetched(index, result, records),
            Err(error) => FetchedPartition::refused(index, error),
        };
        if manner.committed && partition.error == ErrorCode::None {
            partition.aborted = Some(Vec::new());
        }
        let error = partition.error;
        if matches!(
            error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        ) {
            partition.current_leader = view.leader(&topic, index);
        }
        if error == ErrorCode::KafkaStorageError && manner.version <= WITHOUT_STORAGE_ERROR {
            partition.error = ErrorCode::NotLeaderOrFollower;
        }
        (topic, partition)
    });
    fetched.collect()
}

fn fetched<R>(index: PartitionIndex, result: ReadResult, records: Vec<R>) -> FetchedPartition<R> {
    let error = match &result.slices {
        Ok(_) => ErrorCode::None,
        Err(refusal) => refusal.code(),
    };
    let end = |(epoch, end_offset): (LeaderEpoch, Offset)| EpochEnd { epoch, end_offset };
    FetchedPartition {
        high_watermark: result.high_watermark,
        last_stable_offset: result.last_stable_offset,
        log_start_offset: result.log_start_offset,
        diverging_epoch: result.diverging.map(end),
        records_length: if records.is_empty() { 0 } else { result.size },
        records,
        ..FetchedPartition::refused(index, error)
    }
}

/// Takes out records beyond `max_bytes`, in the order of preference: the first partition that has
/// any keeps them (KIP-74), the others as far as they fit whole.
fn trim<R>(fetched: &mut [(TopicRef, FetchedPartition<R>)], first: usize, max_bytes: usize) {
    let mut used = None;
    let order = (first..fetched.len()).chain(0..first);
    for at in order {
        let partition = &mut fetched[at].1;
        if partition.records_length == 0 {
            continue;
        }
        let so_far = used.unwrap_or(0usize);
        let total = so_far.saturating_add(partition.records_length);
        if used.is_some() && total > max_bytes {
            partition.records.clear();
            partition.records_length = 0;
        } else {
            used = Some(total);
        }
    }
}

/// Notes in the session what is about to be told; false if it is no news.
fn tell<R>(
    sessions: &mut Sessions,
    session: i32,
    topic: &TopicRef,
    partition: &FetchedPartition<R>,
) -> bool {
    let key = Key {
        topic: topic.clone(),
        index: partition.index,
    };
    let figures = Told {
        high_watermark: partition.high_watermark,
        log_start_offset: partition.log_start_offset,
    };
    let gave_records = partition.records_length > 0;
    let urgent = partition.error != ErrorCode::None || partition.diverging_epoch.is_some();
    let news = sessions.tell(session, &key, figures, gave_records, urgent);
    news || gave_records || urgent
}

/// Partitions of the same topic that follow each other become one topic of the reply.
fn by_topic<R>(fetched: Vec<(TopicRef, FetchedPartition<R>)>) -> Vec<FetchedTopic<R>> {
    let mut topics: Vec<FetchedTopic<R>> = Vec::new();
    for (topic, partition) in fetched {
        match topics.last_mut() {
            Some(last) if last.topic == topic => last.partitions.push(partition),
            _ => topics.push(FetchedTopic {
                topic,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

#[cfg(test)]
mod tests;
