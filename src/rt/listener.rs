//! Listening sockets: one a core on the same port, so that the kernel spreads connections.
//!
//! When descriptors run out, a reserve descriptor is spent on turning the waiting connection away
//! and the listener pauses: it never spins.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::Fd;

use super::counters::add;
use super::executor::{Machine, current};
use super::ring::checked;
use super::stream::Stream;
use super::timer::sleep;

/// Connections that the kernel may hold before they are accepted; it caps this at `somaxconn`.
const BACKLOG: libc::c_int = 4096;
/// How long a listener pauses when descriptors or memory have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A socket that owns its port but does not listen yet. Made before the shards start, so that
/// errors come early; given to a shard in its seed.
#[derive(Debug)]
pub struct BoundSocket {
    socket: OwnedFd,
    address: SocketAddr,
}

impl BoundSocket {
    /// The address, with the port that the kernel chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// How long a taken port is waited for, and how often it is tried. The listening sockets of a broker
/// that was killed belong to its rings, which the kernel takes back after the process is gone.
const TAKEN_WAIT_MAX: Duration = Duration::from_secs(1);
const TAKEN_PAUSE: Duration = Duration::from_millis(10);

/// Binds `count` sockets to one address. With `SO_REUSEPORT` the kernel would let two brokers of
/// one user share a port without a word, so a socket without it is bound first, as a probe.
/// Errors are one line that names the address and says what to do.
pub fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<BoundSocket>> {
    let probe = bind_when_free(address).map_err(|error| explain(address, &error))?;
    let address = SocketAddr::new(address.ip(), probe.address.port());
    drop(probe);
    (0..count)
        .map(|_| bind(address, true).map_err(|error| explain(address, &error)))
        .collect()
}

/// Binds `count` sockets to one port after the other from that of `address` on, each its own; free
/// ones if that is 0. Errors as with [`bind_all`].
pub fn bind_each(address: SocketAddr, count: usize) -> io::Result<Vec<BoundSocket>> {
    let one = |number: usize| {
        let port = match address.port() {
            0 => Some(0),
            first => u16::try_from(number)
                .ok()
                .and_then(|n| first.checked_add(n)),
        };
        let Some(port) = port else {
            return Err(io::Error::other(format!(
                "cannot listen on {count} ports from {address} on: there is none above 65535"
            )));
        };
        let address = SocketAddr::new(address.ip(), port);
        bind_when_free(address).map_err(|error| explain(address, &error))
    };
    (0..count).map(one).collect()
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "the port is taken: stop who has it, or choose another one",
        Some(libc::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE: choose another one",
        Some(libc::EADDRNOTAVAIL) => "no network interface here has this address",
        _ => {
            return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        }
    };
    io::Error::new(
        error.kind(),
        format!("cannot listen on {address}: {advice}"),
    )
}

/// A port that is taken is tried again for [`TAKEN_WAIT_MAX`].
fn bind_when_free(address: SocketAddr) -> io::Result<BoundSocket> {
    let deadline = Instant::now() + TAKEN_WAIT_MAX;
    loop {
        match bind(address, false) {
            Err(error)
                if error.raw_os_error() == Some(libc::EADDRINUSE) && Instant::now() < deadline =>
            {
                std::thread::sleep(TAKEN_PAUSE);
            }
            other => return other,
        }
    }
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<BoundSocket> {
    let socket = tcp_socket(&address)?;
    set_flag(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    if reuse_port {
        set_flag(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    }
    let (raw, len) = encode(&address);
    // SAFETY: `raw` is an initialised address of the length that is told.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const *raw).cast(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Only the address is asked for; the descriptor stays ours.
    // SAFETY: the descriptor is open, and ManuallyDrop keeps it from being closed twice.
    let view = ManuallyDrop::new(unsafe { TcpListener::from_raw_fd(socket.as_raw_fd()) });
    let address = view.local_addr()?;
    Ok(BoundSocket { socket, address })
}

/// A new TCP socket of the address's family. Blocking: the ring does its own waiting.
pub(super) fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no pointers; the result is checked before it is owned.
    let descriptor = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn set_flag(socket: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an initialised int of the size that is told.
    let result = unsafe { libc::setsockopt(socket, level, option, (&raw const on).cast(), size) };
    if result != 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// An address as the kernel has it, on the heap so that operations can keep it.
pub(super) fn encode(address: &SocketAddr) -> (Box<libc::sockaddr_storage>, libc::socklen_t) {
    // SAFETY: the structure is plain numbers; zeros are valid.
    let mut storage: Box<libc::sockaddr_storage> = Box::new(unsafe { std::mem::zeroed() });
    let start = &raw mut *storage;
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than, and aligned for, every kind of address.
            unsafe { start.cast::<libc::sockaddr_in>().write(raw) };
            (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { start.cast::<libc::sockaddr_in6>().write(raw) };
            (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

/// A listening socket of this shard.
pub struct Listener {
    machine: Rc<Machine>,
    socket: Rc<TcpListener>,
    reserve: RefCell<Option<File>>,
}

impl Listener {
    /// Starts to listen. Panics on a thread that is no shard.
    pub fn listen(bound: BoundSocket) -> io::Result<Listener> {
        // SAFETY: the descriptor is open.
        if unsafe { libc::listen(bound.socket.as_raw_fd(), BACKLOG) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = Rc::new(TcpListener::from(bound.socket));
        let reserve = RefCell::new(File::open("/dev/null").ok());
        Ok(Listener {
            machine: current(),
            socket,
            reserve,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection, with `TCP_NODELAY` set. Connections that failed before they were
    /// accepted are passed over, and a lack of descriptors is waited out; any other error means
    /// that this listener is done for (when the shard stops: ECANCELED).
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            let descriptor = Fd(self.socket.as_raw_fd());
            let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
            let entry = opcode::Accept::new(descriptor, address, len).flags(libc::SOCK_CLOEXEC);
            // SAFETY: no pointers; the descriptor is kept.
            let accepting = unsafe { self.machine.ring.submit(entry.build(), self.socket.clone()) };
            let (result, _) = accepting.yielding_descriptor().await;
            let error = match checked(result) {
                Ok(descriptor) => {
                    add(&self.machine.counts.accepts, 1);
                    // SAFETY: the kernel just gave us this descriptor.
                    let socket = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
                    return Ok(Stream::from_descriptor(socket));
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    self.turn_away(&error);
                    sleep(EXHAUSTED_PAUSE).await;
                    self.restore_reserve();
                }
                Some(
                    libc::ECONNABORTED
                    | libc::EINTR
                    | libc::EAGAIN
                    | libc::EPROTO
                    | libc::EPERM
                    | libc::ENETDOWN
                    | libc::EHOSTDOWN
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::ENOPROTOOPT
                    | libc::ENONET
                    | libc::EOPNOTSUPP
                    | libc::ETIMEDOUT,
                ) => {}
                _ => return Err(error),
            }
        }
    }

    /// Spends the reserve descriptor on closing one waiting connection, so that its client learns
    /// at once instead of hanging.
    pub(super) fn turn_away(&self, error: &io::Error) {
        if self.reserve.borrow_mut().take().is_none() {
            return;
        }
        tracing::warn!(%error, "connections are turned away: raise the limit of open files");
        let listener = self.socket.as_raw_fd();
        let mut waiting = libc::pollfd {
            fd: listener,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one initialised entry; no waiting.
        if unsafe { libc::poll(&mut waiting, 1, 0) } != 1 {
            return;
        }
        let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: no pointers; a connection waits, so the call returns at once.
        let descriptor = unsafe { libc::accept4(listener, address, len, libc::SOCK_CLOEXEC) };
        if descriptor >= 0 {
            add(&self.machine.counts.accepts_refused, 1);
            // SAFETY: the kernel just gave us this descriptor.
            drop(unsafe { TcpStream::from_raw_fd(descriptor) });
        }
    }

    pub(super) fn restore_reserve(&self) {
        let mut reserve = self.reserve.borrow_mut();
        if reserve.is_none() {
            *reserve = File::open("/dev/null").ok();
        }
    }
}
