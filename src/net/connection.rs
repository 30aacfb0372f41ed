//! One connection: a reader that cuts frames and begins requests, a writer that sends the replies.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

use super::budget::{Budget, Permit, Share};
use super::replies::{Next, Replies};
use super::unsent::Unsent;
use super::{Part, Started};
use crate::base::Mono;
use crate::protocol::ApiKey;
use crate::protocol::header::{FRAME_SIZE_BYTES, frame_size};
use crate::rt::{self, Stream};

/// The least room that is made for a receive.
const RECEIVE_BYTES_MIN: usize = 4 << 10;
/// The most room that is made before a frame's size is known.
const RECEIVE_BYTES_MAX: usize = 64 << 10;
/// Frames below this are not worth asking the budget for: the request queue bounds them.
const BUDGETED_BYTES_MIN: usize = 16 << 10;

/// How long a peer may say nothing in the middle of a frame and keep the memory for all of it.
const LULL: Duration = Duration::from_secs(1);
/// Who sends fewer bytes than this in that time counts as one that says nothing.
const PACE_BYTES_MIN: usize = 16 << 10;
/// Who was too slow is first listened to again after so long, and each time it still is after twice
/// as long, [`LULL`] at most: meanwhile what it sends is the kernel's to keep.
const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// How often a reply that is not taken is looked at.
const UNSENT_LOOK: Duration = Duration::from_secs(1);
/// How long a reply is left alone, however much memory all of them hold.
const UNSENT_PATIENCE: Duration = Duration::from_secs(5);

/// What a connection may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest frame, in bytes (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Closed after so long without a request (`connections.max.idle.ms`), and when a reply could
    /// not be sent for so long.
    pub idle_max: Duration,
    /// The memory that frames take.
    pub budget: Budget,
    /// The memory that replies hold which nobody takes.
    pub unsent: Unsent,
}

/// Why [`serve`] came back.
#[derive(Debug)]
pub enum Ended {
    /// The connection is closed.
    Closed,
    /// The server wants it elsewhere: nothing is in flight on it.
    Moved {
        /// The socket.
        socket: rt::Descriptor,
        /// What was received and not begun yet.
        leftover: Bytes,
    },
}

/// What the server says after it has begun a frame.
pub struct Served<T> {
    /// The request.
    pub started: Started,
    /// What the server is given back when the kernel has the reply.
    pub account: T,
    /// The connection shall be given up once everything is answered.
    pub moves: bool,
}

/// Serves a connection to its end. `leftover` was received already, by whoever had it before;
/// `begin` is given each frame, without its length, and the time at which it was whole; `sent` is
/// given the account of each request whose reply the kernel has, and the time at which it had it.
pub async fn serve<T: 'static>(
    stream: Stream,
    leftover: Bytes,
    limits: Limits,
    begin: impl FnMut(Bytes, Mono) -> Served<T>,
    sent: impl FnMut(T, Mono) + 'static,
) -> Ended {
    let replies = Replies::default();
    let writing = write(stream.clone(), replies.clone(), limits.clone(), sent);
    let writer = rt::spawn_local(writing);
    let mut reader = Reader {
        stream: stream.clone(),
        replies: replies.clone(),
        share: limits.budget.share(),
        limits,
        buffer: BytesMut::from(&leftover[..]),
        last_received: RECEIVE_BYTES_MIN,
    };
    let result = reader.read(begin).await;
    if let Ok(true) = result {
        replies.drained().await;
        replies.finish();
        writer.await;
        let leftover = reader.buffer.split().freeze();
        drop(reader);
        if let Ok(socket) = stream.into_descriptor() {
            return Ended::Moved { socket, leftover };
        }
        return Ended::Closed;
    }
    // Kafka answers what it has taken before a client half-closes, or sends a size that no frame
    // may have; errors of the socket end everything at once.
    replies.finish();
    if result.is_err_and(|error| error.kind() != io::ErrorKind::InvalidData) {
        stream.shut_down();
    }
    writer.await;
    drop(reader);
    stream.close().await;
    Ended::Closed
}

/// How fast a peer sends its frame.
struct Pace {
    since: Mono,
    bytes: usize,
    /// How long to wait for more of one that was too slow last.
    pause: Option<Duration>,
}

impl Pace {
    fn new(now: Mono) -> Pace {
        Pace {
            since: now,
            bytes: 0,
            pause: None,
        }
    }

    /// So many bytes came. If the peer is too slow to keep the memory for its whole frame, how long it
    /// shall be left alone. One that was is so until it sends enough at once.
    fn received(&mut self, bytes: usize, now: Mono) -> Option<Duration> {
        self.bytes += bytes;
        if self.bytes >= PACE_BYTES_MIN {
            *self = Pace::new(now);
            return None;
        }
        if self.pause.is_none() && now.since(self.since) < LULL {
            return None;
        }
        let pause = self.pause.unwrap_or(SLOW_PAUSE);
        *self = Pace {
            pause: Some((pause * 2).min(LULL)),
            ..Pace::new(now)
        };
        Some(pause)
    }

