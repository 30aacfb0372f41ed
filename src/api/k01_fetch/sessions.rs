//! Fetch sessions (KIP-227): a client that fetches many partitions names only those that changed,
//! and is told only of those that changed.
//!
//! ```text
//! session id  epoch    meaning
//! any         0        a full request; begins a session, ends the one it names
//! any         -1       a full request; ends the session it names
//! id          n > 0    incremental: the next request of that session; after 2^31-1 comes 1
//! ```
//!
//! Kafka keeps sessions for the whole broker; here they belong to the connection, for which every
//! client uses them, and go with it. A client that reconnects is told that its session is not
//! known and sends a full request, as after a restart of Kafka. Bounded: [`SESSIONS_MAX`], of which
//! the one that was used longest ago gives way, and [`PARTITIONS_MAX`]; above that, requests are
//! served without a session, which every client must cope with.
//! Truth: apache/kafka `FetchSession.scala`, `FetchMetadata.java`.

use std::collections::BTreeMap;

use crate::base::{Offset, PartitionIndex, Prng};
use crate::protocol::fetch::{FetchPartition, FetchRequest};
use crate::protocol::messages::StrBytes;
use crate::protocol::{ErrorCode, TopicRef};

/// Sessions of one connection. Clients use one; the rest is for proxies.
pub(crate) const SESSIONS_MAX: usize = 8;
/// Partitions in all sessions of one connection.
pub(crate) const PARTITIONS_MAX: usize = 100_000;

/// A partition, as the client names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Its topic. In a session never a slice of a frame, which it would keep alive.
    pub(crate) topic: TopicRef,
    /// Its number.
    pub(crate) index: PartitionIndex,
}

/// A partition to read now.
pub(crate) type Wish = (TopicRef, FetchPartition);

/// What to serve, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The session; none when the request has none.
    pub(crate) session: Option<i32>,
    /// Partitions that have not changed are left out of the reply.
    pub(crate) incremental: bool,
    /// The partitions, in order of preference.
    pub(crate) wishes: Vec<Wish>,
}

/// What the client knows of a partition in a session.
#[derive(Clone, Debug)]
struct Cached {
    order: u64,
    wish: FetchPartition,
    told: Told,
}

/// The figures that were last sent for a partition; they are sent again only when they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The high watermark, -1 to tell it next time whatever it is.
    pub(crate) high_watermark: Offset,
    /// The log start.
    pub(crate) log_start_offset: Offset,
}

/// Nothing has been told.
const NOTHING: Told = Told {
    high_watermark: Offset(-1),
    log_start_offset: Offset(-1),
};

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    used: u64,
    partitions: BTreeMap<Key, Cached>,
    /// Partitions in order of preference: new ones and those that gave records go to the end.
    order: BTreeMap<u64, Key>,
    next_order: u64,
}

/// The sessions of one connection.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: BTreeMap<i32, Session>,
    random: Prng,
    uses: u64,
}

/// A new session answers its first incremental request with this epoch.
const FIRST_INCREMENTAL_EPOCH: i32 = 1;

/// The epoch after `epoch`; skips 0 and -1, which mean something else.
fn epoch_after(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(FIRST_INCREMENTAL_EPOCH)
}

fn owned(topic: &TopicRef) -> TopicRef {
    match topic {
        TopicRef::Name(name) => TopicRef::Name(StrBytes::from_string(name.to_string())),
        TopicRef::Id(id) => TopicRef::Id(*id),
    }
}

impl Session {
    /// Adds a partition, or takes over what the client now wishes of it.
    fn wish(&mut self, topic: &TopicRef, wish: &FetchPartition) {
        let key = Key {
            topic: topic.clone(),
            index: wish.index,
        };
        if let Some(cached) = self.partitions.get_mut(&key) {
            cached.wish = wish.clone();
            return;
        }
        let key = Key {
            topic: owned(topic),
            index: wish.index,
        };
        let order = self.next_order;
        self.next_order += 1;
        self.order.insert(order, key.clone());
        self.partitions.insert(
            key,
            Cached {
                order,
                wish: wish.clone(),
                told: NOTHING,
            },
        );
    }

    fn forget(&mut self, key: &Key) {
        if let Some(cached) = self.partitions.remove(key) {
            self.order.remove(&cached.order);
        }
    }

    fn wishes(&self) -> Vec<Wish> {
        let in_order = self.order.values();
        let wish = |key: &Key| Some((key.topic.clone(), self.partitions.get(key)?.wish.clone()));
        in_order.filter_map(wish).collect()
    }

    fn last(&mut self, key: &Key) {
        let Some(cached) = self.partitions.get_mut(key) else {
            return;
        };
        if let Some(key) = self.order.remove(&cached.order) {
            cached.order = self.next_order;
            self.order.insert(self.next_order, key);
            self.next_order += 1;
        }
    }
}

impl Sessions {
    /// No sessions; their ids will come from `seed`.
    pub(crate) fn new(seed: u64) -> Sessions {
        Sessions {
            sessions: BTreeMap::new(),
            random: Prng::new(seed),
            uses: 0,
        }
    }

