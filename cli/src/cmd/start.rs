//! `start`: a container that is there, with the supervisor it has or a new one.

use netloom_runtime::protocol::Open;

use super::{Context, each, run::send_signal, supervisor};
use crate::{
    api::{Container, State},
    args::lifecycle::StartArgs,
    error::CliError,
    session::{self, Ended, Options},
};

/// With `-a` or `-i` the number is the container's exit code.
pub fn start(args: &StartArgs, context: &Context) -> Result<u8, CliError> {
    if !args.attach && !args.interactive {
        each(&args.containers, context, |name| {
            detached(&context.container(name)?, context)?;
            Ok(Some(name.to_owned()))
        })?;
        return Ok(0);
    }
    let [name] = &args.containers[..] else {
        return Err(CliError::usage("`--attach` and `--interactive` take one container"));
    };
    follow(&context.container(name)?, args, context)
}

fn detached(container: &Container, context: &Context) -> Result<(), CliError> {
    match container.state {
        State::Running => return Ok(()),
        State::Paused => {
            let name = &container.name;
            let hint = format!("let it go on: `netloom unpause {name}`");
            return Err(CliError::failed(format!("container `{name}` is paused")).with_hint(hint));
        }
        _ => {}
    }
    let stream = match supervisor::connect(&container.id, context) {
        Some(stream) => stream,
        None => supervisor::spawn(&container.id, context)?,
    };
    session::open_detached(stream, &Open::Start { attach: false, size: None })
}

fn follow(container: &Container, args: &StartArgs, context: &Context) -> Result<u8, CliError> {
    let tty = container.tty;
    let size = session::window_size().filter(|_| tty);
    let open = match container.state {
        State::Running => Open::Attach { size },
        _ => Open::Start { attach: true, size },
    };
    let stream = match supervisor::connect(&container.id, context) {
        Some(stream) => stream,
        None => supervisor::spawn(&container.id, context)?,
    };
    let options = Options { tty, stdin: args.interactive, detach_keys: args.detach_keys.clone() };
    match session::hold(stream, &open, options, &|signal| send_signal(&container.id, signal, context))? {
        Ended::Exited(code) => Ok(code),
        Ended::Detached => Ok(0),
    }
}
