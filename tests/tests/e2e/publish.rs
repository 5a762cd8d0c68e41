//! Publications: ports of the host that lead to a container.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use netloom_tests::{CLIENT_IP, HOST_IP, Netloom, Place, SERVER_IP, at, wait_until};

for_both!(
    five_hundred_parallel_requests_are_answered,
    the_server_sees_the_real_client,
    a_client_on_the_hosts_loopback_appears_as_the_gateway,
    a_client_on_the_hosts_loopback_is_answered_over_udp,
    udp_is_published_with_the_real_client,
    containers_reach_their_own_network_s_publications,
    containers_of_other_networks_and_of_isolated_ones_reach_publications,
    a_publication_listens_once_run_has_returned,
    a_range_is_published_port_by_port,
    a_range_of_a_thousand_ports_is_published_and_comes_back_with_the_daemon,
    a_range_of_a_thousand_udp_ports_costs_little,
    an_ephemeral_port_is_chosen_and_shown,
    one_host_address_alone_can_be_published,
    a_closed_port_is_a_reset,
    what_listens_on_a_container_s_loopback_alone_is_not_published,
    the_end_of_one_container_leaves_the_flows_of_another_alone,
    a_taken_port_names_its_holder,
    a_port_is_free_again_after_its_container,
    publications_of_a_running_container_change,
    what_a_stopped_container_publishes_is_not_changed,
    a_change_while_a_container_ran_is_there_after_a_restart,
    one_of_equal_publications_is_taken_back_alone,
    thousands_of_ports_published_later_come_back_with_a_restart,
    ports_are_published_together_or_not_at_all,
    an_interrupted_command_is_done_whole,
    what_was_added_is_printed_alone,
    a_publication_is_taken_back_by_what_covers_it,
    a_link_local_address_is_refused_with_its_reason,
    a_stopped_container_s_ports_come_back_with_it,
    publications_follow_the_container_from_network_to_network,
);

/// Answers every connection with the client's address; every datagram as well.
const WHO: &str = r#"
import socketserver, sys, threading
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(4096)
        body = self.client_address[0].encode()
        self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        socket.sendto(data + b" from " + self.client_address[0].encode(), self.client_address)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, request_queue_size, daemon_threads = True, 1024, True
udp = socketserver.UDPServer(("0.0.0.0", 8053), Udp)
threading.Thread(target=udp.serve_forever, daemon=True).start()
tcp = Server(("0.0.0.0", 80), Tcp)
print("ready", flush=True)
tcp.serve_forever()
"#;

/// A container named `who` that answers with the client's address.
fn who(nl: &Netloom, options: &str) {
    let script = nl.host.write("who.py", WHO);
    nl.ok(&format!("run -d --name who {options} -v {}:/who.py:ro python3 /who.py", script.display()));
    wait_until("the server is ready", || nl.ok("logs who").contains("ready"));
}

