//! IPv6 with the same standing as IPv4: addresses, the way out, publications, names, and what nobody may take.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use netloom_tests::{FAR_IP6, HOST_IP, HOST_IP6, Netloom, Place, SERVER_IP, SERVER_IP6, at, wait_until};

for_both!(
    a_network_has_the_same_prefix_whenever_it_is_made,
    a_container_has_one_address_of_its_own_and_the_gateway_as_its_router,
    an_address_asked_for_is_given_and_kept_from_others,
    containers_reach_each_other_and_the_gateway,
    the_outside_sees_the_hosts_address,
    twenty_megabytes_go_both_ways,
    a_refused_connection_is_refused_at_once,
    what_cannot_go_out_is_answered_at_once,
    udp_goes_out_and_comes_back,
    a_ping_goes_out_where_the_host_has_sockets_for_it_and_is_answered_where_not,
    what_routers_say_reaches_the_container,
    the_host_s_loopback_is_reachable_only_when_asked_for,
    an_internal_network_has_no_way_out,
    an_isolated_network_has_only_the_way_out,
    published_ports_show_the_real_client,
    a_container_without_ipv6_is_published_as_if_by_a_proxy,
    names_have_both_addresses,
    nobody_takes_anothers_address_or_is_a_router,
    a_host_without_an_address_makes_one_from_the_advertisement,
    a_network_that_cannot_be_is_refused,
    a_second_network_brings_its_addresses,
    an_ip_range_bounds_what_is_chosen,
);

fn six(nl: &Netloom) {
    nl.ok("network create --subnet fd00:20::/64 six");
}

fn ip6(nl: &Netloom, container: &str, network: &str) -> Ipv6Addr {
    at(&nl.inspect(container), &format!("networks.{network}.ip6_address")).parse().expect("an IPv6 address")
}

fn a_network_has_the_same_prefix_whenever_it_is_made(nl: &Netloom) {
    let made = |name: &str| {
        nl.ok(&format!("network create --ipv6 {name}"));
        let subnet = nl.ok(&format!("network inspect {name} --format {{{{.subnet6}}}}"));
        nl.ok(&format!("network rm {name}"));
        subnet
    };
    let first = made("six");
    assert!(first.starts_with("fd") && first.trim().ends_with("::/64"), "{first}");
    assert_eq!(made("six"), first);
    assert_ne!(made("seven"), first);
}

fn a_container_has_one_address_of_its_own_and_the_gateway_as_its_router(nl: &Netloom) {
    six(nl);
    let began = Instant::now();
    let out = nl.ok("run --rm --net six sh -c 'ip -6 -o addr show dev eth0; ip -6 route'");
    assert!(began.elapsed() < Duration::from_secs(5), "nothing waits for an address to be free");
    let addresses: Vec<_> = out.lines().filter(|line| line.contains("inet6")).collect();
    assert_eq!(addresses.len(), 2, "its own, and the link's: {out}");
    assert!(addresses.iter().any(|line| line.contains("fd00:20::2/64 scope global")), "{out}");
    assert!(addresses.iter().any(|line| line.contains("fe80::42:") && line.contains("scope link")), "{out}");
    assert!(!out.contains("tentative"), "{out}");
    assert!(out.contains("default via fd00:20::1 dev eth0"), "{out}");
    let leases = {
        nl.ok("run -d --name a --net six sleep 1000");
        nl.json("leases six --format json")
    };
    assert_eq!(leases[0]["ip6_address"], "fd00:20::3");
    assert!(nl.ok("leases six").contains("fd00:20::3") && nl.ok("network ls").contains("fd00:20::/64"));
    let network = at(&nl.inspect("a"), "networks.six.gateway6");
    assert_eq!(network, "fd00:20::1");
}

