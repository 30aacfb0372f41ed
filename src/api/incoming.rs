//! One request on its way through a handler: decode its body, make its reply's frame.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::{self, Mono};
use crate::net::{Outcome, Part, Started};
use crate::protocol::messages::{self, Encodable, Request, StrBytes};
use crate::protocol::{Malformed, RequestHeader};

use super::account::Account;

/// Why a request closes its connection instead of being answered: its bytes are not a request.
pub(crate) type Refused = Malformed;

/// A request whose header has been read.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// The header.
    pub(crate) header: RequestHeader,
    /// What follows the header.
    pub(crate) body: Bytes,
    /// When the connection had the request whole.
    pub(crate) received: Mono,
    /// What becomes of it.
    pub(crate) account: Rc<Account>,
}

impl Incoming {
    /// The version of request and reply.
    pub(crate) fn version(&self) -> i16 {
        self.header.version
    }

    /// Reads the body. What it names are slices of the frame.
    pub(crate) fn decode<T: Request>(&self) -> Result<T, Refused> {
        messages::decode(self.body.clone(), self.version())
    }

    /// Reads the body. What it names has memory of its own: for what is kept longer than the frame.
    pub(crate) fn decode_owned<T: Request>(&self) -> Result<T, Refused> {
        messages::decode(Bytes::copy_from_slice(&self.body), self.version())
    }

    /// The reply in the version of the request.
    pub(crate) fn reply<M: Encodable>(&self, message: &M) -> Outcome {
        self.reply_in(self.version(), message)
    }

    /// The reply, at once.
    pub(crate) fn now<M: Encodable>(&self, message: &M) -> Result<Started, Refused> {
        Ok(Started::Now(self.reply(message)))
    }

    /// The reply in another version than the request's. A reply that cannot be written is a bug of
    /// ours: it is logged and the connection closed, since the client waits for an answer that will
    /// not come.
    pub(crate) fn reply_in<M: Encodable>(&self, version: i16, message: &M) -> Outcome {
        let header = &self.header;
        match messages::reply_frame(header.key, version, header.correlation_id, message) {
            Ok(frame) => Outcome::Reply(vec![Part::Bytes(frame)]),
            Err(unencodable) => {
                tracing::error!(%unencodable, "a reply could not be written");
                Outcome::Close
            }
        }
    }
}

/// A text as messages have it.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A broker's id as messages have it.
pub(crate) fn broker_id(id: base::BrokerId) -> messages::BrokerId {
    messages::BrokerId(id.0)
}
