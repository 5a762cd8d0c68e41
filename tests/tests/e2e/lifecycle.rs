//! A container's life: created, started, paused, stopped, restarted, renamed, removed; and that of the daemon behind it.

use std::collections::BTreeSet;

use netloom_tests::{Netloom, Place, Running, at, backend, wait_until};

for_both!(
    run_in_the_background_prints_the_id,
    a_container_without_a_name_gets_two_words,
    a_container_is_found_by_a_prefix_of_its_id,
    create_start_and_attach_make_a_run,
    rm_takes_what_has_ended_and_force_the_rest,
    a_container_of_run_rm_is_gone_when_it_ends,
    stop_asks_then_kills,
    kill_sends_any_signal,
    restart_gives_a_new_process_and_the_same_address,
    pause_stops_every_process,
    a_container_that_makes_processes_all_the_time_can_be_paused,
    wait_gives_the_exit_code,
    rename_changes_the_name_that_others_look_up,
    a_restart_policy_is_kept,
    always_ends_with_stop,
    a_cidfile_and_labels_are_kept,
    ps_shows_what_runs,
    ps_picks_by_filters_and_age,
    processes_have_names,
    a_supervisor_without_descriptors_rests,
    inspect_has_every_key,
    the_daemon_ends_when_nothing_runs,
    two_roots_never_see_each_other,
    the_environment_is_that_of_the_run_command,
    system_prune_takes_what_has_ended,
);

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

fn run_in_the_background_prints_the_id(nl: &Netloom) {
    let id = nl.ok("run -d --name a sleep 1000");
    assert!(is_id(&id), "{id}");
    let shown = nl.inspect("a");
    assert_eq!((at(&shown, "id"), at(&shown, "state"), at(&shown, "exit_code")), (id, "running".into(), "null".into()));
    assert!(!nl.ok("exec a cat /proc/1/comm").is_empty());
}

fn a_container_without_a_name_gets_two_words(nl: &Netloom) {
    let id = nl.ok("run -d sleep 1000");
    let name = at(&nl.inspect(&id), "name");
    let words: Vec<_> = name.split('_').collect();
    assert!(words.len() == 2 && words.iter().all(|word| word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase())), "{name}");
}

fn a_container_is_found_by_a_prefix_of_its_id(nl: &Netloom) {
    // Seventeen IDs: two of them begin alike.
    let ids: Vec<String> = (0..17).map(|_| nl.ok("create true")).collect();
    assert_eq!(at(&nl.inspect(&ids[0][..12]), "id"), ids[0]);
    let firsts: Vec<_> = ids.iter().map(|id| &id[..1]).collect();
    let twice = firsts.iter().find(|first| firsts.iter().filter(|other| other == first).count() > 1).expect("a common first digit");
    let why = nl.fails(&format!("inspect {twice}"), 1);
    assert!(why.contains("beginning of"), "{why}");
}

fn create_start_and_attach_make_a_run(nl: &Netloom) {
    let id = nl.ok("create --name a -i sh -c 'read line; echo got $line; exit 4'");
    assert!(is_id(&id), "{id}");
    assert_eq!((nl.state("a"), at(&nl.inspect("a"), "pid")), ("created".into(), "null".into()));
    assert_eq!(nl.ok("start a"), "a");
    assert_eq!(nl.state("a"), "running");
    let mut attached = nl.start("attach a");
    attached.type_in("hello\n");
    attached.expect("got hello");
    assert_eq!(attached.finish().code, 4);
    wait_until("it has ended", || nl.state("a") == "exited");
    assert_eq!(at(&nl.inspect("a"), "exit_code"), "4");
}

fn rm_takes_what_has_ended_and_force_the_rest(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let why = nl.fails("rm a", 1);
    assert!(why.contains('a') && why.contains("running"), "{why}");
    nl.ok("stop -t 0 a");
    assert_eq!(nl.ok("rm a"), "a");
    nl.ok("run -d --name a sleep 1000");
    assert_eq!(nl.ok("rm -f a"), "a");
    assert_eq!(nl.ok("ps -a -q"), "");
}

