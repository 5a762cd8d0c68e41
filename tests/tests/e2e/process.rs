//! What the command has: environment, directory, user, limits, capabilities.

use netloom_tests::{Netloom, for_each_case};

for_both!(
    the_environment_is_what_was_said,
    a_file_of_variables_is_read,
    the_directory_is_what_was_said,
    a_user_is_a_name_or_numbers,
    limits_are_set,
    limits_of_groups_are_enforced_or_refused,
    a_sysctl_of_its_own_is_set,
    ping_and_low_ports_need_no_capability,
    capabilities_are_added_and_dropped,
    privileged_has_all_that_there_is,
    exec_has_its_own_environment_directory_and_user,
    host_and_container_modes_refuse_what_is_the_networks,
);

fn the_environment_is_what_was_said(nl: &Netloom) {
    let seen = nl.ok("run --rm -e A=1 -e 'B=two words' --env C= -h box env");
    for line in ["A=1", "B=two words", "C=", "HOSTNAME=box", "HOME=/root"] {
        assert!(seen.lines().any(|have| have == line), "{line} is not in:\n{seen}");
    }
    assert!(!seen.contains("XDG_RUNTIME_DIR"), "{seen}");
    // A name alone takes the value of the caller.
    assert!(nl.ok("run --rm -e LC_ALL env").contains("LC_ALL=C.UTF-8"));
}

fn a_file_of_variables_is_read(nl: &Netloom) {
    let file = nl.host.write("vars", "# a comment\nA=1\n\nB=with = sign\n");
    let seen = nl.ok(&format!("run --rm --env-file {} -e A=2 env", file.display()));
    assert!(seen.lines().any(|line| line == "A=2") && seen.lines().any(|line| line == "B=with = sign"), "{seen}");
    let why = nl.fails("run --rm --env-file /no/such/file true", 125);
    assert!(why.contains("/no/such/file"), "{why}");
}

fn the_directory_is_what_was_said(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm -w /usr/share pwd"), "/usr/share");
    assert_eq!(nl.ok("run --rm -w /not/there/yet pwd"), "/not/there/yet");
    assert_eq!(nl.ok("run --rm -u 1000 -w /not/there/yet pwd"), "/not/there/yet");
    assert_eq!(nl.ok("run --rm pwd"), "/");
}

fn a_user_is_a_name_or_numbers(nl: &Netloom) {
    for_each_case(
        [("nobody", "65534:65534"), ("4242", "4242:0"), ("4242:2000", "4242:2000"), ("daemon:nogroup", "1:65534")],
        |(user, ids)| {
            let seen = nl.run(&format!("run --rm -u {user} sh -c 'echo $(id -u):$(id -g)'"));
            (seen.text() == *ids).then_some(()).ok_or_else(|| format!("{seen:?}"))
        },
    );
    assert_eq!(nl.ok("run --rm id -u"), "0");
    // No capability is left to another user.
    assert!(nl.ok("run --rm -u 1000 grep CapEff /proc/self/status").ends_with("0000000000000000"));
    let why = nl.fails("run --rm -u nobody-knows true", 125);
    assert!(why.contains("nobody-knows"), "{why}");
}

fn limits_are_set(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm --ulimit nofile=100:200 sh -c 'ulimit -Sn; ulimit -Hn'"), "100\n200");
    assert_eq!(nl.ok("run --rm --ulimit core=0 sh -c 'ulimit -c'"), "0");
}

/// What the machine's control groups cannot do is refused, never ignored.
fn limits_of_groups_are_enforced_or_refused(nl: &Netloom) {
    let forks = nl.run("run --rm --pids-limit 20 sh -c 'for i in $(seq 60); do sleep 2 & done; wait'");
    let enforced = forks.code != 125 && (forks.stderr.contains("fork") || forks.stderr.contains("Resource"));
    let refused = forks.code == 125 && forks.stderr.contains("--pids-limit") && forks.stderr.contains("hint");
    assert!(enforced || refused, "{forks:?}");
    let hog = nl.run("run --name hog --memory 64m python3 -c 'print(len(bytearray(300_000_000)))'");
    let refused = hog.code == 125 && hog.stderr.contains("--memory") && hog.stderr.contains("hint");
    assert!(hog.code == 137 || hog.stderr.contains("MemoryError") || refused, "{hog:?}");
    if !refused {
        assert_eq!(nl.inspect("hog")["oom_killed"], hog.code == 137, "{hog:?}");
    }
    assert_eq!(nl.ok("events --since 1h --until 0s").contains(" oom "), hog.code == 137);
    nl.run("run --name other sh -c 'exit 137'").exits(137);
    assert_eq!(nl.inspect("other")["oom_killed"], false, "a code alone says nothing of memory");
}

