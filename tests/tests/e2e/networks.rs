//! Networks and their addresses.

use std::io::Write;

use netloom_tests::{FAR_IP, Netloom, Place, at, for_each_case, wait_until};
use serde_json::json;

for_both!(
    a_network_is_made_listed_and_removed,
    a_network_has_what_it_was_told,
    two_networks_do_not_hear_each_other,
    what_is_for_another_network_does_not_leave_the_machine,
    several_networks_give_several_interfaces,
    connect_and_disconnect_work_while_it_runs,
    a_running_container_s_names_and_routes_follow_its_networks,
    a_default_route_of_somebody_in_the_container_stays,
    addresses_are_the_lowest_never_used_first,
    a_full_pool_is_an_error_and_a_released_address_is_used_again,
    an_ip_range_bounds_what_is_chosen,
    a_chosen_address_and_mac_are_kept,
    addresses_that_cannot_be_are_refused,
    networks_may_overlap_but_not_in_one_container,
    a_subnet_that_hides_what_the_host_reaches_is_told,
    a_network_in_use_stays,
    prune_takes_only_what_nobody_uses,
    settings_change_while_it_runs,
    leases_survive_a_daemon_restart,
    networks_survive_a_daemon_restart,
    nobody_takes_anothers_addresses_unless_the_network_lets_them,
    an_mtu_is_set_inside,
    a_network_without_a_gateway_has_no_default_route,
);

fn a_network_is_made_listed_and_removed(nl: &Netloom) {
    assert_eq!(nl.ok("network create --subnet 10.5.0.0/24 blue"), "blue");
    let names = nl.ok("network ls --format '{{.name}}'");
    assert_eq!(names.lines().collect::<Vec<_>>(), ["blue", "bridge"]);
    assert_eq!(nl.ok("network rm blue"), "blue");
    nl.fails("network rm blue", 1);
    assert_eq!(nl.ok("network rm -f blue"), "blue", "what is not there is gone as wanted");
    assert_eq!(nl.run("network inspect blue").code, 1);
    assert_eq!(nl.ok("network ls -q"), "bridge");
}

fn a_network_has_what_it_was_told(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 --gateway 10.5.0.254 --ip-range 10.5.0.128/26 --mtu 1400 -o ageing=60s blue");
    let blue = nl.json("network inspect blue")[0].clone();
    for (key, value) in [
        ("subnet", "10.5.0.0/24"),
        ("gateway", "10.5.0.254"),
        ("ip_range", "10.5.0.128/26"),
        ("mtu", "1400"),
        ("internal", "false"),
        ("options.ageing", "60s"),
    ] {
        assert_eq!(at(&blue, key), value, "{key}");
    }
    nl.ok("run -d --name a --net blue sleep 1000");
    assert_eq!(nl.ip("a"), "10.5.0.128");
    assert!(nl.ok("exec a ip route").starts_with("default via 10.5.0.254 dev eth0"));
    let member = nl.json("network inspect blue")[0]["containers"][at(&nl.inspect("a"), "id")].clone();
    assert_eq!((at(&member, "name"), at(&member, "ip_address")), ("a".into(), "10.5.0.128".into()));
}

fn two_networks_do_not_hear_each_other(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("network create --subnet 10.5.0.0/24 green");
    nl.ok("run -d --name a --net blue --ip 10.5.0.2 sleep 1000");
    nl.ok("run -d --name b --net green --ip 10.5.0.3 sleep 1000");
    assert_ne!(nl.run("exec a busybox ping -c 1 -W 1 10.5.0.3").code, 0);
    nl.ok("run --rm --net green busybox ping -c 1 -W 5 10.5.0.3");
}

