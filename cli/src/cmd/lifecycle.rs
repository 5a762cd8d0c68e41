//! A container's life after its start: one request for each container named.

use serde::Serialize;

use super::{Context, container_path, each};
use crate::{
    api::{KillContainer, RenameContainer, StopContainer, Waited},
    args::lifecycle::{KillArgs, PauseArgs, RenameArgs, RestartArgs, RmArgs, StopArgs, UnpauseArgs, WaitArgs},
    error::CliError,
};

pub fn restart(args: &RestartArgs, context: &Context) -> Result<(), CliError> {
    post_each(&args.containers, "restart", &StopContainer { grace_seconds: args.time }, context)
}

pub fn stop(args: &StopArgs, context: &Context) -> Result<(), CliError> {
    post_each(&args.containers, "stop", &StopContainer { grace_seconds: args.time }, context)
}

pub fn kill(args: &KillArgs, context: &Context) -> Result<(), CliError> {
    post_each(&args.containers, "kill", &KillContainer { signal: args.signal }, context)
}

pub fn pause(args: &PauseArgs, context: &Context) -> Result<(), CliError> {
    post_each(&args.containers, "pause", &(), context)
}

pub fn unpause(args: &UnpauseArgs, context: &Context) -> Result<(), CliError> {
    post_each(&args.containers, "unpause", &(), context)
}

pub fn rm(args: &RmArgs, context: &Context) -> Result<(), CliError> {
    each(&args.containers, context, |name| {
        context.client.delete::<Option<()>>(&format!("{}?force={}", container_path(name), args.force))?;
        Ok(Some(name.to_owned()))
    })
}

pub fn wait(args: &WaitArgs, context: &Context) -> Result<(), CliError> {
    each(&args.containers, context, |name| {
        let waited: Waited = context.client.get(&format!("{}/wait", container_path(name)))?;
        Ok(Some(waited.exit_code.to_string()))
    })
}

pub fn rename(args: &RenameArgs, context: &Context) -> Result<(), CliError> {
    let request = RenameContainer { name: args.name.clone() };
    context.client.post::<Option<()>>(&format!("{}/rename", container_path(&args.container)), &request).map(|_| ())
}

/// Prints the name of each container that it was done to, as docker does.
fn post_each(names: &[String], what: &str, body: &impl Serialize, context: &Context) -> Result<(), CliError> {
    each(names, context, |name| {
        context.client.post::<Option<()>>(&format!("{}/{what}", container_path(name)), body)?;
        Ok(Some(name.to_owned()))
    })
}
