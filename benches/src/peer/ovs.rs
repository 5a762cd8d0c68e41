//! Open vSwitch with its userspace datapath and TCP segmentation offload, under a database of its own.

use std::{path::Path, process::Command};

use super::{Peer, Setting, bridge::Guests};
use crate::{
    error::Result,
    process::{Process, command, make_folder, run, sh},
};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    let guests = Guests::on_veth(setting)?;
    let folder = Path::new("/run").join(&setting.tag);
    make_folder(&folder)?;
    let at = folder.display();
    let inside = |line: &str| with_folders(guests.switch().command_line(line), &folder);
    let vsctl = |words: &str| run(with_folders(command(&format!("ovs-vsctl --timeout=10 --db=unix:{at}/db.sock {words}")), &folder));

    sh(&format!("ovsdb-tool create {at}/conf.db {SCHEMA}"))?;
    let database = Process::start(inside(&format!("ovsdb-server {at}/conf.db --remote=punix:{at}/db.sock --pidfile={at}/db.pid")))?;
    vsctl("--retry --no-wait init")?;
    vsctl("--no-wait set Open_vSwitch . other_config:userspace-tso-enable=true")?;
    let daemon = Process::start(inside(&format!("ovs-vswitchd unix:{at}/db.sock --pidfile={at}/vs.pid")))?;
    vsctl("add-br br0 -- set bridge br0 datapath_type=netdev")?;
    for port in &guests.ports {
        vsctl(&format!("add-port br0 {port}"))?;
    }
    // Its packet buffers hold no more with segmentation offload on.
    let peer = guests.into_peer(setting, 9000).ok_or_else(super::too_few)?;
    Ok(Peer { forwarders: vec![daemon.pid()], processes: vec![daemon, database], ..peer })
}

fn with_folders(mut command: Command, folder: &Path) -> Command {
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
        command.env(variable, folder);
    }
    command
}
