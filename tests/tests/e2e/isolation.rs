//! What a container cannot do, tried from inside one. Root inside is not root outside, whoever started it.

use netloom_tests::{Netloom, for_each_case, wait_until};

for_both!(
    capabilities_are_exactly_those_documented,
    what_serves_containers_has_no_capability_of_the_host,
    kernel_settings_cannot_be_written,
    device_nodes_cannot_be_made,
    only_harmless_devices_are_there,
    the_instance_is_not_visible,
    what_tells_of_the_host_is_masked,
    system_calls_that_lead_out_are_refused,
    the_hosts_processes_cannot_be_reached,
    mounts_and_namespaces_cannot_be_changed,
    new_privileges_cannot_be_gained,
    a_volume_s_link_leads_nowhere_outside,
    no_descriptor_of_the_host_is_inherited,
    no_process_of_netloom_can_be_traced_from_inside,
    the_program_s_own_file_cannot_be_changed_through_a_script,
);

/// CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP.
const DOCUMENTED: &str = "00000000a00425fb";

fn capabilities_are_exactly_those_documented(nl: &Netloom) {
    let status = nl.ok("run --rm cat /proc/self/status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
    for (name, expected) in [
        ("CapInh:", "0000000000000000"),
        ("CapPrm:", DOCUMENTED),
        ("CapEff:", DOCUMENTED),
        ("CapBnd:", DOCUMENTED),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
    ] {
        assert_eq!(field(name).as_deref(), Some(expected), "{name}");
    }
    nl.ok("run -d --name a sleep 1000");
    assert!(nl.ok("exec a grep CapEff /proc/self/status").ends_with(DOCUMENTED));
}

/// Runs a shell script in one container that prints a line for everything that it could do and should not.
fn nothing_of(nl: &Netloom, options: &str, script: &str) {
    let file = nl.host.write("tries.sh", format!("{script}\necho end"));
    let seen = nl.ok(&format!("run --rm {options} -v {}:/tries.sh:ro bash /tries.sh", file.display()));
    assert_eq!(seen, "end");
}

/// CAP_NET_RAW: for pings of containers, where the host has no ping sockets for root.
const PINGS: u64 = 1 << 13;

fn what_serves_containers_has_no_capability_of_the_host(nl: &Netloom) {
    for backend in ["tap", "veth"] {
        nl.ok(&format!("network set bridge backend={backend}"));
        nl.ok(&format!("run -d --name {backend} -p 0:80 sleep 1000"));
    }
    let namespace = |pid: &str| std::fs::read_link(nl.host.path(&format!("/proc/{pid}/ns/user"))).ok();
    let mut looked_at = Vec::new();
    for (pid, line) in nl.host.processes() {
        let ours = line.contains("__daemon") || line.contains("__supervisor");
        // Root's supervisors make namespaces and mounts for every start.
        let serves = if nl.who().is_root() { line.contains("__daemon") } else { namespace(&pid.to_string()) == namespace("1") };
        if !serves {
            continue;
        }
        let allowed = if nl.who().is_root() { PINGS } else { 0 };
        for task in std::fs::read_dir(nl.host.path(&format!("/proc/{pid}/task"))).into_iter().flatten().flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                let field = status.lines().find_map(|line| line.strip_prefix(set)).unwrap_or_else(|| panic!("{line} has no {set}"));
                let held = u64::from_str_radix(field.trim(), 16).expect("a number");
                assert_eq!(held & !allowed, 0, "{set} of `{line}`: {status}");
            }
            looked_at.extend(ours.then(|| status.lines().next().unwrap_or_default().to_owned()));
        }
    }
    // The daemon's own thread and its workers at least; without root the two supervisors.
    let least = if nl.who().is_root() { 2 } else { 4 };
    assert!(looked_at.len() >= least && looked_at.iter().any(|name| name.contains("worker")), "{looked_at:?}");
}

fn kernel_settings_cannot_be_written(nl: &Netloom) {
    nothing_of(
        nl,
        "",
        r#"exec 2>/dev/null
for f in $(find /proc/sys/kernel /proc/sys/vm /proc/sys/fs /proc/sys/net /proc/irq /proc/bus /proc/sysrq-trigger /sys/kernel /sys/fs/cgroup -maxdepth 2 -type f -perm /222); do
  # Opened for writing, with nothing written: a sysctl that could be opened would be changed by the next line.
  if (exec 3>>"$f"); then echo "$f can be written"; fi
done"#,
    );
    for key in ["kernel/core_pattern", "vm/overcommit_memory", "kernel/modprobe", "fs/suid_dumpable"] {
        assert_ne!(nl.run(&format!("run --rm sh -c 'echo x > /proc/sys/{key}'")).code, 0, "{key}");
    }
}

