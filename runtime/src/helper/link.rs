//! `network connect` and `disconnect` on a running container: one interface more in its network namespace, or less.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};

use super::{Report, enter_user_namespace, net};
use crate::{
    channel::Channel,
    fault::{Doing, Result},
    spec::Attachment,
};

/// Makes the interface and hands its descriptor back.
pub(crate) fn connect(report: &Channel, userns: Option<&OwnedFd>, network: &OwnedFd, attachment: &Attachment) -> Result<()> {
    enter(userns, network)?;
    let (attachment, fd) = net::connect(attachment)?;
    report.send(&Report::Linked { attachment }, &[fd.as_fd()]).map_err(super::lost)
}

/// Takes the interface away at once. It would go with its descriptor's last copy too, but some time after that.
pub(crate) fn disconnect(report: &Channel, userns: Option<&OwnedFd>, network: &OwnedFd, ifname: &str) -> Result<()> {
    enter(userns, network)?;
    net::remove(ifname)?;
    report.send(&Report::Unlinked, &[]).map_err(super::lost)
}

fn enter(userns: Option<&OwnedFd>, network: &OwnedFd) -> Result<()> {
    enter_user_namespace(userns)?;
    setns(network, CloneFlags::CLONE_NEWNET).doing("enter the container's network")
}
