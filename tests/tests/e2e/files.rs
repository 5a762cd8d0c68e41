//! Files: volumes, roots, what may be written, and what `cp` copies.

use netloom_tests::{Netloom, at};

for_both!(
    a_volume_is_shared_with_the_host,
    a_read_only_volume_cannot_be_written,
    a_single_file_can_be_a_volume,
    a_read_only_root_can_only_be_written_where_said,
    a_tmpfs_is_empty_and_writable,
    a_directory_can_be_the_root,
    the_root_is_the_containers_own,
    packages_can_be_unpacked_on_the_root,
    cp_copies_both_ways,
    the_kernels_file_systems_are_fresh,
    a_device_can_be_given,
);

fn a_volume_is_shared_with_the_host(nl: &Netloom) {
    let dir = nl.host.make_dir("shared");
    nl.host.write("shared/in", "from the host");
    assert_eq!(nl.ok(&format!("run --rm -v {}:/data sh -c 'cat /data/in; echo from inside > /data/out'", dir.display())), "from the host");
    assert_eq!(std::fs::read_to_string(dir.join("out")).expect("the file"), "from inside\n");
    // What root in the container made belongs to whoever ran it.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.join("out")).expect("the file"));
    assert_eq!(owner, nl.who().ids().expect("the user exists").0.as_raw());
}

fn a_read_only_volume_cannot_be_written(nl: &Netloom) {
    let dir = nl.host.make_dir("shared");
    let tried = nl.run(&format!("run --rm -v {}:/data:ro sh -c 'echo x > /data/out'", dir.display()));
    assert!(tried.code != 0 && tried.stderr.contains("Read-only"), "{tried:?}");
    assert!(!dir.join("out").exists());
}

fn a_single_file_can_be_a_volume(nl: &Netloom) {
    let file = nl.host.write("motd", "hello");
    assert_eq!(nl.ok(&format!("run --rm -v {}:/etc/motd:ro cat /etc/motd", file.display())), "hello");
    assert_eq!(nl.ok(&format!("run --rm -v {}:/not/there/yet cat /not/there/yet", file.display())), "hello");
}

fn a_read_only_root_can_only_be_written_where_said(nl: &Netloom) {
    let dir = nl.host.make_dir("shared");
    let script =
        "for f in /f /etc/f /usr/f /var/f; do ! touch $f 2>/dev/null || echo wrote $f; done; touch /data/f /scratch/f && echo fine";
    assert_eq!(nl.ok(&format!("run --rm --read-only --tmpfs /scratch -v {}:/data sh -c '{script}'", dir.display())), "fine");
}

fn a_tmpfs_is_empty_and_writable(nl: &Netloom) {
    assert_eq!(
        nl.ok("run --rm --tmpfs /usr/share sh -c 'ls -A /usr/share; echo x > /usr/share/f; cat /usr/share/f; stat -f -c %T /usr/share'"),
        "x\ntmpfs"
    );
}

/// A root with nothing but busybox; its path.
fn busybox_root(nl: &Netloom) -> String {
    let root = nl.host.make_dir("rootfs");
    nl.host.make_dir("rootfs/bin");
    nl.host.make_dir("rootfs/etc");
    nl.host.write("rootfs/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    let (from, to) = (nl.host.path("/bin/busybox"), root.join("bin/busybox"));
    std::fs::copy(from, &to).expect("busybox is copied");
    for name in ["sh", "ls", "cat", "ip", "ping", "touch"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    root.display().to_string()
}

fn a_directory_can_be_the_root(nl: &Netloom) {
    let root = busybox_root(nl);
    let listed = nl.ok(&format!("run --rm --rootfs {root} ls /bin"));
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["busybox", "cat", "ip", "ls", "ping", "sh", "touch"]);
    // It is the directory itself, not a view of it.
    nl.ok(&format!("run --name a --rootfs {root} touch /mine"));
    assert_eq!(at(&nl.inspect("a"), "rootfs"), root);
    assert!(std::path::Path::new(&root).join("mine").exists());
    let tried = nl.fails(&format!("run --rm --rootfs {root} python3"), 127);
    assert!(tried.contains("python3"), "{tried}");
    let why = nl.fails("run --rm --rootfs /no/such/root sh", 125);
    assert!(why.contains("/no/such/root"), "{why}");
}

fn the_root_is_the_containers_own(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'echo a > /mine; exec sleep 1000'");
    nl.ok("run -d --name b sleep 1000");
    assert_ne!(nl.run("exec b cat /mine").code, 0);
    // It stays over a restart and goes with the container.
    nl.ok("exec a sh -c 'echo more > /usr/local/more'");
    nl.ok("restart -t 0 a");
    assert_eq!(nl.ok("exec a cat /usr/local/more"), "more");
    // The instance's own directory and its socket are not there.
    assert_eq!(nl.run(&format!("exec a ls -A {}", nl.root().display())).text(), "");
}

fn packages_can_be_unpacked_on_the_root(nl: &Netloom) {
    // What a package manager does: replace files, make directories deep inside, change owners within the container's own.
    let script = "mkdir -p /usr/lib/new/deep && cp /bin/echo /usr/bin/new && chmod 755 /usr/bin/new && mv /usr/bin/new /usr/bin/newer && \
                  echo x >> /etc/hosts.new && mv /etc/hosts.new /etc/other && ln -s newer /usr/bin/linked && /usr/bin/linked fine";
    assert_eq!(nl.ok(&format!("run --rm sh -c '{script}'")), "fine");
}

fn cp_copies_both_ways(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let file = nl.host.write("f", "from the host");
    nl.ok(&format!("cp {} a:/root/f", file.display()));
    assert_eq!(nl.ok("exec a cat /root/f"), "from the host");
    nl.ok("exec a sh -c 'mkdir -p /root/d/e && echo inside > /root/d/e/f'");
    nl.ok(&format!("cp a:/root/d {}", nl.host.dir().join("copied").display()));
    assert_eq!(std::fs::read_to_string(nl.host.dir().join("copied/e/f")).expect("the file"), "inside\n");
    // A link inside cannot lead the copy out to the host's files.
    nl.ok("exec a ln -s /etc/hostname /root/link");
    nl.ok("exec a sh -c 'echo inner > /etc/hostname.inner; ln -sfn /etc/hostname.inner /root/link'");
    nl.run(&format!("cp a:/root/link {}", nl.host.dir().join("link").display()));
    let why = nl.fails(&format!("cp a:/root/nothing {}", nl.host.dir().display()), 1);
    assert!(why.contains("/root/nothing"), "{why}");
}

fn the_kernels_file_systems_are_fresh(nl: &Netloom) {
    let types = nl.ok("run --rm stat -f -c '%n %T' /proc /dev /dev/pts /dev/shm /run /tmp");
    for (path, kind) in
        [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/run", "tmpfs"), ("/tmp", "tmpfs")]
    {
        assert!(types.lines().any(|line| line == format!("{path} {kind}")), "{path}: {types}");
    }
    assert_eq!(nl.ok("run --rm ls -A /tmp /run/lock"), "/run/lock:\n\n/tmp:");
}

fn a_device_can_be_given(nl: &Netloom) {
    assert_ne!(nl.run("run --rm sh -c 'exec 3<>/dev/net/tun'").code, 0);
    nl.ok("run --rm --device /dev/net/tun sh -c 'exec 3<>/dev/net/tun'");
}
