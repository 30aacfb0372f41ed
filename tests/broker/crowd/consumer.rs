//! A member of a consumer group (KIP-848): tells by heartbeats what is new, lets go of what it is
//! not to have any more, and confirms that.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane::protocol::ErrorCode;
use corelane::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use corelane::protocol::messages::consumer_group_heartbeat_response::Assignment;
use corelane::protocol::messages::{self, ConsumerGroupHeartbeatRequest, TopicName};
use tokio::time::sleep;

use super::member::Member;
use super::{AGAIN, Line, error, is_moving};
use crate::support::client::text;

/// The member epoch that says good-bye.
const LEAVE: i32 = -1;

/// What the broker has been told, and what it has said.
#[derive(Default)]
pub struct Told {
    /// It knows everything about the member but what changed since.
    everything: bool,
    /// What it was told that the member owns.
    owned: Option<BTreeSet<i32>>,
    /// Between heartbeats; none before the first answer.
    interval: Option<Duration>,
}

impl Member {
    /// Sends a heartbeat: at once when there is something to tell, or else when it is time.
    pub async fn consumer_round(&mut self, line: &mut Line) -> Option<()> {
        let owned: BTreeSet<i32> = self.owned.keys().copied().collect();
        let news = self.told.owned.as_ref() != Some(&owned);
        if let Some(interval) = self.told.interval.filter(|_| self.joined && !news) {
            sleep(interval).await;
        }
        let everything = !self.told.everything || !self.joined;
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_topic_partitions((everything || news).then(|| self.owned_by_topic()));
        if everything {
            let topic = TopicName(text(&self.group.topic.name));
            request.subscribed_topic_names = Some(vec![topic]);
            request.rebalance_timeout_ms = self.group.pace.rebalance_ms;
        }
        let answer = line.call(1, &request).await?;
        match error(answer.error_code) {
            ErrorCode::None => {}
            error if is_moving(error) => {
                sleep(AGAIN).await;
                return Some(());
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                // Under its old id it would be kept out until its session ends.
                self.was_put_out();
                self.told = Told::default();
                self.id = format!("{}-again-{}", self.id, self.epoch);
                return Some(());
            }
            error => panic!("{}: {error}: {:?}", self.group.name, answer.error_message),
        }
        self.told.everything = true;
        self.told.owned = Some(owned);
        let interval = u64::try_from(answer.heartbeat_interval_ms).expect("a positive interval");
        self.told.interval = Some(Duration::from_millis(interval));
        self.epoch = answer.member_epoch;
        let first = !std::mem::replace(&mut self.joined, true);
        match &answer.assignment {
            Some(assignment) => self.take(assignment),
            None if first => panic!("{}: a newcomer without an assignment", self.group.name),
            None => {
                let (number, epoch) = (self.number, self.epoch);
                self.group.note(|ledger| ledger.reached(number, epoch));
            }
        }
        Some(())
    }

    /// Lets go of what is not in the assignment, and takes the rest.
    fn take(&mut self, assignment: &Assignment) {
        let topics = assignment.topic_partitions.iter();
        let target: BTreeSet<i32> = topics
            .flat_map(|topic| topic.partitions.iter().copied())
            .collect();
        let lost: Vec<i32> = self
            .owned
            .keys()
            .copied()
            .filter(|partition| !target.contains(partition))
            .collect();
        self.owned.retain(|partition, _| target.contains(partition));
        let new: Vec<i32> = target
            .into_iter()
            .filter(|partition| !self.owned.contains_key(partition))
            .collect();
        self.owned
            .extend(new.iter().map(|partition| (*partition, None)));
        let (number, epoch) = (self.number, self.epoch);
        self.group.note(|ledger| {
            ledger.released(number, lost);
            ledger.assigned(number, epoch, new);
        });
    }

    fn owned_by_topic(&self) -> Vec<TopicPartitions> {
        if self.owned.is_empty() {
            return Vec::new();
        }
        let topic = TopicPartitions::default()
            .with_topic_id(messages::uuid(self.group.topic.id))
            .with_partitions(self.owned.keys().copied().collect());
        vec![topic]
    }

    pub async fn consumer_leave(&mut self, line: &mut Line) -> Option<()> {
        if !self.told.everything && !self.joined {
            return Some(());
        }
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_member_id(text(&self.id))
            .with_member_epoch(LEAVE);
        let answer = line.call(1, &request).await?;
        match error(answer.error_code) {
            error if is_moving(error) => None,
            _ => Some(()),
        }
    }
}
