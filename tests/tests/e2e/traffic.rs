//! Real programs on real networks: between containers and out to the world.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use netloom_tests::{FAR_IP, Netloom, Place, SERVER_IP, wait_until};

for_both!(
    a_web_server_answers_by_address_and_by_name,
    iperf3_between_containers_both_ways,
    iperf3_through_the_nat_both_ways,
    a_stream_to_the_gateway_is_not_paced_unless_that_was_chosen,
    a_gigabyte_goes_out_unchanged,
    a_gigabyte_comes_in_unchanged,
    real_programs_run_on_the_copy_on_write_root,
    checksums_are_never_wrong_at_a_receiver,
    a_connection_goes_on_after_a_long_silence,
    two_busy_containers_do_not_share_a_worker_while_another_idles,
    there_are_as_many_workers_as_were_asked_for,
);

/// A web server named `web` with one page.
fn web(nl: &Netloom) -> String {
    let www = nl.host.make_dir("www");
    nl.host.write("www/index.html", "hello from web");
    nl.ok(&format!("run -d --name web -v {}:/www:ro busybox httpd -f -p 80 -h /www", www.display()));
    nl.ip("web")
}

fn a_web_server_answers_by_address_and_by_name(nl: &Netloom) {
    let address = web(nl);
    for name in [address.as_str(), "web"] {
        wait_until("the server answers", || nl.run(&format!("run --rm busybox wget -q -O - http://{name}/")).text() == "hello from web");
    }
}

fn iperf3_between_containers_both_ways(nl: &Netloom) {
    nl.ok("run -d --name server iperf3 -s");
    wait_until("it listens", || nl.run("exec server ss -Htln").text().contains(":5201"));
    for direction in ["", "--reverse"] {
        let result = nl.json(&format!("run --rm iperf3 -c server -t 1 -J {direction}"));
        let rate = result["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default();
        assert!(rate > 1e8, "{rate} bit/s {direction}");
        netloom_tests::report(&format!("{:?}: TCP between containers {direction}: {:.1} Gbit/s", nl.who(), rate / 1e9));
    }
    let udp = nl.json("run --rm iperf3 -c server -u -b 10M -t 1 -J");
    let lost = udp["end"]["sum"]["lost_percent"].as_f64().unwrap_or(100.0);
    // On a busy machine the receiver sleeps too long for its socket's buffer; what the switch dropped would be counted.
    assert!(lost < 30.0, "{lost} % of UDP datagrams were lost");
}

fn iperf3_through_the_nat_both_ways(nl: &Netloom) {
    let _server = nl.host.start(Place::Server, "iperf3 -s");
    wait_until("it listens", || nl.host.inside(Place::Server, || TcpStream::connect((SERVER_IP, 5201)).is_ok()));
    for direction in ["", "--reverse"] {
        let result = nl.json(&format!("run --rm iperf3 -c {FAR_IP} -t 1 -J {direction}"));
        let rate = result["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default();
        assert!(rate > 1e8, "{rate} bit/s {direction}");
        netloom_tests::report(&format!("{:?}: TCP through the gateway {direction}: {:.1} Gbit/s", nl.who(), rate / 1e9));
    }
}

fn a_stream_to_the_gateway_is_not_paced_unless_that_was_chosen(nl: &Netloom) {
    // New network namespaces begin with the machine's.
    let machine = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").expect("a congestion control");
    let machine = machine.trim();
    let _server = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let ask = format!(
        "import socket as s; print(s.create_connection((\"{FAR_IP}\", 9000)).getsockopt(6, s.TCP_CONGESTION, 16).decode().strip(chr(0)))"
    );
    let begins_with = |options: &str| nl.ok(&format!("run --rm {options} python3 -c '{ask}'"));
    assert_eq!(begins_with(""), if machine.starts_with("bbr") { "cubic" } else { machine });
    assert_eq!(begins_with(&format!("--sysctl net.ipv4.tcp_congestion_control={machine}")), machine);
    assert_eq!(begins_with("--sysctl net/ipv4/tcp_congestion_control=reno"), "reno");
    nl.ok("network create --ipv6 six");
    let way = nl.ok("run --rm --net six ip -6 route show default");
    assert_eq!(way.contains("congctl cubic"), machine.starts_with("bbr"), "{way}");
    nl.ok("run -d --name other busybox httpd -f -p 9000");
    let other = ask.replace(&FAR_IP.to_string(), "other");
    wait_until("it listens", || nl.run(&format!("run --rm python3 -c '{other}'")).text() == machine);
}

const GIGABYTE: usize = 1 << 30;

/// A gigabyte that repeats nowhere soon, in pieces.
fn pieces() -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        let mut piece = Vec::with_capacity(1 << 20);
        while piece.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        piece
    })
    .take(GIGABYTE >> 20)
}

/// The SHA-256 of what `feed` writes, by the system's own program.
fn sha256(feed: impl FnOnce(&mut dyn Write)) -> String {
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum starts");
    let mut input = sum.stdin.take().expect("a pipe");
    feed(&mut input);
    drop(input);
    let out = sum.wait_with_output().expect("sha256sum ends");
    String::from_utf8(out.stdout).expect("text")[..64].to_owned()
}

