//! The tests; each has an instance of its own.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use netloom_runtime::{
    cgroup, probe,
    protocol::{Failure, FrameKind, Open, Request, SupervisorState, ToDaemon, ToSession, WindowSize},
    spec::{Attachment, NetworkMode, Plan, Protocol, Publication, RestartPolicy, Volume},
    tap,
};
use netloom_switch::Mac;
use nix::unistd::geteuid;

use crate::lab::{Lab, Session, eventually, exec, is_alive, plan, spec};

macro_rules! tests {
    ($($name:ident),* $(,)?) => { pub(crate) const TESTS: &[(&str, fn())] = &[$((stringify!($name), $name)),*]; };
}

tests![
    a_command_gives_its_output_and_its_code,
    a_signal_that_ends_the_command_is_128_and_its_number,
    a_container_of_no_network_has_only_lo_and_its_own_processes,
    a_bridged_container_has_its_interface_address_mac_and_route,
    the_hosts_network_is_seen_in_host_mode_and_the_name_with_it,
    a_joined_network_is_the_same_interface,
    what_is_not_there_or_not_executable_has_its_own_code,
    a_file_written_to_the_root_is_not_on_the_host_and_outlives_a_stop,
    a_volume_shows_the_hosts_files_and_can_be_read_only,
    a_missing_volume_is_named_and_nothing_stays,
    a_tree_of_its_own_is_written_in_place,
    a_read_only_root_refuses_every_write,
    the_kernel_and_the_instance_are_out_of_reach,
    privileged_lifts_what_is_read_only,
    sysctls_of_the_own_namespaces_can_be_set_and_others_not,
    a_user_of_the_container_has_its_groups_and_home,
    environment_workdir_umask_and_limits_are_the_specs,
    input_reaches_the_command_and_its_end_too,
    a_terminal_has_a_size_job_control_and_an_end,
    an_exec_sees_the_container_and_passes_its_code_on,
    the_init_reaps_and_passes_signals_on,
    a_stop_gives_time_and_then_kills,
    a_paused_container_does_nothing_until_it_goes_on,
    a_failing_command_is_started_again_as_often_as_asked,
    files_are_copied_out_and_in,
    a_network_can_be_joined_and_left_while_it_runs,
    a_publication_listens_and_a_taken_port_is_an_error,
    a_killed_supervisor_takes_its_container_along,
    a_daemon_that_comes_back_gets_everything,
    a_refused_start_says_why_and_leaves_nothing,
    a_session_that_does_not_read_is_waited_for_and_a_late_one_dropped,
    output_is_logged_line_by_line,
    a_limit_of_processes_holds_or_is_refused_by_name,
    a_killed_helper_fails_the_start_and_leaves_nothing,
    a_start_can_be_given_up,
    fifty_starts_at_once_all_run,
    this_machine_is_found_fit,
];

fn is_root() -> bool {
    geteuid().is_root()
}

/// The first network of a container, as an IPAM would give it.
fn attachment(number: u8, last: u8) -> Attachment {
    let ip = Ipv4Addr::new(172, 30, number, last);
    Attachment {
        network: format!("net{number}"),
        ifname: format!("eth{number}"),
        mac: Mac::from_ipv4(ip),
        ip: Some(ip),
        prefix_len: 24,
        gateway: Some(Ipv4Addr::new(172, 30, number, 1)),
        ipv6: None,
        default_route: number == 0,
        mtu: 1400,
        aliases: Vec::new(),
        backend: None,
    }
}

fn bridged() -> Plan {
    Plan { attachments: vec![attachment(0, 2)], nameservers: vec!["172.30.0.1".parse().unwrap()], ..plan() }
}

fn a_command_gives_its_output_and_its_code() {
    let mut lab = Lab::new();
    let outcome = lab.run(spec("echo out; echo err >&2; exit 7"));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code), ("out\n", "err\n", Some(7)), "{outcome:?}");
}

fn a_signal_that_ends_the_command_is_128_and_its_number() {
    let mut lab = Lab::new();
    assert_eq!(lab.run(spec("kill -SEGV $$")).code, Some(139));
}

