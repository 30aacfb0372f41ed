//! One TCP connection on this shard's ring.
//!
//! Knows no frames. Everything takes `&self`, so that one task can read while another writes; two
//! tasks must not read, nor two write, at the same time.
//!
//! An operation owns the socket and its buffers until the kernel is done with them, even if its
//! future is dropped. A receive whose future was dropped may have swallowed bytes: close then.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use io_uring::opcode;
use io_uring::types::Fd;

use super::counters::add;
use super::executor::{Machine, current};
use super::listener::{encode, tcp_socket};
use super::ring::{Op, checked};
use super::timer::timeout;
use crate::base::Mono;

/// At most this many bytes go into one send, so that one connection does not hold up the others.
const SEND_MAX: usize = 512 << 10;
/// At most this many bytes beside a file are sent by a plain system call.
const AT_ONCE_MAX: usize = 64 << 10;
/// At most this many pieces go into one send (the kernel's `IOV_MAX`).
const PIECES_MAX: usize = 1024;

/// A connected socket.
#[derive(Clone)]
pub struct Stream {
    pub(super) machine: Rc<Machine>,
    pub(super) socket: Rc<TcpStream>,
}

/// The kernel's description of a send, with what it points at. The vectors' heap does not move.
struct Gather {
    message: Box<libc::msghdr>,
    _vectors: Vec<libc::iovec>,
    parts: Vec<Bytes>,
}

impl Stream {
    /// Takes over a connected socket, for instance one handed over by another core, and sets
    /// `TCP_NODELAY`. Panics on a thread that is no shard.
    pub fn from_descriptor(socket: OwnedFd) -> Stream {
        let socket = TcpStream::from(socket);
        let _ = socket.set_nodelay(true);
        Stream {
            machine: current(),
            socket: Rc::new(socket),
        }
    }

