//! What people have reported of other networks for containers in userspace, each by a test that it does not happen here.

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use netloom_tests::{FAR_IP, HOST_IP, Netloom, Place, SERVER_IP, at, wait_until};

for_both!(
    a_port_53_that_is_published_leaves_the_network_s_own_names_alone,
    a_udp_client_is_served_again_after_the_container_was_restarted,
    two_containers_reach_each_other_by_the_addresses_that_the_outside_sees,
    connections_that_ended_leave_no_socket_behind,
    a_half_closed_connection_costs_no_processor_time,
    a_reader_that_pauses_gets_everything_in_either_direction,
    a_window_scales_and_losses_are_told_selectively,
    what_a_router_refuses_fails_at_once_and_as_it_said,
    packets_to_a_loopback_address_reach_no_loopback_of_the_host,
);

/// Answers every DNS question with 192.0.2.53, over UDP.
const SERVER_OF_NAMES: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    question, client = s.recvfrom(512)
    end = question.index(b"\0", 12) + 5
    s.sendto(question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\x35", client)
"#;

fn a_port_53_that_is_published_leaves_the_network_s_own_names_alone(nl: &Netloom) {
    nl.host.ok("sysctl -q -w net.ipv4.ip_unprivileged_port_start=53");
    let script = nl.host.write("names.py", SERVER_OF_NAMES);
    nl.ok(&format!("run -d --name names -p {HOST_IP}:53:53/udp -v {}:/names.py:ro python3 /names.py", script.display()));
    wait_until("it serves", || nl.ok("logs names").contains("ready"));
    let ask = format!("dig +short +tries=1 +time=10 anything.example @{HOST_IP}");
    assert_eq!(nl.host.start(Place::Server, &ask).finish().exits(0).text(), "192.0.2.53", "from outside");
    assert_eq!(nl.ok(&format!("run --rm {ask}")), "192.0.2.53", "from the network itself");
    assert_eq!(nl.ok("run --rm dig +short +tries=1 +time=10 names"), nl.ip("names"), "by the network's own resolver");
}

fn a_udp_client_is_served_again_after_the_container_was_restarted(nl: &Netloom) {
    let echo = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('0.0.0.0', 53))\n\
                while True:\n  d, a = s.recvfrom(100)\n  s.sendto(d, a)\n";
    let script = nl.host.write("echo.py", echo);
    nl.ok(&format!("run -d --name echo -p 5353:53/udp -v {}:/echo.py:ro python3 /echo.py", script.display()));
    let client = nl.host.udp(Place::Server, (SERVER_IP, 0));
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let is_answered = || {
        // An answer to an earlier question is one, too.
        client.send_to(b"word", (HOST_IP, 5353)).is_ok() && client.recv(&mut [0; 100]).is_ok()
    };
    wait_until("it is answered", is_answered);
    for _ in 0..2 {
        nl.ok("restart -t 0 echo");
        wait_until("the same client is answered again", is_answered);
    }
}

/// RFC 4787, REQ-9.
fn two_containers_reach_each_other_by_the_addresses_that_the_outside_sees(nl: &Netloom) {
    let server = nl.host.udp(Place::Server, (FAR_IP, 9000));
    let waits = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(20)\ns.sendto(b'here', ('{FAR_IP}', 9000))\n\
         d, a = s.recvfrom(100)\nprint(d.decode(), a[0], a[1], flush=True)\n"
    );
    let calls = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(20)\ns.sendto(b'where', ('{FAR_IP}', 9000))\n\
         host, port = s.recv(100).decode().split()\ns.sendto(b'hello', (host, int(port)))\n"
    );
    let [waits, calls] = [("waits.py", waits), ("calls.py", calls)].map(|(name, script)| {
        let file = nl.host.write(name, script);
        format!("run --rm -v {}:/script.py:ro python3 /script.py", file.display())
    });
    let said = |socket: &UdpSocket| {
        let mut bytes = [0; 100];
        let (n, from) = socket.recv_from(&mut bytes).expect("a datagram");
        (String::from_utf8_lossy(&bytes[..n]).into_owned(), from)
    };
    let waiting = nl.start(&waits);
    let (_, callee) = said(&server);
    let calling = nl.start(&calls);
    let (_, caller) = said(&server);
    server.send_to(format!("{} {}", callee.ip(), callee.port()).as_bytes(), caller).expect("it goes");
    calling.finish().exits(0);
    assert_eq!(waiting.finish().exits(0).text(), format!("hello {} {}", caller.ip(), caller.port()), "from its address outside");
}

