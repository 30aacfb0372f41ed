//! Rows 104 to 113, 117, 118, 121: classic groups.

use super::*;

#[test]
fn row_104_a_new_member_is_sent_away_with_an_id_that_expires_unused() {
    let mut bench = Bench::new();
    let token = bench.join(Join::default());
    let told = bench.joined(token);
    assert_eq!(code(told.error_code), ErrorCode::MemberIdRequired);
    let id = told.member_id.to_string();
    assert!(
        id.starts_with("client-") && id.len() == "client-".len() + 36,
        "{id}"
    );
    bench.pass_ms(10_001);
    let token = bench.join(Join {
        member: &id,
        ..Join::default()
    });
    assert_eq!(
        code(bench.joined(token).error_code),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn row_104_before_version_4_a_new_member_joins_at_once() {
    let mut bench = Bench::new();
    let token = bench.join(Join {
        version: 3,
        ..Join::default()
    });
    bench.pass_ms(3_000);
    let joined = bench.joined(token);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    let token = bench.join(Join {
        version: 3,
        session_ms: 1,
        ..Join::default()
    });
    let refused = bench.joined(token);
    // The name must not be null before version 7, or it cannot be written.
    assert_eq!(refused.protocol_name, Some(StrBytes::default()));
}

#[test]
fn row_105_sessions_out_of_bounds_and_empty_group_ids_are_refused() {
    let mut bench = Bench::new();
    for session_ms in [5_999, 1_800_001] {
        let token = bench.join(Join {
            session_ms,
            ..Join::default()
        });
        assert_eq!(
            code(bench.joined(token).error_code),
            ErrorCode::InvalidSessionTimeout
        );
    }
    let token = bench.join(Join {
        group: "",
        ..Join::default()
    });
    assert_eq!(
        code(bench.joined(token).error_code),
        ErrorCode::InvalidGroupId
    );
    assert!(bench.coordinator.groups().is_empty());
}

#[test]
fn row_106_each_new_member_extends_the_initial_delay_up_to_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let rebalance_ms = 7_000;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(
            bench
                .join_with_id(Join {
                    rebalance_ms,
                    ..Join::default()
                })
                .1,
        );
        bench.pass_ms(2_000);
        let answered = tokens
            .iter()
            .filter(|token| bench.replies.contains_key(token))
            .count();
        // After 3 s and 6 s it is extended, the second time by the second that is left.
        assert_eq!(answered, if tokens.len() < 4 { 0 } else { 4 });
    }
    let generations: BTreeSet<i32> = tokens
        .into_iter()
        .map(|token| bench.joined(token).generation_id)
        .collect();
    assert_eq!(generations, BTreeSet::from([1]));
}

#[test]
fn row_107_the_protocol_with_most_votes_among_those_all_support_is_chosen() {
    let mut bench = Bench::new();
    let join = |names: &[&'static str]| Join {
        protocols: names
            .iter()
            .map(|name| (*name, subscription(&["t"])))
            .collect(),
        ..Join::default()
    };
    let (_, a) = bench.join_with_id(join(&["only-a", "range", "sticky"]));
    let (_, b) = bench.join_with_id(join(&["sticky", "range"]));
    let (_, c) = bench.join_with_id(join(&["sticky", "range"]));
    let token = bench.join(join(&["other"]));
    assert_eq!(
        code(bench.joined(token).error_code),
        ErrorCode::InconsistentGroupProtocol
    );
    let token = bench.join(Join {
        kind: "connect",
        ..join(&["range"])
    });
    assert_eq!(
        code(bench.joined(token).error_code),
        ErrorCode::InconsistentGroupProtocol
    );
    bench.pass_ms(10_000);
    for token in [a, b, c] {
        assert_eq!(bench.joined(token).protocol_name, Some(text("sticky")));
    }
}

#[test]
fn row_108_only_the_leader_learns_the_members_and_others_wait_for_its_assignment() {
    let mut bench = Bench::new();
    let (a, first) = bench.join_with_id(Join::default());
    let (b, second) = bench.join_with_id(Join::default());
    bench.pass_ms(10_000);
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!(first.leader, text(&a));
    assert_eq!(second.leader, text(&a));
    assert_eq!(first.members.len(), 2);
    assert_eq!(first.members[0].metadata, subscription(&["t"]));
    assert!(second.members.is_empty());
    let waiting = bench.sync(&b, 1, &[]);
    assert!(!bench.replies.contains_key(&waiting));
    bench.sync(&a, 1, &[(&b, b"for b")]);
    assert_eq!(&bench.synced(waiting).assignment[..], b"for b");
}

