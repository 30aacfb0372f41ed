//! A real broker: checks the machine, takes its data directories, starts a shard on each CPU and
//! the doors, waits for a reason to stop, and closes everything.
//!
//! Knows no partition and no request. Lives on the main thread.

mod directories;
mod doors;
mod health;
mod identity;
mod shard;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::admin;
use crate::base::{BrokerId, CoreId, DiskFault, Pool, TopicId};
use crate::cluster::Image;
use crate::cluster::configs::Layers;
use crate::cluster::controller::FEATURES;
use crate::cluster::records::{BrokerFeature, Endpoint, RegisterBroker};
use crate::config::Options;
use crate::host::{CORE_ID_STRIDE, CoreDoor, Mail, Node, Status};
use crate::protocol::{ApiKey, ErrorCode};
use crate::rt::{self, limits};
use crate::shard::{Progress as CoreProgress, Setup};

use health::Ward;

pub use identity::{FORMAT_VERSION, Identity, make_directory_ours};

/// How many messages each queue between two cores holds.
const MESH_CAPACITY: usize = 4096;
/// Threads for slow work on names, at most, shared by all cores. Two syncs at a time took 0.55 s for
/// 2,000 of them on ext4, eight 0.22 s, 32 again 0.34 s: what is under way together shares a commit.
const BLOCKING_THREADS_MAX: usize = 8;
/// How long closing may take before the node gives up on it.
const STOP_MAX: Duration = Duration::from_secs(60);
/// A second signal within this time is taken for the first one's echo.
const SIGNAL_ECHO: Duration = Duration::from_secs(1);
/// How often the cores are asked how far they are, before they are ready.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How often that goes into the log.
const PROGRESS_TOLD_INTERVAL: Duration = Duration::from_secs(1);

/// Why the node did not start, or had to stop: one line that says what to do.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

fn failed(why: impl fmt::Display) -> Failure {
    Failure(why.to_string())
}

/// How far the cores are, for the HTTP door.
type Progress = Arc<Mutex<Vec<Start>>>;

/// How far one core is.
#[derive(Clone, Copy, Default)]
struct Start {
    progress: CoreProgress,
    ready: bool,
}