fn what_is_for_another_network_does_not_leave_the_machine(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 9000));
    nl.ok("run -d --name a sleep 1000");
    // One that has the far server's address.
    nl.ok("network create --subnet 203.0.113.0/24 blue");
    let to_it = format!("exec a busybox nc -w 5 {FAR_IP} 9000");
    assert_ne!(nl.run(&to_it).code, 0);
    let drops = nl.ok("drops");
    assert!(drops.contains("gateway_forbidden"), "{drops}");
    nl.ok("network rm blue");
    let client = nl.start(&to_it);
    let (mut stream, _) = listener.accept().expect("a client");
    stream.write_all(b"welcome").expect("it takes the bytes");
    drop(stream);
    assert_eq!(client.finish().exits(0).text(), "welcome");
    listener.set_nonblocking(true).expect("a listener takes it");
    assert!(listener.accept().is_err(), "somebody came through before");
}

fn several_networks_give_several_interfaces(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("network create --subnet 10.6.0.0/24 green");
    nl.ok("run -d --name a --net blue --net name=green,ip=10.6.0.9,alias=x sleep 1000");
    let shown = nl.ok("exec a ip -o -4 addr");
    assert!(shown.contains("eth0") && shown.contains("10.5.0.2/24") && shown.contains("eth1") && shown.contains("10.6.0.9/24"), "{shown}");
    assert!(nl.ok("exec a ip route").starts_with("default via 10.5.0.1 dev eth0"));
    let networks = nl.inspect("a")["networks"].clone();
    assert_eq!(at(&networks, "green.ip_address"), "10.6.0.9");
    assert_eq!(networks["green"]["aliases"], json!(["x"]));
}

fn connect_and_disconnect_work_while_it_runs(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("run -d --name b --net blue sleep 1000");
    nl.ok("run -d --name a sleep 1000");
    nl.ok("network connect --ip 10.5.0.77 --alias friend blue a");
    assert!(nl.ok("exec a ip -o -4 addr show eth1").contains("10.5.0.77/24"));
    nl.ok("exec a busybox ping -c 1 -W 5 b");
    nl.ok("exec b busybox ping -c 1 -W 5 friend");
    nl.ok("network disconnect blue a");
    wait_until("the interface is gone", || !nl.ok("exec a ip -o link").contains("eth1"));
    assert!(nl.inspect("a")["networks"].get("blue").is_none());
    assert_ne!(nl.run("exec b busybox ping -c 1 -W 1 10.5.0.77").code, 0);
    // The rest of it goes on.
    assert!(nl.ok("exec a ip route").starts_with("default"));
}

fn a_running_container_s_names_and_routes_follow_its_networks(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("network create --subnet 10.6.0.0/24 --subnet fd00:6::/64 green");
    nl.ok("network create --subnet 10.7.0.0/24 --internal inner");
    nl.ok("run -d --name b --net green sleep 1000");
    nl.ok("run -d --name a --net blue sleep 1000");
    nl.ok("run -d --name guest --net container:a sleep 1000");
    nl.ok("run -d --name own --net blue --dns 192.0.2.53 sleep 1000");
    let files = |name: &str| nl.ok(&format!("exec {name} cat /etc/resolv.conf /etc/hosts"));
    let shown = || nl.ok("exec a sh -c 'ip route show default; ip -6 route show default; hostname -i 2>/dev/null || true'");

    // A second network brings what the first lacks, and takes its place once that is gone.
    nl.ok("network connect green a");
    assert!(shown().contains("default via 10.5.0.1 dev eth0") && shown().contains("default via fd00:6::1 dev eth1"), "{}", shown());
    nl.ok("network disconnect blue a");
    assert!(shown().contains("default via 10.6.0.1 dev eth1") && !shown().contains("10.5.0."), "{}", shown());
    for name in ["a", "guest"] {
        assert!(files(name).contains("nameserver 10.6.0.1") && files(name).contains("10.6.0.3\t") && !files(name).contains("10.5.0."));
        nl.ok(&format!("exec {name} getent hosts b"));
    }

    // One without a way out does not take the default route, nor keep it.
    for name in ["a", "own"] {
        nl.ok(&format!("network connect inner {name}"));
        nl.ok(&format!("network disconnect {} {name}", if name == "a" { "green" } else { "blue" }));
    }
    assert!(shown().contains("default via 10.7.0.1") && files("a").contains("nameserver 10.7.0.1"), "{}", shown());
    assert!(files("own").contains("nameserver 192.0.2.53") && files("own").contains("10.7.0.3\t"), "{}", files("own"));
    nl.ok("network connect blue a");
    assert!(shown().contains("default via 10.5.0.1") && files("a").contains("nameserver 10.5.0.1"), "{}", shown());

    // As a start would have it; and with no network at all it runs on, and starts.
    let before = (shown(), files("a"));
    nl.ok("restart -t 0 a");
    let without_place = |text: &str| text.replace("eth0", "ethN").replace("eth1", "ethN");
    assert_eq!((without_place(&shown()), files("a")), (without_place(&before.0), before.1));
    nl.ok("network disconnect blue a");
    nl.ok("network disconnect inner a");
    assert!(!shown().contains("default") && nl.ok("ps --filter name=a --format '{{.name}} {{.network_mode}}'").contains("a none"));
    nl.ok("restart -t 0 a");
    nl.ok("network connect green a");
    nl.ok("exec a getent hosts b");
}

