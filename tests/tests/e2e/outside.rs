//! The way out: what a container meets in the world is what the world does, and nothing of the host's own loopback.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use netloom_tests::{FAR_IP, HOST_IP, Netloom, Place, SERVER_IP, wait_for, wait_until};

for_both!(
    the_outside_sees_the_hosts_address,
    udp_goes_out_and_comes_back,
    a_large_udp_datagram_goes_out_and_comes_back,
    a_refused_connection_is_refused_at_once,
    a_half_closed_connection_still_receives,
    urgent_data_is_data_at_its_place_both_ways,
    a_server_that_is_gone_without_a_word_is_found_out_in_the_end,
    a_silent_server_is_waited_for,
    the_gateway_answers_ping,
    a_ping_goes_out_and_its_answer_comes_back,
    a_ping_without_a_socket_for_it_is_answered,
    what_routers_say_about_a_ping_reaches_the_container,
    traceroute_by_udp_shows_the_routers,
    traceroute_and_mtr_of_linux_show_the_routers,
    dscp_and_ecn_are_kept_both_ways,
    limits_refuse_what_is_new_and_say_why,
    the_host_s_own_address_is_reachable,
    what_listens_on_the_host_is_reached_by_the_gateway_s_address_and_by_name,
    the_host_s_loopback_is_not_reachable,
    the_host_s_loopback_is_reachable_when_asked_for,
    an_internal_network_has_no_way_out,
    an_isolated_network_has_only_the_way_out,
    a_hundred_connections_at_once_go_out,
    a_container_that_takes_all_the_sockets_it_can_leaves_the_others_theirs,
);

fn the_outside_sees_the_hosts_address(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let client = nl.start(&format!("run --rm busybox nc {FAR_IP} 9000"));
    let (mut stream, from) = listener.accept().expect("a client");
    assert_eq!(from.ip(), HOST_IP);
    stream.write_all(b"welcome").expect("it takes the bytes");
    drop(stream);
    assert_eq!(client.finish().exits(0).text(), "welcome");
}

fn udp_goes_out_and_comes_back(nl: &Netloom) {
    let socket = nl.host.udp(Place::Server, (FAR_IP, 9000));
    let echo = std::thread::spawn(move || {
        let mut sources = Vec::new();
        for _ in 0..3 {
            let mut bytes = [0; 2048];
            let (n, from) = socket.recv_from(&mut bytes).expect("a datagram");
            socket.send_to(&bytes[..n], from).expect("it goes back");
            sources.push(from);
        }
        sources
    });
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(10)\n\
         for i in range(3):\n  s.sendto(b'ping%d' % i, ('{FAR_IP}', 9000))\n  d, a = s.recvfrom(2048)\n  print(d.decode(), a[0])\n"
    );
    let out = nl.python("", &script).exits(0).text();
    assert_eq!(out, format!("ping0 {FAR_IP}\nping1 {FAR_IP}\nping2 {FAR_IP}"));
    let sources = echo.join().expect("the echo ends");
    assert!(sources.iter().all(|from| *from == sources[0] && from.ip() == HOST_IP), "one inside endpoint is one outside: {sources:?}");
}

fn a_large_udp_datagram_goes_out_and_comes_back(nl: &Netloom) {
    let socket = nl.host.udp(Place::Server, (FAR_IP, 9000));
    let lengths = [1280, 1473, 9000, 65_507];
    let echo = std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        lengths.map(|_| {
            let (n, from) = socket.recv_from(&mut bytes).expect("a datagram");
            socket.send_to(&bytes[..n], from).expect("it goes back");
            n
        })
    });
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(10)\n\
         for n in {lengths:?}:\n  m = (bytes(range(256)) * 256)[:n]\n  s.sendto(m, ('{FAR_IP}', 9000))\n  d, a = s.recvfrom(65536)\n  \
         print(d == m)\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), "True\nTrue\nTrue\nTrue");
    assert_eq!(echo.join().expect("the echo ends"), lengths);
}

fn a_refused_connection_is_refused_at_once(nl: &Netloom) {
    let began = Instant::now();
    let script =
        format!("import socket\ntry:\n  socket.create_connection(('{FAR_IP}', 9), 20)\nexcept OSError as e:\n  print(type(e).__name__)\n");
    assert_eq!(nl.python("", &script).exits(0).text(), "ConnectionRefusedError");
    assert!(began.elapsed() < Duration::from_secs(5));
}