fn a_container_of_no_network_has_only_lo_and_its_own_processes() {
    let mut lab = Lab::new();
    let outcome = lab.run(spec("ls /sys/class/net; cat /sys/class/net/lo/flags; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'"));
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{outcome:?}");
    assert_eq!(lines[..3], ["lo", "0x9", "netloom-init"], "{outcome:?}");
    assert!(lines[3].parse::<u32>().unwrap() <= 6, "{outcome:?}");
}

fn a_bridged_container_has_its_interface_address_mac_and_route() {
    let mut lab = Lab::with(bridged());
    let mut wanted = spec(
        "ip -o addr show eth0; ip link show eth0; ip route; cat /etc/resolv.conf; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ping -c1 -W1 127.0.0.1 | grep '0% packet loss'",
    );
    wanted.network.mode = NetworkMode::Bridge;
    let mut outcome = lab.run(wanted);
    // Where the host has BBR.
    outcome.stdout = outcome.stdout.replace("eth0 congctl cubic \n", "eth0 \n");
    for text in [
        "inet 172.30.0.2/24",
        "02:42:ac:1e:00:02",
        "mtu 1400",
        "qlen 1000",
        "default via 172.30.0.1 dev eth0 \n",
        "nameserver 172.30.0.1",
        "\n0\n",
        " 0% packet loss",
    ] {
        assert!(outcome.stdout.contains(text), "{text}: {outcome:?}");
    }
    assert!(!fs::read_to_string("/proc/self/net/dev").unwrap().contains("eth0"), "nothing appears on the host");
}

fn the_hosts_network_is_seen_in_host_mode_and_the_name_with_it() {
    let mut lab = Lab::new();
    let mut wanted = spec("readlink /proc/self/ns/net; hostname; touch /sys/x 2>/dev/null || echo read-only");
    wanted.network.mode = NetworkMode::Host;
    let outcome = lab.run(wanted);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let network = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), [network.to_str().unwrap(), &host, "read-only"], "{outcome:?}");
}

fn a_joined_network_is_the_same_interface() {
    let mut lab = Lab::with(bridged());
    let mut first = spec("sleep 100");
    first.network.mode = NetworkMode::Bridge;
    first.hostname = Some("first".to_owned());
    let (id, _session) = lab.start(first);
    let pid = lab.daemon().wait(&id, "started", |message| if let ToDaemon::Started { pid, .. } = message { Some(*pid) } else { None });
    let network = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let mut other = Lab::with(Plan { join_pid: Some(pid), ..plan() });
    let mut joined = spec("readlink /proc/self/ns/net; hostname; cat /sys/class/net/eth0/address");
    joined.network.mode = NetworkMode::Container { container: "first".to_owned() };
    let outcome = other.run(joined);
    if is_root() {
        assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), [network.to_str().unwrap(), "first", "02:42:ac:1e:00:02"], "{outcome:?}");
    } else {
        // Another instance has another user namespace.
        assert!(outcome.failure.as_ref().is_some_and(|failure| failure.code == 125), "{outcome:?}");
    }
    let mut by_pid = spec("readlink /proc/self/ns/net");
    by_pid.network.mode = NetworkMode::Pid { pid: 999_999_999 };
    assert!(other.run(by_pid).failure.unwrap().hint.unwrap().contains("999999999"));
}

fn what_is_not_there_or_not_executable_has_its_own_code() {
    let mut lab = Lab::new();
    let mut missing = spec("");
    missing.command = vec!["debian".to_owned(), "bash".to_owned()];
    let failure = lab.run(missing.clone()).failure.unwrap();
    assert!(failure.code == 127 && failure.message.contains("`debian`") && failure.hint.unwrap().contains("--rootfs"));
    missing.command = vec!["/etc/passwd".to_owned()];
    assert_eq!(lab.run(missing).failure.unwrap().code, 126);
}

fn a_file_written_to_the_root_is_not_on_the_host_and_outlives_a_stop() {
    let mut lab = Lab::new();
    let command = "for f in /new /etc/new /usr/local/new /var/lib/new /root/new /tmp/new; do echo x >> $f || exit 1; done; wc -l < /etc/new; mkdir -p /opt/a/b && rm -r /opt/a";
    let (id, mut session) = lab.create(spec(command));
    session.open(&Open::Start { attach: true, size: None });
    let outcome = session.finish();
    assert_eq!((outcome.stdout.trim(), outcome.code), ("1", Some(0)), "{outcome:?}");
    for path in ["/new", "/etc/new", "/usr/local/new", "/var/lib/new"] {
        assert!(!fs::exists(path).unwrap(), "{path}");
    }
    let mut again = lab.session(&id);
    again.open(&Open::Start { attach: true, size: None });
    assert_eq!(again.finish().stdout.trim(), "2");
}