#[test]
fn row_109_a_followers_rejoin_changes_nothing_and_the_leaders_starts_a_rebalance() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    let token = bench.join(Join {
        member: &b,
        ..Join::default()
    });
    assert_eq!(bench.joined(token).generation_id, generation);
    assert_eq!(bench.state(), "Stable");
    let changed = vec![("range", subscription(&["t", "u"]))];
    let again = bench.join(Join {
        member: &b,
        protocols: changed,
        ..Join::default()
    });
    assert_eq!(bench.state(), "PreparingRebalance");
    let leading = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    assert_eq!(bench.joined(again).generation_id, generation + 1);
    assert_eq!(bench.joined(leading).generation_id, generation + 1);
    bench.sync(&a, generation + 1, &[]);
    bench.sync(&b, generation + 1, &[]);
    assert_eq!(bench.state(), "Stable");
    bench.join(Join {
        member: &a,
        ..Join::default()
    });
    assert_eq!(bench.state(), "PreparingRebalance");
}

fn static_join<'a>(member: &'a str, instance: &'a str) -> Join<'a> {
    Join {
        member,
        instance: Some(instance),
        ..Join::default()
    }
}

/// A stable group of two static members `i1` (leader) and `i2`.
fn stable_static(bench: &mut Bench) -> (String, String) {
    let first = bench.join(static_join("", "i1"));
    let second = bench.join(static_join("", "i2"));
    bench.pass_ms(10_000);
    let (a, b) = (
        bench.joined(first).member_id,
        bench.joined(second).member_id,
    );
    assert!(a.starts_with("i1-"), "{a:?}");
    bench.sync(&a, 1, &[(&a, b"A"), (&b, b"B")]);
    let token = bench.sync(&b, 1, &[]);
    assert_eq!(&bench.synced(token).assignment[..], b"B");
    (a.to_string(), b.to_string())
}

#[test]
fn row_110_a_static_member_that_restarts_keeps_its_assignment_without_a_rebalance() {
    let mut bench = Bench::new();
    let (_, old) = stable_static(&mut bench);
    let token = bench.join(static_join("", "i2"));
    let joined = bench.joined(token);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_ne!(joined.member_id, text(&old));
    let token = bench.sync(&joined.member_id, 1, &[]);
    assert_eq!(&bench.synced(token).assignment[..], b"B");
    assert_eq!(bench.state(), "Stable");
    let token = bench.join(static_join(&old, "i2"));
    assert_eq!(
        code(bench.joined(token).error_code),
        ErrorCode::FencedInstanceId
    );
    bench.restart();
    assert_eq!(
        bench.beat(&joined.member_id, 1),
        ErrorCode::None,
        "the new id is in the log"
    );
    assert_eq!(bench.beat(&old, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn row_110_a_static_leader_that_restarts_is_told_to_skip_assigning_from_version_9_on() {
    let mut bench = Bench::new();
    let (old, _) = stable_static(&mut bench);
    let token = bench.join(static_join("", "i1"));
    let joined = bench.joined(token);
    assert!(joined.skip_assignment);
    assert_eq!(
        (joined.leader.clone(), joined.members.len()),
        (joined.member_id.clone(), 2)
    );
    let token = bench.join(Join {
        version: 8,
        ..static_join("", "i1")
    });
    let older = bench.joined(token);
    assert!(!older.skip_assignment && older.members.is_empty());
    assert_eq!(
        older.leader, joined.member_id,
        "so that it does not think it has to assign"
    );
    assert_ne!(older.leader, text(&old));
}

#[test]
fn row_111_a_heartbeat_during_a_rebalance_says_so_and_keeps_the_session_alive() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    bench.join(Join {
        member: &a,
        ..Join::default()
    });
    for _ in 0..5 {
        bench.pass_ms(9_000);
        assert_eq!(bench.beat(&b, generation), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(bench.beat(&b, generation + 1), ErrorCode::IllegalGeneration);
    assert_eq!(bench.beat("nobody", generation), ErrorCode::UnknownMemberId);
}

#[test]
fn row_112_members_that_never_sync_are_removed_after_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let (a, first) = bench.join_with_id(Join::default());
    let (b, second) = bench.join_with_id(Join::default());
    bench.pass_ms(6_000);
    bench.joined(first);
    bench.joined(second);
    let leading = bench.sync(&a, 1, &[]);
    bench.synced(leading);
    for _ in 0..7 {
        bench.pass_ms(8_999);
        bench.beat(&a, 1);
        bench.beat(&b, 1);
    }
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(
        bench.group().member_count(),
        1,
        "b went on beating but never synced"
    );
}

#[test]
fn row_112_members_that_do_not_rejoin_in_time_are_dropped() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    let rejoin = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    for _ in 0..7 {
        bench.pass_ms(8_600);
        bench.beat(&b, generation);
    }
    let joined = bench.joined(rejoin);
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (0, generation + 1)
    );
    assert_eq!(joined.members.len(), 1);
    assert_eq!(bench.beat(&b, generation), ErrorCode::UnknownMemberId);
}

#[test]
fn row_112_a_leader_that_does_not_rejoin_is_replaced_by_one_who_did() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    let changed = vec![("range", subscription(&["u"]))];
    let rejoin = bench.join(Join {
        member: &b,
        protocols: changed,
        ..Join::default()
    });
    bench.pass_ms(60_001);
    let joined = bench.joined(rejoin);
    assert_eq!(
        (joined.generation_id, joined.leader),
        (generation + 1, text(&b))
    );
    assert_eq!(bench.beat(&a, generation), ErrorCode::UnknownMemberId);
}

