//! What people have reported of other networks for containers in userspace, each by a test that it does not happen here.

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use netloom_tests::{FAR_IP, HOST_IP, Netloom, Place, SERVER_IP, at, wait_until};

for_both!(
    a_port_53_that_is_published_leaves_the_network_s_own_names_alone,
    a_udp_client_is_served_again_by_the_container_s_successor,
    two_containers_reach_each_other_by_the_addresses_that_the_outside_sees,
    connections_on_which_nothing_goes_on_cost_no_processor_time,
    a_trickle_of_packets_costs_little_processor_time,
    traffic_that_is_over_leaves_no_memory_behind,
    a_large_page_by_a_port_on_loopback_comes_at_once,
    a_page_comes_at_once_with_the_largest_mtu_and_with_small_and_large_buffers,
    what_is_said_to_a_group_is_heard_and_answered,
    a_daemon_that_was_stopped_for_a_while_goes_on,
    a_reader_that_pauses_gets_everything_in_either_direction,
    a_window_scales_and_losses_are_told_selectively,
    the_last_words_of_a_container_reach_a_server_that_is_slow_to_read,
    what_a_router_refuses_fails_at_once,
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

fn a_udp_client_is_served_again_by_the_container_s_successor(nl: &Netloom) {
    let echo = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('0.0.0.0', 53))\n\
                while True:\n  d, a = s.recvfrom(100)\n  s.sendto(d, a)\n";
    let script = nl.host.write("echo.py", echo);
    let start = || nl.ok(&format!("run -d --name echo -p 5353:53/udp -v {}:/echo.py:ro python3 /echo.py", script.display()));
    let client = nl.host.udp(Place::Server, (SERVER_IP, 0));
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let mut number = 0_u32;
    let mut is_answered = || {
        number += 1;
        let mut answer = [0; 100];
        // One to an earlier question tells nothing.
        client.send_to(&number.to_be_bytes(), (HOST_IP, 5353)).is_ok()
            && std::iter::from_fn(|| client.recv(&mut answer).ok().map(|n| answer[..n] == number.to_be_bytes())).any(|is_its| is_its)
    };
    start();
    wait_until("it is answered", &mut is_answered);
    nl.ok("restart -t 0 echo");
    wait_until("the same client is answered again", &mut is_answered);
    let before = nl.ip("echo");
    nl.ok("rm -f echo");
    nl.ok("run -d --name another sleep 1000");
    start();
    assert_ne!(nl.ip("echo"), before);
    wait_until("it is answered from another address", &mut is_answered);
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

/// Nothing that this host's daemon has to do takes more of a processor than a tenth for so long.
fn daemon_rests(nl: &Netloom, so_long: Duration) {
    let daemon = nl.daemon();
    let (before, began) = (nl.host.ticks(daemon), Instant::now());
    std::thread::sleep(so_long);
    let (used, passed) = (nl.host.ticks(daemon) - before, began.elapsed());
    assert!(Duration::from_millis(used * 10) < passed / 10, "{used} ticks in {passed:?}");
}

fn connections_on_which_nothing_goes_on_cost_no_processor_time(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    // One waits with the server's end closed, one with its own, and one does not read what it gets.
    let script = format!(
        "import socket\na, b, c = (socket.create_connection(('{FAR_IP}', 9000), 20) for _ in range(3))\na.recv(1)\n\
         b.shutdown(socket.SHUT_WR)\nprint('waiting', flush=True)\nb.recv(1)\n"
    );
    let script = nl.host.write("waits.py", script);
    let client = nl.start(&format!("run --rm -v {}:/script.py:ro python3 /script.py", script.display()));
    let mut streams = [(); 3].map(|()| listener.accept().expect("a client").0);
    streams[0].shutdown(std::net::Shutdown::Write).expect("it can be closed");
    client.expect("waiting");
    streams[2].set_nonblocking(true).expect("a socket takes it");
    wait_until("all buffers are full", || {
        let full = streams[2].write(&[7; 1 << 16]).is_err();
        std::thread::sleep(Duration::from_millis(if full { 200 } else { 0 }));
        full && streams[2].write(&[7; 1 << 16]).is_err()
    });
    daemon_rests(nl, Duration::from_secs(1));
    drop(streams);
    client.finish().exits(0);
}

fn a_trickle_of_packets_costs_little_processor_time(nl: &Netloom) {
    nl.host.ok("sysctl -q -w 'net.ipv4.ping_group_range=0 2147483647'");
    nl.ok("run -d --name a --cap-add NET_RAW sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    // A hundred a second each.
    let pings: Vec<_> =
        [FAR_IP.to_string(), nl.ip("b")].iter().map(|to| nl.start(&format!("exec a ping -q -i 0.01 -c 150 {to}"))).collect();
    daemon_rests(nl, Duration::from_secs(1));
    for ping in pings {
        assert!(ping.finish().exits(0).text().contains(" 0% packet loss"));
    }
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
         while len(back) < {BYTES}:\n  back += s.recv(1 << 20)\ns.sendall(back)\ns.shutdown(socket.SHUT_WR)\nprint(len(back), len(s.recv(1)))\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), format!("{BYTES} 0"));
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

fn the_last_words_of_a_container_reach_a_server_that_is_slow_to_read(nl: &Netloom) {
    const BYTES: usize = 40_000;
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    // The rest waits at the host when the container has gone.
    nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::RcvBuf, &4096).expect("a socket takes it");
    let script = format!("import socket\ns = socket.create_connection(('{FAR_IP}', 9000), 20)\ns.sendall(bytes({BYTES}))\n");
    for _ in 0..5 {
        nl.python("", &script).exits(0);
        let (mut stream, _) = listener.accept().expect("a client");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("no reset");
        assert_eq!(heard.len(), BYTES);
    }
}

