//! The four modes, by what `ip`, `ps` and `ls` show inside.

use netloom_tests::{HOST_IP, Netloom, Place, SERVER_IP, at};
use serde_json::Value;

for_both!(
    bridge_is_the_default,
    a_bridge_subnet_avoids_the_hosts_routes,
    none_has_only_lo_and_it_is_up,
    none_is_configured_by_hand,
    host_shows_the_hosts_network,
    a_server_in_host_mode_is_the_hosts,
    container_mode_shares_the_network_and_nothing_else,
    container_mode_takes_a_pid,
    a_namespace_path_is_joined,
    a_joined_container_outlives_the_one_it_joined,
    proc_shows_only_the_containers_processes,
    a_file_written_to_the_root_is_not_on_the_host,
    everything_but_the_network_is_its_own_in_every_mode,
    a_running_container_of_every_mode_takes_every_command,
);
for_root!("The kernel lets nobody else enter a network namespace of the host's root.": a_named_namespace_of_the_host_is_joined);

const EVERY_MODE: [&str; 4] = ["bridge", "none", "host", "container:base"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why} in:\n{text}"))
}

/// What `ip -j LINE` shows in a fresh container.
fn ip(nl: &Netloom, options: &str, line: &str) -> Value {
    json(&nl.ok(&format!("run --rm {options} ip -j {line}")))
}

fn link_local(mac: &str) -> String {
    let b: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC")).collect();
    let groups = [[b[0] ^ 2, b[1]], [b[2], 0xff], [0xfe, b[3]], [b[4], b[5]]].map(u16::from_be_bytes);
    format!("fe80::{:x}:{:x}:{:x}:{:x}", groups[0], groups[1], groups[2], groups[3])
}

fn bridge_is_the_default(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let bridge = nl.json("network inspect bridge");
    let (network, prefix) = at(&bridge[0], "subnet").split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a CIDR");
    let links = json(&nl.ok("exec a ip -j -d addr"));
    let names: Vec<_> = links.as_array().expect("links").iter().map(|link| at(link, "ifname")).collect();
    assert_eq!(names, ["lo", "eth0"]);
    let eth0 = &links[1];
    let address = at(eth0, "addr_info.0.local");
    assert_eq!(at(eth0, "addr_info.0.prefixlen"), prefix);
    assert_eq!(address, nl.ip("a"));
    let bytes: Vec<String> = address.split('.').map(|byte| format!("{:02x}", byte.parse::<u8>().expect("a byte"))).collect();
    let mac = at(eth0, "address");
    assert_eq!(mac, format!("02:42:{}", bytes.join(":")));
    assert_eq!(at(eth0, "mtu"), "1500");
    assert!(eth0["flags"].to_string().contains("\"UP\""), "{eth0}");
    assert_eq!(at(eth0, "addr_info.1.local"), link_local(&mac));
    let routes = json(&nl.ok("exec a ip -j route"));
    let gateway = at(&bridge[0], "gateway");
    assert_eq!((at(&routes[0], "dst"), at(&routes[0], "gateway")), ("default".into(), gateway.clone()));
    assert_eq!(at(&routes[1], "dst"), format!("{network}/{prefix}"));
    assert_eq!(at(&nl.inspect("a"), "network_mode"), "bridge");
    // Named, it is the same network, and the next address.
    let named = ip(nl, "--net=bridge", "route");
    assert_eq!(at(&named[0], "gateway"), gateway);
    nl.ok(&format!("exec a busybox ping -c 1 -W 5 {gateway}"));
}

fn a_bridge_subnet_avoids_the_hosts_routes(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let usual = at(&nl.json("network inspect bridge")[0], "subnet");
    let second = nl.beside("second");
    nl.host.ok(&format!("ip route add {usual} via {SERVER_IP}"));
    second.ok("run -d --name a sleep 1000");
    let other = at(&second.json("network inspect bridge")[0], "subnet");
    let prefix = |subnet: &str| subnet.split('.').take(2).collect::<Vec<_>>().join(".");
    assert_ne!(prefix(&usual), prefix(&other), "{usual} is routed elsewhere");
    assert!(!other.starts_with("10.99."), "{other} is the host's own");
    second.remove_all();
    nl.host.ok(&format!("ip route del {usual}"));
}

