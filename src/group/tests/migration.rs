//! Row 126: groups that change their kind while their members go on.

use super::*;
use crate::group::consumer_protocol::encode_assignment;

/// A stable classic group of one member that owns all of `t`.
fn classic_one(bench: &mut Bench) -> String {
    let (id, token) = bench.join_with_id(Join::default());
    bench.pass_ms(3_000);
    bench.joined(token);
    let all = encode_assignment(1, &[("t".to_owned(), (0..4).collect())].into());
    let token = bench.sync(&id, 1, &[(&id, &all)]);
    assert_eq!(bench.synced(token).error_code, 0);
    id
}

/// Lets the classic member rejoin and sync; what it then has.
fn rejoin(bench: &mut Bench, id: &str, has: &[i32]) -> (i32, BTreeSet<i32>) {
    let mut metadata = Subscription {
        version: 1,
        topics: ["t".to_owned()].into(),
        ..Default::default()
    };
    metadata.owned = [("t".to_owned(), has.iter().copied().collect())].into();
    let protocols = vec![("range", metadata.encode())];
    let token = bench.join(Join {
        member: id,
        protocols,
        ..Join::default()
    });
    let joined = bench.joined(token);
    assert_eq!(joined.error_code, 0);
    let token = bench.sync(id, joined.generation_id, &[]);
    let synced = bench.synced(token);
    assert_eq!(synced.error_code, 0);
    (
        joined.generation_id,
        named(&synced).remove("t").unwrap_or_default(),
    )
}

#[test]
fn row_126_a_classic_group_becomes_a_consumer_group_and_no_partition_has_two_owners() {
    let mut bench = Bench::new();
    let id = classic_one(&mut bench);
    let joined = bench.consumer(Beat::first("new", &["t"]));
    assert_eq!((joined.error_code, given(&joined)), (0, Some(Owned::new())));
    assert_eq!(
        (bench.group().kind_name(), bench.group().member_count()),
        ("Consumer", 2)
    );
    assert_eq!(bench.beat(&id, 1), ErrorCode::RebalanceInProgress);
    let (generation, has) = rejoin(&mut bench, &id, &[0, 1, 2, 3]);
    assert_eq!(
        has,
        BTreeSet::from([0, 1]),
        "told to give up two, still at its old epoch"
    );
    assert_eq!(
        given(&bench.consumer(Beat::at("new", joined.member_epoch))),
        None
    );
    assert_eq!(bench.beat(&id, generation), ErrorCode::RebalanceInProgress);
    let (generation, has) = rejoin(&mut bench, &id, &[0, 1]);
    assert_eq!(has, BTreeSet::from([0, 1]));
    let handed = bench.consumer(Beat::at("new", joined.member_epoch));
    assert_eq!(given(&handed), Some(owned(1, [2, 3])));
    assert_eq!(bench.beat(&id, generation), ErrorCode::None);
    assert_eq!(bench.commit(8, &id, generation, 5), ErrorCode::None);
    assert_eq!(
        bench.commit(8, &id, generation - 1, 5),
        ErrorCode::IllegalGeneration
    );
}

#[test]
fn row_126_a_consumer_group_becomes_classic_again_when_its_last_new_member_leaves() {
    let mut bench = Bench::new();
    let id = classic_one(&mut bench);
    bench.consumer(Beat::first("new", &["t"]));
    let (generation, _) = rejoin(&mut bench, &id, &[0, 1]);
    assert_eq!(bench.consumer(Beat::at("new", -1)).error_code, 0);
    assert_eq!(
        (bench.group().kind_name(), bench.state()),
        ("Classic", "PreparingRebalance")
    );
    assert_eq!(bench.beat(&id, generation), ErrorCode::RebalanceInProgress);
    let token = bench.join(Join {
        member: &id,
        ..Join::default()
    });
    assert_eq!(
        bench.joined(token).generation_id,
        generation + 1,
        "generations go on"
    );
    bench.restart();
    assert_eq!(
        (bench.group().kind_name(), bench.group().member_count()),
        ("Classic", 1)
    );
}

