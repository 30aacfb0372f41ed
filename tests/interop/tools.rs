//! Kafka's own command-line tools: one script, run against Apache Kafka and against the broker under test.
//! What they print is normalised (ids, addresses, times) and compared line by line; the differences that are
//! meant stand in `ALLOWED`, each with its reason.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};

use crate::broker::{Broker, Kind};
use crate::clients;

/// The tools by the names of their scripts.
const TOOLS: [(&str, &str); 16] = [
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    (
        "kafka-delete-records",
        "org.apache.kafka.tools.DeleteRecordsCommand",
    ),
    (
        "kafka-broker-api-versions",
        "org.apache.kafka.tools.BrokerApiVersionsCommand",
    ),
    ("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
    ("kafka-dump-log", "kafka.tools.DumpLogSegments"),
    (
        "kafka-consumer-groups",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    ),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
    (
        "kafka-metadata-quorum",
        "org.apache.kafka.tools.MetadataQuorumCommand",
    ),
    ("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
    (
        "kafka-console-producer",
        "org.apache.kafka.tools.ConsoleProducer",
    ),
    (
        "kafka-console-consumer",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    (
        "kafka-verifiable-producer",
        "org.apache.kafka.tools.VerifiableProducer",
    ),
    (
        "kafka-verifiable-consumer",
        "org.apache.kafka.tools.VerifiableConsumer",
    ),
];

/// Lines that may differ: (what the step's command contains, the lines, why). A line that matches is left out
/// on both sides.
const ALLOWED: [(&str, &str, &str); 9] = [
    (
        "kafka-configs --describe",
        r"^flush\.messages=",
        "what is acked is on stable storage: the default is 1, not never",
    ),
    (
        "kafka-features",
        r"kraft\.version",
        "a feature of Kafka's own controller quorum",
    ),
    (
        "kafka-metadata-quorum",
        r"^CurrentVoters",
        "one node, a quorum of one: there is no listener for controllers",
    ),
    (
        "kafka-broker-api-versions",
        r"Sasl|AlterClientQuotas",
        "security and quotas are not served yet",
    ),
    (
        "kafka-broker-api-versions",
        r"^(Fetch|FindCoordinator|ListTransactions|OffsetCommit|Produce)\(",
        "their newest versions belong to replication (Fetch 18), share groups (FindCoordinator 6) and transactions (Produce 12 and 13)",
    ),
    (
        "kafka-broker-api-versions",
        r"Share|Streams|DelegationToken|RaftVoter|Telemetry|ReplicaLogDirs|Txn|Transactions|Scram|Unregister",
        "APIs of Kafka's share and streams groups, of delegation tokens and of later issues are not served",
    ),
    (
        "kafka-features",
        r"eligible\.leader\.replicas|share\.version|transaction\.version",
        "features of replication, share groups and transactions, which are not served yet",
    ),
    (
        "kafka-configs --describe",
        r"^min\.insync\.replicas=1",
        "Kafka 4.1 turns eligible leader replicas on and therefore writes this default as a dynamic one",
    ),
    (
        "kafka-configs --describe",
        r"^(local\.retention|remote\.)",
        "tiered storage is not served",
    ),
];

/// How long one tool may take.
const STEP_MAX: Duration = Duration::from_secs(60);

/// One tool's run, as it is compared.
struct Step {
    command: String,
    lines: Vec<String>,
}

/// A JVM that runs tools against one broker and writes down what they say.
struct Session {
    process: Child,
    asks: ChildStdin,
    answers: Receiver<String>,
    bootstrap: String,
    scratch: PathBuf,
    steps: Vec<Step>,
}

impl Session {
    fn start(broker: &Broker) -> Session {
        let mut tools = clients::java("Tools").unwrap_or_else(|error| panic!("{error}"));
        tools
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = tools.spawn().expect("java");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let (answered, answers) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| answered.send(line))
        });
        Session {
            asks: process.stdin.take().expect("a pipe"),
            answers,
            process,
            bootstrap: broker.bootstrap().to_owned(),
            scratch: broker.scratch().to_owned(),
            steps: Vec::new(),
        }
    }

    /// Runs `kafka-something --and its --arguments` with `--bootstrap-server`.
    fn run(&mut self, command: &str) {
        self.run_with(command, "");
    }

    fn run_with(&mut self, command: &str, stdin: &str) {
        let mut words = command.split_whitespace().map(|word| self.filled(word));
        let tool = words.next().expect("a tool");
        let (_, class) = TOOLS
            .iter()
            .find(|(name, _)| *name == tool)
            .expect("a known tool");
        let mut arguments: Vec<String> = words.collect();
        let broker = ["--bootstrap-server".to_owned(), self.bootstrap.clone()];
        match tool.as_str() {
            "kafka-dump-log" => {}
            // Their verbs have options of their own, which follow.
            "kafka-metadata-quorum" | "kafka-features" => drop(arguments.splice(0..0, broker)),
            _ => arguments.extend(broker),
        }
        let said = match tool.as_str() {
            // These finish their work in hooks of the JVM itself.
            "kafka-verifiable-producer" | "kafka-verifiable-consumer" => alone(class, &arguments),
            _ => self.ask(class, &arguments, stdin),
        };
        let lines = self.normalised(&said);
        self.steps.push(Step {
            command: command.to_owned(),
            lines,
        });
    }

    fn ask(&mut self, class: &str, arguments: &[String], stdin: &str) -> String {
        let ask = json!({"class": class, "arguments": arguments, "stdin": stdin});
        writeln!(self.asks, "{ask}").expect("the tools listen");
        let line = self.answers.recv_timeout(STEP_MAX);
        let line = line.unwrap_or_else(|error| panic!("{class} {arguments:?}: {error}"));
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        let mut said = format!(
            "exit {}\n{}",
            answer["exit"],
            answer["out"].as_str().expect("text")
        );
        if answer["exit"] != 0 {
            said.push_str(&complaint(answer["err"].as_str().expect("text")));
        }
        said
    }

    /// `{scratch}` is where files for a tool lie.
    fn filled(&self, word: &str) -> String {
        word.replace("{scratch}", &self.scratch.display().to_string())
    }

    fn normalised(&self, said: &str) -> Vec<String> {
        let replaced = [
            (r"[ \t]+", " "),
            (r"127\.0\.0\.1:\d+|localhost:\d+", "<address>"),
            (
                r"[\w./-]+-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "<member>",
            ),
            // Kafka's way to write a UUID: topics, members, directories, the cluster.
            (r"\b[\w-]{22}(\s|$)", "<uuid>$1"),
            (r"\b1[6-9]\d{11}\b", "<milliseconds>"),
            (
                r"\b(crc|producerId|position|size|Epoch|LeaderEpoch|HighWatermark): \d+",
                "$1: <number>",
            ),
            (
                r#""(totalBytes|usableBytes|avg_throughput)":[\d.]+|"(size)":[1-9]\d*"#,
                "$1$2:<number>",
            ),
            // Kafka 4.1 writes this default as a dynamic config of the cluster (see ALLOWED).
            (r"Configs: min\.insync\.replicas=1,?", "Configs: "),
            (r"(?m)^(\d+\s+<uuid>\s+)\d+", "$1<end>"),
        ];
        let mut text = said.replace(&self.scratch.display().to_string(), "<scratch>");
        for (pattern, with) in replaced {
            text = Regex::new(pattern)
                .expect("a pattern")
                .replace_all(&text, with)
                .into_owned();
        }
        text.lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    }

    fn end(mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a tool in a JVM of its own.
fn alone(class: &str, arguments: &[String]) -> String {
    let program = clients::java(class);
    let ran = program.and_then(|mut program| clients::run(program.args(arguments)));
    ran.map_or_else(
        |error| error,
        |out| format!("exit 0\n{}", String::from_utf8_lossy(&out)),
    )
}

/// The lines that a person would read: no stack traces, no log lines.
fn complaint(err: &str) -> String {
    let log = Regex::new(r"^(\[?\d{4}-|\s+at |\s+\.\.\. |WARNING)").expect("a pattern");
    err.lines()
        .filter(|line| !log.is_match(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Where the two transcripts differ, after what is allowed.
fn differences(yardstick: &[Step], seen: &[Step]) -> Vec<String> {
    let mut found = Vec::new();
    for (wanted, seen) in yardstick.iter().zip(seen) {
        let allowed: Vec<Regex> = ALLOWED
            .iter()
            .filter(|(step, _, _)| wanted.command.contains(step))
            .map(|(_, lines, _)| Regex::new(lines).expect("a pattern"))
            .collect();
        let compared = |step: &Step| -> Vec<String> {
            let lines = step.lines.iter();
            lines
                .filter(|line| !allowed.iter().any(|each| each.is_match(line)))
                .cloned()
                .collect()
        };
        let (wanted_lines, seen_lines) = (compared(wanted), compared(seen));
        if wanted_lines == seen_lines {
            continue;
        }
        found.push(format!("$ {}", wanted.command));
        let missing = wanted_lines
            .iter()
            .filter(|line| !seen_lines.contains(line));
        found.extend(missing.map(|line| format!("  kafka only: {line}")));
        let added = seen_lines
            .iter()
            .filter(|line| !wanted_lines.contains(line));
        found.extend(added.map(|line| format!("  ours only:  {line}")));
        let (mut left, mut right) = (wanted_lines, seen_lines);
        left.sort();
        right.sort();
        if left == right {
            found.push("  the same lines in another order".to_owned());
        }
    }
    found
}

/// Runs a script against Apache Kafka and against the broker under test, at the same time.
fn compare(script: fn(&mut Broker) -> Vec<Step>) {
    let yardstick = std::thread::spawn(move || {
        let mut kafka = Broker::start(Kind::Kafka).unwrap_or_else(|error| panic!("{error}"));
        script(&mut kafka)
    });
    let mut broker = Broker::under_test().unwrap_or_else(|error| panic!("{error}"));
    let seen = script(&mut broker);
    let yardstick = yardstick.join().expect("Apache Kafka ran the script");
    assert_eq!(yardstick.len(), seen.len());
    if std::env::var("CORELANE_INTEROP_TRANSCRIPT").is_ok() {
        for step in &yardstick {
            println!("$ {}\n{}\n", step.command, step.lines.join("\n"));
        }
    }
    let found = differences(&yardstick, &seen);
    assert!(
        found.is_empty(),
        "Kafka's tools see a difference:\n{}",
        found.join("\n")
    );
}

fn write_file(directory: &Path, name: &str, content: &Value) {
    std::fs::write(directory.join(name), content.to_string())
        .expect("a file in the scratch directory");
}

/// Lines `1` to `count`, as the console producer takes them.
fn lines(count: usize) -> String {
    (1..=count)
        .map(|number| format!("key{}\tvalue {number}\n", number % 3))
        .collect()
}

const PRODUCE: &str =
    "kafka-console-producer --property parse.key=true --producer-property linger.ms=500";

#[test]
fn interop_tools_topics_offsets_and_logs_answer_as_kafkas_do() {
    compare(topics_offsets_and_logs);
}

/// Issue 2, item 2.
fn topics_offsets_and_logs(broker: &mut Broker) -> Vec<Step> {
    let mut session = Session::start(broker);
    session.run("kafka-topics --create --topic tools --partitions 3 --config retention.ms=7200000");
    session.run("kafka-topics --create --topic tools");
    session.run("kafka-topics --create --topic tools --if-not-exists");
    session.run("kafka-topics --create --topic one --partitions 1");
    session.run("kafka-topics --create --topic single --partitions 1");
    session.run("kafka-topics --create --topic no/good");
    session.run("kafka-topics --create --topic many --replication-factor 3");
    session.run("kafka-topics --create --topic none --partitions 0");
    session.run("kafka-topics --create --topic odd --config no.such.config=1");
    session.run("kafka-topics --create --topic odd --config retention.ms=soon");
    session.run("kafka-topics --list");
    session.run("kafka-topics --describe --topic tools");
    session.run("kafka-topics --describe --topic missing");
    session.run("kafka-topics --describe --under-replicated-partitions");
    session.run_with(&format!("{PRODUCE} --topic one"), &lines(50));
    session.run("kafka-get-offsets --topic one");
    session.run("kafka-get-offsets --topic one --time earliest");
    session.run_with(&format!("{PRODUCE} --topic single"), &lines(1));
    session.run("kafka-get-offsets --topic single --time max-timestamp");
    session.run("kafka-get-offsets --topic one --time 1000");
    session.run("kafka-get-offsets --topic-partitions tools:1,one:0");
    session.run("kafka-topics --alter --topic tools --partitions 5");
    session.run("kafka-topics --alter --topic tools --partitions 2");
    session.run("kafka-topics --describe --topic tools");
    let first =
        json!({"version": 1, "partitions": [{"topic": "one", "partition": 0, "offset": 20}]});
    write_file(&session.scratch, "delete.json", &first);
    session.run("kafka-delete-records --offset-json-file {scratch}/delete.json");
    session.run("kafka-get-offsets --topic one --time earliest");
    let beyond =
        json!({"version": 1, "partitions": [{"topic": "one", "partition": 0, "offset": 99}]});
    write_file(&session.scratch, "beyond.json", &beyond);
    session.run("kafka-delete-records --offset-json-file {scratch}/beyond.json");
    session.run(
        "kafka-console-consumer --topic one --from-beginning --max-messages 30 --timeout-ms 30000",
    );
    session.run("kafka-console-consumer --topic one --partition 0 --offset 48 --max-messages 2 --timeout-ms 30000");
    session.run("kafka-broker-api-versions");
    session.run("kafka-cluster cluster-id");
    session.run("kafka-topics --delete --topic tools");
    session.run("kafka-topics --delete --topic tools");
    session.run("kafka-topics --list");
    dump_log(&mut session, broker);
    session.end()
}

/// Reads segments as they lie on the disk after a clean stop; a broker that we did not start keeps its own.
fn dump_log(session: &mut Session, broker: &mut Broker) {
    session.run("kafka-topics --create --topic dumped --partitions 1");
    session.run_with(
        &format!("{PRODUCE} --topic dumped --compression-codec zstd"),
        &lines(20),
    );
    session.run_with(&format!("{PRODUCE} --topic dumped"), &lines(5));
    if broker.stop() {
        let segment = "{scratch}/data/dumped-0/00000000000000000000.log";
        session.run(&format!(
            "kafka-dump-log --deep-iteration --print-data-log --files {segment}"
        ));
    }
}

#[test]
fn interop_tools_groups_and_configs_answer_as_kafkas_do() {
    compare(groups_and_configs);
}

/// Issue 3, item 4.
fn groups_and_configs(broker: &mut Broker) -> Vec<Step> {
    let mut session = Session::start(broker);
    session.run("kafka-topics --create --topic shelf --partitions 2");
    session.run_with(&format!("{PRODUCE} --topic shelf"), &lines(30));
    offsets_of_groups(&mut session);
    members_of_groups(&mut session);
    configs(&mut session);
    for command in [
        "kafka-log-dirs --describe --topic-list shelf",
        "kafka-features describe",
        "kafka-metadata-quorum describe --status",
        "kafka-metadata-quorum describe --replication",
        "kafka-topics --create --topic verified --partitions 1",
        "kafka-verifiable-producer --topic verified --max-messages 10 --acks -1",
        "kafka-verifiable-consumer --topic verified --group-id verified --max-messages 10 --reset-policy earliest",
    ] {
        session.run(command);
    }
    session.end()
}

fn offsets_of_groups(session: &mut Session) {
    for command in [
        "kafka-consumer-groups --list",
        "kafka-consumer-groups --describe --group readers",
        "kafka-console-consumer --topic shelf --group readers --from-beginning --max-messages 30 --timeout-ms 30000",
        "kafka-consumer-groups --list --state",
        "kafka-consumer-groups --describe --group readers",
        "kafka-consumer-groups --describe --group readers --state",
        "kafka-consumer-groups --describe --group readers --members",
        "kafka-consumer-groups --reset-offsets --group readers --topic shelf --to-earliest --dry-run",
        "kafka-consumer-groups --reset-offsets --group readers --topic shelf --to-earliest --execute",
        "kafka-consumer-groups --reset-offsets --group readers --topic shelf --shift-by 3 --execute",
        "kafka-consumer-groups --reset-offsets --group readers --topic shelf:0 --to-offset 1 --execute",
        "kafka-consumer-groups --reset-offsets --group readers --topic shelf --to-datetime 2001-01-01T00:00:00.000 --execute",
        "kafka-consumer-groups --reset-offsets --group readers --topic shelf --to-latest --execute",
        "kafka-consumer-groups --describe --group readers --offsets",
        "kafka-consumer-groups --delete-offsets --group readers --topic shelf:1",
        "kafka-consumer-groups --describe --group readers",
        "kafka-groups --list",
        "kafka-consumer-groups --delete --group readers",
        "kafka-consumer-groups --delete --group readers",
        "kafka-consumer-groups --list",
    ] {
        session.run(command);
    }
}

/// The same with members that live: one group of each generation.
fn members_of_groups(session: &mut Session) {
    for (group, assignor) in [("classics", "range"), ("moderns", "consumer")] {
        let member =
            crate::groups::Member::start_java(&session.bootstrap, group, "shelf", assignor);
        member.wait_for_a_record();
        for view in ["", "--members --verbose", "--state"] {
            session.run(&format!(
                "kafka-consumer-groups --describe --group {group} {view}"
            ));
        }
        session.run(&format!("kafka-consumer-groups --delete --group {group}"));
        session.run("kafka-groups --list");
        member.leave().unwrap_or_else(|error| panic!("{error}"));
        session.run(&format!(
            "kafka-consumer-groups --describe --group {group} --state"
        ));
    }
}

fn configs(session: &mut Session) {
    for command in [
        "kafka-configs --describe --entity-type topics --entity-name shelf",
        "kafka-configs --alter --entity-type topics --entity-name shelf --add-config retention.ms=3600000,cleanup.policy=compact",
        "kafka-configs --describe --entity-type topics --entity-name shelf",
        "kafka-configs --alter --entity-type topics --entity-name shelf --delete-config cleanup.policy",
        "kafka-configs --describe --entity-type topics --entity-name shelf --all",
        "kafka-configs --alter --entity-type topics --entity-name shelf --add-config no.such.config=1",
        "kafka-configs --alter --entity-type topics --entity-name shelf --add-config min.insync.replicas=0",
        "kafka-configs --alter --entity-type topics --entity-name missing --add-config retention.ms=1",
        "kafka-configs --alter --entity-type brokers --entity-default --add-config log.retention.ms=7200000",
        "kafka-configs --describe --entity-type brokers --entity-default",
        "kafka-configs --describe --entity-type brokers --entity-name 1",
        "kafka-configs --alter --entity-type brokers --entity-default --delete-config log.retention.ms",
    ] {
        session.run(command);
    }
}
