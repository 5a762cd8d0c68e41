//! Others who carry a port of the host to a container: `docker-proxy`, rootlesskit's builtin driver, and nobody at all.

use std::{fs, net::Ipv4Addr, path::Path, thread, time::Duration};

use super::{End, Peer, SERVICE, Setting, host};
use crate::{
    error::{BenchError, Result},
    netns::Netns,
    process::{Process, run},
};

/// Those that the loads use: streams, echoes, connections.
pub(super) const PORTS: [u16; 3] = [5201, 5301, 5302];
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const TRIES: u64 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// The limit: client and server in one namespace, with nobody between them.
pub(super) fn loopback(setting: &Setting) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let end = |netns| End { netns, device: "lo".into() };
    let b = end(host.alias());
    Ok(Peer::between(setting, end(host), b, Ipv4Addr::LOCALHOST))
}

/// As docker has it without its rules: a link to the container, and a process for each port.
pub(super) fn docker_proxy(setting: &Setting) -> Result<Peer> {
    let (host, container) = (host(format!("{}h", setting.tag))?, Netns::new(format!("{}b", setting.tag))?);
    host.add_veth("docker0", &container, "eth0", CONTAINER)?;
    host.ip("addr add 10.9.0.1/24 dev docker0")?;
    let proxy = |port: &u16| {
        let (from, to) = (format!("-host-ip 0.0.0.0 -host-port {port}"), format!("-container-ip {CONTAINER} -container-port {port}"));
        // It tells the daemon that it is ready by descriptor 3 and closes it, whatever that is.
        let mut command = host.command("sh");
        command.args(["-c", &format!("exec docker-proxy -proto tcp {from} {to} 3>/dev/null")]);
        Process::start(command)
    };
    let processes = PORTS.iter().map(proxy).collect::<Result<Vec<_>>>()?;
    let forwarders = processes.iter().map(Process::pid).collect();
    let (a, b) = (End { netns: host, device: "svc0".into() }, End { netns: container, device: "eth0".into() });
    Ok(Peer { forwarders, processes, ..Peer::between(setting, a, b, SERVICE) })
}

pub(super) fn rootlesskit(setting: &Setting) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let state = Path::new("/run").join(&setting.tag);
    let ports: Vec<String> = PORTS.iter().map(|port| format!("-p 0.0.0.0:{port}:{port}/tcp")).collect();
    let (at, ports) = (state.display(), ports.join(" "));
    let line =
        format!("rootlesskit --state-dir={at} --net=slirp4netns --disable-host-loopback --port-driver=builtin {ports} sleep 1000000");
    let process = Process::start(host.command_line(&line))?;
    let child = wait_for_child(&state.join("child_pid"))?;
    let container = Netns::of_process(format!("{}b", setting.tag), child)?;
    // Its driver has a process on either side.
    let forwarders = vec![process.pid(), child];
    let (a, b) = (End { netns: host, device: "svc0".into() }, End { netns: container, device: "tap0".into() });
    Ok(Peer { forwarders, processes: vec![process], ..Peer::between(setting, a, b, SERVICE) })
}

fn wait_for_child(file: &Path) -> Result<u32> {
    for _ in 0..TRIES {
        if let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(pid);
        }
        thread::sleep(PAUSE);
    }
    let seconds = (PAUSE * TRIES as u32).as_secs();
    let last = run(crate::process::command("rootlesskit --version")).unwrap_or_default();
    Err(BenchError::NotReady { what: "rootlesskit's child".into(), seconds, last })
}