fn a_volume_shows_the_hosts_files_and_can_be_read_only() {
    let mut lab = Lab::new();
    let source = lab.root.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "hello").unwrap();
    let mut wanted = spec("cat /data/deep/file; echo more > /data/deep/new; echo no > /ro/x || echo refused; cat /one");
    let volume = |source: &std::path::Path, target: &str, read_only| Volume { source: source.to_owned(), target: target.into(), read_only };
    wanted.root.volumes =
        vec![volume(&source, "/data/deep", false), volume(&source, "/ro", true), volume(&source.join("file"), "/one", true)];
    let outcome = lab.run(wanted);
    assert_eq!(outcome.stdout, "hellorefused\nhello", "{outcome:?}");
    assert_eq!(fs::read_to_string(source.join("new")).unwrap(), "more\n");
}

fn a_missing_volume_is_named_and_nothing_stays() {
    let mut lab = Lab::new();
    let mut wanted = spec("true");
    wanted.root.volumes = vec![Volume { source: "/no/such/place".into(), target: "/x".into(), read_only: false }];
    let failure = lab.run(wanted).failure.unwrap();
    assert!(failure.code == 125 && failure.message.contains("/no/such/place"), "{failure:?}");
}

fn a_tree_of_its_own_is_written_in_place() {
    let mut lab = Lab::new();
    let tree = lab.root.join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| fs::exists(path).unwrap()).expect("busybox is installed");
    fs::copy(busybox, tree.join("bin/sh")).unwrap();
    let mut wanted =
        spec("echo text > /file; exec 3</proc/self/status && echo proc; test -c /dev/null && echo dev; test -s /etc/hosts && echo hosts");
    wanted.root.rootfs = Some(tree.clone());
    wanted.command[0] = "/bin/sh".to_owned();
    let outcome = lab.run(wanted);
    assert_eq!(outcome.stdout, "proc\ndev\nhosts\n", "{outcome:?}");
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "text\n");
}

fn a_read_only_root_refuses_every_write() {
    let mut lab = Lab::new();
    let mut wanted = spec("touch /x 2>&1; touch /usr/x 2>&1; touch /etc/x 2>&1; touch /tmp/x && touch /scratch/x && echo fine");
    wanted.root.read_only = true;
    wanted.root.tmpfs = vec!["/scratch".into()];
    let outcome = lab.run(wanted);
    assert_eq!(outcome.stdout.matches("Read-only file system").count(), 3, "{outcome:?}");
    assert!(outcome.stdout.ends_with("fine\n"), "{outcome:?}");
}

fn the_kernel_and_the_instance_are_out_of_reach() {
    let mut lab = Lab::new();
    let root = lab.root.display().to_string();
    let name = lab.root.file_name().unwrap().to_str().unwrap().to_owned();
    let script = format!(
        "echo x > /proc/sys/kernel/hostname; echo 1 > /proc/sys/vm/drop_caches; echo b > /proc/sysrq-trigger; touch /sys/x
         mknod /tmp/null c 1 3; mknod /dev/sda b 8 0; mount -t tmpfs none /mnt; unshare -U true; unshare -m true
         ls -A {root} /host/{name}/. 2>&1 | grep -E 'containers|sock'; head -c1 /proc/kcore; cat /proc/keys /proc/timer_list; ls /sys/firmware; cat /proc/1/environ; readlink /proc/1/exe
         hostname changed; dmesg
         grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status"
    );
    let mut wanted = spec(&script);
    // Even when the directory around it is shown.
    let around = lab.root.parent().unwrap().to_owned();
    wanted.root.volumes = vec![Volume { source: around, target: "/host".into(), read_only: false }];
    let outcome = lab.run(wanted);
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{outcome:?}");
    for line in &lines[..2] {
        let set = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // CAP_MKNOD is 27, CAP_SYS_ADMIN 21.
        assert_eq!((set & (1 << 27 | 1 << 21), set.count_ones()), (0, 13), "{outcome:?}");
    }
    assert!(lines[2].ends_with('1') && lines[3].ends_with('2'), "{outcome:?}");
}

