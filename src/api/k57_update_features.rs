//! UpdateFeatures (key 57), versions 0 to 2.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | validate only, the kind of upgrade instead of "downgrades allowed" |
//! | 2 | all or nothing: one error for the whole request (KIP-1022) |
//!
//! Truth: apache/kafka `FeatureControlManager.updateFeatures`.

use crate::cluster::controller::{self, FeatureUpdate, UpgradeType};
use crate::cluster::{ControlReply, ControlRequest};
use crate::net::{Outcome, Started};
use crate::protocol::messages::update_features_response::UpdatableFeatureResult;
use crate::protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::UpdateFeatures);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on there is one error for the whole request.
const WHOLE: i16 = 2;

/// What became of each feature.
type Results = Vec<(String, Result<(), controller::Refused>)>;

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: UpdateFeaturesRequest = incoming.decode()?;
    let version = incoming.version();
    let (updates, validate_only) = match plan(&request, version) {
        Ok(plan) => plan,
        Err(refused) => return incoming.now(&refused_whole(refused)),
    };
    let names: Vec<String> = updates.iter().map(|update| update.name.clone()).collect();
    let change = ControlRequest::UpdateFeatures {
        updates,
        validate_only,
    };
    let call = control::ask(service.host(), change);
    Ok(Started::Later(Box::pin(async move {
        let results = match control::answer(call).await {
            Ok(ControlReply::UpdateFeatures(results)) => results,
            Ok(other) => panic!("an update of features was answered with {other:?}"),
            Err(control::Failed::Unavailable(refused)) => control::same_for_all(names, &refused),
            Err(control::Failed::Stopping) => return Outcome::Close,
        };
        incoming.reply(&reply(results, version))
    })))
}

/// The updates as the controller has them, and whether they are only to be checked.
fn plan(
    request: &UpdateFeaturesRequest,
    version: i16,
) -> Result<(Vec<FeatureUpdate>, bool), controller::Refused> {
    let updates = request.feature_updates.iter().map(|update| {
        let upgrade_type = match (version, update.upgrade_type) {
            (0, _) if update.allow_downgrade => UpgradeType::SafeDowngrade,
            (0, _) | (_, 1) => UpgradeType::Upgrade,
            (_, 2) => UpgradeType::SafeDowngrade,
            (_, 3) => UpgradeType::UnsafeDowngrade,
            (_, other) => {
                let message = format!("Unknown upgrade type {other}.");
                return Err(controller::Refused::new(ErrorCode::InvalidRequest, message));
            }
        };
        let name = update.feature.to_string();
        let level = update.max_version_level;
        Ok(FeatureUpdate {
            name,
            level,
            upgrade_type,
        })
    });
    let updates: Result<Vec<_>, _> = updates.collect();
    Ok((updates?, version > 0 && request.validate_only))
}

fn refused_whole(refused: controller::Refused) -> UpdateFeaturesResponse {
    UpdateFeaturesResponse::default()
        .with_error_code(refused.error.code())
        .with_error_message(Some(text(refused.message)))
}

fn reply(results: Results, version: i16) -> UpdateFeaturesResponse {
    if version >= WHOLE {
        let refused = results.into_iter().find_map(|(_, result)| result.err());
        return match refused {
            Some(refused) => refused_whole(refused),
            None => UpdateFeaturesResponse::default().with_error_message(None),
        };
    }
    let results = results.into_iter().map(|(name, result)| {
        let answer = UpdatableFeatureResult::default().with_feature(text(name));
        match result {
            Ok(()) => answer.with_error_message(None),
            Err(refused) => answer
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message))),
        }
    });
    UpdateFeaturesResponse::default()
        .with_error_message(None)
        .with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in;
    use crate::protocol::messages::update_features_request::FeatureUpdateKey;

    fn upgrade(version: i16, kind: i8, allow: bool) -> Result<UpgradeType, i16> {
        let update = FeatureUpdateKey::default()
            .with_feature(text("group.version"))
            .with_upgrade_type(kind)
            .with_allow_downgrade(allow);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        let plan = plan(&request, version);
        plan.map(|(updates, _)| updates[0].upgrade_type)
            .map_err(|refused| refused.error.code())
    }

    #[test]
    fn upgrade_types_are_kafkas_and_version_0_has_a_flag() {
        assert_eq!(upgrade(0, 1, false), Ok(UpgradeType::Upgrade));
        assert_eq!(upgrade(0, 1, true), Ok(UpgradeType::SafeDowngrade));
        assert_eq!(upgrade(1, 1, false), Ok(UpgradeType::Upgrade));
        assert_eq!(upgrade(1, 3, false), Ok(UpgradeType::UnsafeDowngrade));
        assert_eq!(upgrade(1, 9, false), Err(42));
    }

    #[test]
    fn errors_are_told_by_feature_and_from_version_2_on_as_one() {
        let refused = control::plain(ErrorCode::InvalidUpdateVersion);
        let results = vec![("a".to_owned(), Ok(())), ("b".to_owned(), Err(refused))];
        let old = reply(results.clone(), 1);
        assert_eq!((old.error_code, old.results[1].error_code), (0, 95));
        encodes_in(VERSIONS, ..2, &old);
        let new = reply(results, 2);
        assert_eq!((new.error_code, new.results.len()), (95, 0));
        encodes_in(VERSIONS, 2.., &new);
    }
}
