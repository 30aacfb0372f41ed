//! The bare loop: one thread, one file, `poll(2)` and `sendfile(2)`, nothing else. It
//! takes requests for a range of the file and answers each with a length and the range, on as many
//! connections as come, as a broker would if it had nothing to look up.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::JoinHandle;

use super::reader::{Script, nth_place};
use crate::rt::{clock, limits};

/// The most that one `sendfile` is asked for, and one connection gets before the next.
const SLICE_BYTES: usize = 256 << 10;
/// A request: where the range begins, its length, and nothing up to the size of a fetch request.
const REQUEST_BYTES: usize = 96;
/// What stands before the range: its length, and zeros up to the size of a fetch reply's head.
const HEAD_BYTES: usize = 64;

/// A running loop; ends when its last connection does.
pub struct Bare {
    /// Where it listens.
    pub address: SocketAddr,
    thread: JoinHandle<io::Result<f64>>,
}

impl Bare {
    /// Serves `path` to `connections` connections, on `cpus`. Errors: of the file, the socket, the CPUs.
    pub fn start(path: &Path, connections: usize, cpus: &[usize]) -> io::Result<Bare> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (file, cpus) = (File::open(path)?, cpus.to_vec());
        let thread = std::thread::spawn(move || {
            limits::pin_to(&cpus)?;
            serve(&listener, &file, connections)
        });
        Ok(Bare { address, thread })
    }

    /// Waits for its end; the CPU seconds that it took.
    pub fn end(self) -> io::Result<f64> {
        let ended = self.thread.join();
        ended.map_err(|_| io::Error::other("the bare loop failed"))?
    }
}

struct Lane {
    stream: TcpStream,
    request: Vec<u8>,
    /// Ranges to send: bytes of the head that are left, the place, bytes that are left.
    ranges: VecDeque<(usize, i64, usize)>,
    open: bool,
}

fn serve(listener: &TcpListener, file: &File, connections: usize) -> io::Result<f64> {
    let mut lanes = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        lanes.push(Lane {
            stream,
            request: Vec::new(),
            ranges: VecDeque::new(),
            open: true,
        });
    }
    while lanes.iter().any(|lane| lane.open) {
        let mut polled: Vec<libc::pollfd> = lanes
            .iter()
            .map(|lane| libc::pollfd {
                fd: if lane.open {
                    lane.stream.as_raw_fd()
                } else {
                    -1
                },
                events: libc::POLLIN
                    | if lane.ranges.is_empty() {
                        0
                    } else {
                        libc::POLLOUT
                    },
                revents: 0,
            })
            .collect();
        // SAFETY: the array lives through the call.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, -1) };
        for (lane, polled) in lanes.iter_mut().zip(&polled) {
            if polled.revents & libc::POLLIN != 0 {
                lane.receive();
            }
            if polled.revents & (libc::POLLOUT | libc::POLLIN) != 0 {
                lane.send(file)?;
            }
        }
    }
    Ok(clock::thread_cpu_ns() as f64 / 1e9)
}

impl Lane {
    fn receive(&mut self) {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.open = false,
            Ok(count) => self.request.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.open = false,
        }
        while self.request.len() >= REQUEST_BYTES {
            let number = |at: usize| {
                i64::from_be_bytes(self.request[at..at + 8].try_into().expect("eight bytes"))
            };
            self.ranges
                .push_back((HEAD_BYTES, number(0), number(8) as usize));
            self.request.drain(..REQUEST_BYTES);
        }
    }

    /// Sends one slice, or less. Error: the file has no such range.
    fn send(&mut self, file: &File) -> io::Result<()> {
        let Some((head, at, left)) = self.ranges.front_mut() else {
            return Ok(());
        };
        let socket = self.stream.as_raw_fd();
        if *head > 0 {
            let mut bytes = [0; HEAD_BYTES];
            let size = (HEAD_BYTES - 4 + *left) as i32;
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            let rest = &bytes[HEAD_BYTES - *head..];
            // SAFETY: the bytes are a local variable's, and as long as told.
            let sent =
                unsafe { libc::send(socket, rest.as_ptr().cast(), rest.len(), libc::MSG_MORE) };
            *head -= sent.max(0) as usize;
            if *head > 0 {
                return Ok(());
            }
        }
        let count = (*left).min(SLICE_BYTES);
        // SAFETY: both descriptors are open, `at` is a valid place.
        let sent = unsafe { libc::sendfile(socket, file.as_raw_fd(), at, count) };
        if sent == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *left -= sent.max(0) as usize;
        if *left == 0 {
            self.ranges.pop_front();
        }
        Ok(())
    }
}

/// Each connection reads its own stretch of the file, `chunk` bytes at a time, `passes` times over.
pub struct Ranges {
    /// Bytes of a connection's stretch, a multiple of `chunk`.
    pub stretch: u64,
    /// Bytes of a range.
    pub chunk: u64,
    /// How often a stretch is read.
    pub passes: u64,
}

impl Script for Ranges {
    fn request(&self, connection: usize, n: u64) -> Option<Vec<u8>> {
        let at = nth_place(connection, n, (self.stretch, self.chunk), self.passes)?;
        let mut request = vec![0; REQUEST_BYTES];
        request[..8].copy_from_slice(&at.to_be_bytes());
        request[8..16].copy_from_slice(&self.chunk.to_be_bytes());
        Some(request)
    }

    fn records(&self, _: &[u8], size: usize) -> io::Result<u64> {
        match size == HEAD_BYTES + self.chunk as usize {
            true => Ok(self.chunk),
            false => Err(io::Error::other(format!("an answer of {size} bytes"))),
        }
    }
}