    /// Finds out what `request` wishes for. `by_id`: its version names topics by id. Versions
    /// without sessions say so with id 0 and epoch -1.
    pub(crate) fn begin(
        &mut self,
        request: &FetchRequest,
        by_id: bool,
    ) -> Result<Begun, ErrorCode> {
        if request.session_epoch > 0 {
            return self.incremental(request, by_id);
        }
        self.sessions.remove(&request.session_id);
        let all = request.topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|wish| (topic.topic.clone(), wish.clone()))
        });
        let wishes: Vec<Wish> = all.collect();
        if request.session_epoch != 0 || wishes.is_empty() {
            return Ok(Begun {
                session: None,
                incremental: false,
                wishes,
            });
        }
        Ok(self.full(wishes, by_id))
    }

    fn full(&mut self, wishes: Vec<Wish>, by_id: bool) -> Begun {
        if self.partitions() + wishes.len() > PARTITIONS_MAX {
            return Begun {
                session: None,
                incremental: false,
                wishes,
            };
        }
        if self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.and_then(|id| self.sessions.remove(&id));
        }
        let mut session = Session {
            epoch: FIRST_INCREMENTAL_EPOCH,
            by_id,
            used: self.use_count(),
            partitions: BTreeMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
        };
        wishes
            .iter()
            .for_each(|(topic, wish)| session.wish(topic, wish));
        let id = self.new_id();
        let wishes = session.wishes();
        self.sessions.insert(id, session);
        Begun {
            session: Some(id),
            incremental: false,
            wishes,
        }
    }

    fn incremental(&mut self, request: &FetchRequest, by_id: bool) -> Result<Begun, ErrorCode> {
        let id = request.session_id;
        let added: usize = request
            .topics
            .iter()
            .map(|topic| topic.partitions.len())
            .sum();
        if self.partitions() + added > PARTITIONS_MAX {
            self.sessions.remove(&id);
        }
        let used = self.use_count();
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        for topic in &request.topics {
            topic
                .partitions
                .iter()
                .for_each(|wish| session.wish(&topic.topic, wish));
        }
        for topic in &request.forgotten {
            for index in &topic.partitions {
                session.forget(&Key {
                    topic: topic.topic.clone(),
                    index: *index,
                });
            }
        }
        if session.partitions.is_empty() {
            self.sessions.remove(&id);
            return Ok(Begun {
                session: None,
                incremental: false,
                wishes: Vec::new(),
            });
        }
        session.epoch = epoch_after(session.epoch);
        session.used = used;
        Ok(Begun {
            session: Some(id),
            incremental: true,
            wishes: session.wishes(),
        })
    }

    /// A partition is about to be answered with these figures. True if they are news to the client.
    /// `gave_records`: the partition moves behind the others, so that it cannot starve them.
    /// `tell_again`: whatever the figures are next time, they are news (after an error).
    pub(crate) fn tell(
        &mut self,
        session: i32,
        key: &Key,
        figures: Told,
        gave_records: bool,
        tell_again: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else {
            return true;
        };
        let Some(cached) = session.partitions.get_mut(key) else {
            return true;
        };
        let news = cached.told != figures;
        cached.told = if tell_again { NOTHING } else { figures };
        if gave_records {
            session.last(key);
        }
        news
    }

    fn partitions(&self) -> usize {
        self.sessions
            .values()
            .map(|session| session.partitions.len())
            .sum()
    }

    fn use_count(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// A number from 1 to 2^31-1 that no session of this connection has.
    fn new_id(&mut self) -> i32 {
        loop {
            let id = (self.random.next_u64() >> 33) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TopicId;
    use crate::protocol::fetch::{FetchTopic, ForgottenTopic};

    fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let wish = |index: &i32| FetchPartition::new(PartitionIndex(*index), Offset(0), 100);
        let partitions: Vec<_> = partitions.iter().map(wish).collect();
        let topic = FetchTopic {
            topic: topic(),
            partitions,
        };
        let topics = (!topic.partitions.is_empty())
            .then_some(topic)
            .into_iter()
            .collect();
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics,
            ..FetchRequest::default()
        }
    }

    fn topic() -> TopicRef {
        TopicRef::Id(TopicId([1; 16]))
    }

    fn key(index: i32) -> Key {
        Key {
            topic: topic(),
            index: PartitionIndex(index),
        }
    }

    fn indices(begun: &Begun) -> Vec<i32> {
        begun.wishes.iter().map(|(_, wish)| wish.index.0).collect()
    }

    /// A session with partitions 0, 1 and 2.
    fn begun() -> (Sessions, i32) {
        let mut sessions = Sessions::new(1);
        let begun = sessions.begin(&request(0, 0, &[0, 1, 2]), true).unwrap();
        assert!(!begun.incremental);
        (sessions, begun.session.expect("a session"))
    }

    #[test]
    fn a_full_request_begins_a_session_and_the_next_names_only_what_changed() {
        let (mut sessions, id) = begun();
        assert!(id > 0);
        let next = sessions.begin(&request(id, 1, &[5]), true).unwrap();
        assert_eq!((next.session, next.incremental), (Some(id), true));
        assert_eq!(indices(&next), [0, 1, 2, 5]);
    }

    #[test]
    fn a_changed_wish_is_taken_over_without_losing_its_place() {
        let (mut sessions, id) = begun();
        let mut changed = request(id, 1, &[1]);
        changed.topics[0].partitions[0].fetch_offset = Offset(77);
        let next = sessions.begin(&changed, true).unwrap();
        assert_eq!(indices(&next), [0, 1, 2]);
        assert_eq!(next.wishes[1].1.fetch_offset, Offset(77));
    }

    #[test]
    fn forgotten_partitions_are_gone_and_an_empty_session_ends() {
        let (mut sessions, id) = begun();
        let forget = |epoch, partitions: &[i32]| {
            let partitions = partitions
                .iter()
                .map(|index| PartitionIndex(*index))
                .collect();
            let forgotten = vec![ForgottenTopic {
                topic: topic(),
                partitions,
            }];
            FetchRequest {
                forgotten,
                ..request(id, epoch, &[])
            }
        };
        let next = sessions.begin(&forget(1, &[0, 2, 9]), true).unwrap();
        assert_eq!(indices(&next), [1]);
        let last = sessions.begin(&forget(2, &[1]), true).unwrap();
        assert_eq!((last.session, last.wishes.len()), (None, 0));
        let gone = sessions.begin(&request(id, 3, &[]), true);
        assert_eq!(gone, Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn unknown_sessions_wrong_epochs_and_other_names_are_refused() {
        let (mut sessions, id) = begun();
        let refused = |sessions: &mut Sessions, id, epoch, by_id| {
            sessions
                .begin(&request(id, epoch, &[]), by_id)
                .unwrap_err()
                .code()
        };
        assert_eq!(refused(&mut sessions, id.wrapping_add(1), 1, true), 70);
        assert_eq!(refused(&mut sessions, 0, 1, true), 70);
        assert_eq!(refused(&mut sessions, id, 2, true), 71);
        assert_eq!(refused(&mut sessions, id, 1, false), 106);
        assert!(sessions.begin(&request(id, 1, &[]), true).is_ok());
        assert_eq!(refused(&mut sessions, id, 1, true), 71);
    }

    #[test]
    fn epoch_minus_1_ends_a_session_and_serves_the_request_without_one() {
        let (mut sessions, id) = begun();
        let last = sessions.begin(&request(id, -1, &[4]), true).unwrap();
        assert_eq!((last.session, last.incremental), (None, false));
        assert_eq!(indices(&last), [4]);
        assert_eq!(sessions.sessions.len(), 0);
    }

    #[test]
    fn epoch_0_with_an_id_begins_anew() {
        let (mut sessions, id) = begun();
        let anew = sessions.begin(&request(id, 0, &[1]), true).unwrap();
        assert_ne!(anew.session, Some(id));
        assert_eq!(sessions.sessions.len(), 1);
    }

    #[test]
    fn the_epoch_wraps_to_1() {
        assert_eq!(epoch_after(1), 2);
        assert_eq!(epoch_after(i32::MAX), 1);
    }

    #[test]
    fn figures_are_news_once() {
        let (mut sessions, id) = begun();
        let told = |high| Told {
            high_watermark: Offset(high),
            log_start_offset: Offset(0),
        };
        assert!(sessions.tell(id, &key(0), told(5), false, false));
        assert!(!sessions.tell(id, &key(0), told(5), false, false));
        assert!(sessions.tell(id, &key(0), told(6), false, true));
        assert!(sessions.tell(id, &key(0), told(6), false, false));
    }

    #[test]
    fn a_partition_that_gave_records_goes_behind_the_others() {
        let (mut sessions, id) = begun();
        sessions.tell(id, &key(0), NOTHING, true, false);
        let next = sessions.begin(&request(id, 1, &[]), true).unwrap();
        assert_eq!(indices(&next), [1, 2, 0]);
    }

    #[test]
    fn the_session_used_longest_ago_gives_way() {
        let (mut sessions, first) = begun();
        let second = sessions
            .begin(&request(0, 0, &[0]), true)
            .unwrap()
            .session
            .unwrap();
        sessions.begin(&request(first, 1, &[]), true).unwrap();
        for _ in 0..SESSIONS_MAX - 1 {
            sessions.begin(&request(0, 0, &[0]), true).unwrap();
        }
        assert_eq!(sessions.sessions.len(), SESSIONS_MAX);
        assert!(sessions.sessions.contains_key(&first));
        assert!(!sessions.sessions.contains_key(&second));
    }

    #[test]
    fn too_many_partitions_are_served_without_a_session() {
        let mut sessions = Sessions::new(1);
        let many: Vec<i32> = (0..PARTITIONS_MAX as i32 + 1).collect();
        let begun = sessions.begin(&request(0, 0, &many), true).unwrap();
        assert_eq!((begun.session, begun.wishes.len()), (None, many.len()));
    }
}
