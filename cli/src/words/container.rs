//! What a container is made of besides its files and networks: names, environment, signals, capabilities.

use netloom_runtime::spec::{HostAddress, RestartPolicy};
use nix::sys::signal::Signal;

use super::{WordError, not, split};

/// `K=V` where both are said.
pub fn key_value(word: &str) -> Result<(String, String), WordError> {
    let (key, value) = split(word, '=', "a `=`")?;
    if key.is_empty() { Err(not(word, "KEY=VALUE")) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// `--label K[=V]`
pub fn label(word: &str) -> Result<(String, String), WordError> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    if key.is_empty() { Err(not(word, "a label: KEY=VALUE")) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// A word of `-e` or a line of an `--env-file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvWord {
    /// `K=V`
    Set(String),
    /// `K`: as it is where `netloom` runs, or not at all.
    Inherit(String),
}

pub fn env(word: &str) -> Result<EnvWord, WordError> {
    let key = word.split('=').next().unwrap_or_default();
    if key.is_empty() || key.contains(char::is_whitespace) || word.contains('\0') {
        return Err(not(word, "an environment variable: KEY=VALUE or KEY"));
    }
    Ok(if key == word { EnvWord::Inherit(word.to_owned()) } else { EnvWord::Set(word.to_owned()) })
}

/// The lines of an `--env-file`: empty ones and those that begin with `#` say nothing; no quotes are taken away.
pub fn env_file(text: &str) -> Result<Vec<EnvWord>, WordError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')).map(env).collect()
}

/// `--restart no|on-failure[:N]|always`
pub fn restart(word: &str) -> Result<RestartPolicy, WordError> {
    match word.split_once(':') {
        None if word == "no" => Ok(RestartPolicy::No),
        None if word == "always" => Ok(RestartPolicy::Always),
        None if word == "on-failure" => Ok(RestartPolicy::OnFailure { retries: None }),
        Some(("on-failure", number)) => {
            let retries = number.parse().map_err(|_| not(number, "a number of retries"))?;
            Ok(RestartPolicy::OnFailure { retries: Some(retries) })
        }
        _ => Err(not(word, "a restart policy: no, on-failure[:N] or always")),
    }
}

/// `--add-host NAME:IP`, or with `=`; IPv6 with or without brackets.
pub fn add_host(word: &str) -> Result<(String, HostAddress), WordError> {
    let at = word.find(['=', ':']).ok_or_else(|| WordError::Lacks { word: word.to_owned(), missing: "a `:` and an address" })?;
    let (name, address) = (word.get(..at).unwrap_or_default(), word.get(at + 1..).unwrap_or_default());
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    let parsed = address.parse().or_else(|_| bare.parse().map(HostAddress::Ip));
    Ok((hostname(name)?, parsed.map_err(|_| not(address, "an IP address, or `host-gateway`"))?))
}

/// `--dns-search`: a domain, or the root, in which there is nothing to search.
pub fn search_domain(word: &str) -> Result<String, WordError> {
    if word == "." { Ok(word.to_owned()) } else { hostname(word) }
}

/// A host name (RFC 1123, 2.1), at most the 64 bytes that Linux takes.
pub fn hostname(word: &str) -> Result<String, WordError> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_'))
    };
    if word.len() <= 64 && word.split('.').all(label) { Ok(word.to_owned()) } else { Err(not(word, "a host name")) }
}

/// A signal by name, with or without SIG, or by number.
pub fn signal(word: &str) -> Result<i32, WordError> {
    let wrong = || not(word, "a signal such as TERM, SIGKILL or 9");
    if let Ok(number) = word.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = word.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| wrong())
}

/// A capability, with or without `CAP_`, in any case; or `ALL`. The value is upper case without `CAP_`.
pub fn capability(word: &str) -> Result<String, WordError> {
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let known = name == "ALL" || format!("CAP_{name}").parse::<caps::Capability>().is_ok();
    if known { Ok(name.to_owned()) } else { Err(not(word, "a capability such as NET_ADMIN, or ALL")) }
}

/// `--security-opt`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityOpt {
    SeccompUnconfined,
    NoNewPrivileges(bool),
}