/// Apache Kafka hands 2 and 3 to the newcomer here (`ClassicGroup.fromConsumerGroup` makes of a
/// member's target its assignment). Found by seed 7216 of the group simulation.
#[test]
fn what_a_member_has_not_given_up_stays_its_own_when_its_group_goes_to_classic_and_back() {
    let mut bench = Bench::new();
    let id = classic_one(&mut bench);
    bench.consumer(Beat::first("new", &["t"]));
    bench.consumer(Beat::at("new", -1));
    assert_eq!(bench.group().kind_name(), "Classic");
    let joined = bench.consumer(Beat::first("newer", &["t"]));
    assert_eq!(bench.group().kind_name(), "Consumer");
    assert_eq!(
        given(&joined),
        Some(Owned::new()),
        "the classic member has them all, and was not asked yet"
    );
    rejoin(&mut bench, &id, &[0, 1, 2, 3]);
    let (_, has) = rejoin(&mut bench, &id, &[0, 1]);
    assert_eq!(has, BTreeSet::from([0, 1]));
    let handed = bench.consumer(Beat::at("newer", joined.member_epoch));
    assert_eq!(given(&handed), Some(owned(1, [2, 3])));
}

#[test]
fn a_rebalance_that_a_downgrade_calls_for_is_not_forgotten_by_a_restart() {
    let mut bench = Bench::new();
    let id = classic_one(&mut bench);
    bench.consumer(Beat::first("new", &["t"]));
    rejoin(&mut bench, &id, &[0, 1, 2, 3]);
    let (generation, has) = rejoin(&mut bench, &id, &[0, 1]);
    assert_eq!(has, BTreeSet::from([0, 1]));
    bench.consumer(Beat::at("new", -1));
    bench.restart();
    assert_eq!(
        (bench.group().kind_name(), bench.state()),
        ("Classic", "PreparingRebalance")
    );
    assert_eq!(bench.beat(&id, generation), ErrorCode::RebalanceInProgress);
    let token = bench.join(Join {
        member: &id,
        ..Join::default()
    });
    let joined = bench.joined(token);
    assert_eq!(
        (joined.leader, joined.generation_id),
        (text(&id), generation + 1)
    );
}

#[test]
fn row_126_a_static_member_goes_back_to_the_classic_protocol_and_takes_the_group_along() {
    let mut bench = Bench::new();
    bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::first("a", &["t"])
    });
    bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::at("a", -2)
    });
    let token = bench.join(Join {
        instance: Some("i1"),
        ..Join::default()
    });
    let joined = bench.joined(token);
    assert_eq!(
        (joined.error_code, bench.group().kind_name()),
        (0, "Classic")
    );
    assert_eq!(bench.state(), "Stable");
    let token = bench.sync(&joined.member_id, joined.generation_id, &[]);
    assert_eq!(named(&bench.synced(token))["t"], (0..4).collect());
}

#[test]
fn row_126_the_policy_may_forbid_either_way() {
    let policy = |migration_policy| Settings {
        migration_policy,
        ..Settings::default()
    };
    let mut bench = Bench::with(policy(MigrationPolicy::Downgrade));
    classic_one(&mut bench);
    let refused = bench.consumer(Beat::first("new", &["t"]));
    assert_eq!(code(refused.error_code), ErrorCode::GroupIdNotFound);
    let mut bench = Bench::with(policy(MigrationPolicy::Upgrade));
    classic_one(&mut bench);
    bench.consumer(Beat::first("new", &["t"]));
    bench.consumer(Beat::at("new", -1));
    assert_eq!(bench.group().kind_name(), "Consumer");
}

#[test]
fn an_empty_group_takes_the_kind_of_whoever_joins_and_keeps_its_offsets() {
    let mut bench = Bench::new();
    let id = bench.stable_one();
    bench.commit(8, &id, 1, 42);
    bench.leave(&[(&id, None)]);
    bench.consumer(Beat::first("new", &["t"]));
    assert_eq!(bench.group().kind_name(), "Consumer");
    bench.consumer(Beat::at("new", -1));
    bench.stable_one();
    assert_eq!(bench.group().kind_name(), "Classic");
    bench.restart();
    assert_eq!(bench.group().kind_name(), "Classic");
    let fetched = bench.fetch(Some(&[("t", 0)]));
    assert_eq!(fetched.topics[0].partitions[0].committed_offset, 42);
}

#[test]
fn parked_joins_are_sent_back_when_their_group_is_upgraded() {
    let mut bench = Bench::new();
    let (id, parked) = bench.join_with_id(Join::default());
    assert_eq!(bench.consumer(Beat::first("new", &["t"])).error_code, 0);
    let told = bench.joined(parked);
    assert_eq!(
        (code(told.error_code), told.member_id),
        (ErrorCode::RebalanceInProgress, text(&id))
    );
    rejoin(&mut bench, &id, &[]);
}