fn an_address_asked_for_is_given_and_kept_from_others(nl: &Netloom) {
    six(nl);
    nl.ok("run -d --name a --net six --ip6 fd00:20::99 sleep 1000");
    assert_eq!(ip6(nl, "a", "six").to_string(), "fd00:20::99");
    for (wanted, why) in [("fd00:20::99", "in use"), ("fd00:20::1", "gateway"), ("fd00:21::1", "not in"), ("fd00:20::", "network address")]
    {
        let refused = nl.run(&format!("run --rm --net six --ip6 {wanted} true"));
        assert!(refused.code == 125 && refused.stderr.contains(why), "{wanted}: {refused:?}");
    }
    let refused = nl.run("run --rm --ip6 fd00:20::9 true");
    assert!(refused.code == 125 && refused.stderr.contains("no IPv6"), "{refused:?}");
    nl.ok("stop -t 0 a");
    nl.ok("start a");
    assert_eq!(ip6(nl, "a", "six").to_string(), "fd00:20::99");
}

fn containers_reach_each_other_and_the_gateway(nl: &Netloom) {
    six(nl);
    nl.ok("run -d --name a --net six sleep 1000");
    nl.ok("run -d --name b --net six sleep 1000");
    for to in [ip6(nl, "b", "six").to_string(), "fd00:20::1".to_owned(), "b".to_owned()] {
        let out = nl.ok(&format!("exec a busybox ping6 -c 2 -i 0.1 -W 5 {to}"));
        assert!(out.contains("2 packets received"), "{out}");
    }
}

fn the_outside_sees_the_hosts_address(nl: &Netloom) {
    six(nl);
    let listener = nl.host.listen(Place::Server, (FAR_IP6, 9000));
    let client = nl.start(&format!("run --rm --net six busybox nc {FAR_IP6} 9000"));
    let (mut stream, from) = listener.accept().expect("a client");
    assert_eq!(from.ip(), HOST_IP6);
    stream.write_all(b"welcome").expect("it takes the bytes");
    drop(stream);
    assert_eq!(client.finish().exits(0).text(), "welcome");
}

fn twenty_megabytes_go_both_ways(nl: &Netloom) {
    six(nl);
    let listener = nl.host.listen(Place::Server, (FAR_IP6, 9000));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("everything comes");
        stream.write_all(&all).expect("everything goes back");
        all.len()
    });
    let script = format!(
        "import hashlib, os, socket\ns = socket.create_connection(('{FAR_IP6}', 9000), 20)\ndata = os.urandom(1 << 20) * 20\n\
         s.sendall(data)\ns.shutdown(socket.SHUT_WR)\nback = b''.join(iter(lambda: s.recv(1 << 20), b''))\n\
         print(hashlib.sha256(back).digest() == hashlib.sha256(data).digest())\n"
    );
    assert_eq!(nl.python("--net six", &script).exits(0).text(), "True");
    assert_eq!(server.join().expect("the server ends"), 20 << 20);
}

fn a_refused_connection_is_refused_at_once(nl: &Netloom) {
    six(nl);
    let script =
        format!("import socket\ntry:\n  socket.create_connection(('{FAR_IP6}', 9), 20)\nexcept OSError as e:\n  print(type(e).__name__)\n");
    let began = Instant::now();
    assert_eq!(nl.python("--net six", &script).exits(0).text(), "ConnectionRefusedError");
    assert!(began.elapsed() < Duration::from_secs(5));
}

fn what_cannot_go_out_is_answered_at_once(nl: &Netloom) {
    six(nl);
    nl.host.ok("ip -6 route add unreachable 2001:db8:dead::/48");
    let script = "import errno, socket\ntry:\n  socket.create_connection(('2001:db8:dead::1', 9), 20)\n\
                  except OSError as e:\n  print(errno.errorcode[e.errno])\n";
    let began = Instant::now();
    assert_eq!(nl.python("--net six", script).exits(0).text(), "EHOSTUNREACH");
    assert!(began.elapsed() < Duration::from_secs(10));
    nl.host.ok("ip -6 route del unreachable 2001:db8:dead::/48");
}