    /// Nothing came for [`LULL`].
    fn fell_silent(&mut self, now: Mono) {
        *self = Pace {
            pause: Some(SLOW_PAUSE),
            ..Pace::new(now)
        };
    }
}

struct Reader<T> {
    stream: Stream,
    replies: Replies<T>,
    share: Share,
    limits: Limits,
    buffer: BytesMut,
    last_received: usize,
}

impl<T> Reader<T> {
    /// Reads until the peer has finished (`false`), or the connection moves (`true`).
    async fn read(&mut self, mut begin: impl FnMut(Bytes, Mono) -> Served<T>) -> io::Result<bool> {
        loop {
            let Some(size) = self.next_size().await? else {
                return Ok(false);
            };
            let mut permit = match size {
                size if size < BUDGETED_BYTES_MIN => None,
                size => Some(self.limits.budget.take(size).await),
            };
            if !self.fill(FRAME_SIZE_BYTES + size, permit.as_mut()).await? {
                return Ok(false);
            }
            self.buffer.advance(FRAME_SIZE_BYTES);
            let frame = self.buffer.split_to(size).freeze();
            if permit.is_some() && self.buffer.len() <= BUDGETED_BYTES_MIN {
                // What is left shares the frame's memory, and would keep all of it for as long as
                // the peer says nothing: ten thousand producers, ten gigabytes.
                self.buffer = BytesMut::from(&self.buffer[..]);
            }
            let is_fetch = is_fetch(&frame);
            self.replies.room(is_fetch).await;
            if self.replies.is_abandoned() {
                return Ok(false);
            }
            let Served {
                started,
                account,
                moves,
            } = begin(frame, rt::clock::mono());
            self.replies.push(started, account, permit, is_fetch);
            if moves {
                return Ok(true);
            }
        }
    }

    /// The size of the next frame; none at the end of the stream. A size that is not allowed is an
    /// error before anything is allocated for it.
    async fn next_size(&mut self) -> io::Result<Option<usize>> {
        if !self.fill(FRAME_SIZE_BYTES, None).await? {
            return Ok(None);
        }
        let mut prefix = [0; FRAME_SIZE_BYTES];
        prefix.copy_from_slice(&self.buffer[..FRAME_SIZE_BYTES]);
        frame_size(prefix, self.limits.frame_bytes_max)
            .map(Some)
            .map_err(|refused| {
                tracing::debug!(%refused, "closing a connection");
                io::ErrorKind::InvalidData.into()
            })
    }

    /// Receives until the buffer holds `wanted` bytes; false if the stream ends before.
    async fn fill(&mut self, wanted: usize, mut permit: Option<&mut Permit>) -> io::Result<bool> {
        let mut pace = Pace::new(rt::clock::mono());
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            let most = self
                .share
                .bytes()
                .clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_MAX);
            let usual = (self.last_received * 2).clamp(RECEIVE_BYTES_MIN, most);
            if self.buffer.capacity() - self.buffer.len() < missing.max(usual / 2) {
                self.buffer.reserve(missing.max(usual));
            }
            match permit.as_deref_mut() {
                None => match self.receive().await? {
                    0 => return Ok(false),
                    count => self.last_received = count,
                },
                Some(permit) => match self.receive_in_a_frame().await? {
                    Some(0) => return Ok(false),
                    Some(count) => {
                        self.last_received = count;
                        let pause = pace.received(count, rt::clock::mono());
                        let missing = wanted.saturating_sub(self.buffer.len());
                        if let Some(pause) = pause.filter(|_| missing > 0) {
                            self.wait_out(permit, missing, pause).await?;
                        }
                    }
                    None => {
                        self.wait_out(permit, missing, Duration::ZERO).await?;
                        pace.fell_silent(rt::clock::mono());
                    }
                },
            }
        }
        Ok(true)
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let deadline = rt::clock::mono().after(self.limits.idle_max);
        let receive = self.stream.receive_into(std::mem::take(&mut self.buffer));
        let Ok((received, buffer)) = rt::timeout(deadline, receive).await else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        self.buffer = buffer;
        received
    }

    /// None if the peer says nothing for [`LULL`].
    async fn receive_in_a_frame(&mut self) -> io::Result<Option<usize>> {
        let limit = rt::clock::mono().after(LULL.min(self.limits.idle_max));
        let buffer = std::mem::take(&mut self.buffer);
        let (received, buffer) = self.stream.receive_until(limit, buffer).await;
        self.buffer = buffer;
        received
    }

    /// While the peer says nothing in the middle of a frame, and `pause` longer, only what it has sent
    /// is kept, and the rest of the frame's memory, of which `missing` bytes are not filled, serves
    /// others.
    async fn wait_out(
        &mut self,
        permit: &mut Permit,
        missing: usize,
        pause: Duration,
    ) -> io::Result<()> {
        // Into a smaller place: what is not filled may have been used before, and be resident.
        self.buffer = BytesMut::from(&self.buffer[..]);
        permit.lend(missing);
        let deadline = rt::clock::mono().after(self.limits.idle_max);
        if !pause.is_zero() {
            rt::sleep_until(rt::clock::mono().after(pause)).await;
        }
        match rt::timeout(deadline, self.stream.readable()).await {
            Ok(readable) => readable?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        permit.take_back().await;
        Ok(())
    }
}