fn none_has_only_lo_and_it_is_up(nl: &Netloom) {
    let links = ip(nl, "--net=none", "addr");
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{links:#}");
    assert_eq!((at(&links[0], "ifname"), at(&links[0], "addr_info.0.local")), ("lo".into(), "127.0.0.1".into()));
    assert!(links[0]["flags"].to_string().contains("\"UP\""), "{links}");
    assert_eq!(nl.ok("run --rm --net=none ip route"), "");
    nl.ok("run --rm --net none busybox ping -c 1 -W 2 127.0.0.1");
    assert_ne!(nl.run(&format!("run --rm --net none busybox ping -c 1 -W 2 {SERVER_IP}")).code, 0);
}

fn none_is_configured_by_hand(nl: &Netloom) {
    let script = "ip link add d0 type veth peer name d1 && ip addr add 192.0.2.1/24 dev d0 && ip link set d0 up && ip -j addr show d0";
    let shown = json(&nl.ok(&format!("run --rm --net=none --cap-add NET_ADMIN sh -c '{script}'")));
    assert_eq!(at(&shown[0], "addr_info.0.local"), "192.0.2.1");
}

fn host_shows_the_hosts_network(nl: &Netloom) {
    // `ip` names the namespace at a link's other end where it finds /run/netns, and a container has a /run of its own.
    let plain = |shown: String| shown.lines().map(|line| line.split(" link-netns").next().map(str::to_owned)).collect::<Vec<_>>();
    for what in ["-o link", "-o addr", "route", "-6 route"] {
        assert_eq!(plain(nl.ok(&format!("run --rm --net=host ip {what}"))), plain(nl.host.ok(&format!("ip {what}"))), "ip {what}");
    }
    assert_eq!(nl.ok("run --rm --net=host ls /sys/class/net"), nl.host.ok("ls /sys/class/net"));
    assert_eq!(nl.ok("run --rm --net=host hostname"), "testhost");
}

fn a_server_in_host_mode_is_the_hosts(nl: &Netloom) {
    let port = if nl.who().is_root() { 80 } else { 8080 };
    let www = nl.host.make_dir("www");
    nl.host.write("www/index.html", "from the host's own port");
    nl.ok(&format!("run -d --name web --net=host -v {}:/www busybox httpd -f -p {port} -h /www", www.display()));
    let get = || nl.host.start(Place::Server, &format!("busybox wget -q -O - http://{HOST_IP}:{port}/")).finish();
    netloom_tests::wait_until("the server answers", || get().text() == "from the host's own port");
    // No translation: what the server's socket sees is the client itself.
    let line = nl.host.start(Place::Server, &format!("busybox nc {HOST_IP} {port}"));
    netloom_tests::wait_until("the connection is there", || nl.host.ok("ss -Htn state established").contains(&SERVER_IP.to_string()));
    drop(line);
}

fn container_mode_shares_the_network_and_nothing_else(nl: &Netloom) {
    let id = nl.ok("run -d --name base sleep 1000");
    nl.ok(&format!("run -d --name guest --net=container:{} sleep 1000", &id[..12]));
    nl.ok("exec base busybox ping -c 3 -i 0.1 -W 5 127.0.0.1");
    // Counters and all; `ip` itself sends nothing.
    let show = |name: &str| nl.ok(&format!("exec {name} ip -s -o addr show"));
    let links = |name: &str| nl.ok(&format!("exec {name} ip -s -o link"));
    netloom_tests::wait_until("both see the same counters", || links("base") == links("guest"));
    assert_eq!(show("base"), show("guest"));
    assert!(links("guest").contains("eth0"));
    assert_eq!(nl.ok("exec base ip route"), nl.ok("exec guest ip route"));
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        assert_eq!(nl.ok(&format!("exec base cat {file}")), nl.ok(&format!("exec guest cat {file}")), "{file}");
    }
    // They talk over lo.
    // Its input stays open: nc hangs up at the end of it.
    let server = nl.start("exec -i base busybox nc -l -p 7000");
    netloom_tests::wait_until("it listens", || nl.ok("exec guest ss -Htln").contains(":7000"));
    let mut client = nl.start("exec -i guest busybox nc 127.0.0.1 7000");
    client.type_in("over lo\n");
    server.expect("over lo");
    client.close_input();
    drop(client);
    drop(server);
    // A port range is shared as well: what one took the other cannot have.
    assert_eq!(at(&nl.inspect("guest"), "network_mode"), format!("container:{id}"));
    assert_ne!(nl.ok("exec base cat /proc/1/cmdline /etc/hostname"), "");
    assert_ne!(nl.ok("exec base readlink /proc/self/ns/pid"), nl.ok("exec guest readlink /proc/self/ns/pid"));
    assert_eq!(nl.ok("exec base readlink /proc/self/ns/net"), nl.ok("exec guest readlink /proc/self/ns/net"));
}

