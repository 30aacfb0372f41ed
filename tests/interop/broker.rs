//! The broker under test. Knows how to start and stop one; knows nothing of clients or records.
//!
//! A broker may live in a `static`, which Rust never drops. So each one has a guard: a shell that holds the
//! reading end of a pipe, is deaf to signals, and ends the broker, and its data, when this process is gone, however it went.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::clients;

/// Settings that keep group tests short, under Kafka's names; both brokers get them.
const CONFIGS: [(&str, &str); 9] = [
    ("node.id", "1"),
    ("group.initial.rebalance.delay.ms", "200"),
    ("group.min.session.timeout.ms", "3000"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "1"),
];
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a broker may take to stop before its guard kills it.
const STOP_SECONDS_MAX: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Corelane,
    Kafka,
}

/// A running broker; dropping it stops it and removes its data.
pub struct Broker {
    kind: Option<Kind>,
    /// Settings besides those that all brokers get.
    configs: Vec<(String, String)>,
    bootstrap: String,
    scratch: PathBuf,
    process: Option<Child>,
    guard: Option<Child>,
}

impl Broker {
    /// What the environment names: a broker that runs already, Apache Kafka, or else corelane.
    pub fn under_test() -> Result<Broker, String> {
        Broker::under_test_with(&[])
    }

    /// As [`Broker::under_test`], with these configs besides the usual ones.
    pub fn under_test_with(configs: &[(&str, &str)]) -> Result<Broker, String> {
        if let Ok(bootstrap) = std::env::var("CORELANE_INTEROP_BOOTSTRAP") {
            let (_, scratch) = scratch("external")?;
            return Ok(Broker {
                kind: None,
                configs: Vec::new(),
                bootstrap,
                scratch,
                process: None,
                guard: None,
            });
        }
        match std::env::var("CORELANE_INTEROP_AGAINST").as_deref() {
            Ok("kafka") => Broker::start_with(Kind::Kafka, configs),
            Ok(other) if other != "corelane" => Err(format!("no such broker: {other}")),
            _ => Broker::start_with(Kind::Corelane, configs),
        }
    }

    pub fn start(kind: Kind) -> Result<Broker, String> {
        Broker::start_with(kind, &[])
    }

    /// As [`Broker::start`], with more settings, which a restart has as well.
    pub fn start_with(kind: Kind, configs: &[(&str, &str)]) -> Result<Broker, String> {
        let (_, scratch) = scratch(&format!("{kind:?}").to_lowercase())?;
        let port = free_port();
        let bootstrap = format!("127.0.0.1:{port}");
        let mut broker = Broker {
            kind: Some(kind),
            configs: owned(configs),
            bootstrap,
            scratch,
            process: None,
            guard: None,
        };
        let command = match kind {
            Kind::Corelane => corelane(&broker.scratch, port, &broker.configs),
            Kind::Kafka => kafka(&broker.scratch, port, configs)?,
        };
        broker.launch(kind, command)?;
        Ok(broker)
    }

    /// corelane on the data that `prepare` puts into the directory it is given.
    pub fn start_on(prepare: impl FnOnce(&Path) -> Result<(), String>) -> Result<Broker, String> {
        let (_, scratch) = scratch("prepared")?;
        let port = free_port();
        let mut broker = Broker {
            kind: Some(Kind::Corelane),
            configs: Vec::new(),
            bootstrap: format!("127.0.0.1:{port}"),
            scratch,
            process: None,
            guard: None,
        };
        prepare(&broker.scratch.join("data"))?;
        let command = corelane(&broker.scratch, port, &[]);
        broker.launch(Kind::Corelane, command)?;
        Ok(broker)
    }

    /// Stops it and starts it again on the same port and the same data.
    pub fn restart(&mut self) -> Result<(), String> {
        let kind = self.kind.ok_or("not ours to stop")?;
        if let Some(mut guard) = self.guard.take() {
            // It would take the data away.
            guard.kill().map_err(|error| error.to_string())?;
            guard.wait().map_err(|error| error.to_string())?;
        }
        self.stop();
        let address: SocketAddr = self.bootstrap.parse().expect("an address");
        let command = match kind {
            Kind::Corelane => corelane(&self.scratch, address.port(), &self.configs),
            Kind::Kafka => serve_kafka(&self.scratch)?,
        };
        self.launch(kind, command)
    }

    fn launch(&mut self, kind: Kind, mut command: Command) -> Result<(), String> {
        let name = self.scratch.file_name().expect("a name");
        let name = format!("{}.log", name.to_string_lossy());
        let log = clients::directory().join("logs").join(name);
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(create(&log)?)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        self.guard = Some(guard(process.id(), &self.scratch));
        self.process = Some(process);
        let ready = drain(stdout);
        match kind {
            Kind::Corelane => wait_for_ready_line(&ready, &log),
            Kind::Kafka => self.wait_for_port(&log),
        }
    }