fn a_half_closed_connection_still_receives(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut question = String::new();
        stream.read_to_string(&mut question).expect("the question ends");
        stream.write_all(question.to_uppercase().as_bytes()).expect("the client takes it");
    });
    let script = format!(
        "import socket\ns = socket.create_connection(('{FAR_IP}', 9000), 10)\ns.sendall(b'question')\ns.shutdown(socket.SHUT_WR)\n\
         print(s.makefile().read())\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), "QUESTION");
    server.join().expect("the server ends");
}

fn urgent_data_is_data_at_its_place_both_ways(nl: &Netloom) {
    let talk = "for part in b'ab', b'cd', b'ef':\n  s.send(part, socket.MSG_OOB if part == b'cd' else 0)\n  time.sleep(0.1)\n\
                s.shutdown(socket.SHUT_WR)\nheard = b''\nwhile more := s.recv(100): heard += more\nprint(heard.decode(), flush=True)\n";
    let server = format!("import socket, time\nl = socket.create_server(('{FAR_IP}', 9000))\ns, _ = l.accept()\n{talk}");
    let server = nl.host.start(Place::Server, &format!("python3 -u {}", nl.host.write("server.py", server).display()));
    wait_until("it listens", || nl.host.start(Place::Server, "ss -Htln").finish().text().contains(":9000"));
    let script = format!("import socket, time\ns = socket.create_connection(('{FAR_IP}', 9000), 20)\n{talk}");
    assert_eq!(nl.python("", &script).exits(0).text(), "abcdef");
    assert_eq!(server.finish().exits(0).text(), "abcdef");
}

/// Whether a container asks itself is for its own kernel; the gateway answers that.
fn a_server_that_is_gone_without_a_word_is_found_out_in_the_end(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let client = nl.start(&format!("run --rm busybox nc {FAR_IP} 9000"));
    let (stream, _) = listener.accept().expect("a client");
    wait_until("its socket asks for it", || nl.host.ok("ss -Htno dport = :9000").contains("timer:(keepalive"));
    drop(stream);
    client.finish().exits(0);
}

fn a_silent_server_is_waited_for(nl: &Netloom) {
    // An address on the wire that nobody has: no answer, and no refusal made up.
    let script =
        "import socket\ntry:\n  socket.create_connection(('10.99.0.200', 9), 1)\nexcept OSError as e:\n  print(type(e).__name__)\n";
    assert_eq!(nl.python("", script).exits(0).text(), "TimeoutError");
}

fn the_gateway_answers_ping(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    let out = nl.ok(&format!("exec a busybox ping -c 3 -i 0.1 -W 5 {gateway}"));
    assert!(out.contains("3 packets received"), "{out}");
}

/// Lets everybody on the host have ping sockets, as most systems do.
fn allow_ping(nl: &Netloom) {
    nl.host.ok("sysctl -q -w 'net.ipv4.ping_group_range=0 2147483647'");
}

fn a_ping_goes_out_and_its_answer_comes_back(nl: &Netloom) {
    allow_ping(nl);
    nl.ok("run -d --name a sleep 1000");
    let out = nl.ok(&format!("exec a ping -c 3 -i 0.1 -W 5 -s 1000 {FAR_IP}"));
    // One of the server's 64 is the gateway's.
    assert!(out.contains("3 received") && out.contains("1008 bytes") && out.contains("ttl=63"), "{out}");
    let flows = nl.json("flows bridge --format json");
    assert!(flows.as_array().is_some_and(|rows| rows.iter().any(|row| row["protocol"] == "icmp")), "{flows:#}");
}

fn a_ping_without_a_socket_for_it_is_answered(nl: &Netloom) {
    // A new network namespace lets nobody have ping sockets; root has raw ones.
    nl.ok("run -d --name a sleep 1000");
    let out = nl.run(&format!("exec a ping -c 1 -W 5 {FAR_IP}"));
    match nl.who() {
        netloom_tests::Who::Root => assert!(out.exits(0).text().contains("1 received")),
        netloom_tests::Who::User => assert!(out.exits(1).text().contains("Packet filtered")),
    }
}

