//! Ports of the veth backend, and those of both on one network. What every backend must do is tested elsewhere, with each.

use netloom_tests::{Netloom, at, wait_until};

for_both!(
    a_network_has_the_backend_that_was_asked_for,
    the_backend_is_that_of_the_next_start,
    taps_and_pairs_exchange_superframes,
    tags_arrive_with_what_stands_behind_them,
    a_tunnel_through_the_network_carries_tcp,
    hostile_headers_are_dropped_with_a_reason,
    superframes_of_datagrams_arrive_one_by_one,
    without_uso_superframes_of_datagrams_are_cut,
    the_largest_and_the_smallest_mtu_hold,
    the_far_end_says_nothing_of_its_own,
    a_disconnected_pair_is_gone,
    pairs_outlive_the_daemon_and_end_with_their_supervisor,
    a_machine_without_the_device_is_told_what_it_gets,
);

fn port<'a>(ports: &'a serde_json::Value, container: &str) -> &'a serde_json::Value {
    let all = ports.as_array().expect("ports");
    all.iter().find(|port| port["container"] == container).unwrap_or_else(|| panic!("{container} has no port in {ports:#}"))
}

/// No frame was dropped but what a busy machine did not read in time, which TCP sends again.
fn nothing_refused(port: &serde_json::Value) -> bool {
    port["drops"].as_object().is_some_and(|drops| drops.keys().all(|reason| reason == "ring_overflow"))
}

/// What is shown for a container on a network.
fn shown(nl: &Netloom, network: &str, container: &str) -> String {
    at(port(&nl.json(&format!("ports {network} --json")), container), "backend")
}

fn a_network_has_the_backend_that_was_asked_for(nl: &Netloom) {
    for backend in ["tap", "veth"] {
        nl.ok(&format!("network create --backend {backend} n{backend}"));
        nl.ok(&format!("run -d --name {backend} --net n{backend} sleep 1000"));
        assert_eq!(shown(nl, &format!("n{backend}"), backend), backend);
        assert_eq!(at(&nl.inspect(backend), "backend"), backend);
        assert_eq!(at(&nl.json(&format!("network inspect n{backend}"))[0], "backend"), backend);
        let driver = if backend == "veth" { "veth" } else { "tun" };
        assert!(nl.ok(&format!("exec {backend} ip -d link show eth0")).contains(&format!(" {driver} ")), "{driver}");
    }
    assert!(nl.fails("network create --backend veth -o backend=tap both", 2).contains("backend"));
}

fn the_backend_is_that_of_the_next_start(nl: &Netloom) {
    let backend = |word: &str| nl.with(&[("NETLOOM_BACKEND", word)]);
    backend("tap").ok("run -d --name a sleep 1000");
    nl.ok("network set bridge backend=veth");
    backend("tap").ok("run -d --name b sleep 1000");
    assert_eq!((shown(nl, "bridge", "a"), shown(nl, "bridge", "b")), ("tap".into(), "veth".into()));
    nl.ok("restart -t 0 a");
    assert_eq!(shown(nl, "bridge", "a"), "veth");
    nl.ok("network set bridge backend=auto");
    backend("veth").ok("run -d --name c sleep 1000");
    assert_eq!(shown(nl, "bridge", "c"), "veth");
    assert!(nl.fails("network set bridge backend=pigeon", 2).contains("tap, veth or auto"));
    let refused = backend("pigeon").fails("run --rm true", 125);
    assert!(refused.contains("NETLOOM_BACKEND is `pigeon`") && refused.contains("hint"), "{refused}");
}

/// Two containers on the bridge network, a TAP and a pair, named for that; options for both.
fn mixed(nl: &Netloom, options: &str, command: &str) {
    for backend in ["tap", "veth"] {
        nl.ok(&format!("network set bridge backend={backend}"));
        nl.ok(&format!("run -d --name {backend} {options} {command}"));
    }
}

/// Whether every TCP and UDP checksum that a container's kernel looked at was right.
#[track_caller]
fn right_checksums(nl: &Netloom, container: &str) {
    let counters = nl.ok(&format!("exec {container} cat /proc/net/snmp"));
    for protocol in ["Tcp", "Udp"] {
        let mut rows = counters.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let errors = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "InCsumErrors").expect("a counter");
        assert_eq!(errors.1, "0", "{protocol} at {container}: {counters}");
    }
}