#[test]
fn a_classic_member_that_does_not_rejoin_when_told_is_put_out() {
    let mut bench = Bench::new();
    let id = classic_one(&mut bench);
    bench.consumer(Beat::first("new", &["t"]));
    for _ in 0..8 {
        bench.beat(&id, 1);
        bench.consumer(Beat::at("new", 2));
        bench.pass_ms(9_000);
    }
    assert_eq!(bench.beat(&id, 1), ErrorCode::UnknownMemberId);
    assert_eq!(
        given(&bench.consumer(Beat {
            owned: Some(Owned::new()),
            epoch: 3,
            rebalance_ms: Some(1),
            ..Beat::first("new", &["t"])
        })),
        Some(owned(1, [0, 1, 2, 3]))
    );
}

#[test]
fn classic_members_of_a_consumer_group_leave_by_leave_group() {
    let mut bench = Bench::new();
    let id = classic_one(&mut bench);
    bench.consumer(Beat::first("new", &["t"]));
    let left = bench.leave(&[(&id, None), (&id, None), ("new", None)]);
    let errors: Vec<ErrorCode> = left.members.iter().map(|m| code(m.error_code)).collect();
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(errors, [ErrorCode::None, unknown, unknown]);
    assert_eq!(bench.group().member_count(), 1);
}

/// Found by the simulation (seed 35): the answer that told a cooperative member to give up two
/// partitions was lost, and the upgrade gave them to another while it still had them.
#[test]
fn an_upgrade_leaves_a_cooperative_member_what_it_said_it_owned() {
    let mut bench = Bench::new();
    let first = classic_one(&mut bench);
    let (_, parked) = bench.join_with_id(Join::default());
    let owned_by_first = Subscription {
        version: 1,
        topics: ["t".to_owned()].into(),
        owned: [("t".to_owned(), (0..4).collect())].into(),
        ..Default::default()
    };
    let token = bench.join(Join {
        member: &first,
        protocols: vec![("range", owned_by_first.encode())],
        ..Join::default()
    });
    assert_eq!(bench.joined(parked).generation_id, 2);
    assert_eq!(bench.joined(token).generation_id, 2);
    let two = encode_assignment(1, &[("t".to_owned(), [0, 1].into())].into());
    bench.sync(&first, 2, &[(&first, &two)]);
    // Nobody reads that answer.
    let joined = bench.consumer(Beat::first("new", &["t"]));
    assert_eq!((joined.error_code, given(&joined)), (0, Some(Owned::new())));
    let waiting = bench.consumer(Beat::at("new", joined.member_epoch));
    assert_eq!(given(&waiting), None);
    let (_, has) = rejoin(&mut bench, &first, &[0, 1, 2, 3]);
    assert!(has.len() < 4, "told again: {has:?}");
    let kept: Vec<i32> = has.into_iter().collect();
    rejoin(&mut bench, &first, &kept);
    let given = given(&bench.consumer(Beat::at("new", joined.member_epoch)));
    assert!(given.is_some_and(|given| !given.is_empty()));
}

/// Found by the simulation (seed 35): a cooperative member that had been silent for too long was
/// taken in again with partitions that were another's by then.
#[test]
fn a_member_that_was_put_out_unawares_is_told_so_when_it_rejoins_with_what_it_owned() {
    let mut bench = Bench::new();
    let first = classic_one(&mut bench);
    let mut epoch = bench.consumer(Beat::first("new", &["t"])).member_epoch;
    for _ in 0..8 {
        epoch = bench.consumer(Beat::at("new", epoch)).member_epoch;
        bench.pass_ms(9_000);
    }
    assert_eq!(bench.group().member_count(), 1);
    let subscription = |owned: &[i32]| Subscription {
        version: 1,
        topics: ["t".to_owned()].into(),
        owned: [("t".to_owned(), owned.iter().copied().collect())].into(),
        ..Default::default()
    };
    let mut join = |owned: &[i32]| {
        let token = bench.join(Join {
            member: &first,
            protocols: vec![("range", subscription(owned).encode())],
            ..Join::default()
        });
        code(bench.joined(token).error_code)
    };
    assert_eq!(join(&[0, 1, 2, 3]), ErrorCode::UnknownMemberId);
    assert_eq!(join(&[]), ErrorCode::None);
}
