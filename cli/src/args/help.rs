//! The top of `--help`, by what people want to do; and what clap has to say about wrong words, in our words.

use std::ffi::OsString;

use clap::{
    CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, Command, HelpArgs};
use crate::{error::CliError, words::nearest::nearest};

/// Every command, by the heading that it stands under.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("Containers", &["run", "exec", "ps", "logs", "attach", "inspect", "stop", "rm"]),
    ("A container's life", &["create", "start", "restart", "kill", "pause", "unpause", "wait", "rename"]),
    ("Files, ports, usage", &["cp", "port", "publish", "stats"]),
    ("Networks", &["network"]),
    ("Looking inside", &["ports", "fdb", "leases", "flows", "drops", "events"]),
    ("This machine", &["doctor", "system", "version", "help", "completions", "man"]),
];

/// What parsing the words came to, where it did not come to a command.
#[derive(Debug)]
pub enum Instead {
    /// Help or the version, asked for.
    Print(String),
    /// Nothing was asked for: help, on stderr.
    Help(String),
    Wrong(CliError),
}

/// The whole command line, as help, man pages and completions need it too.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let listing = grouped(&command);
    command.help_template(format!("{{about}}\n\n{{usage-heading}} {{usage}}\n\n{listing}Options:\n{{options}}\n\n{EXAMPLES}\n"))
}

/// Takes the words of the command line apart.
pub fn parse(words: Vec<OsString>) -> Result<Cli, Instead> {
    let mut command = command();
    match command.try_get_matches_from_mut(words.clone()).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(Cli { command: Command::Help(HelpArgs { words }), .. }) => Err(help_of(&words)),
        Ok(cli) => Ok(cli),
        Err(error) => Err(instead(&command, &words, &error)),
    }
}

/// `netloom help COMMAND` is `netloom COMMAND --help`.
fn help_of(words: &[String]) -> Instead {
    let mut line: Vec<OsString> = std::iter::once("netloom").chain(words.iter().map(String::as_str)).map(OsString::from).collect();
    let known = named(&command(), &line).len();
    if let Some(unknown) = words.get(known) {
        let above = words.iter().take(known).fold("netloom".to_owned(), |path, word| format!("{path} {word}"));
        return Instead::Wrong(CliError::usage(format!("unknown command `{unknown}`")).with_hint(format!("see `{above} --help`")));
    }
    line.push("--help".into());
    parse(line).err().unwrap_or_else(|| Instead::Wrong(CliError::usage("there is no help for it")))
}

fn instead(command: &clap::Command, words: &[OsString], error: &clap::Error) -> Instead {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Instead::Print(error.render().to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return Instead::Help(error.render().to_string()),
        _ => {}
    }
    let path = named(command, words);
    // `-h` is `--hostname`, as with docker; whoever says it last and names no host looks for help.
    if error.kind() == ErrorKind::InvalidValue && words.last().is_some_and(|word| word == "-h") {
        return help_of(&path);
    }
    let wrong = misspelt_below(command, words, error, &path).unwrap_or_else(|| CliError {
        message: message(error),
        hint: Some(hint(command, error, &path)),
        exit_code: 2,
    });
    match path.first().map(String::as_str) {
        Some("run" | "exec" | "create") => Instead::Wrong(wrong.of_run()),
        _ => Instead::Wrong(wrong),
    }
}

/// A command that takes a word or a command below it: clap takes a misspelt one for the word, and finds fault with what follows.
fn misspelt_below(command: &clap::Command, words: &[OsString], error: &clap::Error, path: &[String]) -> Option<CliError> {
    let extra = context(error, ContextKind::InvalidSubcommand);
    if error.kind() != ErrorKind::ArgumentConflict || extra.is_empty() {
        return None;
    }
    let see = see(path);
    let above = below(command, path)?;
    let last = path.last()?;
    let taken = words.iter().skip_while(|word| *word != last.as_str()).skip(1).filter_map(|word| word.to_str());
    let taken = taken.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default();
    if let Some(meant) = nearest(taken, above.get_subcommands().map(clap::Command::get_name)) {
        return Some(CliError::usage(format!("unknown command `{taken}`")).with_hint(format!("did you mean `{meant}`? See `{see}`")));
    }
    let known = above.find_subcommand(&extra).is_some();
    let message = if known { format!("`{extra}` must stand right behind `{last}`") } else { format!("`{extra}` is one word too many") };
    Some(CliError::usage(message).with_hint(format!("see `{see}`")))
}

