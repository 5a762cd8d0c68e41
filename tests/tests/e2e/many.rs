//! Many at once.

use std::collections::BTreeSet;

use netloom_tests::{Netloom, Running, at, report, wait_until};

for_both!(fifty_runs_at_once_get_fifty_addresses, two_hundred_containers_reach_each_other);

fn fifty_runs_at_once_get_fifty_addresses(nl: &Netloom) {
    let runs: Vec<Running> = (0..50).map(|n| nl.start(&format!("run -d --name c{n} sleep 1000"))).collect();
    for run in runs {
        run.finish_within(netloom_tests::DEADLINE * 3).exits(0);
    }
    let names = (0..50).map(|n| format!("c{n}")).collect::<Vec<_>>().join(" ");
    let shown = nl.json(&format!("inspect {names}"));
    let shown = shown.as_array().expect("a list");
    let addresses: BTreeSet<_> = shown.iter().map(|container| at(container, "networks.bridge.ip_address")).collect();
    let ports: BTreeSet<_> = shown.iter().map(|container| at(container, "networks.bridge.port_id")).collect();
    assert_eq!((addresses.len(), ports.len()), (50, 50));
    assert!(shown.iter().all(|container| at(container, "state") == "running"));
    nl.ok("exec c0 busybox ping -c 1 -W 5 c49");
}

const CONTAINERS: usize = 200;

/// Sends a datagram to each of the others and counts those whose datagram came. The neighbours are entered beforehand: the
/// kernel keeps 1,024 learned ones for all namespaces together, and 200 times 199 are 39,800.
const MEET: &str = r#"
import os, socket, subprocess, sys, time
own, count = int(sys.argv[1]), int(sys.argv[2])
address = lambda n: f"10.5.{n // 250}.{n % 250 + 2}"
mac = lambda n: "02:42:" + ":".join(f"{int(part):02x}" for part in address(n).split("."))
lines = "".join(f"neigh replace {address(n)} lladdr {mac(n)} dev eth0 nud permanent\n" for n in range(count) if n != own)
subprocess.run(["ip", "-batch", "-"], input=lines.encode(), check=True)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.bind(("", 4000))
open(f"/meet/ready{own}", "w").close()
while not os.path.exists("/meet/go"): time.sleep(0.05)
heard, end, again = set(), time.time() + 60, 0
while len(heard) < count - 1 and time.time() < end:
    if time.time() > again:
        for n in range(count):
            if n != own: s.sendto(b"here", (address(n), 4000))
        again = time.time() + 3
    s.settimeout(0.2)
    try: heard.add(s.recvfrom(64)[1][0])
    except TimeoutError: pass
for n in range(count):
    if n != own: s.sendto(b"here", (address(n), 4000))
open(f"/meet/heard{own}.part", "w").write(str(len(heard)))
os.rename(f"/meet/heard{own}.part", f"/meet/heard{own}")
time.sleep(1000)
"#;

fn two_hundred_containers_reach_each_other(nl: &Netloom) {
    nl.ok("network create --subnet 10.5.0.0/16 big");
    let dir = nl.host.make_dir("meet");
    nl.host.write("meet/meet.py", MEET);
    for first in (0..CONTAINERS).step_by(8) {
        let some = first..(first + 8).min(CONTAINERS);
        let start = |n: usize| {
            let address = format!("10.5.{}.{}", n / 250, n % 250 + 2);
            let options = format!("--name c{n} --net big --ip {address} --cap-add NET_ADMIN -v {}:/meet", dir.display());
            nl.start(&format!("run -d {options} python3 /meet/meet.py {n} {CONTAINERS}"))
        };
        for run in some.map(start).collect::<Vec<_>>() {
            run.finish().exits(0);
        }
    }
    let files = |prefix: &str| {
        let names = std::fs::read_dir(&dir).expect("the directory").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<usize>().is_ok())).count()
    };
    wait_until("all are ready", || files("ready") == CONTAINERS);
    nl.host.write("meet/go", "");
    let end = std::time::Instant::now() + netloom_tests::DEADLINE * 2;
    while files("heard") < CONTAINERS && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let heard = (0..CONTAINERS).map(|n| std::fs::read_to_string(dir.join(format!("heard{n}"))).unwrap_or_else(|_| "nothing".into()));
    let short: Vec<_> = heard.enumerate().filter(|(_, heard)| *heard != (CONTAINERS - 1).to_string()).take(10).collect();
    assert!(short.is_empty(), "who heard how many: {short:?}");
    // By ARP and by name, around the ring in part.
    for (from, to) in [(0, 1), (50, 150), (199, 0)] {
        nl.ok(&format!("exec c{from} busybox ping -c 1 -W 5 c{to}"));
    }
    let (daemon, supervisors) = memory(nl);
    report(&format!(
        "{:?}: {CONTAINERS} containers: daemon {daemon} KiB, supervisor {supervisors} KiB each (proportional set size)",
        nl.who()
    ));
    assert!(daemon < 100_000, "the daemon takes {daemon} KiB");
    assert!(supervisors < 3_000, "a supervisor takes {supervisors} KiB");
}

/// Proportional set sizes in KiB: the daemon's, and the mean of the supervisors'.
fn memory(nl: &Netloom) -> (u64, u64) {
    let size = |pid: i64| {
        let text = std::fs::read_to_string(nl.host.path(&format!("/proc/{pid}/smaps_rollup"))).expect("the process runs");
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a size");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number")
    };
    let supervisors: Vec<u64> = (0..10).map(|n| size(nl.supervisor(&format!("c{n}")))).collect();
    (size(nl.daemon()), supervisors.iter().sum::<u64>() / 10)
}
