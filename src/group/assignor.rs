//! The assignors that run on the broker (KIP-848): who of a consumer group is to own what. Knows
//! no epochs and no records: members, topics and the target so far in; the new target out.
//!
//! Both keep to their own order of members, so that the same group always gets the same target.
//! Racks count for `uniform` only: free partitions go first to members in a rack where a replica
//! is (Kafka's own assignors have no racks yet; KIP-848 promises them), but never at the price of
//! balance or of taking a partition away.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::records::{Partitions, TopicMetadata};
use crate::base::TopicId;

/// An assignor, by the name that members and configuration use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// `uniform`: equal numbers of partitions, moving as few as possible.
    Uniform,
    /// `range`: neighbouring partitions of each topic, the same member for the same number of
    /// topics with as many partitions.
    Range,
}

impl Assignor {
    /// The assignor with this name.
    pub fn named(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The targets that differ from those so far, by member. `members` must be in ascending order of
    /// their ids. `topics` are those that exist; what members subscribe to beyond them is left out by
    /// the caller.
    ///
    /// A large group has this computed whenever a member joins, so what does not change is read and
    /// not built anew.
    pub fn changes(
        self,
        members: &[MemberSpec<'_>],
        topics: &BTreeMap<TopicId, &TopicMetadata>,
    ) -> BTreeMap<String, Partitions> {
        match self {
            Assignor::Range => {
                let mut target = range(members, topics);
                for member in members {
                    if member.target.is_some() && target.get(member.id) == member.target {
                        target.remove(member.id);
                    }
                }
                target
            }
            Assignor::Uniform => {
                let same = members
                    .windows(2)
                    .all(|pair| pair[0].topics == pair[1].topics);
                let mut board = Board::new(members, topics);
                if same {
                    board.fill_equally();
                } else {
                    board.fill_least_loaded();
                    board.balance();
                }
                board.finish()
            }
        }
    }
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub struct MemberSpec<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its instance id, if it is static.
    pub instance_id: Option<&'a str>,
    /// Its rack.
    pub rack: Option<&'a str>,
    /// The existing topics that it subscribes to; members that subscribe alike share them.
    pub topics: Rc<BTreeSet<TopicId>>,
    /// Its target so far.
    pub target: Option<&'a Partitions>,
}

/// Ranges of each topic in the order of instance ids, then of member ids
/// (apache/kafka `RangeAssignor`).
fn range(
    members: &[MemberSpec<'_>],
    topics: &BTreeMap<TopicId, &TopicMetadata>,
) -> BTreeMap<String, Partitions> {
    let mut order: Vec<&MemberSpec<'_>> = members.iter().collect();
    order.sort_by_key(|member| (member.instance_id.is_none(), member.instance_id, member.id));
    let mut target: BTreeMap<String, Partitions> = members
        .iter()
        .map(|member| (member.id.to_owned(), Partitions::new()))
        .collect();
    for (id, topic) in topics {
        let subscribers: Vec<_> = order.iter().filter(|m| m.topics.contains(id)).collect();
        let Some(count) = i32::try_from(subscribers.len())
            .ok()
            .filter(|&count| count > 0)
        else {
            continue;
        };
        let (quota, extra) = (topic.partitions / count, topic.partitions % count);
        let mut start = 0;
        for (place, member) in (0i32..).zip(subscribers) {
            let end = start + quota + i32::from(place < extra);
            if start < end {
                let mine = target.entry(member.id.to_owned()).or_default();
                mine.insert(*id, (start..end).collect());
            }
            start = end;
        }
    }
    target
}

type Place = (TopicId, i32);

/// What a member has on the board.
#[derive(Clone, Debug, Default)]
struct Holding {
    places: BTreeSet<Place>,
    /// It may be another than the member's target so far.
    touched: bool,
}

impl Holding {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn add(&mut self, place: Place) {
        self.touched = true;
        self.places.insert(place);
    }

    fn remove(&mut self, place: &Place) {
        self.touched = true;
        self.places.remove(place);
    }
}

/// The uniform assignor at work: what each member has so far and what is free.
struct Board<'a> {
    members: &'a [MemberSpec<'a>],
    topics: &'a BTreeMap<TopicId, &'a TopicMetadata>,
    owned: Vec<Holding>,
    free: BTreeSet<Place>,
}

impl<'a> Board<'a> {
    /// Every member keeps what it has and still may have; the rest is free.
    fn new(
        members: &'a [MemberSpec<'a>],
        topics: &'a BTreeMap<TopicId, &'a TopicMetadata>,
    ) -> Board<'a> {
        // Who subscribes to the same as the one before has nothing to add.
        let mut subscribed: BTreeSet<TopicId> = BTreeSet::new();
        for (at, member) in members.iter().enumerate() {
            if at == 0 || !Rc::ptr_eq(&members[at - 1].topics, &member.topics) {
                subscribed.extend(member.topics.iter());
            }
        }
        let known = topics.iter().filter(|(id, _)| subscribed.contains(*id));
        let mut taken: BTreeMap<TopicId, Vec<bool>> = known
            .map(|(id, topic)| (*id, vec![false; topic.partitions.max(0) as usize]))
            .collect();
        let owned = members
            .iter()
            .map(|member| kept(member, &mut taken))
            .collect();
        let free = taken.iter().flat_map(|(id, taken)| {
            let free = (0..).zip(taken).filter(|(_, taken)| !**taken);
            free.map(|(partition, _)| (*id, partition))
        });
        let free = free.collect();
        Board {
            members,
            topics,
            owned,
            free,
        }
    }

    /// All members subscribe to the same topics: equal shares, those who already have one more
    /// than the others keep it (apache/kafka `UniformHomogeneousAssignmentBuilder`).
    fn fill_equally(&mut self) {
        let count = self.members.len();
        if count == 0 {
            return;
        }
        let total = self.free.len() + self.owned.iter().map(Holding::len).sum::<usize>();
        let (share, mut extras) = (total / count, total % count);
        let mut quotas = vec![share; count];
        let larger = (0..count).filter(|&at| self.owned[at].len() > share);
        let others = (0..count).filter(|&at| self.owned[at].len() <= share);
        for at in larger.chain(others) {
            if extras > 0 {
                quotas[at] += 1;
                extras -= 1;
            }
        }
        for (mine, quota) in self.owned.iter_mut().zip(&quotas) {
            while mine.len() > *quota {
                self.free.extend(mine.places.pop_last());
                mine.touched = true;
            }
        }
        self.fill_from_own_racks(&quotas);
        for (mine, quota) in self.owned.iter_mut().zip(&quotas) {
            while mine.len() < *quota {
                let Some(place) = self.free.pop_first() else {
                    return;
                };
                mine.add(place);
            }
        }
    }

    /// Gives free partitions to members in a rack where a replica is, up to their quotas.
    fn fill_from_own_racks(&mut self, quotas: &[usize]) {
        let mut by_rack: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
        if self.members.iter().all(|member| member.rack.is_none()) {
            return;
        }
        for (id, partition) in &self.free {
            for rack in self
                .topics
                .get(id)
                .and_then(|t| t.racks.get(partition))
                .into_iter()
                .flatten()
            {
                by_rack.entry(rack).or_default().insert((*id, *partition));
            }
        }
        for (at, member) in self.members.iter().enumerate() {
            let Some(near) = member.rack.and_then(|rack| by_rack.get_mut(rack)) else {
                continue;
            };
            while self.owned[at].len() < quotas[at] {
                let Some(place) = near.pop_first() else { break };
                // Another rack's member may have taken it.
                if self.free.remove(&place) {
                    self.owned[at].add(place);
                }
            }
        }
    }

    /// The members that subscribe to each topic, the topics with the most partitions a
    /// subscriber first: those are the hardest to balance later.
    fn subscribers(&self) -> Vec<(TopicId, Vec<usize>)> {
        let mut by_topic: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (at, member) in self.members.iter().enumerate() {
            for topic in member
                .topics
                .iter()
                .filter(|topic| self.topics.contains_key(*topic))
            {
                by_topic.entry(*topic).or_default().push(at);
            }
        }
        let mut topics: Vec<_> = by_topic.into_iter().collect();
        topics.sort_by(|(a, a_members), (b, b_members)| {
            let weight =
                |id: &TopicId, others: usize| i64::from(self.topics[id].partitions) * others as i64;
            weight(b, a_members.len())
                .cmp(&weight(a, b_members.len()))
                .then(a_members.len().cmp(&b_members.len()))
                .then(a.cmp(b))
        });
        topics
    }

    fn loads(&self, members: &[usize]) -> BTreeSet<(usize, usize)> {
        members
            .iter()
            .map(|&at| (self.owned[at].len(), at))
            .collect()
    }

    /// Members subscribe to different topics: each free partition goes to the subscriber that has
    /// the least, one near a replica first among equals.
    fn fill_least_loaded(&mut self) {
        for (topic, subscribers) in self.subscribers() {
            let mut loads = self.loads(&subscribers);
            let free: Vec<Place> = self.places_of(topic).copied().collect();
            for place in free {
                let at = self.least_loaded(&loads, place);
                loads.remove(&(self.owned[at].len(), at));
                self.free.remove(&place);
                self.owned[at].add(place);
                loads.insert((self.owned[at].len(), at));
            }
        }
    }

    fn places_of(&self, topic: TopicId) -> impl Iterator<Item = &Place> {
        self.free.range((topic, 0)..=(topic, i32::MAX))
    }

    fn least_loaded(&self, loads: &BTreeSet<(usize, usize)>, place: Place) -> usize {
        let first = loads.first().copied().unwrap_or_default();
        let racks = self
            .topics
            .get(&place.0)
            .and_then(|topic| topic.racks.get(&place.1));
        let Some(racks) = racks else { return first.1 };
        let equals = loads.iter().take_while(|(load, _)| *load == first.0);
        let mut near = equals.filter(|(_, at)| {
            self.members[*at]
                .rack
                .is_some_and(|rack| racks.contains(rack))
        });
        near.next().map_or(first.1, |(_, at)| *at)
    }

    /// Moves partitions from the most to the least loaded subscribers of each topic until nobody
    /// gains (apache/kafka `UniformHeterogeneousAssignmentBuilder`, which also stops after 16
    /// rounds).
    fn balance(&mut self) {
        const ROUNDS_MAX: usize = 16;
        let topics = self.subscribers();
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for (topic, subscribers) in &topics {
                moved |= self.balance_topic(*topic, subscribers);
            }
            if !moved {
                return;
            }
        }
    }

    fn balance_topic(&mut self, topic: TopicId, subscribers: &[usize]) -> bool {
        let mut loads = self.loads(subscribers);
        let mut givers: BTreeSet<(usize, usize)> = loads
            .iter()
            .copied()
            .filter(|(_, at)| self.last_of(topic, *at).is_some())
            .collect();
        let mut moved = false;
        while let (Some(&(most, from)), Some(&(least, to))) = (givers.last(), loads.first()) {
            if most < least + 2 {
                break;
            }
            let Some(place) = self.last_of(topic, from) else {
                givers.remove(&(most, from));
                continue;
            };
            for (at, load) in [(from, most), (to, least)] {
                loads.remove(&(load, at));
                givers.remove(&(load, at));
            }
            self.owned[from].remove(&place);
            self.owned[to].add(place);
            for at in [from, to] {
                loads.insert((self.owned[at].len(), at));
                givers.insert((self.owned[at].len(), at));
            }
            moved = true;
        }
        moved
    }

    fn last_of(&self, topic: TopicId, member: usize) -> Option<Place> {
        self.owned[member]
            .places
            .range((topic, 0)..=(topic, i32::MAX))
            .next_back()
            .copied()
    }

    fn finish(self) -> BTreeMap<String, Partitions> {
        let touched = self.members.iter().zip(self.owned);
        let touched = touched.filter(|(_, owned)| owned.touched);
        let built = touched.map(|(member, owned)| {
            let mut partitions = Partitions::new();
            for (topic, partition) in owned.places {
                partitions.entry(topic).or_default().insert(partition);
            }
            (member, partitions)
        });
        built
            .filter(|(member, partitions)| member.target != Some(partitions))
            .map(|(member, partitions)| (member.id.to_owned(), partitions))
            .collect()
    }
}

