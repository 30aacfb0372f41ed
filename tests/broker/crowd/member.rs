//! A member's life: it connects, belongs, commits, and leaves when it is told to; when the broker
//! goes away it comes back to it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use corelane::protocol::ErrorCode;
use corelane::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use corelane::protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, TopicName};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::consumer::Told;
use super::{AGAIN, Group, Line, Protocol, error, is_moving};
use crate::support::client::text;

/// How far a partition moves on between two commits.
const RECORDS_PER_COMMIT: i64 = 10;

/// One member.
pub struct Member {
    pub group: Rc<Group>,
    pub number: usize,
    /// Its id, as far as it has one.
    pub id: String,
    /// Generation or member epoch.
    pub epoch: i32,
    pub joined: bool,
    /// What it owns, and where it goes on; none before it has asked for that.
    pub owned: BTreeMap<i32, Option<i64>>,
    /// What the broker knows of it (new protocol).
    pub told: Told,
    committed_at: Instant,
}

impl Member {
    pub fn new(group: Rc<Group>, number: usize) -> Member {
        let id = match group.protocol {
            Protocol::Classic => String::new(),
            Protocol::Consumer => format!("{}-{number}", group.name),
        };
        Member {
            group,
            number,
            id,
            epoch: 0,
            joined: false,
            owned: BTreeMap::new(),
            told: Told::default(),
            committed_at: Instant::now(),
        }
    }

    /// Lives until it is told to leave, and leaves.
    pub async fn live(mut self, leave: Rc<Notify>) {
        {
            let mut belongs = pin!(self.belong());
            let mut leave = pin!(leave.notified());
            poll_fn(|context| match belongs.as_mut().poll(context) {
                Poll::Ready(never) => match never {},
                Poll::Pending => leave.as_mut().poll(context),
            })
            .await;
        }
        let number = self.number;
        self.group.note(|ledger| ledger.release_all(number));
        while self.say_good_bye().await.is_none() {
            sleep(AGAIN).await;
        }
        self.group.note(|ledger| ledger.gone(number));
    }

    async fn belong(&mut self) -> Infallible {
        loop {
            if let Some(mut line) = Line::connect(self.group.place.get()).await {
                while self.round(&mut line).await.is_some() {}
            }
            self.told = Told::default();
            sleep(AGAIN).await;
        }
    }

    /// One heartbeat, or the way into the group; and a commit if it is time for one.
    async fn round(&mut self, line: &mut Line) -> Option<()> {
        match self.group.protocol {
            Protocol::Classic => self.classic_round(line).await?,
            Protocol::Consumer => self.consumer_round(line).await?,
        }
        self.resume(line).await?;
        if self.joined && self.committed_at.elapsed() >= self.group.pace.commit {
            self.commit(line).await?;
        }
        Some(())
    }

    async fn say_good_bye(&mut self) -> Option<()> {
        let mut line = Line::connect(self.group.place.get()).await?;
        match self.group.protocol {
            Protocol::Classic => self.classic_leave(&mut line).await,
            Protocol::Consumer => self.consumer_leave(&mut line).await,
        }
    }

    /// Asks where the last owners of its new partitions have stopped, to go on there.
    async fn resume(&mut self, line: &mut Line) -> Option<()> {
        let new = self.owned.iter().filter(|(_, next)| next.is_none());
        let new: Vec<i32> = new.map(|(partition, _)| *partition).collect();
        if new.is_empty() {
            return Some(());
        }
        let before: BTreeMap<i32, Option<i64>> = {
            let ledger = self.group.ledger.borrow();
            let known = new.iter();
            known
                .map(|partition| (*partition, ledger.acknowledged(*partition)))
                .collect()
        };
        match fetch(line, &self.group, Some(&new)).await? {
            Ok(committed) => {
                let group = Rc::clone(&self.group);
                group.note(|ledger| {
                    for (partition, offset) in committed {
                        let next = ledger.fetched(partition, offset, before[&partition]);
                        self.owned.insert(partition, Some(next));
                    }
                });
            }
            Err(error) if is_moving(error) => sleep(AGAIN).await,
            Err(error) => panic!("{}: fetching offsets: {error}", self.group.name),
        }
        Some(())
    }

    /// Commits that every partition has moved on.
    async fn commit(&mut self, line: &mut Line) -> Option<()> {
        self.committed_at = Instant::now();
        let mut moved: Vec<(i32, i64)> = Vec::new();
        for (partition, next) in &mut self.owned {
            if let Some(next) = next {
                *next += RECORDS_PER_COMMIT;
                moved.push((*partition, *next));
            }
        }
        if moved.is_empty() {
            return Some(());
        }
        let partitions = moved.iter().map(|(partition, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text("")))
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&self.group.topic.name)))
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_member_id(text(&self.id))
            .with_generation_id_or_member_epoch(self.epoch)
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        self.group.note(|ledger| {
            for (partition, offset) in &moved {
                ledger.sending(*partition, *offset);
            }
        });
        let answer = line.call(9, &request).await?;
        let refusal = answer.topics[0]
            .partitions
            .iter()
            .find(|answer| answer.error_code != 0);
        match refusal {
            None => {
                self.group.note(|ledger| {
                    for (partition, offset) in &moved {
                        ledger.committed(*partition, *offset);
                    }
                    ledger.commits += 1;
                    ledger.last_commit = Some(Instant::now());
                });
            }
            Some(refusal) => self.commit_refused(error(refusal.error_code)),
        }
        Some(())
    }

    fn commit_refused(&mut self, error: ErrorCode) {
        match error {
            error if is_moving(error) => {}
            // The next heartbeat tells what is to be done.
            ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::StaleMemberEpoch
            | ErrorCode::UnknownMemberId => {}
            error => panic!("{}: committing: {error}", self.group.name),
        }
    }

    /// The broker does not know it any more.
    pub fn was_put_out(&mut self) {
        let number = self.number;
        self.group.note(|ledger| ledger.was_put_out(number));
        self.owned.clear();
        self.joined = false;
        self.epoch = 0;
    }
}

/// What is committed of these partitions, all if none are named.
pub async fn fetch(
    line: &mut Line,
    group: &Group,
    partitions: Option<&[i32]>,
) -> Option<Result<Vec<(i32, i64)>, ErrorCode>> {
    let indexes = match partitions {
        Some(some) => some.to_vec(),
        None => (0..group.topic.partitions).collect(),
    };
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(text(&group.topic.name)))
        .with_partition_indexes(indexes);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(text(&group.name).into())
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    let answer = line.call(8, &request).await?.groups.remove(0);
    if answer.error_code != 0 {
        return Some(Err(error(answer.error_code)));
    }
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Some(
        partitions
            .map(|answer| match error(answer.error_code) {
                ErrorCode::None => Ok((answer.partition_index, answer.committed_offset)),
                error => Err(error),
            })
            .collect(),
    )
}