fn what_routers_say_about_a_ping_reaches_the_container(nl: &Netloom) {
    // Root has a raw socket, the user a ping socket.
    if nl.who() == netloom_tests::Who::User {
        allow_ping(nl);
    }
    nl.host.ok("ip netns exec server sysctl -q -w net.ipv4.ip_forward=1");
    nl.host.ok("ip -n server route add prohibit 192.0.2.1/32");
    nl.host.ok("ip -n server route add 192.0.2.2/32 via 10.99.0.200");
    nl.ok("run -d --name a sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    let out = nl.run("exec a ping -n -c 1 -W 5 192.0.2.1").exits(1).text();
    assert!(out.contains(&format!("From {SERVER_IP}")) && out.contains("Packet filtered"), "{out}");
    for (ttl, router) in [(1, gateway.as_str()), (2, &SERVER_IP.to_string())] {
        let out = nl.run(&format!("exec a ping -n -c 1 -W 5 -t {ttl} 192.0.2.2")).exits(1).text();
        assert!(out.contains(&format!("From {router}")) && out.contains("Time to live exceeded"), "{out}");
    }
}

fn traceroute_by_udp_shows_the_routers(nl: &Netloom) {
    nl.host.ok("ip netns exec server sysctl -q -w net.ipv4.ip_forward=1");
    nl.host.ok("ip -n server route add 192.0.2.2/32 via 10.99.0.200");
    nl.ok("run -d --name a sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    let out = nl.run("exec a busybox traceroute -n -q 1 -w 5 -m 2 192.0.2.2").text();
    assert!(out.contains(&format!(" 1  {gateway} ")) && out.contains(&format!(" 2  {SERVER_IP} ")), "{out}");
    let out = nl.run(&format!("exec a busybox traceroute -n -q 1 -w 5 -m 5 {FAR_IP}")).text();
    assert!(out.contains(&format!(" 2  {FAR_IP} ")), "{out}");
}

fn traceroute_and_mtr_of_linux_show_the_routers(nl: &Netloom) {
    allow_ping(nl);
    nl.ok("run -d --name a --cap-add NET_RAW sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    for line in [
        format!("traceroute -n -q 1 -N 1 -w 5 -m 5 {FAR_IP}"),
        format!("traceroute -n -q 1 -N 1 -w 5 -m 5 -I {FAR_IP}"),
        format!("mtr -n -r -c 1 -i 0.2 -G 1 -m 5 {FAR_IP}"),
        format!("mtr -n -r -c 1 -i 0.2 -G 1 -m 5 --udp {FAR_IP}"),
    ] {
        let out = nl.ok(&format!("exec a {line}"));
        let hops: Vec<_> =
            out.lines().filter_map(|line| line.split_whitespace().find_map(|word| word.parse::<std::net::Ipv4Addr>().ok())).collect();
        let hops = if line.starts_with("traceroute") { &hops[1..] } else { &hops[..] };
        assert_eq!(hops.iter().map(ToString::to_string).collect::<Vec<_>>(), [gateway.clone(), FAR_IP.to_string()], "{line}: {out}");
    }
}

fn dscp_and_ecn_are_kept_both_ways(nl: &Netloom) {
    // IP_RECVTOS is 13.
    let server = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.setsockopt(0, 13, 1)\ns.bind(('{FAR_IP}', 9000))\n\
         print('ready', flush=True)\nd, c, _, a = s.recvmsg(100, 100)\ns.setsockopt(0, socket.IP_TOS, 3)\ns.sendto(c[0][2][:1], a)\n"
    );
    let server = nl.host.start(Place::Server, &format!("python3 -u {}", nl.host.write("server.py", server).display()));
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.setsockopt(0, 13, 1)\ns.setsockopt(0, socket.IP_TOS, 0xb9)\n\
         s.settimeout(1)\n\
         for i in range(10):\n  s.sendto(b'x', ('{FAR_IP}', 9000))\n  try:\n    d, c, _, a = s.recvmsg(100, 100)\n    \
         print(d[0], c[0][2][0])\n    break\n  except TimeoutError: pass\n  except ConnectionRefusedError: pass\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), "185 3");
    drop(server);
}

