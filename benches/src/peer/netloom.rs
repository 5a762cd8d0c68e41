//! Netloom itself: an instance of its own, whose containers are the ends.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::{Disturbance, End, Kind, Peer, SERVICE, SERVICE6, Setting, TearDown, far, host, published};
use crate::{
    error::{BenchError, Result},
    load::READY,
    machine::processes,
    netns::Netns,
    process::{Process, make_folder, ourselves, run, sh},
};

const A: &str = "end-a";
const LARGEST_MTU: u32 = 65520;
/// Whoever this is: nobody has to be known by this number.
pub(super) const USER: u32 = 1000;
const IDLE_PORTS: usize = 1000;
const IDLE_FLOWS: usize = 10_000;
const FLOWS_WITHIN: Duration = Duration::from_secs(90);
const FLOWS_PORT: u16 = 5501;
/// Containers that hold the idle flows.
const CROWDS: usize = 2;
/// Containers started at once.
const AT_ONCE: usize = 4;

/// One `--root` in the namespace that plays its host.
#[derive(Debug)]
pub(crate) struct Instance {
    host: Netns,
    program: PathBuf,
    root: PathBuf,
    user: Option<u32>,
    backend: Option<&'static str>,
}

/// Idle flows; they end with their processes.
#[derive(Debug)]
pub(crate) struct Crowd {
    processes: Vec<Process>,
    containers: Vec<Netns>,
    pub(crate) open: usize,
}

pub(super) fn set_up(setting: &Setting) -> Result<Peer> {
    let peer = made(setting, None, None)?;
    beside(setting, peer)
}

/// Without what the kind of work puts beside it.
pub(super) fn alone(setting: &Setting) -> Result<Peer> {
    made(setting, None, None)
}

/// Beside the same hostile sender, whose frames lead nowhere: what is lost then is lost to its own work, not to the handling.
pub(super) fn aside(setting: &Setting) -> Result<Peer> {
    let mut peer = set_up(setting)?;
    if let Some(hostile) = &mut peer.disturbance {
        hostile.line = hostile_on("nowhere");
        for words in ["link add nowhere type veth peer name void", "link set nowhere up", "link set void up"] {
            hostile.netns.ip(words)?;
        }
    }
    Ok(peer)
}

pub(super) fn on_veth(setting: &Setting) -> Result<Peer> {
    made(setting, None, Some("veth"))
}

pub(super) fn by_a_user(setting: &Setting) -> Result<Peer> {
    made(setting, Some(USER), None)
}

/// The container's network has IPv6 too, and that is how it goes out.
pub(super) fn by_ipv6(setting: &Setting) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let instance = Instance::new(setting, host.alias(), None, None)?;
    run(instance.netloom(&["network", "create", "--ipv6", "six"]))?;
    let netns = instance.container(&setting.tag, A, setting.kind, &["--net", "six"])?;
    let (a, b) = (End { netns, device: "eth0".into() }, End { netns: host, device: "svc0".into() });
    Ok(instance.ended_with(Peer::between(setting, a, b, SERVICE6)))
}

