//! A listener that bounds how many connections there are and how long one may sit idle.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections served at a time; further ones wait in the kernel's backlog.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// A connection is closed when this long has passed since it was accepted or since the last byte
/// of a reply was taken. Bytes of a request do not extend it, or one byte now and then would hold
/// a place for ever.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);

/// A listener with a bounded number of places.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    idle_max: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, connections_max: usize, idle_max: Duration) -> Self {
        Bounded {
            listener,
            places: Arc::new(Semaphore::new(connections_max)),
            idle_max,
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .expect("nobody closes the places");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let idle_max = self.idle_max;
        let deadline = Box::pin(sleep(idle_max));
        (
            Connection {
                stream,
                deadline,
                idle_max,
                _place: place,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that holds its place until it is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    idle_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Pending until the idle time is over, an error from then on.
    fn poll_idle<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// What became of a write; one that took bytes begins the idle time anew.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                self.deadline.as_mut().reset(Instant::now() + self.idle_max);
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_idle(context),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_idle(context),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::Router;
    use axum::routing::get;

    use super::*;

    #[test]
    fn an_idle_connection_loses_its_place_to_the_next_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let clients = std::thread::spawn(move || {
            let mut idle = std::net::TcpStream::connect(addr).expect("a connection");
            idle.write_all(b"GET / HT").expect("half a request");
            let mut next = std::net::TcpStream::connect(addr).expect("a connection");
            let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
            next.write_all(request).expect("a request");
            let mut reply = String::new();
            next.read_to_string(&mut reply).expect("a reply");
            reply
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let reply = runtime.expect("a runtime").block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let bounded = Bounded::new(listener, 1, Duration::from_millis(20));
            let router = Router::new().route("/", get(|| async { "served" }));
            let served = tokio::task::spawn_blocking(move || clients.join().expect("a reply"));
            tokio::select! {
                reply = served => reply.expect("a reply"),
                _ = axum::serve(bounded, router).into_future() => unreachable!("it serves on"),
            }
        });
        assert!(reply.ends_with("served"), "{reply}");
    }
}
