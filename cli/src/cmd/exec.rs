//! `exec`: one more process in a container.

use netloom_runtime::{
    protocol::Open,
    spec::{ExecSpec, ProcessSpec},
};

use super::{
    Context,
    create::{environment, umask},
    run::need_terminal,
    supervisor,
};
use crate::{
    api::{Container, State},
    args::container::ExecArgs,
    error::CliError,
    session::{self, Ended, Options},
};

/// The number is the command's own exit code.
pub fn exec(args: ExecArgs, context: &Context) -> Result<u8, CliError> {
    if !args.detach {
        need_terminal(args.tty)?;
    }
    let mut words = args.words.into_iter();
    let container = context.container(&words.next().unwrap_or_default())?;
    must_run(&container)?;
    let exec = ExecSpec {
        command: words.collect(),
        process: ProcessSpec {
            env: environment(&args.env_file, args.env)?,
            workdir: args.workdir,
            user: args.user.filter(|user| !user.is_empty()),
            umask: umask(),
        },
        tty: args.tty,
        interactive: args.interactive,
        privileged: args.privileged,
    };
    let stream = supervisor::running(&container.id, &container.name, context)?;
    let size = session::window_size().filter(|_| args.tty && !args.detach);
    let open = Open::Exec { exec, detach: args.detach, size };
    if args.detach {
        return session::open_detached(stream, &open).map(|()| 0);
    }
    let options = Options { tty: args.tty, stdin: args.interactive, detach_keys: args.detach_keys };
    // The daemon knows the container's own command alone: a signal for this one goes through the session.
    let through_session = |_| Err(CliError::already_told());
    match session::hold(stream, &open, options, &through_session)? {
        Ended::Exited(code) => Ok(code),
        Ended::Detached => Ok(0),
    }
}

/// Says what to do where a container does not run.
pub fn must_run(container: &Container) -> Result<(), CliError> {
    let name = &container.name;
    match container.state {
        State::Running => Ok(()),
        State::Paused => {
            Err(CliError::failed(format!("container `{name}` is paused")).with_hint(format!("let it go on: `netloom unpause {name}`")))
        }
        _ => Err(CliError::failed(format!("container `{name}` is not running")).with_hint(format!("start it: `netloom start {name}`"))),
    }
}
