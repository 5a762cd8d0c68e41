//! `ps --filter`: which containers are wanted.

use super::{WordError, not, split};
use crate::api::State;

/// One `KEY=VALUE` of `ps --filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A part of the name.
    Name(String),
    Status(State),
    /// A network it is on, or its network mode.
    Network(String),
    /// A label, with any value or this one.
    Label(String, Option<String>),
}

pub fn filter(word: &str) -> Result<Filter, WordError> {
    let (key, value) = split(word, '=', "a `=`")?;
    match key {
        "name" => Ok(Filter::Name(value.to_owned())),
        "status" => state(value).map(Filter::Status),
        "network" => Ok(Filter::Network(value.to_owned())),
        "label" => match value.split_once('=') {
            Some((label, value)) => Ok(Filter::Label(label.to_owned(), Some(value.to_owned()))),
            None => Ok(Filter::Label(value.to_owned(), None)),
        },
        _ => Err(WordError::Key { word: word.to_owned(), key: key.to_owned(), keys: "name, status, network, label" }),
    }
}

fn state(word: &str) -> Result<State, WordError> {
    Ok(match word {
        "created" => State::Created,
        "running" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "exited" => State::Exited,
        "dead" => State::Dead,
        _ => return Err(not(word, "a status: created, running, paused, restarting, exited or dead")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::{refuses, takes};

    #[test]
    fn filters_have_known_keys() {
        takes(
            filter,
            &[
                ("name=we", Filter::Name("we".into())),
                ("status=exited", Filter::Status(State::Exited)),
                ("network=blue", Filter::Network("blue".into())),
                ("label=a", Filter::Label("a".into(), None)),
                ("label=a=b=c", Filter::Label("a".into(), Some("b=c".into()))),
            ],
        );
        refuses(
            filter,
            &[
                ("web", "`web` lacks a `=`"),
                ("colour=red", "`colour` in `colour=red` is not one of name, status, network, label"),
                ("status=up", "`up` is not a status: created, running, paused, restarting, exited or dead"),
            ],
        );
    }
}
