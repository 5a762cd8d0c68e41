//! Two users on one machine, and the directory that an instance lives in: nobody reaches another's, whatever lies in /tmp.

use netloom_tests::{Finished, Netloom, Place, at, wait_until};

for_user!(
    "It is about ordinary users, and what one may do to another.":
    two_users_neither_see_nor_reach_each_other,
    another_users_processes_and_namespaces_cannot_be_joined,
    what_lies_in_tmp_under_the_instances_name_is_never_followed
);
for_both!(
    a_root_with_odd_characters_is_a_root_like_any_other,
    a_full_disk_under_the_root_is_a_clear_error,
    sockets_of_a_dead_daemon_are_no_hindrance
);
for_user!(
    "Root's instance lies where only root writes.":
    without_a_runtime_directory_the_instance_lies_in_tmp,
    a_runtime_directory_that_cannot_be_written_is_a_clear_error,
    a_root_that_root_owns_is_a_clear_error
);

/// Somebody without subordinate IDs, a home or a runtime directory.
const STRANGER: &str = "54321";

/// Does something on the host while it has a /tmp of its own.
fn with_private_tmp(nl: &Netloom, what: impl FnOnce()) {
    nl.host.ok("mount -t tmpfs -o mode=1777 none /tmp");
    what();
    nl.host.ok("umount -l /tmp");
}

/// Runs `netloom LINE` as the stranger, in their own instance.
fn stranger(nl: &Netloom, line: &str) -> Finished {
    let binary = nl.words("").swap_remove(0);
    let bare = "env -u XDG_RUNTIME_DIR -u XDG_STATE_HOME HOME=/nonexistent";
    let become_them = format!("setpriv --reuid={STRANGER} --regid={STRANGER} --clear-groups --");
    nl.host.start(Place::Host, &format!("{become_them} {bare} {binary} {line}")).finish()
}

/// Ends the stranger's daemon, which would end by itself some seconds later.
fn stranger_leaves(nl: &Netloom) {
    let pid = nl.host.ok(&format!("cat /tmp/netloom-{STRANGER}/daemon.pid"));
    nl.host.ok(&format!("kill -TERM {}", pid.trim()));
    wait_until("the stranger's daemon has ended", || nl.host.try_run(&format!("kill -0 {}", pid.trim())).code != 0);
    nl.host.ok(&format!("rm -rf /tmp/netloom-{STRANGER}"));
}

fn clear(ended: &Finished, code: i32, named: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.contains(named) && ended.stderr.contains("hint"), "{ended:?}");
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("Os {"), "{ended:?}");
}

fn two_users_neither_see_nor_reach_each_other(nl: &Netloom) {
    with_private_tmp(nl, || {
        nl.ok("run -d --name web sh -c 'echo mine > /tmp/index.html; exec busybox httpd -f -p 80 -h /tmp'");
        stranger(nl, "run -d --name web sleep 1000").exits(0);
        assert_eq!(nl.ok("ps -q").lines().count(), 1);
        assert_eq!(stranger(nl, "ps -q").exits(0).text().lines().count(), 1);
        // The same name is another container, and the same address another machine.
        let theirs: serde_json::Value = serde_json::from_str(&stranger(nl, "inspect web").exits(0).text()).expect("inspect prints JSON");
        assert_ne!(at(&nl.inspect("web"), "id"), at(&theirs[0], "id"));
        let web = nl.ip("web");
        wait_until("it serves", || nl.run(&format!("run --rm busybox wget -q -O - http://{web}/")).text() == "mine");
        assert_ne!(stranger(nl, &format!("run --rm busybox timeout 2 busybox wget -q -O - http://{web}/")).code, 0);
        // Neither the directory nor the socket in it.
        clear(&stranger(nl, &format!("--root {} ps", nl.root().display())), 1, "belongs to");
        let reach = format!("setpriv --reuid={STRANGER} --regid={STRANGER} --clear-groups -- ls {}", nl.root().display());
        assert_ne!(nl.host.try_run(&reach).code, 0, "the instance's files can be listed");
        stranger(nl, "rm -f web").exits(0);
        assert_eq!(nl.state("web"), "running");
        stranger_leaves(nl);
    });
}

fn another_users_processes_and_namespaces_cannot_be_joined(nl: &Netloom) {
    with_private_tmp(nl, || {
        nl.ok("run -d --name web sleep 1000");
        let pid = nl.pid("web");
        clear(&stranger(nl, &format!("run --rm --net=container:pid:{pid} true")), 125, &pid.to_string());
        clear(&stranger(nl, &format!("run --rm --net=ns:/proc/{pid}/ns/net true")), 125, "ns/net");
        assert_eq!(nl.state("web"), "running");
        stranger_leaves(nl);
    });
}

