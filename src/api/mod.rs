//! The Kafka door: one file per API, named by its key, so that `ls` is the list of what is served.
//!
//! Each file registers itself with a const [`Api`]: its versions and its handler stand side by
//! side, [`APIS`] is the list of those consts, and ApiVersions advertises that list: what is
//! advertised cannot drift from what is served.
//!
//! A handler has two halves. The synchronous half parses, plans and sends every message to the
//! cores that own the partitions before [`Service::start`] returns: that keeps the batches of an
//! idempotent producer in order, however many requests are in flight. The other half waits for the
//! cores and makes the reply. Between them `plan` and `reply` are pure functions of the request, the
//! image and the cores' answers.
//!
//! Lives on every core, one [`Service`] each. Knows no socket and no disk, keeps no state of
//! partitions, never holds a core up. What it keeps is per connection ([`Connection`]).

mod account;
mod connection;
mod control;
mod find;
mod groups;
mod incoming;
mod k00_produce;
mod k01_fetch;
mod k02_list_offsets;
mod k03_metadata;
mod k08_offset_commit;
mod k09_offset_fetch;
mod k10_find_coordinator;
mod k11_join_group;
mod k12_heartbeat;
mod k13_leave_group;
mod k14_sync_group;
mod k15_describe_groups;
mod k16_list_groups;
mod k18_api_versions;
mod k19_create_topics;
mod k20_delete_topics;
mod k21_delete_records;
mod k22_init_producer_id;
mod k23_offset_for_leader_epoch;
mod k29_describe_acls;
mod k30_create_acls;
mod k31_delete_acls;
mod k32_describe_configs;
mod k33_alter_configs;
mod k35_describe_log_dirs;
mod k37_create_partitions;
mod k42_delete_groups;
mod k43_elect_leaders;
mod k44_incremental_alter_configs;
mod k45_alter_partition_reassignments;
mod k46_list_partition_reassignments;
mod k47_offset_delete;
mod k48_describe_client_quotas;
mod k55_describe_quorum;
mod k57_update_features;
mod k60_describe_cluster;
mod k61_describe_producers;
mod k68_consumer_group_heartbeat;
mod k69_consumer_group_describe;
mod k74_list_config_resources;
mod k75_describe_topic_partitions;
mod operations;
mod partitions;
mod scatter;
mod service;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use connection::{Connection, Endpoint};
pub use service::Service;

use crate::net::Started;
use crate::protocol::ApiVersions;
use incoming::{Incoming, Refused};

/// One API: what is advertised, and what serves it.
pub(crate) struct Api {
    /// The versions, the advertised ones and the accepted ones.
    pub(crate) versions: ApiVersions,
    /// Parses, plans and sends; what is left to wait for is in the future.
    pub(crate) start: fn(&Service, &mut Connection, Incoming) -> Result<Started, Refused>,
}

/// All that is served, in the order of the keys.
pub(crate) static APIS: &[Api] = &[
    k00_produce::API,
    k01_fetch::API,
    k02_list_offsets::API,
    k03_metadata::API,
    k08_offset_commit::API,
    k09_offset_fetch::API,
    k10_find_coordinator::API,
    k11_join_group::API,
    k12_heartbeat::API,
    k13_leave_group::API,
    k14_sync_group::API,
    k15_describe_groups::API,
    k16_list_groups::API,
    k18_api_versions::API,
    k19_create_topics::API,
    k20_delete_topics::API,
    k21_delete_records::API,
    k22_init_producer_id::API,
    k23_offset_for_leader_epoch::API,
    k29_describe_acls::API,
    k30_create_acls::API,
    k31_delete_acls::API,
    k32_describe_configs::API,
    k33_alter_configs::API,
    k35_describe_log_dirs::API,
    k37_create_partitions::API,
    k42_delete_groups::API,
    k43_elect_leaders::API,
    k44_incremental_alter_configs::API,
    k45_alter_partition_reassignments::API,
    k46_list_partition_reassignments::API,
    k47_offset_delete::API,
    k48_describe_client_quotas::API,
    k55_describe_quorum::API,
    k57_update_features::API,
    k60_describe_cluster::API,
    k61_describe_producers::API,
    k68_consumer_group_heartbeat::API,
    k69_consumer_group_describe::API,
    k74_list_config_resources::API,
    k75_describe_topic_partitions::API,
];