/// One request; the body of its answer.
fn get(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn host_port(port: u16) -> SocketAddr {
    (HOST_IP, port).into()
}

fn get_from(nl: &Netloom, place: Place, to: SocketAddr) -> std::io::Result<String> {
    nl.host.inside(place, || get(to))
}

fn five_hundred_parallel_requests_are_answered(nl: &Netloom) {
    who(nl, "-p 8080:80");
    let answers: Vec<_> = nl.host.inside(Place::Server, || {
        // A thread starts in the network of the one that makes it.
        let threads: Vec<_> = (0..500).map(|_| std::thread::spawn(|| get(host_port(8080)))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client ends")).collect()
    });
    let wrong: Vec<_> = answers.iter().filter(|answer| !matches!(answer, Ok(body) if *body == SERVER_IP.to_string())).take(5).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn the_server_sees_the_real_client(nl: &Netloom) {
    who(nl, "-p 8080:80");
    assert_eq!(get_from(nl, Place::Server, host_port(8080)).expect("an answer"), SERVER_IP.to_string());
    let request = format!("busybox wget -q -O - http://{HOST_IP}:8080/");
    nl.host.ok(&format!("ip -n server route change 10.99.0.0/24 dev uplink0 src {CLIENT_IP}"));
    assert_eq!(nl.host.start(Place::Server, &request).finish().text(), CLIENT_IP.to_string());
}

fn a_client_on_the_hosts_loopback_appears_as_the_gateway(nl: &Netloom) {
    who(nl, "-p 8080:80");
    let gateway = at(&nl.inspect("who"), "networks.bridge.gateway");
    for address in [SocketAddr::from(([127, 0, 0, 1], 8080)), SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 8080))] {
        assert_eq!(get_from(nl, Place::Host, address).expect("an answer"), gateway, "{address}");
    }
}

fn a_client_on_the_hosts_loopback_is_answered_over_udp(nl: &Netloom) {
    who(nl, "-p 5353:8053/udp");
    let gateway = at(&nl.inspect("who"), "networks.bridge.gateway");
    for address in [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()] {
        let socket = nl.host.udp(Place::Host, (address, 0));
        socket.send_to(b"I am", (address, 5353)).expect("it goes");
        let mut bytes = [0; 100];
        let (n, from) = socket.recv_from(&mut bytes).expect("an answer");
        assert_eq!(
            (from, String::from_utf8_lossy(&bytes[..n]).as_ref()),
            ((address, 5353).into(), format!("I am from {gateway}").as_str())
        );
    }
}

fn udp_is_published_with_the_real_client(nl: &Netloom) {
    who(nl, "-p 5353:8053/udp");
    let socket = nl.host.udp(Place::Server, (SERVER_IP, 0));
    for text in ["one", "two"] {
        socket.send_to(text.as_bytes(), host_port(5353)).expect("it goes");
        let mut bytes = [0; 2048];
        let (n, from) = socket.recv_from(&mut bytes).expect("an answer");
        assert_eq!(from, host_port(5353));
        assert_eq!(String::from_utf8_lossy(&bytes[..n]), format!("{text} from {SERVER_IP}"));
    }
}

fn containers_reach_their_own_network_s_publications(nl: &Netloom) {
    who(nl, "-p 8080:80 -p 5353:8053/udp");
    nl.ok("run -d --name other sleep 1000");
    let ask = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(10)\ns.sendto(b'I am', ('{HOST_IP}', 5353))\n\
         print(s.recv(100).decode())\n"
    );
    // One that serves it is its own client, too.
    for container in ["other", "who"] {
        assert_eq!(nl.ok(&format!("exec {container} busybox wget -q -O - http://{HOST_IP}:8080/")), HOST_IP.to_string());
        let answer = nl.run_with_input(&format!("exec -i {container} python3 -"), ask.clone()).exits(0).text();
        assert_eq!(answer, format!("I am from {HOST_IP}"), "{container}");
    }
}

fn containers_of_other_networks_and_of_isolated_ones_reach_publications(nl: &Netloom) {
    nl.ok("network create other");
    nl.ok("network create --isolated apart");
    who(nl, "--net apart -p 8080:80");
    for network in ["other", "apart", "bridge"] {
        assert_eq!(
            nl.ok(&format!("run --rm --net {network} busybox wget -q -O - http://{HOST_IP}:8080/")),
            HOST_IP.to_string(),
            "{network}"
        );
    }
}

fn a_publication_listens_once_run_has_returned(nl: &Netloom) {
    nl.ok("run -d --name a -p 8080:80 -p 8081:81/udp sleep 1000");
    nl.host.inside(Place::Server, || TcpStream::connect(host_port(8080))).expect("the port listens");
    let ports = nl.json("inspect a")[0]["ports"].clone();
    assert!(ports.as_array().is_some_and(|rows| rows.iter().any(|row| row["host_port"] == 8081 && row["protocol"] == "udp")), "{ports:#}");
    let port = nl.ok("port a");
    assert!(port.contains("80/tcp -> 0.0.0.0:8080") && port.contains("81/udp -> 0.0.0.0:8081"), "{port}");
    assert!(nl.ok("ps").contains("8080->80/tcp"));
}

