//! ApiVersions (key 18), versions 0 to 4.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | throttle time |
//! | 3 | flexible request and reply body, but never a flexible reply header; client software name and version; features (KIP-511, KIP-584) |
//! | 4 | features whose lowest level is 0 may be shown (KAFKA-17011) |
//!
//! Advertises [`super::APIS`] and nothing else. A version that is not known is answered in version 0
//! with error 35 and the range of this API alone, so that the client can come back; the body of
//! such a request is not read. Truth: apache/kafka `ApiVersionsRequest.java`, KIP-511.
//!
//! Features are promises: we show those that the image has finalised, with epoch = the offset of
//! the image. Those that are not finalised are not promised.

use crate::net::{Outcome, Started};
use crate::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::find::View;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{APIS, Api};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ApiVersions);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: ApiVersionsRequest = incoming.decode()?;
    let version = incoming.version();
    if version >= 3 && !has_good_names(&request) {
        return incoming.now(&refusal(ErrorCode::InvalidRequest));
    }
    if version >= 3 {
        let owned = |text: &StrBytes| StrBytes::from_string(text.to_string());
        let name = owned(&request.client_software_name);
        connection.software = Some((name, owned(&request.client_software_version)));
    }
    let image = service.host().image();
    incoming.now(&reply(service.view(&image), version))
}

/// The answer to a version that is not known: version 0, error 35, this API's range (KIP-511).
pub(crate) fn unknown_version(incoming: &Incoming) -> Outcome {
    let mut response = refusal(ErrorCode::UnsupportedVersion);
    response.api_keys = vec![advertised(&VERSIONS)];
    incoming.reply_in(0, &response)
}

fn refusal(error: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(error.code())
}

fn advertised(versions: &ApiVersions) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(versions.key.code())
        .with_min_version(versions.advertised_min)
        .with_max_version(versions.max)
}

/// Both names match `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn has_good_names(request: &ApiVersionsRequest) -> bool {
    is_good_name(&request.client_software_name) && is_good_name(&request.client_software_version)
}

fn is_good_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    ends.iter()
        .all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(inside)
}

/// All that is served, with the features that the image has finalised.
fn reply(view: View<'_>, version: i16) -> ApiVersionsResponse {
    let api_keys = APIS.iter().map(|api| advertised(&api.versions)).collect();
    let response = ApiVersionsResponse::default().with_api_keys(api_keys);
    let Some(epoch) = view.image.applied().filter(|_| version >= 3) else {
        return response;
    };
    let registered = view.image.brokers().get(&view.node.broker);
    let supported = registered.iter().flat_map(|broker| &broker.features);
    let supported = supported
        .filter(|feature| feature.min > 0 || version >= 4)
        .map(|feature| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_string(feature.name.clone()))
                .with_min_version(feature.min)
                .with_max_version(feature.max)
        });
    let finalized = view.image.features().iter().map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_min_version_level(*level)
            .with_max_version_level(*level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(epoch.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::World;
    use bytes::Bytes;

    #[test]
    fn software_names_are_as_kafka_wants_them() {
        for good in ["a", "librdkafka", "apache-kafka-java", "3.9.0", "a.-b"] {
            assert!(is_good_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "ä", "a_b"] {
            assert!(!is_good_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_unknown_version_is_answered_in_version_0_with_the_range_to_come_back_with() {
        let incoming = crate::api::tests::incoming(ApiKey::ApiVersions, 99, Bytes::new());
        let frame = crate::api::tests::frame(unknown_version(&incoming));
        // size, correlation id 7, error 35, one key: 18 from 0 to 4.
        assert_eq!(
            frame[4..],
            [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]
        );
    }

    #[test]
    fn what_is_advertised_is_what_is_served() {
        let world = World::new(2);
        let response = reply(world.view(), 4);
        assert_eq!(response.api_keys.len(), APIS.len());
        let produce = response.api_keys.iter().find(|key| key.api_key == 0);
        assert!(produce.is_none_or(|produce| produce.min_version == 0));
        assert!(
            APIS.windows(2)
                .all(|two| two[0].versions.key < two[1].versions.key)
        );
    }

    #[test]
    fn features_from_level_0_are_hidden_from_old_clients() {
        let mut world = World::new(1);
        world.feature("group.version", 0, 1, 1);
        world.feature("metadata.version", 7, 25, 25);
        let names = |version| -> Vec<String> {
            let shown = reply(world.view(), version).supported_features;
            shown
                .iter()
                .map(|feature| feature.name.to_string())
                .collect()
        };
        assert_eq!(names(3), ["metadata.version"]);
        assert_eq!(names(4).len(), 2);
        assert_eq!(reply(world.view(), 3).finalized_features.len(), 2);
    }
}