fn connections_that_ended_leave_no_socket_behind(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let server = std::thread::spawn(move || {
        // Each way to end: the server first, the container first, and by a reset.
        for count in 0..60 {
            let (mut stream, _) = listener.accept().expect("a client");
            if count % 3 != 0 {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
            }
        }
    });
    nl.ok("run -d --name a sleep 1000");
    let script = format!(
        "import socket, struct\nfor i in range(60):\n  s = socket.create_connection(('{FAR_IP}', 9000), 20)\n  \
         if i % 3 == 0: s.recv(1)\n  if i % 3 == 2: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n  s.close()\n"
    );
    nl.run_with_input("exec -i a python3 -", script).exits(0);
    server.join().expect("the server ends");
    wait_until("no flow is left", || nl.json("flows --format json").as_array().is_some_and(Vec::is_empty));
    let left = nl.host.ok("ss -Htan state connected exclude time-wait dport = :9000");
    assert_eq!(left, "", "the host has sockets of connections that are over");
}

/// Ticks of the processor that a process has used.
fn ticks(nl: &Netloom, process: i64) -> u64 {
    let stat = nl.host.ok(&format!("cat /proc/{process}/stat"));
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ')).expect("a line of proc(5)");
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn a_half_closed_connection_costs_no_processor_time(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    nl.ok("run -d --name a sleep 1000");
    // One waits with the server's end closed, the other with its own.
    let script = format!(
        "import socket\na, b = (socket.create_connection(('{FAR_IP}', 9000), 20) for _ in range(2))\na.recv(1)\n\
         b.shutdown(socket.SHUT_WR)\nprint('waiting', flush=True)\nb.recv(1)\n"
    );
    let script = nl.host.write("waits.py", script);
    let client = nl.start(&format!("run --rm -v {}:/script.py:ro python3 /script.py", script.display()));
    let streams = [(); 2].map(|()| listener.accept().expect("a client").0);
    streams[0].shutdown(std::net::Shutdown::Write).expect("it can be closed");
    client.expect("waiting");
    let daemon = nl.daemon();
    let (before, began) = (ticks(nl, daemon), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let (used, passed) = (ticks(nl, daemon) - before, began.elapsed());
    // A tick is a hundredth of a second.
    assert!(Duration::from_millis(used * 10) < passed / 10, "{used} ticks in {passed:?}");
    drop(streams);
    client.finish().exits(0);
}

fn a_reader_that_pauses_gets_everything_in_either_direction(nl: &Netloom) {
    const BYTES: usize = 30_000_000;
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let page: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        stream.write_all(&page).expect("the client takes it");
        std::thread::sleep(Duration::from_secs(2));
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("everything comes");
        back == page
    });
    let script = format!(
        "import socket, time\ns = socket.create_connection(('{FAR_IP}', 9000), 20)\ntime.sleep(2)\nback = bytearray()\n\
         while len(back) < {BYTES}:\n  back += s.recv(1 << 20)\ns.sendall(back)\nprint(len(back))\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), BYTES.to_string());
    assert!(server.join().expect("the server ends"), "what came back is not what was sent");
}

fn a_window_scales_and_losses_are_told_selectively(nl: &Netloom) {
    let _listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    // Of struct tcp_info the sixth byte says what was agreed on, and the seventh how far the windows are scaled, the peer's first.
    let script = format!(
        "import socket\ns = socket.create_connection(('{FAR_IP}', 9000), 20)\ninfo = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)\n\
         print('sack' * (info[5] >> 1 & 1), 'scaled' * (info[5] >> 2 & 1), info[6] & 15)\n"
    );
    let agreed = nl.python("", &script).exits(0).text();
    let scale = agreed.strip_prefix("sack scaled ").and_then(|scale| scale.parse::<u8>().ok());
    assert!(scale.is_some_and(|scale| scale > 0), "{agreed}");
}

fn what_a_router_refuses_fails_at_once_and_as_it_said(nl: &Netloom) {
    nl.host.ok("ip netns exec server sysctl -q -w net.ipv4.ip_forward=1");
    let script = "import errno, socket\nfor to in '192.0.2.1', '192.0.2.2':\n  try: socket.create_connection((to, 80), 20)\n  \
                  except OSError as e: print(errno.errorcode[e.errno])\n";
    nl.host.ok("ip -n server route add unreachable 192.0.2.1/32");
    nl.host.ok("ip -n server route add prohibit 192.0.2.2/32");
    let began = Instant::now();
    assert_eq!(nl.python("", script).exits(0).text(), "EHOSTUNREACH\nEHOSTUNREACH");
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Sends a datagram to each address at the gateway's MAC, whatever the container's own routes say.
const TO_LOOPBACK: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
own4, own6, gateway = socket.inet_aton(sys.argv[1]), socket.inet_pton(socket.AF_INET6, sys.argv[2]), bytes.fromhex(sys.argv[3].replace(":", ""))
def sum(data):
    total = 0
    for word in struct.unpack(">%dH" % (len(data) // 2), data): total += word
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return struct.pack(">H", (~total & 0xffff) or 0xffff)
def udp(pseudo):
    head, data = struct.pack(">HHH", 4000, 9000, 12), b"word"
    return head + sum(pseudo + struct.pack(">HH", 0, 17) + struct.pack(">HH", 0, 12) + head + b"\0\0" + data) + data
for to in sys.argv[4:]:
    if ":" in to:
        to = socket.inet_pton(socket.AF_INET6, to)
        kind, packet = b"\x86\xdd", struct.pack(">IHBB", 6 << 28, 12, 17, 64) + own6 + to + udp(own6 + to)
    else:
        to = socket.inet_aton(to)
        head = struct.pack(">BBHHHBB", 69, 0, 32, 1, 0, 64, 17)
        kind, packet = b"\x08\x00", head + sum(head + own4 + to) + own4 + to + udp(own4 + to)
    s.send(gateway + s.getsockname()[4] + kind + packet)
"#;

fn packets_to_a_loopback_address_reach_no_loopback_of_the_host(nl: &Netloom) {
    nl.host.ok("ip addr add 198.51.100.1/32 dev lo");
    nl.host.ok("ip -6 addr add 2001:db8:1::1/128 dev lo nodad");
    let any: SocketAddr = "[::]:9000".parse().expect("an address");
    let socket = nl.host.udp(Place::Host, any);
    nl.ok("network create --subnet fd00:20::/64 six");
    let script = nl.host.write("loopback.py", TO_LOOPBACK);
    nl.ok(&format!("run -d --name a --net six --cap-add NET_RAW -v {}:/loopback.py:ro sleep 1000", script.display()));
    let container = nl.inspect("a");
    let [ip, ip6] = ["ip_address", "ip6_address"].map(|key| at(&container, &format!("networks.six.{key}")));
    let gateway = at(&container, "networks.six.gateway");
    nl.ok("exec a busybox ping -c 1 -W 5 fd00:20::1");
    nl.ok(&format!("exec a busybox ping -c 1 -W 5 {gateway}"));
    let mac = nl.ok(&format!("exec a sh -c 'ip neigh show {gateway} | cut -d \" \" -f 5'"));
    let loopback = "127.0.0.1 127.9.9.9 0.0.0.0 198.51.100.1 ::1 :: ::ffff:127.0.0.1 ::127.0.0.1 2001:db8:1::1";
    // The last is the host's own, and shows that all before it have been through.
    nl.ok(&format!("exec a python3 /loopback.py {ip} {ip6} {mac} {loopback} {HOST_IP}"));
    let (_, from) = socket.recv_from(&mut [0; 100]).expect("a datagram");
    assert_eq!(from.ip().to_canonical(), HOST_IP, "what came first came to a loopback address");
    socket.set_nonblocking(true).expect("a socket takes it");
    assert!(socket.recv_from(&mut [0; 100]).is_err(), "there was more than one");
    let drops = nl.json("drops six --format json");
    let forbidden = drops.as_array().into_iter().flatten().filter(|row| row["reason"] == "gateway_forbidden");
    assert!(forbidden.filter_map(|row| row["frames"].as_u64()).sum::<u64>() >= 7, "{drops:#}");
    nl.host.ok("ip addr del 198.51.100.1/32 dev lo");
    nl.host.ok("ip -6 addr del 2001:db8:1::1/128 dev lo");
}