fn udp_goes_out_and_comes_back(nl: &Netloom) {
    six(nl);
    let socket = nl.host.udp(Place::Server, (FAR_IP6, 9000));
    let echo = std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        for _ in 0..5 {
            let (n, from) = socket.recv_from(&mut bytes).expect("a datagram");
            assert_eq!(from.ip(), HOST_IP6);
            socket.send_to(&bytes[..n], from).expect("it goes back");
        }
    });
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\ns.settimeout(10)\n\
         for size in (0, 5, 1400, 9000, 65507):\n  s.sendto(bytes(size), ('{FAR_IP6}', 9000))\n  d, a = s.recvfrom(65536)\n  print(len(d), a[0])\n"
    );
    let out = nl.python("--net six", &script).exits(0).text();
    assert_eq!(out, format!("0 {FAR_IP6}\n5 {FAR_IP6}\n1400 {FAR_IP6}\n9000 {FAR_IP6}\n65507 {FAR_IP6}"));
    echo.join().expect("the echo ends");
}

fn a_ping_goes_out_where_the_host_has_sockets_for_it_and_is_answered_where_not(nl: &Netloom) {
    six(nl);
    nl.ok("run -d --name a --net six sleep 1000");
    // A new network namespace lets nobody have ping sockets; root has raw ones.
    let out = nl.run(&format!("exec a ping -n -c 1 -W 5 {FAR_IP6}"));
    match nl.who() {
        netloom_tests::Who::Root => assert!(out.exits(0).text().contains("1 received")),
        netloom_tests::Who::User => assert!(out.exits(1).text().contains("Administratively prohibited")),
    }
    nl.host.ok("sysctl -q -w 'net.ipv4.ping_group_range=0 2147483647'");
    let out = nl.ok(&format!("exec a ping -n -c 3 -i 0.1 -W 5 -s 4000 {FAR_IP6}"));
    // One of the server's 64 is the gateway's.
    assert!(out.contains("3 received") && out.contains("4008 bytes") && out.contains("ttl=63"), "{out}");
}

fn what_routers_say_reaches_the_container(nl: &Netloom) {
    six(nl);
    if nl.who() == netloom_tests::Who::User {
        nl.host.ok("sysctl -q -w 'net.ipv4.ping_group_range=0 2147483647'");
    }
    nl.host.ok("ip netns exec server sysctl -q -w net.ipv6.conf.all.forwarding=1");
    nl.host.ok("ip -n server -6 route add prohibit 2001:db8:5::1/128");
    nl.host.ok("ip -n server -6 route add 2001:db8:5::2/128 via fd99::200");
    nl.ok("run -d --name a --net six sleep 1000");
    let out = nl.run("exec a ping -n -c 1 -W 5 2001:db8:5::1").exits(1).text();
    assert!(out.contains(&format!("From {SERVER_IP6}")) && out.contains("Administratively prohibited"), "{out}");
    for (ttl, router) in [(1, "fd00:20::1"), (2, "fd99::1")] {
        let out = nl.run(&format!("exec a ping -n -c 1 -W 5 -t {ttl} 2001:db8:5::2")).exits(1).text();
        assert!(out.contains(&format!("From {router}")) && out.contains("Hop limit"), "{out}");
    }
    // By UDP.
    let out = nl.run("exec a busybox traceroute -6 -n -q 1 -w 5 -m 2 2001:db8:5::2").text();
    assert!(out.contains(" 1  fd00:20::1 ") && out.contains(" 2  fd99::1 "), "{out}");
}

