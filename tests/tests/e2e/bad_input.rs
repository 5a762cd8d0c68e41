//! Words that cannot be: each is refused with the pinned exit code, by name, with a hint, and leaves nothing half made.

use netloom_tests::{Netloom, for_each_case};

for_both!(
    wrong_words_are_refused,
    wrong_words_about_networks_are_refused,
    a_name_in_use_is_refused,
    an_unknown_container_is_named,
    nothing_half_made_is_left,
    more_hosts_than_can_be_told_are_refused,
);

/// The words, the exit code, and what the message must name.
type Case = (&'static str, i32, &'static str);

/// What is wrong with an error message, if anything.
fn flaw(stderr: &str, named: &str) -> Option<String> {
    let lower = stderr.to_lowercase();
    let internal = ["panicked", "Os {", "Err(", "Error(", "Some(", "src/", "RUST_BACKTRACE"].into_iter().find(|word| stderr.contains(word));
    if let Some(word) = internal {
        return Some(format!("`{word}` is for programmers"));
    }
    if !lower.contains(&named.to_lowercase()) {
        return Some(format!("it does not name `{named}`"));
    }
    (!lower.contains("hint") && !lower.contains("usage") && !lower.contains("--help")).then(|| "it gives no hint".into())
}

fn check(nl: &Netloom, cases: &[Case]) {
    for_each_case(cases, |(line, code, named)| {
        let tried = nl.run(line);
        let flaw = flaw(&tried.stderr, named);
        let flaw = flaw.or_else(|| (tried.code != *code).then(|| format!("it exits {}", tried.code)));
        let flaw = flaw.or_else(|| (!tried.stdout.is_empty()).then(|| "it writes to standard output".into()));
        flaw.map_or(Ok(()), |flaw| Err(format!("{flaw}\n{tried:?}")))
    });
}

fn wrong_words_are_refused(nl: &Netloom) {
    let cases: &[Case] = &[
        ("run --rm netloom-no-such-command", 127, "netloom-no-such-command"),
        ("run debian bash", 127, "--rootfs"),
        ("run --rm /etc/passwd", 126, "/etc/passwd"),
        ("run --rm --net=nowhere true", 125, "nowhere"),
        ("run --rm --net=container:nobody true", 125, "nobody"),
        ("run --rm --net=container: true", 125, "not a name"),
        ("run --rm --net=container:pid:999999999 true", 125, "999999999"),
        ("run --rm --net=container:pid:x true", 125, "x"),
        ("run --rm --net=ns:/no/such/file true", 125, "/no/such/file"),
        ("run --rm --net=ns:/etc/passwd true", 125, "/etc/passwd"),
        ("run --rm --net=host --net=bridge true", 125, "host"),
        ("run --rm --name 'a b' true", 125, "a b"),
        ("run --rm --name -x true", 125, "-x"),
        ("run --rm -p 99999:80 true", 125, "99999"),
        ("run --rm -p 80:0 true", 125, "0"),
        ("run --rm -p x:80 true", 125, "x"),
        ("run --rm -p 8000-8002:80-81 true", 125, "8000-8002"),
        ("run --rm -p 8002-8000:80-82 true", 125, "8002-8000"),
        ("run --rm -p 8080:80/sctp true", 125, "sctp"),
        ("run --rm -p 192.0.2.55:8080:80 true", 125, "192.0.2.55"),
        ("run --rm --ip 10.0.0 true", 125, "10.0.0"),
        ("run --rm --ip 192.0.2.1 true", 125, "192.0.2.1"),
        ("run --rm --mac-address 02:42 true", 125, "02:42"),
        ("run --rm --mtu 10 true", 125, "10"),
        ("run --rm --mtu 100000 true", 125, "100000"),
        ("run --rm --dns here true", 125, "here"),
        ("run --rm --add-host nowhere true", 125, "nowhere"),
        ("run --rm -v nodir:/x true", 125, "nodir"),
        ("run --rm -v /no/such/dir:/x true", 125, "/no/such/dir"),
        ("run --rm -v /etc:relative true", 125, "relative"),
        ("run --rm -v /tmp:/ true", 125, "`/`"),
        ("run --rm -v /tmp:/proc true", 125, "`/proc`"),
        ("run --rm -v /tmp:/proc/sys:ro true", 125, "`/proc/sys`"),
        ("run --rm -v /tmp:/sys/ true", 125, "`/sys/`"),
        ("run --rm -v /tmp:/dev true", 125, "`/dev`"),
        ("run --rm --tmpfs /proc true", 125, "`/proc`"),
        ("run --rm --tmpfs /x/.. true", 125, "`/x/..`"),
        ("run --rm -m 1 true", 125, "6m is the least"),
        ("run --rm --name host.docker.internal true", 125, "reserved"),
        ("run --rm --name host.netloom.internal true", 125, "reserved"),
        ("run --rm --name LocalHost true", 125, "`LocalHost` is reserved"),
        ("run --rm --network-alias host.docker.internal true", 125, "`host.docker.internal` is reserved"),
        ("run --rm -u 99999999999 true", 125, "`99999999999` is out of range"),
        ("run --rm -u 0:4294967295 true", 125, "`4294967295` is out of range"),
        ("run --rm --cidfile /nope/x true", 125, "make its directory first"),
        ("cp /a /b", 2, "netloom cp --help"),
        ("run --rm -w relative true", 125, "relative"),
        ("run --rm -e =x true", 125, "=x"),
        ("run --rm --ulimit nofile true", 125, "nofile"),
        ("run --rm --ulimit wings=1 true", 125, "wings"),
        ("run --rm --ulimit nofile=5:4 true", 125, "nofile"),
        ("run --rm --restart sometimes true", 125, "sometimes"),
        ("run --rm --restart always true", 125, "--rm"),
        ("run --rm --memory lots true", 125, "lots"),
        ("run --rm --pids-limit -x true", 125, "-x"),
        ("run --rm --security-opt wings=on true", 125, "wings"),
        ("run --rm --device /dev/no-such-device true", 125, "/dev/no-such-device"),
        ("run --rm --label = true", 125, "="),
        ("run --rm -u nobody-knows true", 125, "nobody-knows"),
        ("run --rm --sysctl kernel.panic=1 true", 125, "kernel.panic"),
        ("ps --format '{{.wings}}'", 2, "wings"),
        ("ps --format '{{.id'", 2, "{{.id"),
        ("stop -t x a", 2, "x"),
    ];
    check(nl, cases);
    assert_eq!(nl.ok("ps -a -q"), "", "a container that was refused is left");
}

