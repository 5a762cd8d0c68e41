//! DHCP clients, as they are, on a container's interface and behind it.

use netloom_tests::{Netloom, at};
use serde_json::Value;

for_both!(
    udhcpc_gets_the_container_s_own_address,
    udhcpc_behind_a_container_leases_and_renews,
    a_lease_survives_the_daemon,
    dhclient_behind_a_container_gets_a_lease,
    dhclient_that_finds_its_address_in_use_gets_another_one,
    dhcpcd_behind_a_container_gets_a_lease,
);

/// Prints what udhcpc was told, and sets the address as every client's script does.
const SCRIPT: &str = "#!/bin/sh\necho \"$1 ip=$ip mask=$subnet router=$router dns=$dns mtu=$mtu lease=$lease server=$serverid host=$hostname search=$search\"\n\
                      [ \"$1\" = bound ] && ip addr replace $ip/24 dev $interface\nexit 0\n";

/// A container `a` on network `blue`, 10.5.0.0/24, that may change its interfaces, and the script.
fn container(nl: &Netloom) -> String {
    let script = nl.host.write("udhcpc.sh", SCRIPT);
    nl.host.ok(&format!("chmod 755 {}", script.display()));
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok(&format!("run -d --name a --net blue --privileged --dns-search example.test -v {}:/dhcp.sh:ro sleep 1000", script.display()));
    nl.ip("a")
}

/// Another machine behind the container's interface.
fn behind(nl: &Netloom) {
    nl.ok("exec --privileged a ip link add mv0 link eth0 type macvlan mode bridge");
    nl.ok("exec --privileged a ip link set mv0 up");
}

/// The leases of DHCP clients.
fn leases(nl: &Netloom) -> Vec<Value> {
    let all = nl.json("leases blue --format json");
    all.as_array().expect("a list").iter().filter(|lease| !lease["expires"].is_null()).cloned().collect()
}

fn udhcpc_gets_the_container_s_own_address(nl: &Netloom) {
    let ip = container(nl);
    let out = nl.ok("exec --privileged a busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -O search -O mtu -s /dhcp.sh");
    let bound = out.lines().find(|line| line.starts_with("bound")).unwrap_or_else(|| panic!("{out}"));
    let host = at(&nl.inspect("a"), "hostname");
    for part in [
        &format!("ip={ip}"),
        "mask=255.255.255.0",
        "router=10.5.0.1",
        "dns=10.5.0.1",
        "mtu=1500",
        "lease=3600",
        &format!("host={host}"),
        "search=example.test",
    ] {
        assert!(bound.contains(part), "{part} is not in {bound}");
    }
    assert!(leases(nl).is_empty(), "a container's own address is no DHCP lease");
}

fn udhcpc_behind_a_container_leases_and_renews(nl: &Netloom) {
    container(nl);
    behind(nl);
    nl.ok("exec --privileged a busybox udhcpc -i mv0 -n -q -f -t 5 -T 1 -s /dhcp.sh");
    let lease = leases(nl).pop().expect("a lease");
    let ip = at(&lease, "ip_address");
    assert_eq!((at(&lease, "container"), ip.as_str()), ("a".to_owned(), "10.5.0.3"));
    // The address is taken: a container gets the next one, and cannot have this one.
    nl.ok("run -d --name b --net blue sleep 1000");
    assert_eq!(nl.ip("b"), "10.5.0.4");
    assert!(nl.fails("run --net blue --ip 10.5.0.3 true", 125).contains("in use"));
    nl.ok(&format!("exec b busybox ping -c 1 -W 5 {ip}"));
    let again = nl.ok(&format!("exec --privileged a busybox udhcpc -i mv0 -r {ip} -n -q -f -t 5 -T 1 -s /dhcp.sh"));
    assert!(again.contains(&format!("ip={ip}")), "{again}");
    assert_eq!(leases(nl).len(), 1, "the same client is no second one");
}

fn a_lease_survives_the_daemon(nl: &Netloom) {
    container(nl);
    behind(nl);
    nl.ok("exec --privileged a busybox udhcpc -i mv0 -n -q -f -t 5 -T 1 -s /dhcp.sh");
    let before = leases(nl);
    assert_eq!(before.len(), 1);
    nl.host.kill(nl.daemon(), "KILL");
    assert_eq!(leases(nl), before);
    let again = nl.ok("exec --privileged a busybox udhcpc -i mv0 -n -q -f -t 5 -T 1 -s /dhcp.sh");
    assert!(again.contains(&format!("ip={}", at(&before[0], "ip_address"))), "{again}");
}

fn dhclient_behind_a_container_gets_a_lease(nl: &Netloom) {
    container(nl);
    behind(nl);
    let out = nl.run("exec --privileged a timeout 20 dhclient -4 -1 -v -sf /bin/true -lf /tmp/leases -pf /tmp/pid mv0");
    assert!(out.stderr.contains("bound to 10.5.0.3"), "{out:?}");
    assert_eq!(leases(nl).len(), 1);
}

fn dhclient_that_finds_its_address_in_use_gets_another_one(nl: &Netloom) {
    container(nl);
    behind(nl);
    // A script that fails has found the address in use (dhclient-script(8)).
    let picky = "#!/bin/sh\n[ \"$new_ip_address\" != 10.5.0.3 ]\n";
    let copied = nl.run_with_input("exec -i a sh -c 'cat > /tmp/picky.sh && chmod 755 /tmp/picky.sh'", picky);
    assert_eq!(copied.code, 0, "{copied:?}");
    let out = nl.run("exec --privileged a timeout 30 dhclient -4 -v -sf /tmp/picky.sh -lf /tmp/leases -pf /tmp/pid mv0");
    assert!(out.stderr.contains("DHCPDECLINE") && out.stderr.contains("bound to 10.5.0.4"), "{out:?}");
    // Whoever has the other one, it is not given to a container.
    nl.ok("run -d --name b --net blue sleep 1000");
    assert_eq!(nl.ip("b"), "10.5.0.5");
}

fn dhcpcd_behind_a_container_gets_a_lease(nl: &Netloom) {
    container(nl);
    behind(nl);
    let out = nl.run("exec --privileged a timeout 30 dhcpcd -4 -T -t 15 mv0");
    let said = format!("{}{}", out.stderr, out.text());
    assert!(said.contains("10.5.0.3"), "{said}");
}