/// Runs a broker until SIGTERM or SIGINT. Prints one line that begins with `ready` once clients
/// can connect.
pub fn run(options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    let (status, statuses) = mpsc::channel();
    let signals = rt::Signals::take().map_err(failed)?;
    // The limits first: a ring that lacks one of them says less about why.
    limits::raise_locked_memory().map_err(failed)?;
    let descriptors = limits::raise_descriptors().map_err(failed)?;
    limits::check_ring().map_err(failed)?;
    let told = status.clone();
    signals
        .forward(move |_| told.send(Status::Signal).is_ok())
        .map_err(failed)?;

    let broker = broker_id(options)?;
    let directories = directories::take(options, broker)?;
    let identities = &directories.identities;
    let cores = options.cpus.len();
    let sockets = match options.listen_per_core {
        true => rt::bind_each(options.listen, cores),
        false => rt::bind_all(options.listen, cores),
    };
    let sockets = sockets.map_err(failed)?;
    let addresses: Vec<SocketAddr> = sockets.iter().map(rt::BoundSocket::address).collect();
    let endpoints = endpoints(options, &addresses)?;

    let doorbells = rt::Doorbells::new(cores).map_err(failed)?;
    let (ports, outside) = rt::mesh::mesh::<Mail>(&doorbells, MESH_CAPACITY);
    let blocking = Arc::new(rt::BlockingPool::new(BLOCKING_THREADS_MAX).map_err(failed)?);
    let node = Arc::new(Node {
        broker,
        cluster_id: identities[0].cluster_id.clone(),
        rack: options.configs.get("broker.rack").cloned(),
        data_dirs: options
            .data_directories
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        static_configs: options.configs.clone(),
        core_doors: match options.listen_per_core {
            true => endpoints.iter().map(door).collect(),
            false => Vec::new(),
        },
    });
    let progress: Progress = Arc::new(Mutex::new(vec![Start::default(); cores]));
    let health = Arc::new(Ward::new(&node.data_dirs));
    for (disk, (_, why)) in &directories.failed {
        health.failed_at_start(*disk, why);
    }
    let unusable = directories.failed.iter();
    let failed_disks: BTreeMap<u16, DiskFault> = unusable
        .map(|(disk, (fault, _))| (*disk, fault.clone()))
        .collect();
    let admin = open_admin(options, &outside, &progress, &health)?;

    let registration = registration(&node, &endpoints[0], identities);
    let per_core = (options.memory_bytes / cores as u64) as usize;
    let open_files_max = (descriptors as usize / 2 / cores).clamp(64, 8192);
    let mut seeds = Vec::with_capacity(cores);
    for (core, (port, socket)) in ports.into_iter().zip(sockets).enumerate() {
        seeds.push(shard::Seed {
            setup: Setup {
                core: CoreId(core as u16),
                cores: cores as u16,
                broker,
                disks: options.data_directories.len() as u16,
                failed_disks: failed_disks.clone(),
                // What the cache holds, and an eighth for gathers and reads under way.
                pool: Pool::new(per_core * 5 / 8),
                cache_bytes_max: per_core / 2,
                static_configs: options.configs.clone(),
                registration: registration.clone(),
                seed: u64::from_le_bytes(limits::random()),
            },
            port,
            socket,
            directories: directories.disks.clone(),
            disk: rt::DiskOptions {
                open_files_max,
                ..rt::DiskOptions::default()
            },
            blocking: blocking.clone(),
            node: node.clone(),
            endpoint: endpoints[core].clone(),
            frame_bytes: per_core * 3 / 8,
            hand_over: options.hand_over,
            status: status.clone(),
        });
    }
    let config = rt::ShardConfig::default();
    let handles =
        rt::spawn_shards(&options.cpus, config, &doorbells, seeds, shard::run).map_err(failed)?;
    drop(status);

    let life = Life {
        outside,
        statuses,
        progress,
        health,
        cores,
    };
    let ended = life.until_open().and_then(|open| {
        if open {
            let admin = admin.as_ref().map_or("off".to_owned(), |admin| admin.addr.to_string());
            let kafka = listening(&addresses);
            let line = format!(
                "ready kafka={kafka} admin={admin} node={broker} cluster={} cores={cores} after={} ms",
                node.cluster_id,
                started.elapsed().as_millis()
            );
            let mut out = std::io::stdout();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            life.until_signal()?;
        }
        tracing::info!("stopping");
        Ok(())
    });
    let stopped = life.stop();
    if let Some(admin) = admin {
        admin.stop();
    }
    if stopped.is_ok() {
        for handle in handles {
            handle.join().map_err(failed)?;
        }
    }
    ended.and(stopped)
}

/// The cores as the main thread sees them.
struct Life {
    outside: rt::Outside<Mail>,
    statuses: mpsc::Receiver<Status>,
    progress: Progress,
    health: Arc<Ward>,
    cores: usize,
}

impl Life {
    fn tell_all(&self, mail: impl Fn() -> Mail) {
        for core in 0..self.cores {
            // A full inlet is one that nobody empties: the core is stuck, and said so elsewhere.
            let _ = self.outside.send(core, mail());
        }
    }

    /// Waits until all cores are ready and all doors open (true) or a signal comes first (false).
    fn until_open(&self) -> Result<bool, Failure> {
        if !self.until_ready()? {
            return Ok(false);
        }
        self.tell_all(|| {
            Mail::Run(Box::new(|host| {
                host.report_progress();
                host.open();
            }))
        });
        let mut listening = 0;
        while listening < self.cores {
            match self.statuses.recv() {
                Ok(Status::Signal) => return Ok(false),
                Ok(Status::Listening(_)) => listening += 1,
                Ok(status) => self.take(status)?,
                Err(_) => return Err(failed("all shards have ended")),
            }
        }
        Ok(true)
    }

    /// Waits until all cores are ready (true) or a signal comes first (false).
    fn until_ready(&self) -> Result<bool, Failure> {
        let mut ready = 0;
        let mut told = Instant::now();
        while ready < self.cores {
            match self.statuses.recv_timeout(PROGRESS_INTERVAL) {
                Ok(Status::Signal) => return Ok(false),
                Ok(Status::Ready(core)) => {
                    self.note(core, |entry| entry.ready = true);
                    ready += 1;
                }
                Ok(status) => self.take(status)?,
                Err(RecvTimeoutError::Timeout) => self.report_progress(&mut told),
                Err(RecvTimeoutError::Disconnected) => return Err(failed("all shards have ended")),
            }
        }
        Ok(true)
    }

