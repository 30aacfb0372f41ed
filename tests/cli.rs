//! The program from outside: each command against a broker of its own, with what it prints and how
//! it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_corelane");

/// A broker on a free port; killed when it is dropped.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(directory: &Path) -> Broker {
        let mut child = Command::new(PROGRAM)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "off",
                "--cores",
                "1",
            ])
            .args(["--memory", "64MiB", "--data-dir"])
            .arg(directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = child.stderr.take().expect("standard error");
        let logs = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("standard output"));
        out.read_line(&mut line).expect("a line");
        if !line.starts_with("ready ") {
            let _ = child.wait();
            panic!("{line:?} {}", logs.join().expect("the logs"));
        }
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("kafka="));
        let address = address.expect("the address").to_owned();
        Broker { child, address }
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let address = ["--broker", &self.address];
        run(&[arguments, &address].concat(), input)
    }

    /// Runs a command that must succeed; returns what it printed.
    fn ok(&self, arguments: &[&str], input: &[u8]) -> String {
        let ran = self.run(arguments, input);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.err);
        ran.out
    }

    /// SIGKILL, as if the power had gone but for the page cache.
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM; the exit code.
    fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.expect("kill(1)").success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input");
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("it ends");
    // A command that reads no input closes it: that is no failure here.
    let _ = writer.join();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code: status.code(),
        out: text(stdout),
        err: text(stderr),
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_topic_lives_from_create_to_delete() {
    let directory = TempDir::new().expect("a directory");
    let broker = Broker::start(directory.path());
    let create = [
        "topic",
        "create",
        "orders",
        "-p",
        "3",
        "-c",
        "retention.ms=5000000",
    ];
    assert_eq!(
        broker.ok(&create, b""),
        "created orders with 3 partitions\n"
    );
    let again = broker.run(&create, b"");
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("TOPIC_ALREADY_EXISTS"), "{}", again.err);
    assert_eq!(again.err.lines().count(), 1);
    broker.ok(&[&create[..], &["--if-not-exists"]].concat(), b"");

    assert_eq!(broker.ok(&["topic", "list", "--names"], b""), "orders\n");
    broker.ok(
        &[
            "topic",
            "alter",
            "orders",
            "-p",
            "5",
            "-c",
            "segment.ms=100000",
        ],
        b"",
    );
    let described = broker.ok(&["topic", "describe", "orders", "--json"], b"");
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described[0]["partitions"].as_array().map(Vec::len), Some(5));
    assert_eq!(described[0]["configs"]["retention.ms"], "5000000");
    assert_eq!(described[0]["configs"]["segment.ms"], "100000");
    broker.ok(
        &["topic", "alter", "orders", "--delete-config", "segment.ms"],
        b"",
    );
    let described = broker.ok(&["topic", "describe", "orders"], b"");
    assert!(!described.contains("segment.ms") && described.contains("retention.ms"));
    let fewer = broker.run(&["topic", "alter", "orders", "-p", "2"], b"");
    assert_eq!(fewer.code, Some(1));
    assert!(fewer.err.contains("INVALID_PARTITIONS"), "{}", fewer.err);

    assert_eq!(
        broker.ok(&["topic", "delete", "orders"], b""),
        "deleted orders\n"
    );
    assert_eq!(broker.ok(&["topic", "list"], b""), "");
    let gone = broker.run(&["topic", "delete", "orders"], b"");
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("no topic orders"), "{}", gone.err);
    broker.ok(&["topic", "delete", "orders", "--if-exists"], b"");
}

#[test]
fn what_is_produced_is_consumed_with_keys_headers_and_nulls_in_every_codec() {
    let directory = TempDir::new().expect("a directory");
    let broker = Broker::start(directory.path());
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        broker.ok(&["topic", "create", codec, "-p", "2"], b"");
        let lines = ["--keys", "--headers", "--null", "NULL", "--separator", ":"];
        let input = b"a=1,b:alice:one\n:bob:NULL\nc=:NULL:three\n";
        let produce = [&["produce", codec, "-z", codec][..], &lines[..]].concat();
        broker.ok(&produce, input);
        let read = broker.ok(&[&["consume", codec][..], &lines[..]].concat(), b"");
        let expected = [":bob:NULL", "a=1,b:alice:one", "c=:NULL:three"];
        assert_eq!(sorted(&read), expected, "{codec}");
    }
}