fn privileged_lifts_what_is_read_only() {
    let mut lab = Lab::new();
    let mut wanted = spec(
        "hostname changed && hostname; mount -t tmpfs none /mnt && echo mounted; grep Seccomp: /proc/self/status; test -w /proc/sys/net/ipv4/ip_forward && echo writable",
    );
    wanted.security.privileged = true;
    let outcome = lab.run(wanted);
    assert_eq!(outcome.stdout, "changed\nmounted\nSeccomp:\t0\nwritable\n", "{outcome:?}");
}

fn sysctls_of_the_own_namespaces_can_be_set_and_others_not() {
    let mut lab = Lab::new();
    let mut wanted = spec("cat /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/ip_forward || echo refused");
    wanted.sysctls = vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())];
    assert_eq!(lab.run(wanted.clone()).stdout, "1\nrefused\n");
    wanted.sysctls = vec![("kernel.core_pattern".to_owned(), "x".to_owned())];
    assert!(lab.run(wanted).failure.unwrap().message.contains("kernel.core_pattern"));
}

fn a_user_of_the_container_has_its_groups_and_home() {
    let mut lab = Lab::new();
    let mut wanted = spec("id -u; id -g; echo $HOME; grep CapEff /proc/self/status; echo x > /dev/stdout");
    wanted.process.user = Some("daemon".to_owned());
    let outcome = lab.run(wanted);
    if is_root() {
        assert_eq!(outcome.stdout, "1\n1\n/usr/sbin\nCapEff:\t0000000000000000\nx\n", "{outcome:?}");
    } else {
        let failure = outcome.failure.unwrap();
        assert!(failure.message.contains("cannot become") && failure.hint.unwrap().contains("/etc/subuid"));
    }
    let mut unknown = spec("true");
    unknown.process.user = Some("nobody-knows".to_owned());
    assert!(lab.run(unknown).failure.unwrap().message.contains("`nobody-knows`"));
}

fn environment_workdir_umask_and_limits_are_the_specs() {
    let mut lab = Lab::new();
    let mut wanted = spec("echo $A $HOME $PATH; pwd; umask; ulimit -n; hostname; cat /etc/hostname");
    wanted.process.env = vec!["A=one".to_owned(), "A=two".to_owned()];
    wanted.process.workdir = Some("/work/deep".into());
    wanted.process.umask = 0o027;
    wanted.limits.ulimits = vec![("nofile".to_owned(), Some(100), Some(200))];
    wanted.hostname = Some("named".to_owned());
    let outcome = lab.run(wanted);
    let want = "two /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/work/deep\n0027\n100\nnamed\nnamed\n";
    assert_eq!(outcome.stdout, want, "{outcome:?}");
}

fn input_reaches_the_command_and_its_end_too() {
    let mut lab = Lab::new();
    let mut wanted = spec("wc -c");
    wanted.interactive = true;
    let (_, mut session) = lab.start(wanted);
    let bytes = vec![b'x'; 3_000_000];
    session.input(&bytes);
    session.say(&ToSession::StdinClosed);
    assert_eq!(session.finish().stdout.trim(), "3000000");
    // Without -i there is none.
    assert_eq!(lab.run(spec("wc -c")).stdout.trim(), "0");
}

fn a_terminal_has_a_size_job_control_and_an_end() {
    let mut lab = Lab::new();
    let mut wanted = spec("");
    wanted.command = vec!["sh".to_owned()];
    wanted.process.env = vec!["PS1=>".to_owned()];
    (wanted.tty, wanted.interactive) = (true, true);
    let (_, mut session) = lab.create(wanted);
    session.open(&Open::Start { attach: true, size: Some(WindowSize { rows: 31, cols: 97 }) });
    session.started();
    session.input(b"stty size; tty; test -t 0 && test -c /dev/console && echo con$((1+1))\n");
    let text = session.expect("con2");
    assert!(text.contains("31 97") && text.contains("/dev/pts/0"), "{text}");
    session.resize(20, 50);
    session.input(b"stty size\n");
    session.expect("20 50");
    session.input(b"sleep 1000; echo interrupted$((1+1))\n");
    eventually("the sleep runs", || session_sleeps(&mut lab));
    session.input(b"\x03");
    session.input(b"exit 5\n");
    assert_eq!(session.finish().code, Some(5));
}

