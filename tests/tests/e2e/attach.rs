//! `network attach`: interfaces in network namespaces that somebody else made.

use netloom_tests::{Netloom, Place, Running, Who, at, for_each_case, wait_for, wait_until};

for_both!(
    a_namespace_of_somebodys_is_on_the_network,
    it_is_seen_wherever_a_container_is_and_ps_does_not_list_it,
    a_detached_interface_is_gone_and_its_name_free_at_once,
    it_ends_with_its_process,
    without_an_address_it_is_up_and_bare,
    both_families_come_with_their_routes,
    a_dhcp_client_gets_an_address_of_the_network,
    two_networks_by_two_interfaces_but_no_overlap,
    what_cannot_be_attached_is_refused_by_name,
    what_is_not_attached_cannot_be_detached,
    a_network_with_something_attached_stays,
    a_ready_descriptor_is_told_and_an_exit_descriptor_ends_it,
    a_killed_daemon_loses_no_attachment,
    a_killed_holder_leaves_nothing,
    the_setting_of_its_port_outlives_the_daemon,
    netlooms_own_network_must_be_named_by_its_path,
);
for_root!(
    "Only root gives network namespaces names, and owns the host's own.":
    it_ends_with_the_name_of_its_namespace,
    a_removed_interface_can_be_detached,
    the_host_itself_can_be_attached_by_its_path,
);
for_user!("To root nobody's namespace is closed.": a_namespace_of_another_user_is_refused);

/// A network namespace that netloom did not make, with a process in it.
struct Foreign<'a> {
    nl: &'a Netloom,
    process: Running,
    pid: String,
}

impl<'a> Foreign<'a> {
    /// As the user of the host can make one.
    #[track_caller]
    fn new(nl: &'a Netloom) -> Self {
        let unshare = if nl.who() == Who::Root { "unshare --net" } else { "unshare --user --map-root-user --net" };
        Self::made_by(nl, nl.who(), unshare)
    }

    #[track_caller]
    fn made_by(nl: &'a Netloom, who: Who, unshare: &str) -> Self {
        let process = nl.host.start_as(who, Place::Host, &format!("{unshare} sh -c 'echo pid=$$.; exec sleep 1000'"));
        process.expect(".");
        let said = process.stdout_so_far();
        let pid = said.trim().trim_start_matches("pid=").trim_end_matches('.').to_owned();
        wait_until("it sleeps", || nl.host.ok(&format!("cat /proc/{pid}/comm")) == "sleep");
        Self { nl, process, pid }
    }

    /// Runs a program in it, as the host's root, who may enter all.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.nl.host.ok(&format!("nsenter -t {} -n {line}", self.pid))
    }

    fn links(&self) -> String {
        self.ok("ip -o link")
    }

    fn name(&self) -> String {
        format!("pid:{}", self.pid)
    }

    #[track_caller]
    fn attach(&self, words: &str) -> String {
        self.nl.ok(&format!("network attach {words} --pid {}", self.pid))
    }
}

/// The processes that hold attached interfaces.
fn holders(nl: &Netloom) -> Vec<i32> {
    nl.host.processes().into_iter().filter(|(_, line)| line.contains("__holder")).map(|(pid, _)| pid).collect()
}

fn lab(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 lab");
}

fn leases(nl: &Netloom) -> String {
    nl.ok("leases lab --format '{{.ip_address}} {{.container}}'")
}

fn a_namespace_of_somebodys_is_on_the_network(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    assert_eq!(foreign.attach("lab"), "10.5.0.3");
    let shown = foreign.ok("ip -o -4 addr show eth0");
    assert!(shown.contains("10.5.0.3/24"), "{shown}");
    assert!(foreign.ok("ip link show eth0").contains("02:42:0a:05:00:03"));
    assert!(foreign.ok("ip route").starts_with("default via 10.5.0.1 dev eth0"));
    // Both ways, to itself, and to the world outside.
    foreign.ok("busybox ping -c 1 -W 5 10.5.0.2");
    nl.ok("exec web busybox ping -c 1 -W 5 10.5.0.3");
    foreign.ok("busybox ping -c 1 -W 5 10.5.0.3");
    nl.host.write("index.html", "hello");
    let _server = nl.host.start(Place::Server, &format!("busybox httpd -f -p 8000 -h {}", nl.host.dir().display()));
    wait_until("the world outside answers", || {
        let get = "busybox wget -q -O - http://10.99.0.1:8000/";
        nl.host.try_run(&format!("nsenter -t {} -n {get}", foreign.pid)).text() == "hello"
    });
    let found = foreign.ok("busybox nslookup web.  10.5.0.1");
    assert!(found.contains("10.5.0.2"), "{found}");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
}