fn a_default_route_of_somebody_in_the_container_stays(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("run -d --name a --privileged sleep 1000");
    nl.ok("network connect blue a");
    nl.ok("exec --privileged a ip route replace default via 10.5.0.9 dev eth1");
    nl.ok("network disconnect bridge a");
    assert!(nl.ok("exec a ip route").starts_with("default via 10.5.0.9 dev eth1"));
}

fn addresses_are_the_lowest_never_used_first(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    for (name, expected) in [("a", "10.5.0.2"), ("b", "10.5.0.3"), ("c", "10.5.0.4")] {
        nl.ok(&format!("run -d --name {name} --net blue sleep 1000"));
        assert_eq!(nl.ip(name), expected);
    }
    nl.ok("rm -f b");
    nl.ok("run -d --name d --net blue sleep 1000");
    assert_eq!(nl.ip("d"), "10.5.0.5", "a released address waits until none is left");
}

fn a_full_pool_is_an_error_and_a_released_address_is_used_again(nl: &Netloom) {
    // .1 is the gateway's: .2 to .6 are left.
    nl.ok("network create --subnet 10.5.0.0/29 tiny");
    for name in ["a", "b", "c", "d", "e"] {
        nl.ok(&format!("run -d --name {name} --net tiny sleep 1000"));
    }
    let why = nl.fails("run --rm --net tiny true", 125);
    assert!(why.contains("tiny") && why.contains("hint"), "{why}");
    for (gone, address) in [("d", "10.5.0.5"), ("b", "10.5.0.3")] {
        assert_eq!(nl.ip(gone), address);
        nl.ok(&format!("rm -f {gone}"));
    }
    for (name, expected) in [("f", "10.5.0.5"), ("g", "10.5.0.3")] {
        nl.ok(&format!("run -d --name {name} --net tiny sleep 1000"));
        assert_eq!(nl.ip(name), expected, "the oldest release comes first");
    }
}

fn an_ip_range_bounds_what_is_chosen(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 --ip-range 10.5.0.8/30 blue");
    for (name, expected) in [("a", "10.5.0.8"), ("b", "10.5.0.9"), ("c", "10.5.0.10"), ("d", "10.5.0.11")] {
        nl.ok(&format!("run -d --name {name} --net blue sleep 1000"));
        assert_eq!(nl.ip(name), expected);
    }
    nl.fails("run --rm --net blue true", 125);
    // By hand, the whole subnet is open.
    nl.ok("run --rm --net blue --ip 10.5.0.100 true");
}

