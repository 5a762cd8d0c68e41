//! VDE2: `vde_switch`, with A and B plugged in by a TAP each.

use std::{net::Ipv4Addr, path::Path, thread, time::Duration};

use super::{
    End, Peer, Setting,
    bridge::{A, B},
};
use crate::{
    error::{BenchError, Result},
    netns::Netns,
    process::{Process, command, make_folder},
};

const TRIES: u64 = 100;
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    let folder = Path::new("/run").join(&setting.tag);
    make_folder(&folder)?;
    let control = folder.join("ctl");
    // Its console is its standard input, which stays open as long as the process is kept.
    let switch = Process::start(command(&format!("vde_switch -s {}", control.display())))?;
    wait_for("vde_switch", || control.join("ctl").exists())?;
    let (a, plug_a) = guest(setting, "a", &control, A)?;
    let (b, plug_b) = guest(setting, "b", &control, B)?;
    let end = |netns| End { netns, device: "tap0".into() };
    Ok(Peer {
        forwarders: vec![switch.pid(), plug_a.pid(), plug_b.pid()],
        processes: vec![plug_a, plug_b, switch],
        ..Peer::between(setting, end(a), end(b), B)
    })
}

fn guest(setting: &Setting, part: &str, control: &Path, address: Ipv4Addr) -> Result<(Netns, Process)> {
    let netns = Netns::new(format!("{}{part}", setting.tag))?;
    let plug = Process::start(netns.command_line(&format!("vde_plug2tap -s {} tap0", control.display())))?;
    wait_for("vde_plug2tap", || netns.link("tap0").is_ok())?;
    netns.ip(&format!("addr add {address}/24 dev tap0"))?;
    netns.ip("link set tap0 up")?;
    Ok((netns, plug))
}

fn wait_for(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    for _ in 0..TRIES {
        if ready() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    let seconds = (PAUSE * TRIES as u32).as_secs();
    Err(BenchError::NotReady { what: what.to_owned(), seconds, last: "no sign of it".into() })
}