/// Sends 50 MB from one container to another's address over TCP; what arrived is what was sent.
#[track_caller]
fn send_unchanged(nl: &Netloom, from: &str, to: &str, address: &str) {
    nl.ok(&format!("exec -d {to} sh -c 'sleep 1000 | busybox nc -l -p 9000 | sha256sum > /root/sum'"));
    wait_until("it listens", || nl.run(&format!("exec {to} ss -Htln")).text().contains(":9000"));
    let send = "seq 1 6500000 | head -c 50000000 | tee /root/sent | busybox nc";
    nl.ok(&format!("exec {from} sh -c '{send} {address} 9000; sha256sum < /root/sent > /root/sum'"));
    wait_until("all has arrived", || nl.ok(&format!("exec {to} cat /root/sum")).len() > 60);
    assert_eq!(nl.ok(&format!("exec {from} cat /root/sum")), nl.ok(&format!("exec {to} cat /root/sum")), "{from} to {to}");
    right_checksums(nl, from);
    right_checksums(nl, to);
}

fn taps_and_pairs_exchange_superframes(nl: &Netloom) {
    mixed(nl, "", "iperf3 -s");
    for (from, to) in [("tap", "veth"), ("veth", "tap")] {
        send_unchanged(nl, from, to, to);
        let sent = |key: &str| port(&nl.json("ports bridge --json"), from)[key].as_f64().unwrap_or_default();
        let (bytes, frames) = (sent("rx_bytes"), sent("rx_frames"));
        wait_until("it listens", || nl.run(&format!("exec {to} ss -Htln")).text().contains(":5201"));
        nl.ok(&format!("exec {from} iperf3 -c {to} -n 100M"));
        let mean = (sent("rx_bytes") - bytes) / (sent("rx_frames") - frames);
        assert!(mean > 2000.0, "superframes from {from} are cut: {mean} bytes a frame");
    }
}

/// Sends a tagged frame, and one whose UDP checksum is still to be finished from behind the tag.
const TAGGED: &str = r"
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 15, 1)
s.bind(('eth0', 0))
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
head = b'\xff' * 6 + mac + b'\x81\x00\x60\x07'
s.send(bytes(10) + head + b'\x88\xb5' + b'plain'.ljust(60, b'.'))
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 128, 1, 0, 64, 17, 0, b'\x0a\x00\x00\x01', b'\x0a\x00\x00\x02')
udp = struct.pack('!HHHH', 7, 7, 108, 0) + b'partial'.ljust(100, b'.')
s.send(struct.pack('=BBHHHH', 1, 0, 46, 0, 38, 6) + head + b'\x08\x00' + ip + udp)
";

/// Hears both: the tag's control information, whether a checksum is to be finished and where, the beginning of what was in it.
const HEARD: &str = r"
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, 8, 1)
s.setsockopt(263, 15, 1)
s.settimeout(20)
print('ready', flush=True)
seen = 0
while seen < 2:
    data, extra, _, _ = s.recvmsg(2000, 200)
    frame = data[10:]
    tci = struct.unpack('=IIIHHHH', extra[0][2])[5]
    if tci:
        seen += 1
        start, offset = struct.unpack('=HH', data[6:10])
        text = (frame[14:] if frame[12:14] == b'\x88\xb5' else frame[42:]).split(b'.')[0].decode()
        print(hex(tci), data[0] & 1, start, offset, text, flush=True)
";

fn tags_arrive_with_what_stands_behind_them(nl: &Netloom) {
    let (tagged, heard) = (nl.host.write("tagged.py", TAGGED), nl.host.write("heard.py", HEARD));
    mixed(nl, &format!("-v {}:/tagged.py:ro -v {}:/heard.py:ro", tagged.display(), heard.display()), "sleep 1000");
    for (from, to) in [("tap", "veth"), ("veth", "tap")] {
        let hearing = nl.start(&format!("exec {to} python3 /heard.py"));
        wait_until("it hears", || hearing.stdout_so_far().contains("ready"));
        nl.ok(&format!("exec {from} python3 /tagged.py"));
        let said = hearing.finish().exits(0).text();
        assert_eq!(said, "ready\n0x6007 0 0 0 plain\n0x6007 1 34 6 partial", "{from} to {to}");
    }
}

/// A virtio-net header has no word for the superframe of a tunnel: the container's kernel is to cut it before.
fn a_tunnel_through_the_network_carries_tcp(nl: &Netloom) {
    mixed(nl, "--cap-add NET_ADMIN", "sleep 1000");
    for (container, other, last) in [("tap", "veth", 1), ("veth", "tap", 2)] {
        let remote = nl.ip(other);
        nl.ok(&format!("exec {container} ip link add vx0 type vxlan id 7 dev eth0 remote {remote} dstport 4789"));
        nl.ok(&format!("exec {container} ip addr add 10.77.0.{last}/24 dev vx0"));
        nl.ok(&format!("exec {container} ip link set vx0 up"));
    }
    send_unchanged(nl, "tap", "veth", "10.77.0.2");
    send_unchanged(nl, "veth", "tap", "10.77.0.1");
    let ports = nl.json("ports bridge --json");
    assert!(["tap", "veth"].iter().all(|name| nothing_refused(port(&ports, name))), "{ports:#}");
}