fn a_range_is_published_port_by_port(nl: &Netloom) {
    nl.ok("run -d --name a -p 8000-8002:80-82 sleep 1000");
    let ports: BTreeSet<_> = nl.inspect("a")["ports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["host_port"].as_u64(), row["container_port"].as_u64()))
        .collect();
    assert_eq!(ports, BTreeSet::from([(Some(8000), Some(80)), (Some(8001), Some(81)), (Some(8002), Some(82))]));
}

fn a_range_of_a_thousand_ports_is_published_and_comes_back_with_the_daemon(nl: &Netloom) {
    let www = nl.host.make_dir("www");
    nl.host.write("www/index.html", "hello");
    let serve = "sh -c 'busybox httpd -p 8000 -h /www; exec busybox httpd -f -p 8999 -h /www'";
    nl.ok("run -d --name before sleep 1000");
    let before = nl.host.memory(&[nl.daemon(), nl.supervisor("before")]);
    nl.ok(&format!("run -d --name a -p 8000-8999:8000-8999 -v {}:/www:ro {serve}", www.display()));
    assert!(nl.inspect("a")["ports"].as_array().is_some_and(|ports| ports.len() >= 1000));
    let answers = |port| get_from(nl, Place::Server, host_port(port)).is_ok_and(|body| body == "hello");
    wait_until("both ends of the range answer", || answers(8000) && answers(8999));
    let more = nl.host.memory(&[nl.daemon(), nl.supervisor("a")]) - before;
    assert!(more < 4096, "{more} KiB for a thousand ports");
    nl.host.kill(nl.daemon(), "KILL");
    wait_until("both ends of the range answer again", || answers(8000) && answers(8999));
    let ports = nl.inspect("a")["ports"].as_array().map_or(0, Vec::len);
    assert!(ports >= 1000, "{ports} came back");
    nl.ok("rm -f a before");
    nl.ok("run --rm -p 8500:80 true");
}

fn a_range_of_a_thousand_udp_ports_costs_little(nl: &Netloom) {
    let echo = "import selectors, socket\nall = selectors.DefaultSelector()\n\
                for port in 8000, 8999:\n  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n  s.bind(('0.0.0.0', port))\n  \
                all.register(s, selectors.EVENT_READ)\nwhile True:\n  for key, _ in all.select():\n    d, a = key.fileobj.recvfrom(100)\n    \
                key.fileobj.sendto(d, a)\n";
    let script = nl.host.write("echo.py", echo);
    nl.ok("run -d --name before sleep 1000");
    let (before, processes) = (nl.host.memory(&[nl.daemon(), nl.supervisor("before")]), nl.host.processes().len());
    nl.ok(&format!("run -d --name a -p 8000-8999:8000-8999/udp -v {}:/echo.py:ro python3 /echo.py", script.display()));
    let client = nl.host.udp(Place::Server, (SERVER_IP, 0));
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    for port in [8000, 8999] {
        wait_until("it answers", || client.send_to(b"word", host_port(port)).is_ok() && client.recv(&mut [0; 100]).is_ok());
    }
    let more = nl.host.memory(&[nl.daemon(), nl.supervisor("a")]) - before;
    assert!(more < 4096, "{more} KiB for a thousand ports");
    // A container has a supervisor, an init and its command.
    wait_until("there are as many processes more", || nl.host.processes().len() == processes + 3);
}

fn an_ephemeral_port_is_chosen_and_shown(nl: &Netloom) {
    who(nl, "-p 80");
    let port = nl.inspect("who")["ports"][0]["host_port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    assert!(port >= 1024, "{port}");
    assert_eq!(get_from(nl, Place::Server, host_port(port)).expect("an answer"), SERVER_IP.to_string());
}

fn one_host_address_alone_can_be_published(nl: &Netloom) {
    who(nl, "-p 127.0.0.1:8080:80");
    assert!(get_from(nl, Place::Host, ([127, 0, 0, 1], 8080).into()).is_ok());
    assert!(get_from(nl, Place::Server, host_port(8080)).is_err());
}

fn a_closed_port_is_a_reset(nl: &Netloom) {
    nl.ok("run -d --name a -p 8080:80 sleep 1000");
    let end = nl.host.inside(Place::Server, || {
        let mut stream = TcpStream::connect(host_port(8080)).expect("the host's kernel accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.read(&mut [0; 16])
    });
    assert_eq!(end.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
}

fn what_listens_on_a_container_s_loopback_alone_is_not_published(nl: &Netloom) {
    let www = nl.host.make_dir("www");
    nl.host.write("www/index.html", "hello");
    let serve = "sh -c 'busybox httpd -p 127.0.0.1:80 -h /www; exec busybox httpd -f -p 81 -h /www'";
    nl.ok(&format!("run -d --name a -p 8080:80 -p 8081:81 -v {}:/www:ro {serve}", www.display()));
    wait_until("both listen", || {
        [80, 81].iter().all(|port| nl.run(&format!("exec a busybox wget -q -O - http://127.0.0.1:{port}/")).code == 0)
    });
    let places =
        [(Place::Server, HOST_IP.into()), (Place::Host, IpAddr::from([127, 0, 0, 1])), (Place::Host, std::net::Ipv6Addr::LOCALHOST.into())];
    for (place, address) in places {
        assert_eq!(get_from(nl, place, (address, 8081).into()).expect("an answer"), "hello", "{address}");
        let refused = get_from(nl, place, (address, 8080).into()).expect_err("nobody listens on eth0");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset, "{address}");
    }
}

fn the_end_of_one_container_leaves_the_flows_of_another_alone(nl: &Netloom) {
    nl.ok("run -d --name ends -p 8081:80 busybox httpd -f -p 80");
    nl.ok("run -d --name stays -p 8080:80 busybox nc -l -p 80 -e cat");
    let mut stream = nl.host.inside(Place::Server, || TcpStream::connect(host_port(8080)).expect("it is published"));
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut says = |word: &[u8; 4]| {
        stream.write_all(word).expect("it takes the bytes");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, word);
    };
    says(b"once");
    nl.ok("rm -f ends");
    says(b"more");
}

fn a_taken_port_names_its_holder(nl: &Netloom) {
    nl.ok("run -d --name first -p 8080:80 sleep 1000");
    let why = nl.fails("run -d --name second -p 8080:80 sleep 1000", 125);
    assert!(why.contains("8080") && why.contains("first"), "{why}");
    assert_eq!(nl.run("inspect second").code, 1, "the second container was left behind");
    // So it is where that is another network's.
    nl.ok("network create other");
    let why = nl.fails("run -d --net other -p 8000-8100:80-180 sleep 1000", 125);
    assert!(why.contains("8080") && why.contains("first"), "{why}");
    // A program of the same user's, and one that only root may look into.
    let _listener: TcpListener = nl.host.listen(Place::Host, (Ipv4Addr::UNSPECIFIED, 9090));
    let _server = nl.host.start_as(nl.host.who, Place::Host, "busybox nc -l -p 9091");
    let why = |port| nl.fails(&format!("run --rm -p {port}:80 true"), 125);
    wait_until("it listens", || nl.host.ok("ss -Htln sport = :9091").contains("9091"));
    assert!(why(9091).contains("busybox (process "), "{}", why(9091));
    let why = why(9090);
    assert!(why.contains("9090") && (why.contains("ss -lntup") || why.contains("e2e")), "{why}");
}

fn a_port_is_free_again_after_its_container(nl: &Netloom) {
    for _ in 0..3 {
        nl.ok("run -d --name a -p 8080:80 sleep 1000");
        nl.ok("rm -f a");
    }
    drop(nl.host.listen(Place::Host, (HOST_IP, 8080)));
}

fn publications_of_a_running_container_change(nl: &Netloom) {
    who(nl, "");
    assert!(get_from(nl, Place::Server, host_port(8080)).is_err());
    nl.ok("publish add who 8080:80");
    assert_eq!(get_from(nl, Place::Server, host_port(8080)).expect("an answer"), SERVER_IP.to_string());
    nl.ok("publish rm who 8080:80");
    assert!(get_from(nl, Place::Server, host_port(8080)).is_err());
    assert_eq!(nl.inspect("who")["ports"], serde_json::json!([]));
}

fn a_stopped_container_s_ports_come_back_with_it(nl: &Netloom) {
    who(nl, "-p 8080:80");
    nl.ok("stop -t 0 who");
    assert!(get_from(nl, Place::Server, host_port(8080)).is_err());
    nl.ok("start who");
    wait_until("it answers again", || get_from(nl, Place::Server, host_port(8080)).is_ok_and(|client| client == SERVER_IP.to_string()));
    let client: IpAddr = SERVER_IP.into();
    assert_eq!(get_from(nl, Place::Server, host_port(8080)).expect("an answer"), client.to_string());
}

/// `ports`, line by line.
fn ports(nl: &Netloom, container: &str) -> Vec<String> {
    nl.ok(&format!("port {container}")).lines().map(str::to_owned).collect()
}

fn what_a_stopped_container_publishes_is_not_changed(nl: &Netloom) {
    nl.ok("create --name a -p 8080:80 sleep 1000");
    for change in ["publish add a 8081:81", "publish rm a 8080:80"] {
        let why = nl.fails(change, 1);
        assert!(why.contains("`a` is not running") && why.contains("netloom start a"), "{change}: {why}");
    }
    nl.ok("start a");
    let before = ports(nl, "a");
    assert!(before.iter().any(|line| line == "80/tcp -> 0.0.0.0:8080"), "{before:?}");
    nl.ok("stop -t 0 a");
    nl.fails("publish rm a 8080:80", 1);
    nl.ok("start a");
    assert_eq!(ports(nl, "a"), before);
}

fn a_change_while_a_container_ran_is_there_after_a_restart(nl: &Netloom) {
    nl.ok("run -d --name a -p 8080:80 sleep 1000");
    nl.ok("publish add a 127.0.0.1:8081:81 127.0.0.1:8082:82");
    nl.ok("publish rm a 8080:80 8082:82");
    for again in ["restart -t 0 a", "stop -t 0 a", "start a"] {
        nl.ok(again);
        let expected: &[&str] = if again.starts_with("stop") { &[] } else { &["81/tcp -> 127.0.0.1:8081"] };
        assert_eq!(ports(nl, "a"), expected, "{again}");
    }
}

fn one_of_equal_publications_is_taken_back_alone(nl: &Netloom) {
    nl.ok("run -d --name a -p 127.0.0.1::80 -p 127.0.0.1::80 sleep 1000");
    let before = ports(nl, "a");
    let [first, second] = before.as_slice() else { panic!("{before:?}") };
    let host_port = first.rsplit_once(':').expect("an address").1;
    nl.ok(&format!("publish rm a {host_port}:80"));
    assert_eq!(ports(nl, "a"), [second.as_str()]);
    nl.ok("restart -t 0 a");
    assert_eq!(ports(nl, "a").len(), 1);
}

fn thousands_of_ports_published_later_come_back_with_a_restart(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let added = nl.ok("publish add a 127.0.0.1:20000-22999:20000-22999");
    assert_eq!(added.lines().count(), 3000);
    nl.ok("restart -t 0 a");
    assert_eq!(ports(nl, "a").len(), 3000);
    nl.ok("publish rm a 20000-22999:20000-22999");
    assert_eq!(ports(nl, "a").len(), 0);
}

fn ports_are_published_together_or_not_at_all(nl: &Netloom) {
    nl.ok("run -d --name a -p 127.0.0.1::80 sleep 1000");
    let before = ports(nl, "a");
    let holder: TcpListener = nl.host.listen(Place::Host, (Ipv4Addr::UNSPECIFIED, 9100));
    // The first is equal to what was there.
    let why = nl.fails("publish add a 127.0.0.1::80 9099-9101:80-82", 1);
    assert!(why.contains("9100") && why.contains("another program"), "{why}");
    assert_eq!(ports(nl, "a"), before);
    let why = nl.fails("publish rm a 80 9099:80", 1);
    assert!(why.contains("9099"), "{why}");
    assert_eq!(ports(nl, "a"), before);
    drop(holder);
    nl.ok("publish add a 9099-9101:80-82");
}

fn an_interrupted_command_is_done_whole(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let adding = nl.start("publish add a 127.0.0.1:20000-22999:20000-22999");
    wait_until("some are published", || !ports(nl, "a").is_empty());
    drop(adding);
    wait_until("all are published", || ports(nl, "a").len() == 3000);
    nl.ok("restart -t 0 a");
    assert_eq!(ports(nl, "a").len(), 3000);
}

fn what_was_added_is_printed_alone(nl: &Netloom) {
    nl.ok("run -d --name a -p 8080:80 sleep 1000");
    assert_eq!(nl.ok("publish add a 127.0.0.1:8081:80/TCP"), "80/tcp -> 127.0.0.1:8081");
}

fn a_publication_is_taken_back_by_what_covers_it(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let left = |added: &str, taken: &str| {
        nl.ok(&format!("publish add a {added}"));
        nl.ok(&format!("publish rm a {taken}"));
        let left = ports(nl, "a");
        // Whichever is left, for the next one.
        nl.run("publish rm a 80");
        nl.run("publish rm a 81");
        left
    };
    assert_eq!(left("0.0.0.0:8080:80 [::]:8080:80", "8080:80"), [""; 0]);
    assert_eq!(left("127.0.0.1:8080:80 [::1]:8080:80", "[::1]:8080:80"), ["80/tcp -> 127.0.0.1:8080"]);
    assert_eq!(left("127.0.0.1:8080:80 127.0.0.1:8081:80", "8080:80"), ["80/tcp -> 127.0.0.1:8081"]);
    assert_eq!(left("127.0.0.1:8080:80 127.0.0.1::80 127.0.0.1:8081:81", "80"), ["81/tcp -> 127.0.0.1:8081"]);
    // Half of what was published is not taken back.
    nl.ok("publish add a 8080:80");
    let why = nl.fails("publish rm a 0.0.0.0:8080:80", 1);
    assert!(why.contains("0.0.0.0:8080") && why.contains("every address"), "{why}");
    assert!(ports(nl, "a").contains(&"80/tcp -> 0.0.0.0:8080".to_owned()));
}

fn a_link_local_address_is_refused_with_its_reason(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let why = nl.fails("publish add a [fe80::1]:8095:80", 1);
    assert!(why.contains("[fe80::1]:8095") && why.contains("link-local"), "{why}");
}

fn publications_follow_the_container_from_network_to_network(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("network create --subnet 10.6.0.0/24 green");
    nl.ok("network create --subnet 10.7.0.0/24 --internal inner");
    who(nl, "--net blue -p 8080:80 -p 8053:8053/udp");
    let is_reached = || assert_eq!(get_from(nl, Place::Server, host_port(8080)).expect("an answer"), SERVER_IP.to_string());
    let before = nl.ok("port who");
    nl.ok("network connect green who");
    is_reached();
    nl.ok("network disconnect blue who");
    is_reached();
    assert_eq!(nl.ok("port who"), before);

    // Where none leads in, nothing listens, and that is told.
    let told = nl.run("network disconnect green who").exits(0).stderr;
    assert!(told.contains("published ports of `who`"), "{told}");
    assert!(get_from(nl, Place::Server, host_port(8080)).is_err() && nl.ok("port who").is_empty());
    nl.ok("network connect inner who");
    assert!(nl.ok("port who").is_empty());
    nl.ok("network connect blue who");
    is_reached();
    assert_eq!(nl.ok("port who"), before);

    // Somebody else may have taken the port meanwhile: then the network is not joined, and all is as it was.
    nl.ok("network disconnect blue who");
    nl.ok("run -d --name thief --net blue -p 8080:80 sleep 1000");
    let why = nl.run("network connect blue who").stderr;
    assert!(why.contains("8080") && why.contains("hint") && !nl.ok("exec who ip route").contains("default via 10.5"), "{why}");
    nl.ok("rm -f thief");
    nl.ok("network connect blue who");
    is_reached();
}
