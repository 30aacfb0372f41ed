//! The receiving end of the fetch measurements, the same for the broker and for the bare loop: a few
//! connections, a few requests in flight on each, reads of up to 256 KiB into one buffer that is used
//! again. Every byte is copied out of the kernel, as in a real client, and none is looked at but those
//! of a reply's head. It waits awake: else what serves it would be measured by how often it has to send
//! an interrupt to a CPU that sleeps.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How much one read takes at most.
const READ_BYTES: usize = 256 << 10;
/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of each reply is kept for a look.
const HEAD_BYTES: usize = 96;

/// What a connection asks for: request `n` of it, and how many bytes of records its reply holds.
pub trait Script {
    /// The frame of request `n` of connection `connection`; none when it has asked for everything.
    fn request(&self, connection: usize, n: u64) -> Option<Vec<u8>>;
    /// Bytes of records in a reply of `size` bytes that begins with `head`. Error: it is not what was
    /// asked for.
    fn records(&self, head: &[u8], size: usize) -> io::Result<u64>;
}

/// Where connection `connection` reads with its request `n`: each has its own `stretch`, goes over it in
/// steps of `step`, `passes` times; none when it has been everywhere.
pub fn nth_place(
    connection: usize,
    n: u64,
    (stretch, step): (u64, u64),
    passes: u64,
) -> Option<u64> {
    let in_a_pass = stretch / step;
    (n < in_a_pass * passes).then(|| connection as u64 * stretch + n % in_a_pass * step)
}

struct Lane {
    stream: TcpStream,
    asked: u64,
    answered: u64,
    head: Vec<u8>,
    /// Bytes of the frame that is being received, its length included; 0 while that is not known.
    frame: usize,
    received: usize,
}

/// What was received, and in how long.
pub struct Passed {
    /// Bytes of records.
    pub bytes: u64,
    /// From the first request to the last reply.
    pub took: Duration,
}

impl Passed {
    /// In millions of bytes.
    pub fn megabytes_a_second(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64() / 1e6
    }
}

/// Asks for everything that the script has, `in_flight` requests at a time on each connection. Errors:
/// of a connection, of the script, or that no reply came for ten seconds.
pub fn read_all(
    address: SocketAddr,
    connections: usize,
    in_flight: u64,
    script: &dyn Script,
) -> io::Result<Passed> {
    let lanes = (0..connections).map(|_| Lane::connect(address));
    let mut lanes = lanes.collect::<io::Result<Vec<Lane>>>()?;
    let begin = Instant::now();
    for (index, lane) in lanes.iter_mut().enumerate() {
        while lane.asked < in_flight && lane.ask(index, script)? {}
    }
    let mut buffer = vec![0; READ_BYTES];
    let (mut bytes, mut came) = (0, Instant::now());
    loop {
        // The kernel may complete the broker's durable writes on this CPU: it goes first.
        std::thread::yield_now();
        let mut polled: Vec<libc::pollfd> = lanes
            .iter()
            .map(|lane| libc::pollfd {
                fd: if lane.answered < lane.asked {
                    lane.stream.as_raw_fd()
                } else {
                    -1
                },
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        if polled.iter().all(|one| one.fd < 0) {
            break;
        }
        // SAFETY: the array lives through the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, 0) };
        if ready > 0 {
            came = Instant::now();
        }
        if came.elapsed() > PATIENCE {
            return Err(ErrorKind::TimedOut.into());
        }
        for (index, lane) in lanes.iter_mut().enumerate() {
            if polled[index].revents == 0 {
                continue;
            }
            let count = match lane.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            bytes += lane.take(index, &buffer[..count], script)?;
        }
    }
    Ok(Passed {
        bytes,
        took: begin.elapsed(),
    })
}

impl Lane {
    fn connect(address: SocketAddr) -> io::Result<Lane> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Lane {
            stream,
            asked: 0,
            answered: 0,
            head: Vec::new(),
            frame: 0,
            received: 0,
        })
    }

    /// Sends the next request; false if there is none. Requests are small: they always fit.
    fn ask(&mut self, index: usize, script: &dyn Script) -> io::Result<bool> {
        let Some(request) = script.request(index, self.asked) else {
            return Ok(false);
        };
        self.stream.write_all(&request)?;
        self.asked += 1;
        Ok(true)
    }

    /// Goes over what was received; returns the bytes of records in the replies that it ended.
    fn take(&mut self, index: usize, mut chunk: &[u8], script: &dyn Script) -> io::Result<u64> {
        let mut records = 0;
        while !chunk.is_empty() {
            let wanted = HEAD_BYTES.saturating_sub(self.head.len());
            let rest = if self.frame == 0 {
                4 - self.received
            } else {
                self.frame - self.received
            };
            let count = rest.min(chunk.len());
            self.head.extend_from_slice(&chunk[..count.min(wanted)]);
            self.received += count;
            chunk = &chunk[count..];
            if self.frame == 0 && self.received == 4 {
                let size = [self.head[0], self.head[1], self.head[2], self.head[3]];
                let size = usize::try_from(i32::from_be_bytes(size));
                self.frame = 4 + size.map_err(|_| ErrorKind::InvalidData)?;
            } else if self.received == self.frame && self.frame > 0 {
                records += script.records(&self.head, self.frame)?;
                self.head.clear();
                (self.frame, self.received) = (0, 0);
                self.answered += 1;
                self.ask(index, script)?;
            }
        }
        Ok(records)
    }
}