pub fn security_opt(word: &str) -> Result<SecurityOpt, WordError> {
    match word {
        "seccomp=unconfined" => Ok(SecurityOpt::SeccompUnconfined),
        "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => Ok(SecurityOpt::NoNewPrivileges(true)),
        "no-new-privileges=false" | "no-new-privileges:false" => Ok(SecurityOpt::NoNewPrivileges(false)),
        _ => Err(not(word, "a security option: seccomp=unconfined or no-new-privileges[=false]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::{refuses, takes};

    #[test]
    fn environment_words_set_or_inherit() {
        takes(
            env,
            &[
                ("A=b", EnvWord::Set("A=b".into())),
                ("A=", EnvWord::Set("A=".into())),
                ("A=b=c d", EnvWord::Set("A=b=c d".into())),
                ("A", EnvWord::Inherit("A".into())),
            ],
        );
        refuses(
            env,
            &[
                ("", "`` is not an environment variable: KEY=VALUE or KEY"),
                ("=b", "`=b` is not an environment variable: KEY=VALUE or KEY"),
                ("A B=c", "`A B=c` is not an environment variable: KEY=VALUE or KEY"),
            ],
        );
    }

    #[test]
    fn an_env_file_keeps_values_as_they_stand() {
        let words = env_file("\u{feff}# comment\n\nA=\"b c\" # not a comment\n  HOME\r\n").expect("a good file");
        assert_eq!(words, [EnvWord::Set("A=\"b c\" # not a comment".into()), EnvWord::Inherit("HOME".into())]);
        assert_eq!(env_file("A=b\nC D=e").expect_err("a key with a space"), not("C D=e", "an environment variable: KEY=VALUE or KEY"));
    }

    #[test]
    fn restart_policies_are_dockers() {
        takes(
            restart,
            &[
                ("no", RestartPolicy::No),
                ("always", RestartPolicy::Always),
                ("on-failure", RestartPolicy::OnFailure { retries: None }),
                ("on-failure:3", RestartPolicy::OnFailure { retries: Some(3) }),
            ],
        );
        refuses(
            restart,
            &[
                ("sometimes", "`sometimes` is not a restart policy: no, on-failure[:N] or always"),
                ("always:3", "`always:3` is not a restart policy: no, on-failure[:N] or always"),
                ("on-failure:x", "`x` is not a number of retries"),
            ],
        );
    }

    #[test]
    fn hosts_take_both_families() {
        takes(
            add_host,
            &[
                ("db:10.0.0.2", ("db".to_owned(), "10.0.0.2".parse().expect("an address"))),
                ("db=10.0.0.2", ("db".to_owned(), "10.0.0.2".parse().expect("an address"))),
                ("db:::1", ("db".to_owned(), "::1".parse().expect("an address"))),
                ("db.lan:[fd00::1]", ("db.lan".to_owned(), "fd00::1".parse().expect("an address"))),
                ("mac.lan:host-gateway", ("mac.lan".to_owned(), HostAddress::Gateway)),
            ],
        );
        refuses(
            add_host,
            &[
                ("db", "`db` lacks a `:` and an address"),
                ("db:[host-gateway]", "`[host-gateway]` is not an IP address, or `host-gateway`"),
                ("db:", "`` is not an IP address, or `host-gateway`"),
                (":10.0.0.2", "`` is not a host name"),
                ("a_b-:10.0.0.2", "`a_b-` is not a host name"),
            ],
        );
        refuses(hostname, &[("a..b", "`a..b` is not a host name"), ("web 1", "`web 1` is not a host name")]);
        takes(search_domain, &[("lab.test", "lab.test".to_owned()), (".", ".".to_owned())]);
        refuses(search_domain, &[("..", "`..` is not a host name"), ("", "`` is not a host name")]);
        assert!(hostname(&"a".repeat(64)).is_ok() && hostname(&"a".repeat(65)).is_err());
    }

    #[test]
    fn signals_go_by_name_and_number() {
        takes(signal, &[("TERM", 15), ("sigkill", 9), ("SIGHUP", 1), ("9", 9), ("usr1", 10), ("64", 64)]);
        refuses(
            signal,
            &[
                ("0", "`0` is not a signal such as TERM, SIGKILL or 9"),
                ("65", "`65` is not a signal such as TERM, SIGKILL or 9"),
                ("SIGNOPE", "`SIGNOPE` is not a signal such as TERM, SIGKILL or 9"),
                ("", "`` is not a signal such as TERM, SIGKILL or 9"),
            ],
        );
    }

    #[test]
    fn capabilities_and_security_options_are_known_ones() {
        takes(capability, &[("net_admin", "NET_ADMIN".to_owned()), ("CAP_SYS_PTRACE", "SYS_PTRACE".to_owned()), ("all", "ALL".to_owned())]);
        refuses(capability, &[("ROOT", "`ROOT` is not a capability such as NET_ADMIN, or ALL")]);
        takes(
            security_opt,
            &[
                ("seccomp=unconfined", SecurityOpt::SeccompUnconfined),
                ("no-new-privileges", SecurityOpt::NoNewPrivileges(true)),
                ("no-new-privileges=false", SecurityOpt::NoNewPrivileges(false)),
            ],
        );
        refuses(security_opt, &[("apparmor=x", "`apparmor=x` is not a security option: seccomp=unconfined or no-new-privileges[=false]")]);
    }

    #[test]
    fn pairs_have_both_sides() {
        takes(key_value, &[("ageing=300s", ("ageing".to_owned(), "300s".to_owned()))]);
        refuses(key_value, &[("ageing", "`ageing` lacks a `=`"), ("=x", "`=x` is not KEY=VALUE")]);
        takes(label, &[("a=b", ("a".to_owned(), "b".to_owned())), ("a", ("a".to_owned(), String::new()))]);
        refuses(label, &[("=b", "`=b` is not a label: KEY=VALUE")]);
    }
}
