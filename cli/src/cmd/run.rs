//! `run`: make, start and follow a container.

use std::time::{Duration, Instant};

use netloom_runtime::protocol::Open;
use serde::de::IgnoredAny;

use super::{
    Context, container_path,
    create::{forget, record},
    supervisor,
};
use crate::{
    api::{Container, KillContainer, State},
    args::run::RunArgs,
    error::CliError,
    output,
    session::{self, Ended, Options},
};

/// How long `run --rm` waits for the removal of what it ran.
const REMOVAL: Duration = Duration::from_secs(5);

/// The number is the command's own exit code.
pub fn run(args: RunArgs, context: &Context) -> Result<u8, CliError> {
    let (tty, stdin, auto_remove) = (args.container.tty, args.container.interactive, args.container.rm);
    if !args.detach {
        need_terminal(tty)?;
    }
    let image = looks_like_image(&args);
    let created = record(args.container, context)?;
    let id = created.id.as_str();
    context.say(format_args!("made container {} ({id})", created.name));
    let ended = (|| {
        let stream = supervisor::spawn(id, context)?;
        if args.detach {
            session::open_detached(stream, &Open::Start { attach: false, size: None })?;
            return Ok(None);
        }
        let open = Open::Start { attach: true, size: session::window_size().filter(|_| tty) };
        let options = Options { tty, stdin, detach_keys: args.detach_keys };
        session::hold(stream, &open, options, &|signal| send_signal(id, signal, context)).map(Some)
    })();
    match ended {
        Ok(Some(Ended::Exited(code))) => {
            if auto_remove {
                wait_until_gone(id, context);
            }
            Ok(code)
        }
        Ok(Some(Ended::Detached)) => Ok(0),
        Ok(None) => output::line(id).map(|()| 0),
        Err(error) => {
            if auto_remove || never_started(id, context) {
                forget(id, context);
            }
            Err(if error.exit_code == 127 && error.hint.is_none() && image { rootfs_hint(error) } else { error })
        }
    }
}

/// Whether a container has come to nothing: what was half made does not stay.
fn never_started(id: &str, context: &Context) -> bool {
    let container = context.client.find_if_running::<Container>(&container_path(id));
    matches!(container, Ok(Some(container)) if container.state == State::Created)
}

/// With `--rm` the container's name is free once `run` is over. The command's exit code is what counts: a daemon that is gone, or
/// slow, does not change it.
fn wait_until_gone(id: &str, context: &Context) {
    let deadline = Instant::now() + REMOVAL;
    while Instant::now() < deadline {
        match context.client.find_if_running::<IgnoredAny>(&container_path(id)) {
            Ok(Some(_)) => std::thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
}

/// `-t` is about the caller's own terminal.
pub fn need_terminal(tty: bool) -> Result<(), CliError> {
    if tty && !session::stdin_is_terminal() {
        return Err(CliError::usage("`-t` needs a terminal, and standard input is none").with_hint("leave out `-t`"));
    }
    Ok(())
}

/// Sends a signal around the session, so that it does not wait behind input.
pub fn send_signal(id: &str, signal: i32, context: &Context) -> Result<(), CliError> {
    context.client.post::<Option<()>>(&format!("{}/kill", container_path(id)), &KillContainer { signal }).map(|_| ())
}

/// `netloom run debian bash`: the hands of docker's users name an image first.
fn looks_like_image(args: &RunArgs) -> bool {
    let word = args.container.command.first().map(String::as_str).unwrap_or_default();
    args.container.files.rootfs.is_none() && !word.starts_with(['/', '.'])
}

fn rootfs_hint(error: CliError) -> CliError {
    error.with_hint("the first word is a command, not an image: netloom runs this machine's programs, or those of `--rootfs DIR`")
}
