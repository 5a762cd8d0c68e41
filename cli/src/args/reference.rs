//! `docs/cli-reference.md`: the help of every command, kept in step with the program by a test.

use std::{fmt::Write, path::Path};

use super::help::command;

/// The whole tree of help as one page.
fn page() -> String {
    let mut command = command().term_width(100);
    command.build();
    let mut text = String::from(
        "# The command line\n\nThe help of every command, as `netloom COMMAND --help` prints it. A test keeps this page in step: \
         `BLESS=1 cargo test -p netloom reference` writes it anew.\n",
    );
    section(&mut text, "netloom", &mut command);
    text
}

fn section(text: &mut String, path: &str, command: &mut clap::Command) {
    // Where `-h` is another option, `--help` is the short form.
    let short = command.is_disable_help_flag_set();
    let help = if short { command.render_help() } else { command.render_long_help() }.to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    write!(text, "\n## {path}\n\n```text\n{}\n```\n", help.trim_end()).expect("a string takes all");
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in names {
        if let Some(below) = command.find_subcommand_mut(&name) {
            *below = below.clone().term_width(100);
            section(text, &format!("{path} {name}"), below);
        }
    }
}

#[test]
fn the_reference_page_is_what_help_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli-reference.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, &page).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let different = page.lines().zip(kept.lines()).find(|(now, then)| now != then);
    assert!(page == kept, "docs/cli-reference.md is out of step (write it anew with BLESS=1); the first difference: {different:?}");
}
