//! /v1/events: JSON, an object a line.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

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
use tokio::time::{Instant, timeout_at};

use super::Shared;
use crate::{
    api::Event,
    daemon::{
        Daemon,
        error::{Error, Result},
    },
};

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
    /// Nothing from before this time (RFC 3339); with it, what happened lately comes first.
    since: Option<String>,
    /// Nothing from this time on (RFC 3339), at which the answer ends.
    until: Option<String>,
}

const fn yes() -> bool {
    true
}

async fn events(State(daemon): Shared, Query(which): Query<Which>) -> Result<Response> {
    let (since, until) = (time("since", which.since.as_deref())?, time("until", which.until.as_deref())?);
    let (recent, listener) = daemon.events.listen();
    let recent = if which.recent || !which.follow || since.is_some() { recent } else { Vec::new() };
    let wanted = move |event: &Event| {
        let at = humantime::parse_rfc3339_weak(&event.time).ok();
        at.is_none_or(|at| since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until))
    };
    let recent: Vec<_> = recent.into_iter().filter(|event| wanted(event)).collect();
    let end = until.map(|until| Instant::now() + until.duration_since(SystemTime::now()).unwrap_or_default());
    let listener = which.follow.then_some(listener);
    let lines = stream::unfold((recent.into_iter(), listener), move |(mut recent, mut listener)| async move {
        let event = match (recent.next(), end) {
            (Some(event), _) => event,
            (None, None) => listener.as_mut()?.next().await?,
            (None, Some(end)) => timeout_at(end, listener.as_mut()?.next()).await.ok()??,
        };
        Some((Ok::<_, Infallible>(line(&event)), (recent, listener)))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn time(key: &str, word: Option<&str>) -> Result<Option<SystemTime>> {
    let parse = |word: &str| humantime::parse_rfc3339_weak(word).map_err(|_| Error::invalid(format!("`{key}` is no time: `{word}`")));
    word.map(parse).transpose()
}

fn line(event: &Event) -> Bytes {
    // An event is strings: it can always be written.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
