//! A container that sends anything at all, and others who must not feel it.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread::JoinHandle,
    time::Duration,
};

use netloom_tests::{DEADLINE, FAR_IP, Netloom, Place};

for_both!(a_container_that_sends_anything_at_all_is_felt_by_nobody_else);

/// How long it sends; a minute or more is for those who have the time.
const SECONDS: &str = "NETLOOM_TEST_HOSTILE_SECONDS";

/// Right frames of every protocol that the gateway reads, with some bytes changed, and noise; half of them behind virtio headers that
/// are as bad as the kernel lets them be.
const HOSTILE: &str = r#"
import os, random, socket, struct, sys, time
random.seed(int(sys.argv[2]))
end = time.monotonic() + float(sys.argv[1])
plain = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
vnet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
vnet.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
for s in (plain, vnet):
    s.bind(('eth0', 0)); s.setblocking(False)
own = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
gateway = bytes.fromhex('02420a050001')
ip4 = socket.inet_aton(sys.argv[3]); ip6 = socket.inet_pton(socket.AF_INET6, sys.argv[4])
far4 = socket.inet_aton('203.0.113.7'); gw4 = socket.inet_aton('10.5.0.1')
gw6 = socket.inet_pton(socket.AF_INET6, 'fd00:5::1'); far6 = socket.inet_pton(socket.AF_INET6, '2001:db8::7')
servers6 = socket.inet_pton(socket.AF_INET6, 'ff02::1:2'); routers6 = socket.inet_pton(socket.AF_INET6, 'ff02::2')

def summed(header):
    total = sum(struct.unpack('>%dH' % (len(header) // 2), header))
    total = (total & 0xffff) + (total >> 16); total = (total & 0xffff) + (total >> 16)
    return header[:10] + struct.pack('>H', ~total & 0xffff) + header[12:]
def v4(protocol, to, payload, fragment=0, options=b''):
    header = struct.pack('>BBHHHBBH', 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 7, fragment, 64, protocol, 0)
    return gateway + own + b'\x08\0' + summed(header + ip4 + to + options) + payload
def v6(protocol, to, payload, source=ip6):
    return gateway + own + b'\x86\xdd' + struct.pack('>IHBB', 6 << 28, len(payload), protocol, 255) + source + to + payload
def udp(port, payload):
    return struct.pack('>HHHH', 4000, port, 8 + len(payload), 0) + payload
def tcp(flags, payload=b'', options=b''):
    return struct.pack('>HHIIBBHHH', 4001, 9000, 1, 1, (20 + len(options)) * 4, flags, 9000, 0, 9) + options + payload
query = b'\0\1\1\0\0\1\0\0\0\0\0\0\3web\0\0\1\0\1'
dhcp = b'\1\1\6\0' + b'\0' * 24 + own + b'\0' * 202 + b'c\x82Sc' + b'\x35\1\1\x37\4\1\3\x77\x79\xff'
dhcp6 = b'\1\1\2\3\0\1\0\x0a\0\3\0\1' + own + b'\0\3\0\x0c' + b'\0' * 12
seeds = [
    gateway + own + b'\x08\6' + b'\0\1\x08\0\6\4\0\1' + own + ip4 + b'\0' * 6 + gw4,
    v4(17, gw4, udp(53, query)), v4(17, gw4, udp(67, dhcp)), v4(17, far4, udp(9, b'x' * 600)), v4(17, far4, udp(9, b'x'), options=b'\x07\x07\4\0' * 5),
    v4(6, far4, tcp(2, options=b'\2\4\5\xb4\3\3\7\0')), v4(6, far4, tcp(0x3f, b'urgent' * 90)), v4(6, gw4, tcp(2)), v4(1, gw4, b'\x08\0\xf7\xff\0\0\0\0'),
    v4(1, far4, b'\3\4\0\0\0\0\0\x40' + b'E' * 40), v4(17, far4, b'f' * 800, 0x2000), v4(17, far4, b'f' * 80, 0x1fff),
    v6(58, routers6, b'\x85\0\0\0\0\0\0\0'), v6(58, gw6, b'\x87\0\0\0\0\0\0\0' + gw6 + b'\1\1' + own), v6(58, gw6, b'\x80\0\0\0\0\1\0\1ping'),
    v6(17, servers6, udp(547, dhcp6)), v6(17, gw6, udp(53, query)), v6(6, far6, tcp(2)), v6(0, far6, (b'\0\0\1\4\0\0\0\0') * 40), v6(44, far6, b'\x11\0\0\1\0\0\0\1' + b'f' * 64),
    b'\xff' * 6 + own + b'\x81\0\0\5\x08\6' + b'\0' * 40, b'\1\x80\xc2\0\0\0' + own + b'\0\x27' + b'B' * 39,
]
sent = refused = 0
while time.monotonic() < end:
    for _ in range(200):
        if random.random() < 0.1:
            frame = gateway + own + random.choice([b'\x08\0', b'\x08\6', b'\x86\xdd', b'\x81\0', os.urandom(2)]) + os.urandom(random.randrange(1400))
        else:
            frame = bytearray(random.choice(seeds))
            for _ in range(random.randrange(4)):
                # Who sends it is checked before all else; to get further, it stays.
                frame[random.randrange(12, len(frame))] = random.choice([0, 1, 0x7f, 0x80, 0xff, random.randrange(256)])
            if random.random() < 0.2:
                frame = frame[:random.randrange(14, len(frame) + 1)]
            if frame[12:14] == b'\x08\0' and len(frame) >= 34 and random.random() < 0.8:
                frame[14:34] = summed(bytes(frame[14:24]) + b'\0\0' + bytes(frame[26:34]))
        try:
            if random.random() < 0.5:
                start = random.choice([34, 34, 54, 14, random.randrange(1 << 16)])
                header = struct.pack('<BBHHHHH', random.choice([0, 1, 1, 2, 3]), random.choice([0, 0, 1, 3, 4, 5, 0x81, 0x84, random.randrange(256)]),
                                     random.choice([0, 54, 66, random.randrange(1 << 16)]), random.choice([0, 1, 40, 1448, 0xffff, random.randrange(1 << 16)]),
                                     start, random.choice([6, 16, 0, random.randrange(1 << 16)]), 0)[:10]
                vnet.send(header + bytes(frame))
            else:
                plain.send(bytes(frame))
            sent += 1
        except OSError:
            refused += 1
print(sent, refused)
"#;

/// Talks to the world and asks for names for as long as it is told, and a little longer.
const NEIGHBOUR: &str = r#"
import socket, sys, time
end = time.monotonic() + float(sys.argv[1]) + 1
def talk(data):
    s = socket.create_connection((sys.argv[2], 9000), 10)
    s.sendall(data); s.shutdown(socket.SHUT_WR)
    got = b''
    while part := s.recv(65536):
        got += part
    return got
rounds, worst = 0, 0
print('talking', flush=True)
while time.monotonic() < end:
    began = time.monotonic()
    data = bytes([rounds % 251]) * 20000
    assert talk(data) == data
    assert socket.gethostbyname('web') == sys.argv[3]
    rounds += 1; worst = max(worst, time.monotonic() - began)
talk(b'stop')
print('rounds', rounds, 'worst', round(worst, 3))
"#;

/// Gives every client back what it said, until one says `stop`.
fn echo(listener: TcpListener) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut said = Vec::new();
            // A hostile client may go without a word.
            if stream.read_to_end(&mut said).is_ok() {
                let _ = stream.write_all(&said);
            }
            if said == b"stop" {
                return;
            }
        }
    })
}

