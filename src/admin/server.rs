//! The thread of the HTTP door: it begins, it serves, it ends in bounded time.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::listener::{Bounded, CONNECTIONS_MAX, IDLE_MAX};
use super::routes::router;
use super::{Groups, Handle};

/// How long replies under way may take after the stop; then their connections are cut.
const STOP_WAIT_MAX: Duration = Duration::from_secs(1);

/// The running door.
pub struct Running {
    /// Where it listens; the port is the real one if 0 was asked for.
    pub addr: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Stops listening, lets replies under way end for at most a second, ends the thread. Waits
    /// for all that.
    pub fn stop(self) {
        // The thread has ended by itself: then there is nothing to tell it.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

/// Opens the HTTP door at `addr` (port 0: any free one) on a thread of its own.
///
/// Errors are one line for a person: the address and why it cannot be listened at, or that no
/// thread can be had.
pub fn serve(addr: SocketAddr, handle: Handle, groups: Groups) -> Result<Running, String> {
    let told = |source: std::io::Error| format!("cannot serve HTTP at {addr}: {source}");
    let listener = TcpListener::bind(addr).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    let addr_bound = listener.local_addr().map_err(told)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(told)?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("corelane-admin".to_owned())
        .spawn(move || run(&runtime, listener, router(handle, groups), stopped))
        .map_err(told)?;
    Ok(Running {
        addr: addr_bound,
        stop,
        thread,
    })
}

/// The thread: serves until told to stop, or until whoever could tell it is gone.
fn run(runtime: &Runtime, listener: TcpListener, router: Router, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => Bounded::new(listener, CONNECTIONS_MAX, IDLE_MAX),
            Err(fault) => return tracing::error!(%fault, "the admin listener was refused"),
        };
        let (wind_down, winding_down) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = winding_down.await;
        });
        let mut serving = std::pin::pin!(serving.into_future());
        tokio::select! {
            _ = &mut serving => {}
            _ = stopped => {
                drop(wind_down);
                // Cut what is left: dropping the runtime drops its connections.
                let _ = timeout(STOP_WAIT_MAX, serving).await;
            }
        }
    });
}