fn what_lies_in_tmp_under_the_instances_name_is_never_followed(nl: &Netloom) {
    with_private_tmp(nl, || {
        let theirs = format!("/tmp/netloom-{STRANGER}");
        let (uid, gid) = nl.who().ids().expect("the user exists");
        nl.host.ok("mkdir -m 777 /tmp/trap");
        for trap in [
            format!("ln -s /tmp/trap {theirs}"),
            format!("ln -s /tmp/nothing {theirs}"),
            format!("touch {theirs}"),
            format!("mkfifo -m 666 {theirs}"),
            format!("mkdir -m 777 {theirs}"),
        ] {
            nl.host.ok(&format!("setpriv --reuid={uid} --regid={gid} --clear-groups -- {trap}"));
            clear(&stranger(nl, "run --rm true"), 125, &theirs);
            assert_eq!(nl.host.ok("find /tmp/trap -mindepth 1"), "", "{trap}: it was followed");
            nl.host.ok(&format!("rm -rf {theirs}"));
        }
        // Their own, but open to all.
        nl.host.ok(&format!("mkdir -m 777 {theirs}"));
        nl.host.ok(&format!("chown {STRANGER}:{STRANGER} {theirs}"));
        clear(&stranger(nl, "run --rm true"), 125, &theirs);
    });
}

fn a_root_with_odd_characters_is_a_root_like_any_other(nl: &Netloom) {
    let other = nl.beside("we ird\n'root\"; %s $HOME");
    let words = other.words("run --rm --name odd cat /etc/hosts");
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let script = nl.host.write("as-typed", format!("exec {}\n", quoted.join(" ")));
    let ended = nl.host.start_as(nl.who(), Place::Host, &format!("sh {}", script.display())).finish();
    assert!(ended.exits(0).text().contains("localhost"));
    let pid = std::fs::read_to_string(other.root().join("daemon.pid")).expect("the daemon's PID");
    nl.host.ok(&format!("kill -TERM {}", pid.trim()));
}

fn a_full_disk_under_the_root_is_a_clear_error(nl: &Netloom) {
    let full = nl.host.make_dir("full");
    nl.host.ok(&format!("mount -t tmpfs -o size=16k,mode=777 none {}", full.display()));
    nl.host.ok(&format!("sh -c 'cat /dev/zero > {}/filler; true'", full.display()));
    let binary = nl.words("").swap_remove(0);
    let ended = nl.host.start_as(nl.who(), Place::Host, &format!("{binary} --root {}/root run --rm true", full.display())).finish();
    clear(&ended, 125, "No space left");
    nl.host.ok(&format!("umount -l {}", full.display()));
}

fn sockets_of_a_dead_daemon_are_no_hindrance(nl: &Netloom) {
    nl.ok("run --rm true");
    let daemon = nl.daemon();
    nl.host.kill(daemon, "KILL");
    for name in ["netloom.sock", "supervisor.sock"] {
        assert!(nl.root().join(name).exists(), "{name} was left behind");
    }
    nl.ok("run --rm true");
}

fn without_a_runtime_directory_the_instance_lies_in_tmp(nl: &Netloom) {
    with_private_tmp(nl, || {
        stranger(nl, "run --rm true").exits(0);
        assert_eq!(nl.host.ok(&format!("stat -c '%a %u %F' /tmp/netloom-{STRANGER}")), format!("700 {STRANGER} directory"));
        stranger_leaves(nl);
    });
}

fn a_runtime_directory_that_cannot_be_written_is_a_clear_error(nl: &Netloom) {
    let binary = nl.words("").swap_remove(0);
    nl.host.ok("mkdir -m 755 /run/closed");
    let ended = nl.host.start_as(nl.who(), Place::Host, &format!("env XDG_RUNTIME_DIR=/run/closed {binary} run --rm true")).finish();
    clear(&ended, 125, "/run/closed");
}

fn a_root_that_root_owns_is_a_clear_error(nl: &Netloom) {
    let (uid, _) = nl.who().ids().expect("the user exists");
    let binary = nl.words("").swap_remove(0);
    nl.host.ok(&format!("mkdir -m 700 /run/user/{uid}/netloom"));
    let ended = nl.host.start_as(nl.who(), Place::Host, &format!("{binary} run --rm true")).finish();
    clear(&ended, 125, "belongs to");
}
