//! Names: containers', aliases, hosts files, and the rest of the world through the host's resolver.

use std::net::Ipv4Addr;

use netloom_tests::{DnsServer, FAR_IP, Netloom, at};

for_both!(
    containers_find_each_other_by_name,
    an_alias_is_a_name_on_its_network,
    an_alias_of_several_containers_goes_round_and_each_keeps_its_own_name,
    the_host_has_a_name_inside,
    dig_gets_over_tcp_what_it_gets_over_udp,
    a_resolver_that_changes_is_followed,
    a_resolver_file_that_is_replaced_is_followed,
    names_are_known_only_on_shared_networks,
    other_names_go_to_the_hosts_resolver,
    a_name_that_nobody_knows_is_not_found,
    a_container_s_name_never_leaves_for_the_hosts_resolver,
    from_an_internal_network_no_name_leaves_for_the_hosts_resolver,
    a_removed_container_s_name_is_gone,
    a_hosts_file_has_the_container_and_what_was_added,
    a_nameserver_and_a_search_domain_of_ones_own_are_used,
    host_mode_uses_the_hosts_own_resolver,
    short_names_are_looked_for_where_the_host_looks_for_them,
);

/// The IPv4 address that a container gets for a name from `getent`, which asks as programs do.
fn lookup(nl: &Netloom, options: &str, name: &str) -> Option<String> {
    let found = nl.run(&format!("run --rm {options} getent ahostsv4 {name}"));
    (found.code == 0).then(|| found.text().split_whitespace().next().unwrap_or_default().to_owned())
}

fn containers_find_each_other_by_name(nl: &Netloom) {
    nl.ok("run -d --name web sleep 1000");
    nl.ok("run -d --name db sleep 1000");
    for (from, name) in [("web", "db"), ("db", "web"), ("web", "web")] {
        let found = nl.ok(&format!("exec {from} getent ahostsv4 {name}"));
        assert_eq!(found.split_whitespace().next(), Some(nl.ip(name).as_str()), "{name} from {from}");
    }
    // By its ID, and by its hostname where that is another name.
    let id = at(&nl.inspect("db"), "id");
    assert_eq!(lookup(nl, "", &id[..12]), Some(nl.ip("db")));
    // Case does not matter to DNS.
    assert_eq!(lookup(nl, "", "WEB"), Some(nl.ip("web")));
}

fn an_alias_is_a_name_on_its_network(nl: &Netloom) {
    nl.ok("network create blue");
    nl.ok("run -d --name db --net blue --network-alias postgres --network-alias sql sleep 1000");
    for alias in ["postgres", "sql", "db"] {
        assert_eq!(lookup(nl, "--net blue", alias), Some(nl.ip("db")), "{alias}");
    }
    assert_eq!(lookup(nl, "", "postgres"), None, "an alias is not known on another network");
}

fn an_alias_of_several_containers_goes_round_and_each_keeps_its_own_name(nl: &Netloom) {
    nl.ok("network create blue");
    for name in ["one", "two"] {
        nl.ok(&format!("run -d --name {name} --net blue --network-alias pool -h {name}-box sleep 1000"));
    }
    nl.ok("run -d --name asker --net blue sleep 1000");
    let (one, two) = (nl.ip("one"), nl.ip("two"));
    let first = || nl.ok("exec asker dig +short pool").lines().next().map(str::to_owned);
    let firsts: std::collections::HashSet<_> = (0..40).filter_map(|_| first()).collect();
    assert_eq!(firsts, [one.clone(), two.clone()].into(), "forty answers have both at the top");
    for (name, ip) in [("one", one), ("two", two)] {
        assert_eq!(nl.ok(&format!("exec asker dig +short -x {ip}")), format!("{name}."));
        assert_eq!(nl.ok(&format!("exec asker dig +short {name}-box")), ip);
    }
}

fn the_host_has_a_name_inside(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let gateway = at(&nl.inspect("a"), "networks.bridge.gateway");
    for name in ["host.netloom.internal", "host.docker.internal"] {
        assert_eq!(nl.ok(&format!("exec a getent ahostsv4 {name}")).split_whitespace().next(), Some(gateway.as_str()));
    }
    assert_eq!(nl.ok(&format!("exec a dig +short -x {gateway}")), "host.netloom.internal.");
}

