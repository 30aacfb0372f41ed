//! What the leader of a simulated classic group decides: who gets which partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::{PARTITIONS, TOPIC};
use crate::group::consumer_protocol::Subscription;
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;

/// The partitions of each member, as eager consumers want it: round the members, whoever had what.
pub fn eager(members: &[JoinGroupResponseMember]) -> Vec<BTreeSet<i32>> {
    let count = members.len().max(1) as i32;
    let place = 0i32..members.len() as i32;
    let share = |place| (0..PARTITIONS).filter(move |partition| partition % count == place);
    place.map(|place| share(place).collect()).collect()
}

/// The partitions of each member, as cooperative consumers want it (KIP-429): each keeps what it
/// has, up to its share; what it has beyond that it is only asked to give up, and somebody gets it
/// in the rebalance that follows. A `hasty` leader, which is a bug, gives it away at once.
pub fn cooperative(members: &[JoinGroupResponseMember], hasty: bool) -> Vec<BTreeSet<i32>> {
    let mut claimed: BTreeSet<i32> = BTreeSet::new();
    let mut assigned = Vec::new();
    let (share, extra) = match members.len() {
        0 => return assigned,
        count => (PARTITIONS as usize / count, PARTITIONS as usize % count),
    };
    let mut larger = 0;
    for member in members {
        let mut claims = claims_of(member);
        claims.retain(|partition| claimed.insert(*partition));
        let room = share + usize::from(larger < extra && claims.len() > share);
        larger += usize::from(room > share);
        assigned.push(claims.into_iter().take(room).collect::<BTreeSet<i32>>());
    }
    let kept: BTreeSet<i32> = assigned.iter().flatten().copied().collect();
    let taken = if hasty { &kept } else { &claimed };
    for partition in (0..PARTITIONS).filter(|partition| !taken.contains(partition)) {
        if let Some(least) = assigned.iter_mut().min_by_key(|owned| owned.len()) {
            least.insert(partition);
        }
    }
    assigned
}

/// What the member says that it owns.
fn claims_of(member: &JoinGroupResponseMember) -> BTreeSet<i32> {
    let subscription = Subscription::decode(&member.metadata).unwrap_or_default();
    let mut owned: BTreeMap<String, BTreeSet<i32>> = subscription.owned;
    owned.remove(TOPIC).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::consumer_protocol::NamedPartitions;
    use crate::group::turn::text;

    fn member(id: &str, owned: &[i32]) -> JoinGroupResponseMember {
        let owned = owned.iter().copied().collect();
        let subscription = Subscription {
            version: 1,
            owned: NamedPartitions::from([(TOPIC.to_owned(), owned)]),
            ..Subscription::default()
        };
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_metadata(subscription.encode())
    }

    #[test]
    fn a_cooperative_leader_moves_a_partition_in_two_rebalances() {
        let first = cooperative(&[member("a", &[0, 1, 2, 3, 4, 5]), member("b", &[])], false);
        assert_eq!(first, [BTreeSet::from([0, 1, 2]), BTreeSet::new()]);
        let second = cooperative(&[member("a", &[0, 1, 2]), member("b", &[])], false);
        assert_eq!(
            second,
            [BTreeSet::from([0, 1, 2]), BTreeSet::from([3, 4, 5])]
        );
    }

    #[test]
    fn a_cooperative_leader_balances_to_within_one() {
        let claims = [
            member("a", &[0, 1]),
            member("b", &[2, 3]),
            member("c", &[4]),
        ];
        let all = cooperative(&[claims.as_slice(), &[member("d", &[5])]].concat(), false);
        let sizes: Vec<usize> = all.iter().map(BTreeSet::len).collect();
        assert_eq!(sizes, [2, 2, 1, 1]);
    }
}