fn the_host_s_loopback_is_reachable_only_when_asked_for(nl: &Netloom) {
    let listener = nl.host.listen(Place::Host, (Ipv6Addr::LOCALHOST, 9000));
    let both = nl.host.listen(Place::Host, ([127, 0, 0, 1], 9001));
    nl.host.ok("ip -6 addr add 2001:db8:1::1/128 dev lo nodad");
    let other = nl.host.listen(Place::Host, ("2001:db8:1::1".parse::<Ipv6Addr>().expect("an address"), 9000));
    six(nl);
    nl.ok("run -d --name a --net six sleep 1000");
    for address in ["fd00:20::1 9000", "2001:db8:1::1 9000", ":: 9000", "::ffff:127.0.0.1 9001"] {
        let tried = nl.run(&format!("exec a busybox nc -w 2 {address}"));
        assert_ne!(tried.code, 0, "{address}: {tried:?}");
    }
    // By way of the gateway, whatever the container's own routes say.
    nl.ok("exec --privileged a sh -c 'ip -6 route add ::ffff:0:0/96 via fd00:20::1 dev eth0 && ip -6 route add 2001:db8:1::1 via fd00:20::1 dev eth0'");
    assert_ne!(nl.run("exec a busybox nc -w 2 2001:db8:1::1 9000").code, 0);
    for listener in [&listener, &both, &other] {
        listener.set_nonblocking(true).expect("a listener takes it");
        assert!(listener.accept().is_err(), "somebody came through");
    }
    listener.set_nonblocking(false).expect("a listener takes it");
    nl.ok("run -d --name b --net six --host-loopback sleep 1000");
    let client = nl.start("exec b busybox nc fd00:20::1 9000");
    let (mut stream, _) = listener.accept().expect("a client");
    stream.write_all(b"welcome").expect("it takes the bytes");
    drop(stream);
    assert_eq!(client.finish().exits(0).text(), "welcome");
    nl.host.ok("ip -6 addr del 2001:db8:1::1/128 dev lo");
}

fn an_internal_network_has_no_way_out(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP6, 9000));
    nl.ok("network create --internal --ipv6 quiet");
    nl.ok("run -d --name a --net quiet sleep 1000");
    nl.ok("run -d --name b --net quiet sleep 1000");
    let b = ip6(nl, "b", "quiet");
    nl.ok(&format!("exec a busybox ping6 -c 1 -W 5 {b}"));
    assert_ne!(nl.run(&format!("exec a busybox nc -w 2 {FAR_IP6} 9000")).code, 0);
    assert_ne!(nl.run(&format!("exec a busybox ping6 -c 1 -W 1 {FAR_IP6}")).code, 0);
    listener.set_nonblocking(true).expect("a listener takes it");
    assert!(listener.accept().is_err(), "somebody came through");
}

fn an_isolated_network_has_only_the_way_out(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (SERVER_IP6, 9000));
    nl.ok("network create --isolated --ipv6 apart");
    nl.ok("run -d --name a --net apart sleep 1000");
    nl.ok("run -d --name b --net apart sleep 1000");
    let (b, mac) = (ip6(nl, "b", "apart"), at(&nl.inspect("b"), "networks.apart.mac_address"));
    assert_ne!(nl.run(&format!("exec a busybox ping6 -c 1 -W 1 {b}")).code, 0);
    nl.ok(&format!("exec --privileged a ip -6 neigh replace {b} lladdr {mac} dev eth0"));
    assert_ne!(nl.run(&format!("exec a busybox ping6 -c 1 -W 1 {b}")).code, 0);
    let heard = nl.run("exec a busybox ping6 -c 2 -i 0.2 -W 1 -I eth0 ff02::1");
    assert!(!heard.text().contains(&b.to_string()), "{heard:?}");
    let client = nl.start(&format!("exec a busybox nc {SERVER_IP6} 9000"));
    drop(listener.accept().expect("a client"));
    client.finish().exits(0);
}

/// Answers every connection and every datagram with the client's address.
const WHO: &str = r#"
import socket, threading
def tcp(family, any):
    server = socket.create_server((any, 80), family=family)
    while True:
        client, address = server.accept()
        client.sendall(address[0].encode())
        client.close()
def udp(family, any):
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((any, 53))
    while True:
        data, address = server.recvfrom(2048)
        server.sendto(address[0].encode(), address)