    /// Gives the socket away, for instance to another core. If an abandoned operation still holds
    /// it, a duplicate of the descriptor is given.
    pub fn into_descriptor(self) -> io::Result<OwnedFd> {
        match Rc::try_unwrap(self.socket) {
            Ok(socket) => Ok(OwnedFd::from(socket)),
            Err(shared) => shared.try_clone().map(OwnedFd::from),
        }
    }

    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let stream = Stream::from_descriptor(tcp_socket(&address)?);
        let (raw, len) = encode(&address);
        let descriptor = Fd(stream.socket.as_raw_fd());
        let entry = opcode::Connect::new(descriptor, (&raw const *raw).cast(), len).build();
        let keep = (raw, stream.socket.clone());
        // SAFETY: the address is on the heap and kept; so is the socket.
        let (result, _) = unsafe { stream.machine.ring.submit(entry, keep) }.await;
        checked(result)?;
        Ok(stream)
    }

    /// Waits until something can be read, the end included. Holds no buffer meanwhile: thousands
    /// of idle connections cost only their operations.
    pub async fn readable(&self) -> io::Result<()> {
        self.poll(libc::POLLIN | libc::POLLRDHUP).await
    }

    /// Waits until something can be written or the connection is broken.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.poll(libc::POLLOUT).await
    }

    async fn poll(&self, events: libc::c_short) -> io::Result<()> {
        let descriptor = Fd(self.socket.as_raw_fd());
        let entry = opcode::PollAdd::new(descriptor, events as u32).build();
        // SAFETY: no pointers; the socket is kept.
        let (result, _) = unsafe { self.machine.ring.submit(entry, self.socket.clone()) }.await;
        checked(result).map(drop)
    }

    /// Receives into the spare capacity of `buffer`, which must not be empty, and gives it back
    /// with the count; 0 means that the peer has finished sending.
    pub async fn receive_into(&self, buffer: BytesMut) -> (io::Result<usize>, BytesMut) {
        let (result, (buffer, _)) = self.start_receive(buffer).await;
        self.received(result, buffer)
    }

    /// As [`Stream::receive_into`], but no longer than until `limit`: none if nothing has come by
    /// then. The buffer is given back in any case, and no byte is lost.
    pub async fn receive_until(
        &self,
        limit: Mono,
        buffer: BytesMut,
    ) -> (io::Result<Option<usize>>, BytesMut) {
        let mut receiving = self.start_receive(buffer);
        let (given_up, (result, (buffer, _))) = match timeout(limit, &mut receiving).await {
            Ok(done) => (false, done),
            Err(_) => {
                receiving.cancel();
                (true, receiving.await)
            }
        };
        if given_up && result == -libc::ECANCELED {
            return (Ok(None), buffer);
        }
        let (result, buffer) = self.received(result, buffer);
        (result.map(Some), buffer)
    }

    fn start_receive(&self, mut buffer: BytesMut) -> Op<(BytesMut, Rc<TcpStream>)> {
        let spare = buffer.spare_capacity_mut();
        assert!(!spare.is_empty(), "a receive without room");
        let (start, room) = (spare.as_mut_ptr().cast::<u8>(), spare.len().min(1 << 30));
        let descriptor = Fd(self.socket.as_raw_fd());
        let entry = opcode::Recv::new(descriptor, start, room as u32).build();
        let keep = (buffer, self.socket.clone());
        // SAFETY: the room is on the buffer's heap and kept; so is the socket.
        unsafe { self.machine.ring.submit(entry, keep) }
    }

    fn received(&self, result: i32, mut buffer: BytesMut) -> (io::Result<usize>, BytesMut) {
        let result = checked(result);
        if let Ok(count) = result {
            // SAFETY: the kernel has filled `count` bytes of the spare capacity.
            unsafe { buffer.set_len(buffer.len() + count) };
            add(&self.machine.counts.receives, 1);
            add(&self.machine.counts.received_bytes, count as u64);
        }
        (result, buffer)
    }

    /// Sends all parts in order.
    pub async fn send_vectored(&self, parts: Vec<Bytes>) -> io::Result<()> {
        self.send_parts(parts, libc::MSG_NOSIGNAL).await
    }

    /// Sends all parts in order, at once if the socket takes them: for what stands before and
    /// after a file's bytes, which themselves do not go through the ring.
    pub async fn send_beside_file(&self, parts: Vec<Bytes>) -> io::Result<()> {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_MORE;
        let size: usize = parts.iter().map(Bytes::len).sum();
        if size == 0 {
            return Ok(());
        }
        if size > AT_ONCE_MAX || parts.len() > PIECES_MAX {
            return self.send_parts(parts, flags).await;
        }
        let gather = Gather::new(parts);
        let (socket, at_once) = (self.socket.as_raw_fd(), flags | libc::MSG_DONTWAIT);
        // SAFETY: the message and what it points at live through the call, which does not wait.
        let sent = unsafe { libc::sendmsg(socket, &*gather.message, at_once) }.max(0) as usize;
        add(&self.machine.counts.sends, 1);
        add(&self.machine.counts.sent_bytes, sent as u64);
        if sent == size {
            return Ok(());
        }
        // The rest waits its turn in the ring; so does an error, to be found there.
        let mut rest = Vec::new();
        put_back_unsent(&mut rest, gather.parts, sent);
        rest.reverse();
        self.send_parts(rest, flags).await
    }

    /// Has the kernel send full packets only, until the same is called with `false`, which sends
    /// the rest: a reply of several pieces is not cut into as many packets.
    pub fn cork(&self, corked: bool) {
        let value = libc::c_int::from(corked);
        // SAFETY: an option of one int, read from a local variable. A socket without the option
        // sends in smaller packets, which is no fault.
        unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_CORK,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }

    async fn send_parts(&self, parts: Vec<Bytes>, flags: libc::c_int) -> io::Result<()> {
        let mut rest = parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>();
        rest.reverse();
        while !rest.is_empty() {
            let (batch, whole) = take_batch(&mut rest);
            let flags = if rest.is_empty() {
                flags
            } else {
                flags | libc::MSG_MORE
            };
            let sent = self.send_once(batch.clone(), flags).await?;
            put_back_unsent(&mut rest, batch, sent);
            add(&self.machine.counts.sends, 1);
            add(&self.machine.counts.sent_bytes, sent as u64);
            if sent == 0 && whole > 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    async fn send_once(&self, parts: Vec<Bytes>, flags: libc::c_int) -> io::Result<usize> {
        let descriptor = Fd(self.socket.as_raw_fd());
        if let [part] = &parts[..] {
            let send = opcode::Send::new(descriptor, part.as_ptr(), part.len() as u32);
            let keep = (parts, self.socket.clone());
            // SAFETY: a Bytes is on the heap or static, and kept; so is the socket.
            let sending = unsafe { self.machine.ring.submit(send.flags(flags).build(), keep) };
            return checked(sending.await.0);
        }
        let gather = Gather::new(parts);
        let send = opcode::SendMsg::new(descriptor, &*gather.message)
            .flags(flags as u32)
            .build();
        let keep = (gather, self.socket.clone());
        // SAFETY: the message, its vectors and the parts are on the heap and kept.
        checked(unsafe { self.machine.ring.submit(send, keep) }.await.0)
    }

    /// The other end's address.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// This end's address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Ends both directions: reads and writes in flight come back. Never waits, which is why it
    /// is a plain system call; the ring's opcode would go through a worker thread.
    pub fn shut_down(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Closes the socket through the ring, unless another task still has it.
    pub async fn close(self) {
        let Ok(socket) = Rc::try_unwrap(self.socket) else {
            return;
        };
        let socket = std::os::fd::IntoRawFd::into_raw_fd(socket);
        let entry = opcode::Close::new(Fd(socket)).build();
        // SAFETY: no pointers; the descriptor is ours alone, and closing it is the operation.
        let (result, ()) = unsafe { self.machine.ring.submit(entry, ()) }.await;
        if result == -libc::ECANCELED {
            // SAFETY: a cancelled close has not closed; the descriptor is still ours.
            drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) });
        }
    }
}