fn a_container_of_run_rm_is_gone_when_it_ends(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm --name a echo hello"), "hello");
    assert_eq!(nl.ok("ps -a -q"), "");
    nl.ok("run -d --rm --name b sleep 1000");
    nl.ok("stop -t 0 b");
    wait_until("it is gone", || nl.ok("ps -a -q").is_empty());
    // Without --rm it stays.
    assert_eq!(nl.run("run --name c sh -c 'exit 3'").code, 3);
    assert_eq!((nl.state("c"), at(&nl.inspect("c"), "exit_code")), ("exited".into(), "3".into()));
}

/// Says `ready`, ends with 0 when it gets SIGTERM.
const POLITE: &str = "sh -c 'trap \"exit 0\" TERM; echo ready; while :; do sleep 0.05; done'";
/// Says `ready`, and hears no SIGTERM.
const DEAF: &str = "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done'";

fn ready(nl: &Netloom, name: &str) {
    wait_until("it is ready", || nl.ok(&format!("logs {name}")).contains("ready"));
}

fn stop_asks_then_kills(nl: &Netloom) {
    nl.ok(&format!("run -d --name polite {POLITE}"));
    nl.ok(&format!("run -d --name deaf {DEAF}"));
    ready(nl, "polite");
    ready(nl, "deaf");
    assert_eq!(nl.ok("stop polite"), "polite");
    assert_eq!(at(&nl.inspect("polite"), "exit_code"), "0");
    let began = std::time::Instant::now();
    nl.ok("stop -t 1 deaf");
    assert!(began.elapsed().as_millis() >= 1000);
    assert_eq!((nl.state("deaf"), at(&nl.inspect("deaf"), "exit_code")), ("exited".into(), "137".into()));
}

fn kill_sends_any_signal(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'trap \"echo hup\" HUP; echo ready; while :; do sleep 0.05; done'");
    ready(nl, "a");
    for signal in ["HUP", "SIGHUP", "1"] {
        nl.ok(&format!("kill -s {signal} a"));
    }
    wait_until("the signal is heard", || nl.ok("logs a").contains("hup"));
    nl.ok("kill a");
    wait_until("it has ended", || nl.state("a") == "exited");
    assert_eq!(at(&nl.inspect("a"), "exit_code"), "137");
    let why = nl.fails("kill -s NOPE a", 2);
    assert!(why.contains("NOPE"), "{why}");
}

fn restart_gives_a_new_process_and_the_same_address(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    nl.ok("run -d --name b sleep 1000");
    let (pid, ip) = (nl.pid("a"), nl.ip("a"));
    nl.ok("restart -t 0 a");
    assert_ne!(nl.pid("a"), pid);
    assert_eq!((nl.state("a"), nl.ip("a")), ("running".into(), ip));
    nl.ok("exec b busybox ping -c 1 -W 5 a");
}

