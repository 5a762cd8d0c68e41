//! Machines that lack something: a clear error with a hint, and nothing half made. Each lack is made in namespaces of the test's own.

use std::path::Path;

use netloom_tests::{Finished, Netloom, Place, Who, at, wait_until};

for_both!(
    without_the_tun_device_veth_takes_over_and_tap_is_a_clear_error,
    modes_without_a_port_need_no_tun_device,
    doctor_names_what_is_missing,
    without_io_uring_frames_take_the_slow_way,
    without_control_groups_of_version_2_containers_run,
    a_root_that_cannot_be_made_is_a_clear_error,
    a_start_that_hangs_ends_with_a_clear_error
);
for_user!(
    "Root needs no user namespace, and so nothing that one needs.":
    without_subordinate_ids_root_is_the_only_user,
    without_user_attributes_on_a_tmpfs_what_changes_lies_on_a_disk,
    a_lost_supervisors_layer_is_swept_from_the_disk,
    without_user_attributes_anywhere_the_hosts_files_are_read_only,
    a_file_mounted_in_etc_leaves_it_writable_and_one_in_another_directory_is_told,
    forbidden_user_namespaces_are_a_clear_error,
    a_user_namespace_whose_root_is_powerless_is_a_clear_error,
    a_proc_that_cannot_be_mounted_is_a_clear_error,
    missing_subordinate_ids_are_a_clear_error
);

/// Runs `netloom LINE` as the host's user after `setup`, by root, in a mount namespace of its own.
fn after(nl: &Netloom, setup: &str, line: &str) -> Finished {
    let words: Vec<String> = nl.words(line).iter().map(|word| format!("'{word}'")).collect();
    let become_user = match nl.who() {
        Who::Root => String::new(),
        Who::User => {
            let (uid, gid) = nl.who().ids().expect("the user exists");
            format!("setpriv --reuid={uid} --regid={gid} --clear-groups --")
        }
    };
    let (uid, _) = nl.who().ids().expect("the user exists");
    let script = format!("set -e\n{setup}\nexport XDG_RUNTIME_DIR=/run/user/{uid}\nexec {become_user} {}\n", words.join(" "));
    let file = nl.host.write("as-typed", script);
    nl.host.start(Place::Host, &format!("unshare --mount sh {}", file.display())).finish()
}

fn clear(ended: &Finished, code: i32, named: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(named.iter().any(|word| ended.stderr.contains(word)) && ended.stderr.contains("hint"), "{ended:?}");
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("Os {"), "{ended:?}");
}

const NO_TUN: &str = "umount -l /dev/net/tun; mount -t tmpfs none /dev/net";

fn without_the_tun_device_veth_takes_over_and_tap_is_a_clear_error(nl: &Netloom) {
    let lacking = format!("unset NETLOOM_BACKEND\n{NO_TUN}");
    let by_itself = after(nl, &lacking, "run --rm cat /sys/class/net/eth0/carrier").exits(0);
    assert_eq!(by_itself.text(), "1");
    nl.ok("network create --backend tap taps");
    clear(&after(nl, &lacking, "run --rm --net taps true"), 125, &["/dev/net/tun"]);
    nl.ok("network rm taps");
    nl.expect_nothing_left();
    assert_eq!(nl.ok("ps -a -q"), "");
}

fn modes_without_a_port_need_no_tun_device(nl: &Netloom) {
    for mode in ["none", "host"] {
        after(nl, NO_TUN, &format!("run --rm --net={mode} true")).exits(0);
    }
    nl.expect_nothing_left();
}

fn doctor_names_what_is_missing(nl: &Netloom) {
    let report = after(nl, NO_TUN, "doctor");
    let text = format!("{}{}", report.text(), report.stderr);
    assert!(text.contains("/dev/net/tun") && text.contains("modprobe tun"), "{report:?}");
}

fn without_io_uring_frames_take_the_slow_way(nl: &Netloom) {
    let without = nl.without("uring");
    without.ok("run -d --name a iperf3 -s");
    wait_until("it listens", || without.run("exec a ss -Htln").text().contains(":5201"));
    // Superframes one way and acknowledgements the other, then small frames as fast as they go.
    without.ok("run --rm iperf3 -c a -n 100M");
    without.ok("run --rm iperf3 -c a -u -b 0 -l 64 -n 3M");
    without.ok("exec a ping -c 3 -i 0.2 -W 2 172.17.0.1");
    assert!(finding(&without, "io-uring").contains("two system calls"));
    assert!(finding(nl, "io-uring").contains("many"));
}

