//! Amounts: memory, limits, points in time, numbers of lines.

use std::{
    num::NonZeroUsize,
    time::{Duration, SystemTime},
};

use super::{WordError, not};

/// The least that `--memory` takes, as in docker: a process cannot even start in much less.
pub const MEMORY_LEAST: u64 = 6 << 20;

/// The most workers: beyond these they would be in each other's way.
const WORKERS_MAX: usize = 64;

/// `--workers` and `NETLOOM_WORKERS`
pub fn workers(word: &str) -> Result<NonZeroUsize, WordError> {
    word.parse()
        .ok()
        .filter(|workers: &NonZeroUsize| workers.get() <= WORKERS_MAX)
        .ok_or_else(|| not(word, "a number of workers from 1 to 64"))
}

/// As many as the machine has cores.
pub fn default_workers() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(WORKERS_MAX).map_or(cores, |max| cores.min(max))
}

/// `--time`
pub fn seconds(word: &str) -> Result<u32, WordError> {
    word.parse().map_err(|_| not(word, "a number of seconds"))
}

/// `--last`
pub fn containers(word: &str) -> Result<usize, WordError> {
    word.parse().map_err(|_| not(word, "a number of containers"))
}

/// `--memory`
pub fn memory(word: &str) -> Result<u64, WordError> {
    let bytes = bytes(word)?;
    if bytes < MEMORY_LEAST { Err(not(word, "enough memory for a container: 6m is the least")) } else { Ok(bytes) }
}

/// Bytes as docker takes them: `512`, `64k`, `1.5g`, `10MiB`; a unit is a power of 1024.
fn bytes(word: &str) -> Result<u64, WordError> {
    let wrong = || not(word, "an amount of memory such as 64m or 1.5g");
    let lower = word.to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at_checked(digits).ok_or_else(wrong)?;
    let power: u32 = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let unit = 1024_u64.pow(power);
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part = if part.is_empty() { Ok(0) } else { fraction(part, unit).ok_or_else(wrong) }?;
    let total = whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part)).ok_or_else(wrong)?;
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

/// The digits behind the point, as bytes of a unit, rounded down.
fn fraction(digits: &str, unit: u64) -> Option<u64> {
    let digits = digits.get(..digits.len().min(9))?;
    let value: u64 = digits.parse().ok()?;
    let scale = 10_u64.pow(u32::try_from(digits.len()).ok()?);
    u64::try_from(u128::from(value) * u128::from(unit) / u128::from(scale)).ok()
}

/// The resource limits that Linux has (getrlimit(2)), by docker's names.
const LIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `--ulimit NAME=SOFT[:HARD]`; -1 and `unlimited` have no bound.
pub fn ulimit(word: &str) -> Result<(String, Option<u64>, Option<u64>), WordError> {
    let (name, values) = super::split(word, '=', "a `=LIMIT`")?;
    if !LIMITS.contains(&name) {
        return Err(WordError::Key { word: word.to_owned(), key: name.to_owned(), keys: ULIMIT_NAMES });
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(WordError::SoftAboveHard { word: word.to_owned() });
    }
    Ok((name.to_owned(), soft, hard))
}

const ULIMIT_NAMES: &str =
    "as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack";

fn limit(word: &str) -> Result<Option<u64>, WordError> {
    match word {
        "-1" | "unlimited" => Ok(None),
        _ => word.parse().map(Some).map_err(|_| not(word, "a limit: a number, -1 or unlimited")),
    }
}

/// A bound on the number of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidsLimit(pub Option<u64>);

/// `--pids-limit`: -1 and 0 have no bound.
pub fn pids(word: &str) -> Result<PidsLimit, WordError> {
    match word {
        "-1" | "0" | "unlimited" => Ok(PidsLimit(None)),
        _ => word.parse().map(|pids| PidsLimit(Some(pids))).map_err(|_| not(word, "a number of processes, or -1 for no limit")),
    }
}

/// How many of the last lines are wanted; none: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(pub Option<usize>);

/// `--tail N|all`
pub fn tail(word: &str) -> Result<Tail, WordError> {
    match word {
        "all" => Ok(Tail(None)),
        _ => word.parse().map(|lines| Tail(Some(lines))).map_err(|_| not(word, "a number of lines or `all`")),
    }
}

/// A point in time: RFC 3339, or how long ago (`10m`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    At(SystemTime),
    Ago(Duration),
}

