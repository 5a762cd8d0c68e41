//! The way out when it is narrow, missing or another than before, and the ways that must not exist.

use std::{net::IpAddr, time::Duration};

use netloom_tests::{FAR_IP, FAR_IP6, Finished, HOST_IP, Netloom, Place, SERVER_IP, Who, at, wait_until};

for_both!(
    a_datagram_too_long_for_the_way_out_is_not_cut_and_its_sender_told,
    a_ping_too_long_for_the_way_out_is_not_cut_and_its_sender_told,
    a_host_without_an_uplink_is_no_error_and_one_that_comes_is_used,
    another_address_and_another_route_of_the_host_are_followed,
    the_gateway_s_address_leads_to_the_host_whatever_addresses_it_has,
    datagrams_go_on_when_the_daemon_is_killed,
    no_flow_is_left_of_connections_that_have_ended,
    no_neighbour_of_an_isolated_network_is_reached_by_the_gateway,
    no_neighbour_of_an_isolated_network_hears_what_is_sent_to_a_group,
);

/// Answers each datagram with the address that it came from, and tells its length.
const ECHO: &str = r#"
import socket, sys, threading
def serve(family, ip):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((ip, 9000))
    while True:
        data, address = s.recvfrom(65536)
        print(len(data), flush=True)
        s.sendto(address[0].encode(), address)
for family, ip in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    threading.Thread(target=serve, args=(family, ip)).start()
"#;

/// A server of [`ECHO`] outside.
fn echo(nl: &Netloom) -> netloom_tests::Running {
    let script = nl.host.write("echo.py", ECHO);
    nl.host.start(Place::Server, &format!("python3 -u {} {FAR_IP} {FAR_IP6}", script.display()))
}

/// What python prints of `script` in a container.
fn python(nl: &Netloom, container: &str, script: &str) -> Finished {
    nl.run_with_input(&format!("exec -i {container} python3 -"), script)
}

fn a_datagram_too_long_for_the_way_out_is_not_cut_and_its_sender_told(nl: &Netloom) {
    let server = echo(nl);
    nl.ok("network create --ipv6 --mtu 9000 wide");
    nl.ok("run -d --name a --net wide sleep 1000");
    // IP_MTU_DISCOVER is 10 and IP_MTU 14; of IPv6 they are 23 and 24. IP_PMTUDISC_DO is 2.
    let script = format!(
        r"
import socket, time
for family, peer, level, discover, mtu in ((socket.AF_INET, '{FAR_IP}', 0, 10, 14), (socket.AF_INET6, '{FAR_IP6}', 41, 23, 24)):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(1)
    s.connect((peer, 9000))
    for attempt in range(10):
        try:
            s.send(b'is it there?')
            s.recv(100)
            break
        except (TimeoutError, ConnectionRefusedError):
            time.sleep(0.2)
    s.setsockopt(level, discover, 2)
    s.send(bytes(4000))
    began = time.monotonic()
    while s.getsockopt(level, mtu) != 1500 and time.monotonic() - began < 10:
        time.sleep(0.01)
    print(s.getsockopt(level, mtu))
    for attempt in range(2):
        try:
            s.send(bytes(4001))
        except OSError as error:
            print(error.strerror)
    plain = socket.socket(family, socket.SOCK_DGRAM)
    plain.settimeout(10)
    plain.sendto(bytes(4002), (peer, 9000))
    print(plain.recv(100).decode())
"
    );
    let from = [HOST_IP.to_string(), netloom_tests::HOST_IP6.to_string()];
    let wanted: Vec<_> = from.iter().map(|from| format!("1500\nMessage too long\nMessage too long\n{from}")).collect();
    assert_eq!(python(nl, "a", &script).exits(0).text(), wanted.join("\n"));
    let drops = nl.json("drops wide --format json");
    assert!(drops.as_array().is_some_and(|rows| rows.iter().any(|row| row["reason"] == "gateway_too_big")), "{drops:#}");
    let heard = server.stdout_so_far();
    let lengths: Vec<_> = heard.lines().filter(|length| *length != "12").collect();
    assert_eq!(lengths, ["4002", "4002"], "what its sender wanted whole has been cut");
}

