//! A broker that was started to be measured: on its CPUs, in a fresh directory, within a limit of
//! memory; gone when it is dropped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::super::Failed;
use super::super::super::client::{Acks, Client, Producer, ProducerSettings, Settings};
use super::Side;
use super::kafka::{Kafka, Setting};
use crate::protocol::messages::StrBytes;
use crate::record::Codec;

/// The longest start.
const START_MAX: Duration = Duration::from_secs(60);

/// What both brokers are given alike.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// Where directories are made.
    pub(super) directory: PathBuf,
    /// CPUs, as `taskset` takes them.
    pub(super) cpus: String,
    /// The limit of memory, page cache included, bytes.
    pub(super) memory: u64,
}

/// Where a broker comes from.
pub(super) enum Source<'a> {
    /// This very program.
    Corelane,
    /// Apache Kafka.
    Kafka(&'a Kafka, Setting),
    /// A command with `{port}` and, if it likes, `{dir}` in it.
    Command(&'a str),
    /// One that runs already, somewhere.
    Address(&'a str),
}

/// A running broker.
pub(super) struct Broker {
    /// None for one that ran already.
    child: Option<Child>,
    pub(super) address: String,
    directory: PathBuf,
    group: Option<PathBuf>,
    /// From its start to the first acknowledged record.
    pub(super) first_ack: Duration,
}

impl Broker {
    /// Starts one and writes a first record.
    pub(super) fn start(side: Side, room: &Room, source: &Source) -> Result<Broker, Failed> {
        let directory = room.directory.join(side.broker());
        let _ = fs::remove_dir_all(&directory);
        let told =
            |error: std::io::Error| Failed::operation(format!("{}: {error}", directory.display()));
        fs::create_dir_all(&directory).map_err(told)?;
        let port = free_port()?;
        let mut broker = Broker {
            child: None,
            address: format!("127.0.0.1:{port}"),
            directory: directory.clone(),
            group: None,
            first_ack: Duration::ZERO,
        };
        if let Source::Address(address) = source {
            broker.address = (*address).to_owned();
            broker.write_first(Instant::now())?;
            return Ok(broker);
        }
        broker.group = memory_group(side, room.memory);
        broker.launch(port, room, source)?;
        Ok(broker)
    }

    /// Kills it and starts it again on what it had written; the first acknowledgement is that of its
    /// first start still.
    pub(super) fn restart(
        &mut self,
        side: Side,
        room: &Room,
        source: &Source,
    ) -> Result<(), Failed> {
        let Some(mut child) = self.child.take().filter(|_| !side.is_kafka()) else {
            let why = "only a broker that was started here, and is not Kafka, can be started anew";
            return Err(Failed::operation(why));
        };
        let _ = child.kill();
        let _ = child.wait();
        let first_ack = self.first_ack;
        let port = free_port()?;
        self.address = format!("127.0.0.1:{port}");
        self.launch(port, room, source)?;
        self.first_ack = first_ack;
        Ok(())
    }

    /// The file with the log of partition 0 of a topic, as long as it has one segment.
    pub(super) fn log_file(&self, topic: &str) -> PathBuf {
        let file = format!("data/{topic}-0/00000000000000000000.log");
        self.directory.join(file)
    }

    /// Starts the process in its directory and writes a first record.
    fn launch(&mut self, port: u16, room: &Room, source: &Source) -> Result<(), Failed> {
        let directory = &self.directory;
        let told =
            |error: std::io::Error| Failed::operation(format!("{}: {error}", directory.display()));
        let wrapper = wrapper(room, self.group.as_deref());
        let mut command = match source {
            Source::Kafka(kafka, setting) => {
                kafka.broker(&wrapper, directory, (port, free_port()?), *setting)?
            }
            Source::Command(text) => own(&wrapper, text, directory, port),
            Source::Corelane | Source::Address(_) => {
                corelane(&wrapper, directory, port, &room.cpus)?
            }
        };
        let log = File::create(directory.join("log")).map_err(told)?;
        let began = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Failed::operation(format!("{command:?}: {error}")))?;
        self.child = Some(child);
        self.write_first(began)
    }

    /// The process; none if it was not started here.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did, with the last lines of its log.
    pub(super) fn death(&mut self) -> Option<Failed> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let mut end: Vec<&str> = log.lines().rev().take(3).collect();
        end.reverse();
        let end = end.join(" / ");
        Some(Failed::operation(format!(
            "the broker ended, {status} (SIGKILL: it may have passed --memory): {end}"
        )))
    }

    /// Tries until a record of a new topic is acknowledged.
    fn write_first(&mut self, began: Instant) -> Result<(), Failed> {
        let topic = format!("first-{:08x}", super::super::random());
        let settings = ProducerSettings {
            acks: Acks::All,
            codec: Codec::None,
            level: None,
            batch_bytes: 1,
            idempotent: false,
        };
        let mut last = "nothing".to_owned();
        while began.elapsed() < START_MAX {
            if let Some(failed) = self.death() {
                return Err(failed);
            }
            let client = |timeout| {
                Client::new(Settings {
                    bootstrap: vec![self.address.clone()],
                    client_id: StrBytes::from_static_str("corelane-bench"),
                    timeout,
                })
            };
            // A port that is not open yet is asked again soon; what answers may take its time.
            if std::net::TcpStream::connect(&self.address).is_err() {
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            let patience = Duration::from_secs(20);
            let written = super::super::target::create(&mut client(patience), &topic, 1, &[])
                .and_then(|()| {
                    let mut producer = Producer::new(client(patience), &topic, settings, 0)?;
                    producer.append(None, 0, (None, Some(b"x")), &[])?;
                    producer.flush()?;
                    Ok(())
                });
            match written {
                Ok(()) => {
                    self.first_ack = began.elapsed();
                    return Ok(());
                }
                Err(failed) => last = failed.to_string(),
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(Failed::operation(format!(
            "the broker is not ready: {last}"
        )))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

/// This very program as the broker.
fn corelane(
    wrapper: &[String],
    directory: &Path,
    port: u16,
    cpus: &str,
) -> Result<Command, Failed> {
    let program = std::env::current_exe().map_err(Failed::operation)?;
    // A bare number would mean so many cores.
    let cores = match cpus.contains(['-', ',']) {
        true => cpus.to_owned(),
        false => format!("{cpus}-{cpus}"),
    };
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(program);
    command.args(["serve", "--admin", "off", "--cores", &cores]);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--data-dir").arg(directory.join("data"));
    Ok(command)
}

/// A command of the user's, with its port and directory filled in.
fn own(wrapper: &[String], text: &str, directory: &Path, port: u16) -> Command {
    let text = text.replace("{port}", &port.to_string());
    let text = text.replace("{dir}", &directory.join("data").display().to_string());
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).args(text.split_whitespace());
    command
}

/// Words before a command: it dies with us, has its limit of memory and its CPUs.
fn wrapper(room: &Room, group: Option<&Path>) -> Vec<String> {
    let mut words = vec![
        "setpriv".to_owned(),
        "--pdeathsig".to_owned(),
        "KILL".to_owned(),
    ];
    if let Some(group) = group {
        let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
        words.extend(["sh", "-c", &join, "sh"].map(str::to_owned));
    }
    words.extend(["taskset", "-c", &room.cpus].map(str::to_owned));
    words
}

/// A control group with that limit; none where none can be made.
fn memory_group(side: Side, bytes: u64) -> Option<PathBuf> {
    let name = format!("corelane-bench-{}-{}", side.broker(), std::process::id());
    let (root, limit) = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => ("/sys/fs/cgroup", "memory.max"),
        false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    };
    let group = Path::new(root).join(name);
    fs::create_dir_all(&group).ok()?;
    match fs::write(group.join(limit), bytes.to_string()) {
        Ok(()) => Some(group),
        Err(_) => {
            let _ = fs::remove_dir(&group);
            None
        }
    }
}

/// True where brokers can be held to a limit of memory.
pub(super) fn can_limit_memory() -> bool {
    let group = memory_group(Side::OursDurable, 1 << 30);
    group.is_some_and(|group| fs::remove_dir(group).is_ok())
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failed::operation)?;
    Ok(listener.local_addr().map_err(Failed::operation)?.port())
}
