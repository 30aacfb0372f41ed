//! The table of keys and versions: which APIs have a name, which versions of each we accept, what we
//! tell clients about them, and which header goes with which version.
//!
//! What is *served* is not decided here: each file of the api room takes its row with
//! [`ApiVersions::of`], and may narrow or widen it within what can be decoded. Knows no message's
//! fields.

use std::fmt;

/// Declares the enum with its numbers, the list of all and the way back from a number.
macro_rules! api_keys {
    ($($name:ident = $number:literal,)*) => {
        /// The number of an API, the first field of every request header. Named are the keys of
        /// Kafka 4.1 that are in use (4 to 7 are gone; 88 and 89 are not generally available).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs)]
        pub enum ApiKey {
            $($name = $number,)*
        }

        impl ApiKey {
            /// Every key that has a name, in the order of its number.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),*];

            /// The key with this number, if it has a name.
            pub const fn from_code(number: i16) -> Option<ApiKey> {
                match number {
                    $($number => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of the API (`Produce`, `ApiVersions`).
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }
        }
    };
}

api_keys! {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    Vote = 52,
    BeginQuorumEpoch = 53,
    EndQuorumEpoch = 54,
    DescribeQuorum = 55,
    AlterPartition = 56,
    UpdateFeatures = 57,
    Envelope = 58,
    FetchSnapshot = 59,
    DescribeCluster = 60,
    DescribeProducers = 61,
    BrokerRegistration = 62,
    BrokerHeartbeat = 63,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    AllocateProducerIds = 67,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ControllerRegistration = 70,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    AssignReplicasToDirs = 73,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
    AddRaftVoter = 80,
    RemoveRaftVoter = 81,
    UpdateRaftVoter = 82,
    InitializeShareGroupState = 83,
    ReadShareGroupState = 84,
    WriteShareGroupState = 85,
    DeleteShareGroupState = 86,
    ReadShareGroupStateSummary = 87,
    DescribeShareGroupOffsets = 90,
    AlterShareGroupOffsets = 91,
    DeleteShareGroupOffsets = 92,
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.name(), self.code())
    }
}

/// In [`ApiVersions::flexible_from`]: no version of the API is flexible.
pub const NEVER: i16 = i16::MAX;

/// One API's row in the version table. Ranges are inclusive and have no holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersions {
    /// The API.
    pub key: ApiKey,
    /// The lowest version accepted.
    pub min: i16,
    /// The highest version accepted, and the highest advertised.
    pub max: i16,
    /// The lowest version that ApiVersions shows. Below `min` for Produce only: older librdkafka
    /// silently sends uncompressed when it does not see 0 (KAFKA-18659, librdkafka #4956).
    pub advertised_min: i16,
    /// The first version with compact lengths and tagged fields (KIP-482), or [`NEVER`].
    pub flexible_from: i16,
}

impl ApiVersions {
    /// The row of `key`: the versions that Kafka 4.1 advertises, without those that need a feature
    /// of their own (share groups, `transaction.version=2`, brokers among themselves) and without
    /// those that are not stable (OffsetCommit and OffsetFetch 10, InitProducerId 6).
    pub const fn of(key: ApiKey) -> ApiVersions {
        let row = row_of(key);
        let advertised_min = if matches!(key, ApiKey::Produce) {
            0
        } else {
            row.min
        };
        ApiVersions {
            key,
            min: row.min,
            max: row.max,
            advertised_min,
            flexible_from: row.flexible_from,
        }
    }

    /// The same row with another highest version, to hide versions whose feature is off or to open
    /// those whose feature is on. Panics (at compile time in a `const`) outside of what can be
    /// decoded.
    pub const fn up_to(self, max: i16) -> ApiVersions {
        assert!(
            max >= self.min && max <= decodable_max(self.key),
            "no such version"
        );
        ApiVersions { max, ..self }
    }

    /// True when a request of this version is parsed and answered.
    pub const fn accepts(self, version: i16) -> bool {
        version >= self.min && version <= self.max
    }
}

/// The highest version of `key` that has a decoder here, advertised or not.
pub const fn decodable_max(key: ApiKey) -> i16 {
    row_of(key).decodable_max
}

/// True when bodies of this version have compact lengths and tagged fields (KIP-482).
pub const fn is_flexible(key: ApiKey, version: i16) -> bool {
    version >= row_of(key).flexible_from
}

/// The version of the request header in front of a body: 2 (tagged fields) for flexible versions,
/// else 1. Header 0, without a client id, went with ControlledShutdown 0 and is no longer in use.
pub const fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if is_flexible(key, version) { 2 } else { 1 }
}