/// Every virtio-net header that could confuse, each with a frame. Most of them the container's own kernel refuses; a segment with
/// SYN that is to be cut, and one to be cut too small, it does not.
const LIES: &str = r"
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 15, 1)
s.bind(('eth0', 0))
def send(flags, kind, length, size, start, offset, frame):
    try:
        s.send(struct.pack('=BBHHHH', flags, kind, length, size, start, offset) + frame)
        return 1
    except OSError:
        return 0
mac = open('/sys/class/net/eth0/address').read().strip().replace(':', '')
head = b'\xff' * 6 + bytes.fromhex(mac)
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 240, 1, 0, 64, 6, 0, b'\x0a\x00\x00\x01', b'\x0a\x00\x00\x02')
tcp = lambda flags: struct.pack('!HHIIBBHHH', 7, 7, 1, 1, 0x50, flags, 9, 0, 0) + b'.' * 200
odd = head + b'\x88\xb5' + b'\x00' * 250
syn = head + b'\x08\x00' + ip + tcp(2)
ack = head + b'\x08\x00' + ip + tcp(16)
for frame in (syn, ack, odd):
    for flags in (0, 1, 2, 255):
        for kind in (0, 1, 3, 4, 5, 0x81, 255):
            for size in (0, 1, 100, 65535):
                for start, offset in ((0, 0), (12, 0), (34, 16), (34, 6), (14, 65535), (65535, 0)):
                    send(flags, kind, 54, size, start, offset, frame)
print('sent', send(1, 1, 54, 100, 34, 16, syn) + send(1, 1, 54, 4, 34, 16, ack))
";

fn hostile_headers_are_dropped_with_a_reason(nl: &Netloom) {
    nl.ok("network set bridge backend=veth");
    nl.ok("run -d --name peer sleep 1000");
    let lies = nl.host.write("lies.py", LIES);
    let script = lies.display();
    nl.ok(&format!("run -d --name liar -v {script}:/lies.py:ro sh -c 'python3 /lies.py && exec sleep 1000'"));
    wait_until("the lies are told", || nl.ok("logs liar") == "sent 2");
    let mut drops = serde_json::Value::Null;
    wait_until("a lie is dropped for what it is", || {
        drops = port(&nl.json("ports bridge --json"), "liar")["drops"].clone();
        drops["bad_offload"].as_u64().is_some_and(|frames| frames > 0)
    });
    // The port of who lied goes on, and so does everybody's else.
    nl.ok("exec liar busybox ping -c 1 -W 5 peer");
    right_checksums(nl, "peer");
}

/// Receives datagrams for a while, says how long each was and whether what was in them is right.
const RECEIVER: &str = r"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 9000))
s.settimeout(20)
lengths = []
while sum(lengths) < 4500:
    data = s.recv(65535)
    assert data == bytes([len(lengths)]) * len(data), data
    lengths.append(len(data))
print(*lengths, flush=True)
";

const SENDER: &str = r"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1000)
s.sendto(b''.join(bytes([i]) * 1000 for i in range(5))[:4500], (sys.argv[1], 9000))
";

/// From each backend to each: `nl` starts the containers.
fn datagrams(nl: &Netloom) {
    let (receiver, sender) = (nl.host.write("receiver.py", RECEIVER), nl.host.write("sender.py", SENDER));
    let options = format!("-v {}:/receiver.py:ro -v {}:/sender.py:ro", receiver.display(), sender.display());
    mixed(nl, &options, "sleep 1000");
    for (from, to) in [("tap", "veth"), ("veth", "tap")] {
        let receiving = nl.start(&format!("exec {to} python3 /receiver.py"));
        wait_until("it listens", || nl.run(&format!("exec {to} ss -Huln")).text().contains(":9000"));
        let address = nl.ip(to);
        nl.ok(&format!("exec {from} python3 /sender.py {address}"));
        assert_eq!(receiving.finish().exits(0).text(), "1000 1000 1000 1000 500", "{from} to {to}");
        right_checksums(nl, to);
    }
}

fn superframes_of_datagrams_arrive_one_by_one(nl: &Netloom) {
    datagrams(nl);
    let ports = nl.json("ports bridge --json");
    assert!(["tap", "veth"].iter().all(|name| nothing_refused(port(&ports, name))), "{ports:#}");
}

