//! `--ulimit`: resource limits of the command (getrlimit(2)).

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::fault::{Doing, Fault, Result};

/// One limit by docker's name: soft, hard; `None` is unlimited.
pub(crate) type Limit = (String, Option<u64>, Option<u64>);

/// Sets them for the calling process.
///
/// Errors: a name that is no limit; a hard limit above the caller's.
pub(crate) fn set(limits: &[Limit]) -> Result<()> {
    for (name, soft, hard) in limits {
        let resource = resource(name).ok_or_else(|| {
            let hint =
                "one of core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack";
            Fault::refused(format!("`{name}` is no limit"), hint)
        })?;
        let number = |limit: &Option<u64>| limit.unwrap_or(RLIM_INFINITY);
        setrlimit(resource, number(soft), number(hard)).doing(format_args!("set the limit {name}"))?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_limit_is_named() {
        assert!(set(&[("nofiles".to_owned(), None, None)]).unwrap_err().to_string().contains("`nofiles`"));
    }
}
