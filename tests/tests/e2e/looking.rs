//! Looking inside: the MAC table, ports, leases, flows, drops, events, and how they are printed.

use std::io::{Read, Write};

use netloom_tests::{FAR_IP, Netloom, Place, at, backend, for_each_case, wait_until};
use serde_json::{Value, json};

for_both!(
    the_mac_table_shows_who_is_where,
    a_static_entry_is_made_and_removed,
    a_port_is_set_by_its_container_s_name,
    ports_count_what_went_through,
    leases_show_who_has_what,
    a_flow_is_shown_while_it_lasts,
    events_tell_a_container_s_life,
    events_begin_and_end_where_they_are_told_to,
    a_drop_has_a_reason_and_a_counter,
    every_listing_can_be_printed_in_every_way,
    an_unknown_key_names_the_known_ones,
    stats_show_what_a_container_uses,
    what_does_not_fit_into_a_ring_is_counted,
);

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no array: {value:#}"))
}

fn row<'a>(value: &'a Value, key: &str, expected: &str) -> &'a Value {
    rows(value).iter().find(|row| at(row, key) == expected).unwrap_or_else(|| panic!("no row with {key} {expected} in {value:#}"))
}

fn the_mac_table_shows_who_is_where(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    nl.ok("exec a busybox ping -c 1 -W 5 b");
    let fdb = nl.json("fdb bridge --json");
    for name in ["a", "b"] {
        let network = nl.inspect(name)["networks"]["bridge"].clone();
        let entry = row(&fdb, "container", name);
        assert_eq!(
            (at(entry, "mac"), at(entry, "port"), at(entry, "static")),
            (at(&network, "mac_address"), at(&network, "port_id"), "false".into())
        );
        assert!(entry["age_seconds"].as_u64().is_some_and(|age| age < 30), "{entry}");
    }
    nl.ok("rm -f b");
    let left = nl.json("fdb bridge --json");
    assert!(rows(&left).iter().all(|row| at(row, "container") != "b"), "{left:#}");
}

fn a_static_entry_is_made_and_removed(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let port = at(&nl.inspect("a"), "networks.bridge.port_id");
    nl.ok(&format!("fdb add bridge 02:00:00:00:00:99 {port}"));
    let fdb = nl.json("fdb bridge --json");
    assert_eq!(at(row(&fdb, "mac", "02:00:00:00:00:99"), "static"), "true");
    nl.ok("fdb del bridge 02:00:00:00:00:99");
    assert!(!nl.ok("fdb bridge --json").contains("02:00:00:00:00:99"));
    nl.ok("fdb add bridge 02:00:00:00:00:99 a");
    assert_eq!(at(row(&nl.json("fdb bridge --json"), "mac", "02:00:00:00:00:99"), "container"), "a");
    let why = nl.fails("fdb del bridge 02:00:00:00:00:99 4000", 1);
    assert!(why.contains(&format!("is at port {port}")), "{why}");
    nl.ok("fdb del bridge 02:00:00:00:00:99 a");
    let why = nl.fails("fdb add bridge 02:00:00:00:00:99 4000", 1);
    assert!(why.contains("4000"), "{why}");
}

fn a_port_is_set_by_its_container_s_name(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("create --name idle true");
    nl.ok("network port set bridge a isolated=on");
    assert_eq!(at(row(&nl.json("ports bridge --json"), "container", "a"), "isolated"), "true");
    let why = nl.fails("network port set bridge idle isolated=on", 1);
    assert!(why.contains("`idle` has no port on network `bridge`"), "{why}");
}

fn ports_count_what_went_through(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    let count = |key: &str| row(&nl.json("ports bridge --json"), "container", "a")[key].as_u64().expect("a number");
    let before = (count("rx_frames"), count("tx_frames"), count("rx_bytes"));
    nl.ok("exec a busybox ping -c 10 -i 0.01 -W 5 -s 1000 b");
    let after = (count("rx_frames"), count("tx_frames"), count("rx_bytes"));
    assert!(after.0 >= before.0 + 10 && after.1 >= before.1 + 10 && after.2 >= before.2 + 10_000, "{before:?} then {after:?}");
    let ports = nl.json("ports --json");
    let a = row(&ports, "container", "a");
    assert_eq!((at(a, "link"), at(a, "backend"), at(a, "network")), ("eth0".into(), backend(), "bridge".into()));
    assert!(rows(&a["offloads"]).len() > 1, "{a:#}");
    assert_eq!(at(row(&ports, "id", "0"), "container"), "gateway");
}