fn it_is_seen_wherever_a_container_is_and_ps_does_not_list_it(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    foreign.attach("lab --mac-address 02:00:00:00:00:2a --ip 10.5.0.42");
    foreign.ok("busybox ping -c 1 -W 5 10.5.0.1");
    let name = foreign.name();
    let network = nl.json("network inspect lab")[0].clone();
    let member = network["containers"].as_object().and_then(|all| all.values().next()).expect("a member").clone();
    assert_eq!((at(&member, "name"), at(&member, "ip_address")), (name.clone(), "10.5.0.42".into()));
    assert_eq!(leases(nl), format!("10.5.0.42 {name}"));
    assert_eq!(nl.ok("ports lab --format '{{.id}} {{.container}} {{.link}}'"), format!("0 gateway \n1 {name} eth0"));
    let learned = nl.ok("fdb lab --format '{{.mac}} {{.container}}'");
    assert!(learned.contains(&format!("02:00:00:00:00:2a {name}")), "{learned}");
    assert_eq!(nl.ok("ps -a -q"), "");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
    let events = nl.ok("events --format '{{.action}} {{.name}} {{.attributes.container}}'");
    for action in ["connect", "disconnect"] {
        assert!(events.lines().any(|line| line == format!("{action} lab {name}")), "no {action} in {events}");
    }
    assert_eq!(leases(nl), "");
    assert!(holders(nl).is_empty());
}

fn a_detached_interface_is_gone_and_its_name_free_at_once(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    for round in 0..5 {
        foreign.attach("lab");
        // By another of its names.
        nl.ok(&format!("network detach lab --netns /proc/{}/ns/net", foreign.pid));
        assert!(!foreign.links().contains("eth0"), "round {round}");
    }
    assert_eq!(leases(nl), "");
}

fn it_ends_with_its_process(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    foreign.process.signal(nix::sys::signal::Signal::SIGKILL);
    wait_until("its address is free", || leases(nl).is_empty());
    wait_until("its holder has ended", || holders(nl).is_empty());
    assert_eq!(nl.ok("ports lab -q"), "0");
    nl.ok("network rm lab");
}

fn without_an_address_it_is_up_and_bare(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    assert_eq!(foreign.attach("lab --no-ip --ifname lan"), "");
    assert_eq!((foreign.ok("ip -o -4 addr"), foreign.ok("ip route")), (String::new(), String::new()));
    let link = foreign.ok("ip -o link show lan");
    assert!(link.contains("<BROADCAST,MULTICAST,UP,LOWER_UP>"), "{link}");
    assert_eq!(leases(nl), "10.5.0.2 web");
    let network = nl.json("network inspect lab")[0].clone();
    let members: Vec<_> = network["containers"].as_object().expect("members").values().cloned().collect();
    assert!(members.iter().any(|member| at(member, "name") == foreign.name() && member["ip_address"].is_null()), "{network:#}");
    // Whoever is there gives it one.
    foreign.ok("ip addr add 10.5.0.200/24 dev lan");
    foreign.ok("busybox ping -c 1 -W 5 10.5.0.2");
    nl.ok("exec web busybox ping -c 1 -W 5 10.5.0.200");
    nl.ok(&format!("network detach lab --pid {} --ifname lan", foreign.pid));
}

fn both_families_come_with_their_routes(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 --subnet fd00:5::/64 lab");
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    // What its owner says of new interfaces does not hold for one of a network with IPv6.
    foreign.ok("sysctl -q -w net.ipv6.conf.default.disable_ipv6=1");
    assert_eq!(foreign.attach("lab --ip6 fd00:5::99"), "10.5.0.3");
    assert!(foreign.ok("ip -6 -o addr show eth0").contains("fd00:5::99/64"));
    assert!(foreign.ok("ip -6 route show default").starts_with("default via fd00:5::1 dev eth0"));
    foreign.ok("busybox ping6 -c 1 -W 5 fd00:5::2");
    nl.ok("exec web busybox ping6 -c 1 -W 5 fd00:5::99");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
    assert_eq!(leases(nl), "10.5.0.2 web");
    // Its address is free again.
    nl.ok("run --rm --net lab --ip6 fd00:5::99 true");
}

