//! /v1/ports, /v1/fdb, /v1/leases, /v1/flows, /v1/drops, /v1/prune

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::{get, post},
};
use serde::Deserialize;

use super::{super::error::Result, Shared};
use crate::{
    api::{Drop, FdbEntry, Flow, Lease, Port, Pruned},
    daemon::Daemon,
};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/ports", get(ports))
        .route("/v1/fdb", get(fdb))
        .route("/v1/leases", get(leases))
        .route("/v1/flows", get(flows))
        .route("/v1/drops", get(drops))
        .route("/v1/prune", post(prune))
}

#[derive(Debug, Deserialize)]
struct Which {
    network: Option<String>,
}

async fn ports(State(daemon): Shared, Query(which): Query<Which>) -> Result<Json<Vec<Port>>> {
    daemon.ports(which.network.as_deref()).map(Json)
}

async fn fdb(State(daemon): Shared, Query(which): Query<Which>) -> Result<Json<Vec<FdbEntry>>> {
    daemon.fdb(which.network.as_deref()).map(Json)
}

async fn leases(State(daemon): Shared, Query(which): Query<Which>) -> Result<Json<Vec<Lease>>> {
    daemon.leases(which.network.as_deref()).map(Json)
}

async fn flows(State(daemon): Shared, Query(which): Query<Which>) -> Result<Json<Vec<Flow>>> {
    daemon.flows(which.network.as_deref()).map(Json)
}

async fn drops(State(daemon): Shared, Query(which): Query<Which>) -> Result<Json<Vec<Drop>>> {
    daemon.drops(which.network.as_deref()).map(Json)
}

async fn prune(State(daemon): Shared) -> Result<Json<Pruned>> {
    daemon.prune().await.map(Json)
}
