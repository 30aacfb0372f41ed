//! Stand-in for the host room: only the face that the api room is written against.

use std::cell::{RefCell, RefMut};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::base::{BrokerId, CoreId, Mono, Now};
use crate::cluster::Image;
use crate::cluster::configs::StaticConfigs;
use crate::net::File;
use crate::obs::Measurements;
use crate::shard::{Reply, Request};

/// What the node is.
#[derive(Debug)]
pub struct Node {
    /// Its broker id.
    pub broker: BrokerId,
    /// Its cluster.
    pub cluster_id: String,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Its data directories.
    pub data_dirs: Vec<String>,
    /// The configs it was started with.
    pub static_configs: Arc<StaticConfigs>,
}

struct Inner {
    image: Arc<Image>,
    node: Node,
    measurements: RefCell<Measurements>,
}

/// One core's host.
#[derive(Clone)]
pub struct Host(Rc<Inner>);

impl Host {
    /// The core.
    pub fn core(&self) -> CoreId {
        CoreId(0)
    }
    /// How many cores there are.
    pub fn cores(&self) -> u16 {
        1
    }
    /// Both clocks.
    pub fn now(&self) -> Now {
        Now::default()
    }
    /// The image that is in force on this core.
    pub fn image(&self) -> Arc<Image> {
        self.0.image.clone()
    }
    /// What the node is.
    pub fn node(&self) -> &Node {
        &self.0.node
    }
    /// Sends a request at once.
    pub fn call(&self, _to: CoreId, _request: Request) -> Call {
        Call
    }
    /// The core's measurements.
    pub fn measurements(&self) -> RefMut<'_, Measurements> {
        self.0.measurements.borrow_mut()
    }
    /// Waits.
    pub async fn sleep_until(&self, _at: Mono) {}
}

/// A request under way.
pub struct Call;

impl Call {
    /// A parked read answers now.
    pub fn cancel(&self) {}
}

impl Future for Call {
    type Output = Result<Answer, Stopping>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(Stopping))
    }
}

/// The node is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping;

/// A reply, and the files of its slices.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// One for each `Slice::File` of a `Reply::Read`, in order of appearance.
    pub files: Vec<Arc<File>>,
}