fn a_dhcp_client_gets_an_address_of_the_network(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    foreign.attach("lab --no-ip");
    foreign.ok("busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /bin/true");
    assert_eq!(leases(nl), format!("10.5.0.2 {}", foreign.name()));
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
}

fn two_networks_by_two_interfaces_but_no_overlap(nl: &Netloom) {
    lab(nl);
    nl.ok("network create --subnet 10.6.0.0/24 blue");
    nl.ok("network create --subnet 10.5.0.0/16 wide");
    nl.ok("run -d --name azure --net blue sleep 1000");
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    foreign.attach("blue --ifname eth1");
    let ways = foreign.ok("ip route show default");
    assert_eq!(ways.trim_end().trim_end_matches(" congctl cubic"), "default via 10.5.0.1 dev eth0", "the first way stays");
    foreign.ok("busybox ping -c 1 -W 5 10.6.0.2");
    // As a container on both may, it asks each gateway for the names of both.
    assert!(foreign.ok("busybox nslookup azure. 10.5.0.1").contains("10.6.0.2"));
    let why = nl.fails(&format!("network attach wide --ifname eth2 --pid {}", foreign.pid), 1);
    assert!(why.contains("overlap") && why.contains("--no-ip"), "{why}");
    foreign.attach("wide --ifname eth2 --no-ip");
    for (network, ifname) in [("lab", "eth0"), ("blue", "eth1"), ("wide", "eth2")] {
        nl.ok(&format!("network detach {network} --pid {} --ifname {ifname}", foreign.pid));
    }
    assert_eq!(foreign.links().lines().count(), 1, "lo alone is left");
}

fn what_cannot_be_attached_is_refused_by_name(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    let pid = &foreign.pid;
    let cases = [
        (format!("lab --pid {pid}"), 1, "eth0"),
        (format!("bridge --pid {pid} --ifname lo"), 1, "`lo`"),
        (format!("lab --pid {pid} --ifname eth1"), 1, "has an address on network `lab` already"),
        (format!("lab --pid {pid} --ifname a/b"), 2, "`a/b`"),
        (format!("lob --pid {pid}"), 1, "did you mean `lab`"),
        ("lab --pid 999999".to_owned(), 1, "there is no process 999999"),
        ("lab --netns /run/netns/none".to_owned(), 1, "cannot open /run/netns/none"),
        ("lab --netns /dev/null".to_owned(), 1, "/dev/null is not a network namespace"),
        (format!("bridge --pid {pid} --ifname eth1 --ip 10.5.0.9"), 1, "10.5.0.9"),
        (format!("bridge --pid {pid} --ifname eth1 --exit-fd 77"), 2, "descriptor 77"),
        // Nobody opened these for it, whatever it has under these numbers itself.
        (format!("bridge --pid {pid} --ifname eth1 --exit-fd 3"), 2, "descriptor 3"),
        (format!("bridge --pid {pid} --ifname eth1 --ready-fd 4"), 2, "descriptor 4"),
        (format!("bridge --pid {pid} --ifname eth1 --mac-address 01:00:5e:00:00:01"), 2, "01:00:5e:00:00:01"),
    ];
    for_each_case(cases, |(words, code, named)| {
        let tried = nl.run(&format!("network attach {words}"));
        let good = tried.code == *code && tried.stderr.contains(named) && tried.stderr.contains("hint:");
        good.then_some(()).ok_or_else(|| format!("{tried:?}"))
    });
    let other = Foreign::new(nl);
    for (words, named) in [("--ip 10.5.0.2", "`web` has it"), ("--mac-address 02:42:0a:05:00:03", &foreign.name())] {
        let why = nl.fails(&format!("network attach lab --pid {} {words}", other.pid), 1);
        assert!(why.contains(named), "{why}");
    }
    // Nothing half made is left of any of these.
    assert_eq!((other.links().lines().count(), foreign.links().lines().count(), holders(nl).len()), (1, 2, 1));
    assert_eq!(leases(nl).lines().count(), 2);
    nl.ok(&format!("network detach lab --pid {pid}"));
}

