//! `inspect`: all there is to know, of containers and networks alike.

use serde::Serialize;

use super::{Context, container_path, network_path};
use crate::{
    api::{Container, Network},
    args::container::InspectArgs,
    error::CliError,
    output::{self, Format},
};

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Container(Box<Container>),
    Network(Box<Network>),
}

/// What was found is printed even if a name is missing; the exit code is 1 then.
pub fn inspect(args: &InspectArgs, context: &Context) -> Result<(), CliError> {
    let as_container = Format::of::<Container>(&args.format);
    let as_network = Format::of::<Network>(&args.format);
    if let (Err(error), Err(_)) = (&as_container, &as_network) {
        return Err(error.clone());
    }
    let (mut found, mut missing) = (Vec::new(), false);
    for name in &args.names {
        match find(name, context)? {
            Some(thing) => found.push(thing),
            None => {
                CliError::failed(format!("no container or network is called `{name}`"))
                    .with_hint("`netloom ps -a` and `netloom network ls` show what there is")
                    .report(context.colour);
                missing = true;
            }
        }
    }
    match &as_container {
        Ok(Format::Table | Format::Json) => output::json(&found)?,
        _ => {
            for thing in &found {
                match thing {
                    Found::Container(container) => output::one(container.as_ref(), &as_container.clone()?)?,
                    Found::Network(network) => output::one(network.as_ref(), &as_network.clone()?)?,
                }
            }
        }
    }
    if missing { Err(CliError::already_told()) } else { Ok(()) }
}

fn find(name: &str, context: &Context) -> Result<Option<Found>, CliError> {
    if let Some(container) = context.client.find(&container_path(name))? {
        return Ok(Some(Found::Container(container)));
    }
    Ok(context.client.find(&network_path(name))?.map(Found::Network))
}