fn session_sleeps(lab: &mut Lab) -> bool {
    let id = lab.last().to_owned();
    lab.exec(&id, exec("cat /proc/[0-9]*/comm")).stdout.contains("sleep")
}

fn an_exec_sees_the_container_and_passes_its_code_on() {
    let mut lab = Lab::new();
    let mut wanted = spec("echo here > /mark; sleep 1000");
    wanted.process.env = vec!["A=container".to_owned()];
    let (id, _session) = lab.start(wanted);
    eventually("the mark is there", || lab.exec(&id, exec("cat /mark")).stdout == "here\n");
    let mut more = exec("echo $A $B; cat /proc/1/comm; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; exit 9");
    more.process.env = vec!["B=exec".to_owned()];
    let outcome = lab.exec(&id, more);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.code),
        ("container exec\nnetloom-init\nNoNewPrivs:\t1\nSeccomp:\t2\n", Some(9)),
        "{outcome:?}"
    );
    let mut terminal = exec("tty; stty size");
    terminal.tty = true;
    let mut session = lab.session(&id);
    session.open(&Open::Exec { exec: terminal, detach: false, size: Some(WindowSize { rows: 10, cols: 20 }) });
    let outcome = session.finish();
    assert!(outcome.stdout.contains("/dev/pts/0") && outcome.stdout.contains("10 20") && outcome.code == Some(0), "{outcome:?}");
    let mut missing = exec("");
    missing.command = vec!["no-such-program".to_owned()];
    assert_eq!(lab.exec(&id, missing).failure.unwrap().code, 127);
    let mut detached = lab.session(&id);
    detached.open(&Open::Exec { exec: exec("sleep 0.05; echo late > /late"), detach: true, size: None });
    detached.finish();
    eventually("the detached exec goes on", || lab.exec(&id, exec("cat /late")).stdout == "late\n");
}

fn the_init_reaps_and_passes_signals_on() {
    let mut lab = Lab::new();
    let (_, mut session) = lab.start(spec("(sleep 0.01 &) ; trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.05; done"));
    session.expect("ready");
    session.say(&ToSession::Signal { signal: libc::SIGUSR1 });
    let outcome = session.finish();
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("got it\n", Some(3)), "{outcome:?}");
    let (id, _session) = lab.start(spec("for i in 1 2 3 4 5; do (true & ) ; done; sleep 1000"));
    eventually("no zombie is left", || !lab.exec(&id, exec("cat /proc/[0-9]*/stat")).stdout.contains(") Z "));
}

fn a_stop_gives_time_and_then_kills() {
    let mut lab = Lab::new();
    let (id, mut session) = lab.start(spec("trap 'exit 4' TERM; echo ready; while :; do sleep 0.02; done"));
    session.expect("ready");
    lab.daemon().ask(&id, Request::Stop { grace_seconds: 10 }).unwrap();
    assert_eq!(session.finish().code, Some(4));
    let (id, mut session) = lab.start(spec("trap '' TERM; echo ready; while :; do sleep 0.02; done"));
    session.expect("ready");
    let before = Instant::now();
    lab.daemon().ask(&id, Request::Stop { grace_seconds: 1 }).unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
    assert_eq!(session.finish().code, Some(137));
    lab.daemon().ask(&id, Request::Start).unwrap();
    lab.daemon().ask(&id, Request::Restart { grace_seconds: 0 }).unwrap();
    assert_eq!(lab.daemon().count(&id, |message| matches!(message, ToDaemon::Started { .. })), 3);
}

fn a_paused_container_does_nothing_until_it_goes_on() {
    let mut lab = Lab::new();
    let (id, mut session) = lab.start(spec("while :; do echo tick; sleep 0.01; done"));
    session.expect("tick");
    let pid = lab.daemon().wait(&id, "started", |message| if let ToDaemon::Started { pid, .. } = message { Some(*pid) } else { None });
    lab.daemon().ask(&id, Request::Pause).unwrap();
    assert!(lab.daemon().ask(&id, Request::Pause).is_err());
    let log = lab.dir(&id).join("log");
    // What was written before it froze is still on its way.
    let mut size = 0;
    eventually("it stands still", || {
        let before = std::mem::replace(&mut size, fs::metadata(&log).unwrap().len());
        std::thread::sleep(Duration::from_millis(100));
        before == size
    });
    lab.daemon().ask(&id, Request::Unpause).unwrap();
    eventually("it goes on", || fs::metadata(&log).unwrap().len() > size);
    assert!(cgroup::usage(pid).unwrap().pids >= 1);
    lab.daemon().ask(&id, Request::Pause).unwrap();
    lab.daemon().ask(&id, Request::Stop { grace_seconds: 0 }).unwrap();
}

