//! An interface more or less in a network namespace that is there already: of a running container (`network connect` and
//! `disconnect`), or of anybody's (`network attach` and `detach`).

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};

use super::{Report, die_with_parent, enter_user_namespace, net};
use crate::{
    channel::Channel,
    fault::{Doing, Fault, Result},
    spec::{Attachment, Target},
    sys::process,
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

/// The same in a namespace that netloom did not make. Its default route stays as it is where it has one.
pub(crate) fn attach(report: &Channel, target: &Target, network: &OwnedFd, attachment: &Attachment) -> Result<()> {
    enter_foreign(target, network)?;
    let (port, fd) = net::attach(attachment)?;
    // Opened anew: a descriptor of the name under which it was found would keep that name's mount busy.
    let inside = File::open("/proc/self/ns/net").doing("open the network namespace")?;
    report.send(&Report::Attached { port }, &[fd.as_fd(), inside.as_fd()]).map_err(super::lost)
}

/// Takes it away at once, so that its name is free when a `network detach` returns; one that is gone already is away.
pub(crate) fn detach(report: &Channel, target: &Target, network: &OwnedFd, ifname: &str) -> Result<()> {
    enter_foreign(target, network)?;
    if net::exists(ifname) {
        net::remove(ifname)?;
    }
    report.send(&Report::Unlinked, &[]).map_err(super::lost)
}

/// Enters a network namespace with the caller's own rights; where these do not reach, with those that the caller has in the user
/// namespace that owns it, which are all of them if the caller made it (user_namespaces(7)).
fn enter_foreign(target: &Target, network: &OwnedFd) -> Result<()> {
    let enter = || setns(network, CloneFlags::CLONE_NEWNET);
    let entered = match enter() {
        Err(Errno::EPERM) => {
            process::owning_user_namespace(network.as_fd()).and_then(|owner| setns(owner, CloneFlags::CLONE_NEWUSER)).and_then(|()| enter())
        }
        other => other,
    };
    match entered {
        Ok(()) => die_with_parent(),
        // EINVAL: the namespace belongs to the user namespace that the caller is in already, without rights there.
        Err(Errno::EPERM | Errno::EINVAL) => Err(Fault::refused(
            format!("cannot enter the network namespace of {target}: it belongs to another user"),
            "without root it must be one of your own, as `unshare --user --map-root-user --net` makes; for any other, run netloom as root",
        )),
        Err(errno) => Err(Fault::system(format!("enter the network namespace of {target}"), errno)),
    }
}