#[test]
fn row_113_a_parked_members_session_does_not_run() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    let rejoin = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    for _ in 0..6 {
        bench.pass_ms(9_000);
        bench.beat(&b, generation);
    }
    let second = bench.join(Join {
        member: &b,
        ..Join::default()
    });
    assert_eq!(
        bench.joined(rejoin).error_code,
        0,
        "after 54 s without a word of its own"
    );
    bench.joined(second);
    let parked = bench.sync(&b, generation + 1, &[]);
    bench.pass_ms(9_999);
    bench.beat(&a, generation + 1);
    bench.pass_ms(9_999);
    bench.sync(&a, generation + 1, &[(&b, b"late")]);
    assert_eq!(&bench.synced(parked).assignment[..], b"late");
}

#[test]
fn a_silent_member_is_removed_and_the_others_rebalance() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    bench.pass_ms(6_000);
    assert_eq!(bench.beat(&a, generation), ErrorCode::None);
    bench.pass_ms(6_000);
    assert_eq!(bench.beat(&a, generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.beat(&b, generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_join_sent_again_takes_the_place_of_the_one_that_is_parked() {
    let mut bench = Bench::new();
    let (a, _, _) = bench.stable_two();
    let first = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    let again = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    assert_eq!(
        code(bench.joined(first).error_code),
        ErrorCode::RebalanceInProgress
    );
    bench.pass_ms(60_000);
    assert_eq!(bench.joined(again).error_code, 0);
}

#[test]
fn row_117_a_member_that_the_leader_forgot_gets_no_bytes_at_all() {
    let mut bench = Bench::new();
    let (id, token) = bench.join_with_id(Join::default());
    bench.pass_ms(3_000);
    bench.joined(token);
    let token = bench.sync(&id, 1, &[("somebody else", b"x")]);
    let synced = bench.synced(token);
    assert_eq!((synced.error_code, synced.assignment.len()), (0, 0));
}

#[test]
fn row_118_metadata_and_assignments_are_relayed_as_they_are() {
    let mut bench = Bench::new();
    let opaque = Bytes::from_static(b"\xff\x00 not ours to read");
    let protocols = vec![("cooperative-sticky", opaque.clone())];
    let (id, token) = bench.join_with_id(Join {
        protocols,
        kind: "opaque",
        ..Join::default()
    });
    bench.pass_ms(3_000);
    assert_eq!(bench.joined(token).members[0].metadata, opaque);
    let token = bench.sync(&id, 1, &[(&id, &opaque)]);
    assert_eq!(bench.synced(token).assignment, opaque);
}

#[test]
fn row_121_a_batch_of_leaves_is_answered_one_by_one_with_one_rebalance() {
    let mut bench = Bench::new();
    let (_, old) = stable_static(&mut bench);
    let left = bench.leave(&[("", Some("i1")), (&old, Some("i9")), ("nobody", None)]);
    let errors: Vec<ErrorCode> = left.members.iter().map(|m| code(m.error_code)).collect();
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(errors, [ErrorCode::None, unknown, unknown]);
    assert_eq!((left.error_code, bench.state()), (0, "PreparingRebalance"));
    assert_eq!(bench.group().member_count(), 1);
}

#[test]
fn the_last_member_that_leaves_empties_the_group_and_the_log_says_so() {
    let mut bench = Bench::new();
    let id = bench.stable_one();
    assert_eq!(bench.leave(&[(&id, None)]).members[0].error_code, 0);
    assert_eq!(bench.state(), "Empty");
    bench.restart();
    assert_eq!((bench.state(), bench.group().member_count()), ("Empty", 0));
}

/// Found by kills of the broker under librdkafka's members: whoever had left before the kill was
/// awaited for its whole session by all others.
#[test]
fn who_has_left_is_not_awaited_after_a_restart() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    assert_eq!(bench.leave(&[(&b, None)]).members[0].error_code, 0);
    // Somebody new joins; its client has not learnt its id when the coordinator ends.
    bench.join_with_id(Join::default());
    bench.restart();
    assert_eq!(
        (bench.state(), bench.group().member_count()),
        ("PreparingRebalance", 1)
    );
    assert_eq!(bench.beat(&a, generation), ErrorCode::RebalanceInProgress);
    let token = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    let joined = bench.joined(token);
    assert_eq!(
        (joined.leader.as_str(), joined.generation_id),
        (a.as_str(), generation + 1)
    );
    assert_eq!(bench.beat(&b, generation), ErrorCode::UnknownMemberId);
}

/// A group of which only newcomers are left is loaded as an empty one.
#[test]
fn who_has_left_a_group_of_newcomers_is_not_loaded() {
    let mut bench = Bench::new();
    let a = bench.stable_one();
    let (_, token) = bench.join_with_id(Join::default());
    assert_eq!(bench.leave(&[(&a, None)]).members[0].error_code, 0);
    assert_eq!(bench.joined(token).members.len(), 1);
    bench.restart();
    assert_eq!((bench.state(), bench.group().member_count()), ("Empty", 0));
}

#[test]
fn row_121_a_full_group_refuses_newcomers() {
    let mut bench = Bench::with(Settings {
        classic_members_max: 2,
        ..Settings::default()
    });
    let (a, _, _) = bench.stable_two();
    let token = bench.join(Join::default());
    assert_eq!(
        code(bench.joined(token).error_code),
        ErrorCode::GroupMaxSizeReached
    );
    bench.settings.classic_members_max = 1;
    bench.restart();
    assert_eq!(
        bench.state(),
        "PreparingRebalance",
        "loaded larger than it may be"
    );
    let fast = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    bench.pass_ms(60_000);
    assert_eq!(bench.joined(fast).members.len(), 1);
}

#[test]
fn a_restart_of_the_coordinator_goes_unnoticed_by_a_stable_group() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    bench.restart();
    assert_eq!(bench.beat(&a, generation), ErrorCode::None);
    let token = bench.sync(&b, generation, &[]);
    assert_eq!(&bench.synced(token).assignment[..], b"B");
    let token = bench.join(Join {
        member: &b,
        ..Join::default()
    });
    assert_eq!(bench.joined(token).generation_id, generation);
}

#[test]
fn whoever_is_parked_is_answered_when_the_coordinator_is_unloaded() {
    let mut bench = Bench::new();
    let (_, parked) = bench.join_with_id(Join::default());
    let replies = bench.coordinator.clone().unload(ErrorCode::NotCoordinator);
    let [(token, Reply::JoinGroup(response))] = &replies[..] else {
        panic!("{replies:?}")
    };
    assert_eq!(
        (*token, code(response.error_code)),
        (parked, ErrorCode::NotCoordinator)
    );
}