fn device_nodes_cannot_be_made(nl: &Netloom) {
    for kind in ["b 8 0", "c 1 1", "c 10 200"] {
        let tried = nl.run(&format!("run --rm mknod /root/node {kind}"));
        assert_ne!(tried.code, 0, "{kind}: {tried:?}");
    }
}

fn only_harmless_devices_are_there(nl: &Netloom) {
    let seen = nl.ok("run --rm bash -c 'shopt -s globstar; for f in /dev/**; do if [ -c $f ] || [ -b $f ]; then echo $f; fi; done'");
    let devices: Vec<_> = seen.lines().filter(|path| !path.starts_with("/dev/pts/") && !path.starts_with("/dev/std")).collect();
    for device in &devices {
        let known = ["/dev/console", "/dev/full", "/dev/null", "/dev/ptmx", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];
        assert!(known.contains(device), "{device} is in the container");
    }
    assert!(devices.contains(&"/dev/null") && devices.contains(&"/dev/urandom"), "{seen}");
    nl.ok("run --rm sh -c 'echo x > /dev/null && head -c 8 /dev/urandom > /root/f && test -s /root/f'");
}

fn the_instance_is_not_visible(nl: &Netloom) {
    let root = nl.root().display();
    nothing_of(
        nl,
        "",
        &format!(
            "exec 2>/dev/null\n[ ! -e {root}/netloom.sock ] || echo the socket is there\n[ -z \"$(ls -A {root})\" ] || ls {root}\n\
             find / -xdev -name netloom.sock\ngrep netloom.sock /proc/net/unix"
        ),
    );
}

fn what_tells_of_the_host_is_masked(nl: &Netloom) {
    nothing_of(
        nl,
        "",
        "exec 2>/dev/null\nfor f in kcore keys timer_list sched_debug latency_stats; do [ -z \"$(head -c 1 /proc/$f | tr -d '\\0')\" ] || echo $f is readable; done\n\
         for d in acpi scsi; do [ -z \"$(ls -A /proc/$d)\" ] || echo $d is readable; done\n\
         [ -z \"$(ls -A /sys/firmware)\" ] || echo firmware is readable\ndmesg",
    );
}

/// Calls by number, for the machines whose numbers are known here; the names are those of syscalls(2).
const CALLS: &str = r#"
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
numbers = {
  "x86_64": dict(setns=308, unshare=272, mount=165, umount2=166, pivot_root=155, bpf=321, keyctl=250, add_key=248, request_key=249, kexec_load=246,
                 init_module=175, finit_module=313, delete_module=176, open_by_handle_at=304, perf_event_open=298, userfaultfd=323,
                 reboot=169, swapon=167, settimeofday=164, clock_settime=227, acct=163, open_tree=428, move_mount=429, fsopen=430,
                 mount_setattr=442, quotactl=179, syslog=103, iopl=172, ioperm=173, io_uring_setup=425, process_vm_readv=None),
  "aarch64": dict(setns=268, unshare=97, mount=40, umount2=39, pivot_root=41, bpf=280, keyctl=219, add_key=217, request_key=218, kexec_load=104,
                  init_module=105, finit_module=273, delete_module=106, open_by_handle_at=265, perf_event_open=241, userfaultfd=282,
                  reboot=142, swapon=224, settimeofday=170, clock_settime=112, acct=89, open_tree=428, move_mount=429, fsopen=430,
                  mount_setattr=442, quotactl=60, syslog=116, io_uring_setup=425),
}[platform.machine()]
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
arguments = dict(unshare=(CLONE_NEWUSER,), setns=(os.open("/proc/self/ns/net", os.O_RDONLY), 0), bpf=(0, 0, 0), keyctl=(0, -3, 1), syslog=(3, 0, 0))
for name, number in numbers.items():
    if number is None: continue
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments.get(name, (0, 0, 0, 0, 0)))
    if result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        print(name, result, errno.errorcode.get(ctypes.get_errno()))
print("end")
"#;

