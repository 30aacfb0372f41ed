//! Kafka's own test of compaction, `kafka.tools.LogCompactionTester`: it produces keys again and again,
//! some of them as tombstones, reads what is left, and compares the last value of each key.

use crate::broker::Broker;
use crate::clients;

/// Small segments that are cleaned as soon as they are full, so that there is something to find.
const CONFIGS: [(&str, &str); 3] = [
    ("log.segment.bytes", "1048576"),
    ("log.cleaner.backoff.ms", "100"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
];

/// Runs the tester and gives how many rows it produced and consumed.
fn test(codec: &str, percent_deletes: u32) -> (u64, u64) {
    let broker = Broker::under_test_with(&CONFIGS).unwrap_or_else(|error| panic!("{error}"));
    let mut tester =
        clients::java("kafka.tools.LogCompactionTester").unwrap_or_else(|error| panic!("{error}"));
    tester.args(["--bootstrap-server", broker.bootstrap()]);
    tester.args(["--messages", "300000", "--sleep", "5"]);
    tester.args(["--compression-type", codec]);
    tester.args(["--percent-deletes", &percent_deletes.to_string()]);
    let said = clients::run(&mut tester).unwrap_or_else(|error| panic!("{error}"));
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(" 0 mismatches"), "{said}");
    assert!(said.contains("Data verification is completed"), "{said}");
    let rows = said
        .lines()
        .find(|line| line.contains("rows of data produced"));
    let rows = rows.unwrap_or_else(|| panic!("{said}"));
    let mut numbers = rows.split_whitespace().filter_map(|word| word.parse().ok());
    let pair = (numbers.next(), numbers.next());
    println!("{codec}, {percent_deletes} % deletes: {rows}");
    (pair.0.expect("produced"), pair.1.expect("consumed"))
}

#[test]
fn interop_compaction_kafkas_own_tester_finds_the_last_value_of_each_key() {
    for (codec, percent_deletes) in [("none", 0), ("zstd", 10)] {
        let (produced, consumed) = test(codec, percent_deletes);
        assert!(
            consumed * 4 < produced * 3,
            "{consumed} of {produced} are left: nothing was cleaned"
        );
    }
}