fn a_failing_command_is_started_again_as_often_as_asked() {
    let mut lab = Lab::new();
    let mut wanted = spec("echo run >> /runs; exit 1");
    wanted.restart = RestartPolicy::OnFailure { retries: Some(2) };
    let (id, mut session) = lab.create(wanted);
    session.open(&Open::Start { attach: false, size: None });
    let ended = |message: &ToDaemon| if let ToDaemon::Exited { code, will_restart: false, .. } = message { Some(*code) } else { None };
    assert_eq!(lab.daemon().wait(&id, "end", ended), 1);
    assert_eq!(lab.daemon().count(&id, |message| matches!(message, ToDaemon::Started { .. })), 3);
    let mut always = spec("exit 0");
    always.restart = RestartPolicy::Always;
    let (id, mut session) = lab.create(always);
    session.open(&Open::Start { attach: false, size: None });
    eventually("it is started again", || lab.daemon().count(&id, |message| matches!(message, ToDaemon::Started { .. })) >= 3);
    lab.daemon().ask(&id, Request::Stop { grace_seconds: 0 }).unwrap();
    let starts = lab.daemon().count(&id, |message| matches!(message, ToDaemon::Started { .. }));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(lab.daemon().count(&id, |message| matches!(message, ToDaemon::Started { .. })), starts, "a stop ends it");
}

fn files_are_copied_out_and_in() {
    let mut lab = Lab::new();
    let (id, session) = lab.start(spec("mkdir /d; echo text > /d/f; ln -s /etc/passwd /d/l; echo ready; sleep 1000"));
    let mut session = session;
    session.expect("ready");
    let out = |lab: &Lab| {
        let mut session = lab.session(&id);
        session.open(&Open::CopyOut { path: "/d".into() });
        let mut bytes = Vec::new();
        while let Some((kind, payload)) = session.next() {
            if kind == FrameKind::Stdout as u8 {
                bytes.extend(payload);
            }
        }
        bytes
    };
    let archive = out(&lab);
    let names: Vec<_> =
        tar::Archive::new(&archive[..]).entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.contains(&"d/f".to_owned()) && names.contains(&"d/l".to_owned()), "{names:?}");
    let mut session = lab.session(&id);
    session.open(&Open::CopyIn { path: "/opt".into() });
    session.input(&archive);
    session.say(&ToSession::StdinClosed);
    assert_eq!(session.finish().code, Some(0));
    assert_eq!(lab.exec(&id, exec("cat /opt/d/f; readlink /opt/d/l")).stdout, "text\n/etc/passwd\n");
    // A link of the container leads nowhere else.
    let mut session = lab.session(&id);
    session.open(&Open::CopyIn { path: "/no/such".into() });
    assert!(session.finish().failure.unwrap().message.contains("/no/such"));
    lab.daemon().ask(&id, Request::Stop { grace_seconds: 0 }).unwrap();
    assert_eq!(out(&lab).len(), archive.len(), "of a stopped container too");
}

fn a_network_can_be_joined_and_left_while_it_runs() {
    let mut lab = Lab::with(bridged());
    let mut wanted = spec("sleep 1000");
    wanted.network.mode = NetworkMode::Bridge;
    let (id, _session) = lab.start(wanted);
    assert_eq!(lab.daemon().descriptors(&id), 1);
    lab.daemon().ask(&id, Request::Connect { attachment: attachment(1, 9) }).unwrap();
    assert_eq!(lab.daemon().descriptors(&id), 2);
    let links = |lab: &Lab| lab.exec(&id, exec("ls /sys/class/net; ip -o -4 addr show eth1")).stdout;
    assert!(links(&lab).contains("172.30.1.9/24"));
    lab.daemon().ask(&id, Request::Disconnect { network: "net1".to_owned() }).unwrap();
    lab.daemon().forget_descriptors(&id);
    eventually("eth1 is gone", || !links(&lab).contains("eth1"));
    assert!(lab.daemon().ask(&id, Request::Disconnect { network: "net1".to_owned() }).is_err());
    let bad = Attachment { ifname: "eth0".to_owned(), ..attachment(1, 9) };
    assert!(lab.daemon().ask(&id, Request::Connect { attachment: bad }).unwrap_err().message.contains("eth0"));
}