fn what_is_not_attached_cannot_be_detached(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    let why = nl.fails(&format!("network detach lab --pid {}", foreign.pid), 1);
    assert!(why.contains(&foreign.name()) && why.contains("`eth0`") && why.contains("`lab`"), "{why}");
    foreign.attach("lab --ifname lan");
    let why = nl.fails(&format!("network detach lab --pid {}", foreign.pid), 1);
    assert!(why.contains(&format!("{} (lan)", foreign.name())), "{why}");
    nl.fails(&format!("network detach bridge --pid {} --ifname lan", foreign.pid), 1);
    nl.ok(&format!("network detach lab --pid {} --ifname lan", foreign.pid));
}

fn a_network_with_something_attached_stays(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    let why = nl.fails("network rm lab", 1);
    assert!(why.contains(&format!("in use by {}", foreign.name())) && why.contains("network detach"), "{why}");
    assert_eq!(nl.ok("network prune"), "");
    foreign.ok("busybox ping -c 1 -W 5 10.5.0.1");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
    nl.ok("network rm lab");
}

fn a_ready_descriptor_is_told_and_an_exit_descriptor_ends_it(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    let netloom = nl.words("network attach lab").join(" ");
    let ready = nl.host.dir().join("ready");
    let script = format!(
        "exec 8< <(exec sleep 1000); life=$!; {netloom} --pid {} --ready-fd 7 --exit-fd 8 7>{}; echo code=$?; read -r; kill $life; read -r",
        foreign.pid,
        ready.display(),
    );
    let mut shell = nl.host.start_as(nl.who(), Place::Host, &format!("bash -c '{script}'"));
    shell.expect("code=0");
    assert_eq!(std::fs::read_to_string(&ready).expect("it was told"), "1");
    assert!(foreign.links().contains("eth0") && holders(nl).len() == 1);
    shell.type_in("\n");
    wait_until("it ends", || holders(nl).is_empty());
    wait_until("the interface is gone", || !foreign.links().contains("eth0"));
    wait_until("its address is free", || leases(nl).is_empty());
    // A file has no other end.
    let tried = nl.host.start_as(nl.who(), Place::Host, &format!("bash -c '{netloom} --pid {} --exit-fd 5 5</dev/null'", foreign.pid));
    let tried = tried.finish();
    assert!(tried.code == 1 && tried.stderr.contains("--exit-fd") && tried.stderr.contains("pipe"), "{tried:?}");
}

fn a_killed_daemon_loses_no_attachment(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    let bare = Foreign::new(nl);
    bare.attach("lab --no-ip");
    let (before, killed) = (nl.json("leases --format json"), nl.daemon());
    nl.host.kill(killed, "KILL");
    wait_until("another daemon runs", || nl.daemon() != killed);
    assert_eq!(nl.json("leases --format json"), before);
    foreign.ok("busybox ping -c 1 -W 5 10.5.0.2");
    nl.ok("exec web busybox ping -c 1 -W 5 10.5.0.3");
    assert!(nl.fails("network rm lab", 1).contains(&foreign.name()));
    // With nothing else running, too: a holder starts the daemon by itself.
    nl.ok("rm -f web");
    nl.host.kill(nl.daemon(), "KILL");
    wait_until("the gateway answers again", || {
        nl.host.try_run(&format!("nsenter -t {} -n busybox ping -c 1 -W 1 10.5.0.1", foreign.pid)).code == 0
    });
    for foreign in [foreign, bare] {
        nl.ok(&format!("network detach lab --pid {}", foreign.pid));
        assert!(!foreign.links().contains("eth0"));
    }
}