impl Since {
    pub fn resolve(self, now: SystemTime) -> SystemTime {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

pub fn since(word: &str) -> Result<Since, WordError> {
    if let Ok(time) = humantime::parse_rfc3339_weak(word) {
        return Ok(Since::At(time));
    }
    humantime::parse_duration(word).map(Since::Ago).map_err(|_| not(word, "a time such as 2026-01-31T12:00:00Z or a duration such as 10m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::{refuses, takes};

    #[test]
    fn workers_are_a_number_that_makes_sense() {
        assert_eq!(workers("2").unwrap().get(), 2);
        for wrong in ["0", "-1", "65", "many", ""] {
            assert_eq!(workers(wrong).unwrap_err().to_string(), format!("`{wrong}` is not a number of workers from 1 to 64"));
        }
        assert!((1..=WORKERS_MAX).contains(&default_workers().get()));
    }

    #[test]
    fn a_wrong_number_is_said_to_be_no_number_of_its_kind() {
        takes(seconds, &[("0", 0), ("90", 90)]);
        refuses(seconds, &[("soon", "`soon` is not a number of seconds"), ("-1", "`-1` is not a number of seconds")]);
        refuses(containers, &[("few", "`few` is not a number of containers")]);
    }

    #[test]
    fn memory_is_read_in_powers_of_1024() {
        takes(
            bytes,
            &[
                ("512", 512),
                ("512b", 512),
                ("64k", 65_536),
                ("64M", 64 << 20),
                ("10MiB", 10 << 20),
                ("1.5g", 3 << 29),
                ("0.5k", 512),
                ("2t", 2 << 40),
            ],
        );
        for wrong in ["", "0", "m", "-1m", "64x", "1..5g", "1.5.g", "64 m", ".5g", "99999999999t"] {
            assert_eq!(bytes(wrong), Err(not(wrong, "an amount of memory such as 64m or 1.5g")), "for `{wrong}`");
        }
    }

    #[test]
    fn memory_that_nothing_can_start_in_is_refused() {
        takes(memory, &[("6m", 6 << 20), ("6291456", 6 << 20), ("64m", 64 << 20)]);
        refuses(
            memory,
            &[
                ("1", "`1` is not enough memory for a container: 6m is the least"),
                ("6291455", "`6291455` is not enough memory for a container: 6m is the least"),
                ("lots", "`lots` is not an amount of memory such as 64m or 1.5g"),
            ],
        );
    }

    #[test]
    fn a_ulimit_has_a_known_name_and_ordered_limits() {
        takes(
            ulimit,
            &[
                ("nofile=1024", ("nofile".to_owned(), Some(1024), Some(1024))),
                ("nofile=1024:4096", ("nofile".to_owned(), Some(1024), Some(4096))),
                ("core=0:-1", ("core".to_owned(), Some(0), None)),
                ("stack=unlimited", ("stack".to_owned(), None, None)),
            ],
        );
        refuses(
            ulimit,
            &[
                ("nofile", "`nofile` lacks a `=LIMIT`"),
                ("nofile=many", "`many` is not a limit: a number, -1 or unlimited"),
                ("nofile=2:1", "the soft limit of `nofile=2:1` is above its hard limit"),
                ("nofile=-1:1", "the soft limit of `nofile=-1:1` is above its hard limit"),
            ],
        );
        let message = ulimit("files=1").expect_err("an unknown name").to_string();
        assert_eq!(message, format!("`files` in `files=1` is not one of {}", LIMITS.join(", ")));
    }

    #[test]
    fn lines_processes_and_times_have_their_words() {
        takes(tail, &[("all", Tail(None)), ("0", Tail(Some(0))), ("10", Tail(Some(10)))]);
        refuses(tail, &[("-1", "`-1` is not a number of lines or `all`")]);
        takes(pids, &[("100", PidsLimit(Some(100))), ("-1", PidsLimit(None))]);
        refuses(pids, &[("few", "`few` is not a number of processes, or -1 for no limit")]);
        takes(
            since,
            &[
                ("10m", Since::Ago(Duration::from_secs(600))),
                ("1970-01-01T00:00:10Z", Since::At(SystemTime::UNIX_EPOCH + Duration::from_secs(10))),
            ],
        );
        refuses(since, &[("noon", "`noon` is not a time such as 2026-01-31T12:00:00Z or a duration such as 10m")]);
    }
}
