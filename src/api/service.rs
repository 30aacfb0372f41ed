//! The way in: a frame becomes a request, a request finds its API.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::Mono;
use crate::cluster::configs::{BrokerSettings, Layers};
use crate::cluster::image::Image;
use crate::host::Host;
use crate::net::{Outcome, Started};
use crate::protocol::{ApiKey, Malformed, RequestHeader};

use super::connection::Connection;
use super::find::View;
use super::incoming::{Incoming, Refused};
use super::{api, k18_api_versions};

/// The Kafka door of one core. A clone is another handle to the same.
#[derive(Clone)]
pub struct Service {
    host: Host,
    settings: Rc<RefCell<Option<Settings>>>,
}

/// The broker's settings as of one image.
#[derive(Clone)]
struct Settings {
    of: Arc<Image>,
    settings: Rc<BrokerSettings>,
}

impl Service {
    /// The door of the core that `host` drives.
    pub fn new(host: Host) -> Service {
        Service {
            host,
            settings: Rc::default(),
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// What requests are planned against, in `image`.
    pub(crate) fn view<'a>(&self, image: &'a Image) -> View<'a> {
        View {
            image,
            broker: self.host.node().broker,
            cores: self.host.cores(),
        }
    }

    /// The broker's settings in force. Worked out anew only when the image has changed.
    pub(crate) fn settings(&self) -> Rc<BrokerSettings> {
        let image = self.host.image();
        let mut kept = self.settings.borrow_mut();
        if let Some(kept) = &*kept
            && Arc::ptr_eq(&kept.of, &image)
        {
            return kept.settings.clone();
        }
        let node = self.host.node();
        let layers = Layers::new(&image, node.broker, &node.static_configs);
        let settings = Rc::new(layers.broker_settings());
        *kept = Some(Settings {
            of: image,
            settings: settings.clone(),
        });
        settings
    }

    /// Begins the request in `frame` (without its four length bytes), which was whole at
    /// `received`. All that must keep the connection's order, parsing, planning and every message
    /// to another core, has happened when this returns; the future only waits and replies.
    pub fn start(&self, connection: &mut Connection, frame: Bytes, received: Mono) -> Started {
        match self.begin(connection, &frame, received) {
            Ok(started) => started,
            Err(refused) => {
                if let Refused::Malformed(malformed) = refused {
                    tracing::debug!(%malformed, "closing a connection");
                    self.host.measurements().requests.malformed += 1;
                }
                Started::Now(Outcome::Close)
            }
        }
    }

    fn begin(
        &self,
        connection: &mut Connection,
        frame: &Bytes,
        received: Mono,
    ) -> Result<Started, Refused> {
        let (header, body) = RequestHeader::parse(frame)?;
        let key = header.key.code();
        let api = api(key).ok_or(Malformed::UnknownApi(key))?;
        self.host.measurements().requests.received(key);
        let version = header.version;
        let incoming = Incoming {
            header,
            body,
            received,
        };
        let started = if api.versions.accepts(version) {
            (api.start)(self, connection, incoming)?
        } else if api.versions.key == ApiKey::ApiVersions {
            Started::Now(k18_api_versions::unknown_version(&incoming))
        } else {
            return Err(Malformed::UnknownVersion { key, version }.into());
        };
        Ok(self.measured(key, received, started))
    }

    /// Counts the reply, now or when it is there.
    fn measured(&self, key: i16, received: Mono, started: Started) -> Started {
        let host = self.host.clone();
        let answered = move || {
            let took = host.now().mono.since(received);
            host.measurements().requests.answered(key, took);
        };
        match started {
            Started::Now(outcome) => {
                answered();
                Started::Now(outcome)
            }
            Started::Later(later) => Started::Later(Box::pin(async move {
                let outcome = later.await;
                answered();
                outcome
            })),
        }
    }
}