fn limits_refuse_what_is_new_and_say_why(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    nl.ok("network create -o tcp-flows=1 -o udp-mappings=1 tight");
    nl.ok("run -d --name a --net tight sleep 1000");
    let script = format!(
        "import socket\nold = socket.create_connection(('{FAR_IP}', 9000), 20)\n\
         try:\n  socket.create_connection(('{FAR_IP}', 9000), 20)\nexcept OSError as e:\n  print(type(e).__name__)\n\
         old.sendall(b'still here')\n\
         for port in (1, 2):\n  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('{FAR_IP}', 9001)); s.send(b'x')\n"
    );
    assert_eq!(nl.run_with_input("exec -i a python3 -", script).exits(0).text(), "ConnectionRefusedError");
    let mut heard = String::new();
    listener.accept().expect("the first").0.read_to_string(&mut heard).expect("it ends");
    assert_eq!(heard, "still here");
    let drops = nl.json("drops tight --format json");
    for reason in ["gateway_flow_limit", "gateway_mapping_limit"] {
        assert!(drops.as_array().is_some_and(|rows| rows.iter().any(|row| row["reason"] == reason)), "{reason}: {drops:#}");
    }
    nl.ok("network set tight tcp-flows=100");
    let client = nl.start(&format!("exec a busybox nc {FAR_IP} 9000"));
    drop(listener.accept().expect("a limit that is raised holds at once"));
    client.finish().exits(0);
}

fn the_host_s_own_address_is_reachable(nl: &Netloom) {
    let listener = nl.host.listen(Place::Host, (HOST_IP, 9000));
    let client = nl.start(&format!("run --rm busybox nc {HOST_IP} 9000"));
    let (mut stream, _) = listener.accept().expect("a client");
    stream.write_all(b"welcome").expect("it takes the bytes");
    drop(stream);
    assert_eq!(client.finish().exits(0).text(), "welcome");
}

fn what_listens_on_the_host_is_reached_by_the_gateway_s_address_and_by_name(nl: &Netloom) {
    let listener = nl.host.listen(Place::Host, ([0, 0, 0, 0], 9000));
    let socket = nl.host.udp(Place::Host, ([0, 0, 0, 0], 9000));
    nl.ok("run -d --name a sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    for name in [gateway.as_str(), "host.netloom.internal", "host.docker.internal"] {
        let client = nl.start(&format!("exec a busybox nc {name} 9000"));
        let (mut stream, from) = listener.accept().expect("a client");
        assert_eq!(from.ip(), HOST_IP);
        stream.write_all(b"welcome").expect("it takes the bytes");
        drop(stream);
        assert_eq!(client.finish().exits(0).text(), "welcome", "{name}");
    }
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 16];
        for _ in 0..2 {
            let (n, from) = socket.recv_from(&mut bytes).expect("a datagram");
            socket.send_to(&bytes[..n], from).expect("it goes back");
        }
    });
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(10)\n\
         for to in '{gateway}', '{HOST_IP}':\n  s.sendto(b'x', (to, 9000))\n  print(s.recvfrom(16)[1][0])\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), format!("{gateway}\n{HOST_IP}"));
    echo.join().expect("the echo ends");
}