fn made(setting: &Setting, user: Option<u32>, backend: Option<&'static str>) -> Result<Peer> {
    let host = host(format!("{}h", setting.tag))?;
    let far = if setting.kind == Kind::Lossy { Some(far::beyond(setting, &host)?) } else { None };
    let instance = Instance::new(setting, host.alias(), user, backend)?;
    let container = |name: &str, options: &[&str]| {
        let netns = instance.container(&setting.tag, name, setting.kind, options)?;
        Ok(End { netns, device: "eth0".into() })
    };
    let on_host = |host: Netns| End { netns: host, device: "svc0".into() };
    let peer = match setting.kind {
        Kind::Nat | Kind::Flows | Kind::HostileNat => Peer::between(setting, container(A, &[])?, on_host(host), SERVICE),
        Kind::Lossy => {
            let far = far.ok_or_else(super::too_few)?;
            let peer = Peer::between(setting, container(A, &[])?, far.end, far::ADDRESS);
            Peer { processes: vec![far.relay], between: vec![(far.middle, Vec::new()), (host, Vec::new())], ..peer }
        }
        Kind::Published => {
            let ports: Vec<String> = published::PORTS.iter().flat_map(|port| ["-p".to_owned(), format!("{port}:{port}")]).collect();
            let b = container("end-b", &ports.iter().map(String::as_str).collect::<Vec<_>>())?;
            Peer::between(setting, on_host(host), b, SERVICE)
        }
        Kind::Start => {
            // One that stays keeps the daemon up, as in daily use.
            let keep = container(A, &[])?;
            let on = |netns: Netns| End { netns, device: "lo".into() };
            let peer = Peer::between(setting, on(host.alias()), on(host), Ipv4Addr::LOCALHOST);
            Peer { between: vec![(keep.netns, Vec::new())], ..peer }
        }
        Kind::Switch | Kind::Mesh | Kind::Among | Kind::Hostile | Kind::Churn | Kind::Own => {
            let (a, b) = (container(A, &[])?, container("end-b", &[])?);
            let target: Ipv4Addr = instance.inspect("end-b", "{{.networks.bridge.ip_address}}")?;
            let names = if setting.kind == Kind::Mesh { &["end-c", "end-d"][..] } else { &[] };
            let more = names.iter().map(|name| container(name, &[])).collect::<Result<_>>()?;
            Peer { more, between: vec![(host, Vec::new())], largest_mtu: LARGEST_MTU, ..Peer::between(setting, a, b, target) }
        }
    };
    Ok(instance.ended_with(peer))
}

/// What stands or happens beside the two ends in some kinds of work.
fn beside(setting: &Setting, mut peer: Peer) -> Result<Peer> {
    let Some(instance) = &peer.instance else { return Ok(peer) };
    let netns = || instance.host.alias();
    match setting.kind {
        Kind::Among => instance.start_idle("idle", IDLE_PORTS)?,
        Kind::Flows => {
            let crowd = instance.crowd(&setting.tag, IDLE_FLOWS, 1000)?;
            peer.processes.extend(crowd.processes);
            peer.between.extend(crowd.containers.into_iter().map(|container| (container, Vec::new())));
        }
        Kind::Hostile | Kind::HostileNat => {
            let guest = instance.container(&setting.tag, "hostile", setting.kind, &[])?;
            peer.disturbance = Some(Disturbance { line: hostile_on("eth0"), netns: guest.alias() });
            peer.between.push((guest, Vec::new()));
        }
        Kind::Churn => {
            let line = format!("while :; do {} --root {} run --rm true; done", instance.program.display(), instance.root.display());
            peer.disturbance = Some(Disturbance { netns: netns(), line });
        }
        _ => {}
    }
    Ok(peer)
}

/// Frames of every kind that a container may send, each with some bytes changed, under virtio-net headers that lie. Of most the checksums
/// are made right afterwards, so that they get as far as the parsers behind. They are made beforehand: what is measured beside them is to
/// compete with their handling, not with their making.
const HOSTILE: &str = r#"
import random, socket, struct, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 15, 1)
s.bind((sys.argv[1], 0))
own = s.getsockname()[4]
r = random.Random(7)
ip4 = lambda p, d: struct.pack(">BBHHHBBH4s4s", 69, 0, 20 + len(d), 1, 0, 64, p, 0, bytes([172, 17, 0, 9]), bytes([172, 17, 0, 1])) + d
udp = lambda port, d: struct.pack(">HHHH", 4000, port, 8 + len(d), 0) + d
tcp = struct.pack(">HHIIBBHHH", 4000, 80, 1, 0, 80, 2, 65535, 0, 0)
dns = struct.pack(">HHHHHH", 1, 256, 1, 0, 0, 0) + b"\x01a\x00\x00\x01\x00\x01"
seeds = [(0x0800, ip4(6, tcp)), (0x0800, ip4(17, udp(53, dns))), (0x0800, ip4(17, udp(67, bytes(300)))), (0x0800, ip4(1, b"\x08\x00\x00\x00\x00\x01\x00\x01")),
  (0x0806, struct.pack(">HHBBH6s4s6s4s", 1, 2048, 6, 4, 1, own, bytes(4), bytes(6), bytes([172, 17, 0, 1]))),
  (0x86dd, struct.pack(">IHBB", 6 << 28, 24, 58, 255) + own.ljust(16, b"\x01") + bytes([255, 2] + [0] * 13 + [1]) + b"\x87" + bytes(23)), (0x8100, bytes(60)), (0x88b5, bytes(46))]
