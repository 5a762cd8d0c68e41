//! /v1/networks

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, patch, post},
};
use netloom_runtime::host;
use serde::Deserialize;

use super::{
    super::error::{Kind, Result},
    Done, Input, Shared,
};
use crate::{
    api::{
        ConnectNetwork, CreateNetwork, CreatedNetwork, DetachNamespace, DisconnectNetwork, Disconnected, FdbChange, Network, Pruned,
        Settings,
    },
    daemon::Daemon,
};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/networks", get(list).post(create))
        .route("/v1/networks/prune", post(prune))
        .route("/v1/networks/{name}", get(inspect).patch(set).delete(remove))
        .route("/v1/networks/{name}/connect", post(connect))
        .route("/v1/networks/{name}/disconnect", post(disconnect))
        .route("/v1/networks/{name}/detach", post(detach))
        .route("/v1/networks/{name}/ports/{port}", patch(set_port))
        .route("/v1/networks/{name}/fdb", post(fdb_add).delete(fdb_del))
}

async fn list(State(daemon): Shared) -> Json<Vec<Network>> {
    Json(daemon.list_networks())
}

async fn create(State(daemon): Shared, Input(request): Input<CreateNetwork>) -> Result<Json<CreatedNetwork>> {
    let routes = host::routes().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a network is made without a look at the host's routes");
        Vec::new()
    });
    daemon.create_network(request, &routes).map(Json)
}

async fn prune(State(daemon): Shared) -> Json<Pruned> {
    Json(Pruned { networks: daemon.prune_networks(), ..Pruned::default() })
}

async fn inspect(State(daemon): Shared, Path(name): Path<String>) -> Result<Json<Network>> {
    daemon.inspect_network(&name).map(Json)
}

async fn set(State(daemon): Shared, Path(name): Path<String>, Input(settings): Input<Settings>) -> Result<Json<Network>> {
    daemon.set_network(&name, &settings).map(Json)
}

#[derive(Debug, Deserialize)]
struct Remove {
    /// One that does not exist is no error.
    #[serde(default)]
    force: bool,
}

async fn remove(State(daemon): Shared, Path(name): Path<String>, Query(query): Query<Remove>) -> Result<Done> {
    match daemon.remove_network(&name) {
        Err(error) if query.force && error.kind == Kind::Missing => Ok(Done),
        done => done.map(|()| Done),
    }
}

async fn connect(State(daemon): Shared, Path(name): Path<String>, Input(request): Input<ConnectNetwork>) -> Result<Done> {
    daemon.connect(&name, request).await.map(|()| Done)
}

async fn disconnect(
    State(daemon): Shared,
    Path(name): Path<String>,
    Input(request): Input<DisconnectNetwork>,
) -> Result<Json<Disconnected>> {
    daemon.disconnect(&name, request).await.map(Json)
}

async fn detach(State(daemon): Shared, Path(name): Path<String>, Input(request): Input<DetachNamespace>) -> Result<Done> {
    daemon.detach_namespace(&name, request).await.map(|()| Done)
}

async fn set_port(State(daemon): Shared, Path((name, port)): Path<(String, u16)>, Input(settings): Input<Settings>) -> Result<Done> {
    daemon.set_port(&name, port, &settings).map(|()| Done)
}

async fn fdb_add(State(daemon): Shared, Path(name): Path<String>, Input(change): Input<FdbChange>) -> Result<Done> {
    daemon.fdb_add(&name, change.mac, change.port).map(|()| Done)
}

async fn fdb_del(State(daemon): Shared, Path(name): Path<String>, Input(change): Input<FdbChange>) -> Result<Done> {
    daemon.fdb_del(&name, change.mac, change.port).map(|()| Done)
}