fn a_sysctl_of_its_own_is_set(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm --sysctl net.ipv4.ip_forward=1 cat /proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(nl.host.ok("cat /proc/sys/net/ipv4/ip_forward"), "0");
    for key in ["kernel.panic=1", "vm.swappiness=1", "net.no.such.key=1"] {
        let why = nl.fails(&format!("run --rm --sysctl {key} true"), 125);
        assert!(why.contains(key.split('=').next().expect("a key")), "{why}");
    }
}

fn ping_and_low_ports_need_no_capability(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "0");
    nl.ok("run -d --name web -u 1000 --cap-drop ALL busybox httpd -f -p 80");
    netloom_tests::wait_until("it listens on port 80", || nl.ok("exec web busybox netstat -ltn").contains(":80 "));
    let range = nl.ok("run --rm cat /proc/sys/net/ipv4/ping_group_range");
    assert_ne!(range.split_whitespace().collect::<Vec<_>>(), ["1", "0"]);
}

/// The bits of CapEff.
fn capabilities(nl: &Netloom, options: &str) -> u64 {
    let line = nl.ok(&format!("run --rm {options} grep CapEff /proc/self/status"));
    u64::from_str_radix(line.split_whitespace().last().expect("a value"), 16).expect("a number")
}

fn capabilities_are_added_and_dropped(nl: &Netloom) {
    const CHOWN: u64 = 1 << 0;
    const NET_ADMIN: u64 = 1 << 12;
    let usual = capabilities(nl, "");
    assert_eq!(capabilities(nl, "--cap-add NET_ADMIN"), usual | NET_ADMIN);
    assert_eq!(capabilities(nl, "--cap-add cap_net_admin --cap-drop CHOWN"), (usual | NET_ADMIN) & !CHOWN);
    assert_eq!(capabilities(nl, "--cap-drop ALL"), 0);
    assert_eq!(capabilities(nl, "--cap-drop ALL --cap-add CHOWN"), CHOWN);
    let why = nl.fails("run --rm --cap-add WINGS true", 125);
    assert!(why.contains("WINGS"), "{why}");
}

fn privileged_has_all_that_there_is(nl: &Netloom) {
    let last: u32 = nl.host.ok("cat /proc/sys/kernel/cap_last_cap").parse().expect("a number");
    let bounds = nl.host.ok("grep CapBnd /proc/self/status");
    let bounds = u64::from_str_radix(bounds.split_whitespace().last().expect("a value"), 16).expect("a number");
    // In a user namespace of its own a process has all of them.
    let all = if nl.who().is_root() { bounds } else { u64::MAX };
    assert_eq!(capabilities(nl, "--privileged"), all & ((1 << (last + 1)) - 1));
    nl.ok("run --rm --privileged sh -c 'mount -t tmpfs none /mnt && umount /mnt'");
    nl.ok("run -d --name a sleep 1000");
    nl.ok("exec --privileged a ip link add d0 type veth peer name d1");
    assert_ne!(nl.run("exec a ip link del d0").code, 0);
}

fn exec_has_its_own_environment_directory_and_user(nl: &Netloom) {
    nl.ok("run -d --name a -e A=1 -w /usr -u 1000 sleep 1000");
    assert_eq!(nl.ok("exec a sh -c 'echo $A $B; pwd; id -u'"), "1\n/usr\n1000");
    assert_eq!(nl.ok("exec -e B=2 -w /etc -u 0 a sh -c 'echo $A $B; pwd; id -u'"), "1 2\n/etc\n0");
    assert_eq!(nl.ok("exec -d a sh -c 'echo done > /tmp/done'"), "");
    netloom_tests::wait_until("it ran behind", || nl.run("exec a cat /tmp/done").text() == "done");
}

fn host_and_container_modes_refuse_what_is_the_networks(nl: &Netloom) {
    nl.ok("run -d --name base sleep 1000");
    let options = ["-p 8080:80", "--ip 10.0.0.5", "--dns 10.0.0.1", "--mac-address 02:00:00:00:00:01", "--sysctl net.ipv4.ip_forward=1"];
    let cases = ["host", "container:base"].into_iter().flat_map(|mode| options.map(|option| (mode, option)));
    for_each_case(cases, |(mode, option)| {
        let tried = nl.run(&format!("run --rm --net={mode} {option} true"));
        let named = tried.stderr.contains(option.split(' ').next().unwrap_or_default());
        (tried.code == 125 && named).then_some(()).ok_or_else(|| format!("{tried:?}"))
    });
    let why = nl.fails("run --rm --net=none -p 8080:80 true", 125);
    assert!(why.contains("-p") || why.contains("publish"), "{why}");
}
