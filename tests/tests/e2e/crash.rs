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
for_both!(
    a_paused_container_ends_with_its_supervisor,
    the_daemon_leaves_no_zombies,
    a_stopped_daemon_is_named_and_can_be_replaced,
    a_stopped_supervisor_is_named_and_its_container_can_be_removed,
    a_paused_container_whose_daemon_and_supervisor_are_killed_ends_with_the_next_command,
    a_daemon_whose_root_is_gone_ends,
    a_daemon_whose_root_is_another_s_ends_and_leaves_it_alone
);
for_root!(
    "Where no control group is delegated, as on the tests' machines, only root has limits.":
    no_control_group_is_left,
    a_failed_start_leaves_no_control_group,
    a_killed_supervisor_leaves_no_control_group,
    a_killed_supervisor_s_limits_hold_for_the_next_start,
    groups_left_by_a_killed_instance_are_swept_by_the_next_command,
);

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

/// The control groups of one container, of any hierarchy.
/// The control groups of a container, a line each.
fn groups(nl: &Netloom, id: &str) -> String {
    let mut found = Vec::new();
    let mut dirs = vec![nl.host.path("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        // Other tests make and remove groups all the while: one that has gone since it was seen holds nothing.
        for entry in
            std::fs::read_dir(&dir).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            if entry.file_name().to_string_lossy().contains(&id[..12]) {
                found.push(entry.path().display().to_string());
            }
            dirs.push(entry.path());
        }
    }
    found.join("\n")
}

fn no_control_group_is_left(nl: &Netloom) {
    let id = nl.ok("run -d --name a --pids-limit 100 sleep 1000");
    assert_ne!(groups(nl, &id), "");
    nl.ok("pause a");
    nl.ok("rm -f a");
    assert_eq!(groups(nl, &id), "");
}

fn a_failed_start_leaves_no_control_group(nl: &Netloom) {
    let id = nl.ok("create --name a --pids-limit 100 --memory 64m /no/such/program");
    for _ in 0..3 {
        // The group of a start that has just failed may still be on its way out when the next one comes.
        nl.run("start a").exits(1);
    }
    wait_until("nothing is left", || groups(nl, &id).is_empty());
    nl.ok("rm a");
    let taken = nl.ok("create --name b --pids-limit 100 -p 8080:80 true");
    let server = nl.host.start(netloom_tests::Place::Host, "busybox nc -l -p 8080");
    wait_until("the port is taken", || nl.host.ok("ss -Htln").contains(":8080"));
    assert_ne!(nl.run("start b").code, 0);
    nl.ok("rm b");
    assert_eq!(groups(nl, &taken), "", "a removed container's group is left");
    drop(server);
}

fn a_killed_supervisor_leaves_no_control_group(nl: &Netloom) {
    nl.ok("run -d --name other sleep 1000");
    for options in ["", "--rm"] {
        let id = nl.ok(&format!("run -d {options} --name a --pids-limit 100 --memory 64m --user 1234 sleep 1000"));
        assert_eq!(groups(nl, &id).lines().count(), 2);
        let pid = nl.pid("a");
        nl.host.kill(nl.supervisor("a"), "KILL");
        wait_until("the container has ended", || !nl.host.path(&format!("/proc/{pid}")).exists());
        wait_until("its groups are gone", || groups(nl, &id).is_empty());
        nl.run("rm -f a");
    }
}

fn a_killed_supervisor_s_limits_hold_for_the_next_start(nl: &Netloom) {
    let id = nl.ok("run -d --name a --pids-limit 20 sleep 1000");
    for _ in 0..5 {
        nl.host.kill(nl.supervisor("a"), "KILL");
        wait_until("the daemon knows", || nl.state("a") == "exited");
        // At once, while the group may still be swept.
        nl.ok("start a");
        let entered = nl.ok("exec a cat /proc/self/cgroup");
        assert!(entered.lines().any(|line| line.contains("pids") || line.starts_with("0::")), "{entered}");
        assert_ne!(groups(nl, &id), "", "it runs without its limit");
        nl.ok("exec a true");
    }
    nl.ok("rm -f a");
    assert_eq!(groups(nl, &id), "");
}