/// The version of the response header: 1 (tagged fields) for flexible versions, else 0. Always 0
/// for ApiVersions, so that a client can read the refusal of a version (KIP-511).
pub const fn response_header_version(key: ApiKey, version: i16) -> i16 {
    if is_flexible(key, version) && !matches!(key, ApiKey::ApiVersions) {
        1
    } else {
        0
    }
}

/// What the table says of one API.
struct Row {
    min: i16,
    max: i16,
    decodable_max: i16,
    flexible_from: i16,
}

const fn row(min: i16, max: i16, decodable_max: i16, flexible_from: i16) -> Row {
    Row {
        min,
        max,
        decodable_max,
        flexible_from,
    }
}

/// The table: lowest and highest accepted, highest decodable, first flexible.
const fn row_of(key: ApiKey) -> Row {
    match key {
        ApiKey::Produce => row(3, 13, 13, 9),
        ApiKey::Fetch => row(4, 17, 18, 12),
        ApiKey::ListOffsets => row(1, 10, 10, 6),
        ApiKey::Metadata => row(0, 13, 13, 9),
        ApiKey::OffsetCommit => row(2, 9, 9, 8),
        ApiKey::OffsetFetch => row(1, 9, 9, 6),
        ApiKey::FindCoordinator => row(0, 5, 6, 3),
        ApiKey::JoinGroup => row(0, 9, 9, 6),
        ApiKey::Heartbeat => row(0, 4, 4, 4),
        ApiKey::LeaveGroup => row(0, 5, 5, 4),
        ApiKey::SyncGroup => row(0, 5, 5, 4),
        ApiKey::DescribeGroups => row(0, 6, 6, 5),
        ApiKey::ListGroups => row(0, 5, 5, 3),
        ApiKey::SaslHandshake => row(0, 1, 1, NEVER),
        ApiKey::ApiVersions => row(0, 4, 4, 3),
        ApiKey::CreateTopics => row(2, 7, 7, 5),
        ApiKey::DeleteTopics => row(1, 6, 6, 4),
        ApiKey::DeleteRecords => row(0, 2, 2, 2),
        ApiKey::InitProducerId => row(0, 5, 5, 2),
        ApiKey::OffsetForLeaderEpoch => row(2, 4, 4, 4),
        ApiKey::AddPartitionsToTxn => row(0, 3, 5, 3),
        ApiKey::AddOffsetsToTxn => row(0, 4, 4, 3),
        ApiKey::EndTxn => row(0, 4, 5, 3),
        ApiKey::WriteTxnMarkers => row(1, 1, 1, 0),
        ApiKey::TxnOffsetCommit => row(0, 4, 5, 3),
        ApiKey::DescribeAcls => row(1, 3, 3, 2),
        ApiKey::CreateAcls => row(1, 3, 3, 2),
        ApiKey::DeleteAcls => row(1, 3, 3, 2),
        ApiKey::DescribeConfigs => row(1, 4, 4, 4),
        ApiKey::AlterConfigs => row(0, 2, 2, 2),
        ApiKey::AlterReplicaLogDirs => row(1, 2, 2, 2),
        ApiKey::DescribeLogDirs => row(1, 4, 4, 2),
        ApiKey::SaslAuthenticate => row(0, 2, 2, 2),
        ApiKey::CreatePartitions => row(0, 3, 3, 2),
        ApiKey::CreateDelegationToken => row(1, 3, 3, 2),
        ApiKey::RenewDelegationToken => row(1, 2, 2, 2),
        ApiKey::ExpireDelegationToken => row(1, 2, 2, 2),
        ApiKey::DescribeDelegationToken => row(1, 3, 3, 2),
        ApiKey::DeleteGroups => row(0, 2, 2, 2),
        ApiKey::ElectLeaders => row(0, 2, 2, 2),
        ApiKey::IncrementalAlterConfigs => row(0, 1, 1, 1),
        ApiKey::AlterPartitionReassignments => row(0, 1, 1, 0),
        ApiKey::ListPartitionReassignments => row(0, 0, 0, 0),
        ApiKey::OffsetDelete => row(0, 0, 0, NEVER),
        ApiKey::DescribeClientQuotas => row(0, 1, 1, 1),
        ApiKey::AlterClientQuotas => row(0, 1, 1, 1),
        ApiKey::DescribeUserScramCredentials => row(0, 0, 0, 0),
        ApiKey::AlterUserScramCredentials => row(0, 0, 0, 0),
        ApiKey::Vote => row(0, 2, 2, 0),
        ApiKey::BeginQuorumEpoch => row(0, 1, 1, 1),
        ApiKey::EndQuorumEpoch => row(0, 1, 1, 1),
        ApiKey::DescribeQuorum => row(0, 2, 2, 0),
        ApiKey::AlterPartition => row(2, 3, 3, 0),
        ApiKey::UpdateFeatures => row(0, 2, 2, 0),
        ApiKey::Envelope => row(0, 0, 0, 0),
        ApiKey::FetchSnapshot => row(0, 1, 1, 0),
        ApiKey::DescribeCluster => row(0, 2, 2, 0),
        ApiKey::DescribeProducers => row(0, 0, 0, 0),
        ApiKey::BrokerRegistration => row(0, 4, 4, 0),
        ApiKey::BrokerHeartbeat => row(0, 1, 1, 0),
        ApiKey::UnregisterBroker => row(0, 0, 0, 0),
        ApiKey::DescribeTransactions => row(0, 0, 0, 0),
        ApiKey::ListTransactions => row(0, 2, 2, 0),
        ApiKey::AllocateProducerIds => row(0, 0, 0, 0),
        ApiKey::ConsumerGroupHeartbeat => row(0, 1, 1, 0),
        ApiKey::ConsumerGroupDescribe => row(0, 1, 1, 0),
        ApiKey::ControllerRegistration => row(0, 0, 0, 0),
        ApiKey::GetTelemetrySubscriptions => row(0, 0, 0, 0),
        ApiKey::PushTelemetry => row(0, 0, 0, 0),
        ApiKey::AssignReplicasToDirs => row(0, 0, 0, 0),
        ApiKey::ListConfigResources => row(0, 1, 1, 0),
        ApiKey::DescribeTopicPartitions => row(0, 0, 0, 0),
        ApiKey::ShareGroupHeartbeat => row(1, 1, 1, 0),
        ApiKey::ShareGroupDescribe => row(1, 1, 1, 0),
        ApiKey::ShareFetch => row(1, 1, 1, 0),
        ApiKey::ShareAcknowledge => row(1, 1, 1, 0),
        ApiKey::AddRaftVoter => row(0, 0, 0, 0),
        ApiKey::RemoveRaftVoter => row(0, 0, 0, 0),
        ApiKey::UpdateRaftVoter => row(0, 0, 0, 0),
        ApiKey::InitializeShareGroupState => row(0, 0, 0, 0),
        ApiKey::ReadShareGroupState => row(0, 0, 0, 0),
        ApiKey::WriteShareGroupState => row(0, 0, 0, 0),
        ApiKey::DeleteShareGroupState => row(0, 0, 0, 0),
        ApiKey::ReadShareGroupStateSummary => row(0, 0, 0, 0),
        ApiKey::DescribeShareGroupOffsets => row(0, 0, 0, 0),
        ApiKey::AlterShareGroupOffsets => row(0, 0, 0, 0),
        ApiKey::DeleteShareGroupOffsets => row(0, 0, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produce_shows_version_0_and_refuses_it() {
        let produce = ApiVersions::of(ApiKey::Produce);
        assert_eq!(
            (produce.advertised_min, produce.min, produce.max),
            (0, 3, 13)
        );
        assert!(!produce.accepts(0) && !produce.accepts(2) && produce.accepts(3));
        assert!(produce.accepts(13) && !produce.accepts(14));
    }

    #[test]
    fn unstable_versions_and_versions_of_features_are_not_advertised() {
        let max = |key| ApiVersions::of(key).max;
        assert_eq!(max(ApiKey::Fetch), 17);
        assert_eq!(max(ApiKey::OffsetCommit), 9);
        assert_eq!(max(ApiKey::OffsetFetch), 9);
        assert_eq!(max(ApiKey::InitProducerId), 5);
        assert_eq!(max(ApiKey::FindCoordinator), 5);
        assert_eq!(max(ApiKey::AddPartitionsToTxn), 3);
        assert_eq!(ApiVersions::of(ApiKey::EndTxn).up_to(5).max, 5);
    }

    #[test]
    #[should_panic(expected = "no such version")]
    fn a_row_cannot_be_widened_beyond_its_decoder() {
        let _ = ApiVersions::of(ApiKey::OffsetCommit).up_to(10);
    }

    #[test]
    fn headers_follow_flexibility_except_the_api_versions_response() {
        assert_eq!(request_header_version(ApiKey::Produce, 8), 1);
        assert_eq!(request_header_version(ApiKey::Produce, 9), 2);
        assert_eq!(response_header_version(ApiKey::Produce, 9), 1);
        assert_eq!(request_header_version(ApiKey::ApiVersions, 3), 2);
        for version in 0..=99 {
            assert_eq!(response_header_version(ApiKey::ApiVersions, version), 0);
        }
        assert_eq!(request_header_version(ApiKey::OffsetDelete, 0), 1);
        assert_eq!(request_header_version(ApiKey::SaslHandshake, 1), 1);
    }

    #[test]
    fn every_key_is_found_by_its_number() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_code(key.code()), Some(*key));
        }
        for gone in [4, 5, 6, 7, 88, 89, 93, -1] {
            assert_eq!(ApiKey::from_code(gone), None);
        }
    }
}