fn system_calls_that_lead_out_are_refused(nl: &Netloom) {
    let file = nl.host.write("calls.py", CALLS);
    for user in ["0", "1000"] {
        assert_eq!(nl.ok(&format!("run --rm -u {user} -v {}:/calls.py:ro python3 /calls.py", file.display())), "end", "-u {user}");
    }
}

fn the_hosts_processes_cannot_be_reached(nl: &Netloom) {
    nl.ok("run -d --name other sleep 1000");
    for_each_case(["", "--net=host", "--net=container:other"], |mode| {
        let seen = nl.run(&format!("run --rm {mode} sh -c 'kill -9 -1; ls /proc | grep -c \"^[0-9]\"'"));
        let ended = seen.code == 137 || seen.text().parse::<u32>().is_ok_and(|count| count <= 5);
        (ended && nl.state("other") == "running").then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
}

fn mounts_and_namespaces_cannot_be_changed(nl: &Netloom) {
    nothing_of(
        nl,
        "",
        "exec 2>/dev/null\nmount -t tmpfs none /mnt && echo mounted\nmount -o remount,rw /proc/sys && echo remounted\numount /proc/kcore && echo unmasked\n\
         unshare -n true && echo a network\nunshare -U true && echo a user namespace\nunshare -m true && echo a mount namespace\n\
         nsenter -t 1 -n true && echo entered\nhostname other && echo renamed\nip link set eth0 down && echo taken down\n\
         chroot / true || echo 'chroot(2) is among what is allowed'",
    );
}

fn new_privileges_cannot_be_gained(nl: &Netloom) {
    // A set-user-ID file gives nothing to another user.
    let script = "cp /usr/bin/id /root/id && chmod 4755 /root/id && chmod 755 /root && setpriv --reuid=1000 --clear-groups /root/id -u";
    let seen = nl.run(&format!("run --rm sh -c '{script}'"));
    assert_eq!(seen.text(), "1000", "{seen:?}");
}

fn a_volume_s_link_leads_nowhere_outside(nl: &Netloom) {
    let dir = nl.host.make_dir("shared");
    std::os::unix::fs::symlink(nl.root(), dir.join("out")).expect("a link");
    let tried = nl.run(&format!("run --rm -v {}:/data sh -c 'ls /data/out/ | grep -c .'", dir.display()));
    assert_eq!(tried.text(), "0", "{tried:?}");
    // A volume at a path that leads through a link inside stays inside.
    nl.ok(&format!("run --rm -v {}:/etc/alternatives/../data sh -c 'true'", dir.display()));
}

fn no_descriptor_of_the_host_is_inherited(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    for line in ["run --rm", "exec a"] {
        let open = nl.ok(&format!("{line} sh -c 'for f in /proc/self/fd/*; do echo ${{f##*/}} $(readlink $f); done'"));
        let beyond = open.lines().filter(|line| line.split(' ').next().and_then(|fd| fd.parse::<u32>().ok()).is_some_and(|fd| fd > 2));
        // The shell's own, of the directory it lists, is gone by the time it is read.
        assert_eq!(beyond.filter(|line| line.contains(' ') && !line.ends_with(' ')).count(), 0, "{line}: {open}");
    }
}

/// Looks at every process that appears until the file `/shared/end` does, and tells of those of netloom that it may see into or seize.
const TRACER: &str = r#"
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
own, seized, caught = os.getpid(), set(), set()
def is_ours(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("netloom")
    except OSError:
        return False
print("ready", flush=True)
until = time.monotonic() + 60
while not os.path.exists("/shared/end") and time.monotonic() < until:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == own or pid in seized:
            continue
        if is_ours(pid):
            caught.add("seen")
        if libc.ptrace(SEIZE, int(pid), None, None) == 0:
            seized.add(pid)
            if is_ours(pid):
                caught.add("seized")
            # One that is traced would be nobody else's to wait for.
            libc.ptrace(INTERRUPT, int(pid), None, None)
            os.waitpid(int(pid), WALL)
            libc.ptrace(DETACH, int(pid), None, None)
print("seized", len(seized) > 0, "netloom", sorted(caught), flush=True)
"#;

fn no_process_of_netloom_can_be_traced_from_inside(nl: &Netloom) {
    let dir = nl.host.make_dir("shared");
    nl.host.write("shared/tracer.py", TRACER);
    nl.ok(&format!("run -d --name a -v {}:/shared python3 /shared/tracer.py", dir.display()));
    wait_until("it looks", || nl.ok("logs a").starts_with("ready"));
    for _ in 0..30 {
        nl.ok("exec a busybox sleep 0.02");
    }
    nl.ok("exec -u 65534 a busybox sleep 0.02");
    nl.host.write("shared/end", "");
    wait_until("it has ended", || nl.state("a") == "exited");
    // Commands are the container's own; what netloom does before them is not.
    assert_eq!(nl.ok("logs --tail 1 a"), "seized True netloom []");
}

/// Waits in a container until somebody executes netloom's own file there, opens it, and tries what would change it. With a second
/// word it hands the descriptor on by a socket, or takes it from there.
const THIEF: &str = r#"
import errno, os, socket, sys
own = os.stat("/proc/self/exe")
def tries(fd):
    print("read-only" if os.fstatvfs(fd).f_flag & os.ST_RDONLY else "WRITABLE", flush=True)
    link = f"/proc/self/fd/{fd}"
    mode = os.fstat(fd).st_mode & 0o7777
    for name, action in [
        ("write", lambda: os.close(os.open(link, os.O_WRONLY))),
        ("append", lambda: os.close(os.open(link, os.O_RDWR | os.O_APPEND))),
        ("truncate", lambda: os.truncate(link, os.fstat(fd).st_size)),
        ("mode", lambda: os.fchmod(fd, mode)),
        ("owner", lambda: os.fchown(fd, -1, -1)),
        ("time", lambda: os.utime(fd)),
        ("attribute", lambda: os.setxattr(fd, "user.netloom", b"x")),
    ]:
        try:
            action()
            print("DONE:", name, flush=True)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ETXTBSY): print("ODD:", name, error, flush=True)
def catch():
    while True:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) in (1, os.getpid()): continue
            try: fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
            except OSError: continue
            found = os.fstat(fd)
            if found.st_size > 1 << 20 and found.st_size == SIZE: return fd
            os.close(fd)
SIZE = int(sys.argv[2])
if sys.argv[1] == "catch":
    print("looking", flush=True)
    fd = catch()
    tries(fd)
    receiver = socket.socket(socket.AF_UNIX)
    receiver.connect("/shared/socket")
    socket.send_fds(receiver, [b"x"], [fd])
    print("handed on", flush=True)
    receiver.recv(1)
else:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("/shared/socket")
    listener.listen()
    print("listening", flush=True)
    giver, _ = listener.accept()
    fd = socket.recv_fds(giver, 1, 1)[1][0]
    print("taken", flush=True)
    # Until the other container is gone.
    giver.recv(1)
    tries(fd)
    print("end", flush=True)
"#;

fn the_program_s_own_file_cannot_be_changed_through_a_script(nl: &Netloom) {
    let binary = std::path::PathBuf::from(&nl.words("ps").into_iter().find(|word| word.ends_with("/netloom")).expect("the program"));
    let look = || {
        let found = std::fs::metadata(&binary).expect("the program is there");
        use std::os::unix::fs::MetadataExt;
        (found.len(), found.mode(), found.uid(), found.mtime(), found.mtime_nsec())
    };
    let before = look();
    let shared = nl.host.make_dir("shared");
    nl.host.write("shared/thief.py", THIEF);
    let script = nl.host.write("shared/script", "#!/proc/self/exe\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("the script is ours");
    let volume = format!("-v {}:/shared", shared.display());
    let size = before.0;
    nl.ok(&format!("run -d --name b {volume} python3 /shared/thief.py take {size}"));
    wait_until("it listens", || nl.ok("logs b").contains("listening"));
    nl.ok(&format!("run -d --name a {volume} python3 /shared/thief.py catch {size}"));
    wait_until("it looks", || nl.ok("logs a").contains("looking"));
    wait_until("it has caught one", || {
        // What it says is that netloom knows no such command.
        nl.run("exec a /shared/script");
        nl.ok("logs a").contains("handed on")
    });
    let seen = nl.ok("logs a");
    assert_eq!(seen, "looking\nread-only\nhanded on", "a container can change the program");
    // As the container's own command it is no better.
    assert_ne!(nl.run(&format!("run --rm {volume} /shared/script")).code, 0);
    nl.ok("rm -f a");
    wait_until("the other one has tried", || nl.ok("logs b").ends_with("end"));
    assert_eq!(nl.ok("logs b"), "listening\ntaken\nread-only\nend", "a container can change the program after another's end");
    assert_eq!(look(), before, "the program has been changed");
}