/// The detail of one of doctor's findings.
fn finding(nl: &Netloom, name: &str) -> String {
    let findings = nl.json("doctor --json");
    at(findings.as_array().expect("a list").iter().find(|finding| finding["name"] == name).expect("a finding"), "detail")
}

fn without_control_groups_of_version_2_containers_run(nl: &Netloom) {
    let older = nl.without("cgroup2");
    assert_eq!(older.ok("run --rm echo hello"), "hello");
    assert!(!finding(&older, "cgroups").contains("version 2"));
}

fn without_subordinate_ids_root_is_the_only_user(nl: &Netloom) {
    let without = nl.without("subuids");
    let map = without.ok("run --rm cat /proc/self/uid_map");
    let (uid, _) = nl.who().ids().expect("the user exists");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &uid.to_string(), "1"]);
    assert!(finding(&without, "subuids").contains("no user but root"));
    let refused = without.fails("run --rm -u 33 true", 125);
    assert!(refused.contains("33"), "{refused}");
}

/// As engines of containers mount /etc/resolv.conf, or the driver of a graphics card in /usr.
fn a_file_mounted_in_etc_leaves_it_writable_and_one_in_another_directory_is_told(nl: &Netloom) {
    let mounted = |file: &str| format!("mount --bind {file} {file}");
    let write = "run --rm sh -c 'test -s /etc/passwd && touch /etc/new && rm /etc/passwd && echo written'";
    let ran = after(nl, &mounted("/etc/passwd"), write).exits(0);
    assert!(ran.text() == "written" && !ran.stderr.contains("read-only"), "{ran:?}");
    let in_usr = mounted("/usr/bin/env");
    let ran = after(nl, &in_usr, "run --rm sh -c 'env true && touch /etc/new && ! touch /usr/new'").exits(0);
    assert!(ran.stderr.contains("/usr is read-only in the container: files are mounted in it"), "{ran:?}");
    let report = after(nl, &in_usr, "doctor");
    assert!(report.text().contains("files are mounted in /usr"), "{report:?}");
}

/// How many containers have a layer there.
fn layers(place: &Path) -> usize {
    std::fs::read_dir(place).map_or(0, |entries| entries.count())
}

fn without_user_attributes_on_a_tmpfs_what_changes_lies_on_a_disk(nl: &Netloom) {
    let older = nl.without("userxattr");
    let place = nl.root().join("layers");
    older.ok("ps");
    assert!(finding(&older, "overlay").contains(&place.display().to_string()));
    older.ok("run -d --name a sh -c 'mkdir -p /srv/d && rm -f /etc/fstab && touch /usr/new && exec sleep 1000'");
    wait_until("it has written", || older.run("exec a test -e /usr/new").code == 0);
    assert_eq!(layers(&place), 1);
    assert!(!Path::new("/usr/new").exists() && !Path::new("/srv/d").exists());
    // The instance's own directory is not to be seen, nor is the layer.
    older.fails(&format!("exec a ls {}", place.display()), 2);
    older.ok("restart -t 0 a");
    older.ok("exec a test -d /srv/d -a -e /usr/new");
    older.ok("exec a sh -c 'touch /srv/of-another && chown 33 /srv/of-another && mkdir -m 0 /srv/closed && chown 33 /srv/closed'");
    older.ok("rm -f a");
    wait_until("the layer is gone", || layers(&place) == 0);
}

fn a_lost_supervisors_layer_is_swept_from_the_disk(nl: &Netloom) {
    let older = nl.without("userxattr");
    let place = nl.root().join("layers");
    for name in ["a", "b"] {
        older.ok(&format!("run -d --name {name} sleep 1000"));
    }
    assert_eq!(layers(&place), 2);
    nl.host.kill(nl.supervisor("a"), "KILL");
    wait_until("the lost one's layer is gone", || layers(&place) == 1);
    older.ok("exec b touch /usr/new");
    // With nobody there to see it, too.
    for pid in [nl.daemon(), nl.supervisor("b")] {
        nl.host.kill(pid, "KILL");
    }
    older.ok("ps");
    wait_until("the last layer is gone", || layers(&place) == 0);
}

