//! Exit codes and signals: those of the command, as if it had run without a container.

use netloom_tests::{Netloom, Place, Terminal, at, for_each_case, wait_until};
use nix::sys::signal::Signal;

for_both!(
    exit_codes_are_the_commands_own,
    exit_codes_of_exec_are_the_commands_own,
    a_signal_to_run_reaches_the_command,
    a_command_killed_by_a_signal_is_128_more,
    a_terminal_needs_a_terminal,
    the_init_reaps_what_others_left,
    options_end_at_the_first_word_that_is_none,
    output_that_cannot_be_written_is_told,
    errors_that_nobody_can_be_told_leave_the_exit_code,
);

const CODES: [(&str, i32); 9] = [
    ("true", 0),
    ("false", 1),
    ("sh -c 'exit 77'", 77),
    ("sh -c 'exit 255'", 255),
    ("sh -c 'kill -9 $$'", 137),
    ("sh -c 'kill -15 $$'", 143),
    ("netloom-no-such-command", 127),
    ("/etc/passwd", 126),
    ("/etc", 126),
];

fn exit_codes_are_the_commands_own(nl: &Netloom) {
    for_each_case(CODES, |(command, code)| {
        let ended = nl.run(&format!("run --rm {command}"));
        (ended.code == *code).then_some(()).ok_or_else(|| format!("{ended:?}"))
    });
    assert_eq!(nl.ok("ps -a -q"), "", "what could not start is left behind");
    for (line, code) in [("run --no-such-option true", 125), ("run", 125), ("run --net=nowhere true", 125), ("ps --no-such-option", 2)] {
        let ended = nl.run(line);
        assert_eq!(ended.code, code, "{ended:?}");
    }
}

fn exit_codes_of_exec_are_the_commands_own(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    for_each_case(CODES, |(command, code)| {
        let ended = nl.run(&format!("exec a {command}"));
        (ended.code == *code).then_some(()).ok_or_else(|| format!("{ended:?}"))
    });
    assert_eq!(nl.run("exec nobody true").code, 125);
}

fn a_signal_to_run_reaches_the_command(nl: &Netloom) {
    for signal in ["TERM", "INT", "HUP", "USR1"] {
        let running = nl.start(&format!("run --rm sh -c 'trap \"exit 9\" {signal}; echo ready; while :; do sleep 0.05; done'"));
        running.expect("ready");
        running.signal(format!("SIG{signal}").parse::<Signal>().expect("a signal"));
        assert_eq!(running.finish().code, 9, "SIG{signal}");
    }
}

fn a_command_killed_by_a_signal_is_128_more(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'kill -SEGV $$'");
    wait_until("it has ended", || nl.state("a") == "exited");
    assert_eq!(at(&nl.inspect("a"), "exit_code"), "139");
}

fn a_terminal_needs_a_terminal(nl: &Netloom) {
    let why = nl.fails("run --rm -it true", 125);
    assert!(why.contains("terminal") && why.contains("hint"), "{why}");
    let terminal: Terminal = nl.terminal("run --rm -it true");
    assert_eq!(terminal.finish(), 0);
}

fn the_init_reaps_what_others_left(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'i=0; while [ $i -lt 20 ]; do sh -c \"sleep 0.01 &\"; i=$((i + 1)); done; echo done; sleep 1000'");
    wait_until("all are left", || nl.ok("logs a").contains("done"));
    wait_until("all are reaped", || !nl.ok("exec a ps -e -o stat=,args=").lines().any(|line| line.starts_with('Z')));
}

fn options_end_at_the_first_word_that_is_none(nl: &Netloom) {
    assert_eq!(nl.ok("run --rm echo --rm -d --name x"), "--rm -d --name x");
    assert_eq!(nl.ok("run --rm -- echo -n"), "");
    nl.ok("run -d --name a sleep 1000");
    assert_eq!(nl.ok("exec a echo -i -t"), "-i -t");
}

fn output_that_cannot_be_written_is_told(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    for line in ["run --rm echo hi", "exec a echo hi"] {
        let ended = nl.run_to("/dev/full", line);
        assert!(ended.code == 125 && ended.stderr.contains("standard output: no space left"), "{ended:?}");
    }
    wait_until("nothing else is left", || nl.ok("ps -a -q").lines().count() == 1);
}

fn errors_that_nobody_can_be_told_leave_the_exit_code(nl: &Netloom) {
    // On a full disk, and to nobody.
    for (line, code) in [("", 2), ("rnu", 2), ("rm nobody", 1), ("run --rm nosuch", 127), ("run --bogus true", 125), ("-v ps", 0)] {
        let told = nl.words(line).join(" ");
        for script in [
            format!("{told} 2>/dev/full"),
            format!("{told} 2>&-"),
            format!("{{ sleep 0.1; {told}; }} 2>&1 | true; exit ${{PIPESTATUS[0]}}"),
        ] {
            let file = nl.host.write("errors.sh", &script);
            let ended = nl.host.start_as(nl.who(), Place::Host, &format!("bash {}", file.display())).finish();
            assert_eq!(ended.code, code, "`{script}`: {ended:?}");
        }
    }
}