    /// Asks the cores how far they are, for the HTTP door; and says so now and then.
    fn report_progress(&self, told: &mut Instant) {
        self.tell_all(|| Mail::Run(Box::new(|host| host.report_progress())));
        if told.elapsed() >= PROGRESS_TOLD_INTERVAL {
            *told = Instant::now();
            let entries = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = sum(&entries);
            // Preallocated ends count until a scan has come to them.
            let (scanned_mib, at_most_mib) = (sum.scanned_bytes >> 20, sum.scan_bytes >> 20);
            tracing::info!(
                logs = sum.opened,
                of = sum.of,
                scanned_mib,
                at_most_mib,
                "opening logs"
            );
        }
    }

    fn until_signal(&self) -> Result<(), Failure> {
        loop {
            match self.statuses.recv() {
                Ok(Status::Signal) => return Ok(()),
                Ok(status) => self.take(status)?,
                Err(_) => return Err(failed("all shards have ended")),
            }
        }
    }

    fn take(&self, status: Status) -> Result<(), Failure> {
        match status {
            Status::Fatal(core, why) => Err(Failure(format!("core {core} cannot go on: {why}"))),
            Status::Fault { what, fault } => {
                tracing::error!(log = what, %fault, "a log is fenced: reads of what it can vouch for go on, writes are refused");
                self.health.fenced(what, fault.to_string());
                Ok(())
            }
            Status::Healed(what) => {
                tracing::info!(log = what, "a log is open again, or gone");
                self.health.healed(&what);
                Ok(())
            }
            Status::Volume { core, disk, state } => {
                self.health.volume(core, disk, state);
                Ok(())
            }
            Status::Progress(core, progress) => {
                self.note(core, |entry| entry.progress = progress);
                Ok(())
            }
            Status::Ready(_) | Status::Listening(_) | Status::Stopped(_) | Status::Signal => Ok(()),
        }
    }

    fn note(&self, core: CoreId, change: impl Fn(&mut Start)) {
        let mut entries = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(usize::from(core.0)) {
            change(entry);
        }
    }

    /// Has every core close what it owns. A second signal ends the wait, unless it comes so soon that
    /// it is the first one's echo: timeout(1) and some shells signal the process, then its group.
    fn stop(&self) -> Result<(), Failure> {
        self.tell_all(|| Mail::Run(Box::new(|host| host.stop())));
        let began = Instant::now();
        let deadline = began + STOP_MAX;
        let mut stopped = 0;
        while stopped < self.cores {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.statuses.recv_timeout(left) {
                Ok(Status::Stopped(_)) => stopped += 1,
                Ok(Status::Signal) if began.elapsed() >= SIGNAL_ECHO => {
                    return Err(failed(
                        "stopped by a second signal; the next start recovers",
                    ));
                }
                Ok(Status::Fatal(_, why)) => tracing::error!(why, "while stopping"),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(failed("closing took too long; the next start recovers"));
                }
            }
        }
        Ok(())
    }
}

fn sum(entries: &[Start]) -> CoreProgress {
    let mut sum = CoreProgress::default();
    for Start { progress, .. } in entries {
        sum.opened += progress.opened;
        sum.of += progress.of;
        sum.scanned_bytes += progress.scanned_bytes;
        sum.scan_bytes += progress.scan_bytes;
    }
    sum
}

fn broker_id(options: &Options) -> Result<BrokerId, Failure> {
    let id = options.configs.get("node.id").map_or("1", String::as_str);
    match id.trim().parse() {
        Ok(id) if options.listen_per_core && !(1..CORE_ID_STRIDE).contains(&id) => {
            Err(Failure(format!(
                "node.id={id} with --listen-per-core: from 1 to {} is wanted, since core K of node N \
                 is broker N * {CORE_ID_STRIDE} + K to clients",
                CORE_ID_STRIDE - 1
            )))
        }
        Ok(id) if id >= 0 => Ok(BrokerId(id)),
        _ => Err(Failure(format!(
            "node.id={id} is not a number of 0 or more"
        ))),
    }
}