fn a_chosen_address_and_mac_are_kept(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("run -d --name a --net blue --ip 10.5.0.42 --mac-address 02:00:00:00:00:2a sleep 1000");
    let shown = nl.json("exec a ip -j addr show eth0");
    assert_eq!((at(&shown, "0.addr_info.0.local"), at(&shown, "0.address")), ("10.5.0.42".into(), "02:00:00:00:00:2a".into()));
    nl.ok("restart -t 0 a");
    assert_eq!(nl.ip("a"), "10.5.0.42");
    // An address by choice is not given out by chance.
    nl.ok("run -d --name b --net blue sleep 1000");
    assert_eq!(nl.ip("b"), "10.5.0.2");
}

fn addresses_that_cannot_be_are_refused(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("run -d --name a --net blue --ip 10.5.0.42 --mac-address 02:00:00:00:00:2a sleep 1000");
    let cases = [
        ("--ip 10.5.0.42", "10.5.0.42"),
        ("--ip 10.5.0.1", "10.5.0.1"),
        ("--ip 10.5.0.0", "10.5.0.0"),
        ("--ip 10.5.0.255", "10.5.0.255"),
        ("--ip 10.6.0.2", "10.6.0.2"),
        ("--mac-address 02:00:00:00:00:2a", "02:00:00:00:00:2a"),
        ("--mac-address 01:00:00:00:00:2a", "01:00:00:00:00:2a"),
        ("--mac-address 00:00:00:00:00:00", "00:00:00:00:00:00"),
    ];
    for_each_case(cases, |(options, named)| {
        let tried = nl.run(&format!("run --rm --net blue {options} true"));
        (tried.code == 125 && tried.stderr.contains(named)).then_some(()).ok_or_else(|| format!("{tried:?}"))
    });
}

fn networks_may_overlap_but_not_in_one_container(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("network create --subnet 10.5.0.0/16 green");
    nl.ok("run -d --name a --net blue sleep 1000");
    for line in ["network connect green a", "run --rm --net blue --net green true"] {
        let tried = nl.run(line);
        assert!([1, 125].contains(&tried.code) && tried.stderr.contains("overlap"), "{tried:?}");
    }
    assert!(!nl.ok("exec a ip -o link").contains("eth1"));
}

fn a_subnet_that_hides_what_the_host_reaches_is_told(nl: &Netloom) {
    let told = |subnet: &str, name: &str| nl.run(&format!("network create --subnet {subnet} {name}")).exits(0).stderr;
    assert_eq!(told("10.5.0.0/24", "blue"), "");
    assert!(told("10.5.0.128/25", "part").contains("network `blue` has 10.5.0.0/24, too"));
    let host = told("10.99.0.128/25", "hides");
    assert!(host.contains("the host has a route to 10.99.0.0/24") && host.lines().count() == 1, "{host}");
}

fn a_network_in_use_stays(nl: &Netloom) {
    nl.ok("network create blue");
    nl.ok("run -d --name a --net blue sleep 1000");
    nl.fails("network rm -f blue", 1);
    let why = nl.fails("network rm blue", 1);
    assert!(why.contains("blue") && why.contains('a'), "{why}");
    nl.ok("rm -f a");
    nl.ok("network rm blue");
}

fn prune_takes_only_what_nobody_uses(nl: &Netloom) {
    nl.ok("network create blue");
    nl.ok("network create green");
    nl.ok("run -d --name a --net blue sleep 1000");
    assert!(nl.ok("network prune").contains("green"));
    assert_eq!(nl.ok("network ls --format '{{.name}}'").lines().collect::<Vec<_>>(), ["blue", "bridge"]);
}

fn settings_change_while_it_runs(nl: &Netloom) {
    nl.ok("network create blue");
    nl.ok("run -d --name a --net blue sleep 1000");
    nl.ok("network set blue ageing=1s");
    assert_eq!(at(&nl.json("network inspect blue")[0], "options.ageing"), "1s");
    nl.ok("run --rm --net blue busybox ping -c 1 -W 5 a");
    wait_until("what was learned is forgotten", || nl.ok("fdb blue --format '{{.container}}'") == "gateway");
    let why = nl.fails("network set blue wings=2", 2);
    assert!(why.contains("wings") && why.contains("ageing"), "{why}");
}

