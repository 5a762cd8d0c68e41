//! DHCPv6 clients, as they are, on a container's interface, behind it, and in a namespace of others.

use netloom_tests::{Netloom, Place, Who, at, wait_until};
use serde_json::Value;

for_both!(
    dhclient_gets_the_container_s_own_ipv6_address,
    dhclient_behind_a_container_leases_and_gives_back_over_ipv6,
    dhclient_that_starts_again_keeps_its_ipv6_lease,
    dhclient_that_finds_its_ipv6_address_in_use_gets_another_one,
    dhcpcd_behind_a_container_gets_an_ipv6_lease,
    an_ipv6_lease_survives_the_daemon,
    an_attached_namespace_without_an_address_gets_one_of_each,
);

/// What dhclient tells its script, in a line.
const SCRIPT: &str = "#!/bin/sh\necho \"said $reason ip=$new_ip6_address dns=$new_dhcp6_name_servers search=$new_dhcp6_domain_search life=$new_max_life\" >> /tmp/said\nexit 0\n";

/// A container `a` on network `six`, fd00:5::/64, that may change its interfaces, and the script.
fn container(nl: &Netloom) {
    let script = nl.host.write("dhclient.sh", SCRIPT);
    nl.host.ok(&format!("chmod 755 {}", script.display()));
    nl.ok("network create --subnet 10.5.0.0/24 --subnet fd00:5::/64 six");
    nl.ok(&format!("run -d --name a --net six --privileged --dns-search example.test -v {}:/said.sh:ro sleep 1000", script.display()));
}

/// Another machine behind the container's interface.
fn behind(nl: &Netloom) {
    nl.ok("exec --privileged a ip link add mv0 link eth0 type macvlan mode bridge");
    nl.ok("exec --privileged a ip link set mv0 up");
}

fn dhclient(nl: &Netloom, words: &str) {
    let out = nl.run(&format!("exec --privileged a timeout 20 dhclient -6 -v -sf /said.sh -lf /tmp/leases6 -pf /tmp/pid6 {words}"));
    assert_eq!(out.code, 0, "{out:?}");
}

fn said(nl: &Netloom) -> String {
    let all = nl.ok("exec a cat /tmp/said");
    all.lines().rfind(|line| line.starts_with("said BOUND6")).unwrap_or_else(|| panic!("{all}")).to_owned()
}

/// The leases of DHCPv6 clients.
fn leases(nl: &Netloom) -> Vec<Value> {
    let all = nl.json("leases six --format json");
    let is_dynamic = |lease: &&Value| !lease["expires"].is_null() && lease["ip_address"].is_null();
    all.as_array().expect("a list").iter().filter(is_dynamic).cloned().collect()
}

