//! /v1/containers

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    super::error::{Error, Result},
    Done, Input, Shared,
};
use crate::api::{
    Container, CreateContainer, Created, KillContainer, PortBinding, Publications, RenameContainer, Stats, StopContainer, Waited,
};

pub(super) fn routes() -> Router<std::sync::Arc<crate::daemon::Daemon>> {
    Router::new()
        .route("/v1/containers", get(list).post(create))
        .route("/v1/containers/{word}", get(inspect).delete(remove))
        .route("/v1/containers/{word}/start", post(start))
        .route("/v1/containers/{word}/restart", post(restart))
        .route("/v1/containers/{word}/stop", post(stop))
        .route("/v1/containers/{word}/kill", post(kill))
        .route("/v1/containers/{word}/pause", post(pause))
        .route("/v1/containers/{word}/unpause", post(unpause))
        .route("/v1/containers/{word}/rename", post(rename))
        .route("/v1/containers/{word}/wait", get(wait))
        .route("/v1/containers/{word}/stats", get(stats))
        .route("/v1/containers/{word}/publications", post(publish).delete(unpublish))
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    all: bool,
}

async fn list(State(daemon): Shared, Query(query): Query<List>) -> Json<Vec<Container>> {
    Json(daemon.list(query.all))
}

async fn create(State(daemon): Shared, Input(request): Input<CreateContainer>) -> Result<Json<Created>> {
    daemon.create(request).map(Json)
}

async fn inspect(State(daemon): Shared, Path(word): Path<String>) -> Result<Json<Container>> {
    daemon.inspect(&word).map(Json)
}

#[derive(Debug, Deserialize)]
struct Remove {
    #[serde(default)]
    force: bool,
}

async fn remove(State(daemon): Shared, Path(word): Path<String>, Query(query): Query<Remove>) -> Result<Done> {
    daemon.remove(&word, query.force).await.map(|()| Done)
}

async fn start(State(daemon): Shared, Path(word): Path<String>) -> Result<Done> {
    daemon.start(&word).await.map(|()| Done)
}

async fn restart(State(daemon): Shared, Path(word): Path<String>, Input(request): Input<StopContainer>) -> Result<Done> {
    daemon.restart(&word, request.grace_seconds).await.map(|()| Done)
}

async fn stop(State(daemon): Shared, Path(word): Path<String>, Input(request): Input<StopContainer>) -> Result<Done> {
    daemon.stop(&word, request.grace_seconds).await.map(|()| Done)
}

async fn kill(State(daemon): Shared, Path(word): Path<String>, Input(request): Input<KillContainer>) -> Result<Done> {
    daemon.kill(&word, request.signal).await.map(|()| Done)
}

async fn pause(State(daemon): Shared, Path(word): Path<String>) -> Result<Done> {
    daemon.pause(&word).await.map(|()| Done)
}

async fn unpause(State(daemon): Shared, Path(word): Path<String>) -> Result<Done> {
    daemon.unpause(&word).await.map(|()| Done)
}

async fn rename(State(daemon): Shared, Path(word): Path<String>, Input(request): Input<RenameContainer>) -> Result<Done> {
    daemon.rename(&word, request.name).map(|()| Done)
}

async fn wait(State(daemon): Shared, Path(word): Path<String>) -> Result<Json<Waited>> {
    daemon.wait(&word).await.map(|exit_code| Json(Waited { exit_code }))
}

async fn stats(State(daemon): Shared, Path(word): Path<String>) -> Result<Json<Stats>> {
    daemon.stats(&word).await.map(Json)
}

async fn publish(State(daemon): Shared, Path(word): Path<String>, Input(request): Input<Publications>) -> Result<Json<Vec<PortBinding>>> {
    whole(async move { daemon.publish(&word, request.publications).await }).await.map(Json)
}

async fn unpublish(State(daemon): Shared, Path(word): Path<String>, Input(request): Input<Publications>) -> Result<Json<Vec<PortBinding>>> {
    whole(async move { daemon.unpublish(&word, request.publications).await }).await.map(Json)
}

/// Does what has many steps to its end, even if whoever asked for it is gone by then.
async fn whole<T: Send + 'static>(steps: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(steps).await.map_err(|error| Error::internal(error.to_string()))?
}
