//! What each command does: asks the daemon or a supervisor, and prints.

pub mod attach;
pub mod cp;
pub mod create;
pub mod doctor;
pub mod exec;
pub mod inspect;
pub mod lifecycle;
pub mod logs;
pub mod look;
pub mod namespace;
pub mod network;
pub mod own;
pub mod port;
pub mod ps;
pub mod run;
pub mod start;
pub mod stats;
pub mod supervisor;

use std::fmt;

use crate::{
    api::Container,
    args::{Cli, Command},
    client::{Client, segment},
    error::CliError,
    output,
    paths::Paths,
};

/// What every command needs.
#[derive(Debug)]
pub struct Context {
    pub client: Client,
    pub verbose: bool,
    /// Whether stderr gets colours.
    pub colour: bool,
    /// Whether stdout gets colours.
    pub paint: bool,
}

impl Context {
    pub fn new(cli: &Cli) -> Result<Self, CliError> {
        let paths = Paths::resolve(cli.root.as_deref()).map_err(|error| CliError::failed(error.to_string()).with_hint(error.hint()))?;
        let colour = output::coloured(cli.color, &std::io::stderr());
        let paint = output::coloured(cli.color, &std::io::stdout());
        Ok(Self { client: Client::new(paths, cli.workers)?, verbose: cli.verbose > 0, colour, paint })
    }

    /// Says a step, if `-v` asks for it.
    pub fn say(&self, step: impl fmt::Display) {
        if self.verbose {
            output::aside(format_args!("{step}\n"));
        }
    }

    /// The container that a name, an ID or a prefix names.
    pub fn container(&self, reference: &str) -> Result<Container, CliError> {
        self.client.get(&container_path(reference))
    }
}

/// The API's path of a container.
pub fn container_path(reference: &str) -> String {
    format!("/v1/containers/{}", segment(reference))
}

/// The API's path of a network.
pub fn network_path(name: &str) -> String {
    format!("/v1/networks/{}", segment(name))
}

/// Does one command. The number is what the process ends with.
pub fn dispatch(cli: Cli, context: &Context) -> Result<u8, CliError> {
    match cli.command {
        Command::Run(args) => return run::run(*args, context).map_err(CliError::of_run),
        Command::Exec(args) => return exec::exec(*args, context).map_err(CliError::of_run),
        Command::Create(args) => return create::create(*args, context).map_err(CliError::of_run).map(|()| 0),
        Command::Start(args) => return start::start(&args, context),
        Command::Attach(args) => return attach::attach(args, context),
        command => rest(command, context)?,
    }
    Ok(0)
}

fn rest(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Restart(args) => lifecycle::restart(&args, context),
        Command::Stop(args) => lifecycle::stop(&args, context),
        Command::Kill(args) => lifecycle::kill(&args, context),
        Command::Pause(args) => lifecycle::pause(&args, context),
        Command::Unpause(args) => lifecycle::unpause(&args, context),
        Command::Rm(args) => lifecycle::rm(&args, context),
        Command::Wait(args) => lifecycle::wait(&args, context),
        Command::Rename(args) => lifecycle::rename(&args, context),
        Command::Ps(args) => ps::ps(&args, context),
        Command::Inspect(args) => inspect::inspect(&args, context),
        Command::Logs(args) => logs::logs(&args, context),
        Command::Port(args) => port::port(&args, context),
        Command::Cp(args) => cp::cp(args, context),
        Command::Stats(args) => stats::stats(&args, context),
        Command::Publish(args) => port::publish(args.command, context),
        Command::Network(args) => network::network(args.command, context),
        Command::Fdb(args) => look::fdb(args, context),
        Command::Ports(args) => look::ports(&args, context),
        Command::Leases(args) => look::leases(&args, context),
        Command::Flows(args) => look::flows(&args, context),
        Command::Drops(args) => look::drops(&args, context),
        Command::Events(args) => look::events(&args, context),
        Command::Doctor(args) => doctor::doctor(&args, context),
        Command::System(args) => own::system(&args.command, context),
        Command::Version(args) => own::version(&args, context),
        Command::Completions(args) => own::completions(args.shell),
        Command::Man(args) => own::man(&args.directory),
        // Done above, or while the words were taken apart.
        Command::Run(_) | Command::Exec(_) | Command::Create(_) | Command::Start(_) | Command::Attach(_) | Command::Help(_) => Ok(()),
    }
}

/// Does the same to each of several things. What fails is told at once and does not stop the others; the exit code is 1 then.
pub fn each(names: &[String], context: &Context, mut act: impl FnMut(&str) -> Result<Option<String>, CliError>) -> Result<(), CliError> {
    let mut failed = false;
    for name in names {
        match act(name) {
            Ok(Some(text)) => output::line(&text)?,
            Ok(None) => {}
            Err(error) => {
                error.report(context.colour);
                failed = true;
            }
        }
    }
    if failed { Err(CliError::already_told()) } else { Ok(()) }
}
