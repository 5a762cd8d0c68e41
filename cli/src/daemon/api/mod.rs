//! The HTTP API: one file for each kind of thing, each function one method of one path of [`crate::api`].

mod containers;
mod events;
mod networks;
mod views;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    Daemon,
    error::{Error, Result},
};
use crate::api::{API_VERSION, Version};

/// The longest body of a request: every port of the host published, TCP and UDP, comes to two thirds of it.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// How long a body may take to come; the longest takes well under a second.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

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

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let bytes = body(request, BODY_PATIENCE).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(bytes).map(Self).map_err(|error| Error::invalid(format!("the request cannot be read: {error}")))
    }
}

async fn body(request: Request, patience: Duration) -> Result<Bytes> {
    let Ok(body) = timeout(patience, Bytes::from_request(request, &())).await else {
        return Err(Error::unfinished(format!("the request did not come to its end within {} s", patience.as_secs())));
    };
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::too_long(format!("the request is longer than {} MiB", BODY_MAX / (1024 * 1024))),
        _ => Error::invalid(format!("the request cannot be read: {error}")),
    })
}

/// Done, and nothing to tell.
struct Done;

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use futures_util::stream;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::{
        api::ErrorBody,
        daemon::{error::Kind, testkit::Scratch},
    };

    /// The status and the message of the answer to a container that is to be created so.
    async fn created(body: impl Into<Body>) -> (u16, String) {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        daemon.settled.send_replace(true);
        let request = Request::post("/v1/containers").body(body.into()).unwrap();
        let answer = TowerToHyperService::new(router(daemon)).call(request).await.unwrap();
        let status = answer.status().as_u16();
        let said = to_bytes(answer.into_body(), BODY_MAX).await.unwrap();
        (status, serde_json::from_slice::<ErrorBody>(&said).unwrap().error)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_that_is_too_long_is_refused_by_its_length() {
        assert_eq!(created(vec![b' '; BODY_MAX + 1]).await, (413, "the request is longer than 16 MiB".to_owned()));
        assert_eq!(created(vec![b' '; BODY_MAX]).await.0, 400);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn json_as_deep_as_it_likes_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let in_a_choice = format!(r#"{{"spec":{{"command":[],"restart":{{"policy":"no","x":{deep}}}}}}}"#);
        for body in [deep.clone(), format!(r#"{{"x":{deep}}}"#), format!(r#"{{"spec":{{"labels":{deep}}}}}"#), in_a_choice] {
            let (status, why) = created(body).await;
            assert!(status == 400 && why.starts_with("the request cannot be read: "), "{status}: {why}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_field_that_is_missing_is_named() {
        for (body, field) in [(r#"{"name":"a"}"#, "spec"), (r#"{"spec":{}}"#, "command"), (r#"{"spec":{"command":["x"]}}"#, "process")] {
            let (status, why) = created(body).await;
            assert!(status == 400 && why.contains(&format!("missing field `{field}`")), "{status}: {why}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let begun = stream::pending::<std::result::Result<Bytes, std::convert::Infallible>>();
        let request = Request::new(Body::from_stream(begun));
        assert_eq!(body(request, Duration::from_millis(10)).await.unwrap_err().kind, Kind::Unfinished);
    }
}
