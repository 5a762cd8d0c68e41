//! `network attach` and `network detach`: interfaces in namespaces that netloom did not make. The namespace is found and entered with
//! the caller's own rights, by this process and its holder; the daemon never sees it.

use std::{io::Write, os::fd::OwnedFd};

use netloom_runtime::{
    holder::{self, Place},
    protocol::Failure,
    spec::{HoldSpec, NetworkRequest, Target},
};

use super::{Context, network_path};
use crate::{
    api::{DetachNamespace, Network},
    args::network::{AttachArgs, DetachArgs, TargetArgs},
    error::CliError,
    output,
};

pub fn attach(args: AttachArgs, context: &Context) -> Result<(), CliError> {
    let ready = args.ready_fd.map(|number| inherited("--ready-fd", number)).transpose()?;
    let exit = args.exit_fd.map(|number| inherited("--exit-fd", number)).transpose()?;
    let place = Place::open_for_attach(target(args.target)?).map_err(own)?;
    // With a daemon to talk to, and the network's own name if an ID was given.
    let network: Network = context.client.get(&network_path(&args.network))?;
    let request = NetworkRequest {
        network: network.name,
        ip: args.ip,
        ip6: args.ip6,
        no_ip: args.no_ip,
        mac: args.mac_address,
        ..NetworkRequest::default()
    };
    let spec = HoldSpec { target: place.target.clone(), namespace: place.namespace, ifname: args.ifname, request };
    let port = holder::start(&context.client.paths.root, &place, spec, exit.as_ref()).map_err(own)?;
    context.say(format_args!("made {} with MAC address {} for {}", port.ifname, port.mac, place.target));
    if let Some(ready) = ready {
        let written = std::fs::File::from(ready).write_all(b"1");
        written.map_err(|error| CliError::io("the interface is up, but --ready-fd cannot be written", &error))?;
    }
    port.ip.map_or(Ok(()), |ip| output::line(&ip.to_string()))
}

pub fn detach(args: DetachArgs, context: &Context) -> Result<(), CliError> {
    let place = Place::open(target(args.target)?).map_err(own)?;
    let network: Network = context.client.get(&network_path(&args.network))?;
    let body = DetachNamespace { namespace: place.namespace, ifname: args.ifname, target: place.target.to_string() };
    context.client.post::<Option<()>>(&format!("{}/detach", network_path(&network.name)), &body).map(|_| ())
}

fn target(args: TargetArgs) -> Result<Target, CliError> {
    match (args.pid, args.netns) {
        (Some(pid), _) => Ok(Target::Pid { pid }),
        (None, Some(path)) => {
            let path = std::path::absolute(&path).map_err(|error| CliError::io(format!("cannot find `{}`", path.display()), &error))?;
            Ok(Target::Path { path })
        }
        // The command line has asked for one of them.
        (None, None) => Err(CliError::usage("`--pid PID` or `--netns PATH` is missing")),
    }
}

/// A descriptor that the caller opened for us.
fn inherited(option: &str, number: i32) -> Result<OwnedFd, CliError> {
    holder::copy_inherited(number).map_err(|error| {
        CliError { exit_code: 2, ..CliError::io(format!("`{option}`: descriptor {number} cannot be used"), &error) }
            .with_hint(format!("the caller opens it, as a shell does with `{number}>file` or `{number}<pipe`"))
    })
}

/// A failure of ours, without the code that it would have in a `run`.
fn own(failure: Failure) -> CliError {
    CliError { exit_code: 1, ..CliError::from(failure) }
}
