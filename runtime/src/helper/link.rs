//! `network connect` on a running container: one more interface in its network namespace.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};

use super::{Report, enter_user_namespace, net};
use crate::{
    channel::Channel,
    fault::{Doing, Result},
    spec::Attachment,
};

/// Makes the interface and hands its TAP back. An interface goes away with its TAP, so there is nothing to do for a disconnect.
pub(crate) fn connect(report: &Channel, userns: Option<&OwnedFd>, network: &OwnedFd, attachment: &Attachment) -> Result<()> {
    enter_user_namespace(userns)?;
    setns(network, CloneFlags::CLONE_NEWNET).doing("enter the container's network")?;
    let tap = net::connect(attachment)?;
    report.send(&Report::Linked, &[tap.as_fd()]).map_err(super::lost)
}
