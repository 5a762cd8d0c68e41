//! /v1/events: JSON, an object a line.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use serde::Deserialize;

use super::Shared;
use crate::{api::Event, daemon::Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/v1/events", get(events))
}

#[derive(Debug, Deserialize)]
struct Which {
    /// Go on with what happens from now on, without end.
    #[serde(default = "yes")]
    follow: bool,
    /// Begin with what happened lately; when nothing follows, it does.
    #[serde(default)]
    recent: bool,
}

const fn yes() -> bool {
    true
}

async fn events(State(daemon): Shared, Query(which): Query<Which>) -> Response {
    let (recent, listener) = daemon.events.listen();
    let recent = if which.recent || !which.follow { recent } else { Vec::new() };
    let listener = which.follow.then_some(listener);
    let lines = stream::unfold((recent.into_iter(), listener), |(mut recent, mut listener)| async move {
        let event = match recent.next() {
            Some(event) => event,
            None => listener.as_mut()?.next().await?,
        };
        Some((Ok::<_, Infallible>(line(&event)), (recent, listener)))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(event: &Event) -> Bytes {
    // An event is strings: it can always be written.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
