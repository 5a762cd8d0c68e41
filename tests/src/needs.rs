//! What a test requires of the machine, and the probes that decide whether it is there.
//!
//! `tests/requirements` is the only table; a test never decides by itself that it cannot run. A skip is written down with its reason,
//! and `tests/run` fails when its own probe finds what the test was said to lack.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;

use crate::{report::append, user::Who};

const TABLE: &str = include_str!("../requirements");

/// One thing that a machine has or has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To make namespaces that play the host.
    Root,
    /// /dev/net/tun can be opened.
    Tun,
    /// A mount namespace with a network namespace of its own can be made.
    Namespaces,
    /// The ordinary user exists and has subordinate IDs.
    User,
    /// The ordinary user can make user namespaces.
    UserNamespaces,
    /// The kernel has tunnels of this kind.
    Vxlan,
    Program(String),
}

impl Need {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "root" => Self::Root,
            "tun" => Self::Tun,
            "namespaces" => Self::Namespaces,
            "user" => Self::User,
            "userns" => Self::UserNamespaces,
            "vxlan" => Self::Vxlan,
            _ => Self::Program(word.strip_prefix("program:")?.into()),
        })
    }

    fn word(&self) -> String {
        match self {
            Self::Root => "root".into(),
            Self::Tun => "tun".into(),
            Self::Namespaces => "namespaces".into(),
            Self::User => "user".into(),
            Self::UserNamespaces => "userns".into(),
            Self::Vxlan => "vxlan".into(),
            Self::Program(name) => format!("program:{name}"),
        }
    }

    /// `None` when it is there, otherwise what is wrong.
    fn lacks(&self) -> Option<String> {
        match self {
            Self::Root => (!geteuid().is_root()).then(|| "the tests do not run as root".into()),
            Self::Tun => std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .err()
                .map(|why| format!("/dev/net/tun cannot be opened: {why}")),
            Self::Namespaces => fails("unshare --net --mount --pid --uts --ipc --fork true", &[]),
            Self::User => match Who::User.ids() {
                None => Some(format!("there is no user `{}`", crate::ORDINARY_USER)),
                Some(_) => (!subordinate("/etc/subuid") || !subordinate("/etc/subgid"))
                    .then(|| format!("`{}` has no subordinate IDs", crate::ORDINARY_USER)),
            },
            Self::UserNamespaces => fails("unshare --user --map-root-user --net true", &Who::User.prefix()),
            Self::Vxlan => fails("unshare --net ip link add probe0 type vxlan id 1 dstport 4789", &[]),
            Self::Program(name) => program(name).is_none().then(|| format!("`{name}` is not installed")),
        }
    }
}

/// What the test of this name lacks: the requirement as the table writes it, and why it is not met.
fn missing(test: &str) -> Option<(String, String)> {
    requirements(test).into_iter().find_map(|need| need.lacks().map(|why| (need.word(), why)))
}

/// Everything that the table asks for a test.
pub(crate) fn requirements(test: &str) -> Vec<Need> {
    rows().filter(|(pattern, _)| matches(pattern, test)).flat_map(|(_, needs)| needs).collect()
}

fn rows() -> impl Iterator<Item = (&'static str, Vec<Need>)> {
    TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        let pattern = words.next().expect("a row begins with a pattern");
        let needs = words.map(|word| Need::parse(word).unwrap_or_else(|| panic!("tests/requirements: what is `{word}`?")));
        (pattern, needs.collect())
    })
}

/// Whether the test of this name can run here; when not, that is written down with its reason.
pub fn can_run(test: &str) -> bool {
    let missing = missing(test);
    if let Some((need, why)) = &missing {
        let on = crate::host::chosen_backend().map(|backend| format!(" on {backend}")).unwrap_or_default();
        append("NETLOOM_TEST_SKIPS", &format!("{test}{on}\t{need}\t{why}"));
    }
    missing.is_none()
}

/// Whether `text` is what `pattern` says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| matches(rest, &tail[at..]))),
    }
}

/// Where a program lies, on the path that tests give to everything they run.
fn program(name: &str) -> Option<PathBuf> {
    crate::host::PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

fn subordinate(file: &str) -> bool {
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    lines.lines().any(|line| line.split(':').next() == Some(crate::ORDINARY_USER))
}

fn fails(line: &str, prefix: &[String]) -> Option<String> {
    let all: Vec<String> = prefix.iter().cloned().chain(line.split(' ').map(Into::into)).collect();
    match Command::new(&all[0]).args(&all[1..]).output() {
        Err(why) => Some(format!("`{}`: {why}", all[0])),
        Ok(out) if out.status.success() => None,
        Ok(out) => Some(format!("`{line}`: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("modes::a", "modes::a", true),
            ("modes::a", "modes::ab", false),
            ("*::as_user", "modes::none::as_user", true),
            ("*::as_user", "modes::none::as_root", false),
            ("traffic::*requests*", "traffic::five_hundred_requests::as_root", true),
            ("traffic::*requests*", "modes::requests", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn every_row_of_the_table_can_be_read() {
        assert!(rows().count() > 5);
        assert!(requirements("modes::x::as_user").contains(&Need::User));
        assert!(!requirements("modes::x::as_root").contains(&Need::User));
    }

    #[test]
    fn a_program_that_is_not_installed_is_missed() {
        assert!(Need::Program("netloom-no-such-program".into()).lacks().is_some());
        assert_eq!(Need::Program("sh".into()).lacks(), None);
    }
}