fn a_paused_container_ends_with_its_supervisor(nl: &Netloom) {
    nl.ok("run -d --name other sleep 1000");
    nl.ok("run -d --name a --user 1:1 sh -c 'sleep 1000 & sleep 1000'");
    let (id, pid) = (at(&nl.inspect("a"), "id"), nl.pid("a"));
    nl.ok("pause a");
    nl.host.kill(nl.supervisor("a"), "KILL");
    wait_until("its processes have ended", || !nl.host.path(&format!("/proc/{pid}")).exists());
    wait_until("its groups are gone", || groups(nl, &id).is_empty());
    wait_until("the daemon knows", || nl.state("a") == "exited");
    nl.ok("start a");
    assert_eq!(nl.state("a"), "running");
    nl.ok("pause a");
    nl.ok("rm -f a other");
    nl.expect_nothing_left();
}

fn a_paused_container_whose_daemon_and_supervisor_are_killed_ends_with_the_next_command(nl: &Netloom) {
    let id = nl.ok("run -d --name a sleep 1000");
    let (pid, supervisor, daemon) = (nl.pid("a"), nl.supervisor("a"), nl.daemon());
    nl.ok("pause a");
    nl.host.ok(&format!("kill -KILL {daemon} {supervisor}"));
    assert_eq!(nl.state("a"), "exited");
    wait_until("its processes have ended", || !nl.host.path(&format!("/proc/{pid}")).exists());
    wait_until("its groups are gone", || groups(nl, &id).is_empty());
    nl.ok("rm a");
    nl.expect_nothing_left();
}

fn groups_left_by_a_killed_instance_are_swept_by_the_next_command(nl: &Netloom) {
    let id = nl.ok("run -d --name a --memory 64m sleep 1000");
    wait_until("it is known to run", || nl.state("a") == "running");
    let all: Vec<String> = nl.host.processes().iter().map(|(pid, _)| pid.to_string()).collect();
    nl.host.try_run(&format!("kill -KILL {}", all.join(" ")));
    assert_ne!(groups(nl, &id), "");
    nl.ok("start a");
    nl.ok("exec a true");
    nl.ok("rm -f a");
    wait_until("nothing is left", || groups(nl, &id).is_empty());
}

fn a_stopped_supervisor_is_named_and_its_container_can_be_removed(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.host.kill(nl.supervisor("a"), "STOP");
    let why = nl.fails("exec a true", 125);
    assert!(why.contains("supervisor did not answer") && why.contains("netloom rm -f"), "{why}");
    nl.ok("rm -f a");
    nl.expect_nothing_left();
}

fn a_stopped_daemon_is_named_and_can_be_replaced(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let daemon = nl.daemon();
    nl.host.kill(daemon, "STOP");
    let why = nl.fails("ps", 1);
    assert!(why.contains("does not answer") && why.contains(&format!("kill -9 {daemon}")), "{why}");
    nl.host.kill(daemon, "KILL");
    assert_eq!(nl.state("a"), "running");
}

fn the_daemon_leaves_no_zombies(nl: &Netloom) {
    nl.ok("run -d --name kept sleep 1000");
    nl.ok("run -d --name a --restart always sleep 1000");
    let daemon = nl.daemon();
    nl.host.kill(nl.supervisor("a"), "KILL");
    // This one is the daemon's own child.
    wait_until("it runs again", || nl.state("a") == "running");
    let children = || nl.host.ok(&format!("sh -c 'ps -o stat=,args= --ppid {daemon} || true'"));
    assert!(children().contains("__supervisor"), "{}", children());
    nl.ok("rm -f a");
    wait_until("the daemon has no child any more", || children().is_empty());
    assert_eq!(nl.daemon(), daemon);
}

fn a_daemon_whose_root_is_gone_ends(nl: &Netloom) {
    let daemon = nl.daemon();
    nl.host.ok(&format!("rm -r {}", nl.root().display()));
    wait_until("it has ended", || !nl.host.path(&format!("/proc/{daemon}")).exists());
    assert!(!nl.root().exists());
}

fn a_daemon_whose_root_is_another_s_ends_and_leaves_it_alone(nl: &Netloom) {
    let first = nl.daemon();
    nl.host.ok(&format!("rm -r {}", nl.root().display()));
    nl.ok("run -d --name a sleep 1000");
    let second = nl.daemon();
    assert_ne!(first, second);
    wait_until("the first has ended", || !nl.host.path(&format!("/proc/{first}")).exists());
    for name in ["netloom.sock", "supervisor.sock"] {
        assert!(nl.root().join(name).exists(), "{name} is gone");
    }
    assert_eq!(nl.daemon(), second);
    nl.ok("exec a true");
}