fn without_uso_superframes_of_datagrams_are_cut(nl: &Netloom) {
    // The daemon knows none, the containers send them nevertheless.
    nl.without("uso").ok("ps");
    datagrams(nl);
    nl.remove_all();
    let old = nl.without("uso");
    datagrams(&old);
}

fn the_largest_and_the_smallest_mtu_hold(nl: &Netloom) {
    for (mtu, payload) in [(65_520, 65_492), (68, 40)] {
        nl.ok(&format!("network create --mtu {mtu} --backend veth m{mtu}"));
        nl.ok(&format!("run -d --name a{mtu} --net m{mtu} sleep 1000"));
        nl.ok(&format!("run -d --name b{mtu} --net m{mtu} sleep 1000"));
        assert_eq!(nl.ok(&format!("exec a{mtu} cat /sys/class/net/eth0/mtu")), mtu.to_string());
        nl.ok(&format!("exec a{mtu} ping -M do -c 1 -W 5 -s {payload} b{mtu}"));
        assert_ne!(nl.run(&format!("exec a{mtu} ping -M do -c 1 -W 1 -s {} b{mtu}", payload + 1)).code, 0);
    }
    send_unchanged(nl, "a65520", "b65520", "b65520");
}

fn the_far_end_says_nothing_of_its_own(nl: &Netloom) {
    nl.ok("network create --backend veth --internal --gateway none quiet");
    // What this container hears can only come from the far end of its own pair.
    let listen = "import socket\n\
                  s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n\
                  s.setsockopt(263, 23, 1)\n\
                  s.settimeout(3)\n\
                  try:\n    print(s.recv(2000).hex())\nexcept TimeoutError:\n    print('silence')\n";
    let script = nl.host.write("listen.py", listen);
    let heard = nl.ok(&format!("run --rm --net quiet -v {}:/listen.py:ro python3 /listen.py", script.display()));
    assert_eq!(heard, "silence");
}

fn a_disconnected_pair_is_gone(nl: &Netloom) {
    nl.ok("network create --backend veth second");
    nl.ok("run -d --name a sleep 1000");
    nl.ok("network connect second a");
    assert_eq!(nl.ok("exec a cat /sys/class/net/eth1/carrier"), "1");
    nl.ok("network disconnect second a");
    assert!(!nl.ok("exec a ip -br link").contains("eth1"));
    // Its name is free at once.
    nl.ok("network connect second a");
    nl.ok("network disconnect second a");
    // Who joined the network of another loses the interface with that container.
    nl.ok("network set bridge backend=veth");
    nl.ok("run -d --name owner sleep 1000");
    nl.ok("run -d --name guest --net=container:owner sleep 1000");
    nl.ok("rm -f owner");
    wait_until("the interface is gone", || !nl.ok("exec guest ip -br link").contains("eth0"));
}

fn pairs_outlive_the_daemon_and_end_with_their_supervisor(nl: &Netloom) {
    nl.ok("network set bridge backend=veth");
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    nl.host.kill(nl.daemon(), "KILL");
    wait_until("the ports are back", || nl.run("exec a busybox ping -c 1 -W 1 b").code == 0);
    assert_eq!(shown(nl, "bridge", "a"), "veth");
    nl.host.kill(nl.supervisor("b"), "KILL");
    wait_until("it has ended", || nl.state("b") == "exited");
    assert_eq!(nl.ok("exec a cat /sys/class/net/eth0/carrier"), "1");
    nl.ok("rm -f b");
    let (daemon, supervisor) = (nl.daemon(), nl.supervisor("a"));
    for pid in [daemon, supervisor] {
        nl.host.kill(pid, "KILL");
    }
    wait_until("the next daemon knows", || nl.state("a") == "exited");
}

fn a_machine_without_the_device_is_told_what_it_gets(nl: &Netloom) {
    let poor = nl.with(&[("NETLOOM_BACKEND", "")]).without("tun");
    poor.ok("run -d --name a sleep 1000");
    assert_eq!(shown(nl, "bridge", "a"), "veth");
    poor.ok("run --rm busybox ping -c 1 -W 5 a");
    let findings = poor.json("doctor --json");
    let detail = |name: &str| at(findings.as_array().expect("a list").iter().find(|one| one["name"] == name).expect("a finding"), "detail");
    assert!(detail("backend").starts_with("veth") && detail("tun").contains("cannot be opened"), "{findings:#}");
    nl.ok("network create --backend tap taps");
    let refused = poor.fails("run --rm --net taps true", 125);
    assert!(refused.contains("/dev/net/tun") && refused.contains("--backend veth"), "{refused}");
}
