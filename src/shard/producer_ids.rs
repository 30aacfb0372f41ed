//! Producer ids: handed out from a block that the controller gave to this core, so that no id is
//! ever given twice in the cluster's life (KIP-730).

use std::collections::VecDeque;

use crate::base::{CoreId, ProducerId};
use crate::protocol::ErrorCode;

use super::core::Core;
use super::message::{Effects, PeerMessage, Reply, Ticket};

/// How many requests may wait for a block; more are told to come back.
const WAITING_MAX: usize = 100_000;

/// The block in use, and who waits for the next.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next: i64,
    end: i64,
    asked: bool,
    waiting: VecDeque<Ticket>,
}

impl Core {
    pub(super) fn producer_id(&mut self, ticket: Ticket, effects: &mut Effects) {
        if self.stopping() || self.producer_ids.waiting.len() >= WAITING_MAX {
            let busy = Err(ErrorCode::CoordinatorLoadInProgress);
            effects.replies.push((ticket, Reply::ProducerId(busy)));
            return;
        }
        self.producer_ids.waiting.push_back(ticket);
        self.hand_out_producer_ids(effects);
    }

    /// The controller has given a block: `count` ids from `first` on; 0 when it could not.
    pub(super) fn producer_ids_given(
        &mut self,
        first: ProducerId,
        count: u32,
        effects: &mut Effects,
    ) {
        self.producer_ids.asked = false;
        if count == 0 {
            for ticket in self.producer_ids.waiting.drain(..) {
                let busy = Err(ErrorCode::CoordinatorLoadInProgress);
                effects.replies.push((ticket, Reply::ProducerId(busy)));
            }
            return;
        }
        self.producer_ids.next = first.0;
        self.producer_ids.end = first.0 + i64::from(count);
        self.hand_out_producer_ids(effects);
    }

    fn hand_out_producer_ids(&mut self, effects: &mut Effects) {
        let ids = &mut self.producer_ids;
        while ids.next < ids.end
            && let Some(ticket) = ids.waiting.pop_front()
        {
            effects
                .replies
                .push((ticket, Reply::ProducerId(Ok(ProducerId(ids.next)))));
            ids.next += 1;
        }
        if !ids.waiting.is_empty() && !ids.asked {
            ids.asked = true;
            effects
                .peers
                .push((CoreId(0), PeerMessage::WantProducerIds));
        }
    }
}