fn dig_gets_over_tcp_what_it_gets_over_udp(nl: &Netloom) {
    let server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    nl.ok("run -d --name web sleep 1000");
    for name in ["web", "files.example.test"] {
        let udp = nl.ok(&format!("exec web dig +short {name}"));
        assert!(!udp.is_empty(), "{name}");
        assert_eq!(nl.ok(&format!("exec web dig +tcp +short {name}")), udp);
    }
    // Two questions on one connection, as libc's `options use-vc` may send them.
    let both = nl.ok("exec web dig +tcp +keepopen +short web files.example.test");
    assert_eq!(both.lines().collect::<Vec<_>>(), [nl.ip("web").as_str(), "203.0.113.9"]);
    drop(server);
}

fn a_resolver_that_changes_is_followed(nl: &Netloom) {
    let _server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    // A file of this host's own over the machine's, which names a resolver that says nothing.
    let conf = nl.host.write("resolv.conf", "nameserver 10.99.0.200\n");
    nl.host.ok(&format!("mount --bind {} /etc/resolv.conf", conf.display()));
    nl.ok("run -d --name a sleep 1000");
    let ask = "exec a dig +short +tries=1 +time=1 files.example.test";
    assert!(!nl.run(ask).text().contains("203.0.113.9"));
    std::fs::write(&conf, "search example.test\nnameserver 10.99.0.1\n").expect("the file can be written");
    netloom_tests::wait_until("the new resolver is asked", || nl.run(ask).text() == "203.0.113.9");
    nl.host.ok("umount /etc/resolv.conf");
}

/// By a rename, as NetworkManager does it, and by a symlink that leads elsewhere, as with systemd-resolved.
fn a_resolver_file_that_is_replaced_is_followed(nl: &Netloom) {
    let _server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    // A directory of this host's own in the place of /etc, with all that is in the machine's.
    nl.host.ok("sh -c 'mkdir /run/etc && cp -a /etc/passwd /etc/group /etc/nsswitch.conf /run/etc/; cp -a /etc/subuid /etc/subgid /run/etc/ || true'");
    nl.host.ok("mount --bind /run/etc /etc");
    let silent = "nameserver 10.99.0.200";
    nl.host.ok(&format!("sh -c 'echo {silent} > /etc/resolv.conf'"));
    nl.ok("run -d --name a sleep 1000");
    let is_found = || nl.run("exec a dig +short +tries=1 +time=1 files.example.test").text() == "203.0.113.9";
    assert!(!is_found());
    nl.host.ok("sh -c 'echo nameserver 10.99.0.1 > /etc/new && mv /etc/new /etc/resolv.conf'");
    netloom_tests::wait_until("the renamed file is read", is_found);
    nl.host.ok(&format!("sh -c 'echo {silent} > /etc/silent && ln -s silent /etc/link && mv /etc/link /etc/resolv.conf'"));
    // One that is late by chance is no sign.
    netloom_tests::wait_until("the symlink is read", || (0..3).all(|_| !is_found()));
    nl.host.ok("sh -c 'echo nameserver 10.99.0.1 > /etc/other && ln -s other /etc/link && mv /etc/link /etc/resolv.conf'");
    netloom_tests::wait_until("the other symlink is read", is_found);
    nl.remove_all();
    nl.host.ok("umount /etc");
}

fn names_are_known_only_on_shared_networks(nl: &Netloom) {
    nl.ok("network create blue");
    nl.ok("run -d --name hidden --net blue sleep 1000");
    assert_eq!(lookup(nl, "--net blue", "hidden"), Some(nl.ip("hidden")));
    assert_eq!(lookup(nl, "", "hidden"), None);
    // One who is on both knows the names of both.
    nl.ok("run -d --name plain sleep 1000");
    nl.ok("run -d --name both --net blue --net bridge sleep 1000");
    for name in ["hidden", "plain"] {
        assert_eq!(nl.ok(&format!("exec both getent ahostsv4 {name}")).split_whitespace().next(), Some(nl.ip(name).as_str()));
    }
}

fn other_names_go_to_the_hosts_resolver(nl: &Netloom) {
    let server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    assert_eq!(lookup(nl, "", "files.example.test"), Some("203.0.113.9".into()));
    assert!(server.asked().contains(&"files.example.test".into()), "{:?}", server.asked());
}

fn a_name_that_nobody_knows_is_not_found(nl: &Netloom) {
    let server = DnsServer::start(&nl.host, &[]);
    nl.ok("run -d --name a sleep 1000");
    let began = std::time::Instant::now();
    assert_eq!(nl.run("exec a getent ahostsv4 nobody.example.test").code, 2);
    assert!(began.elapsed().as_secs() < 4, "the answer came by timeout");
    assert!(server.asked().contains(&"nobody.example.test".into()), "{:?}", server.asked());
}

