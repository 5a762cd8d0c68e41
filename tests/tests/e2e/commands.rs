//! The commands about netloom itself.

use netloom_tests::{Netloom, at};

for_both!(
    version_says_which,
    help_is_on_standard_output,
    doctor_finds_nothing_wrong_here,
    completions_are_made_for_every_shell,
    man_pages_are_made,
    colour_is_only_where_it_is_wanted,
    a_command_that_only_asks_starts_no_container,
);

fn version_says_which(nl: &Netloom) {
    let expected = env!("CARGO_PKG_VERSION");
    assert!(nl.ok("version").contains(expected));
    assert!(nl.ok("--version").contains(expected));
    let json = nl.json("version --format json");
    assert_eq!(at(&json, "version"), expected);
}

fn help_is_on_standard_output(nl: &Netloom) {
    for line in ["--help", "run --help", "network --help", "network create --help", "exec --help", "fdb --help"] {
        let help = nl.ok(line);
        assert!(help.contains("Usage"), "{line}: {help}");
    }
    let usage = nl.run("run --help").text();
    for option in ["--net", "--publish", "--rm", "--rootfs", "--cap-add", "--restart"] {
        assert!(usage.contains(option), "{option} is not in the help of run");
    }
    assert_eq!(nl.run("no-such-command").code, 2);
}

fn doctor_finds_nothing_wrong_here(nl: &Netloom) {
    let report = nl.ok("doctor");
    for word in ["/dev/net/tun", "kernel", "namespace", "/proc"] {
        assert!(report.to_lowercase().contains(word), "{word} is not in:\n{report}");
    }
    if !nl.who().is_root() {
        assert!(report.contains("subuid"), "{report}");
        nl.host.ok("sysctl -q -w net.ipv4.ping_group_range='1 0'");
        let report = nl.ok("doctor");
        assert!(report.lines().any(|line| line.starts_with("limited") && line.contains(" ping ")), "{report}");
        nl.host.ok("sysctl -q -w net.ipv4.ping_group_range='0 2147483647'");
    }
    let report = nl.ok("doctor");
    assert!(report.lines().any(|line| line.starts_with("ok") && line.contains(" ping ")), "{report}");
}

fn completions_are_made_for_every_shell(nl: &Netloom) {
    for shell in ["bash", "zsh", "fish"] {
        assert!(nl.ok(&format!("completions {shell}")).contains("netloom"), "{shell}");
    }
    let script = nl.host.write("completions", nl.ok("completions bash"));
    nl.host.ok(&format!("bash -n {}", script.display()));
    assert_eq!(nl.run("completions cobol").code, 2);
}

fn man_pages_are_made(nl: &Netloom) {
    let dir = nl.host.make_dir("man");
    nl.ok(&format!("man {}", dir.display()));
    let page = std::fs::read_to_string(dir.join("netloom-run.1")).expect("a page for run");
    assert!(page.contains(".TH") && page.contains("publish"));
    assert!(dir.join("netloom.1").exists() && dir.join("netloom-network-create.1").exists());
}

fn colour_is_only_where_it_is_wanted(nl: &Netloom) {
    assert!(!nl.run("inspect nobody").stderr.contains('\x1b'));
    assert!(!nl.run("--color never inspect nobody").stderr.contains('\x1b'));
    assert!(nl.run("--color always inspect nobody").stderr.contains('\x1b'));
}

fn a_command_that_only_asks_starts_no_container(nl: &Netloom) {
    for line in ["version", "doctor", "completions bash", "--help"] {
        nl.ok(line);
    }
    nl.expect_nothing_left();
}