threads = []
for family, any in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for serve in (tcp, udp):
        threads.append(threading.Thread(target=serve, args=(family, any)))
        threads[-1].start()
print("ready", flush=True)
"#;

fn who(nl: &Netloom, options: &str) {
    let script = nl.host.write("who.py", WHO);
    nl.ok(&format!("run -d --name who {options} -p 8080:80 -p 5353:53/udp -v {}:/who.py:ro python3 /who.py", script.display()));
    wait_until("the server is ready", || nl.ok("logs who").contains("ready"));
}

/// Who the container sees when somebody in `place` connects to `to`.
fn seen(nl: &Netloom, place: Place, to: SocketAddr) -> String {
    nl.host.inside(place, || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(20)).expect("the port listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes a timeout");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    })
}

fn published_ports_show_the_real_client(nl: &Netloom) {
    six(nl);
    who(nl, "--net six");
    let gateway = at(&nl.inspect("who"), "networks.six.gateway");
    let to = |ip: std::net::IpAddr| SocketAddr::new(ip, 8080);
    assert_eq!(seen(nl, Place::Server, to(HOST_IP6.into())), SERVER_IP6.to_string());
    assert_eq!(seen(nl, Place::Server, to(HOST_IP.into())), SERVER_IP.to_string());
    assert_eq!(seen(nl, Place::Host, to(Ipv6Addr::LOCALHOST.into())), "fd00:20::1");
    assert_eq!(seen(nl, Place::Host, to([127, 0, 0, 1].into())), gateway);
    let socket = nl.host.udp(Place::Server, (SERVER_IP6, 0));
    socket.send_to(b"who", (HOST_IP6, 5353)).expect("it goes");
    let mut bytes = [0; 2048];
    let (n, from) = socket.recv_from(&mut bytes).expect("an answer");
    assert_eq!((from, &bytes[..n]), ((HOST_IP6, 5353).into(), SERVER_IP6.to_string().as_bytes()));
    nl.ok("rm -f who");
    who(nl, "--net six -p [::1]:8081:80");
    assert_eq!(seen(nl, Place::Host, (Ipv6Addr::LOCALHOST, 8081).into()), "fd00:20::1");
    assert!(nl.ok("port who").contains("[::1]:8081"));
    let refused = nl.host.inside(Place::Server, || TcpStream::connect((HOST_IP6, 8081)));
    assert!(refused.is_err(), "one address alone is published");
}

fn a_container_without_ipv6_is_published_as_if_by_a_proxy(nl: &Netloom) {
    who(nl, "");
    let gateway = at(&nl.inspect("who"), "networks.bridge.gateway");
    assert_eq!(seen(nl, Place::Server, (HOST_IP6, 8080).into()), gateway);
    let socket = nl.host.udp(Place::Server, (SERVER_IP6, 0));
    socket.send_to(b"who", (HOST_IP6, 5353)).expect("it goes");
    let mut bytes = [0; 2048];
    let (n, from) = socket.recv_from(&mut bytes).expect("an answer");
    assert_eq!((from, &bytes[..n]), ((HOST_IP6, 5353).into(), gateway.as_bytes()));
}

fn names_have_both_addresses(nl: &Netloom) {
    six(nl);
    nl.ok("run -d --name web --net six sleep 1000");
    let (ip, ip6) = (nl.ip("web"), ip6(nl, "web", "six"));
    let script = format!(
        "import socket\nprint(sorted({{i[4][0] for i in socket.getaddrinfo('web', 80)}}))\n\
         print(socket.gethostbyaddr('{ip6}')[0], socket.gethostbyaddr('{ip}')[0])\n"
    );
    let out = nl.python("--net six", &script).exits(0).text();
    assert_eq!(out, format!("['{ip}', '{ip6}']\nweb web"));
    assert!(nl.ok("exec web cat /etc/hosts").contains(&ip6.to_string()));
    // The resolver answers over IPv6 as well.
    let query = "import socket, struct\ns = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\ns.settimeout(10)\n\
                 s.sendto(b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3web\\0\\0\\x1c\\0\\1', ('fd00:20::1', 53))\n\
                 print(socket.inet_ntop(socket.AF_INET6, s.recv(512)[-16:]))\n";
    assert_eq!(nl.python("--net six", query).exits(0).text(), ip6.to_string());
}

