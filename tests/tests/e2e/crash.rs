//! Sudden ends: of a container, of a supervisor, of the daemon. What owns a thing is a descriptor or a process, so nothing stays.

use netloom_tests::{Netloom, Snapshot, at, wait_until};

for_both!(
    nothing_of_the_host_changes,
    a_killed_container_leaves_nothing,
    a_killed_supervisor_takes_its_container_with_it,
    a_killed_daemon_loses_no_container,
    a_terminal_outlives_the_daemon,
    everything_killed_at_once_leaves_nothing,
    a_killed_run_leaves_a_container_that_can_be_removed,
    publications_come_back_with_the_daemon,
    an_exit_while_the_daemon_is_gone_is_known_afterwards,
);
for_root!("Where no control group is delegated, as on the tests' machines, only root has limits.": no_control_group_is_left);

fn nothing_of_the_host_changes(nl: &Netloom) {
    let before = Snapshot::of_everything(&nl.host);
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("run -d --name a -p 8080:80 --sysctl net.ipv4.ip_forward=1 --net blue --net bridge sleep 1000");
    nl.ok("run -d --name b --net=host sleep 1000");
    nl.ok("run --rm --net blue busybox ping -c 1 -W 5 a");
    let during: Vec<_> = Snapshot::of_everything(&nl.host).changes_since(&before);
    let moved: Vec<_> = during.iter().filter(|change| !change.contains(" process: ")).collect();
    assert!(moved.is_empty(), "while containers run, the host has changed: {moved:#?}");
    nl.remove_all();
    nl.expect_nothing_left();
    assert_eq!(Snapshot::of_everything(&nl.host).changes_since(&before), Vec::<String>::new());
}

fn a_killed_container_leaves_nothing(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    nl.host.kill(nl.pid("a"), "KILL");
    wait_until("it has ended", || nl.state("a") == "exited");
    assert_eq!(at(&nl.inspect("a"), "exit_code"), "137");
    assert_eq!(nl.json("ports bridge --json").as_array().expect("ports").iter().filter(|port| port["container"] == "a").count(), 0);
    nl.ok("start a");
    nl.ok("exec b busybox ping -c 1 -W 5 a");
    nl.ok("rm -f a b");
    nl.expect_nothing_left();
}

fn a_killed_supervisor_takes_its_container_with_it(nl: &Netloom) {
    nl.ok("run -d --name a -p 8080:80 sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    let pid = nl.pid("a");
    nl.host.kill(nl.supervisor("a"), "KILL");
    wait_until("the container has ended", || !nl.host.path(&format!("/proc/{pid}")).exists());
    wait_until("the daemon knows", || nl.state("a") == "exited");
    let shown = nl.inspect("a");
    assert_eq!(at(&shown, "exit_code"), "137");
    assert_ne!(at(&shown, "error"), "", "how it was lost is not said");
    // The other one, the name, the port and the address are as if it had ended by itself.
    assert_eq!(nl.state("b"), "running");
    nl.ok("start a");
    nl.ok("exec b busybox ping -c 1 -W 5 a");
    nl.ok("rm -f a b");
    nl.expect_nothing_left();
}

fn a_killed_daemon_loses_no_container(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done'");
    nl.ok("run -d --name b sleep 1000");
    nl.ok("exec b busybox ping -c 1 -W 5 a");
    let before = (nl.pid("a"), nl.pid("b"), nl.ip("a"), nl.ip("b"));
    let follow = nl.start("logs -f a");
    follow.expect("1");
    let killed = nl.daemon();
    nl.host.kill(killed, "KILL");
    assert_eq!((nl.pid("a"), nl.pid("b"), nl.ip("a"), nl.ip("b")), before);
    assert_ne!(nl.daemon(), killed);
    nl.ok("exec b busybox ping -c 3 -i 0.1 -W 5 a");
    nl.ok("exec a busybox ping -c 1 -W 5 b");
    // The log never stopped growing.
    let last = || nl.ok("logs --tail 1 a").parse::<u64>().expect("a number");
    let first = last();
    wait_until("the log grows", || last() > first);
    let lines: Vec<u64> = nl.ok("logs a").lines().map(|line| line.parse().expect("a number")).collect();
    assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "a line was lost");
    nl.ok("run --rm busybox ping -c 1 -W 5 a");
}

