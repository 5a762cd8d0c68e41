//! `port` and `publish`: where a container is reached from outside.

use super::{Context, container_path};
use crate::{
    api::{PortBinding, Publications},
    args::container::{PortArgs, PublicationArgs, PublishCommand},
    error::CliError,
    output::{self, Format, human},
};

pub fn port(args: &PortArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<PortBinding>(&args.format)?;
    let container = context.container(&args.container)?;
    let mut bindings = container.ports;
    bindings.sort();
    bindings.sort_by_key(|binding| (binding.container_port, binding.protocol));
    if let Some((port, protocol)) = args.port {
        bindings.retain(|binding| binding.container_port == port && protocol.is_none_or(|protocol| protocol == binding.protocol));
        if bindings.is_empty() {
            return Err(CliError::failed(format!("container `{}` does not publish its port {port}", container.name))
                .with_hint(format!("publish it: `netloom publish add {} {port}`", container.name)));
        }
    }
    match format {
        Format::Table => output::lines(bindings.iter().map(|binding| text(binding, args.port.is_none()))),
        _ => output::all(&bindings, &format),
    }
}

pub fn publish(command: PublishCommand, context: &Context) -> Result<(), CliError> {
    let request = |args: PublicationArgs| {
        let publications = args.specs.into_iter().flat_map(|spec| spec.0).collect();
        (format!("{}/publications", container_path(&args.container)), Publications { publications })
    };
    match command {
        PublishCommand::Add(args) => {
            let (path, body) = request(args);
            let bindings: Vec<PortBinding> = context.client.post(&path, &body)?;
            output::lines(bindings.iter().map(|binding| text(binding, true)))
        }
        PublishCommand::Rm(args) => {
            let (path, body) = request(args);
            context.client.delete_with::<serde::de::IgnoredAny>(&path, &body).map(|_| ())
        }
    }
}

/// `80/tcp -> 0.0.0.0:8080`, as docker prints it; the host's side alone where the port was named.
fn text(binding: &PortBinding, whole: bool) -> String {
    let host = human::host(binding.host_ip, &binding.host_port.to_string());
    if whole { format!("{}/{} -> {host}", binding.container_port, human::protocol(binding.protocol)) } else { host }
}