impl Gather {
    fn new(parts: Vec<Bytes>) -> Gather {
        let vector = |part: &Bytes| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        };
        let mut vectors: Vec<libc::iovec> = parts.iter().map(vector).collect();
        // SAFETY: the structure is plain numbers and pointers; zeros are valid.
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = vectors.len();
        Gather {
            message,
            _vectors: vectors,
            parts,
        }
    }
}

/// Takes the next parts off the end of `rest` (which is in reverse), up to the limits of one
/// send. Returns them in order, and their size.
fn take_batch(rest: &mut Vec<Bytes>) -> (Vec<Bytes>, usize) {
    let (mut batch, mut size) = (Vec::with_capacity(rest.len().min(PIECES_MAX)), 0);
    while size < SEND_MAX && batch.len() < PIECES_MAX {
        let Some(mut part) = rest.pop() else { break };
        if part.len() > SEND_MAX - size {
            let later = part.split_off(SEND_MAX - size);
            rest.push(later);
        }
        size += part.len();
        batch.push(part);
    }
    (batch, size)
}

/// Puts what of `batch` was not among the first `sent` bytes back in front of `rest`.
fn put_back_unsent(rest: &mut Vec<Bytes>, batch: Vec<Bytes>, mut sent: usize) {
    let mut unsent = Vec::new();
    for mut part in batch {
        let gone = sent.min(part.len());
        sent -= gone;
        if gone < part.len() {
            unsent.push(part.split_off(gone));
        }
    }
    rest.extend(unsent.into_iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_send_goes_on_at_the_exact_byte() {
        let whole: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        let bytes = Bytes::from(whole.clone());
        let mut rest: Vec<Bytes> = (0..100)
            .map(|n| bytes.slice(n * 100..(n + 1) * 100))
            .collect();
        rest.reverse();
        let mut sent = Vec::new();
        let mut step = 1;
        while !rest.is_empty() {
            let (batch, size) = take_batch(&mut rest);
            let count = size.min(step);
            sent.extend_from_slice(&batch.concat()[..count]);
            put_back_unsent(&mut rest, batch, count);
            step = step * 3 % 1009 + 1;
        }
        assert_eq!(sent, whole);
    }

    #[test]
    fn one_send_never_carries_more_than_its_limit() {
        let big = Bytes::from(vec![1; SEND_MAX * 2 + 5]);
        let mut rest = vec![big];
        let (batch, size) = take_batch(&mut rest);
        assert_eq!((batch.len(), size), (1, SEND_MAX));
        assert_eq!(rest[0].len(), SEND_MAX + 5);
        let mut rest = vec![Bytes::from_static(b"x"); 3000];
        assert_eq!(take_batch(&mut rest).0.len(), PIECES_MAX);
    }
}