/// Where clients find each core: all at one place, or one port after the other.
fn endpoints(options: &Options, addresses: &[SocketAddr]) -> Result<Vec<Endpoint>, Failure> {
    let one = |(core, address): (usize, &SocketAddr)| {
        let endpoint = advertised(options, *address);
        let advertises = matches!(options.advertise, Some((_, port)) if port != 0);
        if !options.listen_per_core || !advertises {
            return Ok(endpoint);
        }
        let port = u16::try_from(core)
            .ok()
            .and_then(|core| endpoint.port.checked_add(core));
        let port = port.ok_or_else(|| failed("--advertise: there is no port above 65535"))?;
        Ok(Endpoint { port, ..endpoint })
    };
    addresses.iter().enumerate().map(one).collect()
}

fn door(endpoint: &Endpoint) -> CoreDoor {
    CoreDoor {
        host: endpoint.host.clone(),
        port: endpoint.port,
    }
}

/// The addresses, each once.
fn listening(addresses: &[SocketAddr]) -> String {
    let mut each = addresses.to_vec();
    each.dedup();
    let each: Vec<String> = each.iter().map(SocketAddr::to_string).collect();
    each.join(",")
}

fn advertised(options: &Options, address: SocketAddr) -> Endpoint {
    let (host, port) = match &options.advertise {
        Some((host, 0)) => (host.clone(), address.port()),
        Some((host, port)) => (host.clone(), *port),
        None => (address.ip().to_string(), address.port()),
    };
    Endpoint {
        name: "PLAINTEXT".to_owned(),
        host,
        port,
        security_protocol: 0,
    }
}

fn registration(node: &Node, endpoint: &Endpoint, identities: &[Identity]) -> RegisterBroker {
    let feature = |(name, min, max): (&str, i16, i16)| BrokerFeature {
        name: name.to_owned(),
        min,
        max,
    };
    RegisterBroker {
        broker: node.broker,
        is_migrating_zk_broker: false,
        incarnation: identity::new_uuid(),
        epoch: 0,
        endpoints: vec![endpoint.clone()],
        features: FEATURES.into_iter().map(feature).collect(),
        rack: node.rack.clone(),
        fenced: false,
        in_controlled_shutdown: false,
        log_dirs: identities
            .iter()
            .map(|identity| identity.directory)
            .collect::<Vec<TopicId>>(),
    }
}

fn open_admin(
    options: &Options,
    outside: &rt::Outside<Mail>,
    progress: &Progress,
    health: &Arc<Ward>,
) -> Result<Option<admin::Running>, Failure> {
    let Some(address) = options.admin else {
        return Ok(None);
    };
    let groups = doors::groups(outside);
    let (outside, progress, health) = (outside.clone(), progress.clone(), health.clone());
    let (ticks_per_second, page_bytes, boot_time_seconds) = rt::process::machine_constants();
    let machine = admin::Machine {
        ticks_per_second,
        page_bytes,
        boot_time_seconds,
    };
    let handle = admin::Handle {
        cores: options.cpus.len() as u16,
        ask: Box::new(move |core, answer| {
            let run = Box::new(move |host: &crate::host::Host| answer.give(host.snapshot()));
            // Not sent: the answer is dropped, which says that there will be none.
            let _ = outside.send(usize::from(core.0), Mail::Run(run));
        }),
        readiness: Box::new(move || {
            let entries = progress.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = sum(&entries);
            admin::Readiness {
                ready: entries.iter().all(|entry| entry.ready),
                partitions_opened: sum.opened as u64,
                partitions: sum.of as u64,
                scanned_bytes: sum.scanned_bytes,
                scan_bytes: sum.scan_bytes,
            }
        }),
        health: Box::new(move || health.report()),
        process: Box::new(move || {
            let texts = rt::process::process_texts()?;
            admin::Process::parse(machine, &texts.stat, &texts.limits, texts.open_descriptors)
        }),
        names: admin::Names {
            api: |key| ApiKey::from_code(key).map(ApiKey::name),
            error: |code| ErrorCode::from_code(code).map(ErrorCode::name),
        },
    };
    admin::serve(address, handle, groups)
        .map(Some)
        .map_err(Failure)
}

/// The settings that the broker starts with, before any image.
fn settings(node: &Node) -> crate::cluster::configs::BrokerSettings {
    Layers::new(&Image::default(), node.broker, &node.static_configs).broker_settings()
}
