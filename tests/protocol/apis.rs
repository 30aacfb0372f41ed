//! Every message that has a decoder, by its API.

use bytes::Bytes;
use corelane::protocol::messages::{self, *};
use corelane::protocol::{Malformed, api};

/// One API: its number, and what to do with its bodies.
pub struct Api {
    pub key: api::ApiKey,
    pub crate_range: (i16, i16),
    pub request: Codec,
    pub response: Codec,
}

/// One direction of an API.
#[derive(Clone, Copy)]
pub struct Codec {
    pub shape: &'static str,
    /// As the broker and the client do it.
    pub decode: fn(Bytes, i16) -> Result<(), Malformed>,
    /// The crate's decoder alone, and its encoder: bytes left over, and the body written again.
    pub again: fn(Bytes, i16) -> Result<(usize, Bytes), String>,
}

fn again<M: Decodable + Encodable>(
    mut body: Bytes,
    version: i16,
) -> Result<(usize, Bytes), String> {
    let message = M::decode(&mut body, version).map_err(|error| error.to_string())?;
    let mut written = bytes::BytesMut::new();
    message
        .encode(&mut written, version)
        .map_err(|error| error.to_string())?;
    Ok((body.len(), written.freeze()))
}

fn of<T: Request>() -> Api {
    let key = api::ApiKey::from_code(T::KEY).expect("a name for every key of the crate");
    let shapes = corelane::protocol::shapes::shapes(T::KEY).expect("a shape for every key");
    Api {
        key,
        crate_range: (T::VERSIONS.min, T::VERSIONS.max),
        request: Codec {
            shape: shapes.request,
            decode: |body, version| messages::decode::<T>(body, version).map(drop),
            again: again::<T>,
        },
        response: Codec {
            shape: shapes.response,
            decode: |body, version| messages::decode_response::<T>(body, version).map(drop),
            again: again::<T::Response>,
        },
    }
}

/// All of them.
pub fn all() -> Vec<Api> {
    vec![
        of::<ProduceRequest>(),
        of::<FetchRequest>(),
        of::<ListOffsetsRequest>(),
        of::<MetadataRequest>(),
        of::<OffsetCommitRequest>(),
        of::<OffsetFetchRequest>(),
        of::<FindCoordinatorRequest>(),
        of::<JoinGroupRequest>(),
        of::<HeartbeatRequest>(),
        of::<LeaveGroupRequest>(),
        of::<SyncGroupRequest>(),
        of::<DescribeGroupsRequest>(),
        of::<ListGroupsRequest>(),
        of::<SaslHandshakeRequest>(),
        of::<ApiVersionsRequest>(),
        of::<CreateTopicsRequest>(),
        of::<DeleteTopicsRequest>(),
        of::<DeleteRecordsRequest>(),
        of::<InitProducerIdRequest>(),
        of::<OffsetForLeaderEpochRequest>(),
        of::<AddPartitionsToTxnRequest>(),
        of::<AddOffsetsToTxnRequest>(),
        of::<EndTxnRequest>(),
        of::<WriteTxnMarkersRequest>(),
        of::<TxnOffsetCommitRequest>(),
        of::<DescribeAclsRequest>(),
        of::<CreateAclsRequest>(),
        of::<DeleteAclsRequest>(),
        of::<DescribeConfigsRequest>(),
        of::<AlterConfigsRequest>(),
        of::<AlterReplicaLogDirsRequest>(),
        of::<DescribeLogDirsRequest>(),
        of::<SaslAuthenticateRequest>(),
        of::<CreatePartitionsRequest>(),
        of::<CreateDelegationTokenRequest>(),
        of::<RenewDelegationTokenRequest>(),
        of::<ExpireDelegationTokenRequest>(),
        of::<DescribeDelegationTokenRequest>(),
        of::<DeleteGroupsRequest>(),
        of::<ElectLeadersRequest>(),
        of::<IncrementalAlterConfigsRequest>(),
        of::<AlterPartitionReassignmentsRequest>(),
        of::<ListPartitionReassignmentsRequest>(),
        of::<OffsetDeleteRequest>(),
        of::<DescribeClientQuotasRequest>(),
        of::<AlterClientQuotasRequest>(),
        of::<DescribeUserScramCredentialsRequest>(),
        of::<AlterUserScramCredentialsRequest>(),
        of::<VoteRequest>(),
        of::<BeginQuorumEpochRequest>(),
        of::<EndQuorumEpochRequest>(),
        of::<DescribeQuorumRequest>(),
        of::<AlterPartitionRequest>(),
        of::<UpdateFeaturesRequest>(),
        of::<EnvelopeRequest>(),
        of::<FetchSnapshotRequest>(),
        of::<DescribeClusterRequest>(),
        of::<DescribeProducersRequest>(),
        of::<BrokerRegistrationRequest>(),
        of::<BrokerHeartbeatRequest>(),
        of::<UnregisterBrokerRequest>(),
        of::<DescribeTransactionsRequest>(),
        of::<ListTransactionsRequest>(),
        of::<AllocateProducerIdsRequest>(),
        of::<ConsumerGroupHeartbeatRequest>(),
        of::<ConsumerGroupDescribeRequest>(),
        of::<ControllerRegistrationRequest>(),
        of::<GetTelemetrySubscriptionsRequest>(),
        of::<PushTelemetryRequest>(),
        of::<AssignReplicasToDirsRequest>(),
        of::<ListConfigResourcesRequest>(),
        of::<DescribeTopicPartitionsRequest>(),
        of::<ShareGroupHeartbeatRequest>(),
        of::<ShareGroupDescribeRequest>(),
        of::<ShareFetchRequest>(),
        of::<ShareAcknowledgeRequest>(),
        of::<AddRaftVoterRequest>(),
        of::<RemoveRaftVoterRequest>(),
        of::<UpdateRaftVoterRequest>(),
        of::<InitializeShareGroupStateRequest>(),
        of::<ReadShareGroupStateRequest>(),
        of::<WriteShareGroupStateRequest>(),
        of::<DeleteShareGroupStateRequest>(),
        of::<ReadShareGroupStateSummaryRequest>(),
        of::<DescribeShareGroupOffsetsRequest>(),
        of::<AlterShareGroupOffsetsRequest>(),
        of::<DeleteShareGroupOffsetsRequest>(),
    ]
}
