//! Rows 123 to 126: consumer groups of the new protocol.

use super::*;
use crate::group::assignor::Assignor;

fn error(response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
    code(response.error_code)
}

#[test]
fn row_123_one_heartbeat_joins_and_null_fields_are_as_before() {
    let mut bench = Bench::new();
    let joined = bench.consumer(Beat::first("a", &["t"]));
    assert_eq!((joined.error_code, joined.member_epoch), (0, 1));
    assert_eq!(given(&joined), Some(owned(1, [0, 1, 2, 3])));
    let logged = bench.log.len();
    let beaten = bench.consumer(Beat::at("a", 1));
    assert_eq!(
        (beaten.error_code, beaten.member_epoch, given(&beaten)),
        (0, 1, None)
    );
    assert_eq!(bench.log.len(), logged, "nothing new, nothing logged");
    let full = bench.consumer(Beat {
        owned: Some(Owned::new()),
        epoch: 1,
        ..Beat::first("a", &["t"])
    });
    assert_eq!(
        given(&full),
        Some(owned(1, [0, 1, 2, 3])),
        "who tells all is told all"
    );
}

#[test]
fn row_123_wrong_epochs_are_fenced_and_a_lost_answer_is_forgiven() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    assert_eq!(
        error(&bench.consumer(Beat::at("a", 2))),
        ErrorCode::FencedMemberEpoch
    );
    // The first heartbeat again: the answer to it was lost.
    let again = bench.consumer(Beat::first("a", &["t"]));
    assert_eq!((again.error_code, again.member_epoch), (0, 1));
    bench.consumer(Beat {
        topics: Some(&["t", "u"]),
        ..Beat::at("a", 1)
    });
    let late = bench.consumer(Beat {
        owned: Some(owned(1, [0])),
        ..Beat::at("a", 1)
    });
    assert_eq!((late.error_code, late.member_epoch), (0, 2));
    let wrong = bench.consumer(Beat {
        owned: Some(owned(9, [0])),
        ..Beat::at("a", 1)
    });
    assert_eq!(error(&wrong), ErrorCode::FencedMemberEpoch);
    assert_eq!(
        error(&bench.consumer(Beat::at("b", 1))),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn row_123_malformed_heartbeats_are_invalid_requests() {
    let mut bench = Bench::new();
    let first = || Beat::first("a", &["t"]);
    let wrong = [
        Beat {
            member: "",
            ..first()
        },
        Beat {
            rebalance_ms: None,
            ..first()
        },
        Beat {
            owned: None,
            ..first()
        },
        Beat {
            owned: Some(owned(1, [0])),
            ..first()
        },
        Beat {
            topics: None,
            ..first()
        },
        Beat {
            instance: Some(""),
            ..first()
        },
        Beat {
            epoch: -3,
            ..first()
        },
        Beat {
            epoch: -2,
            ..first()
        },
    ];
    for beat in wrong {
        assert_eq!(error(&bench.consumer(beat)), ErrorCode::InvalidRequest);
    }
    let strange = Beat {
        assignor: Some("mine"),
        ..first()
    };
    assert_eq!(
        error(&bench.consumer(strange)),
        ErrorCode::UnsupportedAssignor
    );
    assert!(bench.coordinator.groups().is_empty());
    let absent = bench.consumer(Beat::at("a", 4));
    assert_eq!(error(&absent), ErrorCode::GroupIdNotFound);
}

#[test]
fn row_123_a_member_that_leaves_frees_its_partitions_at_the_others_next_heartbeat() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    bench.consumer(Beat::first("b", &["t"]));
    bench.consumer(Beat {
        owned: Some(owned(1, [0, 1, 2, 3])),
        ..Beat::at("a", 1)
    });
    let left = bench.consumer(Beat::at("b", -1));
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    let back = bench.consumer(Beat {
        owned: Some(owned(1, [0, 1])),
        ..Beat::at("a", 1)
    });
    let all = given(&back).or_else(|| {
        given(&bench.consumer(Beat {
            owned: Some(owned(1, [0, 1])),
            ..Beat::at("a", back.member_epoch)
        }))
    });
    assert_eq!(all, Some(owned(1, [0, 1, 2, 3])));
}

