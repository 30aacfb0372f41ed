//! Features and their levels (KIP-584). Truth: apache/kafka `FeatureControlManager`.

use crate::cluster::image::Image;
use crate::cluster::records::Record;
use crate::protocol::ErrorCode;

use super::{Decision, Refusal, Reply};

/// A feature that this broker supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Kafka's name.
    pub name: &'static str,
    /// The lowest level; 0: it can be off.
    pub min: i16,
    /// The highest level.
    pub max: i16,
    /// The level of a new cluster; 0: off.
    pub initial: i16,
}

/// All of them; the metadata version first, as it must be in a new metadata log. Levels are those
/// of Kafka 4.1: metadata.version 27 is 4.1-IV1, 7 is 3.3-IV3, the first of KRaft's.
pub const FEATURES: &[SupportedFeature] = &[
    SupportedFeature {
        name: METADATA_VERSION,
        min: 7,
        max: 27,
        initial: 27,
    },
    SupportedFeature {
        name: "group.version",
        min: 0,
        max: 1,
        initial: 1,
    },
];

const METADATA_VERSION: &str = "metadata.version";

/// Which way a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Only up (1).
    Upgrade,
    /// Down, if nothing is lost (2).
    SafeDowngrade,
    /// Down, whatever is lost (3).
    UnsafeDowngrade,
}

impl UpgradeType {
    /// Kafka's number.
    pub fn from_code(code: i8) -> Option<UpgradeType> {
        Some(match code {
            1 => UpgradeType::Upgrade,
            2 => UpgradeType::SafeDowngrade,
            3 => UpgradeType::UnsafeDowngrade,
            _ => return None,
        })
    }
}

/// A new level for a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// Its name.
    pub name: String,
    /// The level; 0 switches it off.
    pub level: i16,
    /// Which way it may go; none for a number that Kafka does not know.
    pub upgrade: Option<UpgradeType>,
}

pub(super) fn decide(updates: Vec<FeatureUpdate>, validate_only: bool, image: &Image) -> Decision {
    let mut result = Ok(());
    let mut records = Vec::new();
    if !super::duplicates(updates.iter().map(|update| update.name.as_str())).is_empty() {
        result = Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "Duplicate feature name.",
        ));
    }
    for update in &updates {
        result = result.and_then(|()| check(update, image));
        let before = image.features().get(&update.name).copied().unwrap_or(0);
        if before != update.level {
            records.push(Record::FeatureLevel {
                name: update.name.clone(),
                level: update.level,
            });
        }
    }
    if validate_only || result.is_err() {
        records.clear();
    }
    Decision {
        records,
        reply: Reply::UpdateFeatures(result),
    }
}

fn check(update: &FeatureUpdate, image: &Image) -> Result<(), Refusal> {
    let (name, level) = (update.name.as_str(), update.level);
    let refused = |why: String| {
        let message = format!("Invalid update version {level} for feature {name}. {why}");
        Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
    };
    let Some(upgrade) = update.upgrade else {
        return refused("The controller does not support the given upgrade type.".to_owned());
    };
    if level < 0 {
        return refused("A feature version cannot be less than 0.".to_owned());
    }
    let Some(feature) = FEATURES.iter().find(|feature| feature.name == name) else {
        return refused("The controller does not support this feature.".to_owned());
    };
    if !(feature.min..=feature.max).contains(&level) {
        let (min, max) = (feature.min, feature.max);
        return refused(format!(
            "The controller only supports versions {min}-{max}."
        ));
    }
    for broker in image.brokers().values() {
        let range = broker.features.iter().find(|feature| feature.name == name);
        let (min, max) = range.map_or((0, 0), |range| (range.min, range.max));
        if !(min..=max).contains(&level) {
            let id = broker.broker;
            return refused(format!("Broker {id} only supports versions {min}-{max}."));
        }
    }
    let before = image.features().get(name).copied().unwrap_or(0);
    match upgrade {
        UpgradeType::Upgrade if level < before => refused(
            "Can't downgrade the version of this feature without setting the upgrade type to \
             either safe or unsafe downgrade."
                .to_owned(),
        ),
        UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if level > before => {
            refused("Can't downgrade to a newer version.".to_owned())
        }
        // The records of the log are in the newest schemas: an older version could not read them.
        _ if name == METADATA_VERSION && level < before => {
            refused("Downgrading the metadata version is not supported.".to_owned())
        }
        UpgradeType::Upgrade | UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade => Ok(()),
    }
}
