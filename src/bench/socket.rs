//! A non-blocking connection: frames out, frames in. Knows no request.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::ToSocketAddrs;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Bytes that are read at a time, and the first size of the buffer.
const READ_BYTES: usize = 256 << 10;
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Frames below this are copied out of the buffer; larger ones are lent out with it.
const COPIED_BYTES_MAX: usize = 16 << 10;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(super) struct Socket {
    outgoing: Outgoing,
    buffer: BytesMut,
    filled: usize,
}

/// The side of a connection that sends: a reader may ask for more while it still looks at what came.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: TcpStream,
    /// What could not be sent yet.
    out: VecDeque<u8>,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nothing more is there for now.
    All,
    /// More may be there.
    Some,
    /// The broker closed the connection.
    End,
}

impl Socket {
    /// Connects, and tells of readiness under `token` from then on.
    pub(super) fn connect(address: &str, registry: &Registry, token: Token) -> io::Result<Socket> {
        let mut found = Err(io::Error::other(format!("{address} has no address")));
        for place in address.to_socket_addrs()? {
            found = std::net::TcpStream::connect_timeout(&place, CONNECT_PATIENCE);
            if found.is_ok() {
                break;
            }
        }
        let stream = found?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket {
            outgoing: Outgoing {
                stream,
                out: VecDeque::new(),
            },
            buffer: BytesMut::zeroed(READ_BYTES),
            filled: 0,
        })
    }

    /// The side that sends.
    pub(super) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Reads once.
    pub(super) fn read(&mut self) -> io::Result<Came> {
        if self.filled == self.buffer.len() {
            let size = self.wanted().unwrap_or(0).max(self.filled + READ_BYTES);
            self.buffer.resize(size, 0);
        }
        let room = &mut self.buffer[self.filled..];
        let (asked, read) = (room.len(), self.outgoing.stream.read(room));
        match read {
            Ok(0) => Ok(Came::End),
            Ok(count) => {
                self.filled += count;
                // A short read has emptied the socket: epoll(7), question 9.
                Ok(if count < asked { Came::All } else { Came::Some })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Came::All),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Came::Some),
            Err(error) => Err(error),
        }
    }

    /// The size of the frame at the front, its own four bytes included.
    fn wanted(&self) -> Option<usize> {
        let prefix: [u8; 4] = self.buffer[..self.filled].get(..4)?.try_into().ok()?;
        Some(4 + u32::from_be_bytes(prefix) as usize)
    }

    /// Gives each whole frame (without its size) to `take`, in order, with the side that sends.
    pub(super) fn frames(
        &mut self,
        mut take: impl FnMut(Bytes, &mut Outgoing) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut at = 0;
        while let Some(prefix) = self.buffer[at..self.filled].first_chunk::<4>() {
            let size = u32::from_be_bytes(*prefix) as usize;
            if size > ANSWER_BYTES_MAX {
                return Err(format!("an answer of {size} bytes"));
            }
            let (from, to) = (at + 4, at + 4 + size);
            if to > self.filled {
                break;
            }
            at = to;
            if size < COPIED_BYTES_MAX {
                take(
                    Bytes::copy_from_slice(&self.buffer[from..to]),
                    &mut self.outgoing,
                )?;
                continue;
            }
            // Records are read where they lie; the buffer comes back when nobody holds them.
            let whole = std::mem::take(&mut self.buffer).freeze();
            let taken = take(whole.slice(from..to), &mut self.outgoing);
            self.buffer = whole
                .try_into_mut()
                .unwrap_or_else(|held| BytesMut::from(&held[..]));
            taken?;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

impl Outgoing {
    /// Sends `head` and then `body`, what does not fit now later.
    pub(super) fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        if self.out.is_empty() {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            sent = match self.stream.write_vectored(&parts) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
        }
        self.out.extend(&head[sent.min(head.len())..]);
        self.out.extend(&body[sent.saturating_sub(head.len())..]);
        // After a short write readiness is told again only once the kernel has said "would block".
        self.flush()
    }

    /// Sends what is left, as far as it goes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let (front, back) = self.out.as_slices();
            let parts = [IoSlice::new(front), IoSlice::new(back)];
            match self.stream.write_vectored(&parts) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
