//! The tests; each has an instance of its own.

use crate::lab::{Lab, spec};

pub const TESTS: &[(&str, fn())] = &[
    ("a_command_gives_its_output_and_its_code", a_command_gives_its_output_and_its_code),
    ("a_container_of_no_network_has_only_lo_and_its_own_processes", a_container_of_no_network_has_only_lo_and_its_own_processes),
];

fn a_command_gives_its_output_and_its_code() {
    let mut lab = Lab::new();
    let outcome = lab.run(spec("echo out; echo err >&2; exit 7"));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code), ("out\n", "err\n", Some(7)), "{outcome:?}");
}

fn a_container_of_no_network_has_only_lo_and_its_own_processes() {
    let mut lab = Lab::new();
    let outcome = lab.run(spec("ls /sys/class/net; cat /sys/class/net/lo/flags; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'"));
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert!(lines.len() == 4, "{outcome:?}");
    assert_eq!(lines[..3], ["lo", "0x9", "netloom-init"], "{outcome:?}");
    assert!(lines[3].parse::<u32>().unwrap() <= 6, "{outcome:?}");
}
