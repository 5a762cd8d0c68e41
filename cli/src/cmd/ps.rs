//! `ps`: the containers that there are.

use super::Context;
use crate::{
    api::Container,
    args::container::PsArgs,
    error::CliError,
    output::{self, Format},
};

pub fn ps(args: &PsArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Container>(&args.list.format)?;
    let containers: Vec<Container> = context.client.get(&format!("/v1/containers?all={}", args.all))?;
    output::list(&containers, &format, &args.list)
}
