//! What a connection remembers between its requests. It moves along when the connection is handed
//! over to another core, so nothing in it belongs to a core.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::base::CoreId;
use crate::protocol::messages::StrBytes;

use super::k01_fetch::sessions::Sessions;

/// How many produce and fetch requests in a row must have gone to one other core before the
/// connection wants to move there. A client begins with some requests to anywhere; after this many
/// it has settled.
const REQUESTS_TO_SETTLE: u32 = 16;

/// Where clients of one listener find this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name: `PLAINTEXT`.
    pub listener: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// The core that it belongs to, where each has its own and is a broker of its own to clients.
    pub core: Option<CoreId>,
}

/// What a connection remembers.
#[derive(Debug)]
pub struct Connection {
    /// The listener it came in on: replies name brokers as clients of this listener reach them.
    pub(crate) endpoint: Endpoint,
    /// Where the client is connected from, in Kafka's form: `/127.0.0.1`.
    pub(crate) client_host: String,
    /// What the client's library calls itself, with its version (KIP-511); from ApiVersions 3 on.
    pub(crate) software: Option<(StrBytes, StrBytes)>,
    /// Its fetch sessions. Shared with the fetches in flight, which note in them what they tell;
    /// a mutex and not a cell, since all of it moves to another core's thread in a hand-over.
    pub(crate) sessions: Arc<Mutex<Sessions>>,
    /// Another core accepted it and handed it over.
    pub(crate) handed_over: bool,
    /// Counts the fetches without a session.
    turns: usize,
    recently: Recently,
}

/// Where the latest produce and fetch requests went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recently {
    /// Here and there, or nowhere yet.
    Mixed,
    /// To one core, so many in a row.
    Only(CoreId, u32),
}

impl Connection {
    /// A connection that came in on `endpoint`. Its session ids come from `seed`.
    pub fn new(endpoint: Endpoint, seed: u64) -> Connection {
        Connection {
            endpoint,
            client_host: "/".to_owned(),
            software: None,
            sessions: Arc::new(Mutex::new(Sessions::new(seed))),
            handed_over: false,
            turns: 0,
            recently: Recently::Mixed,
        }
    }

    /// The same, from a client at this address: group members are told by it.
    pub fn from_client(mut self, address: IpAddr) -> Connection {
        self.client_host = match address.to_canonical() {
            IpAddr::V4(address) => format!("/{address}"),
            // Java leaves no groups out.
            IpAddr::V6(address) => {
                let groups = address.segments().map(|group| format!("{group:x}"));
                format!("/{}", groups.join(":"))
            }
        };
        self
    }

    /// The same, on the core that it was handed over to.
    pub fn moved(mut self) -> Connection {
        self.handed_over = true;
        self
    }

    /// Another number each time: which partition of a fetch without a session comes first.
    pub(crate) fn turn(&mut self) -> usize {
        self.turns = self.turns.wrapping_add(1);
        self.turns
    }

    /// The client library's name and version, once it has told (KIP-511).
    pub fn software(&self) -> Option<(&str, &str)> {
        self.software
            .as_ref()
            .map(|(name, version)| (&**name, &**version))
    }

    /// A produce or fetch request went to these cores.
    pub(crate) fn went_to(&mut self, cores: impl Iterator<Item = CoreId>) {
        let mut cores = cores;
        let Some(first) = cores.next() else { return };
        if cores.any(|core| core != first) {
            self.recently = Recently::Mixed;
            return;
        }
        let so_far = match self.recently {
            Recently::Only(core, count) if core == first => count,
            Recently::Only(..) | Recently::Mixed => 0,
        };
        self.recently = Recently::Only(first, so_far.saturating_add(1));
    }

    /// The core where all partitions of its last 16 or more produce and fetch requests live. That
    /// may be the core it is on: whoever asks knows. Begins anew after a request to several cores.
    pub fn wants_to_move(&self) -> Option<CoreId> {
        match self.recently {
            Recently::Only(core, count) if count >= REQUESTS_TO_SETTLE => Some(core),
            Recently::Only(..) | Recently::Mixed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::new(crate::api::tests::endpoint(), 1)
    }

    #[test]
    fn a_connection_wants_to_move_after_enough_requests_to_one_core() {
        let mut connection = connection();
        for _ in 0..REQUESTS_TO_SETTLE {
            assert_eq!(connection.wants_to_move(), None);
            connection.went_to([CoreId(1), CoreId(1)].into_iter());
        }
        assert_eq!(connection.wants_to_move(), Some(CoreId(1)));
        connection.went_to([].into_iter());
        assert_eq!(connection.wants_to_move(), Some(CoreId(1)));
    }

    #[test]
    fn clients_are_named_by_their_address_as_java_writes_it() {
        let host = |address: &str| {
            connection()
                .from_client(address.parse().unwrap())
                .client_host
        };
        assert_eq!(host("127.0.0.1"), "/127.0.0.1");
        assert_eq!(host("::ffff:10.0.0.1"), "/10.0.0.1");
        assert_eq!(host("fe80::1"), "/fe80:0:0:0:0:0:0:1");
    }

    #[test]
    fn a_request_to_several_cores_begins_the_count_anew() {
        let mut connection = connection();
        (0..20).for_each(|_| connection.went_to([CoreId(1)].into_iter()));
        connection.went_to([CoreId(1), CoreId(0)].into_iter());
        assert_eq!(connection.wants_to_move(), None);
        connection.went_to([CoreId(1)].into_iter());
        assert_eq!(connection.wants_to_move(), None);
    }
}