fn a_killed_holder_leaves_nothing(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    for holder in holders(nl) {
        nl.host.kill(holder.into(), "KILL");
    }
    wait_until("the interface is gone", || !foreign.links().contains("eth0"));
    wait_until("its address is free", || leases(nl) == "10.5.0.2 web");
    assert_eq!(nl.ok("ports lab -q"), "0\n1");
    // Together with the daemon: the next one sweeps what is on disk.
    foreign.attach("lab");
    let both = [holders(nl), vec![i32::try_from(nl.daemon()).expect("a process")]].concat();
    nl.host.ok(&format!("kill -KILL {}", both.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")));
    wait_until("its address is free again", || leases(nl) == "10.5.0.2 web");
    wait_until("nothing is left on disk", || std::fs::read_dir(nl.root().join("holders")).expect("a directory").count() == 0);
    foreign.attach("lab");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
}

fn the_setting_of_its_port_outlives_the_daemon(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    nl.ok("network port set lab 2 isolated=on");
    let ping = || nl.host.try_run(&format!("nsenter -t {} -n busybox ping -c 1 -W 1 10.5.0.2", foreign.pid)).code;
    assert_ne!(ping(), 0);
    let killed = nl.daemon();
    nl.host.kill(killed, "KILL");
    wait_until("another daemon runs", || nl.daemon() != killed);
    assert_ne!(ping(), 0);
    let port = wait_for("its port is back", || {
        let ports = nl.ok("ports lab --format '{{.id}} {{.container}}'");
        ports.lines().find_map(|line| Some(line.strip_suffix(&foreign.name())?.trim().to_owned()))
    });
    nl.ok(&format!("network port set lab {port} isolated=off"));
    // One that was sent while the kernel still waits for the answer that it was denied may be lost.
    wait_until("it is heard again", || ping() == 0);
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
}

fn netlooms_own_network_must_be_named_by_its_path(nl: &Netloom) {
    lab(nl);
    let here = nl.host.start_as(nl.who(), Place::Host, "sh -c 'echo pid=$$.; exec sleep 1000'");
    here.expect(".");
    let said = here.stdout_so_far();
    let pid = said.trim().trim_start_matches("pid=").trim_end_matches('.');
    let why = nl.fails(&format!("network attach lab --pid {pid} --ifname lab0"), 1);
    assert!(why.contains("netloom itself runs in") && why.contains(&format!("--netns /proc/{pid}/ns/net")), "{why}");
    assert!(!nl.host.ok("ip -o link").contains("lab0"));
}

fn the_host_itself_can_be_attached_by_its_path(nl: &Netloom) {
    lab(nl);
    nl.ok("run -d --name web --net lab sleep 1000");
    let default = nl.host.ok("ip route show default");
    nl.ok("network attach lab --netns /proc/self/ns/net --ifname lab0");
    nl.host.ok("busybox ping -c 1 -W 5 10.5.0.2");
    assert_eq!(nl.host.ok("ip route show default"), default);
    nl.ok("network detach lab --netns /proc/self/ns/net --ifname lab0");
    assert!(!nl.host.ok("ip -o link").contains("lab0"));
}

fn it_ends_with_the_name_of_its_namespace(nl: &Netloom) {
    lab(nl);
    for (made, ended) in [("ip netns add r1", "ip netns del r1"), ("ip netns add r1", "umount /run/netns/r1")] {
        nl.host.ok(made);
        nl.ok("network attach lab --netns /run/netns/r1");
        assert!(leases(nl).contains("ns:/run/netns/r1"));
        // Another one comes and goes beside it.
        nl.host.ok("ip netns add r2");
        nl.host.ok("ip netns del r2");
        nl.host.ok("ip netns exec r1 busybox ping -c 1 -W 5 10.5.0.1");
        nl.host.ok(ended);
        wait_until("its address is free", || leases(nl).is_empty());
        wait_until("its holder has ended", || holders(nl).is_empty());
        nl.host.try_run("rm -f /run/netns/r1");
    }
}

fn a_removed_interface_can_be_detached(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::new(nl);
    foreign.attach("lab");
    foreign.ok("ip link del eth0");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
    assert_eq!(leases(nl), "");
    foreign.attach("lab");
    nl.ok(&format!("network detach lab --pid {}", foreign.pid));
}

fn a_namespace_of_another_user_is_refused(nl: &Netloom) {
    lab(nl);
    let foreign = Foreign::made_by(nl, Who::Root, "unshare --net");
    let why = nl.fails(&format!("network attach lab --pid {}", foreign.pid), 1);
    assert!(why.contains(&format!("process {}", foreign.pid)) && why.contains("hint: without root"), "{why}");
    nl.host.ok("ip netns add r1");
    let why = nl.fails("network attach lab --netns /run/netns/r1", 1);
    assert!(why.contains("ns:/run/netns/r1") && why.contains("belongs to another user") && why.contains("hint: without root"), "{why}");
    let why = nl.fails("network attach lab --netns /proc/self/ns/net --ifname lab0", 1);
    assert!(why.contains("belongs to another user"), "{why}");
    nl.host.ok("ip netns del r1");
    assert!(leases(nl).is_empty() && holders(nl).is_empty());
}
