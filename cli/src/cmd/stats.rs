//! `stats`: what containers use, once or again every second.

use std::{io::IsTerminal, time::Duration};

use super::{Context, container_path};
use crate::{
    api::{Container, State, Stats},
    args::container::StatsArgs,
    error::CliError,
    output::{self, Format},
};

const PERIOD: Duration = Duration::from_secs(1);

pub fn stats(args: &StatsArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Stats>(&args.list.format)?;
    if args.no_stream {
        return output::list(&look(args, context)?, &format, &args.list);
    }
    let terminal = std::io::stdout().is_terminal();
    loop {
        let rows = look(args, context)?;
        match format {
            Format::Table | Format::Columns(_) => {
                if terminal {
                    // Home, and what is below it cleared: the table stays in one place.
                    output::print("\x1b[H\x1b[J")?;
                }
                output::list(&rows, &format, &args.list)?;
            }
            _ => rows.iter().try_for_each(|row| output::stream_item(row, &format, |_| String::new()))?,
        }
        std::thread::sleep(PERIOD);
    }
}

/// Containers that ended between the list and the question are left out, unless they were named.
fn look(args: &StatsArgs, context: &Context) -> Result<Vec<Stats>, CliError> {
    let path = |reference: &str| format!("{}/stats", container_path(reference));
    if !args.names.is_empty() {
        return args.names.iter().map(|name| context.client.get(&path(name))).collect();
    }
    let running: Vec<Container> = context.client.get("/v1/containers?all=false")?;
    let alive = running.iter().filter(|container| matches!(container.state, State::Running | State::Paused));
    Ok(alive.filter_map(|container| context.client.get(&path(&container.id)).ok()).collect())
}