/// The command that the words name, and those below it.
fn named(command: &clap::Command, words: &[OsString]) -> Vec<String> {
    let mut at = command;
    let mut path = Vec::new();
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match at.find_subcommand(word) {
            Some(below) => {
                path.push(word.to_owned());
                at = below;
            }
            None if path.is_empty() && takes_a_value(command, word) => {
                words.next();
            }
            None if word.starts_with('-') => {}
            None => break,
        }
    }
    path
}

/// Whether an option that stands before the command is two words.
fn takes_a_value(command: &clap::Command, option: &str) -> bool {
    let is_it = |argument: &&clap::Arg| argument.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long));
    command.get_arguments().find(is_it).is_some_and(|argument| argument.get_action().takes_values())
}

fn message(error: &clap::Error) -> String {
    let text = |kind| context(error, kind);
    let argument = bare(&text(ContextKind::InvalidArg));
    let value = text(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => format!("unknown option `{argument}`"),
        ErrorKind::UnknownArgument => format!("`{argument}` is one word too many"),
        ErrorKind::InvalidSubcommand => format!("unknown command `{}`", text(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingRequiredArgument => format!("`{argument}` is missing"),
        ErrorKind::MissingSubcommand => "a command is missing".to_owned(),
        ErrorKind::TooFewValues => format!("some of `{argument}` is missing"),
        ErrorKind::ArgumentConflict => format!("`{argument}` and `{}` exclude each other", bare(&text(ContextKind::PriorArg))),
        ErrorKind::ValueValidation => match std::error::Error::source(error) {
            Some(source) => format!("`{argument}`: {}", plain(&source.to_string(), &value)),
            None => format!("`{argument}`: `{value}` is wrong"),
        },
        ErrorKind::InvalidValue if value.is_empty() => format!("`{argument}` lacks its value"),
        ErrorKind::InvalidValue => format!("`{argument}`: `{value}` is not one of {}", text(ContextKind::ValidValue)),
        _ => {
            let rendered = error.render().to_string();
            rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// The standard library's errors about numbers do not name the word; ours do.
fn plain(source: &str, value: &str) -> String {
    if source.contains('`') { source.to_owned() } else { format!("`{value}`: {source}") }
}

/// `--publish <SPEC>` and `<COMMAND>...` as people type them: the option alone, the word alone.
fn bare(argument: &str) -> String {
    let argument = argument.trim_end_matches("...");
    match argument.split_once(' ') {
        Some((option, _)) if option.starts_with('-') => option.trim_end_matches("...").to_owned(),
        _ => argument.replace(['<', '>', '[', ']'], "").replace("...", ""),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}

fn hint(command: &clap::Command, error: &clap::Error, path: &[String]) -> String {
    let see = see(if is_of_all(command, error) { &[] } else { path });
    match meant(command, error, path) {
        Some(word) => format!("did you mean `{word}`? See `{see}`"),
        None => format!("see `{see}`"),
    }
}

/// What prints the help of a command.
fn see(path: &[String]) -> String {
    std::iter::once("netloom").chain(path.iter().map(String::as_str)).chain(["--help"]).collect::<Vec<_>>().join(" ")
}

fn below<'a>(command: &'a clap::Command, path: &[String]) -> Option<&'a clap::Command> {
    path.iter().try_fold(command, |at, word| at.find_subcommand(word))
}

/// Whether it is about an option of netloom itself, of which a command's help says nothing.
fn is_of_all(command: &clap::Command, error: &clap::Error) -> bool {
    let option = bare(&context(error, ContextKind::InvalidArg));
    command.get_arguments().filter_map(clap::Arg::get_long).any(|long| option.strip_prefix("--") == Some(long))
}

/// The one word that a wrong one was probably meant to be.
fn meant(command: &clap::Command, error: &clap::Error, path: &[String]) -> Option<String> {
    let first = |kinds: [ContextKind; 2]| kinds.into_iter().map(|kind| context(error, kind)).find(|text| !text.is_empty());
    let unknown = context(error, ContextKind::InvalidSubcommand);
    if !unknown.is_empty() {
        let above = below(command, path)?;
        return nearest(&unknown, above.get_subcommands().map(clap::Command::get_name)).map(str::to_owned);
    }
    let given = first([ContextKind::InvalidArg, ContextKind::InvalidValue])?;
    // clap takes words for alike that only share some letters.
    let suggested = first([ContextKind::SuggestedArg, ContextKind::SuggestedValue])?;
    nearest(&given, suggested.split(", ").map(|word| word.split(' ').next().unwrap_or(word))).map(str::to_owned)
}

/// The commands with their first lines, by group.
fn grouped(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(heading);
        text.push_str(":\n");
        for name in *names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string);
            text.push_str(&format!("  {name:<12} {}\n", about.unwrap_or_default()));
        }
        text.push('\n');
    }
    text
}

const EXAMPLES: &str = "\
EXAMPLES:
  $ netloom run --rm -it sh                                    a shell with an address of its own
  $ netloom run -d --name web -p 8080:80 busybox httpd -f      a web server, reached on port 8080
  $ netloom ps
  $ netloom ports                                              what the switch has seen
  $ netloom COMMAND --help                                     more on each command";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("netloom").chain(line.split(' ').filter(|word| !word.is_empty())).map(OsString::from).collect()
    }

    fn wrong(line: &str) -> (String, String, u8) {
        match parse(words(line)) {
            Err(Instead::Wrong(error)) => (error.message, error.hint.unwrap_or_default(), error.exit_code),
            other => panic!("`{line}` gave {other:?}"),
        }
    }

    /// Every command with its path, leaves and inner ones.
    fn all(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            found.push((path.clone(), below.clone()));
            all(below, &path, found);
        }
    }

    #[test]
    fn a_lonely_h_is_somebody_who_looks_for_help() {
        for line in ["run -h", "run --rm -h", "create -h"] {
            assert!(matches!(parse(words(line)), Err(Instead::Print(text)) if text.contains("--hostname")), "{line}");
        }
        assert!(parse(words("run -h box sh")).is_ok());
        assert_eq!(wrong("run --hostname").0, "`--hostname` lacks its value");
    }

    #[test]
    fn clap_finds_no_fault_with_the_definitions() {
        command().debug_assert();
    }

    #[test]
    fn every_command_stands_under_exactly_one_heading() {
        let command = command();
        for below in command.get_subcommands() {
            let count = GROUPS.iter().flat_map(|(_, names)| *names).filter(|name| **name == below.get_name()).count();
            assert_eq!(count, 1, "`{}`", below.get_name());
        }
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(command.find_subcommand(name).is_some(), "`{name}` is no command");
        }
    }

    #[test]
    fn every_command_has_an_example_of_itself_and_fits_100_columns() {
        let (mut found, mut command) = (Vec::new(), command());
        command.build();
        all(&command, "netloom", &mut found);
        for (path, below) in found {
            let help = below.term_width(100).render_long_help().to_string();
            assert!(help.contains(&format!("$ {path}")), "no example of `{path}` in:\n{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "`{path} --help` is too wide: {line}");
            }
        }
    }

    #[test]
    fn the_first_help_fits_100_columns_and_names_every_command() {
        let help = command().term_width(100).render_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "too wide: {line}");
        }
        for (_, names) in GROUPS {
            for name in *names {
                assert!(help.lines().any(|line| line.starts_with(&format!("  {name} "))), "`{name}` is missing");
            }
        }
    }

    #[test]
    fn wrong_words_are_named_and_run_ends_with_125() {
        let table = [
            ("ps --bogus", "unknown option `--bogus`", "see `netloom ps --help`", 2),
            ("ps web", "`web` is one word too many", "see `netloom ps --help`", 2),
            ("pss", "unknown command `pss`", "did you mean `ps`? See `netloom --help`", 2),
            ("rnu true", "unknown command `rnu`", "did you mean `run`? See `netloom --help`", 2),
            ("inpsect web", "unknown command `inpsect`", "did you mean `inspect`? See `netloom --help`", 2),
            ("network crate x", "unknown command `crate`", "did you mean `create`? See `netloom network --help`", 2),
            ("--workers 2 run --bogus true", "unknown option `--bogus`", "see `netloom run --help`", 125),
            ("--color never run --bogus true", "unknown option `--bogus`", "see `netloom run --help`", 125),
            ("pull image", "unknown command `pull`", "see `netloom --help`", 2),
            ("run --cpus 2 true", "unknown option `--cpus`", "see `netloom run --help`", 125),
            ("run --volum /a:/b true", "unknown option `--volum`", "did you mean `--volume`? See `netloom run --help`", 125),
            ("stop", "`CONTAINER` is missing", "see `netloom stop --help`", 2),
            ("stop -t soon web", "`--time`: `soon` is not a number of seconds", "see `netloom stop --help`", 2),
            ("--color blue ps", "`--color`: `blue` is not one of auto, always, never", "see `netloom --help`", 2),
            ("--workers 0 ps", "`--workers`: `0` is not a number of workers from 1 to 64", "see `netloom --help`", 2),
            ("ps --color never", "unknown option `--color`", "see `netloom --help`", 2),
            ("fdb dell bridge", "unknown command `dell`", "did you mean `del`? See `netloom fdb --help`", 2),
            ("fdb bridge more", "`more` is one word too many", "see `netloom fdb --help`", 2),
            ("fdb bridge add more", "`add` must stand right behind `fdb`", "see `netloom fdb --help`", 2),
            ("ps --json --format json", "`--json` and `--format` exclude each other", "see `netloom ps --help`", 2),
            ("network attach blue", "`--pid PID|--netns PATH` is missing", "see `netloom network attach --help`", 2),
            (
                "network attach blue --pid 1 --netns /x",
                "`--pid` and `--netns` exclude each other",
                "see `netloom network attach --help`",
                2,
            ),
            ("network attach blue --pid 0", "`--pid`: `0` is not a process ID", "see `netloom network attach --help`", 2),
            (
                "network attach blue --pid 1 --ip 10.0.0.1 --no-ip",
                "`--ip` and `--no-ip` exclude each other",
                "see `netloom network attach --help`",
                2,
            ),
            ("network create", "`NAME` is missing", "see `netloom network create --help`", 2),
            (
                "network create --subnet 10.1.0.7/24 x",
                "`--subnet`: `10.1.0.7/24` has host bits set; the network is `10.1.0.0/24`",
                "see `netloom network create --help`",
                2,
            ),
            ("run", "`COMMAND` is missing", "see `netloom run --help`", 125),
            ("run --name", "`--name` lacks its value", "see `netloom run --help`", 125),
            ("run --bogus sh", "unknown option `--bogus`", "see `netloom run --help`", 125),
            ("run -p x sh", "`--publish`: `x` is not a container port from 1 to 65535", "see `netloom run --help`", 125),
            ("exec web", "some of `CONTAINER COMMAND` is missing", "see `netloom exec --help`", 125),
            (
                "create -v data:/data sh",
                "`--volume`: `data` is not a path with a `/`: volumes are directories or files of the host, not names",
                "see `netloom create --help`",
                125,
            ),
        ];
        for (line, message, hint, code) in table {
            assert_eq!(wrong(line), (message.to_owned(), hint.to_owned(), code), "for `{line}`");
        }
    }

    #[test]
    fn options_end_at_the_command_of_the_container() {
        let Ok(Cli { command: Command::Run(run), .. }) = parse(words("run --rm -h box ls -h --help -it")) else {
            panic!("`run` was not taken");
        };
        assert_eq!(run.container.command, ["ls", "-h", "--help", "-it"]);
        assert_eq!(run.container.process.hostname.as_deref(), Some("box"));
        let Ok(Cli { command: Command::Exec(exec), .. }) = parse(words("exec -it web ls -it")) else {
            panic!("`exec` was not taken");
        };
        assert_eq!(exec.words, ["web", "ls", "-it"]);
        let Ok(Cli { command: Command::Run(run), .. }) = parse(words("run -- -x")) else {
            panic!("`--` was not taken");
        };
        assert_eq!(run.container.command, ["-x"]);
    }

    #[test]
    fn help_of_a_command_is_what_the_command_says_of_itself() {
        let print = |line: &str| match parse(words(line)) {
            Err(Instead::Print(text)) => text,
            other => panic!("`{line}` gave {other:?}"),
        };
        for command in ["", "run", "network", "network attach", "help"] {
            assert_eq!(print(&format!("help {command}")), print(&format!("{command} --help")), "`{command}`");
        }
        assert_eq!(wrong("help bogus"), ("unknown command `bogus`".into(), "see `netloom --help`".into(), 2));
        assert_eq!(wrong("help run ls"), ("unknown command `ls`".into(), "see `netloom run --help`".into(), 2));
    }

    #[test]
    fn help_is_printed_and_an_empty_line_is_an_error_with_help() {
        assert!(matches!(parse(words("run --help")), Err(Instead::Print(text)) if text.contains("EXAMPLES:")));
        assert!(matches!(parse(words("")), Err(Instead::Help(text)) if text.contains("Containers:")));
    }
}
