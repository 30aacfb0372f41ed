//! Changes of the metadata: asked of the controller on core 0, answered when they are durable and in
//! force on every core.

use crate::base::CoreId;
use crate::cluster::controller::Refused;
use crate::cluster::{ControlReply, ControlRequest};
use crate::host::{Call, Host, Stopping};
use crate::protocol::ErrorCode;
use crate::shard::{Reply, Request};

/// The core of the controller.
const CONTROLLER: CoreId = CoreId(0);

/// Why a change was not made.
pub(crate) enum Failed {
    /// The node is stopping: the connection closes.
    Stopping,
    /// The metadata log takes nothing; for the client.
    Unavailable(Refused),
}

impl From<Stopping> for Failed {
    fn from(Stopping: Stopping) -> Failed {
        Failed::Stopping
    }
}

/// Asks for a change, at once.
pub(crate) fn ask(host: &Host, request: ControlRequest) -> Call {
    host.call(CONTROLLER, Request::Control(request))
}

/// Waits for the reply to a change.
pub(crate) async fn answer(call: Call) -> Result<ControlReply, Failed> {
    match call.await?.reply {
        Reply::Control(ControlReply::Unavailable(refused)) => Err(Failed::Unavailable(refused)),
        Reply::Control(reply) => Ok(reply),
        other => panic!("a change was answered with {other:?}"),
    }
}

/// The same refusal for each of what was named.
pub(crate) fn same_for_all<N, T>(
    names: impl IntoIterator<Item = N>,
    refused: &Refused,
) -> Vec<(N, Result<T, Refused>)> {
    names
        .into_iter()
        .map(|name| (name, Err(refused.clone())))
        .collect()
}

/// A refusal in Kafka's own words for its code.
pub(crate) fn plain(error: ErrorCode) -> Refused {
    Refused::new(error, error.message())
}

/// Waits for the reply to a change of configs of `count` resources; none when the node is stopping.
pub(crate) async fn altered(call: Call, count: usize) -> Option<Vec<Result<(), Refused>>> {
    match answer(call).await {
        Ok(ControlReply::AlterConfigs(results)) => Some(results),
        Ok(other) => panic!("a change of configs was answered with {other:?}"),
        Err(Failed::Unavailable(refused)) => Some(vec![Err(refused); count]),
        Err(Failed::Stopping) => None,
    }
}