fn dhclient_gets_the_container_s_own_ipv6_address(nl: &Netloom) {
    container(nl);
    dhclient(nl, "-1 eth0");
    let (own, said) = (at(&nl.inspect("a"), "networks.six.ip6_address"), said(nl));
    for part in [&format!("ip={own}"), "dns=fd00:5::1", "search=example.test.", "life=3600"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(leases(nl).is_empty(), "a container's own address is no DHCP lease");
}

fn dhclient_behind_a_container_leases_and_gives_back_over_ipv6(nl: &Netloom) {
    container(nl);
    behind(nl);
    dhclient(nl, "-1 mv0");
    let lease = leases(nl).pop().expect("a lease");
    let ip = at(&lease, "ip6_address");
    assert_eq!((at(&lease, "container"), ip.as_str()), ("a".to_owned(), "fd00:5::3"));
    assert!(said(nl).contains("ip=fd00:5::3"));
    // The address is taken: a container gets the next one, and cannot have this one.
    nl.ok("run -d --name b --net six sleep 1000");
    assert_eq!(at(&nl.inspect("b"), "networks.six.ip6_address"), "fd00:5::4");
    assert!(nl.fails("run --net six --ip6 fd00:5::3 true", 125).contains("in use"));
    nl.ok("exec --privileged a ip -6 addr add fd00:5::3/64 dev mv0 nodad");
    nl.ok("exec b busybox ping6 -c 1 -W 5 fd00:5::3");
    dhclient(nl, "-r mv0");
    wait_until("it was given back", || leases(nl).is_empty());
}

fn dhclient_that_starts_again_keeps_its_ipv6_lease(nl: &Netloom) {
    container(nl);
    behind(nl);
    dhclient(nl, "-1 mv0");
    let before = leases(nl);
    nl.ok("exec --privileged a sh -c 'kill $(cat /tmp/pid6)'");
    // It asks whether what it has in its file still holds here.
    dhclient(nl, "-1 mv0");
    let all = nl.ok("exec a cat /tmp/said");
    assert_eq!(all.lines().filter(|line| line.contains("ip=fd00:5::3")).count(), 2, "{all}");
    assert_eq!(leases(nl).len(), 1);
    assert_eq!(at(&leases(nl)[0], "ip6_address"), at(&before[0], "ip6_address"));
}

fn dhclient_that_finds_its_ipv6_address_in_use_gets_another_one(nl: &Netloom) {
    container(nl);
    behind(nl);
    // A script that ends with 3 has found the address in use (dhclient-script(8)).
    nl.ok("exec a sh -c 'sed \"s/^exit 0/[ \\$new_ip6_address != fd00:5::3 ] || exit 3/\" /said.sh > /tmp/picky.sh && chmod 755 /tmp/picky.sh'");
    dhclient(nl, "-1 -sf /tmp/picky.sh mv0");
    assert!(said(nl).contains("ip=fd00:5::4"));
    let held: Vec<_> = leases(nl).iter().map(|lease| at(lease, "ip6_address")).collect();
    assert!(held.contains(&"fd00:5::4".into()), "{held:?}");
    // Whoever has the other one, it is not given to a container.
    nl.ok("run -d --name b --net six sleep 1000");
    assert_eq!(at(&nl.inspect("b"), "networks.six.ip6_address"), "fd00:5::5");
}

fn dhcpcd_behind_a_container_gets_an_ipv6_lease(nl: &Netloom) {
    container(nl);
    behind(nl);
    // In the foreground: it goes into the background once it has an address of the advertisement's prefix, which is earlier.
    let client = nl.start("exec --privileged a timeout 40 dhcpcd -6 -B --nohook resolv.conf mv0");
    wait_until("it has a lease", || leases(nl).len() == 1);
    let ip = at(&leases(nl)[0], "ip6_address");
    wait_until("it uses it", || nl.ok("exec a ip -6 -o addr show dev mv0").contains(&ip));
    drop(client);
}

fn an_ipv6_lease_survives_the_daemon(nl: &Netloom) {
    container(nl);
    behind(nl);
    dhclient(nl, "-1 mv0");
    let before = leases(nl);
    assert_eq!(before.len(), 1);
    nl.host.kill(nl.daemon(), "KILL");
    assert_eq!(leases(nl), before);
}

fn an_attached_namespace_without_an_address_gets_one_of_each(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 --subnet fd00:5::/64 six");
    let unshare = if nl.who() == Who::Root { "unshare --net" } else { "unshare --user --map-root-user --net" };
    let process = nl.host.start_as(nl.who(), Place::Host, &format!("{unshare} sh -c 'echo pid=$$.; exec sleep 1000'"));
    process.expect(".");
    let pid = process.stdout_so_far().trim().trim_start_matches("pid=").trim_end_matches('.').to_owned();
    wait_until("it sleeps", || nl.host.ok(&format!("cat /proc/{pid}/comm")) == "sleep");
    nl.ok(&format!("network attach six --no-ip --pid {pid}"));
    let inside = |line: &str| nl.host.ok(&format!("nsenter -t {pid} -n {line}"));
    wait_until("it speaks IPv6", || {
        let addresses = inside("ip -6 -o addr show dev eth0 scope link");
        addresses.contains("fe80::") && !addresses.contains("tentative")
    });
    let dir = nl.host.dir().display().to_string();
    for family in ["-4", "-6"] {
        inside(&format!("timeout 20 dhclient {family} -1 -sf /bin/true -lf {dir}/leases{family} -pf {dir}/pid{family} eth0"));
        nl.host.ok(&format!("sh -c 'kill $(cat {dir}/pid{family})'"));
    }
    let all = nl.json("leases six --format json");
    let of = |key: &str| {
        let all = all.as_array().expect("a list");
        all.iter().filter(|lease| !lease[key].is_null()).map(|lease| at(lease, key)).collect::<Vec<_>>()
    };
    assert_eq!((of("ip_address"), of("ip6_address")), (vec!["10.5.0.2".to_owned()], vec!["fd00:5::2".to_owned()]), "{all:#}");
    nl.ok(&format!("network detach six --pid {pid}"));
}
