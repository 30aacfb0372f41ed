//! A real broker as a child process, in a data directory of its own on a real disk, and a raw client
//! for it. Tests that need a broker start it here and nowhere else.

pub mod client;
pub mod volume;
pub mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker and its directory. Dropping it kills it and removes the directory.
pub struct Broker {
    directory: tempfile::TempDir,
    running: Option<Running>,
    /// The limit of open descriptors, if it is not the machine's.
    descriptors_max: Option<u32>,
    /// Variables of its environment.
    environment: Vec<(String, String)>,
    /// The first data directory, if it is elsewhere.
    data: Option<PathBuf>,
    /// More arguments for `serve`.
    arguments: Vec<String>,
}

struct Running {
    child: Child,
    kafka: SocketAddr,
    admin: SocketAddr,
    cores: u16,
    ready_after: Duration,
}

/// How a start that failed ended.
pub struct Refused {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory below `target/tmp`: on the disk, not in memory, where O_DIRECT means something.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

/// The broker's program: the one of this build, unless `CORELANE_BINARY` names another.
pub fn program() -> PathBuf {
    let named = std::env::var_os("CORELANE_BINARY").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_corelane")))
}

/// The command that serves `data` on `listen`.
pub fn command(data: &Path, listen: &str) -> Command {
    let mut command = Command::new(program());
    command.arg("serve").arg("--data-dir").arg(data);
    command.args(["--listen", listen, "--admin", "127.0.0.1:0"]);
    piped(command)
}

/// The same command with a limit of open descriptors that it cannot raise.
fn limited(plain: &Command, descriptors_max: u32) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -n {descriptors_max} && exec \"$@\"");
    limited
        .args(["-c", &script, "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    piped(limited)
}

fn piped(mut command: Command) -> Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a start that is expected to fail, to its end.
pub fn refused(data: &Path, listen: &str) -> Refused {
    refused_by(command(data, listen))
}

/// As [`refused`], with more arguments.
#[allow(dead_code)]
pub fn refused_with(data: &Path, listen: &str, arguments: &[&str]) -> Refused {
    let mut command = command(data, listen);
    command.args(arguments);
    refused_by(command)
}

/// As [`refused`], with a limit of open descriptors.
#[allow(dead_code)]
pub fn refused_within(data: &Path, descriptors_max: u32) -> Refused {
    refused_by(limited(&command(data, "127.0.0.1:0"), descriptors_max))
}

fn refused_by(mut command: Command) -> Refused {
    let mut child = command.spawn().expect("the broker's binary");
    let status = wait_for_exit(&mut child);
    let mut stderr = String::new();
    let _ = child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr);
    Refused { status, stderr }
}