fn a_ping_too_long_for_the_way_out_is_not_cut_and_its_sender_told(nl: &Netloom) {
    // Root has a raw socket, the user a ping socket.
    if nl.who() == Who::User {
        nl.host.ok("sysctl -q -w net.ipv4.ping_group_range='0 4294967294'");
    }
    nl.ok("network create --ipv6 --mtu 9000 wide");
    nl.ok("run -d --name a --net wide sleep 1000");
    let out = nl.run(&format!("exec a ping -n -M do -s 4000 -c 2 -W 5 {FAR_IP}")).exits(1).text();
    assert!(out.contains("mtu = 1500") || out.contains("mtu=1500"), "{out}");
    nl.ok(&format!("exec a ping -n -M dont -s 4000 -c 1 -W 5 {FAR_IP}"));
    // What is longer than the path is told, and from then on cut by who sends it.
    let out = nl.run(&format!("exec a ping -n -s 4000 -c 3 -i 0.2 -W 5 {FAR_IP6}")).exits(0).text();
    assert!(out.contains("Packet too big: mtu=1500") && out.contains(" bytes from 2001:db8:9::9: icmp_seq=3 "), "{out}");
}

fn a_host_without_an_uplink_is_no_error_and_one_that_comes_is_used(nl: &Netloom) {
    nl.host.ok("ip link set eth0 down");
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run --rm busybox ping -c 1 -W 5 a");
    let connect = format!(
        "import socket\ntry:\n  print(socket.create_connection(('{FAR_IP}', 9000), 20).recv(100).decode())\nexcept OSError as e:\n  \
         print(e.strerror)\n"
    );
    assert_eq!(python(nl, "a", &connect).exits(0).text(), "Network is unreachable");
    assert_ne!(nl.run("exec a busybox nslookup -type=a nowhere.example").code, 0);
    nl.host.ok("ip link set eth0 up");
    nl.host.ok(&format!("ip route add default via {SERVER_IP}"));
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let greeter = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        std::io::Write::write_all(&mut stream, b"welcome").expect("it takes the bytes");
    });
    assert_eq!(python(nl, "a", &connect).exits(0).text(), "welcome");
    greeter.join().expect("it ends");
    // As the host was.
    nl.host.ok("ip addr add fd99::2/64 dev eth0 nodad");
    nl.host.ok("ip -6 route add default via fd99::1");
}

fn another_address_and_another_route_of_the_host_are_followed(nl: &Netloom) {
    let _server = echo(nl);
    let script = format!(
        r"
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.2)
while True:
    try:
        s.sendto(b'who am I?', ('{FAR_IP}', 9000))
        print(s.recv(100).decode(), flush=True)
    except OSError:
        pass
    time.sleep(0.05)
"
    );
    let script = nl.host.write("client.py", script);
    nl.ok(&format!("run -d --name a -v {}:/client.py:ro python3 /client.py", script.display()));
    wait_until("it is known by the host's address", || nl.ok("logs a").ends_with(&HOST_IP.to_string()));
    nl.host.ok("ip addr del 10.99.0.2/24 dev eth0");
    nl.host.ok("ip addr add 10.99.0.3/24 dev eth0");
    nl.host.ok("ip route add default via 10.99.0.77");
    wait_until("its mapping has the new address", || nl.ok("logs a").ends_with("10.99.0.3"));
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9001));
    let client = nl.start(&format!("exec a busybox nc {FAR_IP} 9001"));
    assert_eq!(listener.accept().expect("a client").1.ip(), IpAddr::from([10, 99, 0, 3]));
    client.finish().exits(0);
    // As the host was.
    nl.host.ok("ip addr del 10.99.0.3/24 dev eth0");
    nl.host.ok("ip addr add 10.99.0.2/24 dev eth0");
    nl.host.ok("ip route add default via 10.99.0.1");
}