fn nobody_takes_anothers_address_or_is_a_router(nl: &Netloom) {
    six(nl);
    nl.ok("run -d --name a --net six sleep 1000");
    nl.ok("run -d --name b --net six sleep 1000");
    let a = ip6(nl, "a", "six");
    nl.ok(&format!("exec b busybox ping6 -c 1 -W 5 {a}"));
    // A neighbour advertisement for another's address and for the gateway's, a router advertisement, a redirect.
    let script = format!(
        "import socket, struct\n\
         ip = lambda text: socket.inet_pton(socket.AF_INET6, text)\n\
         mac = lambda text: bytes.fromhex(text.replace(':', ''))\n\
         own = mac(open('/sys/class/net/eth0/address').read().strip())\n\
         raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nraw.bind(('eth0', 0))\n\
         def send(source, message):\n\
         \x20 to = ip('ff02::1')\n\
         \x20 data = source + to + struct.pack('>II', len(message), 58) + message\n\
         \x20 total = sum(struct.unpack('>%dH' % (len(data) // 2), data))\n\
         \x20 total = (total & 0xffff) + (total >> 16); total = (total & 0xffff) + (total >> 16)\n\
         \x20 message = message[:2] + struct.pack('>H', ~total & 0xffff) + message[4:]\n\
         \x20 header = struct.pack('>IHBB', 6 << 28, len(message), 58, 255)\n\
         \x20 raw.send(mac('33:33:00:00:00:01') + own + b'\\x86\\xdd' + header + source + to + message)\n\
         for target in ('{a}', 'fd00:20::1'):\n\
         \x20 send(ip(target), struct.pack('>BBHI', 136, 0, 0, 0x20000000) + ip(target) + b'\\2\\1' + own)\n\
         send(ip('fe80::bad'), struct.pack('>BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0))\n\
         send(ip('fe80::bad'), struct.pack('>BBHI', 137, 0, 0, 0) + ip('fe80::bad') + ip('2001:db8::1'))\n"
    );
    let file = nl.host.write("spoof.py", script);
    nl.ok(&format!("run -d --name c --net six --cap-add NET_RAW -v {}:/spoof.py:ro sleep 1000", file.display()));
    nl.ok("exec c python3 /spoof.py");
    let dropped = |reason: &str| {
        let drops = nl.json("drops six --format json");
        let rows = drops.as_array().into_iter().flatten().filter(|row| row["reason"] == reason && row["container"] == "c");
        rows.filter_map(|row| row["frames"].as_u64()).sum::<u64>()
    };
    wait_until("all four are dropped", || [dropped("spoofed_source"), dropped("rogue_advertisement")] == [2, 2]);
    let out = nl.ok("exec b ip -6 neigh show");
    let true_mac = at(&nl.inspect("a"), "networks.six.mac_address");
    assert!(out.lines().any(|line| line.contains(&a.to_string()) && line.contains(&true_mac)), "{out}");
    nl.ok(&format!("exec b busybox ping6 -c 1 -W 5 {a}"));
    nl.ok("exec b busybox ping6 -c 1 -W 5 fd00:20::1");
}