fn a_publication_listens_and_a_taken_port_is_an_error() {
    lo_up();
    let mut lab = Lab::with(bridged());
    let mut wanted = spec("sleep 1000");
    wanted.network.mode = NetworkMode::Bridge;
    wanted.network.publish = vec![Publication { host_ip: None, host_port: 0, container_port: 80, protocol: Protocol::Tcp }];
    let (id, _session) = lab.start(wanted.clone());
    let listeners = lab
        .daemon()
        .wait(&id, "listeners", |message| if let ToDaemon::Attach { listeners, .. } = message { Some(listeners.clone()) } else { None });
    assert!(listeners.len() == 2 && listeners[0].host_port == listeners[1].host_port && listeners[0].host_port != 0, "{listeners:?}");
    TcpStream::connect(("127.0.0.1", listeners[0].host_port)).unwrap();
    wanted.network.publish[0].host_port = listeners[0].host_port;
    let failure = lab.run(wanted).failure.unwrap();
    assert!(failure.code == 125 && failure.message.contains(&listeners[0].host_port.to_string()), "{failure:?}");
}

fn lo_up() {
    if is_root() {
        assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    }
}

fn a_killed_supervisor_takes_its_container_along() {
    let mut lab = Lab::new();
    let (id, _session) = lab.start(spec("sleep 1000"));
    let pid = lab.daemon().wait(&id, "started", |message| if let ToDaemon::Started { pid, .. } = message { Some(*pid) } else { None });
    let supervisor = lab.supervisor(&id);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the command is gone", || !is_alive(pid));
    lab.forget(&id);
}

fn a_daemon_that_comes_back_gets_everything() {
    let mut lab = Lab::with(bridged());
    let mut wanted = spec("while read line; do echo got $line; done");
    wanted.network.mode = NetworkMode::Bridge;
    wanted.network.publish =
        vec![Publication { host_ip: Some(Ipv4Addr::LOCALHOST.into()), host_port: 0, container_port: 53, protocol: Protocol::Udp }];
    wanted.interactive = true;
    lo_up();
    let (id, mut session) = lab.start(wanted);
    lab.crash_daemon();
    session.input(b"while it was away\n");
    session.expect("got while it was away");
    eventually("a daemon is wanted", || lab.root.join("daemon-wanted").exists());
    lab.restart_daemon();
    let (ports, listeners, userns, state) = lab.daemon().wait(&id, "hello", |message| match message {
        ToDaemon::Hello { ports, listeners, userns, state, .. } => Some((ports.len(), listeners.len(), *userns, state.clone())),
        _ => None,
    });
    assert!(matches!(state, SupervisorState::Running { paused: false, .. }), "{state:?}");
    assert_eq!((ports, listeners, userns), (1, 1, !is_root()));
    assert_eq!(lab.daemon().descriptors(&id), 2 + usize::from(!is_root()));
    session.input(b"again\n");
    session.expect("got again");
}

fn a_refused_start_says_why_and_leaves_nothing() {
    let mut lab = Lab::new();
    lab.daemon().refuse(Failure { message: "the pool is full".to_owned(), hint: None, code: 125 });
    let outcome = lab.run(spec("true"));
    assert_eq!(outcome.failure.unwrap().message, "the pool is full");
    let id = lab.last().to_owned();
    let error =
        lab.daemon().wait(&id, "end", |message| if let ToDaemon::Exited { error, .. } = message { Some(error.clone()) } else { None });
    assert_eq!(error.as_deref(), Some("the pool is full"));
}

