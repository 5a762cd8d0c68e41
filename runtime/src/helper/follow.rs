//! After a change of its networks, a running container's default routes and files of names become what a start by the new plan would have
//! made.

use std::{os::fd::OwnedFd, path::Path};

use nix::sched::{CloneFlags, setns};

use super::{
    Report, enter_user_namespace, net,
    route::Congestion,
    start::{self, HostFiles, Namespaces},
};
use crate::{
    channel::Channel,
    fault::{Doing, Result},
    spec::{ContainerSpec, NetworkMode, Plan},
};

/// One change, as the supervisor asks for it.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) id: &'a str,
    pub(crate) userns: Option<&'a OwnedFd>,
    pub(crate) namespaces: &'a Namespaces,
    /// The mount namespace with the root, which shows our files under their own paths.
    pub(crate) layer: &'a OwnedFd,
    /// The container's empty directory that the root is mounted on there.
    pub(crate) base: &'a Path,
    pub(crate) before: &'a Plan,
    pub(crate) now: &'a Plan,
}

pub(crate) fn run(report: &Channel, job: &Job<'_>) -> Result<()> {
    let mode = &job.spec.network.mode;
    let host_files = HostFiles::read(mode);
    enter_user_namespace(job.userns)?;
    // The host name may be that of the container whose network is shared.
    setns(&job.namespaces.uts, CloneFlags::CLONE_NEWUTS).doing("enter the container's host name")?;
    if *mode == NetworkMode::Bridge {
        setns(&job.namespaces.network, CloneFlags::CLONE_NEWNET).doing("enter the container's network")?;
        net::follow(&job.before.attachments, &job.now.attachments, Congestion::of(&job.spec.sysctls))?;
    }
    setns(job.layer, CloneFlags::CLONE_NEWNS).doing("enter the container's mounts")?;
    start::contents(job.now, job.spec, job.id, host_files).write(job.base)?;
    report.send(&Report::Followed, &[]).map_err(super::lost)
}
