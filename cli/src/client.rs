//! The daemon's HTTP API as commands call it: one request at a time, on the socket of the instance.
//!
//! A daemon that is not there is started. Nothing that changes something is sent twice.

use std::{io, num::NonZeroUsize, os::unix::net::UnixStream, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use netloom_runtime::socket_path::SocketPath;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use crate::{api::ErrorBody, daemon, error::CliError, paths::Paths};

/// How long an answer may take before the daemon is asked whether it is there: some, as of `wait`, take as long as they take.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// How long a daemon that is there may take to say so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// How often a daemon is looked for, or started, before a command gives up.
const ATTEMPTS: usize = 3;

/// A way to one instance's daemon.
#[derive(Debug)]
pub struct Client {
    pub paths: Paths,
    /// Of a daemon that it starts.
    pub workers: Option<NonZeroUsize>,
    runtime: Runtime,
}

impl Client {
    pub fn new(paths: Paths, workers: Option<NonZeroUsize>) -> Result<Self, CliError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::io("cannot set up asynchronous I/O", &error))?;
        Ok(Self { paths, workers, runtime })
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::GET, path, None)
    }

    /// As `get`; none where the daemon knows no such thing.
    pub fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        let (status, body) = self.exchange(Method::GET, path, Bytes::new())?;
        if status == StatusCode::NOT_FOUND { Ok(None) } else { answer(status, &body).map(Some) }
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        self.call(Method::POST, path, Some(encode(body)?))
    }

    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        self.call(Method::PATCH, path, Some(encode(body)?))
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::DELETE, path, None)
    }

    pub fn delete_with<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        self.call(Method::DELETE, path, Some(encode(body)?))
    }

    /// As `get`, but a daemon that does not run is not started: none.
    pub fn get_if_running<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        if connect(&self.paths).is_err() { Ok(None) } else { self.get(path).map(Some) }
    }

    /// As `find`, but a daemon that does not run is not started: it knows nothing.
    pub fn find_if_running<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        if connect(&self.paths).is_err() { Ok(None) } else { self.find(path) }
    }

    /// Calls `each` with every line of an endless answer, until the daemon ends it.
    pub fn lines(&self, path: &str, mut each: impl FnMut(&[u8]) -> Result<(), CliError>) -> Result<(), CliError> {
        let stream = self.stream()?;
        self.runtime.block_on(async {
            let response = send(stream, Method::GET, path, Bytes::new()).await?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let body = body.collect().await.map_err(|error| silent(&error))?.to_bytes();
                return answer::<()>(status, &body);
            }
            let mut line = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| silent(&error))?;
                for piece in frame.data_ref().map(Bytes::as_ref).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if line.ends_with(b"\n") {
                        each(&line)?;
                        line.clear();
                    }
                }
            }
            Ok(())
        })
    }

    fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<T, CliError> {
        let (status, body) = self.exchange(method, path, body.unwrap_or_default())?;
        answer(status, &body)
    }

    fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), CliError> {
        self.runtime.block_on(async {
            tokio::select! {
                answered = self.ask(method, path, body) => answered,
                hung = self.hangs() => Err(hung),
            }
        })
    }

    /// A question that got no answer is asked once more: the daemon that took it may have been on its way out.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), CliError> {
        let answered = self.ask_once(method.clone(), path, body.clone()).await;
        if answered.is_err() && method == Method::GET { self.ask_once(method, path, body).await } else { answered }
    }

    async fn ask_once(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), CliError> {
        let response = send(self.stream()?, method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| silent(&error))?;
        Ok((status, body.to_bytes()))
    }

    /// Returns once the daemon gives no sign of life, if ever.
    async fn hangs(&self) -> CliError {
        loop {
            sleep(ASK_AFTER).await;
            // One that has just ended is told by the connection that it breaks.
            let Ok(stream) = connect(&self.paths) else { continue };
            let pid = getsockopt(&stream, PeerCredentials).map_or(0, |peer| peer.pid());
            if timeout(SIGN_OF_LIFE, send(stream, Method::GET, "/v1/version", Bytes::new())).await.is_err() {
                return CliError::failed(format!("the daemon, process {pid}, does not answer")).with_hint(format!(
                    "it may be stopped or hung; after `kill -9 {pid}` the next command starts a new one, and containers go on"
                ));
            }
        }
    }

    fn stream(&self) -> Result<UnixStream, CliError> {
        // One that was on its way out may have answered when it was looked for, and be gone a moment later.
        for _ in 0..ATTEMPTS {
            if let Ok(stream) = connect(&self.paths) {
                return Ok(stream);
            }
            daemon::ensure(&self.paths.root, self.workers)
                .map_err(|error| CliError::failed(error.to_string()).with_hint(error.hint(&self.paths.root)))?;
        }
        connect(&self.paths)
            .map_err(|error| CliError::io(format!("cannot reach the daemon at `{}`", self.paths.socket().display()), &error))
    }
}

fn connect(paths: &Paths) -> io::Result<UnixStream> {
    UnixStream::connect(SocketPath::new(&paths.socket())?.path())
}

async fn send(stream: UnixStream, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, CliError> {
    let set_up = |error: io::Error| CliError::io("cannot talk to the daemon", &error);
    stream.set_nonblocking(true).map_err(set_up)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(set_up)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(&error))?;
    tokio::spawn(async move {
        // A connection that breaks is told by the request that waits on it.
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "netloom")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| CliError::failed(format!("cannot ask the daemon for `{path}`: {error}")))?;
    sender.send_request(request).await.map_err(|error| silent(&error))
}

fn encode(body: &impl Serialize) -> Result<Bytes, CliError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| CliError::failed(format!("cannot write this as JSON: {error}")))
}

/// An answer without a body is `null`.
fn answer<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, CliError> {
    if !status.is_success() {
        let told: Result<ErrorBody, _> = serde_json::from_slice(body);
        return Err(told.unwrap_or_else(|_| ErrorBody { error: format!("the daemon answered {status}"), ..ErrorBody::default() }).into());
    }
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        CliError::failed(format!("the daemon's answer makes no sense: {error}"))
            .with_hint("the daemon may be of another version: see `netloom version`")
    })
}

fn silent(error: &hyper::Error) -> CliError {
    CliError::failed(format!("the daemon broke off: {error}"))
        .with_hint("it starts again with the next command; its log is in `daemon.log` under the root")
}

/// One segment of a path, with everything escaped that has a meaning there (RFC 3986, 3.3).
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => escaped.push(char::from(byte)),
            // `.` and `..` would be taken for the directory and the one above.
            b'.' if !matches!(text, "." | "..") => escaped.push('.'),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(segment("web-1_a.b"), "web-1_a.b");
        assert_eq!(segment("../x?a=b#c%ü"), "..%2Fx%3Fa%3Db%23c%25%C3%BC");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn answers_become_values_or_errors() {
        assert_eq!(answer::<Option<u8>>(StatusCode::OK, b""), Ok(None));
        assert_eq!(answer::<u8>(StatusCode::OK, b"7"), Ok(7));
        let told = answer::<u8>(StatusCode::CONFLICT, br#"{"error":"`web` is in use","hint":"rm it","exit_code":125}"#);
        assert_eq!(told, Err(CliError { message: "`web` is in use".into(), hint: Some("rm it".into()), exit_code: 125 }));
        let odd = answer::<u8>(StatusCode::BAD_GATEWAY, b"<html>").expect_err("no JSON");
        assert_eq!((odd.message.as_str(), odd.exit_code), ("the daemon answered 502 Bad Gateway", 1));
    }
}