fn container_mode_takes_a_pid(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    let own = nl.ok("exec base ip -o -4 addr show eth0");
    let pid = nl.pid("base");
    assert_eq!(nl.ok(&format!("run --rm --net=container:pid:{pid} ip -o -4 addr show eth0")), own);
}

fn a_namespace_path_is_joined(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    let own = nl.ok("exec base ip -o -4 addr show eth0");
    let pid = nl.pid("base");
    assert_eq!(nl.ok(&format!("run --rm --net=ns:/proc/{pid}/ns/net ip -o -4 addr show eth0")), own);
}

fn a_named_namespace_of_the_host_is_joined(nl: &Netloom) {
    let shown = nl.ok("run --rm --net=ns:/run/netns/server ip -o -4 addr show uplink0");
    assert!(shown.contains(&SERVER_IP.to_string()), "{shown}");
}

fn a_joined_container_outlives_the_one_it_joined(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    nl.ok("run -d --name guest --net=container:base sleep 1000");
    nl.ok("stop -t 0 base");
    assert_eq!(nl.state("guest"), "running");
    assert!(nl.ok("exec guest ip -o link").contains("lo"));
    // It cannot be started again where there is nothing to join.
    nl.ok("stop -t 0 guest");
    let why = nl.fails("start guest", 1);
    assert!(why.contains("base"), "{why}");
}

fn proc_shows_only_the_containers_processes(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    for mode in EVERY_MODE {
        let pids = nl.ok(&format!("run --rm --net={mode} sh -c 'ls -d /proc/[0-9]*'"));
        assert!(pids.lines().any(|pid| pid == "/proc/1") && pids.lines().count() <= 3, "--net={mode}: {pids}");
        let shown = nl.ok(&format!("run --rm --net={mode} ps -e -o args="));
        assert!(!shown.contains("sleep 1000"), "--net={mode}: {shown}");
    }
}

fn a_file_written_to_the_root_is_not_on_the_host(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    for mode in EVERY_MODE {
        let seen = nl.ok(&format!("run --rm --net={mode} sh -c 'for d in / /etc /usr /var/lib /home; do echo mine > $d/netloom-was-here && cat $d/netloom-was-here; done'"));
        assert_eq!(seen.lines().filter(|line| *line == "mine").count(), 5, "--net={mode}: {seen}");
        for dir in ["", "/etc", "/usr", "/var/lib", "/home"] {
            assert!(!nl.host.path(&format!("{dir}/netloom-was-here")).exists(), "--net={mode} wrote to the host's {dir}/");
        }
    }
}

fn everything_but_the_network_is_its_own_in_every_mode(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    let namespaces = |prefix: &str, run: &dyn Fn(&str) -> String| {
        run(&format!("{prefix} sh -c 'for n in mnt pid uts ipc net; do readlink /proc/self/ns/$n; done'")).lines().map(Into::into).collect()
    };
    let host: Vec<String> = namespaces("env", &|line| nl.host.ok(line));
    for mode in EVERY_MODE {
        let own: Vec<String> = namespaces(&format!("run --rm --net={mode}"), &|line| nl.ok(line));
        for (ours, theirs) in own.iter().zip(&host) {
            let shared = mode == "host" && ours.starts_with("net:");
            assert_eq!(ours == theirs, shared, "--net={mode}: {ours}");
        }
    }
}

fn a_running_container_of_every_mode_takes_every_command(nl: &Netloom) {
    let file = nl.host.write("file", "text");
    nl.ok("run -d --name base sleep 1000");
    for mode in EVERY_MODE {
        nl.ok(&format!("run -d --name c --net={mode} sh -c 'echo said; exec sleep 1000'"));
        let inside = nl.ok("exec c ls /sys/class/net");
        assert_eq!(inside, nl.ok(&format!("run --rm --net={mode} ls /sys/class/net")), "--net={mode}");
        nl.ok(&format!("cp {} c:/tmp/", file.display()));
        assert_eq!(nl.ok("exec c cat /tmp/file"), "text", "--net={mode}");
        assert_eq!(nl.ok("logs c"), "said", "--net={mode}");
        for line in ["pause c", "unpause c", "stats --no-stream c", "port c", "rename c d", "rename d c", "restart -t 0 c"] {
            nl.ok(line);
        }
        assert_eq!(nl.ok("exec c cat /tmp/file"), "text", "--net={mode}");
        nl.ok("kill c");
        assert_eq!(nl.ok("wait c"), "137", "--net={mode}");
        nl.ok("start c");
        nl.ok("rm -f c");
    }
}
