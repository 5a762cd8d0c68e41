//! Everything that goes to stdout as data: tables, JSON, templates; nothing else prints there. And what is said aside, on stderr.

pub mod human;
pub mod rows;
pub mod table;
pub mod template;

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::SystemTime,
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    args::{
        ColorWhen,
        format::{FormatArgs, ListArgs},
    },
    error::CliError,
};
use template::Template;

/// Something that a listing has a row of.
pub trait Row: Serialize + Sized {
    /// The table's headers; `-q` prints the first column.
    const HEADERS: &'static [&'static str];

    /// The row's cells, one for each header.
    fn cells(&self, view: &View) -> Vec<String>;

    /// A row with every key there is: `*` stands for any key of a map. Its values mean nothing.
    fn sample() -> Self;
}

/// How the cells of a table are to be written.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub no_trunc: bool,
    pub now: SystemTime,
}

impl View {
    /// A long ID as people read it.
    pub fn id(&self, id: &str) -> String {
        if self.no_trunc { id.to_owned() } else { id.get(..12).unwrap_or(id).to_owned() }
    }

    /// A text of at most `width` characters.
    pub fn short(&self, text: &str, width: usize) -> String {
        if self.no_trunc || text.chars().count() <= width {
            return text.to_owned();
        }
        text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
    }
}

/// What `--format` asks for, checked against the keys that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Template(Template),
    /// `table` and a template: its columns under headers.
    Columns(Template),
}

impl Format {
    /// Refuses unknown keys by name, before anything is asked of the daemon.
    pub fn of<R: Row>(args: &FormatArgs) -> Result<Self, CliError> {
        match args.word() {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            word if word.contains("{{") => {
                let sample = serde_json::to_value(R::sample()).map_err(|error| unprintable(&error))?;
                match word.strip_prefix("table ") {
                    Some(columns) => Template::parse(columns.trim_start(), &sample).map(Self::Columns),
                    None => Template::parse(word, &sample).map(Self::Template),
                }
            }
            word => Err(CliError::usage(format!("`--format`: `{word}` is not table, json or a template"))
                .with_hint("a template names keys, such as '{{.name}}\\t{{json .}}'")),
        }
    }

    /// The same for what has no end: it cannot be aligned.
    pub fn of_stream<R: Row>(args: &FormatArgs) -> Result<Self, CliError> {
        match Self::of::<R>(args)? {
            Self::Columns(_) => Err(CliError::usage("`--format`: what has no end cannot be a table of a template")
                .with_hint("leave out the word `table`: each row is printed as it comes")),
            format => Ok(format),
        }
    }
}

/// Says something aside, on stderr. Who has closed it does not want to know, and the exit code says enough.
pub fn aside(text: impl Display) {
    let _ = write!(io::stderr(), "{text}");
}

/// Prints a listing.
pub fn list<R: Row>(rows: &[R], format: &Format, args: &ListArgs) -> Result<(), CliError> {
    let view = View { no_trunc: args.no_trunc, now: SystemTime::now() };
    if args.quiet {
        return lines(rows.iter().map(|row| row.cells(&view).into_iter().next().unwrap_or_default()));
    }
    match format {
        Format::Table => print(&table::render(R::HEADERS, rows.iter().map(|row| row.cells(&view)))),
        _ => all(rows, format),
    }
}

/// Prints rows that have no table of their own: as JSON, or by a template.
pub fn all<R: Row>(rows: &[R], format: &Format) -> Result<(), CliError> {
    match format {
        Format::Table | Format::Json => json(rows),
        Format::Template(template) => rows.iter().try_for_each(|row| line(&template.render(&value(row)?))),
        Format::Columns(template) => {
            let cells = rows.iter().map(|row| Ok(template.cells(&value(row)?))).collect::<Result<Vec<_>, CliError>>()?;
            let headers = template.headers();
            print(&table::render(&headers.iter().map(String::as_str).collect::<Vec<_>>(), cells))
        }
    }
}

/// Prints one thing that has no table: as JSON, or by a template.
pub fn one<R: Row>(row: &R, format: &Format) -> Result<(), CliError> {
    match format {
        Format::Template(_) | Format::Columns(_) => all(std::slice::from_ref(row), format),
        Format::Table | Format::Json => json(row),
    }
}

/// Prints one item of a stream: JSON takes one line. The table's text is the caller's.
pub fn stream_item<R: Row>(row: &R, format: &Format, text: impl FnOnce(&R) -> String) -> Result<(), CliError> {
    match format {
        Format::Table => line(&text(row)),
        Format::Json => line(&serde_json::to_string(row).map_err(|error| unprintable(&error))?),
        Format::Template(template) | Format::Columns(template) => line(&template.render(&value(row)?)),
    }
}

/// Prints JSON for people and programs.
pub fn json(value: &(impl Serialize + ?Sized)) -> Result<(), CliError> {
    line(&serde_json::to_string_pretty(value).map_err(|error| unprintable(&error))?)
}

pub fn line(text: &str) -> Result<(), CliError> {
    lines([text])
}

pub fn lines<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<(), CliError> {
    let mut all = String::new();
    for text in texts {
        all.push_str(text.as_ref());
        all.push('\n');
    }
    print(&all)
}

pub fn print(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are. A reader that went away is the end, and no failure.
pub fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| stdout_error(&error))
}

pub fn stdout_error(error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::stdout_closed(),
        _ => CliError::io("cannot write to stdout", error),
    }
}

/// Whether a stream gets colours: `--color`, then NO_COLOR, then CLICOLOR_FORCE, then whether it is a terminal that has them.
pub fn coloured(when: ColorWhen, stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto if set("NO_COLOR") => false,
        ColorWhen::Auto if std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") => true,
        ColorWhen::Auto => stream.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb"),
    }
}

fn value(row: &impl Serialize) -> Result<Value, CliError> {
    serde_json::to_value(row).map_err(|error| unprintable(&error))
}

fn unprintable(error: &serde_json::Error) -> CliError {
    CliError::failed(format!("cannot write this as JSON: {error}"))
}