#[test]
fn reading_begins_and_ends_where_it_is_told() {
    let directory = TempDir::new().expect("a directory");
    let broker = Broker::start(directory.path());
    broker.ok(&["topic", "create", "numbers"], b"");
    let input: String = (0..5000).map(|number| format!("{number}\n")).collect();
    broker.ok(
        &["produce", "numbers", "--batch-bytes", "4096"],
        input.as_bytes(),
    );
    let consume = |more: &[&str]| broker.ok(&[&["consume", "numbers"][..], more].concat(), b"");
    assert_eq!(consume(&[]), input);
    assert_eq!(consume(&["--from", "4997"]), "4997\n4998\n4999\n");
    assert_eq!(consume(&["--from", "-2"]), "4998\n4999\n");
    assert_eq!(consume(&["--from", "7", "--count", "2"]), "7\n8\n");
    assert_eq!(consume(&["--from", "latest"]), "");
    assert_eq!(
        consume(&["--from", "1970-01-01T00:00:01Z", "-n", "1"]),
        "0\n"
    );
    assert_eq!(consume(&["--from", "9999-01-01"]), "");
    assert_eq!(consume(&["--follow", "-n", "5000"]), input);
    let outside = broker.run(&["consume", "numbers", "--from", "5001"], b"");
    assert_eq!(outside.code, Some(1));
    assert!(outside.err.contains("0 to 5000"), "{}", outside.err);
    let missing = broker.run(&["consume", "numbers", "--partition", "1"], b"");
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("no partition 1"), "{}", missing.err);
}

#[test]
fn json_goes_from_topic_to_topic_and_a_bad_line_is_named() {
    let directory = TempDir::new().expect("a directory");
    let broker = Broker::start(directory.path());
    for topic in ["old", "new"] {
        broker.ok(&["topic", "create", topic, "-p", "3"], b"");
    }
    let records = b"{\"key\":\"k\",\"value\":{\"base64\":\"/w==\"},\"headers\":{\"h\":null}}\n\
        {\"partition\":2,\"timestamp\":1700000000000,\"value\":\"v\"}\n";
    broker.ok(&["produce", "old", "--format", "json"], records);
    let read = broker.ok(&["consume", "old", "--format", "json"], b"");
    broker.ok(&["produce", "new", "--format", "json"], read.as_bytes());
    assert_eq!(
        broker.ok(&["consume", "new", "--format", "json"], b""),
        read
    );
    assert!(read.contains("\"timestamp\":1700000000000"), "{read}");
    let hex = broker.ok(&["consume", "new", "--format", "hex"], b"");
    assert_eq!(sorted(&hex), ["76", "ff"]);

    let bad = broker.run(
        &["produce", "new", "--format", "json"],
        b"{\"value\":\"3\"}\n{oops\n",
    );
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("line 2"), "{}", bad.err);
    assert_eq!(
        broker
            .ok(&["consume", "new", "--format", "hex"], b"")
            .lines()
            .count(),
        3,
        "line 1 was written"
    );
}