fn a_container_that_sends_anything_at_all_is_felt_by_nobody_else(nl: &Netloom) {
    let seconds = std::env::var(SECONDS).unwrap_or_else(|_| "4".to_owned());
    let server = echo(nl.host.listen(Place::Server, (FAR_IP, 9000)));
    let (hostile, neighbour) = (nl.host.write("hostile.py", HOSTILE), nl.host.write("neighbour.py", NEIGHBOUR));
    nl.ok("network create --subnet 10.5.0.0/24 --subnet fd00:5::/64 lab");
    nl.ok("run -d --name web --net lab sleep 1000");
    nl.ok(&format!("run -d --name bad --net lab --cap-add NET_RAW -v {}:/hostile.py:ro sleep 1000", hostile.display()));
    nl.ok(&format!("run -d --name good --net lab -v {}:/neighbour.py:ro sleep 1000", neighbour.display()));
    let daemon = nl.daemon();
    let talks = nl.start(&format!("exec good python3 /neighbour.py {seconds} {FAR_IP} {}", nl.ip("web")));
    talks.expect("talking");
    let bad = nl.inspect("bad");
    let [ip, ip6] = ["ip_address", "ip6_address"].map(|key| netloom_tests::at(&bad, &format!("networks.lab.{key}")));
    let hostile = nl.start(&format!("exec bad python3 /hostile.py {seconds} {} {ip} {ip6}", std::process::id()));
    let long = Duration::from_secs(seconds.parse().expect("whole seconds")) + DEADLINE;
    let sent = hostile.finish_within(long).exits(0).text();
    let sent: u64 = sent.split(' ').next().and_then(|count| count.parse().ok()).expect("a count");
    assert!(sent > 1000, "{sent} frames were sent");
    let talked = talks.finish().exits(0).text();
    server.join().expect("the server ends by its word");
    assert_eq!(nl.daemon(), daemon, "the daemon is the same process");
    let drops = nl.json("drops lab --format json");
    let of_bad: Vec<_> = drops.as_array().expect("a list").iter().filter(|drop| netloom_tests::at(drop, "container") == "bad").collect();
    let dropped: u64 = of_bad.iter().filter_map(|drop| drop["frames"].as_u64()).sum();
    assert!(of_bad.len() > 3 && dropped > 100, "{drops:#}");
    // Everybody is served as before, the hostile one too.
    for name in ["good", "bad"] {
        nl.ok(&format!("exec {name} busybox ping -c 1 -W 5 10.5.0.1"));
        assert!(nl.ok(&format!("exec {name} getent ahostsv4 web")).starts_with(&nl.ip("web")));
    }
    netloom_tests::report(&format!("hostile container: {sent} frames, {dropped} dropped; its neighbour: {talked}"));
}