fn without_user_attributes_anywhere_the_hosts_files_are_read_only(nl: &Netloom) {
    // Neither the root of this instance nor /var/tmp is on a disk.
    let (uid, gid) = nl.who().ids().expect("the user exists");
    let in_memory = nl.beside(&format!("/run/user/{uid}/netloom")).without("userxattr");
    let place = Path::new("/var/tmp").join(format!("netloom-{uid}"));
    let bare =
        format!("export NETLOOM_TEST_OFF=userxattr\ninstall -d -m 700 -o {uid} -g {gid} {0}\nmount -t tmpfs none {0}", place.display());
    let ended = after(&in_memory, &bare, "run --rm sh -c 'test -e /usr/bin/env && touch /tmp/new && cat /etc/hostname; touch /usr/new'");
    assert!(ended.code != 0 && ended.stderr.contains("read-only"), "{ended:?}");
    let report = after(&in_memory, &bare, "doctor");
    assert!(report.text().contains("no copy-on-write"), "{report:?}");
    // A /var/tmp that is on one is enough.
    in_memory.ok("run --rm touch /usr/new");
    wait_until("the layer is gone", || layers(&place) == 0);
}

fn a_root_that_cannot_be_made_is_a_clear_error(nl: &Netloom) {
    let binary = nl.words("").swap_remove(0);
    let ended = nl.host.start_as(nl.who(), Place::Host, &format!("{binary} --root /proc/no/such run --rm true")).finish();
    clear(&ended, 125, &["/proc/no/such"]);
}

/// Runs `netloom run --rm true` in a user namespace where this limit is zero.
fn without(nl: &Netloom, limit: &str) -> Finished {
    let words: Vec<String> = nl.words("run --rm true").iter().map(|word| format!("'{word}'")).collect();
    let (uid, gid) = nl.who().ids().expect("the user exists");
    let user = format!("setpriv --reuid={uid} --regid={gid} --clear-groups -- env XDG_RUNTIME_DIR=/run/user/{uid}");
    let inner = nl.host.write("inner", format!("echo 0 > /proc/sys/user/{limit} && exec {user} {}", words.join(" ")));
    let script = format!(
        "unshare --user sleep 1000 & sleeper=$!\n\
         until [ \"$(readlink /proc/$sleeper/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do sleep 0.01; done\n\
         for map in uid_map gid_map; do echo '0 0 65536' > /proc/$sleeper/$map || exit 99; done\n\
         nsenter --user --target $sleeper sh {}\ncode=$?\nkill $sleeper\nexit $code",
        inner.display()
    );
    let file = nl.host.write("as-typed", script);
    nl.host.start(Place::Host, &format!("sh {}", file.display())).finish()
}

fn forbidden_user_namespaces_are_a_clear_error(nl: &Netloom) {
    clear(&without(nl, "max_user_namespaces"), 125, &["user namespace"]);
    nl.expect_nothing_left();
}

fn a_user_namespace_whose_root_is_powerless_is_a_clear_error(nl: &Netloom) {
    // As under AppArmor on Ubuntu: the namespace can be made, and then nothing in it.
    clear(&without(nl, "max_uts_namespaces"), 125, &["their root may make no namespace"]);
    nl.expect_nothing_left();
}

fn a_proc_that_cannot_be_mounted_is_a_clear_error(nl: &Netloom) {
    // As in a container of another engine: parts of /proc are covered, so the kernel lets no user namespace mount another.
    clear(&after(nl, "mount -t tmpfs none /proc/sys", "run --rm true"), 125, &["/proc"]);
    nl.expect_nothing_left();
}

fn missing_subordinate_ids_are_a_clear_error(nl: &Netloom) {
    let ended = after(nl, ": > /tmp/empty-$$; mount --bind /tmp/empty-$$ /etc/subuid; rm /tmp/empty-$$", "doctor");
    let text = format!("{}{}", ended.text(), ended.stderr);
    assert!(text.contains("/etc/subuid") || text.contains("subuid"), "{ended:?}");
}

fn a_start_that_hangs_ends_with_a_clear_error(nl: &Netloom) {
    nl.host.make_dir("hung");
    let dir = nl.host.make_dir("hung/etc");
    // Whoever looks up the user waits for a writer that never comes.
    nl.host.ok(&format!("mkfifo -m 644 {}/passwd", dir.display()));
    let line = format!("run -d --name a -p 8080:80 --rootfs {} /bin/true", nl.host.dir().join("hung").display());
    clear(&nl.run(&line), 125, &["did not start within"]);
    nl.expect_nothing_left();
    assert_eq!(nl.ok("ps -a -q"), "");
}
