//! `corelane bench` from outside: each mode against a broker of its own, briefly, with what it says
//! of itself. No figure is judged here: this machine is busy with other tests.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_corelane");

/// A broker on a free port; killed when it is dropped.
struct Broker {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Broker {
    fn start() -> Broker {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"])
            .args(["--cores", "1", "--memory", "64MiB", "--data-dir"])
            .arg(directory.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("standard output"));
        out.read_line(&mut line).expect("a line");
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("kafka="));
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Broker {
            child,
            address,
            directory,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Measures for half a second; the result must be valid.
    fn bench(&self, words: &str) -> Value {
        let (code, outcome, told) = self.try_bench(words);
        assert_eq!(code, Some(0), "{words}: {outcome} {told}");
        assert_eq!(outcome["validity"]["good"], true, "{words}: {outcome}");
        outcome
    }

    fn try_bench(&self, words: &str) -> (Option<i32>, Value, String) {
        let output = Command::new(PROGRAM)
            .arg("bench")
            .args(words.split(' '))
            .args(["--seconds", "0.5", "--warm-up", "0.1", "--json", "-"])
            .args(["--broker", &self.address])
            .args(["--broker-pid", &self.child.id().to_string()])
            .output()
            .expect("the program starts");
        let outcome = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), outcome, told)
    }

    fn topics(&self) -> String {
        let output = Command::new(PROGRAM)
            .args(["topic", "list", "--names", "--broker", &self.address])
            .output();
        String::from_utf8(output.expect("the program starts").stdout).expect("names")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(outcome: &Value, path: &str) -> f64 {
    let value = outcome.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {path} in {outcome}"))
}

#[test]
fn every_mode_measures_and_its_records_are_all_there() {
    let broker = Broker::start();
    let produced = broker.bench("produce --verify full --record-bytes 200");
    assert!(number(&produced, "/written/records") > 0.0);
    assert!(number(&produced, "/acknowledged/p99") > 0.0);
    let acknowledged = number(&produced, "/validity/acknowledged");
    assert_eq!(number(&produced, "/validity/log_growth"), acknowledged);
    assert_eq!(number(&produced, "/validity/read"), acknowledged);
    assert!(number(&produced, "/broker/resident") > 0.0);

    let consumed = broker.bench("consume --fill 1MiB");
    assert!(number(&consumed, "/caught_up/records") > 0.0);
    let once = broker.bench("consume --fill 1MiB --once --partitions 3");
    assert!(number(&once, "/caught_up/bytes") >= 1e6);

    let end_to_end = broker.bench("end-to-end --rate 500");
    assert!(number(&end_to_end, "/end_to_end/p50") > 0.0);
    broker.bench("mixed --partitions 4 --consumers 2");

    let fan_out = broker.bench("fan-out --rate 500 --readers 3 --partitions 5");
    let sent = number(&fan_out, "/validity/acknowledged");
    assert_eq!(number(&fan_out, "/validity/read"), 3.0 * sent);

    let catch_up = broker.bench("catch-up --rate 500 --readers 2 --fill 1MiB");
    assert!(number(&catch_up, "/caught_up/records") >= 2000.0);

    let many = broker.bench("many-partitions --partitions 20 --rate 1000 --verify full");
    assert!(number(&many, "/written/records") > 0.0);
    broker.bench("many-partitions --partitions 20 --partitions-per-request 7 --verify full");

    let idle = broker.bench("connections --idle 50");
    assert_eq!(number(&idle, "/connected/count"), 50.0);
    assert_eq!(broker.topics(), "", "topics of a run go with it");
}

#[test]
fn an_open_loop_sends_what_the_rate_says_with_every_kind_of_record() {
    let broker = Broker::start();
    for words in [
        "--compression zstd --linger 5",
        "--key-bytes 16 --keys 10 --compression lz4",
        "--acks 1 --no-idempotence",
        "--acks 0",
        "--record-bytes 32 --batch-bytes 1000000",
    ] {
        let outcome = broker.bench(&format!("produce --rate 400 --producers 3 {words}"));
        // 0.6 seconds at 400 a second, from three connections that begin one after the other.
        assert_eq!(number(&outcome, "/validity/sent"), 240.0, "{words}");
        assert_eq!(number(&outcome, "/validity/log_growth"), 240.0, "{words}");
        // Where the warm-up ends, each connection may have a record on either side.
        let measured = number(&outcome, "/acknowledged/count");
        assert!((197.0..=203.0).contains(&measured), "{words}: {measured}");
    }
}

#[test]
fn a_ladder_names_the_knee_and_results_come_as_files() {
    let broker = Broker::start();
    let (json, html, hgrm) = (
        broker.path("a.json"),
        broker.path("a.html"),
        broker.path("a"),
    );
    let output = Command::new(PROGRAM)
        .args([
            "bench",
            "produce",
            "--rates",
            "100,300",
            "--seconds",
            "0.5",
            "--warm-up",
            "0",
        ])
        .args(["--topic", "kept", "--broker", &broker.address])
        .args([
            "--json".as_ref(),
            json.as_os_str(),
            "--html".as_ref(),
            html.as_os_str(),
        ])
        .args(["--hgrm".as_ref(), hgrm.as_os_str()])
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("LATENCY") && text.contains("valid: "),
        "{text}"
    );
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    let outcome: Value = serde_json::from_str(&read(&json)).expect("JSON");
    assert_eq!(outcome["ladder"].as_array().map(Vec::len), Some(2));
    let page = read(&html);
    assert!(page.contains("<svg") && page.contains("Latency by rate"));
    assert!(!page.contains("<script") && !page.contains("http://127"));
    assert!(read(&broker.path("a.acknowledged.hgrm")).contains("Total count"));
    assert_eq!(broker.topics(), "kept\n");
}

#[test]
fn what_cannot_be_measured_is_said_in_a_line() {
    let broker = Broker::start();
    for (words, code, expected) in [
        (
            "produce --record-bytes 8",
            2,
            "--record-bytes 8: 32 at least",
        ),
        ("produce --rate 0", 2, "--rate"),
        ("produce --config nonsense", 2, "KEY=VALUE"),
        ("consume --fill lots", 2, "a size such as 512MiB"),
    ] {
        let (status, _, told) = broker.try_bench(words);
        assert_eq!(status, Some(code), "{words}: {told}");
        assert!(told.contains(expected), "{words}: {told}");
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
    }
}
