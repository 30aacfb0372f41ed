//! Large groups and many groups: nothing here is timed, but what is quadratic would be felt.

use super::*;

#[test]
fn five_hundred_classic_members_rebalance() {
    let mut bench = Bench::eager();
    let first = bench.join_with_id(Join::default());
    bench.pass_ms(1);
    let mut members = vec![first];
    for _ in 1..500 {
        members.push(bench.join_with_id(Join::default()));
    }
    bench.pass_ms(60_000);
    let stale = members.remove(0);
    assert_eq!(bench.joined(stale.1).generation_id, 1);
    let joins: Vec<_> = members
        .iter()
        .map(|(_, token)| bench.joined(*token))
        .collect();
    assert!(joins.iter().all(|join| join.generation_id == 2));
    assert_eq!(joins.iter().map(|join| join.members.len()).max(), Some(499));
}

#[test]
fn five_hundred_members_of_the_new_protocol_settle() {
    let mut bench = Bench::new();
    bench.topic(3, "wide", 1_000);
    let names: Vec<String> = (0..500).map(|number| format!("m{number:03}")).collect();
    let mut members: Vec<(i32, Owned)> = Vec::new();
    for name in &names {
        let response = bench.consumer(Beat::first(name, &["wide"]));
        members.push((response.member_epoch, given(&response).unwrap_or_default()));
    }
    for round in 0.. {
        assert!(round < 6, "not settled");
        for (name, (epoch, mine)) in names.iter().zip(&mut members) {
            let owned = Some(mine.clone());
            let response = bench.consumer(Beat {
                owned,
                ..Beat::at(name, *epoch)
            });
            assert_eq!(response.error_code, 0);
            *epoch = response.member_epoch;
            *mine = given(&response).unwrap_or(mine.clone());
        }
        if bench.state() == "Stable" {
            break;
        }
    }
    assert!(members.iter().all(|(_, mine)| mine[&3].len() == 2));
}

#[test]
fn a_thousand_groups_are_listed_and_beaten_for() {
    let mut bench = Bench::eager();
    for number in 0..1_000 {
        let group = format!("g{number}");
        let token = bench.join(Join {
            version: 0,
            group: &group,
            ..Join::default()
        });
        bench.pass_ms(1);
        assert_eq!(bench.joined(token).error_code, 0);
    }
    assert_eq!(bench.coordinator.groups().len(), 1_000);
}