#[test]
fn acknowledged_records_survive_kill_9_and_inspect_sees_them() {
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().to_str().expect("a path");
    let broker = Broker::start(directory.path());
    broker.ok(&["topic", "create", "orders"], b"");
    let input: String = (0..2000)
        .map(|number| format!("order {number}\n"))
        .collect();
    broker.ok(
        &["produce", "orders", "-z", "lz4", "--batch-bytes", "2000"],
        input.as_bytes(),
    );
    broker.kill();

    let log = directory
        .path()
        .join("orders-0")
        .join(format!("{:020}.log", 0));
    let log = log.to_str().expect("a path");
    let verified = run(&["inspect", data, "--verify"], b"");
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    assert!(
        verified.out.contains("2000 records, offsets 0 to 1999"),
        "{}",
        verified.out
    );
    let batches = run(&["inspect", log, "--batches"], b"").out;
    assert!(
        batches.contains("lz4") && batches.contains("POSITION"),
        "{batches}"
    );
    let records = run(&["inspect", log, "--records"], b"").out;
    assert_eq!(records.lines().count(), 2000);
    let json = run(&["inspect", log, "--json"], b"").out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["end_offset"], 2000);

    let broker = Broker::start(directory.path());
    assert_eq!(broker.ok(&["consume", "orders"], b""), input);
    assert_eq!(broker.stop(), Some(0));
    assert_eq!(run(&["inspect", data, "--verify"], b"").code, Some(0));

    let mut bytes = std::fs::read(log).expect("the segment");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(log, bytes).expect("damage");
    let damaged = run(&["inspect", data, "--verify"], b"");
    assert_eq!(damaged.code, Some(1));
    assert!(
        damaged.out.contains("PROBLEM") && damaged.out.contains(" at "),
        "{}",
        damaged.out
    );
    assert_eq!(
        run(&["inspect", data], b"").code,
        Some(0),
        "only --verify judges"
    );
}

#[test]
fn wrong_usage_and_brokers_that_cannot_start_end_with_2_and_one_line() {
    let refused = |arguments: &[&str], word: &str| {
        let ran = run(arguments, b"");
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(word), "{arguments:?}: {}", ran.err);
        assert!(ran.out.is_empty());
    };
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().to_str().expect("a path");
    refused(&["--cores", "0"], "--cores");
    refused(
        &["serve", "--set", "log.segment.bytes=1"],
        "log.segment.bytes",
    );
    refused(&["--listen", "nowhere"], "HOST:PORT");
    refused(
        &["--config", "/does/not/exist.toml"],
        "/does/not/exist.toml",
    );
    refused(
        &["--listen", "127.0.0.1:0", "topic", "list"],
        "after the command",
    );
    refused(&["frobnicate"], "frobnicate");
    refused(&["consume"], "<TOPIC>");
    refused(&["consume", "t", "--from", "never"], "earliest");
    refused(&["inspect", "/does/not/exist"], "/does/not/exist");
    refused(&["inspect", data], "no partition");
    let _broker = Broker::start(directory.path());
    refused(
        &[
            "--data-dir",
            data,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "off",
        ],
        "in use",
    );
}

#[test]
fn without_a_broker_a_command_says_where_it_looked() {
    // Bound and let go: nobody listens there.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    drop(socket);
    let ran = run(
        &["topic", "list", "--timeout", "1", "--broker", &address],
        b"",
    );
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains(&address) && ran.err.contains("--broker"),
        "{}",
        ran.err
    );
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn help_fits_into_100_columns_and_version_is_the_packages() {
    let commands: [&[&str]; 12] = [
        &[],
        &["serve"],
        &["topic"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "alter"],
        &["topic", "delete"],
        &["produce"],
        &["consume"],
        &["inspect"],
        &["sim"],
    ];
    for command in commands {
        let ran = run(&[command, &["--help"]].concat(), b"");
        assert_eq!(ran.code, Some(0));
        let long = ran.out.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{command:?}");
    }
    let version = run(&["--version"], b"").out;
    assert_eq!(
        version.trim(),
        format!("corelane {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_simulation_is_told_by_its_seed() {
    for world in [&["--groups"][..], &["--steps", "2000"]] {
        let arguments = [&["sim", "--seed", "7", "--runs", "2"], world].concat();
        let first = run(&arguments, b"");
        assert_eq!(first.code, Some(0), "{}", first.err);
        assert_eq!(first.out.lines().count(), 2);
        assert_eq!(first.out, run(&arguments, b"").out);
    }
    let canary = run(&["sim", "--canary", "--seed", "1", "--runs", "10"], b"");
    assert_eq!(canary.code, Some(0), "{}{}", canary.out, canary.err);
    assert!(canary.out.contains("found at step"), "{}", canary.out);
}
