//! `attach`: this terminal at a running container's.

use netloom_runtime::protocol::Open;

use super::{Context, exec::must_run, run::send_signal, supervisor};
use crate::{
    args::container::AttachArgs,
    error::CliError,
    session::{self, Ended, Options},
};

/// The number is the container's exit code, if it ends before the caller leaves.
pub fn attach(args: AttachArgs, context: &Context) -> Result<u8, CliError> {
    let container = context.container(&args.container)?;
    must_run(&container)?;
    let stream = supervisor::running(&container.id, &container.name, context)?;
    let options = Options { tty: container.tty, stdin: !args.no_stdin, detach_keys: args.detach_keys };
    let open = Open::Attach { size: session::window_size().filter(|_| container.tty) };
    match session::hold(stream, &open, options, &|signal| send_signal(&container.id, signal, context))? {
        Ended::Exited(code) => Ok(code),
        Ended::Detached => Ok(0),
    }
}
