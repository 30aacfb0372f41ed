//! Groups as JSON: a list of them in pages, and one group with its members, its offsets and its
//! lag.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::group::overview::{Detail, GroupRow, Listing, Page, PartitionRow};
use crate::shard::{FoundGroup, GroupPage};

use super::Groups;
use super::asker::Asker;
use super::lag::{Ends, EndsAsker, lag};

/// How many groups, members or partitions a page has unless it is told otherwise.
const PAGE: usize = 100;

/// The most that a page may have.
const PAGE_MAX: usize = 1_000;

/// What the routes about groups share.
pub(super) struct Desk {
    groups: Groups,
    pages: Asker<GroupPage>,
    details: Asker<FoundGroup>,
    ends: EndsAsker,
}

impl Desk {
    pub(super) fn new(groups: Groups, cores: u16, answer_wait_max: Duration) -> Desk {
        Desk {
            groups,
            pages: Asker::new(cores, answer_wait_max),
            details: Asker::new(cores, answer_wait_max),
            ends: EndsAsker::new(cores, answer_wait_max),
        }
    }

    /// What `/metrics` asks as well.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }
}

/// The routes about groups.
pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/groups", get(list))
        .route("/v1/groups/{group}", get(describe))
        .with_state(desk)
}

/// `?after=GROUP&limit=N&state=STATE&type=TYPE`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
    state: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// `?limit=N&after=TOPIC-PARTITION&members_after=MEMBER`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribeQuery {
    after: Option<String>,
    members_after: Option<String>,
    limit: Option<usize>,
}

/// A reply that says why not and what to do.
fn refused(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(json!({ "error": why.into() }))).into_response()
}

fn page_limit(asked: Option<usize>) -> Result<usize, Box<Response>> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        other => {
            let why = format!("limit={other} is not between 1 and {PAGE_MAX}");
            Err(Box::new(refused(StatusCode::BAD_REQUEST, why)))
        }
    }
}

/// A page of the groups of all cores, by id.
async fn list(State(desk): State<Arc<Desk>>, Query(query): Query<ListQuery>) -> Response {
    let limit = match page_limit(query.limit) {
        Ok(limit) => limit,
        Err(refused) => return *refused,
    };
    // One more than is shown tells whether there are more.
    let listing = Arc::new(Listing {
        after: query.after,
        limit: limit + 1,
        state: query.state,
        kind: query.kind,
    });
    let ask = |core, answer| (desk.groups.page)(core, listing.clone(), answer);
    let pages = desk.pages.ask(ask).await;
    let incomplete = pages
        .iter()
        .any(|page| page.as_ref().is_none_or(|page| page.incomplete));
    let rows = pages.into_iter().flatten().flat_map(|page| page.rows);
    let mut rows: Vec<GroupRow> = rows.collect();
    rows.sort_by(|one, other| one.group.cmp(&other.group));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let after = rows.last().filter(|_| more).map(|row| row.group.clone());
    Json(json!({ "groups": rows, "next_after": after, "incomplete": incomplete })).into_response()
}

/// One group, with a page of its members and of its partitions.
async fn describe(
    State(desk): State<Arc<Desk>>,
    Path(group): Path<String>,
    Query(query): Query<DescribeQuery>,
) -> Response {
    let limit = match page_limit(query.limit) {
        Ok(limit) => limit,
        Err(refused) => return *refused,
    };
    let partitions_after = match query.after.as_deref().map(partition_named) {
        Some(None) => {
            let why = "after is TOPIC-PARTITION, such as orders-3, as next_after has it";
            return refused(StatusCode::BAD_REQUEST, why);
        }
        Some(after) => after,
        None => None,
    };
    let page = Arc::new(Page {
        members_after: query.members_after,
        partitions_after,
        limit,
    });
    let named = Arc::new(group.clone());
    let ask = |core, answer| (desk.groups.detail)(core, named.clone(), page.clone(), answer);
    let found = desk.details.ask(ask).await;
    let silent = found.iter().any(Option::is_none);
    let mut not_now = silent;
    for found in found.into_iter().flatten() {
        match found {
            FoundGroup::Here(detail) => {
                let places = detail.partitions.iter();
                let places = places.map(|row| (row.topic.clone(), row.partition));
                let ends = desk.ends.ends(&desk.groups, places.collect()).await;
                return Json(described(*detail, &ends)).into_response();
            }
            FoundGroup::Unknown => {
                let why = format!("there is no group {group}: /v1/groups lists those there are");
                return refused(StatusCode::NOT_FOUND, why);
            }
            FoundGroup::NotNow => not_now = true,
            FoundGroup::Elsewhere => {}
        }
    }
    let why = match not_now {
        true => format!("the coordinator of group {group} is loading or stuck: try again"),
        false => format!("group {group} has no coordinator here: ask its broker"),
    };
    refused(StatusCode::SERVICE_UNAVAILABLE, why)
}

fn partition_named(text: &str) -> Option<(String, i32)> {
    let (topic, partition) = text.rsplit_once('-')?;
    Some((topic.to_owned(), partition.parse().ok()?))
}

fn described(detail: Detail, ends: &Ends) -> Value {
    let next = |row: &PartitionRow| format!("{}-{}", row.topic, row.partition);
    let next_after = detail.partitions.last().filter(|_| detail.more_partitions);
    let next_after = next_after.map(next);
    let next_member = detail.members.last().filter(|_| detail.more_members);
    let next_member = next_member.map(|member| member.member.clone());
    let partitions: Vec<Value> = detail
        .partitions
        .iter()
        .map(|row| {
            let ends = ends.get(&(row.topic.clone(), row.partition));
            let mut shown = json!(row);
            shown["log_start_offset"] = json!(ends.map(|ends| ends.start.0));
            shown["log_end_offset"] = json!(ends.map(|ends| ends.end.0));
            let lag = ends
                .zip(row.committed_offset)
                .map(|(ends, committed)| lag(ends.end.0, committed));
            shown["lag"] = json!(lag);
            shown
        })
        .collect();
    let mut shown = json!(detail);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("more_members");
        fields.remove("more_partitions");
        fields.insert("partitions".to_owned(), json!(partitions));
        fields.insert("next_after".to_owned(), json!(next_after));
        fields.insert("next_members_after".to_owned(), json!(next_member));
    }
    shown
}