fn the_host_s_loopback_is_not_reachable(nl: &Netloom) {
    let listener = nl.host.listen(Place::Host, ([127, 0, 0, 1], 9000));
    nl.host.ok("ip addr add 198.51.100.1/32 dev lo");
    let other = nl.host.listen(Place::Host, ([198, 51, 100, 1], 9000));
    nl.ok("run -d --name a --cap-add NET_ADMIN sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    // Without a route of its own for lo, 127.0.0.1 would go out on eth0.
    for address in [gateway.as_str(), "0.0.0.0", "198.51.100.1"] {
        let tried = nl.run(&format!("exec a busybox nc -w 2 {address} 9000"));
        assert_ne!(tried.code, 0, "{address}: {tried:?}");
    }
    for listener in [listener, other] {
        listener.set_nonblocking(true).expect("a listener takes it");
        assert!(listener.accept().is_err(), "somebody came through");
    }
    nl.host.ok("ip addr del 198.51.100.1/32 dev lo");
}

fn the_host_s_loopback_is_reachable_when_asked_for(nl: &Netloom) {
    let listener = nl.host.listen(Place::Host, ([127, 0, 0, 1], 9000));
    nl.ok("run -d --name a --host-loopback sleep 1000");
    let gateway = netloom_tests::at(&nl.inspect("a"), "networks.bridge.gateway");
    let client = nl.start(&format!("exec a busybox nc {gateway} 9000"));
    let (mut stream, _) = listener.accept().expect("a client");
    stream.write_all(b"welcome").expect("it takes the bytes");
    drop(stream);
    assert_eq!(client.finish().exits(0).text(), "welcome");
}

fn an_internal_network_has_no_way_out(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    nl.ok("network create --internal quiet");
    nl.ok("run -d --name a --net quiet sleep 1000");
    nl.ok("run -d --name b --net quiet sleep 1000");
    nl.ok("exec a busybox ping -c 1 -W 5 b");
    assert_ne!(nl.run(&format!("exec a busybox nc -w 2 {FAR_IP} 9000")).code, 0);
    listener.set_nonblocking(true).expect("a listener takes it");
    assert!(listener.accept().is_err(), "somebody came through");
}

fn an_isolated_network_has_only_the_way_out(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (SERVER_IP, 9000));
    nl.ok("network create --isolated apart");
    nl.ok("run -d --name a --net apart --cap-add NET_ADMIN sleep 1000");
    nl.ok("run -d --name b --net apart sleep 1000");
    let (b, mac) = (nl.ip("b"), netloom_tests::at(&nl.inspect("b"), "networks.apart.mac_address"));
    // Who knows the MAC needs no ARP, and still does not get through.
    nl.ok(&format!("exec --privileged a ip neigh replace {b} lladdr {mac} dev eth0"));
    assert_ne!(nl.run(&format!("exec a busybox ping -c 1 -W 1 {b}")).code, 0);
    let drops = nl.json("drops apart --format json");
    assert!(drops.as_array().is_some_and(|rows| rows.iter().any(|row| row["reason"] == "isolated")), "{drops:#}");
    let client = nl.start(&format!("exec a busybox nc {SERVER_IP} 9000"));
    drop(listener.accept().expect("a client"));
    client.finish().exits(0);
}

fn a_hundred_connections_at_once_go_out(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let server = std::thread::spawn(move || {
        let mut streams: Vec<_> = (0..100).map(|_| listener.accept().expect("a client").0).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(format!("{index}\n").as_bytes()).expect("the client takes it");
        }
    });
    let script = format!(
        "import socket\nall = [socket.create_connection(('{FAR_IP}', 9000), 20) for _ in range(100)]\n\
         print(sorted(int(s.makefile().readline()) for s in all) == list(range(100)))\n"
    );
    assert_eq!(nl.python("", &script).exits(0).text(), "True");
    server.join().expect("the server ends");
}

fn a_container_that_takes_all_the_sockets_it_can_leaves_the_others_theirs(nl: &Netloom) {
    let server = nl.host.start(Place::Server, "python3 -m http.server 8080 --bind 10.99.0.1");
    // The first command's limit is its daemon's.
    let words: Vec<String> = nl.words("run -d --name greedy sleep 1000").iter().map(|word| format!("'{word}'")).collect();
    let script = nl.host.write("as-typed", format!("ulimit -n 1024\nexec {}\n", words.join(" ")));
    nl.host.start_as(nl.who(), Place::Host, &format!("sh {}", script.display())).finish().exits(0);
    let take = "import socket\n\
                for port in range(20000, 21500):\n\
                \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", port)); s.sendto(b\"x\", (\"10.99.0.1\", 9999)); s.close()\n";
    // A busy machine answers its ARP late, and of what waits for the answer Linux keeps some 250 datagrams.
    let held = wait_for("the container holds all that it may", || {
        nl.run_with_input("exec -i greedy python3 -", take).exits(0);
        nl.json("flows --format json").as_array().map(Vec::len).filter(|held| *held >= 300)
    });
    assert!(held < 500, "{held} flows");
    wait_until("the server listens", || nl.run("run --rm busybox wget -q -O /dev/null http://10.99.0.1:8080/").code == 0);
    assert_eq!(nl.ok("ps -q").lines().count(), 1);
    drop(server);
}