/// What a member has so far and still may have, unless somebody has taken it before.
fn kept(member: &MemberSpec<'_>, taken: &mut BTreeMap<TopicId, Vec<bool>>) -> Holding {
    let Some(target) = member.target else {
        return Holding {
            touched: true,
            ..Holding::default()
        };
    };
    let mut holding = Holding::default();
    for (id, partitions) in target {
        let topic = taken.get_mut(id).filter(|_| member.topics.contains(id));
        let Some(topic) = topic else {
            holding.touched = true;
            continue;
        };
        for partition in partitions {
            let place = usize::try_from(*partition)
                .ok()
                .and_then(|at| topic.get_mut(at));
            match place {
                Some(taken) if !*taken => {
                    *taken = true;
                    holding.places.insert((*id, *partition));
                }
                _ => holding.touched = true,
            }
        }
    }
    holding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    fn id(number: u8) -> TopicId {
        TopicId([number; 16])
    }

    fn topic(number: u8, partitions: i32) -> (TopicId, TopicMetadata) {
        (
            id(number),
            TopicMetadata {
                id: id(number),
                partitions,
                racks: BTreeMap::new(),
            },
        )
    }

    fn member<'a>(name: &'a str, topics: &[u8], target: Option<&'a Partitions>) -> MemberSpec<'a> {
        let topics = Rc::new(topics.iter().map(|&number| id(number)).collect());
        MemberSpec {
            id: name,
            instance_id: None,
            rack: None,
            topics,
            target,
        }
    }

    fn references(topics: &BTreeMap<TopicId, TopicMetadata>) -> BTreeMap<TopicId, &TopicMetadata> {
        topics.iter().map(|(id, topic)| (*id, topic)).collect()
    }

    /// The whole target: what changes, and what stays.
    fn assign(
        assignor: Assignor,
        members: &[MemberSpec<'_>],
        topics: &BTreeMap<TopicId, &TopicMetadata>,
    ) -> BTreeMap<String, Partitions> {
        let mut target = assignor.changes(members, topics);
        for member in members {
            match (target.get(member.id), member.target) {
                (Some(changed), before) => assert_ne!(Some(changed), before, "{}", member.id),
                (None, Some(before)) => drop(target.insert(member.id.to_owned(), before.clone())),
                (None, None) => panic!("{} has no target", member.id),
            }
        }
        target
    }

    fn count(partitions: &Partitions) -> usize {
        partitions.values().map(BTreeSet::len).sum()
    }

    #[test]
    fn range_gives_neighbouring_partitions_and_the_first_members_one_more() {
        let topics = BTreeMap::from([topic(1, 5), topic(2, 3)]);
        let members = [member("a", &[1, 2], None), member("b", &[1], None)];
        let target = assign(Assignor::Range, &members, &references(&topics));
        assert_eq!(
            target["a"],
            Partitions::from([(id(1), [0, 1, 2].into()), (id(2), [0, 1, 2].into())])
        );
        assert_eq!(target["b"], Partitions::from([(id(1), [3, 4].into())]));
    }

    #[test]
    fn range_orders_static_members_by_their_instance_ids_before_dynamic_ones() {
        let topics = BTreeMap::from([topic(1, 3)]);
        let mut members = [
            member("a", &[1], None),
            member("b", &[1], None),
            member("c", &[1], None),
        ];
        members[1].instance_id = Some("z");
        members[2].instance_id = Some("y");
        let target = assign(Assignor::Range, &members, &references(&topics));
        assert_eq!(target["c"], Partitions::from([(id(1), [0].into())]));
        assert_eq!(target["b"], Partitions::from([(id(1), [1].into())]));
        assert_eq!(target["a"], Partitions::from([(id(1), [2].into())]));
    }

    #[test]
    fn uniform_moves_only_what_a_newcomer_is_due() {
        let topics = BTreeMap::from([topic(1, 7)]);
        let first = assign(
            Assignor::Uniform,
            &[member("a", &[1], None), member("b", &[1], None)],
            &references(&topics),
        );
        assert_eq!((count(&first["a"]), count(&first["b"])), (4, 3));
        let members = [
            member("a", &[1], Some(&first["a"])),
            member("b", &[1], Some(&first["b"])),
            member("c", &[1], None),
        ];
        let second = assign(Assignor::Uniform, &members, &references(&topics));
        assert_eq!(
            (
                count(&second["a"]),
                count(&second["b"]),
                count(&second["c"])
            ),
            (3, 2, 2),
            "{second:?}"
        );
        assert!(second["a"][&id(1)].is_subset(&first["a"][&id(1)]));
        assert!(second["b"][&id(1)].is_subset(&first["b"][&id(1)]));
    }

    #[test]
    fn uniform_lets_members_read_from_their_own_rack_when_it_costs_no_balance() {
        let racks = |rack: &str| BTreeSet::from([rack.to_owned()]);
        let (key, mut metadata) = topic(1, 4);
        metadata.racks = (0..4)
            .map(|at| (at, racks(if at % 2 == 0 { "r1" } else { "r2" })))
            .collect();
        let topics = BTreeMap::from([(key, metadata)]);
        let mut members = [member("a", &[1], None), member("b", &[1], None)];
        members[0].rack = Some("r2");
        members[1].rack = Some("r1");
        let target = assign(Assignor::Uniform, &members, &references(&topics));
        assert_eq!(target["a"], Partitions::from([(id(1), [1, 3].into())]));
        assert_eq!(target["b"], Partitions::from([(id(1), [0, 2].into())]));
    }

    #[test]
    fn every_partition_has_one_subscribed_owner_and_loads_are_as_even_as_subscriptions_allow() {
        for seed in 0..300 {
            let mut random = Prng::new(seed);
            let topics: BTreeMap<_, _> = (1..=4)
                .map(|number| topic(number, random.below(9) as i32))
                .collect();
            let names: Vec<String> = (0..1 + random.below(6))
                .map(|number| format!("m{number}"))
                .collect();
            let mut before: BTreeMap<String, Partitions> = BTreeMap::new();
            for _ in 0..4 {
                let members: Vec<MemberSpec<'_>> = names
                    .iter()
                    .filter(|_| !random.one_in(4))
                    .map(|name| (name, (1..=4u8).collect::<Vec<_>>()))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|(name, all)| {
                        let some: Vec<u8> = all.into_iter().filter(|_| !random.one_in(3)).collect();
                        member(name, &some, before.get(name))
                    })
                    .collect();
                let target = assign(Assignor::Uniform, &members, &references(&topics));
                check(seed, &members, &topics, &target);
                before = target;
            }
        }
    }

    fn check(
        seed: u64,
        members: &[MemberSpec<'_>],
        topics: &BTreeMap<TopicId, TopicMetadata>,
        target: &BTreeMap<String, Partitions>,
    ) {
        let mut owners: BTreeMap<Place, &str> = BTreeMap::new();
        for member in members {
            for (topic, partitions) in &target[member.id] {
                assert!(member.topics.contains(topic), "seed {seed}");
                for partition in partitions {
                    let other = owners.insert((*topic, *partition), member.id);
                    assert_eq!(other, None, "seed {seed}");
                }
            }
        }
        let subscribed = |id| members.iter().any(|member| member.topics.contains(id));
        let expected: i32 = topics
            .iter()
            .filter(|(id, _)| subscribed(*id))
            .map(|(_, topic)| topic.partitions)
            .sum();
        assert_eq!(owners.len(), expected as usize, "seed {seed}");
        for (place, owner) in &owners {
            let load = count(&target[*owner]);
            for other in members
                .iter()
                .filter(|member| member.topics.contains(&place.0))
            {
                assert!(
                    load <= count(&target[other.id]) + 1,
                    "seed {seed}: {owner} {}",
                    other.id
                );
            }
        }
    }
}
