//! The shape of every message, as data: what [`super::walk`] needs to check a body before it is
//! decoded. Knows no field's name or meaning.
//!
//! A shape lists a message's fields in wire order, in the language below. It is the same for every
//! version; strings, bytes, arrays and structs take their compact form, and every struct ends in
//! tagged fields, from the version that [`super::ApiVersions::flexible_from`] names.
//!
//! ```text
//! b h w l u    1, 2, 4, 8 and 16 bytes        s  string, nullable    y  bytes, nullable
//! [..]         array of structs               (x)  array of one such primitive
//! {..}         struct                         ?{..}  struct after a presence byte (1: there)
//! 3:x  0-2:x   x from version 3 on; x in versions 0 to 2
//! <1@3:x>      x as tagged field 1, from version 3 on
//! ```
//!
//! Source: apache/kafka `clients/src/main/resources/common/message/*.json` at 4.1, by way of the
//! decoders that will read the body after the walk; `tests/protocol` holds each shape against its
//! decoder in every version.

/// The shapes of one API.
#[derive(Clone, Copy, Debug)]
pub struct Shapes {
    /// The request's body.
    pub request: &'static str,
    /// The response's body.
    pub response: &'static str,
}

/// The shapes of the API with the number `key`; none for a number that is not in use.
pub const fn shapes(key: i16) -> Option<Shapes> {
    let (request, response) = match key {
        // Produce
        0 => (
            "s h w [0-12:s 13:u [w y]]",
            "[0-12:s 13:u [w h l l 5:l 8:[8:w 8:s] 8:s <0@10:{10:w 10:w}>]] w <0@10:[10:w 10:s \
             10:w 10:s]>",
        ),
        // Fetch
        1 => (
            "0-14:w w w w b 7:w 7:w [0-12:s 13:u [w 9:w l 12:w 5:l w <0@17:u> <1@18:l>]] \
             7:[7-12:s 13:u 7:(w)] 11:s <0@s> <1@15:{15:w 15:l}>",
            "w 7:h 7:w [0-12:s 13:u [w h l l 5:l [l l] 11:w y <0@{12:w 12:l}> <1@{12:w 12:w}> \
             <2@{l w}>]] <0@16:[16:w 16:s 16:w 16:s]>",
        ),
        // ListOffsets
        2 => ("w 2:b [s [w 4:w l]] 10:w", "2:w [s [w h l l 4:w]]"),
        // Metadata
        3 => (
            "[10:u s] 4:b 8-10:b 8:b",
            "3:w [w s w 1:s] 2:s 1:w [h s 10:u 1:b [h w w 7:w (w) (w) 5:(w)] 8:w] 8-10:w 13:h",
        ),
        // OffsetCommit
        8 => ("s w s 7:s 0-4:l [s [w l 6:w s]]", "3:w [0-9:s 10:u [w h]]"),
        // OffsetFetch
        9 => (
            "0-7:s 0-7:[0-7:s 0-7:(w)] 8:[8:s 9:s 9:w 8:[8:s 8:(w)]] 7:b",
            "3:w 0-7:[0-7:s 0-7:[0-7:w 0-7:l 5-7:w 0-7:s 0-7:h]] 2-7:h 8:[8:s 8:[8-9:s 10:u \
             8:[8:w 8:l 8:w 8:s 8:h]] 8:h]",
        ),
        // FindCoordinator
        10 => (
            "0-3:s 1:b 4:(s)",
            "1:w 0-3:h 1-3:s 0-3:w 0-3:s 0-3:w 4:[4:s 4:w 4:s 4:w 4:h 4:s]",
        ),
        // JoinGroup
        11 => (
            "s w 1:w s 5:s s [s y] 8:s",
            "2:w h w 7:s s s 9:b s [s 5:s y]",
        ),
        // Heartbeat
        12 => ("s w s 3:s", "1:w h"),
        // LeaveGroup
        13 => ("s 0-2:s 3:[3:s 3:s 5:s]", "1:w h 3:[3:s 3:s 3:h]"),
        // SyncGroup
        14 => ("s w s 3:s 5:s 5:s [s y]", "1:w h 5:s 5:s y"),
        // DescribeGroups
        15 => ("(s) 3:b", "1:w [h 6:s s s s s [s 4:s s s y y] 3:w]"),
        // ListGroups
        16 => ("4:(s) 5:(s)", "1:w h [s s 4:s 5:s]"),
        // SaslHandshake
        17 => ("s", "h (s)"),
        // ApiVersions
        18 => (
            "3:s 3:s",
            "h [h h h] 1:w <0@[3:s 3:h 3:h]> <1@l> <2@[3:s 3:h 3:h]> <3@b>",
        ),
        // CreateTopics
        19 => (
            "[s w h [w (w)] [s s]] w b",
            "w [s 7:u h s 5:w 5:h 5:[5:s 5:s 5:b 5:b 5:b] <0@h>]",
        ),
        // DeleteTopics
        20 => ("6:[6:s 6:u] 0-5:(s) w", "w [s 6:u h 5:s]"),
        // DeleteRecords
        21 => ("[s [w l]] w", "w [s [w l h]]"),
        // InitProducerId
        22 => ("s w 3:l 3:h", "w h l h 6:l 6:h"),
        // OffsetForLeaderEpoch
        23 => ("3:w [s [w w w]]", "w [s [h w w l]]"),
        // AddPartitionsToTxn
        24 => (
            "4:[4:s 4:l 4:h 4:b 4:[s (w)]] 0-3:s 0-3:l 0-3:h 0-3:[s (w)]",
            "w 4:h 4:[4:s 4:[s [w h]]] 0-3:[s [w h]]",
        ),
        // AddOffsetsToTxn
        25 => ("s l h s", "w h"),
        // EndTxn
        26 => ("s l h b", "w h 5:l 5:h"),
        // WriteTxnMarkers
        27 => ("[l h b [s (w)] w]", "[l [s [w h]]]"),
        // TxnOffsetCommit
        28 => ("s s l h 3:w 3:s 3:s [s [w l 2:w s]]", "w [s [w h]]"),
        // DescribeAcls
        29 => ("b s b s s b b", "w h s [b s b [s s b b]]"),
        // CreateAcls
        30 => ("[b s b s s b b]", "w [h s]"),
        // DeleteAcls
        31 => ("[b s b s s b b]", "w [h s [h s b s b s s b b]]"),
        // DescribeConfigs
        32 => ("[b s (s)] b 3:b", "w [h s b s [s s b b b [s s b] 3:b 3:s]]"),
        // AlterConfigs
        33 => ("[b s [s s]] b", "w [h s b s]"),
        // AlterReplicaLogDirs
        34 => ("[s [s (w)]]", "w [s [w h]]"),
        // DescribeLogDirs
        35 => ("[s (w)]", "w 3:h [h s [s [w l l b]] 4:l 4:l]"),
        // SaslAuthenticate
        36 => ("y", "h s y 1:l"),
        // CreatePartitions
        37 => ("[s w [(w)]] w b", "w [s h s]"),
        // CreateDelegationToken
        38 => ("3:s 3:s [s s] l", "h s s 3:s 3:s l l l s y w"),
        // RenewDelegationToken
        39 => ("y l", "h l w"),
        // ExpireDelegationToken
        40 => ("y l", "h l w"),
        // DescribeDelegationToken
        41 => ("[s s]", "h [s s 3:s 3:s l l l s y [s s]] w"),
        // DeleteGroups
        42 => ("(s)", "w [s h]"),
        // ElectLeaders
        43 => ("1:b [s (w)] w", "w 1:h [s [w h s]]"),
        // IncrementalAlterConfigs
        44 => ("[b s [s b s]] b", "w [h s b s]"),
        // AlterPartitionReassignments
        45 => ("w 1:b [s [w (w)]]", "w 1:b h s [s [w h s]]"),
        // ListPartitionReassignments
        46 => ("w [s (w)]", "w h s [s [w (w) (w) (w)]]"),
        // OffsetDelete
        47 => ("s [s [w]]", "h w [s [w h]]"),
        // DescribeClientQuotas
        48 => ("[s b s] b", "w h s [[s s] [s l]]"),
        // AlterClientQuotas
        49 => ("[[s s] [s l b]] b", "w [h s [s s]]"),
        // DescribeUserScramCredentials
        50 => ("[s]", "w h s [s h s [b w]]"),
        // AlterUserScramCredentials
        51 => ("[s b] [s b w y y]", "w [s h s]"),
        // Vote
        52 => (
            "s 1:w [s [w w w 1:u 1:u w l 2:b]]",
            "h [s [w h w w b]] <0@1:[1:w 1:s 1:h]>",
        ),
        // BeginQuorumEpoch
        53 => (
            "s 1:w [s [w 1:u w w]] 1:[1:s 1:s 1:h]",
            "h [s [w h w w]] <0@[1:w 1:s 1:h]>",
        ),
        // EndQuorumEpoch
        54 => (
            "s [s [w w w 0-0:(w) 1:[1:w 1:u]]] 1:[1:s 1:s 1:h]",
            "h [s [w h w w]] <0@[1:w 1:s 1:h]>",
        ),
        // DescribeQuorum
        55 => (
            "[s [w]]",
            "h 2:s [s [w h 2:s w w l [w 2:u l 1:l 1:l] [w 2:u l 1:l 1:l]]] 2:[2:w 2:[2:s 2:s \
             2:h]]",
        ),
        // AlterPartition
        56 => (
            "w l [u [w w 2-2:(w) 3:[3:w 3:l] b w]]",
            "w h [u [w h w w (w) b w]]",
        ),
        // UpdateFeatures
        57 => ("w [s h 0-0:b 1:b] 1:b", "w h s 0-1:[s h s]"),
        // Envelope
        58 => ("y y y", "y h"),
        // FetchSnapshot
        59 => (
            "w w [s [w w {l w} l <0@1:u>]] <0@s>",
            "w h [s [w h {l w} l l y <0@{w w}>]] <0@1:[1:w 1:s 1:h]>",
        ),
        // DescribeCluster
        60 => ("b 1:b 2:b", "w h s 1:b s w [w s w s 2:b] w"),
        // DescribeProducers
        61 => ("[s (w)]", "w [s [w h s [l w w l w l]]]"),
        // BrokerRegistration
        62 => ("w s u [s s h h] [s h h] s 1:b 2:(u) 3:l", "w h l"),
        // BrokerHeartbeat
        63 => ("w l l b b <0@1:(u)>", "w h b b b"),
        // UnregisterBroker
        64 => ("w", "w h s"),
        // DescribeTransactions
        65 => ("(s)", "w [h s s w l l h [s (w)]]"),
        // ListTransactions
        66 => ("(s) (l) 1:l 2:s", "w h (s) [s l s]"),
        // AllocateProducerIds
        67 => ("w l", "w h l w"),
        // ConsumerGroupHeartbeat
        68 => ("s s w s s w (s) 1:s s [u (w)]", "w h s s w w ?{[u (w)]}"),
        // ConsumerGroupDescribe
        69 => (
            "(s) b",
            "w [h s s s w w s [s s s w s s (s) s {[u s (w)]} {[u s (w)]} 1:b] w]",
        ),
        // ControllerRegistration
        70 => ("w u b [s s h h] [s h h]", "w h s"),
        // GetTelemetrySubscriptions
        71 => ("u", "w h u w (b) w w b (s)"),
        // PushTelemetry
        72 => ("u w b b y", "w h"),
        // AssignReplicasToDirs
        73 => ("w l [u [u [w]]]", "w h [u [u [w h]]]"),
        // ListConfigResources
        74 => ("1:(b)", "w h [s 1:b]"),
        // DescribeTopicPartitions
        75 => (
            "[s] w ?{s w}",
            "w [h s u b [h w w w (w) (w) (w) (w) (w)] w] ?{s w}",
        ),
        // ShareGroupHeartbeat
        76 => ("s s w s (s)", "w h s s w w ?{[u (w)]}"),
        // ShareGroupDescribe
        77 => ("(s) b", "w [h s s s w w s [s s w s s (s) {[u s (w)]}] w]"),
        // ShareFetch
        78 => (
            "s s w w w w w w [u [w [l l (b)]]] [u (w)]",
            "w h s w [u [w h s h s {w w} y [l l h]]] [w s w s]",
        ),
        // ShareAcknowledge
        79 => (
            "s s w [u [w [l l (b)]]]",
            "w h s [u [w h s {w w}]] [w s w s]",
        ),
        // AddRaftVoter
        80 => ("s w w u [s s h]", "w h s"),
        // RemoveRaftVoter
        81 => ("s w u", "w h s"),
        // UpdateRaftVoter
        82 => ("s w w u [s s h] {h h}", "w h <0@{w w s w}>"),
        // InitializeShareGroupState
        83 => ("s [u [w w l]]", "[u [w h s]]"),
        // ReadShareGroupState
        84 => ("s [u [w w]]", "[u [w h s w l [l l b h]]]"),
        // WriteShareGroupState
        85 => ("s [u [w w w l [l l b h]]]", "[u [w h s]]"),
        // DeleteShareGroupState
        86 => ("s [u [w]]", "[u [w h s]]"),
        // ReadShareGroupStateSummary
        87 => ("s [u [w w]]", "[u [w h s w w l]]"),
        // DescribeShareGroupOffsets
        90 => ("[s [s (w)]]", "w [s [s u [w l w h s]] h s]"),
        // AlterShareGroupOffsets
        91 => ("s [s [w l]]", "w h s [s u [w h s]]"),
        // DeleteShareGroupOffsets
        92 => ("s [s]", "w h s [s u h s]"),
        _ => return None,
    };
    Some(Shapes { request, response })
}
