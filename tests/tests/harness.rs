//! The harness itself, with the kernel's own tools: what it promises the other tests is tested before they rely on it.

use std::{io::Read, net::TcpStream};

use netloom_tests::console::{blocks, play};
use netloom_tests::{FAR_IP, HOST_IP, Host, Place, SERVER_IP, Snapshot, Terminal, Who, can_run, wait_until, words};

/// A host for the test of this name, unless the machine cannot make one.
fn host(test: &str) -> Option<Host> {
    can_run(test).then(|| Host::new(Who::Root))
}

#[test]
fn words_in_quotes_stay_together() {
    assert_eq!(words("run  sh -c 'echo \"a b\"' \"\""), ["run", "sh", "-c", "echo \"a b\"", ""]);
}

#[test]
fn a_host_is_a_network_with_an_outside() {
    let Some(host) = host("a_host_is_a_network_with_an_outside") else { return };
    let outside = host.listen(Place::Server, (FAR_IP, 9000));
    let from_host = host.inside(Place::Host, || TcpStream::connect((FAR_IP, 9000))).expect("the host reaches the outside");
    let (_, client) = outside.accept().expect("a client");
    assert_eq!(client.ip(), HOST_IP);
    drop(from_host);
    let inside = host.listen(Place::Host, (HOST_IP, 80));
    let _client = host.inside(Place::Server, || TcpStream::connect((HOST_IP, 80))).expect("the outside reaches the host");
    assert_eq!(inside.accept().expect("a client").1.ip(), SERVER_IP);
}

#[test]
fn a_host_is_not_the_machine() {
    let Some(host) = host("a_host_is_not_the_machine") else { return };
    assert_eq!(host.ok("hostname"), "testhost");
    let links = host.ok("ip -o link");
    assert_eq!(links.lines().count(), 2, "{links}");
    assert!(host.ok("ls /sys/class/net").contains("eth0"));
    assert!(std::fs::read_to_string("/proc/net/dev").expect("the machine's links") != host.ok("cat /proc/net/dev"));
}

#[test]
fn a_host_ends_with_everything_on_it() {
    let Some(host) = host("a_host_ends_with_everything_on_it") else { return };
    let mut left = host.start(Place::Host, "sh -c 'setsid sleep 1000 & sleep 1000'");
    wait_until("both run", || host.processes().iter().filter(|(_, line)| line == "sleep 1000").count() == 2);
    let dir = host.dir().to_owned();
    drop(host);
    wait_until("it ends", || !left.is_running());
    assert!(!dir.exists());
}

#[test]
fn a_host_reaps_orphans() {
    let Some(host) = host("a_host_reaps_orphans") else { return };
    host.ok("sh -c 'setsid sleep 0.05 & true'");
    wait_until("no process is left, not even a dead one", || {
        host.ok("ls /proc").lines().filter(|name| name.parse::<u32>().is_ok()).count() == 2
    });
}

#[test]
fn a_host_s_snapshot_sees_what_is_left() {
    let Some(host) = host("a_host_s_snapshot_sees_what_is_left") else { return };
    let before = Snapshot::of_everything(&host);
    assert_eq!(Snapshot::of_everything(&host).changes_since(&before), Vec::<String>::new());
    host.ok("ip link add left type veth peer name over");
    host.ok("ip netns add forgotten");
    host.ok("sysctl -w net.ipv4.ip_forward=1");
    host.ok("sh -c 'sleep 1000 > /dev/null 2>&1 &'");
    let changes = Snapshot::of_everything(&host).changes_since(&before).join("\n");
    for thing in ["+ link: ", "+ mount: ", "+ named namespace: forgotten", "+ sysctl: net.ipv4.ip_forward = 1", "+ process: ", "- sysctl: "]
    {
        assert!(changes.contains(thing), "{thing} is not in:\n{changes}");
    }
}

#[test]
fn a_host_gives_exit_codes_and_output_as_they_are() {
    let Some(host) = host("a_host_gives_exit_codes_and_output_as_they_are") else { return };
    let seven = host.try_run("sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((seven.code, seven.text().as_str(), seven.stderr.as_str()), (7, "out", "err\n"));
    assert_eq!(host.try_run("sh -c 'kill -9 $$'").code, 137);
    let mut cat = host.start(Place::Host, "cat");
    cat.type_in("one\n");
    cat.expect("one");
    assert_eq!(cat.finish().text(), "one");
    let mut trap = host.start(Place::Host, "sh -c 'trap \"exit 3\" TERM; echo ready; while :; do sleep 0.01; done'");
    trap.expect("ready");
    assert!(trap.is_running());
    trap.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(trap.finish().code, 3);
}

#[test]
fn a_host_s_listener_belongs_to_its_network() {
    let Some(host) = host("a_host_s_listener_belongs_to_its_network") else { return };
    let listener = host.listen(Place::Server, (SERVER_IP, 7));
    let client = host.start(Place::Host, "busybox nc 10.99.0.1 7");
    let (mut stream, _) = listener.accept().expect("a client");
    std::io::Write::write_all(&mut stream, b"hello").expect("it takes the bytes");
    client.expect("hello");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    let mut rest = Vec::new();
    client.finish();
    stream.read_to_end(&mut rest).expect("it ends");
}

fn shell(host: &Host) -> Terminal {
    host.terminal(&words("sh -i"), "sh -i")
}

#[test]
fn a_terminal_has_a_size_and_a_foreground() {
    let Some(host) = host("a_terminal_has_a_size_and_a_foreground") else { return };
    let mut shell = shell(&host);
    shell.ask("stty size", "24 80");
    shell.resize(40, 100);
    shell.ask("stty size", "40 100");
    shell.send("sleep 1000\r");
    wait_until("it sleeps", || host.processes().iter().any(|(_, line)| line == "sleep 1000"));
    shell.send("\x03");
    shell.ask("echo code=$?", "code=130");
    shell.send("exit 5\r");
    assert_eq!(shell.finish(), 5);
}

#[test]
fn a_transcript_is_played_as_written() {
    if !can_run("every_console_block_does_what_it_shows") {
        return;
    }
    let play = |text: &str| {
        let text = format!("```console\n{text}```\n");
        std::panic::catch_unwind(|| blocks(&text).iter().for_each(|block| play("text", block))).is_ok()
    };
    assert!(play("$ id -un\nnetloom-test\n$ printf 'a\\nb\\nc\\n'\na\n…\nc\n$ PS1='# ' sh -i\n# echo in\nin\n# exit\n$ echo out\nout\n"));
    assert!(play("$ cargo run --release -- --version > /dev/null; echo done\ndone\n"));
    assert!(!play("$ echo one\ntwo\n"), "other output is a failure");
    assert!(!play("$ false\n"), "a command that fails is a failure");
}