/// A request's first two bytes are its key.
fn is_fetch(frame: &[u8]) -> bool {
    frame.starts_with(&ApiKey::Fetch.code().to_be_bytes())
}

/// Sends what is ready, in order, until the end.
async fn write<T>(
    stream: Stream,
    replies: Replies<T>,
    limits: Limits,
    mut account_for: impl FnMut(T, Mono),
) {
    while let Next::Send(batch) = replies.next().await {
        let sent = send_in_time(&stream, batch.parts, &limits).await;
        drop(batch.permits);
        replies.sent();
        if sent.is_err() {
            break;
        }
        let now = rt::clock::mono();
        for account in batch.accounts {
            account_for(account, now);
        }
    }
    // Ends the reader too, if it is still there.
    replies.abandon();
    if !replies.is_finished() {
        stream.shut_down();
    }
}

/// Sends parts of which the peer takes all within [`Limits::idle_max`], and within
/// [`UNSENT_PATIENCE`] if replies hold too much memory.
async fn send_in_time(stream: &Stream, parts: Vec<Part>, limits: &Limits) -> io::Result<()> {
    let in_memory = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => bytes.len(),
        Part::File { .. } => 0,
    });
    let held = limits.unsent.hold(in_memory.sum());
    let began = rt::clock::mono();
    let mut sending = pin!(send(stream, parts));
    loop {
        let next = rt::clock::mono().after(UNSENT_LOOK.min(limits.idle_max));
        if let Ok(sent) = rt::timeout(next, sending.as_mut()).await {
            return sent;
        }
        let took = rt::clock::mono().since(began);
        if took >= limits.idle_max || (took >= UNSENT_PATIENCE && held.is_too_much()) {
            tracing::debug!(?took, "closing a connection that does not take its replies");
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

async fn send(stream: &Stream, parts: Vec<Part>) -> io::Result<()> {
    let in_memory = |part: &Part| matches!(part, Part::Bytes(_));
    if parts.iter().all(in_memory) {
        let bytes = parts.into_iter().filter_map(|part| match part {
            Part::Bytes(bytes) => Some(bytes),
            Part::File { .. } => None,
        });
        return stream.send_vectored(bytes.collect()).await;
    }
    stream.cork(true);
    let mut memory = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Bytes(bytes) => memory.push(bytes),
            Part::File { file, at, len } => {
                let before = std::mem::take(&mut memory);
                stream.send_beside_file(before).await?;
                stream.send_file(file, at, len).await?;
            }
        }
    }
    stream.send_beside_file(memory).await?;
    stream.cork(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_trickles_is_left_alone_for_longer_each_time_until_it_keeps_pace() {
        let at = |ms: u64| Mono(ms * 1_000_000);
        let mut pace = Pace::new(at(0));
        assert_eq!(pace.received(1, at(500)), None, "its first second");
        let mut pauses = Vec::new();
        for ms in [1_000, 1_100, 1_300, 1_700, 2_500, 3_500] {
            pauses.extend(pace.received(1, at(ms)));
        }
        let ms: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(ms, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(
            pace.received(PACE_BYTES_MIN, at(4_500)),
            None,
            "enough at once"
        );
        assert_eq!(
            pace.received(1, at(5_000)),
            None,
            "a second of its own again"
        );
        assert!(pace.received(1, at(5_500)).is_some());
    }

    #[test]
    fn a_peer_that_fell_silent_keeps_the_memory_again_once_it_sends_enough() {
        let at = |ms: u64| Mono(ms * 1_000_000);
        let mut pace = Pace::new(at(0));
        pace.fell_silent(at(1_000));
        assert_eq!(pace.received(1, at(1_001)), Some(SLOW_PAUSE));
        pace.fell_silent(at(2_000));
        assert_eq!(pace.received(PACE_BYTES_MIN, at(2_001)), None);
        assert_eq!(pace.received(1, at(2_002)), None);
    }
}