#[test]
fn row_123_a_static_member_goes_away_and_comes_back_to_its_partitions() {
    let mut bench = Bench::new();
    let first = |member| Beat {
        instance: Some("i1"),
        ..Beat::first(member, &["t"])
    };
    let joined = bench.consumer(first("a"));
    assert_eq!(
        error(&bench.consumer(first("b"))),
        ErrorCode::UnreleasedInstanceId
    );
    let away = bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::at("a", -2)
    });
    assert_eq!((away.error_code, away.member_epoch), (0, -2));
    let back = bench.consumer(first("b"));
    assert_eq!(
        (back.error_code, back.member_epoch),
        (0, joined.member_epoch),
        "no rebalance"
    );
    assert_eq!(given(&back), given(&joined));
    let old = bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::at("a", 1)
    });
    assert_eq!(error(&old), ErrorCode::FencedInstanceId);
    bench.restart();
    let still = bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::at("b", 1)
    });
    assert_eq!((still.error_code, bench.group().member_count()), (0, 1));
}

#[test]
fn row_123_a_static_member_that_stays_away_loses_its_place_with_its_session() {
    let mut bench = Bench::new();
    bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::first("a", &["t"])
    });
    bench.consumer(Beat {
        instance: Some("i1"),
        ..Beat::at("a", -2)
    });
    bench.pass_ms(45_001);
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn row_124_a_partition_is_handed_over_only_after_its_owner_has_let_go() {
    let mut bench = Bench::new();
    let joined = bench.consumer(Beat::first("a", &["t"]));
    assert_eq!(joined.heartbeat_interval_ms, 5_000);
    let newcomer = bench.consumer(Beat::first("b", &["t"]));
    assert_eq!(
        (given(&newcomer), newcomer.member_epoch),
        (Some(Owned::new()), 2)
    );
    let told = bench.consumer(Beat {
        owned: Some(owned(1, [0, 1, 2, 3])),
        ..Beat::at("a", 1)
    });
    assert_eq!(
        (given(&told), told.member_epoch),
        (Some(owned(1, [0, 1])), 1)
    );
    assert_eq!(
        given(&bench.consumer(Beat::at("b", 2))),
        None,
        "a has not let go yet"
    );
    assert_eq!(bench.state(), "Reconciling");
    let freed = bench.consumer(Beat {
        owned: Some(owned(1, [0, 1])),
        ..Beat::at("a", 1)
    });
    assert_eq!(freed.member_epoch, 2);
    let handed = bench.consumer(Beat::at("b", 2));
    assert_eq!(given(&handed), Some(owned(1, [2, 3])));
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn row_124_the_session_is_the_brokers_and_who_does_not_let_go_in_time_is_put_out() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    bench.pass_ms(45_001);
    assert_eq!(
        error(&bench.consumer(Beat::at("a", 1))),
        ErrorCode::UnknownMemberId
    );
    bench.consumer(Beat::first("a", &["t"]));
    bench.consumer(Beat::first("b", &["t"]));
    let epoch = 3;
    for _ in 0..6 {
        bench.pass_ms(6_900);
        bench.consumer(Beat {
            owned: Some(owned(1, [0, 1, 2, 3])),
            ..Beat::at("a", epoch)
        });
        bench.consumer(Beat::at("b", epoch + 1));
    }
    assert_eq!(
        bench.group().member_count(),
        1,
        "a was told 30 s ago and beats, but keeps all"
    );
}

#[test]
fn row_125_the_assignor_that_most_members_want_assigns() {
    let mut bench = Bench::new();
    let range = |member| Beat {
        assignor: Some("range"),
        ..Beat::first(member, &["t", "u"])
    };
    let joined = bench.consumer(range("a"));
    assert_eq!(
        given(&joined),
        Some(Owned::from([(1, (0..4).collect()), (2, (0..2).collect())]))
    );
    bench.consumer(range("b"));
    bench.consumer(Beat::first("c", &["t", "u"]));
    let Group::Consumer(group) = bench.group() else {
        panic!("another kind")
    };
    let count = |id: &str| {
        group
            .target(id)
            .map_or(0, |target| target.values().flatten().count())
    };
    assert_eq!(
        (count("a"), count("b"), count("c")),
        (3, 2, 1),
        "ranges, not equal shares"
    );
    assert_eq!(bench.settings.consumer_assignors[0], Assignor::Uniform);
}