    /// `kill -9`, and a start on the same port and the same data: when that began.
    pub fn crash(&mut self) -> Result<Instant, String> {
        if self.kind != Some(Kind::Corelane) {
            return Err("only corelane is killed here".to_owned());
        }
        // The guard would take the data away.
        for mut each in [self.guard.take(), self.process.take()]
            .into_iter()
            .flatten()
        {
            each.kill().map_err(|error| error.to_string())?;
            each.wait().map_err(|error| error.to_string())?;
        }
        let address: SocketAddr = self.bootstrap.parse().expect("an address");
        // The kernel takes the sockets of a killed process's ring back on its own time, after the process is gone.
        let killed = Instant::now();
        while let Err(error) = TcpListener::bind(address) {
            if killed.elapsed() > READY_MAX {
                return Err(format!("{address} after the kill: {error}"));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let command = corelane(&self.scratch, address.port(), &self.configs);
        let began = Instant::now();
        self.launch(Kind::Corelane, command)?;
        Ok(began)
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A directory that lives as long as the broker; its data are in `data`, if we started it.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Stops the broker as an operator would (SIGTERM) and leaves its data where it is; false when the broker
    /// is not ours to stop.
    pub fn stop(&mut self) -> bool {
        let Some(mut process) = self.process.take() else {
            return false;
        };
        let pid = process.id().to_string();
        let _ = Command::new("sh")
            .args(["-c", "kill -TERM $0", &pid])
            .status();
        let _ = process.wait();
        true
    }

    /// Apache Kafka has no `ready` line; it is ready when it answers.
    fn wait_for_port(&mut self, log: &Path) -> Result<(), String> {
        let address: SocketAddr = self.bootstrap.parse().expect("an address");
        let end = Instant::now() + READY_MAX;
        while Instant::now() < end {
            if TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok() {
                return Ok(());
            }
            let process = self.process.as_mut().expect("started");
            if let Ok(Some(status)) = process.try_wait() {
                return Err(format!("the broker ended: {status}; see {}", log.display()));
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Err(format!(
            "no broker within {READY_MAX:?}; see {}",
            log.display()
        ))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// A new directory below the system's temporary one, and its name.
fn scratch(kind: &str) -> Result<(String, PathBuf), String> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("{kind}-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(format!("interop-{name}"));
    std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((name, path))
}

fn owned(configs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    configs.iter().map(pair).collect()
}

fn corelane(scratch: &Path, port: u16, configs: &[(String, String)]) -> Command {
    let named = std::env::var_os("CORELANE_BINARY");
    let program = named.unwrap_or_else(|| env!("CARGO_BIN_EXE_corelane").into());
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(scratch.join("data"));
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "off"]);
    for (key, value) in CONFIGS {
        command.args(["--set", &format!("{key}={value}")]);
    }
    for (key, value) in configs {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command
}

/// One node that is broker and controller, on a freshly formatted directory.
fn kafka(scratch: &Path, port: u16, configs: &[(&str, &str)]) -> Result<Command, String> {
    let settings = scratch.join("server.properties");
    let logs = scratch.join("data");
    let controller = format!("127.0.0.1:{}", free_port());
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://{controller}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters=1@{controller}"),
        format!("log.dirs={}", logs.display()),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "share.coordinator.state.topic.replication.factor=1".to_owned(),
        "share.coordinator.state.topic.min.isr=1".to_owned(),
    ];
    let all = CONFIGS.iter().chain(configs);
    lines.extend(all.map(|(key, value)| format!("{key}={value}")));
    let mut file = create(&settings)?;
    file.write_all(lines.join("\n").as_bytes())
        .map_err(|error| error.to_string())?;
    let path = settings.to_str().expect("a readable path");
    let mut format = clients::java("kafka.tools.StorageTool")?;
    format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", path]);
    clients::run(&mut format)?;
    serve_kafka(scratch)
}

/// On the directory that was formatted.
fn serve_kafka(scratch: &Path) -> Result<Command, String> {
    let mut command = clients::java("kafka.Kafka")?;
    command.arg(scratch.join("server.properties"));
    Ok(command)
}

fn create(path: &Path) -> Result<File, String> {
    let parent = path.parent().expect("a parent");
    std::fs::create_dir_all(parent)
        .and_then(|()| File::create(path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn guard(broker: u32, scratch: &Path) -> Child {
    let script = format!(
        "trap '' TERM INT HUP; cat >/dev/null; kill -TERM $0 2>/dev/null; n=0; \
         while kill -0 $0 2>/dev/null && [ $n -lt {STOP_SECONDS_MAX} ]; do sleep 1; n=$((n+1)); done; \
         kill -KILL $0 2>/dev/null; rm -rf \"$1\""
    );
    Command::new("sh")
        .args(["-c", &script, &broker.to_string()])
        .arg(scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

/// Reads the broker's stdout to its end, so that it never waits for a full pipe; tells when it says `ready`.
fn drain(mut stdout: impl BufRead + Send + 'static) -> Receiver<()> {
    let (told, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while stdout.read_line(&mut line).is_ok_and(|size| size > 0) {
            if line.starts_with("ready") {
                let _ = told.send(());
            }
            line.clear();
        }
    });
    ready
}

fn wait_for_ready_line(ready: &Receiver<()>, log: &Path) -> Result<(), String> {
    ready.recv_timeout(READY_MAX).map_err(|error| {
        format!(
            "corelane printed no line that begins with `ready` ({error}); see {}",
            log.display()
        )
    })
}

/// A port that was free a moment ago, below those that the kernel gives to outgoing connections: a client that tries
/// again while the broker is away would otherwise take the port itself, now and then, and be connected to itself.
fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 20_000..30_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(7);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = (0..PORTS.len()).map(|_| {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        PORTS.start + (number % PORTS.len() as u32) as u16
    });
    ports.find(free).expect("a free port")
}