fn leases_show_who_has_what(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    let id = nl.ok("run -d --name a --net blue sleep 1000");
    let leases = nl.json("leases blue --json");
    let lease = row(&leases, "container", "a");
    assert_eq!(
        (at(lease, "ip_address"), at(lease, "mac_address"), at(lease, "container_id"), at(lease, "network")),
        ("10.5.0.2".into(), "02:42:0a:05:00:02".into(), id, "blue".into())
    );
}

fn a_flow_is_shown_while_it_lasts(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    nl.ok("run -d --name a sleep 1000");
    let mut client = nl.start(&format!("exec -i a busybox nc {FAR_IP} 9000"));
    let (mut stream, _) = listener.accept().expect("a client");
    client.type_in("x");
    stream.read_exact(&mut [0]).expect("a byte");
    let flows = nl.json("flows bridge --json");
    let flow = rows(&flows).iter().find(|flow| at(flow, "outside").contains(&format!("{FAR_IP}:9000")));
    let flow = flow.unwrap_or_else(|| panic!("no such flow in {flows:#}"));
    assert_eq!((at(flow, "container"), at(flow, "protocol")), ("a".into(), "tcp".into()));
    assert!(at(flow, "inside").starts_with(&nl.ip("a")), "{flow:#}");
    stream.write_all(b"bye").expect("it takes the bytes");
    drop(stream);
    client.close_input();
    drop(client);
    wait_until("the flow is gone", || !rows(&nl.json("flows bridge --json")).iter().any(|flow| at(flow, "state") == "established"));
}

fn events_tell_a_container_s_life(nl: &Netloom) {
    nl.ok("run -d --name keeps-the-daemon sleep 1000");
    let events = nl.start("events -f --json");
    // The stream has begun once it shows something.
    wait_until("events come", || {
        nl.ok("network create probe");
        nl.ok("network rm probe");
        events.stdout_so_far().contains("probe")
    });
    let id = nl.ok("run -d --name a sleep 1000");
    nl.ok("rm -f a");
    events.expect("destroy");
    let said = events.stdout_so_far();
    let all: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect();
    let actions: Vec<String> = all.iter().filter(|event| event["id"] == json!(id)).map(|event| at(event, "action")).collect();
    let mut left = actions.iter();
    for action in ["create", "start", "die", "destroy"] {
        assert!(left.any(|have| have == action), "{action} is missing, or late, in {actions:?}");
    }
}

fn a_drop_has_a_reason_and_a_counter(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    // A frame whose source is a group address, and one that is too short to be one.
    let script = nl.host.write(
        "frames.py",
        "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ns.bind(('eth0', 0))\n\
         for i in range(3):\n  s.send(b'\\xff' * 6 + b'\\x01\\x00\\x5e\\x00\\x00\\x01' + b'\\x88\\xb5' + b'x' * 46)\n",
    );
    nl.ok(&format!("run --rm --name sender -v {}:/frames.py:ro python3 /frames.py", script.display()));
    nl.ok(&format!("cp {} a:/frames.py", script.display()));
    nl.ok("exec a python3 /frames.py");
    wait_until("the drops are counted", || {
        rows(&nl.json("drops bridge --json"))
            .iter()
            .any(|row| at(row, "reason") == "group_source" && at(row, "container") == "a" && row["frames"] == 3)
    });
    assert!(nl.ok("drops bridge").contains("group"), "the table shows it");
}

/// Every listing, its first column's key, and one more of its keys.
const LISTINGS: [(&str, &str); 8] = [
    ("ps -a", "id"),
    ("network ls", "name"),
    ("ports", "id"),
    ("fdb", "mac"),
    ("leases", "ip_address"),
    ("network port ls", "id"),
    ("flows", "network"),
    ("drops", "reason"),
];

fn every_listing_can_be_printed_in_every_way(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    nl.ok("exec a busybox ping -c 1 -W 5 b");
    for_each_case(LISTINGS, |(listing, key)| {
        let json = nl.json(&format!("{listing} --format json"));
        let list = json.as_array().ok_or("--format json is no array")?;
        if nl.json(&format!("{listing} --json")).as_array().map(Vec::len) != Some(list.len()) {
            return Err("--json is not --format json".into());
        }
        let table = nl.ok(listing);
        if table.lines().count() != list.len() + 1 {
            return Err(format!("the table has other lines than a header and {} rows:\n{table}", list.len()));
        }
        let quiet = nl.ok(&format!("{listing} -q"));
        if quiet.lines().count() != list.len() {
            return Err(format!("-q has other lines than {} rows:\n{quiet}", list.len()));
        }
        let template = nl.ok(&format!("{listing} --format '{{{{.{key}}}}}'"));
        if !template.lines().map(str::to_owned).eq(list.iter().map(|row| at(row, key))) {
            return Err(format!("{{{{.{key}}}}} prints\n{template}\nof {json:#}"));
        }
        let whole = nl.ok(&format!("{listing} --format '{{{{json .}}}}'"));
        let parsed: Result<Vec<Value>, _> = whole.lines().map(serde_json::from_str).collect();
        match parsed {
            Ok(rows) if rows.len() == list.len() => Ok(()),
            other => Err(format!("{{{{json .}}}} prints {other:?}")),
        }
    });
    assert_eq!(nl.ok("inspect --format '{{.networks.bridge.ip_address}}' a"), nl.ip("a"));
}

