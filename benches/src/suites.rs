//! What the README shows, in parts that each take a few minutes. Their JSON is merged by `figures`.

use crate::{
    error::{BenchError, Result},
    table,
};

/// One part.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    pub name: &'static str,
    pub subject: &'static str,
    pub works: &'static [&'static str],
    pub peers: &'static [&'static str],
    pub rounds: usize,
    pub seconds: u32,
    /// About how long it takes, at most.
    pub minutes: f64,
}

const PARTS: Suite = Suite { name: "", subject: "netloom", works: &[], peers: &[], rounds: 9, seconds: 2, minutes: 0.0 };

pub static ALL: &[Suite] = &[
    Suite { name: "switch-tcp", works: &["tcp", "frames-60"], peers: &["kernel-bridge"], minutes: 5.0, ..PARTS },
    Suite { name: "switch-others", works: &["tcp"], peers: &["ovs", "vde"], rounds: 9, seconds: 1, minutes: 5.0, ..PARTS },
    Suite { name: "switch-cubic", works: &["cubic"], peers: &["kernel-bridge", "ovs", "vde"], minutes: 8.0, ..PARTS },
    Suite { name: "switch-small", works: &["ping-pong", "connects"], peers: &["kernel-bridge", "ovs"], seconds: 1, minutes: 3.0, ..PARTS },
    Suite { name: "switch-udp", works: &["udp-64"], peers: &["kernel-bridge", "ovs"], minutes: 8.0, ..PARTS },
    Suite {
        name: "mesh",
        works: &["mesh-full", "mesh-one", "mesh-many", "mesh-congestion", "mesh-broadcast", "mesh-latency"],
        peers: &["kernel-bridge"],
        seconds: 1,
        minutes: 8.0,
        ..PARTS
    },
    Suite {
        name: "addresses",
        works: &["mesh-caching", "mesh-learning"],
        peers: &["kernel-bridge"],
        rounds: 1,
        seconds: 1,
        minutes: 3.0,
        ..PARTS
    },
    Suite {
        name: "veth",
        subject: "netloom-veth",
        works: &["tcp", "ping-pong"],
        peers: &["kernel-bridge", "ovs"],
        seconds: 1,
        minutes: 7.0,
        ..PARTS
    },
    Suite {
        name: "user",
        works: &["tcp", "ping-pong", "nat-tcp", "nat-ping-pong"],
        peers: &["netloom-user"],
        seconds: 1,
        minutes: 5.0,
        ..PARTS
    },
    Suite {
        name: "nat-tcp",
        works: &["nat-tcp", "nat-ping-pong", "nat-connects"],
        peers: &["slirp4netns", "pasta"],
        seconds: 2,
        minutes: 7.0,
        ..PARTS
    },
    Suite { name: "nat-raised", works: &["nat-tcp"], peers: &["slirp4netns-raised", "pasta-raised"], minutes: 4.0, ..PARTS },
    Suite { name: "nat-1500", works: &["nat-tcp"], peers: &["slirp4netns-1500", "pasta-1500"], minutes: 4.0, ..PARTS },
    Suite {
        name: "nat-cubic",
        works: &["nat-cubic"],
        peers: &["slirp4netns", "pasta", "slirp4netns-1500", "pasta-1500"],
        minutes: 8.0,
        ..PARTS
    },
    Suite { name: "nat-limit", works: &["nat-tcp", "nat-cubic"], peers: &["loopback"], minutes: 5.0, ..PARTS },
    Suite { name: "nat-ipv6", works: &["nat-tcp", "nat-ping-pong", "nat-connects"], peers: &["netloom-ipv6"], minutes: 5.0, ..PARTS },
    Suite { name: "nat-udp-up", works: &["nat-udp-64-up", "nat-udp-1400-up"], peers: &["pasta"], minutes: 8.0, ..PARTS },
    Suite { name: "nat-udp-down", works: &["nat-udp-64-down", "nat-udp-1400-down"], peers: &["pasta"], minutes: 8.0, ..PARTS },
    Suite { name: "nat-udp-slirp-64-up", works: &["nat-udp-64-up"], peers: &["slirp4netns"], minutes: 6.0, ..PARTS },
    Suite { name: "nat-udp-slirp-64-down", works: &["nat-udp-64-down"], peers: &["slirp4netns"], minutes: 6.0, ..PARTS },
    Suite { name: "nat-udp-slirp-1400-up", works: &["nat-udp-1400-up"], peers: &["slirp4netns"], minutes: 6.0, ..PARTS },
    Suite { name: "nat-udp-slirp-1400-down", works: &["nat-udp-1400-down"], peers: &["slirp4netns"], minutes: 6.0, ..PARTS },
    Suite { name: "beside", works: &["flows", "churn"], peers: &["netloom-alone"], seconds: 4, minutes: 8.0, ..PARTS },
    Suite { name: "hostile", works: &["hostile"], peers: &["netloom-alone", "netloom-aside"], seconds: 4, minutes: 8.0, ..PARTS },
    Suite { name: "among", works: &["among"], peers: &["netloom-alone"], seconds: 2, minutes: 4.0, ..PARTS },
    Suite { name: "lossy", works: &["lossy"], peers: &["host-socket"], seconds: 8, minutes: 6.0, ..PARTS },
    Suite {
        name: "published",
        works: &["published"],
        peers: &["loopback", "docker-proxy", "rootlesskit"],
        seconds: 1,
        minutes: 4.0,
        ..PARTS
    },
    Suite { name: "own", works: &["own"], rounds: 1, minutes: 5.0, ..PARTS },
    Suite {
        name: "engines",
        subject: "netloom-user",
        works: &["start", "tcp", "nat-tcp"],
        peers: &["podman-user", "podman-slirp4netns"],
        seconds: 1,
        minutes: 8.0,
        ..PARTS
    },
];

pub fn named(name: &str) -> Result<&'static Suite> {
    let known = || ALL.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|suite| suite.name == name).ok_or_else(|| BenchError::Unknown { kind: "suite", name: name.to_owned(), known: known() })
}

/// For people and for a loop of a shell: the first column is what `--suite` takes.
#[must_use]
pub fn list() -> String {
    let line = |suite: &Suite| {
        vec![
            suite.name.to_owned(),
            format!("{:.0} min", suite.minutes),
            format!("{} against {}", suite.works.join(" "), suite.peers.join(" ")),
        ]
    };
    table::aligned(&ALL.iter().map(line).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{peer::Known, work::Work};

    #[test]
    fn every_suite_names_works_and_peers_that_exist_and_is_short() {
        for suite in ALL {
            let words: Vec<String> = suite.works.iter().map(|&word| word.to_owned()).collect();
            let works = Work::chosen(&words).unwrap();
            assert!(suite.minutes < 9.0, "{}", suite.name);
            for peer in suite.peers {
                let known = Known::named(peer).unwrap();
                assert!(works.iter().any(|work| known.kinds.contains(&work.kind)), "{peer} does nothing of {}", suite.name);
            }
        }
    }

    #[test]
    fn a_ratio_of_the_readme_is_of_nine_pairs() {
        assert!(ALL.iter().filter(|suite| !suite.peers.is_empty() && suite.name != "addresses").all(|suite| suite.rounds >= 9));
    }
}