fn wrong_words_about_networks_are_refused(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/24 blue");
    nl.ok("network create --internal quiet");
    let cases: &[Case] = &[
        ("network create --subnet 10.6.0.0/33 n", 2, "10.6.0.0/33"),
        ("network create --subnet 10.6.0.1/24 n", 2, "10.6.0.1/24"),
        ("network create --subnet 10.6.0.0 n", 2, "10.6.0.0"),
        ("network create --subnet 10.6.0.0/31 n", 2, "10.6.0.0/31 cannot be the subnet of a network: it has too few addresses"),
        ("network create --subnet 0.0.0.0/0 n", 2, "0.0.0.0/0 cannot be the subnet of a network: its prefix must"),
        ("network create --subnet 127.0.0.0/8 n", 2, "127.0.0.0/8 cannot be the subnet of a network: 127.0.0.0/8 is every machine's"),
        ("network create --subnet 224.0.0.0/4 n", 2, "224.0.0.0/4 cannot be the subnet of a network: its addresses are those of groups"),
        ("network create --subnet fe80::/64 n", 2, "fe80::/64 cannot be the subnet of a network: fe80::/10 is on every link"),
        ("network create --subnet 10.6.0.0/24 --gateway 10.7.0.1 n", 2, "10.7.0.1"),
        ("network create --subnet 10.6.0.0/24 --gateway 10.6.0.255 n", 2, "10.6.0.255"),
        ("network create --subnet 10.6.0.0/24 --ip-range 10.7.0.0/28 n", 2, "10.7.0.0/28"),
        ("network create --mtu 5 n", 2, "5"),
        ("network create -o wings=on n", 2, "wings"),
        ("network create -o ageing=300 n", 2, "ageing"),
        ("network create --backend pigeon n", 2, "backend"),
        ("network create blue", 1, "blue"),
        ("network create bridge", 1, "bridge"),
        ("network create host", 1, "host"),
        ("network create none", 1, "none"),
        ("network create a:b", 2, "a:b"),
        ("network create ''", 2, "name"),
        ("network rm bridge", 1, "bridge"),
        ("network rm nowhere", 1, "nowhere"),
        ("network set nowhere ageing=5s", 1, "nowhere"),
        ("network set blue ageing", 2, "ageing"),
        ("network set blue ageing=soon", 2, "soon"),
        ("network connect nowhere nobody", 1, "nobody"),
        ("network disconnect blue nobody", 1, "nobody"),
        ("network port set blue 4000 isolated=on", 1, "4000"),
        ("network port set blue nobody isolated=on", 1, "nobody"),
        ("fdb nowhere", 1, "nowhere"),
        ("fdb add blue 02:42 1", 2, "02:42"),
        ("run --rm --net quiet -p 8080:80 true", 125, "quiet"),
        ("run --rm --net blue --net blue true", 125, "blue"),
        ("run --rm --net name=blue,wings=on true", 125, "wings"),
        ("run --rm --net name=blue,ip=10.6.0.2 true", 125, "10.6.0.2"),
    ];
    check(nl, cases);
    let mut names: Vec<_> = nl.ok("network ls -q").lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["blue", "bridge", "quiet"], "a network that was refused is left");
}