fn an_unknown_key_names_the_known_ones(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    for_each_case(LISTINGS, |(listing, key)| {
        let tried = nl.run(&format!("{listing} --format '{{{{.wings}}}}'"));
        let clear = tried.code == 2 && tried.stderr.contains("wings") && tried.stderr.contains(key) && tried.text().is_empty();
        clear.then_some(()).ok_or_else(|| format!("{tried:?}"))
    });
}

fn stats_show_what_a_container_uses(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("exec a busybox ping -c 3 -i 0.01 -W 5 127.0.0.1");
    let stats = nl.json("stats --no-stream --json a");
    let a = row(&stats, "name", "a");
    assert!(a["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0) && a["pids"].as_u64().is_some_and(|pids| pids >= 1), "{a:#}");
    let stream = nl.start("stats a --json");
    wait_until("it goes on", || stream.stdout_so_far().lines().count() >= 2);
}

/// Sends frames without a wait, as fast as it can, and says how many its kernel took: a full queue takes none.
const BURST: &str = r"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
frame = b'\\xff' * 6 + mac + b'\\x88\\xb5' + bytes(46)
taken = 0
s.setblocking(False)
for _ in range(40000):
    try:
        taken += s.send(frame) > 0
    except OSError:
        pass
print(taken)
";

fn what_does_not_fit_into_a_ring_is_counted(nl: &Netloom) {
    let burst = nl.host.write("burst.py", BURST);
    for backend in ["tap", "veth"] {
        nl.ok(&format!("network create --internal --backend {backend} {backend}s"));
        nl.ok(&format!("run -d --name {backend} --net {backend}s -v {}:/burst.py:ro sleep 1000", burst.display()));
        let counted = || {
            let ports = nl.json(&format!("ports {backend}s --json"));
            let port = ports.as_array().and_then(|all| all.iter().find(|port| port["container"] == backend)).expect("its port").clone();
            (port["rx_frames"].as_u64().unwrap_or(0), port["drops"]["ring_overflow"].as_u64().unwrap_or(0))
        };
        let (before, none) = counted();
        assert_eq!(none, 0);
        let pid = nl.pid(backend);
        let daemon = nl.daemon();
        nl.host.kill(daemon, "STOP");
        // Not by exec: nobody answers now.
        let taken = nl.host.start(Place::Host, &format!("nsenter --target {pid} --net --mount python3 /burst.py")).finish();
        nl.host.kill(daemon, "CONT");
        let taken: u64 = taken.exits(0).text().parse().expect("a number");
        wait_until("every frame is in the books", || {
            let (received, lost) = counted();
            received >= before && lost > 0 && received - before + lost >= taken
        });
    }
}

fn events_begin_and_end_where_they_are_told_to(nl: &Netloom) {
    let names = |options: &str| nl.ok(&format!("events {options} --format '{{{{.action}}}} {{{{.name}}}}'"));
    nl.ok("network create --subnet 10.5.0.0/24 before");
    let all: Vec<Value> = nl.ok("events --json").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = at(all.last().expect("an event"), "time");
    // Events have milliseconds: the next one comes in a later one.
    wait_until("the clock goes on", || now(nl) > last);
    let mark = now(nl);
    nl.ok("network create --subnet 10.6.0.0/24 after");
    assert_eq!(names(&format!("--since {mark}")), "create after");
    assert!(names(&format!("--until {mark}")).ends_with("create before"));
    assert_eq!(names("--since 0s"), "");
    assert!(names("--since 1h").ends_with("create after"));
    let follow = nl.start(&format!("events -f --since {mark} --format '{{{{.name}}}}'"));
    follow.expect("after");
    nl.ok("network create --subnet 10.7.0.0/24 later");
    follow.expect("later");
    let soon = nl.host.ok("date -u -d '+1 second' +%Y-%m-%dT%H:%M:%S.%3NZ");
    assert_eq!(names(&format!("-f --since {mark} --until {soon}")), "create after\ncreate later", "it ends by itself");
    nl.fails("events --since noon", 2);
}

/// The time as netloom writes it.
fn now(nl: &Netloom) -> String {
    nl.host.ok("date -u +%Y-%m-%dT%H:%M:%S.%3NZ")
}