fn pause_stops_every_process(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'i=0; while :; do i=$((i + 1)); echo $i > /dev/shm/count; sleep 0.01; done'");
    let count = || nl.ok("exec a cat /dev/shm/count");
    wait_until("it counts", || nl.run("exec a cat /dev/shm/count").text() > "1".into());
    nl.ok("pause a");
    assert_eq!(nl.state("a"), "paused");
    let file = format!("/proc/{}/root/dev/shm/count", nl.pid("a"));
    let first = nl.host.ok(&format!("cat {file}"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(nl.host.ok(&format!("cat {file}")), first, "it counts while it is paused");
    nl.ok("unpause a");
    assert_eq!(nl.state("a"), "running");
    wait_until("it counts on", || count() != first);
    // A paused container can be stopped and removed.
    nl.ok("pause a");
    nl.ok("rm -f a");
}

fn a_container_that_makes_processes_all_the_time_can_be_paused(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'for each in 1 2 3; do (while :; do sleep 0.001; done) & done; while :; do /bin/true; done'");
    for _ in 0..20 {
        nl.ok("pause a");
        assert_eq!(nl.state("a"), "paused");
        nl.ok("unpause a");
    }
    nl.ok("rm -f a");
}

fn wait_gives_the_exit_code(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'read line < /dev/shm/never || sleep 0.3; exit 6'");
    assert_eq!(nl.ok("wait a"), "6");
    assert_eq!(nl.ok("wait a"), "6", "one that has ended says so at once");
}

fn rename_changes_the_name_that_others_look_up(nl: &Netloom) {
    // Names that no ID can begin with.
    nl.ok("run -d --name old sleep 1000");
    nl.ok("run -d --name taken sleep 1000");
    nl.ok("rename old new");
    assert_eq!(nl.run("inspect old").code, 1);
    nl.ok("exec taken busybox ping -c 1 -W 5 new");
    assert!(nl.fails("rename new taken", 1).contains("taken"));
}

fn a_restart_policy_is_kept(nl: &Netloom) {
    nl.ok("run -d --name a --restart on-failure:2 sh -c 'echo started; exit 3'");
    wait_until("it has been tried three times", || nl.state("a") == "exited" && at(&nl.inspect("a"), "restart_count") == "2");
    assert_eq!(nl.ok("logs a").lines().filter(|line| *line == "started").count(), 3);
    assert_eq!(at(&nl.inspect("a"), "exit_code"), "3");
    nl.ok("run -d --name b --restart on-failure true");
    wait_until("success is no failure", || nl.state("b") == "exited");
    assert_eq!(at(&nl.inspect("b"), "restart_count"), "0");
}

fn always_ends_with_stop(nl: &Netloom) {
    nl.ok("run -d --name a --restart always sh -c 'echo started; sleep 0.2'");
    wait_until("it has started again", || nl.ok("logs a").lines().count() > 1);
    nl.ok("stop -t 0 a");
    let lines = nl.ok("logs a").lines().count();
    assert_eq!(nl.state("a"), "exited");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(nl.ok("logs a").lines().count(), lines, "it came back");
}

fn a_cidfile_and_labels_are_kept(nl: &Netloom) {
    let file = nl.host.dir().join("cid");
    let id = nl.ok(&format!("run -d --name a --cidfile {} --label role=web -l tier=1 sleep 1000", file.display()));
    assert_eq!(std::fs::read_to_string(&file).expect("the file").trim(), id);
    let labels = nl.inspect("a")["labels"].clone();
    assert_eq!((at(&labels, "role"), at(&labels, "tier")), ("web".into(), "1".into()));
    let why = nl.fails(&format!("run -d --cidfile {} sleep 1000", file.display()), 125);
    assert!(why.contains("cid"), "{why}");
}

fn ps_shows_what_runs(nl: &Netloom) {
    let id = nl.ok("run -d --name a -p 8080:80 sleep 1000");
    nl.ok("run --name b true");
    let table = nl.ok("ps");
    for text in [&id[..12], "sleep 1000", "a", "8080->80/tcp"] {
        assert!(table.contains(text), "{text} is not in:\n{table}");
    }
    assert!(!table.contains(&id), "an ID is shown as 12 digits");
    assert_eq!(table.lines().count(), 2, "{table}");
    assert_eq!(nl.ok("ps -a").lines().count(), 3);
    assert_eq!(nl.ok("ps -q"), id[..12]);
    assert_eq!(nl.ok("ps --format '{{.name}} {{.state}}'"), "a running");
    assert_eq!(at(&nl.json("ps --json")[0], "id"), id);
}

fn ps_picks_by_filters_and_age(nl: &Netloom) {
    nl.ok("network create blue");
    nl.ok("run -d --name web-1 --label tier=front sleep 1000");
    nl.ok("run -d --name web-2 --net blue sleep 1000");
    nl.ok("run --name job true");
    let table = [
        ("ps --filter name=web", "web-2\nweb-1"),
        ("ps -f status=exited", "job"),
        ("ps -a -f name=job -f name=web-1", "job\nweb-1"),
        ("ps -f network=blue", "web-2"),
        ("ps -f label=tier=front -f name=web", "web-1"),
        ("ps -f label=tier=back", ""),
        ("ps -l", "job"),
        ("ps -n 2", "job\nweb-2"),
    ];
    for (line, names) in table {
        assert_eq!(nl.ok(&format!("{line} --format '{{{{.name}}}}'")), names, "{line}");
    }
    let columns = nl.ok("ps --format 'table {{.name}}\\t{{.state}}'");
    assert_eq!(columns, "NAME    STATE\nweb-2   running\nweb-1   running");
    assert_eq!(nl.ok("inspect -f '{{.name}}' web-1"), "web-1");
    assert_eq!(nl.ok("network inspect -f '{{.name}}' blue"), "blue");
}

fn processes_have_names(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let comm = |pid: i64| nl.host.ok(&format!("cat /proc/{pid}/comm")).trim().to_owned();
    assert_eq!((comm(nl.daemon()), comm(nl.supervisor("a"))), ("netloom".to_owned(), "netloom-sv".to_owned()));
}

fn a_supervisor_without_descriptors_rests(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let supervisor = nl.supervisor("a");
    // The limits of a process are its own user's to set.
    let limit =
        |files: u32| nl.host.start_as(nl.who(), Place::Host, &format!("prlimit --pid {supervisor} --nofile={files}:")).finish().exits(0);
    limit(3);
    let mut waiting = nl.start("exec a echo through");
    let ticks = || {
        let stat = nl.host.ok(&format!("cat /proc/{supervisor}/stat"));
        let fields: Vec<u64> = stat.rsplit_once(')').expect("a stat").1.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    };
    let before = ticks();
    // What is measured is what it does while nothing can happen.
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(waiting.is_running(), "it had descriptors left");
    let used = ticks() - before;
    limit(1024);
    assert_eq!(waiting.finish().exits(0).text(), "through");
    assert!(used < 20, "it turned for {used} ticks of 70");
}

fn inspect_has_every_key(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let shown = nl.inspect("a");
    let keys = "id name state pid exit_code error network_mode networks ports rootfs command created started finished backend";
    for key in keys.split(' ') {
        assert!(shown.get(key).is_some(), "no `{key}` in {shown:#}");
    }
    for key in "ip_address ip6_address prefix_len gateway mac_address port_id aliases".split(' ') {
        assert!(shown["networks"]["bridge"].get(key).is_some(), "no `{key}` in {shown:#}");
    }
    assert_eq!(shown["command"], serde_json::json!(["sleep", "1000"]));
    assert!(shown["networks"]["bridge"]["prefix_len"].is_u64() && shown["pid"].is_i64());
    for (key, none) in [("created", false), ("started", false), ("finished", true)] {
        let time = at(&shown, key);
        assert_eq!(time == "null", none, "{key}");
        assert!(none || (time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T'), "{key} is {time}");
    }
    assert_eq!(at(&shown, "backend"), backend());
    assert!(nl.fails("inspect a nobody", 1).contains("nobody"));
}

fn the_daemon_ends_when_nothing_runs(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    assert!(!nl.host.processes().is_empty());
    nl.ok("rm -f a");
    nl.expect_nothing_left();
    // And the next command finds the way back.
    assert_eq!(nl.ok("run --rm echo again"), "again");
}

fn two_roots_never_see_each_other(nl: &Netloom) {
    let other = nl.beside("other");
    nl.ok("run -d --name a sleep 1000");
    assert_eq!(other.ok("ps -a -q"), "");
    other.ok("run -d --name a sleep 1000");
    other.ok("network create blue");
    assert_eq!(nl.ok("network ls -q"), "bridge");
    assert_ne!(nl.daemon(), other.daemon());
    other.remove_all();
    assert_eq!(nl.state("a"), "running");
}

fn the_environment_is_that_of_the_run_command(nl: &Netloom) {
    // The daemon was started by another command, in another directory and with another mask.
    nl.ok("run -d --name first sleep 1000");
    let words = nl.words("run --rm sh -c 'umask; ulimit -n; pwd; env'").into_iter().map(|word| format!("'{}'", word.replace('\'', "\"")));
    let line = words.collect::<Vec<_>>().join(" ");
    let script = nl.host.write("as-typed", format!("umask 027; ulimit -n 512; cd /usr; exec {line}"));
    let running: Running = nl.host.start_as(nl.who(), Place::Host, &format!("sh {}", script.display()));
    let seen = running.finish().exits(0).text();
    let lines: BTreeSet<_> = seen.lines().collect();
    assert!(lines.contains("0027") && lines.contains("512"), "{seen}");
    assert!(!lines.iter().any(|line| line.starts_with("XDG_RUNTIME_DIR=")), "the host's environment is not the container's: {seen}");
    assert!(lines.iter().any(|line| line.starts_with("PATH=")) && lines.iter().any(|line| line.starts_with("HOSTNAME=")), "{seen}");
}

fn system_prune_takes_what_has_ended(nl: &Netloom) {
    nl.ok("run -d --name runs sleep 1000");
    nl.ok("run --name ended true");
    nl.ok("network create unused");
    nl.ok("system prune");
    assert_eq!(nl.ok("ps -a --format '{{.name}}'"), "runs");
    assert_eq!(nl.ok("network ls -q"), "bridge");
}