fn leases_survive_a_daemon_restart(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    let before = nl.json("leases --format json");
    let daemon = nl.daemon();
    nl.host.kill(daemon, "TERM");
    wait_until("another daemon runs", || nl.daemon() != daemon);
    assert_eq!(nl.json("leases --format json"), before);
    nl.ok("run -d --name c sleep 1000");
    let all = [nl.ip("a"), nl.ip("b"), nl.ip("c")];
    assert!(all[2] != all[0] && all[2] != all[1], "{all:?}");
    nl.ok("exec a busybox ping -c 1 -W 5 c");
}

fn networks_survive_a_daemon_restart(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 --internal blue");
    let before = nl.json("network inspect blue bridge");
    let daemon = nl.daemon();
    nl.host.kill(daemon, "TERM");
    wait_until("the daemon is gone", || !nl.host.path(&format!("/proc/{daemon}")).exists());
    assert_eq!(nl.json("network inspect blue bridge"), before);
}

fn nobody_takes_anothers_addresses_unless_the_network_lets_them(nl: &Netloom) {
    nl.ok("network create --subnet 10.6.0.0/24 lab");
    nl.ok("run -d --name a --net lab sleep 1000");
    nl.ok("run -d --name b --net lab sleep 1000");
    // In the name of a: a frame from its MAC, an ARP reply for its address, and a packet from it. In the gateway's: the same.
    let script = "import socket, struct\n\
                  raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); raw.bind(('eth0', 0))\n\
                  own = bytes.fromhex(open('/sys/class/net/eth0/address').read().replace(':', ''))\n\
                  everyone = b'\\xff' * 6\n\
                  for last in (2, 1):\n\
                  \x20 ip = bytes([10, 6, 0, last])\n\
                  \x20 raw.send(everyone + bytes([2, 0x42]) + ip + b'\\x88\\xb5' + bytes(46))\n\
                  \x20 raw.send(everyone + own + b'\\x08\\x06\\0\\1\\x08\\0\\6\\4\\0\\2' + own + ip + everyone + ip + bytes(18))\n\
                  \x20 raw.send(everyone + own + b'\\x08\\0\\x45\\0\\0\\x14\\0\\0\\0\\0\\x40\\xfd\\0\\0' + ip + ip + bytes(26))\n";
    let spoofed = || {
        let drops = nl.json("drops lab --format json");
        let rows = drops.as_array().expect("a list");
        rows.iter().filter(|row| row["reason"] == "spoofed_source").filter_map(|row| row["frames"].as_u64()).sum::<u64>()
    };
    nl.run_with_input("exec -i b python3 -", script).exits(0);
    wait_until("all six are counted", || spoofed() == 6);
    nl.ok("network set lab port-security=off");
    nl.run_with_input("exec -i b python3 -", script).exits(0);
    wait_until("the gateway's three are still its own", || spoofed() == 9);
}

fn an_mtu_is_set_inside(nl: &Netloom) {
    nl.ok("network create --mtu 9000 jumbo");
    assert_eq!(nl.ok("run --rm --net jumbo cat /sys/class/net/eth0/mtu"), "9000");
    assert_eq!(nl.ok("run --rm --mtu 1300 cat /sys/class/net/eth0/mtu"), "1300");
    nl.ok("run -d --name a --net jumbo sleep 1000");
    nl.ok("run --rm --net jumbo busybox ping -c 1 -W 5 -s 8000 a");
}

fn a_network_without_a_gateway_has_no_default_route(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 --gateway none blue");
    let routes = nl.ok("run --rm --net blue ip route");
    assert!(!routes.contains("default") && routes.contains("10.5.0.0/24"), "{routes}");
    assert_eq!(nl.json("network inspect blue")[0]["gateway"], json!(null));
}
