//! `cp`: files between a container and this machine, by docker's rules for what ends up where.

pub mod archive;
pub mod place;
pub mod wire;

use std::path::Path;

use netloom_runtime::protocol::Open;

use super::{Context, supervisor};
use crate::{args::container::CpArgs, error::CliError, words::mount::CopyPath};
use place::{Kind, Target};

pub fn cp(args: CpArgs, context: &Context) -> Result<(), CliError> {
    match (args.from, args.to) {
        (CopyPath::Container { .. }, CopyPath::Container { .. }) => {
            Err(CliError::usage("`cp` does not copy from one container to another")
                .with_hint("pass it on: `netloom cp a:/x - | netloom cp - b:/`"))
        }
        (CopyPath::Container { container, path }, to) => copy_out(&Inside::new(&container, &path, context)?, &to),
        (from, CopyPath::Container { container, path }) => copy_in(&from, &Inside::new(&container, &path, context)?),
        _ => Err(CliError::usage("`cp` needs a container: one side is CONTAINER:PATH").with_hint("see `netloom cp --help`")),
    }
}

/// A path inside a container.
struct Inside<'a> {
    id: String,
    name: String,
    /// Absolute; a trailing `/` or `/.` is kept, for it has a meaning.
    path: String,
    context: &'a Context,
}

impl<'a> Inside<'a> {
    fn new(container: &str, path: &str, context: &'a Context) -> Result<Self, CliError> {
        let found = context.container(container)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { id: found.id, name: found.name, path, context })
    }

    fn open(&self, open: &Open) -> Result<wire::Wire, CliError> {
        wire::Wire::open(supervisor::running(&self.id, &self.name, self.context)?, open)
    }

    fn read(&self) -> Result<wire::Wire, CliError> {
        let plain = place::plain(&self.path);
        // A `/` behind a symbolic link asks for its target.
        let path = if plain == self.path { plain.to_owned() } else { format!("{plain}/.") };
        self.open(&Open::CopyOut { path: path.into() })
    }

    /// What stands at a path; none if nothing does. A link to a directory is one.
    fn kind(&self, path: &Path) -> Result<Option<Kind>, CliError> {
        match self.top(&path.join("."))? {
            None => self.top(path),
            found => Ok(found),
        }
    }

    /// The first entry tells; the rest of the archive is not waited for.
    fn top(&self, path: &Path) -> Result<Option<Kind>, CliError> {
        let mut wire = self.open(&Open::CopyOut { path: path.to_owned() })?;
        let found = archive::first_kind(&mut wire);
        match wire.take_failure() {
            Some(_) => Ok(None),
            None => found,
        }
    }
}

fn copy_out(from: &Inside<'_>, to: &CopyPath) -> Result<(), CliError> {
    let mut wire = from.read()?;
    let copied = match to {
        CopyPath::Local(to) => archive::unpack(&mut wire, |kind| place::local(&from.path, kind, to)),
        _ => archive::pass(&mut wire),
    };
    match (copied, wire.take_failure()) {
        (_, Some(failure)) => Err(failure),
        (copied, None) => copied,
    }
}

fn copy_in(from: &CopyPath, to: &Inside<'_>) -> Result<(), CliError> {
    let CopyPath::Local(from) = from else {
        let wire = to.open(&Open::CopyIn { path: place::plain(&to.path).into() })?;
        return wire.send(|into| std::io::copy(&mut std::io::stdin().lock(), into).map(|_| ()));
    };
    let kind = archive::local_kind(from)?;
    let Target { directory, name } = place::inside(from, kind, &to.path, |path| to.kind(path))?;
    let wire = to.open(&Open::CopyIn { path: directory })?;
    wire.send(|into| archive::pack(Path::new(from), &name, into))
}
