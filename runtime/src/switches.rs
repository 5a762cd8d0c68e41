//! Switches for tests: what this machine could do and is to be treated as if it could not, so that one machine covers many.
//!
//! `NETLOOM_TEST_OFF` holds a list of [`Feature`] names with commas between them. Each process looks at its own environment, which
//! a command hands on to the supervisor and, if it starts one, to the daemon. Nothing is ever switched on.

/// The environment variable.
pub const VARIABLE: &str = "NETLOOM_TEST_OFF";

/// What can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// UDP segmentation offload: before Linux 6.2.
    Uso,
    /// User attributes on a tmpfs, for overlays in user namespaces: before Linux 6.6.
    Userxattr,
    /// /dev/net/tun: a machine without the device.
    Tun,
    /// ICMP echo sockets: a machine whose net.ipv4.ping_group_range is empty.
    Ping,
    /// Control groups of version 2.
    Cgroup2,
    /// io_uring: before Linux 6.5, or forbidden by kernel.io_uring_disabled or a container around netloom.
    Uring,
    /// /etc/subuid, /etc/subgid, newuidmap and newgidmap.
    Subuids,
}

impl Feature {
    /// As the variable writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uso => "uso",
            Self::Userxattr => "userxattr",
            Self::Tun => "tun",
            Self::Ping => "ping",
            Self::Cgroup2 => "cgroup2",
            Self::Uring => "uring",
            Self::Subuids => "subuids",
        }
    }

    /// Whether a test wants to do without it.
    pub fn is_off(self) -> bool {
        std::env::var(VARIABLE).is_ok_and(|list| names(&list, self))
    }
}

fn names(list: &str, feature: Feature) -> bool {
    list.split(',').any(|word| word.trim() == feature.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_stands_in_it_and_no_more() {
        assert!(names("uso, tun", Feature::Tun) && names("tun", Feature::Tun));
        assert!(!names("tuna,uso", Feature::Tun) && !names("", Feature::Tun));
    }
}
