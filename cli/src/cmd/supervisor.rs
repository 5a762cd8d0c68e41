//! The way to a container's supervisor: its socket, or a new one.

use std::os::unix::net::UnixStream;

use super::Context;
use crate::error::CliError;

/// Starts a container's supervisor; its first session is the stream.
pub fn spawn(id: &str, context: &Context) -> Result<UnixStream, CliError> {
    netloom_runtime::supervisor::spawn(&context.client.paths.root, id)
        .map_err(|error| CliError::io("cannot start the container's supervisor", &error))
}

/// A session with a supervisor that lives; none if there is none.
pub fn connect(id: &str, context: &Context) -> Option<UnixStream> {
    netloom_runtime::sockets::connect_session(&context.client.paths.container(id)).ok()
}

/// A session with the supervisor of a container that should be running.
pub fn running(id: &str, name: &str, context: &Context) -> Result<UnixStream, CliError> {
    connect(id, context).ok_or_else(|| {
        CliError::failed(format!("container `{name}` is not running")).with_hint(format!("start it: `netloom start {name}`"))
    })
}
