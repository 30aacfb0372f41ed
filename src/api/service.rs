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

use super::account::Account;
use super::connection::Connection;
use super::find::View;
use super::incoming::{Incoming, Refused};
use super::{APIS, Api, k18_api_versions};

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
    pub(crate) fn view<'a>(&'a self, image: &'a Image) -> View<'a> {
        View {
            image,
            node: self.host.node(),
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
    /// to another core, has happened when this returns; the future only waits and replies. The
    /// account is for [`Service::sent`], once the kernel has the reply.
    pub fn start(
        &self,
        connection: &mut Connection,
        frame: Bytes,
        received: Mono,
    ) -> (Started, Rc<Account>) {
        let account = Rc::new(Account::new(received));
        let started = match self.begin(connection, &frame, received, &account) {
            Ok(started) => started,
            Err(malformed) => {
                tracing::debug!(%malformed, "closing a connection");
                self.host.measurements().requests.malformed += 1;
                Started::Now(Outcome::Close)
            }
        };
        (started, account)
    }

    /// The kernel has had the reply to a request since `now`.
    pub fn sent(&self, account: &Account, now: Mono) {
        account.sent(now, &mut self.host.measurements());
    }

    fn begin(
        &self,
        connection: &mut Connection,
        frame: &Bytes,
        received: Mono,
        account: &Rc<Account>,
    ) -> Result<Started, Refused> {
        let (header, body) = RequestHeader::parse(frame)?;
        let (key, version) = (header.key.code(), header.version);
        let route = route(key, version)?;
        self.host.measurements().requests.received(key);
        account.is_of(key);
        let incoming = Incoming {
            header,
            body,
            received,
            account: account.clone(),
        };
        match route {
            Route::Serve(api) => (api.start)(self, connection, incoming),
            Route::Negotiate => Ok(Started::Now(k18_api_versions::unknown_version(&incoming))),
        }
    }
}

/// Where a request goes.
enum Route {
    /// To its API.
    Serve(&'static Api),
    /// ApiVersions in a version that is not known: answered so that the client can come back.
    Negotiate,
}

/// Finds what serves a request. What is not served closes the connection, as in Kafka (apache/kafka
/// `SocketServer.parseRequestHeader`).
fn route(key: i16, version: i16) -> Result<Route, Malformed> {
    let found = APIS.binary_search_by_key(&key, |api| api.versions.key.code());
    let api = &APIS[found.map_err(|_| Malformed::UnknownApi(key))?];
    if api.versions.accepts(version) {
        Ok(Route::Serve(api))
    } else if api.versions.key == ApiKey::ApiVersions {
        Ok(Route::Negotiate)
    } else {
        Err(Malformed::UnknownVersion { key, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_advertised_version_is_served_except_produce_0_to_2() {
        for api in APIS {
            let key = api.versions.key;
            for version in api.versions.advertised_min..=api.versions.max {
                let served = matches!(route(key.code(), version), Ok(Route::Serve(_)));
                let shown_only = key == ApiKey::Produce && version < 3;
                assert_eq!(served, !shown_only, "{key} {version}");
            }
        }
    }

    #[test]
    fn another_version_closes_the_connection_except_for_api_versions() {
        for api in APIS {
            let key = api.versions.key;
            for version in [-1, api.versions.max + 1, i16::MAX] {
                match route(key.code(), version) {
                    Ok(Route::Negotiate) => assert_eq!(key, ApiKey::ApiVersions),
                    Ok(Route::Serve(_)) => panic!("{key} {version}"),
                    Err(refused) => {
                        let key = key.code();
                        assert_eq!(refused, Malformed::UnknownVersion { key, version });
                    }
                }
            }
        }
    }

    #[test]
    fn apis_that_are_not_served_close_the_connection() {
        for key in [-1, 4, 24, 27, 999] {
            assert!(
                matches!(route(key, 0), Err(Malformed::UnknownApi(_))),
                "{key}"
            );
        }
    }
}
