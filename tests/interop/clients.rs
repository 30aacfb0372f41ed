//! The client programs: fetched by name from their registries, built, and run. Knows no broker.
//!
//! Everything lands in `target/interop`; a stamp of the manifests and sources says when it must be done again.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The end of a program that hangs; its own deadlines are shorter.
const RUN_SECONDS_MAX: &str = "240";
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

type Prepared = OnceLock<Result<(), String>>;

/// `target/interop`.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target")
        .join("interop")
}

/// The committed programs of one language.
fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop")
        .join(language)
}

/// Runs a program to its end: its stdout, or what went wrong with its stderr.
pub fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let mut limited = Command::new("timeout");
    limited
        .args(["-k", "5", RUN_SECONDS_MAX])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    let shown = format!("{command:?}");
    let shown: String = shown.chars().take(400).collect();
    let output = limited
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = complaint.lines().rev().take(30).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{shown}\n{}\n{}", output.status, last.join("\n")))
}

fn require(program: &str, why: &str) -> Result<(), String> {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\" >/dev/null", program])
        .status()
        .is_ok_and(|status| status.success());
    if found {
        Ok(())
    } else {
        Err(format!("`{program}` is not installed: {why}"))
    }
}

/// Does `build` unless the same sources were built already; one process at a time.
fn prepare(language: &str, build: impl Fn(&Path) -> Result<(), String>) -> Result<(), String> {
    let to = directory().join(language);
    let told = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::create_dir_all(&to).map_err(told)?;
    let lock = File::create(directory().join(format!("{language}.lock"))).map_err(told)?;
    lock.lock().map_err(told)?;
    let stamp = stamp(&sources(language)).map_err(told)?;
    let stamped = to.join("stamp");
    if fs::read_to_string(&stamped).is_ok_and(|earlier| earlier == stamp) {
        return Ok(());
    }
    build(&to).map_err(|error| format!("preparing the {language} clients: {error}"))?;
    fs::write(&stamped, stamp).map_err(told)
}

fn stamp(sources: &Path) -> std::io::Result<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(sources)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.file_name().hash(&mut hasher);
        fs::read(path)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// `python main.py <client>`, for confluent-kafka, kafka-python and aiokafka.
pub fn python(client: &str) -> Result<Command, String> {
    static READY: Prepared = OnceLock::new();
    READY
        .get_or_init(|| prepare("python", build_python))
        .clone()?;
    let mut command = Command::new(directory().join("python/venv/bin/python"));
    command.arg(sources("python").join("main.py")).arg(client);
    Ok(command)
}

fn build_python(to: &Path) -> Result<(), String> {
    require(
        "python3",
        "confluent-kafka, kafka-python and aiokafka need it (with venv)",
    )?;
    let environment = to.join("venv");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment))?;
    let requirements = sources("python").join("requirements.txt");
    let mut install = Command::new(environment.join("bin/pip"));
    install
        .args([
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
            "--requirement",
        ])
        .arg(requirements);
    run(&mut install).map(drop)
}

/// `node main.mjs <client>`, for kafkajs and `@platformatic/kafka`.
pub fn node(client: &str) -> Result<Command, String> {
    static READY: Prepared = OnceLock::new();
    READY.get_or_init(|| prepare("node", build_node)).clone()?;
    let to = directory().join("node");
    let mut command = Command::new(node_binary(&to));
    command.arg(to.join("main.mjs")).arg(client);
    Ok(command)
}

/// The Node that package.json pins: the clients need a newer one than distributions carry.
fn node_binary(to: &Path) -> PathBuf {
    let machine = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    to.join(format!("node_modules/node-linux-{machine}/bin/node"))
}

fn build_node(to: &Path) -> Result<(), String> {
    require("npm", "kafkajs and @platformatic/kafka need it")?;
    // Modules find their packages beside themselves.
    for entry in fs::read_dir(sources("node")).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().expect("a name");
        fs::copy(&path, to.join(name)).map_err(|error| error.to_string())?;
    }
    let mut install = Command::new("npm");
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(to);
    run(&mut install)?;
    run(Command::new(node_binary(to)).arg("--version")).map(drop)
}

/// `interop <client>`, for franz-go, sarama and kafka-go.
pub fn go(client: &str) -> Result<Command, String> {
    static READY: Prepared = OnceLock::new();
    READY.get_or_init(|| prepare("go", build_go)).clone()?;
    let mut command = Command::new(directory().join("go/interop"));
    command.arg(client);
    Ok(command)
}

fn build_go(to: &Path) -> Result<(), String> {
    require("go", "franz-go, sarama and kafka-go need it")?;
    let mut build = Command::new("go");
    build
        .args(["build", "-mod=readonly", "-o"])
        .arg(to.join("interop"))
        .arg(".");
    run(build.current_dir(sources("go"))).map(drop)
}

/// `java <class>`, for the Java clients, Kafka's tools and Apache Kafka itself.
pub fn java(class: &str) -> Result<Command, String> {
    static READY: Prepared = OnceLock::new();
    READY.get_or_init(|| prepare("java", build_java)).clone()?;
    let to = directory().join("java");
    let mut command = Command::new("java");
    // Short-lived programs on few cores: little compilation, one collector thread.
    command.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        "-Xmx512m",
    ]);
    let logging = sources("java").join("log4j2.properties");
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/libs/*", to.display()))
        .arg(class);
    Ok(command)
}

fn build_java(to: &Path) -> Result<(), String> {
    require(
        "javac",
        "the Java clients and Kafka's tools need a JDK, 17 or newer",
    )?;
    require("mvn", "it fetches the Java clients and Kafka's tools")?;
    let libraries = to.join("libs");
    let _ = fs::remove_dir_all(&libraries);
    let mut fetch = Command::new("mvn");
    fetch
        .args(["-q", "-B", "-f"])
        .arg(sources("java").join("pom.xml"));
    fetch.arg(format!("{DEPENDENCY_PLUGIN}:copy-dependencies"));
    fetch.arg(format!("-DoutputDirectory={}", libraries.display()));
    run(&mut fetch)?;
    let mut compile = Command::new("javac");
    compile.arg("-d").arg(to.join("classes"));
    compile.arg("-cp").arg(format!("{}/*", libraries.display()));
    for entry in fs::read_dir(sources("java")).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "java")
        {
            compile.arg(path);
        }
    }
    run(&mut compile).map(drop)
}
