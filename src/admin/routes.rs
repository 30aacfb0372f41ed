//! What is served under which path. All of it is read-only.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::gather::Gatherer;
use super::groups::{self, Desk};
use super::lag::LagGatherer;
use super::{CORE_ANSWER_WAIT_MAX, Groups, Handle, SNAPSHOT_AGE_MAX, exposition, latency};

/// What the routes share.
struct Shared {
    handle: Handle,
    gatherer: Gatherer,
    desk: Arc<Desk>,
    lag: LagGatherer,
}

/// All routes over one handle and the questions about groups.
pub(super) fn router(handle: Handle, groups: Groups) -> Router {
    let (cores, wait, age) = (handle.cores, CORE_ANSWER_WAIT_MAX, SNAPSHOT_AGE_MAX);
    let desk = Arc::new(Desk::new(groups, cores, wait));
    let shared = Shared {
        gatherer: Gatherer::new(cores, wait, age),
        lag: LagGatherer::new(cores, wait, age),
        desk: desk.clone(),
        handle,
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/v1/latency", get(latency))
        .with_state(Arc::new(shared))
        .merge(groups::router(desk))
}

/// All figures for Prometheus. Cores that are stuck are missing in it and shown as down.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let gathered = shared.gatherer.gather(&shared.handle).await;
    let lag = shared.lag.gather(shared.desk.groups()).await;
    let process = (shared.handle.process)();
    match exposition::text(&gathered.cores, process, shared.handle.names, &lag) {
        Ok(text) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Err(refusal) => (StatusCode::INTERNAL_SERVER_ERROR, refusal).into_response(),
    }
}

/// The process runs and this thread serves. Says nothing about the cores: a restart mends no disk.
async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

/// What is wrong: 200 if nothing is, 503 otherwise, with the names either way.
async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let health = (shared.handle.health)();
    let status = if health.status == "ok" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health)).into_response()
}

/// 200 once the broker serves all it can serve, 503 with the progress before.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = (shared.handle.readiness)();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

/// Quantiles of all latencies, all cores together.
async fn latency(State(shared): State<Arc<Shared>>) -> Response {
    let gathered = shared.gatherer.gather(&shared.handle).await;
    Json(latency::latencies(
        &gathered.snapshots(),
        shared.handle.names,
    ))
    .into_response()
}
