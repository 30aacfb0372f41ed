//! What is said, and what a node makes of it.

use super::file;
use super::gather::{Gathering, Machine};
use super::*;

fn gather(given: Given, text: &str) -> Result<(Options, Vec<String>), Refused> {
    let machine = Machine {
        cpus: vec![0, 1, 2, 3, 6],
        memory_bytes: Some(8 << 30),
    };
    Gathering::new(given, file::parse(text).map_err(Refused)?).options(&machine)
}

fn set(items: &[&str]) -> Given {
    let set = items.iter().map(|item| (*item).to_owned()).collect();
    Given {
        set,
        ..Given::default()
    }
}

fn refusal(given: Given, text: &str) -> String {
    let Refused(why) = gather(given, text).expect_err("a refusal");
    assert!(!why.contains('\n'), "{why}");
    why
}

#[test]
fn nothing_said_is_a_broker_for_this_machine_alone() {
    let (options, warnings) = gather(Given::default(), "").expect("options");
    assert_eq!(options.data_directories, [PathBuf::from("./corelane-data")]);
    assert_eq!(options.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(
        options.admin.map(|admin| admin.to_string()).as_deref(),
        Some("127.0.0.1:9644")
    );
    assert_eq!(options.cpus, [0, 1, 2, 3, 6]);
    assert_eq!(options.memory_bytes, 5 * (128 << 20));
    assert_eq!(options.advertise, None);
    assert!(options.hand_over && options.configs.is_empty() && warnings.is_empty());
}

#[test]
fn a_flag_beats_set_beats_the_files_own_key_beats_its_kafka_name() {
    let text = "listen = '127.0.0.1:1'\n[kafka]\nlisteners = 'PLAINTEXT://127.0.0.1:2'";
    let port = |given: Given, text: &str| gather(given, text).expect("options").0.listen.port();
    let listeners = set(&["listeners=PLAINTEXT://127.0.0.1:3"]);
    let mut flag = listeners.clone();
    flag.listen = Some("127.0.0.1:4".to_owned());
    assert_eq!(port(flag, text), 4);
    assert_eq!(port(listeners, text), 3);
    assert_eq!(port(Given::default(), text), 1);
    let (_, kafka_only) = text.split_once('\n').expect("two lines");
    assert_eq!(port(Given::default(), kafka_only), 2);
}

#[test]
fn kafka_names_in_a_file_may_be_quoted_dotted_or_in_a_table() {
    for text in [
        "log.retention.hours = 5",
        "\"log.retention.hours\" = \"5\"",
        "[kafka]\nlog.retention.hours = 5",
        "[kafka.log]\nretention.hours = 5",
    ] {
        let (options, warnings) = gather(Given::default(), text).expect(text);
        let value = options.configs.get("log.retention.hours");
        assert_eq!(value.map(String::as_str), Some("5"), "{text}");
        assert!(warnings.is_empty(), "{text}: {warnings:?}");
    }
    let lists = "log.cleanup.policy = ['compact', 'delete']\ndata-dir = ['/a', '/b']";
    let (options, _) = gather(Given::default(), lists).expect("lists");
    assert_eq!(
        options
            .configs
            .get("log.cleanup.policy")
            .map(String::as_str),
        Some("compact,delete")
    );
    assert_eq!(
        options.data_directories,
        [PathBuf::from("/a"), PathBuf::from("/b")]
    );
}

#[test]
fn an_unknown_key_is_a_warning_that_names_the_nearest() {
    let given = set(&["log.retention.hour=5"]);
    let (_, warnings) = gather(given, "listn = '127.0.0.1:1'\nzzz = 1").expect("options");
    assert!(
        warnings[0].contains("did you mean log.retention.hours?"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("did you mean listen?"), "{warnings:?}");
    assert!(!warnings[2].contains("did you mean"), "{warnings:?}");
}

#[test]
fn a_bad_value_is_refused_with_key_value_and_range() {
    let why = refusal(set(&["log.segment.bytes=7"]), "");
    for word in ["log.segment.bytes", "7", "at least"] {
        assert!(why.contains(word), "{why}");
    }
    let given = |change: fn(&mut Given)| {
        let mut given = Given::default();
        change(&mut given);
        given
    };
    let why = refusal(given(|given| given.cores = Some("9".into())), "");
    assert!(why.contains("--cores") && why.contains("1 to 5"), "{why}");
    let why = refusal(given(|given| given.memory = Some("1M".into())), "");
    assert!(
        why.contains("from 80MiB") && why.contains("to 8GiB"),
        "{why}"
    );
    let why = refusal(given(|given| given.listen = Some("nine".into())), "");
    assert!(
        why.contains("--listen") && why.contains("HOST:PORT"),
        "{why}"
    );
    let why = refusal(given(|given| given.admin = Some("nine".into())), "");
    assert!(why.contains("or off"), "{why}");
    assert!(refusal(set(&["log.dirs"]), "").contains("KEY=VALUE"));
    assert!(refusal(Given::default(), "a = 1\nlisten =").contains("line 2"));
}

#[test]
fn cores_are_a_number_or_a_list() {
    let cpus = |text: &str| {
        let cores = Some(text.to_owned());
        let given = Given {
            cores,
            ..Given::default()
        };
        gather(given, "").map(|(options, _)| options.cpus).ok()
    };
    assert_eq!(cpus("2"), Some(vec![0, 1]));
    assert_eq!(cpus("3, 0-1"), Some(vec![3, 0, 1]));
    assert_eq!(cpus("6-6"), Some(vec![6]));
    for wrong in ["0", "1-2,2", "2-6", "5,6", "3-1", "", "x", "0-99999999999"] {
        assert_eq!(cpus(wrong), None, "{wrong}");
    }
}

#[test]
fn sizes_have_units() {
    use super::quantities::{bytes, shown};
    assert_eq!(bytes("512MiB"), Ok(512 << 20));
    assert_eq!(bytes("2G"), Ok(2 << 30));
    assert_eq!(bytes("3 kb"), Ok(3000));
    assert_eq!(bytes("7"), Ok(7));
    assert!(bytes("G").is_err() && bytes("1.5G").is_err() && bytes("99999999999T").is_err());
    assert_eq!(
        (shown(512 << 20), shown(1000)),
        ("512MiB".into(), "1000".into())
    );
}

#[test]
fn kafkas_listeners_are_honoured_as_far_as_there_is_one_in_plaintext() {
    let both = set(&[
        "listeners=PLAINTEXT://:9099,CONTROLLER://:9093",
        "controller.listener.names=CONTROLLER",
        "advertised.listeners=PLAINTEXT://broker.example:9099",
        "log.dirs=/a,/b",
        "node.id=7",
    ]);
    let (options, warnings) = gather(both, "").expect("options");
    assert_eq!(options.listen.to_string(), "0.0.0.0:9099");
    assert_eq!(options.advertise, Some(("broker.example".into(), 9099)));
    assert_eq!(options.data_directories.len(), 2);
    assert_eq!(
        options.configs.get("node.id").map(String::as_str),
        Some("7")
    );
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(refusal(set(&["listeners=SSL://:9093"]), "").contains("only PLAINTEXT"));
    let two = [
        "listeners=A://:1,B://:2",
        "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT",
    ];
    assert!(refusal(set(&two), "").contains("only one listener"));
    assert!(refusal(set(&["advertised.listeners=PLAINTEXT://:1"]), "").contains("clients need"));
}
