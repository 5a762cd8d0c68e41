//! Figures that a test measured, for `tests/run` to print at its end.

use std::io::Write;

/// Notes one line; without `NETLOOM_TEST_REPORT` it goes to standard error.
pub fn report(line: &str) {
    append("NETLOOM_TEST_REPORT", line);
}

/// Appends a line to the file that the environment variable names.
pub(crate) fn append(variable: &str, line: &str) {
    let Some(path) = std::env::var_os(variable) else {
        eprintln!("{line}");
        return;
    };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let mut file = file.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    writeln!(file, "{line}").expect("a line is written");
}
