//! A terminal in a container: size, keys, leaving and coming back, full-screen programs.

use netloom_tests::{Netloom, wait_until};

for_both!(
    a_terminal_has_a_size_and_follows_it,
    ctrl_c_interrupts_in_the_container,
    ctrl_z_stops_a_job,
    detached_it_goes_on_and_can_be_attached_again,
    vim_edits_a_file,
    the_terminal_is_as_it_was_afterwards,
    exec_has_a_terminal_too,
    the_exit_code_comes_through_a_terminal,
    a_terminal_makes_no_noise_of_its_own,
);

fn a_terminal_has_a_size_and_follows_it(nl: &Netloom) {
    let mut shell = nl.terminal("run --rm -it sh");
    shell.ask("stty size", "24 80");
    shell.resize(40, 100);
    shell.ask("sleep 0.2; stty size", "40 100");
    shell.ask("tty; echo term=$TERM", "term=xterm");
    shell.send("exit\r");
    assert_eq!(shell.finish(), 0);
}

fn ctrl_c_interrupts_in_the_container(nl: &Netloom) {
    let mut shell = nl.terminal("run --rm -it --name a sh");
    shell.ask("echo rea''dy", "ready");
    shell.send("sleep 1000\r");
    wait_until("it sleeps", || nl.ok("exec a ps -e -o args=").contains("sleep 1000"));
    shell.send("\x03");
    shell.ask("echo code=$?", "code=130");
    shell.send("exit\r");
    shell.finish();
}

fn ctrl_z_stops_a_job(nl: &Netloom) {
    let mut shell = nl.terminal("run --rm -it --name a sh");
    shell.ask("echo rea''dy", "ready");
    shell.send("sleep 1000\r");
    wait_until("it sleeps", || nl.ok("exec a ps -e -o args=").contains("sleep 1000"));
    shell.send("\x1a");
    shell.expect("Stopped");
    shell.send("fg\r");
    shell.expect("sleep 1000");
    wait_until("it sleeps on", || {
        nl.ok("exec a ps -e -o stat=,args=").lines().any(|line| line.starts_with('S') && line.contains("sleep 1000"))
    });
    shell.send("\x03");
    shell.ask("echo code=$?", "code=130");
    shell.send("exit\r");
    shell.finish();
}

fn detached_it_goes_on_and_can_be_attached_again(nl: &Netloom) {
    let mut shell = nl.terminal("run -it --name a sh");
    shell.ask("kept=here; echo rea''dy", "ready");
    shell.send("\x10\x11");
    assert_eq!(shell.finish(), 0);
    assert_eq!(nl.state("a"), "running");
    let mut shell = nl.terminal("attach a");
    shell.resize(30, 90);
    shell.ask("echo it is $kept", "it is here");
    shell.ask("sleep 0.2; stty size", "30 90");
    // Ctrl-P alone is the shell's, once what follows it is not Ctrl-Q.
    shell.ask("echo a\x10b | od -c", "020");
    shell.send("exit 6\r");
    assert_eq!(shell.finish(), 6);
}

fn vim_edits_a_file(nl: &Netloom) {
    let mut vim = nl.terminal("run -it --name a sh -c 'vim -u NONE /root/f; cat /root/f; exec cat'");
    vim.expect("~");
    vim.send("ihello from vim\x1b");
    vim.expect("hello from vim");
    vim.resize(30, 100);
    // The signal is on its way: vim shows it by drawing lines that the old window had not.
    vim.expect("\x1b[29;1H");
    vim.send(":set lines? columns?\r");
    vim.expect("lines=30");
    vim.expect("columns=100");
    vim.send("\r:wq\r");
    vim.expect("written");
    vim.expect("hello from vim");
    // A shell that starts a program may lose a SIGINT: once it is typed and said, the program runs.
    vim.send("again\r");
    vim.expect("again");
    vim.expect("again");
    vim.send("\x03");
    vim.finish();
}

fn the_terminal_is_as_it_was_afterwards(nl: &Netloom) {
    let words: Vec<String> = nl.words("run --rm -it sh").iter().map(|word| format!("'{word}'")).collect();
    let script = nl.host.write("as-typed", format!("stty -g; {}; stty -g; echo all done; read line", words.join(" ")));
    let line = format!("sh {}", script.display());
    let mut outer = nl.host.terminal(&netloom_tests::words(&line), &line);
    let before = outer.settings();
    outer.ask("echo insi''de", "inside");
    assert_ne!(outer.settings(), before, "a terminal in a container is raw");
    outer.send("exit\r");
    outer.expect("all done");
    assert_eq!(outer.settings(), before);
    outer.send("\r");
    outer.finish();
}

fn exec_has_a_terminal_too(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let mut shell = nl.terminal("exec -it a sh");
    shell.ask("stty size", "24 80");
    shell.resize(50, 132);
    shell.ask("sleep 0.2; stty size", "50 132");
    shell.ask("tty", "/dev/pts/");
    shell.send("exit 8\r");
    assert_eq!(shell.finish(), 8);
}

fn the_exit_code_comes_through_a_terminal(nl: &Netloom) {
    let mut shell = nl.terminal("run --rm -it sh");
    shell.ask("echo rea''dy", "ready");
    shell.send("exit 42\r");
    assert_eq!(shell.finish(), 42);
}

fn a_terminal_makes_no_noise_of_its_own(nl: &Netloom) {
    let mut shell = nl.terminal("run --rm -it sh -c 'echo first; printf last'");
    assert_eq!(shell.expect("first").trim(), "");
    assert_eq!(shell.expect("last"), "\r\n");
    assert_eq!(shell.finish(), 0);
}
