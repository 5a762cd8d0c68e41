//! `-v` and `--tmpfs`: trees of the host and empty ones in the new root.

use std::{fs, path::Path};

use super::{Blueprint, beneath, mount};
use crate::{
    fault::{Doing, Fault, Result},
    spec::Volume,
};

enum Thing<'a> {
    Volume(&'a Volume),
    Empty,
}

/// Mounts them, outer ones first, so that one may lie in another.
pub(super) fn mount_all(blueprint: &Blueprint<'_>, root: &Path) -> Result<()> {
    let spec = blueprint.spec;
    let volumes = spec.volumes.iter().map(|volume| (volume.target.as_path(), Thing::Volume(volume)));
    let mut all: Vec<_> = volumes.chain(spec.tmpfs.iter().map(|target| (target.as_path(), Thing::Empty))).collect();
    all.sort_by_key(|(target, _)| target.components().count());
    for (target, thing) in all {
        match thing {
            Thing::Volume(volume) => mount_volume(volume, root)?,
            Thing::Empty => {
                let at = beneath::directory(root, target).doing(format_args!("make {}", target.display()))?;
                mount::fresh("tmpfs", &at, mount::inert(), "mode=1777")?;
            }
        }
    }
    Ok(())
}

fn mount_volume(volume: &Volume, root: &Path) -> Result<()> {
    let Volume { source, target, read_only } = volume;
    let found = fs::metadata(source).map_err(|error| {
        Fault::system(format!("use the volume {}", source.display()), error).with_hint("the source must exist on the host")
    })?;
    let make = if found.is_dir() { beneath::directory } else { beneath::file };
    let at = make(root, target).doing(format_args!("make {} for the volume", target.display()))?;
    mount::bind(source, &at, true)?;
    let read_only = if *read_only { mount::READ_ONLY } else { 0 };
    // The tree may be on a mount that allows device nodes; a container is given them by --device only.
    mount::restrict(&at, mount::NO_DEVICES | read_only, true).or_else(|fault| if read_only == 0 { Ok(()) } else { Err(fault) })?;
    Ok(())
}