fn a_host_without_an_address_makes_one_from_the_advertisement(nl: &Netloom) {
    six(nl);
    let server = nl.host.listen(Place::Server, (FAR_IP6, 9000));
    nl.ok("run -d --name a --net six --privileged sleep 1000");
    nl.ok(
        "exec --privileged a sh -c 'ip -6 addr flush dev eth0 scope global; ip -6 route flush default; cd /proc/sys/net/ipv6/conf/eth0; \
         echo 1 > autoconf; echo 1 > accept_ra_defrtr; echo 1 > accept_ra_pinfo; echo 1 > accept_ra; ip link set eth0 down; ip link set eth0 up'",
    );
    wait_until("an address was made", || {
        let out = nl.ok("exec a ip -6 -o addr show dev eth0 scope global");
        out.contains("fd00:20::42:") && !out.contains("tentative")
    });
    let routes = nl.ok("exec a ip -6 route show default");
    assert!(routes.contains("via fe80::42:") && routes.contains("proto ra"), "{routes}");
    let client = nl.start(&format!("exec a busybox nc {FAR_IP6} 9000"));
    drop(server.accept().expect("a client"));
    client.finish().exits(0);
}

fn a_network_that_cannot_be_is_refused(nl: &Netloom) {
    for (options, why) in [
        ("--subnet fd00:20::/64 --subnet fd00:21::/64", "said twice"),
        ("--subnet fe80::/64", "cannot be the subnet"),
        ("--subnet ff02::/64", "cannot be the subnet"),
        ("--subnet fd00:20::/128", "cannot be the subnet"),
        ("--subnet fd00:20::/64 --gateway fd00:21::1", "not in"),
        ("--ipv6 --gateway none --gateway fd00::1", "without one"),
        ("--ipv6 --mtu 1279", "no MTU for IPv6"),
    ] {
        let refused = nl.run(&format!("network create {options} six"));
        assert!(refused.code != 0 && refused.stderr.contains(why), "{options}: {refused:?}");
    }
    nl.ok("network create --subnet 10.77.0.0/24 --subnet fd00:77::/64 --gateway 10.77.0.9 --gateway fd00:77::9 both");
    assert_eq!(
        nl.ok("network inspect both --format '{{.gateway}} {{.gateway6}} {{.subnet}} {{.subnet6}}'"),
        "10.77.0.9 fd00:77::9 10.77.0.0/24 fd00:77::/64"
    );
}

fn a_second_network_brings_its_addresses(nl: &Netloom) {
    six(nl);
    nl.ok("network create --subnet fd00:30::/64 more");
    nl.ok("run -d --name a --net six sleep 1000");
    nl.ok("network connect --ip6 fd00:30::33 more a");
    assert_eq!(ip6(nl, "a", "more").to_string(), "fd00:30::33");
    let out = nl.ok("exec a ip -6 -o addr show dev eth1 scope global");
    assert!(out.contains("fd00:30::33/64"), "{out}");
    nl.ok("exec a busybox ping6 -c 1 -W 5 fd00:30::1");
    let routes = nl.ok("exec a ip -6 route show default");
    assert_eq!(routes.lines().count(), 1, "{routes}");
    nl.ok("network create --subnet fd00:20::/80 overlap");
    let refused = nl.run("network connect overlap a");
    assert!(refused.code != 0 && refused.stderr.contains("overlap"), "{refused:?}");
}

fn an_ip_range_bounds_what_is_chosen(nl: &Netloom) {
    nl.ok("network create --subnet fd00:20::/64 --ip-range fd00:20::8:0/127 six");
    for (name, expected) in [("a", "fd00:20::8:0"), ("b", "fd00:20::8:1")] {
        nl.ok(&format!("run -d --name {name} --net six sleep 1000"));
        assert_eq!(ip6(nl, name, "six").to_string(), expected);
    }
    assert!(nl.fails("run --rm --net six true", 125).contains("no address left in fd00:20::8:0/127"));
    nl.ok("run --rm --net six --ip6 fd00:20::100 true");
    assert_eq!(nl.ok("network inspect six --format {{.ip_range6}}"), "fd00:20::8:0/127");
    assert!(nl.fails("network create --subnet fd00:21::/64 --ip-range fd00:22::/80 far", 2).contains("fd00:22::/80"));
}
