//! One shard's main: its host, its door, its connections.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::api::{Account, Connection, Endpoint as Door, Service};
use crate::base::Mono;
use crate::cluster::records::Endpoint;
use crate::host::{Handover, Host, Mail, Node, Start, Status};
use crate::net::{self, Budget, Ended, Limits, Served, Unsent};
use crate::rt::{self, BoundSocket, DataDirectory, DiskOptions, Listener, Port, Stream};
use crate::shard::Setup;

/// What a shard is started with.
pub(super) struct Seed {
    pub(super) setup: Setup,
    pub(super) port: Port<Mail>,
    pub(super) socket: BoundSocket,
    pub(super) directories: Vec<DataDirectory>,
    pub(super) disk: DiskOptions,
    pub(super) blocking: Arc<rt::BlockingPool>,
    pub(super) node: Arc<Node>,
    pub(super) endpoint: Endpoint,
    /// The memory that frames may take on this core.
    pub(super) frame_bytes: usize,
    pub(super) hand_over: bool,
    pub(super) status: mpsc::Sender<Status>,
}

/// What all connections of a shard share.
struct Shop {
    host: Host,
    service: Service,
    limits: Limits,
    door: Door,
    hand_over: bool,
    connections_max: u64,
    seed: u64,
    status: mpsc::Sender<Status>,
}

/// Runs the shard to its end.
pub(super) async fn run(_shard: rt::Shard, seed: Seed) {
    let pool = seed.setup.pool.clone();
    let random = seed.setup.seed;
    let settings = super::settings(&seed.node);
    let host = Host::start(Start {
        setup: seed.setup,
        port: seed.port.attach(),
        disk: rt::Disk::new(seed.directories, seed.disk, pool, seed.blocking.attach()),
        node: seed.node,
        status: seed.status.clone(),
    });
    let per_core = !host.node().core_doors.is_empty();
    let idle_ms = u64::try_from(settings.connections_max_idle_ms).unwrap_or(u64::MAX / 2);
    let cores = u64::from(host.cores());
    let shop = Rc::new(Shop {
        service: Service::new(host.clone()),
        limits: Limits {
            frame_bytes_max: settings.socket_request_max_bytes as usize,
            idle_max: Duration::from_millis(idle_ms),
            budget: Budget::new(seed.frame_bytes),
            unsent: Unsent::new(seed.frame_bytes / 3),
        },
        door: Door {
            listener: seed.endpoint.name,
            host: seed.endpoint.host,
            port: seed.endpoint.port,
            core: per_core.then(|| host.core()),
        },
        hand_over: seed.hand_over,
        connections_max: u64::from(settings.max_connections).div_ceil(cores),
        seed: random,
        host: host.clone(),
        status: seed.status,
    });
    let adopting = shop.clone();
    host.on_adopt(move |handover| adopting.adopt(handover));
    let budget = shop.limits.budget.clone();
    host.on_measure(move |measurements| {
        measurements.memory.frame_bytes = budget.used() as u64;
        measurements.memory.frame_budget_bytes = budget.max() as u64;
        measurements.memory.frame_waits = budget.waits();
    });
    let opening = shop.clone();
    let socket = seed.socket;
    host.on_open(move || rt::spawn_local(opening.accept(socket)).detach());
    host.stopped().await;
}

impl Shop {
    async fn accept(self: Rc<Shop>, socket: BoundSocket) {
        let listener = match Listener::listen(socket) {
            Ok(listener) => listener,
            Err(error) => {
                let why = format!("cannot listen: {error}");
                // Not sent: the main thread has given up already.
                let _ = self.status.send(Status::Fatal(self.host.core(), why));
                return;
            }
        };
        let _ = self.status.send(Status::Listening(self.host.core()));
        let mut number = self.seed;
        while let Ok(stream) = listener.accept().await {
            if self.host.measurements().network.open() >= self.connections_max {
                self.host.measurements().network.rejected += 1;
                continue;
            }
            self.host.measurements().network.accepted += 1;
            number = number.wrapping_add(1);
            let connection = Connection::new(self.door.clone(), number);
            let connection = match stream.peer() {
                Ok(address) => connection.from_client(address.ip()),
                // It is gone already: serving it will find out.
                Err(_) => connection,
            };
            rt::spawn_local(self.clone().serve(stream, Bytes::new(), connection)).detach();
        }
    }

    fn adopt(self: &Rc<Shop>, handover: Handover) {
        let Ok(connection) = handover.state.downcast::<Connection>() else {
            return;
        };
        let stream = Stream::from_descriptor(handover.socket);
        rt::spawn_local(
            self.clone()
                .serve(stream, handover.leftover, connection.moved()),
        )
        .detach();
    }

    async fn serve(self: Rc<Shop>, stream: Stream, leftover: Bytes, mut connection: Connection) {
        let here = self.host.core();
        let mut last_received = Mono(0);
        let begin = |frame, received| {
            last_received = received;
            let (started, account) = self.service.start(&mut connection, frame, received);
            let moves =
                self.hand_over && connection.wants_to_move().is_some_and(|core| core != here);
            Served {
                started,
                account,
                moves,
            }
        };
        let service = self.service.clone();
        let sent = move |account: Rc<Account>, now| service.sent(&account, now);
        let ended = net::serve(stream, leftover, self.limits.clone(), begin, sent).await;
        match ended {
            Ended::Closed => self.host.measurements().network.closed += 1,
            Ended::Moved { socket, leftover } => {
                let to = connection.wants_to_move().unwrap_or(here);
                let state = Box::new(connection);
                self.host.hand_over(
                    to,
                    Handover {
                        socket,
                        leftover,
                        state,
                        since: last_received,
                    },
                );
            }
        }
    }
}
