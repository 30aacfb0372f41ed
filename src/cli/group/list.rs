//! `corelane group list`.

use clap::Args;
use serde_json::json;

use super::super::client::{Client, ListedGroup};
use super::super::connect::Broker;
use super::super::{Failed, table};
use super::Output;

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane group list
  corelane group list --state empty
  corelane group list --type consumer --output json

States: Empty (no members), Stable (all have their partitions), and on the way there
PreparingRebalance and CompletingRebalance (classic groups) or Assigning and Reconciling
(consumer groups, KIP-848).")]
pub struct List {
    /// Only groups in this state; repeat it for more
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Only groups of this type: classic or consumer (KIP-848)
    #[arg(long = "type", value_name = "TYPE")]
    kind: Vec<String>,
    /// Ids only, a line each
    #[arg(long, conflicts_with = "output")]
    names: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    broker: Broker,
}

impl List {
    pub(super) fn run(&self) -> Result<Vec<String>, Failed> {
        let groups = self.broker.client().retrying(Client::groups)?;
        let one_of = |wanted: &[String], name: &str| {
            wanted.is_empty()
                || wanted
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let wanted = |group: &ListedGroup| {
            one_of(&self.state, &group.state) && one_of(&self.kind, &group.kind)
        };
        let groups: Vec<ListedGroup> = groups.into_iter().filter(wanted).collect();
        if self.names {
            return Ok(groups.into_iter().map(|group| group.id).collect());
        }
        if self.output == Output::Json {
            let groups = groups.iter().map(|group| {
                json!({"group": group.id, "type": group.kind, "state": group.state,
                       "protocol_type": group.protocol_type})
            });
            let groups: Vec<_> = groups.collect();
            return Ok(vec![format!("{:#}", json!(groups))]);
        }
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let known = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        let rows: Vec<Vec<String>> = groups
            .into_iter()
            .map(|group| {
                let columns = [group.id, group.kind, group.state, group.protocol_type];
                columns.map(known).to_vec()
            })
            .collect();
        Ok(table::lines(&["GROUP", "TYPE", "STATE", "PROTOCOL"], &rows))
    }
}