fn a_terminal_outlives_the_daemon(nl: &Netloom) {
    // Names that no ID can begin with: `inspect a` may find another container once this one is gone.
    nl.ok("run -d --name other sleep 1000");
    let mut shell = nl.terminal("run --rm -it --name shell sh");
    shell.ask("echo rea''dy", "ready");
    nl.host.kill(nl.daemon(), "KILL");
    shell.ask("echo sti''ll here", "still here");
    wait_until("the daemon is back", || nl.run("ps -q").code == 0);
    shell.ask("busybox ping -c 1 -W 5 other | grep -c 'bytes fro''m'", "1\r\n");
    shell.send("exit 3\r");
    assert_eq!(shell.finish(), 3);
    wait_until("--rm is kept", || nl.run("inspect shell").code == 1);
}

fn everything_killed_at_once_leaves_nothing(nl: &Netloom) {
    for name in ["a", "b", "c"] {
        nl.ok(&format!("run -d --name {name} sleep 1000"));
        // Its start is written down before everything goes.
        wait_until("it is known to run", || nl.state(name) == "running");
    }
    let all: Vec<String> = nl.host.processes().iter().map(|(pid, _)| pid.to_string()).collect();
    nl.host.try_run(&format!("kill -KILL {}", all.join(" ")));
    nl.expect_nothing_left();
    // What is on disk is swept by the next command, and the names are free to be removed and used again.
    for name in ["a", "b", "c"] {
        let shown = nl.inspect(name);
        assert_eq!((at(&shown, "state"), at(&shown, "exit_code")), ("exited".into(), "137".into()), "{name}");
    }
    nl.ok("rm a b c");
    nl.ok("run --rm --name a true");
}

fn a_killed_run_leaves_a_container_that_can_be_removed(nl: &Netloom) {
    let running = nl.start("run --name a sh -c 'echo ready; sleep 1000'");
    running.expect("ready");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(running.finish().code, 137);
    assert_eq!(nl.state("a"), "running", "as docker does: the client is not the container");
    nl.ok("rm -f a");
}

fn publications_come_back_with_the_daemon(nl: &Netloom) {
    let www = nl.host.make_dir("www");
    nl.host.write("www/index.html", "hello");
    nl.ok(&format!("run -d --name web -p 8080:80 -v {}:/www:ro busybox httpd -f -p 80 -h /www", www.display()));
    let get = || nl.host.start(netloom_tests::Place::Server, "busybox wget -q -O - http://10.99.0.2:8080/").finish().text();
    wait_until("it answers", || get() == "hello");
    nl.host.kill(nl.daemon(), "KILL");
    wait_until("it answers again", || get() == "hello");
}

fn an_exit_while_the_daemon_is_gone_is_known_afterwards(nl: &Netloom) {
    let dir = nl.host.make_dir("shared");
    nl.ok(&format!("run -d --name a -v {}:/shared sh -c 'while [ ! -e /shared/end ]; do sleep 0.01; done; exit 5'", dir.display()));
    nl.host.kill(nl.daemon(), "KILL");
    nl.host.write("shared/end", "");
    wait_until("it has ended", || nl.state("a") == "exited");
    assert_eq!(at(&nl.inspect("a"), "exit_code"), "5");
}

fn no_control_group_is_left(nl: &Netloom) {
    let id = nl.ok("run -d --name a --pids-limit 100 sleep 1000");
    nl.ok("rm -f a");
    let left = nl.host.ok(&format!("find /sys/fs/cgroup -type d -name *{}*", &id[..12]));
    assert_eq!(left, "");
}