fn the_gateway_s_address_leads_to_the_host_whatever_addresses_it_has(nl: &Netloom) {
    let listener = nl.host.listen(Place::Host, ([0, 0, 0, 0], 9000));
    let socket = nl.host.udp(Place::Host, ([0, 0, 0, 0], 9000));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.map(|mut stream| std::io::Write::write_all(&mut stream, b"welcome"));
        }
    });
    socket.set_read_timeout(None).expect("a socket takes it");
    std::thread::spawn(move || {
        let mut bytes = [0; 100];
        while let Ok((n, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..n], from);
        }
    });
    nl.ok("run -d --name a -p 8080:80 sh -c 'while :; do busybox nc -l -p 80 -e echo inside; done'");
    let ask = "import socket\nprint(socket.create_connection(('host.docker.internal', 9000), 5).recv(100).decode())\n\
               s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(5)\ns.sendto(b'word', ('host.docker.internal', 9000))\n\
               print(s.recv(100).decode())\n";
    let is_reached = |address: &str| {
        // The daemon hears of a change within a moment.
        wait_until("the host is reached", || {
            let heard = python(nl, "a", ask);
            heard.code == 0 && heard.text() == "welcome\nword"
        });
        let is_published = || nl.host.start(Place::Server, &format!("busybox nc -w 20 {address} 8080")).finish().text() == "inside";
        wait_until("its own service is reached", is_published);
    };
    is_reached("10.99.0.2");
    nl.host.ok("ip addr del 10.99.0.2/24 dev eth0");
    nl.host.ok("ip addr add 10.99.0.3/24 dev eth0");
    nl.host.ok("ip route add default via 10.99.0.1");
    is_reached("10.99.0.3");
    // As the host was.
    nl.host.ok("ip addr del 10.99.0.3/24 dev eth0");
    nl.host.ok("ip addr add 10.99.0.2/24 dev eth0");
    nl.host.ok("ip route add default via 10.99.0.1");
}

fn datagrams_go_on_when_the_daemon_is_killed(nl: &Netloom) {
    let _server = echo(nl);
    let script = format!(
        r"
import socket, threading, time
def serve():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(('0.0.0.0', 53))
    while True:
        data, client = server.recvfrom(100)
        server.sendto(client[0].encode(), client)
threading.Thread(target=serve).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.2)
while True:
    try:
        s.sendto(b'who am I?', ('{FAR_IP}', 9000))
        print('heard', s.recv(100).decode(), flush=True)
    except OSError:
        pass
    time.sleep(0.05)
"
    );
    let script = nl.host.write("client.py", script);
    nl.ok(&format!("run -d --name a -p 5353:53/udp -v {}:/client.py:ro python3 /client.py", script.display()));
    let heard = || nl.ok("logs a").lines().count();
    let client = nl.host.udp(Place::Server, (SERVER_IP, 0));
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket takes a timeout");
    let asked = || {
        let mut answer = [0; 100];
        client.send_to(b"who am I?", (HOST_IP, 5353)).is_ok() && client.recv(&mut answer).is_ok_and(|n| answer[..n] == *b"10.99.0.1")
    };
    wait_until("it is answered", || heard() > 0);
    wait_until("its publication answers", asked);
    nl.host.kill(nl.daemon(), "KILL");
    nl.ok("ps");
    let before = heard();
    wait_until("it is answered again", || heard() > before + 1);
    wait_until("its publication answers again", asked);
}

fn no_flow_is_left_of_connections_that_have_ended(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    // One end closes first, or the other, or both at once, or by a reset.
    let server = std::thread::spawn(move || {
        for at in 0..80 {
            let (mut stream, _) = listener.accept().expect("a client");
            if at % 4 == 1 {
                drop(stream);
            } else {
                let mut rest = Vec::new();
                // A reset ends it too.
                let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
            }
        }
    });
    let script = format!(
        r"
import socket, struct
for at in range(80):
    s = socket.create_connection(('{FAR_IP}', 9000), 20)
    if at % 4 == 1:
        s.recv(1)
    if at % 4 == 2:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    if at % 4 == 3:
        s.sendall(bytes(100000))
    s.close()
"
    );
    nl.ok("run -d --name a sleep 1000");
    python(nl, "a", &script).exits(0);
    server.join().expect("the server ends");
    let tcp = || nl.json("flows --json").as_array().expect("a list").iter().filter(|flow| flow["protocol"] == "tcp").count();
    wait_until("every flow has gone", || tcp() == 0);
    assert_eq!(nl.host.ok("ss -Htan state established state fin-wait-1 state fin-wait-2 state close-wait state last-ack"), "");
}