fn a_name_in_use_is_refused(nl: &Netloom) {
    let id = nl.ok("run -d --name taken sleep 1000");
    let tried = nl.run("run -d --name taken sleep 1000");
    assert_eq!(tried.code, 125, "{tried:?}");
    assert_eq!(flaw(&tried.stderr, "taken"), None, "{tried:?}");
    assert!(tried.stderr.contains(&id[..12]), "who has the name is not said: {tried:?}");
    assert!(!nl.fails("create --name taken true", 125).is_empty());
    let tried = nl.run("create --name Taken true");
    assert_eq!(tried.code, 125, "{tried:?}");
    assert_eq!(flaw(&tried.stderr, "`Taken` differs only in case from `taken`"), None, "{tried:?}");
    assert_eq!(nl.ok("ps -a -q").lines().count(), 1);
    nl.ok("rename taken Taken");
    assert_eq!(nl.ok("ps --format '{{.name}}'"), "Taken");
}

fn an_unknown_container_is_named(nl: &Netloom) {
    let commands = [
        "exec nobody true",
        "start nobody",
        "stop nobody",
        "restart nobody",
        "kill nobody",
        "pause nobody",
        "unpause nobody",
        "rm nobody",
        "wait nobody",
        "rename nobody x",
        "attach nobody",
        "inspect nobody",
        "logs nobody",
        "port nobody",
        "cp nobody:/etc/passwd .",
        "stats --no-stream nobody",
        "publish add nobody 80:80",
    ];
    for_each_case(commands, |line| {
        let tried = nl.run(line);
        let flaw = flaw(&tried.stderr, "nobody")
            .or_else(|| (tried.code != if line.starts_with("exec") { 125 } else { 1 }).then(|| format!("it exits {}", tried.code)));
        flaw.map_or(Ok(()), |flaw| Err(format!("{flaw}\n{tried:?}")))
    });
}

fn nothing_half_made_is_left(nl: &Netloom) {
    nl.ok("run -d --name keeps-the-daemon sleep 1000");
    let listing = |line: &str| nl.ok(line);
    let before = [listing("ps -a -q"), listing("leases --json"), listing("network ls -q")];
    let processes = nl.host.processes().len();
    for line in [
        "run -d --name x netloom-no-such-command",
        "run -d --name x -u nobody-knows true",
        "run -d --name x -v /no/such/dir:/x true",
        "run -d --name x --net bridge --net nowhere true",
        "run -d --name x -p 192.0.2.55:8080:80 true",
        "run -d --name x --rootfs /no/such/root true",
        "run -d --name x --sysctl net.no.such=1 true",
    ] {
        let tried = nl.run(line);
        assert!([125, 127].contains(&tried.code), "{tried:?}");
    }
    netloom_tests::wait_until("the processes are gone", || nl.host.processes().len() == processes);
    assert_eq!([listing("ps -a -q"), listing("leases --json"), listing("network ls -q")], before);
    nl.ok("run --rm --name x true");
}

/// A start that cannot be said to the supervisor must not wait for ever.
fn more_hosts_than_can_be_told_are_refused(nl: &Netloom) {
    let hosts: String = (0..4000).map(|index| format!("--add-host a-name-that-is-rather-long-{index}:10.0.0.1 ")).collect();
    let why = nl.fails(&format!("run --rm {hosts} true"), 125);
    assert!(why.contains("network options") && why.contains("--add-host"), "{why}");
    assert_eq!(nl.ok("ps -a -q"), "");
}