fn a_session_that_does_not_read_is_waited_for_and_a_late_one_dropped() {
    let mut lab = Lab::new();
    let mut wanted = spec("read x; head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end");
    wanted.interactive = true;
    let (id, mut first) = lab.start(wanted);
    let mut late = lab.session(&id);
    late.open(&Open::Attach { size: None });
    late.started();
    first.input(b"go\n");
    let outcome = first.finish();
    assert_eq!((outcome.stdout.len(), outcome.code), (20_000_005, Some(0)));
    let lost = late.finish();
    assert!(lost.code.is_none() && lost.stdout.len() < 20_000_000, "{} {:?}", lost.stdout.len(), lost.code);
}

fn output_is_logged_line_by_line() {
    let mut lab = Lab::new();
    lab.run(spec("echo one; echo two >&2"));
    let id = lab.last().to_owned();
    let text = fs::read_to_string(lab.dir(&id).join("log")).unwrap();
    let mut lines: Vec<_> = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    lines.sort_by_key(|line| line["stream"].to_string());
    assert_eq!((lines[0]["log"].as_str(), lines[1]["log"].as_str()), (Some("two\n"), Some("one\n")));
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    let mode = fs::metadata(lab.dir(&id).join("log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
}

fn a_limit_of_processes_holds_or_is_refused_by_name() {
    let mut lab = Lab::new();
    let mut wanted = spec("for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done 2>&1; wait");
    wanted.limits.pids = Some(5);
    let outcome = lab.run(wanted);
    match outcome.failure {
        Some(failure) => assert!(failure.message.contains("--pids-limit"), "{failure:?}"),
        None => assert!(outcome.stdout.contains("fork") || outcome.stdout.contains("Resource"), "{outcome:?}"),
    }
}

/// A container whose helper waits: opening a FIFO takes a writer.
fn stuck(lab: &mut Lab) -> (String, Session, i32) {
    let fifo = lab.root.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let mut wanted = spec("true");
    wanted.network.mode = NetworkMode::Path { path: fifo };
    let (id, mut session) = lab.create(wanted);
    session.open(&Open::Start { attach: true, size: None });
    eventually("the supervisor listens", || lab.dir(&id).join("attach.sock").exists());
    let supervisor = lab.supervisor(&id);
    let children = || fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let mut helper = None;
    // What it waits in is told to nobody, since it may not be traced; that it sleeps is.
    eventually("the helper waits", || {
        helper = children().split_whitespace().find_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')).then(|| pid.parse().unwrap())
        });
        helper.is_some()
    });
    (id, session, helper.unwrap())
}

fn a_killed_helper_fails_the_start_and_leaves_nothing() {
    let mut lab = Lab::new();
    let (id, mut session, helper) = stuck(&mut lab);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(session.finish().failure.unwrap().message.contains("ended early"));
    let supervisor = lab.supervisor(&id);
    eventually("no child is left", || fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap().is_empty());
}

fn a_start_can_be_given_up() {
    let mut lab = Lab::new();
    let (id, mut session, helper) = stuck(&mut lab);
    lab.daemon().ask(&id, Request::Stop { grace_seconds: 10 }).unwrap();
    assert!(session.finish().failure.unwrap().message.contains("stopped"));
    eventually("the helper is gone", || !is_alive(helper));
}

fn fifty_starts_at_once_all_run() {
    let mut lab = Lab::with(bridged());
    assert!(fs::exists(tap::DEVICE).unwrap());
    let mut sessions: Vec<(String, Session)> = Vec::new();
    for number in 0..50 {
        let mut wanted = spec(&format!("echo number {number}"));
        wanted.network.mode = NetworkMode::Bridge;
        sessions.push(lab.create(wanted));
    }
    for (_, session) in &mut sessions {
        session.open(&Open::Start { attach: true, size: None });
    }
    for (number, (_, session)) in sessions.iter_mut().enumerate() {
        let outcome = session.finish();
        assert_eq!(outcome.stdout, format!("number {number}\n"), "{outcome:?}");
    }
}

fn this_machine_is_found_fit() {
    let findings = probe::all("/run/netloom-nowhere".as_ref()).unwrap();
    let bad: Vec<_> = findings.iter().filter(|finding| finding.verdict == probe::Verdict::Bad).collect();
    assert!(bad.is_empty() && findings.iter().any(|finding| finding.name == "proc"), "{findings:?}");
    assert!(findings.iter().all(|finding| (finding.verdict == probe::Verdict::Good) == finding.hint.is_none()));
}