#[test]
fn row_125_regular_expressions_are_resolved_by_the_broker_and_follow_the_topics() {
    let mut bench = Bench::new();
    let first = |regex| Beat {
        topics: None,
        regex: Some(regex),
        ..Beat::first("a", &[])
    };
    for wrong in ["(", "a)(b", r"(?P<x"] {
        assert_eq!(
            error(&bench.consumer(first(wrong))),
            ErrorCode::InvalidRegularExpression
        );
    }
    let joined = bench.consumer(first("u|v.*"));
    assert_eq!(
        given(&joined),
        Some(owned(2, [0, 1])),
        "the whole name has to match"
    );
    bench.topic(3, "view", 1);
    bench.topic(4, "preview", 1);
    let more = bench.consumer(Beat {
        owned: Some(owned(2, [0, 1])),
        ..Beat::at("a", 1)
    });
    assert_eq!(
        given(&more),
        Some(Owned::from([(2, (0..2).collect()), (3, [0].into())]))
    );
    bench.restart();
    let same = bench.consumer(Beat::at("a", more.member_epoch));
    assert_eq!((same.error_code, same.member_epoch), (0, more.member_epoch));
    bench.consumer(Beat {
        regex: Some(""),
        topics: Some(&["t"]),
        ..Beat::at("a", 2)
    });
    assert!(!bench.group().is_subscribed("view"));
}

#[test]
fn row_125_new_partitions_and_deleted_topics_start_a_new_target() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t", "later"]));
    bench.topic(1, "t", 5);
    let more = bench.consumer(Beat {
        owned: Some(owned(1, [0, 1, 2, 3])),
        ..Beat::at("a", 1)
    });
    assert_eq!(given(&more), Some(owned(1, [0, 1, 2, 3, 4])));
    bench.topics.remove("t");
    bench.topic(5, "later", 1);
    let told = bench.consumer(Beat {
        owned: Some(owned(1, [0, 1, 2, 3, 4])),
        ..Beat::at("a", 2)
    });
    assert_eq!(
        given(&told),
        Some(Owned::new()),
        "first the deleted topic's have to go"
    );
    let other = bench.consumer(Beat {
        owned: Some(Owned::new()),
        ..Beat::at("a", 2)
    });
    assert_eq!(given(&other), Some(owned(5, [0])));
}

#[test]
fn row_126_before_version_1_the_broker_makes_the_member_id() {
    let mut bench = Bench::new();
    let body = Beat::first("", &["t"]).body();
    let Reply::ConsumerGroupHeartbeat(joined) = bench.ask(0, Body::ConsumerGroupHeartbeat(body))
    else {
        panic!("another kind of answer")
    };
    assert_eq!(joined.error_code, 0);
    assert_eq!(joined.member_id.map(|id| id.len()), Some(36));
}

#[test]
fn a_full_group_refuses_newcomers_but_not_its_own() {
    let mut bench = Bench::with(Settings {
        consumer_members_max: 1,
        ..Settings::default()
    });
    bench.consumer(Beat::first("a", &["t"]));
    let refused = bench.consumer(Beat::first("b", &["t"]));
    assert_eq!(error(&refused), ErrorCode::GroupMaxSizeReached);
    assert_eq!(bench.consumer(Beat::at("a", 1)).error_code, 0);
}

#[test]
fn a_refused_heartbeat_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let logged = bench.log.len();
    let beat = Beat {
        topics: None,
        regex: Some("("),
        ..Beat::first("a", &[])
    };
    bench.consumer(beat);
    assert_eq!(bench.log.len(), logged);
    assert!(bench.coordinator.groups().is_empty());
}

#[test]
fn a_described_group_shows_what_members_have_and_are_to_have() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    bench.consumer(Beat::first("b", &["t"]));
    let reply = bench.ask(1, Body::ConsumerGroupDescribe(GROUP.to_owned()));
    let Reply::ConsumerGroupDescribe(told) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(told.group_state, text("Reconciling"));
    assert_eq!((told.group_epoch, told.assignment_epoch), (2, 2));
    assert_eq!(told.assignor_name, text("uniform"));
    let a = &told.members[0];
    assert_eq!((a.member_epoch, a.member_type), (1, 1));
    assert_eq!(a.assignment.topic_partitions[0].partitions, [0, 1, 2, 3]);
    assert_eq!(a.target_assignment.topic_partitions[0].partitions, [0, 1]);
    let reply = bench.ask(1, Body::ConsumerGroupDescribe("none".to_owned()));
    let Reply::ConsumerGroupDescribe(told) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(code(told.error_code), ErrorCode::GroupIdNotFound);
}