gateway = bytes([2, 66, 172, 17, 0, 1])
def ones(data):
    total = sum(struct.unpack(">%dH" % ((len(data) + 1) // 2), bytes(data) + bytes(len(data) % 2)))
    while total > 65535: total = (total >> 16) + (total & 65535)
    return struct.pack(">H", 65535 - total)
def put_right(kind, data):
    at = {6: 16, 17: 6, 1: 2}.get(data[9]) if kind == 0x0800 else 2 if kind == 0x86dd and data[6] == 58 else None
    if at is None: return
    if kind == 0x0800:
        data[0], start = 69, 20
        data[2:4] = struct.pack(">H", len(data))
        data[10:12] = bytes(2)
        data[10:12] = ones(data[:20])
        pseudo = b"" if data[9] == 1 else bytes(data[12:20]) + struct.pack(">HH", data[9], len(data) - 20)
    else:
        start = 40
        data[4:6] = struct.pack(">H", len(data) - 40)
        pseudo = bytes(data[8:40]) + struct.pack(">II", len(data) - 40, 58)
    data[start + at:start + at + 2] = bytes(2)
    data[start + at:start + at + 2] = ones(pseudo + bytes(data[start:]))
def mutated():
    kind, data = r.choice(seeds)
    data = bytearray(data + bytes(r.choice([0, 0, 40, 1400])))
    for _ in range(r.randrange(6)): data[r.randrange(len(data))] = r.randrange(256)
    if r.random() < 0.8: put_right(kind, data)
    to = r.choice([gateway, b"\xff" * 6, bytes(r.randrange(256) for _ in range(6))])
    header = struct.pack("<BBHHHH", r.choice([0, 0, 1, 255]), r.choice([0, 0, 1, 3, 4, 5, 255]), *(r.choice([0, 20, 54, 1448, 65535]) for _ in range(4)))
    return header + to + own + struct.pack(">H", kind) + bytes(data if r.random() < 0.8 else data[:r.randrange(1, len(data) + 1)])
frames = [mutated() for _ in range(2000)]
sent, begun = 0, time.time()
while True:
    try: s.send(frames[sent % len(frames)])
    except OSError: pass
    sent += 1
    if sent % 50 == 0: time.sleep(max(0, sent / 20000 - (time.time() - begun)))
"#;

/// The program that sends them on a device.
fn hostile_on(device: &str) -> String {
    format!("exec python3 -c '{HOSTILE}' {device}")
}

impl Instance {
    fn new(setting: &Setting, host: Netns, user: Option<u32>, backend: Option<&'static str>) -> Result<Self> {
        let root = PathBuf::from("/run").join(&setting.tag);
        let mut program = setting.netloom.clone();
        if let Some(user) = user {
            make_folder(&root)?;
            sh(&format!("chmod 700 {}", root.display()))?;
            sh(&format!("chown {user}:{user} {}", root.display()))?;
            // Wherever the sources lie, others can run it from here.
            program = Path::new("/run").join(format!("{}-netloom", setting.tag));
            fs::copy(&setting.netloom, &program).map_err(BenchError::io("copying netloom for an ordinary user"))?;
        }
        Ok(Self { host, program, root, user, backend })
    }

    /// The peer whose containers are this instance's: they end together.
    fn ended_with(self, peer: Peer) -> Peer {
        Peer { forwarders: self.daemon(), tear_down: TearDown(Some(self.end_all())), instance: Some(self), ..peer }
    }

    /// Starts a container that idles, and names its network namespace.
    ///
    /// One on a switch may use the largest MTU that a work asks for; what it uses is set for each work.
    fn container(&self, tag: &str, name: &str, kind: Kind, options: &[&str]) -> Result<Netns> {
        let mtu = if matches!(kind, Kind::Switch | Kind::Mesh | Kind::Among) { LARGEST_MTU } else { 1500 };
        let mtu = mtu.to_string();
        run(self.netloom(&[&["run", "-d", "--name", name, "--mtu", &mtu], options, &["sleep", "1000000"]].concat()))?;
        let pid = self.inspect(name, "{{.pid}}")?;
        Netns::of_process(format!("{tag}{name}"), pid)
    }

    /// Starts so many containers that do nothing.
    pub(crate) fn start_idle(&self, name: &str, count: usize) -> Result<()> {
        self.many(count, |n| self.netloom(&["run", "-d", "--name", &format!("{name}{n}"), "sleep", "1000000"]))
    }

    /// Runs a command for each number, a few at once.
    pub(crate) fn many(&self, count: usize, command: impl Fn(usize) -> Command + Sync) -> Result<()> {
        thread::scope(|scope| {
            let command = &command;
            let runs: Vec<_> = (0..AT_ONCE)
                .map(|first| scope.spawn(move || (first..count).step_by(AT_ONCE).try_for_each(|n| run(command(n)).map(|_| ()))))
                .collect();
            runs.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(super::too_few())))
        })
    }

    /// Flows out to the host that moved so many bytes each, from containers of their own: one port gets no more than half of the
    /// descriptors, and the daemon's limit may not be much more than the flows.
    pub(crate) fn crowd(&self, tag: &str, count: usize, bytes: usize) -> Result<Crowd> {
        let mut swallow = self.host.command(ourselves()?);
        swallow.args(["swallow", &FLOWS_PORT.to_string()]);
        let mut crowd = Crowd { processes: vec![Process::start_until(swallow, READY)?], containers: Vec::new(), open: 0 };
        for n in 0..CROWDS {
            let container = self.container(tag, &format!("crowd{n}"), Kind::Flows, &[])?;
            let mut hold = container.command(ourselves()?);
            hold.args(["hold-flows", &format!("{SERVICE}:{FLOWS_PORT}"), &(count / CROWDS).to_string(), &bytes.to_string()]);
            let (hold, line) = Process::start_until_within(hold, READY, FLOWS_WITHIN)?;
            crowd.open += line.trim().rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            crowd.processes.push(hold);
            crowd.containers.push(container);
        }
        eprintln!("{} of {count} flows are open", crowd.open);
        Ok(crowd)
    }

    pub(crate) fn inspect<T: std::str::FromStr>(&self, name: &str, template: &str) -> Result<T> {
        let said = run(self.netloom(&["inspect", name, "--format", template]))?;
        let lacks = "a value of the right kind";
        said.trim().parse().map_err(|_| BenchError::Answer { program: format!("netloom inspect {template}"), answer: said, lacks })
    }

    pub(crate) fn netloom(&self, words: &[&str]) -> Command {
        let mut command = match self.user {
            None => self.host.command(&self.program),
            Some(user) => {
                let mut command = self.host.command("setpriv");
                command.args(["--reuid", &user.to_string(), "--regid", &user.to_string(), "--clear-groups", "--bounding-set=-all"]);
                command.args(["--inh-caps=-all", "--"]).arg(&self.program);
                command
            }
        };
        // A working folder that everybody may enter.
        command.current_dir("/").arg("--root").arg(&self.root).args(words);
        if let Some(backend) = self.backend {
            command.env("NETLOOM_BACKEND", backend);
        }
        command
    }

    fn daemon(&self) -> Vec<u32> {
        let root = self.root.display().to_string();
        processes("netloom", |words| words.contains(&root) && words.iter().any(|word| word == "__daemon"))
            .into_iter()
            .chain(processes(&self.program.file_name().unwrap_or_default().to_string_lossy(), |words| {
                self.user.is_some() && words.contains(&root) && words.iter().any(|word| word == "__daemon")
            }))
            .collect()
    }

    /// Removes every container.
    fn end_all(&self) -> Command {
        let mut command = self.host.command("sh");
        let (program, root) = (self.program.display(), self.root.display());
        command.args(["-c", &format!("{program} --root {root} rm -f $({program} --root {root} ps -aq)")]);
        command
    }
}