fn a_container_s_name_never_leaves_for_the_hosts_resolver(nl: &Netloom) {
    let server = DnsServer::start(&nl.host, &[("web", Ipv4Addr::new(203, 0, 113, 9))]);
    nl.ok("run -d --name web sleep 1000");
    assert_eq!(lookup(nl, "", "web"), Some(nl.ip("web")));
    nl.run("run --rm getent ahostsv6 web");
    assert!(!server.asked().contains(&"web".into()), "{:?}", server.asked());
}

fn from_an_internal_network_no_name_leaves_for_the_hosts_resolver(nl: &Netloom) {
    let dns = DnsServer::start(&nl.host, &[("far.example", FAR_IP)]);
    nl.ok("network create --internal quiet");
    nl.ok("run -d --name a --net quiet sleep 1000");
    assert_eq!(lookup(nl, "--net quiet", "far.example"), None);
    assert_eq!(lookup(nl, "--net quiet", "a"), Some(nl.ip("a")));
    assert_eq!(dns.asked(), Vec::<String>::new());
}

fn a_removed_container_s_name_is_gone(nl: &Netloom) {
    let _server = DnsServer::start(&nl.host, &[]);
    nl.ok("run -d --name web sleep 1000");
    assert!(lookup(nl, "", "web").is_some());
    nl.ok("rm -f web");
    assert_eq!(lookup(nl, "", "web"), None);
}

fn a_hosts_file_has_the_container_and_what_was_added(nl: &Netloom) {
    let hosts = nl.ok("run --rm --name me -h box --add-host db:192.0.2.7 --add-host six:2001:db8::1 cat /etc/hosts");
    for line in [&["127.0.0.1", "localhost"][..], &["192.0.2.7", "db"], &["2001:db8::1", "six"]] {
        assert!(hosts.lines().any(|have| have.split_whitespace().collect::<Vec<_>>() == line), "{line:?} is not in:\n{hosts}");
    }
    assert!(hosts.lines().any(|line| line.split_whitespace().any(|word| word == "box")), "{hosts}");
    let here = |mode: &str| nl.ok(&format!("run --rm --net={mode} --add-host here:host-gateway sh -c 'grep -w here /etc/hosts'"));
    assert_eq!(here("bridge").split_whitespace().collect::<Vec<_>>(), ["172.17.0.1", "here"]);
    assert_eq!(here("host").split_whitespace().collect::<Vec<_>>(), ["127.0.0.1", "here"]);
    assert_eq!(nl.ok("run --rm -h box hostname"), "box");
    assert_eq!(nl.ok("run --rm -h box cat /etc/hostname"), "box");
    assert_eq!(lookup(nl, "--add-host db:192.0.2.7", "db"), Some("192.0.2.7".into()));
}

fn a_nameserver_and_a_search_domain_of_ones_own_are_used(nl: &Netloom) {
    let server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    let conf = nl.ok("run --rm --dns 10.99.0.1 --dns-search example.test cat /etc/resolv.conf");
    assert!(conf.lines().any(|line| line.split_whitespace().eq(["search", "example.test"])), "{conf}");
    let unsearched = nl.ok("run --rm --dns 10.99.0.1 --dns-search . cat /etc/resolv.conf");
    assert_eq!(unsearched.lines().collect::<Vec<_>>(), ["nameserver 10.99.0.1"]);
    assert_eq!(lookup(nl, "--dns 10.99.0.1 --dns-search example.test", "files"), Some("203.0.113.9".into()));
    drop(server);
}

fn host_mode_uses_the_hosts_own_resolver(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm --net=host cat /etc/resolv.conf"), nl.host.ok("cat /etc/resolv.conf"));
    let _server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    assert_eq!(lookup(nl, "--net=host", "files.example.test"), Some("203.0.113.9".into()));
}

fn short_names_are_looked_for_where_the_host_looks_for_them(nl: &Netloom) {
    let _server = DnsServer::start(&nl.host, &[("files.example.test", Ipv4Addr::new(203, 0, 113, 9))]);
    let conf = nl.host.write("resolv.conf", "search example.test\nnameserver 10.99.0.1\n");
    nl.host.ok(&format!("mount --bind {} /etc/resolv.conf", conf.display()));
    assert_eq!(lookup(nl, "", "files"), Some("203.0.113.9".into()));
    assert_eq!(lookup(nl, "--dns-search elsewhere.test", "files"), None);
    nl.host.ok("umount /etc/resolv.conf");
}