fn what_a_router_refuses_fails_at_once(nl: &Netloom) {
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

fn traffic_that_is_over_leaves_no_memory_behind(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let sink = nl.host.udp(Place::Server, (FAR_IP, 9001));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut stream, mut bytes) = (stream, vec![0; 1 << 16]);
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    nl.ok("run -d --name a sleep 1000");
    // Datagrams, which come first: a reset is lost in a flood of them, and not said again. Then a hundred megabytes there and back, three
    // hundred connections that never read, and two thousand short ones.
    let script = format!(
        r"
import socket, threading
def connect(): return socket.create_connection(('{FAR_IP}', 9000), 20)
for _ in range(40):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(500): u.sendto(bytes(100), ('{FAR_IP}', 9001))
s = connect()
def send():
    for _ in range(1600): s.sendall(bytes(65536))
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
while s.recv(1 << 20): pass
deaf = [connect() for _ in range(300)]
for s in deaf:
    s.setblocking(False)
    try: s.send(bytes(400000))
    except OSError: pass
for _ in range(2000): connect().close()
"
    );
    let traffic = || {
        nl.run_with_input("exec -i a python3 -", script.clone()).exits(0);
        let tcp = || nl.json("flows --json").as_array().is_some_and(|flows| flows.iter().all(|flow| flow["protocol"] != "tcp"));
        wait_until("every connection is over", tcp);
    };
    nl.ok("network set bridge udp-idle=1s");
    let daemon = nl.daemon();
    let before = nl.host.memory(&[daemon]);
    traffic();
    // What the C library holds is given back once things are calm.
    wait_until("it has grown by less than 6 MiB", || nl.host.memory(&[daemon]) - before < 6144);
    drop(sink);
}

fn a_large_page_by_a_port_on_loopback_comes_at_once(nl: &Netloom) {
    let www = nl.host.make_dir("www");
    nl.host.write("www/page", vec![7; 11_000_000]);
    nl.ok(&format!("run -d --name web -p 127.0.0.1:8080:80 -v {}:/www:ro busybox httpd -f -p 80 -h /www", www.display()));
    wait_until("it listens", || nl.run("exec web ss -Htln").text().contains(":80"));
    // With buffers as they are, and with one that holds less than a superframe.
    let fetch = r"
import socket, time
for buffer in None, 8192:
    began = time.monotonic()
    s = socket.socket()
    if buffer: s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.connect(('127.0.0.1', 8080))
    s.sendall(b'GET /page HTTP/1.0\r\n\r\n')
    length = sum(map(len, iter(lambda: s.recv(1 << 20), b'')))
    print(length > 11000000 and time.monotonic() - began < 10, flush=True)
";
    let script = nl.host.write("fetch.py", fetch);
    assert_eq!(nl.host.ok(&format!("python3 {}", script.display())), "True\nTrue");
}

fn a_page_comes_at_once_with_the_largest_mtu_and_with_small_and_large_buffers(nl: &Netloom) {
    let www = nl.host.make_dir("www");
    nl.host.write("www/page", vec![7; 5_000_000]);
    let _server = nl.host.serve(&format!("busybox httpd -f -p {FAR_IP}:8000 -h {}", www.display()), 8000);
    nl.ok("network create --mtu 65520 wide");
    let buffers = ["4096 4096 4096", "4096 16777216 33554432"].map(|buffers| format!("--sysctl 'net.ipv4.tcp_rmem={buffers}'"));
    for options in ["--net wide", &buffers[0], &buffers[1]] {
        let began = Instant::now();
        let length = nl.ok(&format!("run --rm {options} sh -c 'busybox wget -q -O - http://{FAR_IP}:8000/page | wc -c'"));
        assert!(length == "5000000" && began.elapsed() < Duration::from_secs(10), "{options}: {length} in {:?}", began.elapsed());
    }
}

/// As mDNS and SSDP do it.
fn what_is_said_to_a_group_is_heard_and_answered(nl: &Netloom) {
    let listen = r"
import socket, struct, threading
def serve(group, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('0.0.0.0', port))
    s.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4))
    print('ready', flush=True)
    while True:
        data, address = s.recvfrom(100)
        s.sendto(b'here', address)
for group, port in (('224.0.0.251', 5353), ('239.255.255.250', 1900)):
    threading.Thread(target=serve, args=(group, port)).start()
";
    let ask = r"
import socket
for group, port in (('224.0.0.251', 5353), ('239.255.255.250', 1900)):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.sendto(b'who?', (group, port))
    data, address = s.recvfrom(100)
    print(data.decode(), address[0])
";
    let script = nl.host.write("listen.py", listen);
    nl.ok(&format!("run -d --name device -v {}:/listen.py:ro python3 /listen.py", script.display()));
    wait_until("it listens", || nl.ok("logs device").lines().count() == 2);
    let device = nl.ip("device");
    assert_eq!(nl.python("", ask).exits(0).text(), format!("here {device}\nhere {device}"));
}

fn a_daemon_that_was_stopped_for_a_while_goes_on(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    nl.ok("run -d --name a sleep 1000");
    let client = nl.start(&format!("exec a busybox nc {FAR_IP} 9000"));
    let (mut stream, _) = listener.accept().expect("a client");
    let daemon = nl.daemon();
    // As a machine that sleeps, or is moved.
    nl.host.kill(daemon, "STOP");
    std::thread::sleep(Duration::from_secs(3));
    nl.host.kill(daemon, "CONT");
    stream.write_all(b"good morning").expect("it takes the bytes");
    client.expect("good morning");
    nl.ok("exec a getent ahostsv4 a");
    daemon_rests(nl, Duration::from_secs(1));
    drop(stream);
    client.finish().exits(0);
}
