//! Output: what a foreground `run` passes on, and what `logs` keeps.

use netloom_tests::{Netloom, wait_until};

for_both!(
    output_and_errors_are_kept_apart,
    input_is_piped_with_interactive_and_not_without,
    ten_megabytes_pass_through_a_pipe_unchanged,
    logs_keep_what_was_said,
    logs_follow_until_the_end,
    a_reader_that_leaves_is_no_error,
    exec_pipes_like_run,
);

fn output_and_errors_are_kept_apart(nl: &Netloom) {
    let said = nl.run("run --rm sh -c 'echo out; echo err >&2'").exits(0);
    assert_eq!((said.text().as_str(), said.stderr.trim()), ("out", "err"));
}

fn input_is_piped_with_interactive_and_not_without(nl: &Netloom) {
    assert_eq!(nl.run_with_input("run --rm -i cat", "hello\n").exits(0).text(), "hello");
    assert_eq!(nl.run_with_input("run --rm cat", "hello\n").exits(0).text(), "");
}

fn ten_megabytes_pass_through_a_pipe_unchanged(nl: &Netloom) {
    let input: Vec<u8> = (0..10_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let back = nl.run_with_input("run --rm -i cat", input.clone()).exits(0);
    assert!(back.stdout == input, "{} bytes came back, or others", back.stdout.len());
}

fn logs_keep_what_was_said(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'for i in 1 2 3; do echo out $i; echo err $i >&2; done; echo end; sleep 1000'");
    wait_until("all is said", || nl.ok("logs a").contains("end"));
    let logs = nl.run("logs a").exits(0);
    assert_eq!(logs.text().lines().filter(|line| *line != "end").collect::<Vec<_>>(), ["out 1", "out 2", "out 3"]);
    assert_eq!(logs.stderr.lines().collect::<Vec<_>>(), ["err 1", "err 2", "err 3"]);
    let tail = nl.run("logs --tail 2 a").exits(0);
    assert_eq!(tail.text().lines().count() + tail.stderr.lines().count(), 2, "{tail:?}");
    // They outlive the container's end.
    nl.ok("stop -t 0 a");
    assert!(nl.ok("logs a").contains("out 3"));
    // A foreground container has them as well.
    nl.ok("run --name b echo kept");
    assert_eq!(nl.ok("logs b"), "kept");
}

fn logs_follow_until_the_end(nl: &Netloom) {
    nl.ok("run -d -i --name a sh -c 'while read line; do echo said $line; done'");
    let follow = nl.start("logs -f a");
    let mut attached = nl.start("attach a");
    attached.type_in("one\n");
    follow.expect("said one");
    attached.type_in("two\n");
    follow.expect("said two");
    nl.ok("stop -t 0 a");
    follow.finish().exits(0);
}

fn a_reader_that_leaves_is_no_error(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'seq 100000; sleep 1000'");
    wait_until("all is said", || nl.ok("logs --tail 1 a") == "100000");
    let line: Vec<String> = nl.words("logs a").iter().map(|word| format!("'{word}'")).collect();
    let script = nl.host.write("as-typed", format!("{{ {}; echo code=$? >&2; }} | head -n 1", line.join(" ")));
    let shell = nl.host.start_as(nl.who(), netloom_tests::Place::Host, &format!("sh {}", script.display())).finish();
    assert_eq!((shell.text().as_str(), shell.stderr.trim()), ("1", "code=0"));
}

fn exec_pipes_like_run(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    assert_eq!(nl.run_with_input("exec -i a sh -c 'cat; echo err >&2'", "hello\n").exits(0).text(), "hello");
    assert_eq!(nl.run_with_input("exec a cat", "hello\n").exits(0).text(), "");
    assert_eq!(nl.run("logs a").exits(0).text(), "", "what exec says is not the container's");
}
