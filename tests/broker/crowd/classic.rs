//! A member of a classic group: joins, assigns if it leads, syncs, and gives everything up before
//! it joins again.

use std::collections::BTreeMap;

use corelane::group::consumer_protocol::{
    CONSUMER, NamedPartitions, Subscription, decode_assignment, encode_assignment,
};
use corelane::protocol::ErrorCode;
use corelane::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use corelane::protocol::messages::leave_group_request::MemberIdentity;
use corelane::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use corelane::protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use tokio::time::sleep;

use super::member::Member;
use super::{AGAIN, Line, error, is_moving};
use crate::support::client::text;

impl Member {
    /// Waits for the time of the next heartbeat and sends it; joins if it has to.
    pub async fn classic_round(&mut self, line: &mut Line) -> Option<()> {
        if !self.joined {
            return self.join(line).await;
        }
        sleep(self.group.pace.heartbeat).await;
        let request = HeartbeatRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_member_id(text(&self.id))
            .with_generation_id(self.epoch);
        let answer = line.call(4, &request).await?;
        match error(answer.error_code) {
            ErrorCode::None => {}
            error => self.heard(error).await,
        }
        Some(())
    }

    /// What an error means to a member of a classic group.
    async fn heard(&mut self, error: ErrorCode) {
        match error {
            error if is_moving(error) => sleep(AGAIN).await,
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => self.joined = false,
            ErrorCode::UnknownMemberId => {
                self.was_put_out();
                self.id.clear();
            }
            error => panic!("{}: {error}", self.group.name),
        }
    }

    async fn join(&mut self, line: &mut Line) -> Option<()> {
        let number = self.number;
        self.group.note(|ledger| ledger.release_all(number));
        self.owned.clear();
        let topics = [self.group.topic.name.clone()].into();
        let subscription = Subscription {
            version: 1,
            topics,
            ..Subscription::default()
        };
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(subscription.encode());
        let request = JoinGroupRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_member_id(text(&self.id))
            .with_session_timeout_ms(self.group.pace.session_ms)
            .with_rebalance_timeout_ms(self.group.pace.rebalance_ms)
            .with_protocol_type(text(CONSUMER))
            .with_protocols(vec![protocol]);
        let answer = line.call(9, &request).await?;
        match error(answer.error_code) {
            ErrorCode::None => {
                self.id = answer.member_id.to_string();
                self.epoch = answer.generation_id;
                self.sync(line, &answer).await?;
            }
            ErrorCode::MemberIdRequired => self.id = answer.member_id.to_string(),
            error => self.heard(error).await,
        }
        Some(())
    }

    async fn sync(&mut self, line: &mut Line, joined: &JoinGroupResponse) -> Option<()> {
        let request = SyncGroupRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_member_id(text(&self.id))
            .with_generation_id(self.epoch)
            .with_protocol_type(Some(text(CONSUMER)))
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(self.shares(joined));
        let answer = line.call(5, &request).await?;
        match error(answer.error_code) {
            ErrorCode::None => {
                let named = decode_assignment(&answer.assignment).unwrap_or_default();
                let mine: Vec<i32> = named.into_values().flatten().collect();
                self.owned = mine.iter().map(|partition| (*partition, None)).collect();
                self.joined = true;
                let (number, epoch) = (self.number, self.epoch);
                self.group
                    .note(|ledger| ledger.assigned(number, epoch, mine));
            }
            error => self.heard(error).await,
        }
        Some(())
    }

    /// Everybody's partitions, neighbouring ones together; only the leader is told of members.
    fn shares(&self, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let (all, count) = (self.group.topic.partitions, joined.members.len() as i32);
        let mut shares: BTreeMap<i32, &str> = BTreeMap::new();
        shares.extend(
            (0..).zip(
                joined
                    .members
                    .iter()
                    .map(|member| member.member_id.as_str()),
            ),
        );
        let share = |(place, member): (i32, &str)| {
            let mine = (all * place / count..all * (place + 1) / count).collect();
            let mine = NamedPartitions::from([(self.group.topic.name.clone(), mine)]);
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(encode_assignment(1, &mine))
        };
        shares.into_iter().map(share).collect()
    }

    pub async fn classic_leave(&mut self, line: &mut Line) -> Option<()> {
        if self.id.is_empty() {
            return Some(());
        }
        let identity = MemberIdentity::default().with_member_id(text(&self.id));
        let request = LeaveGroupRequest::default()
            .with_group_id(text(&self.group.name).into())
            .with_members(vec![identity]);
        let answer = line.call(5, &request).await?;
        match error(answer.error_code) {
            error if is_moving(error) => None,
            _ => Some(()),
        }
    }
}