/// Waits until the process has ended; kills it when it does not.
fn wait_for_exit(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let pid = child.id();
    let ended = poll(PATIENCE, || {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        panic!("process {pid} does not end");
    }
    status.expect("ended")
}

/// Asks again and again, briefly yielding, until the answer is yes or the time is over.
pub fn poll(patience: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if ask() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// As [`poll`], and a failure of the test when the time is over.
pub fn until(what: &str, ask: impl FnMut() -> bool) {
    assert!(poll(PATIENCE, ask), "{what} did not come about");
}

impl Default for Broker {
    fn default() -> Broker {
        Broker::start()
    }
}

impl Broker {
    /// A broker in an empty directory, ready.
    pub fn start() -> Broker {
        Broker::start_within(None)
    }

    /// As [`Broker::start`], with these configs of the broker.
    pub fn start_with(configs: &[(&str, &str)]) -> Broker {
        let set = |(name, value): &(&str, &str)| ["--set".to_owned(), format!("{name}={value}")];
        Broker::started(None, None, configs.iter().flat_map(set).collect())
    }

    /// As [`Broker::start`], with a limit of open descriptors that it cannot raise.
    pub fn start_within(descriptors_max: Option<u32>) -> Broker {
        Broker::started(None, descriptors_max, Vec::new())
    }

    /// A broker with its first data directory elsewhere (by default in a directory of its own) and
    /// more arguments for `serve`, ready.
    pub fn start_in(data: Option<PathBuf>, arguments: &[&str]) -> Broker {
        let arguments = arguments.iter().map(|&one| one.to_owned()).collect();
        Broker::started(data, None, arguments)
    }

    /// A broker with these variables in its environment, and these configs.
    #[allow(dead_code)]
    pub fn start_beside(environment: &[(&str, String)], configs: &[(&str, &str)]) -> Broker {
        let set = |(name, value): &(&str, &str)| ["--set".to_owned(), format!("{name}={value}")];
        let pairs = environment.iter();
        let mut broker = Broker {
            directory: directory(),
            running: None,
            descriptors_max: None,
            environment: pairs
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            data: None,
            arguments: configs.iter().flat_map(set).collect(),
        };
        broker.run();
        broker
    }

    fn started(
        data: Option<PathBuf>,
        descriptors_max: Option<u32>,
        arguments: Vec<String>,
    ) -> Broker {
        let mut broker = Broker {
            directory: directory(),
            running: None,
            descriptors_max,
            environment: Vec::new(),
            data,
            arguments,
        };
        broker.run();
        broker
    }

    /// Starts it (again) in its directory and waits until it is ready.
    pub fn run(&mut self) {
        assert!(self.running.is_none(), "it is running");
        let started = Instant::now();
        let mut child = self.command().spawn().expect("the broker's binary");
        let stderr = child.stderr.take().expect("piped");
        let log = self.log();
        std::thread::spawn(move || {
            let file = std::fs::File::options().append(true).create(true).open(log);
            let _ = std::io::copy(&mut { stderr }, &mut file.expect("a log file"));
        });
        let (line_in, line_out) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = line_in.send(line);
            }
        });
        let Ok(line) = line_out.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let status = child.wait();
            panic!("not ready, {status:?}: {}", self.log_text());
        };
        // One of its own for each core, perhaps: the first will do.
        let first = |places: &str| places.split(',').next().unwrap_or_default().to_owned();
        let field = |name: &str| -> &str {
            let mut words = line.split(' ');
            let found = words.find_map(|word| word.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{line}"))
        };
        self.running = Some(Running {
            kafka: first(field("kafka=")).parse().expect("an address"),
            admin: field("admin=").parse().expect("an address"),
            cores: field("cores=").parse().expect("a number"),
            child,
            ready_after: started.elapsed(),
        });
    }

    fn command(&self) -> Command {
        let mut plain = command(&self.data(), "127.0.0.1:0");
        plain.args(&self.arguments);
        let mut command = match self.descriptors_max {
            Some(limit) => limited(&plain, limit),
            None => plain,
        };
        command.envs(self.environment.iter().cloned());
        command
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a running broker")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        let own = || self.directory.path().join("data");
        self.data.clone().unwrap_or_else(own)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    /// Everything that the broker has logged in all its runs.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Where Kafka clients connect.
    pub fn address(&self) -> SocketAddr {
        self.running().kafka
    }

    /// On how many cores it runs.
    pub fn cores(&self) -> u16 {
        self.running().cores
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// From the start of the process to its ready line.
    pub fn ready_after(&self) -> Duration {
        self.running().ready_after
    }

    /// A new connection.
    pub fn client(&self) -> client::Client {
        client::Client::connect(self.address())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        drop(self.running.take().expect("a running broker"));
    }

    /// Sends a signal by name (`TERM`, `INT`) and waits for the end of the process.
    pub fn stop_with(&mut self, signal: &str) -> ExitStatus {
        let mut running = self.running.take().expect("a running broker");
        send_signal(running.child.id(), signal);
        wait_for_exit(&mut running.child)
    }

    /// Stops it as timeout(1) does, which signals the process and at once its group.
    #[allow(dead_code)]
    pub fn stop_twice(&mut self) -> ExitStatus {
        let id = self.running.as_ref().expect("a running broker").child.id();
        send_signal(id, "TERM");
        self.stop_with("TERM")
    }

    /// Stops it as a service manager would; it must say that all went well.
    pub fn stop(&mut self) {
        let status = self.stop_with("TERM");
        assert!(status.success(), "{status}: {}", self.log_text());
    }

    /// Stops and starts it.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// Kills and starts it.
    pub fn crash(&mut self) {
        self.kill();
        self.run();
    }

    /// The status and the body of an HTTP answer of the admin door.
    pub fn http(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.running().admin).expect("the admin door");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .expect("a request sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or_else(|| panic!("{text}")), body.to_owned())
    }

    /// The sum of a metric over all series that have this name and all of these labels.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, text) = self.http("/metrics");
        assert_eq!(status, 200);
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let wanted = lines.filter(|(series, _)| {
            series.split('{').next() == Some(name)
                && labels.iter().all(|label| series.contains(label))
        });
        let values: Vec<f64> = wanted
            .map(|(_, value)| value.parse().expect("a number"))
            .collect();
        assert!(!values.is_empty(), "no series of {name} with {labels:?}");
        values.iter().sum()
    }

    /// Bytes that the kernel says this process has had written to a device.
    pub fn written_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.pid()));
        let text = text.expect("a running broker");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|number| number.parse().ok())
            .expect("write_bytes")
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a running broker");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("VmRSS")
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let directory = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        directory.expect("a running broker").count()
    }

    /// Processor time so far, in clock ticks.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("a running broker");
        let (_, fields) = stat.rsplit_once(") ").expect("a stat line");
        let fields: Vec<u64> = fields
            .split(' ')
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        fields[11] + fields[12]
    }
}

/// Sends a signal to a process by its number.
pub fn send_signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(sent.expect("kill").success());
}

/// The least, the median and the largest of some times, in words.
#[allow(dead_code)]
pub fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let ms = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!(
        "min {:.1} median {:.1} max {:.1} ms",
        ms(0),
        ms(times.len() / 2),
        ms(times.len().max(1) - 1)
    )
}

/// A number from the environment, for runs larger than the default.
pub fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}"))
    })
}