/// Two containers of an isolated network: `a` may change its own network, `b` runs a script that prints what it hears on port 7000.
fn apart(nl: &Netloom, network: &str) {
    let hear = r"
import socket, struct, threading
def hear(family, any, join):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(41, socket.IPV6_V6ONLY, 1)
    s.bind((any, 7000))
    join(s)
    print('ready', flush=True)
    while True:
        data, address = s.recvfrom(100)
        print(data.decode(), flush=True)
def join4(s):
    s.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('239.1.2.3') + bytes(4))
def join6(s):
    index = socket.if_nametoindex('eth0')
    s.setsockopt(41, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, 'ff15::123') + struct.pack('@I', index))
for family, any, join in ((socket.AF_INET, '0.0.0.0', join4), (socket.AF_INET6, '::', join6)):
    threading.Thread(target=hear, args=(family, any, join)).start()
";
    let script = nl.host.write("hear.py", hear);
    nl.ok(&format!("run -d --name a --net {network} sleep 1000"));
    nl.ok(&format!("run -d --name b --net {network} -v {}:/hear.py:ro python3 /hear.py", script.display()));
    wait_until("it listens", || nl.ok("logs b").lines().filter(|line| *line == "ready").count() == 2);
}

/// Says `word` from `a`, by socket options and to addresses given in python; nobody need hear it.
fn say(nl: &Netloom, word: &str, to: &[(&str, &str)]) {
    for (family, address) in to {
        let script = format!(
            r"
import socket
s = socket.socket(socket.{family}, socket.SOCK_DGRAM)
if s.family == socket.AF_INET6:
    s.setsockopt(41, socket.IPV6_MULTICAST_IF, socket.if_nametoindex('eth0'))
s.connect(('{address}', 7000))
for attempt in range(3):
    try:
        s.send(b'{word}')
    except OSError as error:
        print(error)
"
        );
        python(nl, "a", &script).exits(0);
    }
}

fn no_neighbour_of_an_isolated_network_is_reached_by_the_gateway(nl: &Netloom) {
    nl.ok("network create --isolated --ipv6 apart");
    apart(nl, "apart");
    let of = |container: &str, key: &str| at(&nl.inspect(container), &format!("networks.apart.{key}"));
    let (b, b6) = (of("b", "ip_address"), of("b", "ip6_address"));
    nl.ok(&format!("exec --privileged a ip route add {b}/32 via {}", of("a", "gateway")));
    nl.ok(&format!("exec --privileged a ip -6 route add {b6}/128 via {}", of("a", "gateway6")));
    assert_ne!(nl.run(&format!("exec a busybox ping -c 1 -W 1 {b}")).code, 0);
    assert_ne!(nl.run(&format!("exec a busybox ping6 -c 1 -W 1 {b6}")).code, 0);
    say(nl, "intruder", &[("AF_INET", &b), ("AF_INET6", &b6)]);
    // It hears itself, and nobody else.
    nl.ok("exec b python3 -c \"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'self', ('127.0.0.1', 7000))\"");
    wait_until("it hears itself", || nl.ok("logs b").contains("self"));
    assert!(!nl.ok("logs b").contains("intruder"));
}

fn no_neighbour_of_an_isolated_network_hears_what_is_sent_to_a_group(nl: &Netloom) {
    let groups = [("AF_INET", "239.1.2.3"), ("AF_INET6", "ff15::123")];
    nl.ok("network create --ipv6 together");
    apart(nl, "together");
    nl.ok("exec --privileged a ip route add 239.0.0.0/8 dev eth0");
    say(nl, "neighbour", &groups);
    wait_until("a neighbour is heard by both", || nl.ok("logs b").lines().filter(|line| *line == "neighbour").count() >= 6);
    nl.ok("rm -f a b");
    nl.ok("network create --isolated --ipv6 apart");
    apart(nl, "apart");
    nl.ok("exec --privileged a ip route add 239.0.0.0/8 dev eth0");
    say(nl, "intruder", &groups);
    nl.ok("exec b python3 -c \"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'self', ('127.0.0.1', 7000))\"");
    wait_until("it hears itself", || nl.ok("logs b").contains("self"));
    assert!(!nl.ok("logs b").contains("intruder"));
}
