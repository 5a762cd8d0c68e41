//! The HTTP API: one file for each kind of thing, each function one method of one path of [`crate::api`].

mod containers;
mod events;
mod networks;
mod views;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::de::DeserializeOwned;

use super::{
    Daemon,
    error::{Error, Result},
};
use crate::api::{API_VERSION, Version};

/// The longest body of a request: every port of the host published, TCP and UDP, comes to two thirds of it.
const BODY_MAX: usize = 16 * 1024 * 1024;

type Shared = State<Arc<Daemon>>;

pub(super) fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .merge(containers::routes())
        .merge(networks::routes())
        .merge(views::routes())
        .merge(events::routes())
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&daemon), first_what_was_said))
        .with_state(daemon)
}

/// A client may know from a supervisor what that supervisor has told us but we have not read. So a request looks at the state only
/// after one turn of the runtime has taken in all that came before it, and after a new daemon has its containers back.
async fn first_what_was_said(State(daemon): Shared, request: Request, next: Next) -> Response {
    // The sender lives as long as the daemon.
    daemon.settled.subscribe().wait_for(|settled| *settled).await.ok();
    tokio::task::yield_now().await;
    next.run(request).await
}

async fn version(State(daemon): Shared) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION.to_owned(),
        protocol_version: netloom_runtime::protocol::VERSION,
        pid: std::process::id(),
        started: daemon.started.clone(),
        workers: daemon.workers,
    })
}

async fn nothing_here(request: Request) -> Error {
    Error::missing(format!("the API has no {} {}", request.method(), request.uri().path()))
}

/// A JSON body; what cannot be read is told as every other error. No body is the default, where there is one.
struct Input<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Error;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self> {
        let bytes = axum::body::Bytes::from_request(request, state).await.map_err(|error| Error::invalid(error.to_string()))?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(bytes).map(Self).map_err(|error| Error::invalid(format!("the request cannot be read: {error}")))
    }
}

/// Done, and nothing to tell.
struct Done;

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}