fn a_gigabyte_goes_out_unchanged(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let script = format!("yes 0123456789abcdef | head -c {GIGABYTE} | busybox nc {FAR_IP} 9000");
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut total = 0;
        let sum = sha256(|sink| {
            let mut piece = vec![0; 1 << 20];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                sink.write_all(&piece[..n]).expect("sha256sum takes it");
                total += n;
            }
        });
        (total, sum)
    });
    nl.ok(&format!("run --rm sh -c '{script}'"));
    let (total, sum) = received.join().expect("the server ends");
    assert_eq!(total, GIGABYTE);
    let sent = sha256(|sink| {
        let line = b"0123456789abcdef\n".repeat(1 << 16);
        let mut left = GIGABYTE;
        while left > 0 {
            let n = left.min(line.len());
            sink.write_all(&line[..n]).expect("sha256sum takes it");
            left -= n;
        }
    });
    assert_eq!(sum, sent);
}

fn a_gigabyte_comes_in_unchanged(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        sha256(|sink| {
            for piece in pieces() {
                stream.write_all(&piece).expect("the client takes it");
                sink.write_all(&piece).expect("sha256sum takes it");
            }
        })
    });
    let seen = nl.ok(&format!("run --rm sh -c 'busybox nc {FAR_IP} 9000 < /dev/null | sha256sum'"));
    assert_eq!(seen[..64], served.join().expect("the server ends"));
}

fn real_programs_run_on_the_copy_on_write_root(nl: &Netloom) {
    assert!(nl.ok("run --rm apt-get --version").starts_with("apt "));
    let commit =
        "cd /root && git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first && git log --format=%s";
    assert_eq!(nl.ok(&format!("run --rm sh -c '{commit}'")), "first");
    assert_eq!(nl.ok("run --rm python3 -c 'import ssl, sqlite3; print(6 * 7)'"), "42");
    assert_eq!(nl.ok("run --rm sh -c 'vim -es -u NONE +\"normal ihello\" +wq /root/f < /dev/null; cat /root/f'"), "hello");
}

/// What a capture at a receiver shows must be right even where its kernel would not look again.
fn checksums_are_never_wrong_at_a_receiver(nl: &Netloom) {
    nl.ok("run -d --name server iperf3 -s");
    wait_until("it listens", || nl.run("exec server ss -Htln").text().contains(":5201"));
    nl.ok("run --rm iperf3 -c server -n 8M");
    nl.ok("run --rm iperf3 -c server -u -b 50M -n 2M");
    let counters = nl.ok("exec server cat /proc/net/snmp");
    for protocol in ["Tcp", "Udp"] {
        let mut rows = counters.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let errors = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "InCsumErrors").expect("a counter");
        assert_eq!(errors.1, "0", "{protocol}: {counters}");
    }
}

fn a_connection_goes_on_after_a_long_silence(nl: &Netloom) {
    // Longer than a flow keeps its buffers. On one connection the container speaks first after it, on the other the server does.
    const SERVER: &str = r#"
import socket, threading, time
listener = socket.create_server(("0.0.0.0", 7000))
def serve(connection):
    connection.sendall(connection.recv(1))
    time.sleep(7)
    connection.sendall(b"s" * 300000)
    while data := connection.recv(65536):
        connection.sendall(data)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;
    const CLIENT: &str = r#"
import socket, sys, time
def take(connection, count):
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data)) or sys.exit("hung up")
    return data
both = [socket.create_connection((sys.argv[1], 7000)) for _ in range(2)]
for connection in both:
    connection.sendall(b"x")
    assert take(connection, 1) == b"x"
first, second = both
assert take(first, 300000) == b"s" * 300000
time.sleep(7)
second.sendall(b"c" * 300000)
assert take(second, 600000) == b"s" * 300000 + b"c" * 300000
print("all of it")
"#;
    let (server, client) = (nl.host.write("server.py", SERVER), nl.host.write("client.py", CLIENT));
    let _server = nl.host.serve(&format!("python3 {}", server.display()), 7000);
    let said = nl.ok(&format!("run --rm -v {}:/client.py:ro python3 /client.py {FAR_IP}", client.display()));
    assert_eq!(said, "all of it");
}

fn two_busy_containers_do_not_share_a_worker_while_another_idles(nl: &Netloom) {
    const FLOOD: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(b"x" * 64, (sys.argv[1], 9))
"#;
    let script = nl.host.write("flood.py", FLOOD);
    nl.ok("--workers 2 run -d --name sink sleep 1000");
    let sink = nl.ip("sink");
    let flood = format!("-v {}:/flood.py:ro timeout 40 python3 /flood.py {sink}", script.display());
    nl.ok(&format!("run -d --name one {flood}"));
    nl.ok("run -d --name idle sleep 1000");
    nl.ok(&format!("run -d --name other {flood}"));
    // They took their places in turn: the two that send have the same.
    let worker = |name: &str| {
        let ports = nl.json("ports --json");
        let row = ports.as_array().and_then(|rows| rows.iter().find(|row| row["container"] == name)).cloned();
        row.and_then(|row| row["worker"].as_u64()).expect("a port with a worker")
    };
    wait_until("each has a worker to itself", || worker("one") != worker("other"));
}

fn there_are_as_many_workers_as_were_asked_for(nl: &Netloom) {
    nl.ok("--workers 3 ps");
    assert_eq!(nl.json("version --format json")["daemon"]["workers"], 3);
    let why = nl.fails("--workers 0 ps", 2);
    assert!(why.contains("a number of workers from 1 to 64"), "{why}");
    nl.host.kill(nl.daemon(), "KILL");
    let why = nl.with(&[("NETLOOM_WORKERS", "many")]).fails("ps", 1);
    assert!(why.contains("NETLOOM_WORKERS") && why.contains("`many`"), "{why}");
}
