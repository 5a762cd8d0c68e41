//! What netloom must reach against whom: the one table of targets, by work, row and peer.

use serde::{Deserialize, Serialize};

use crate::stats::Summary;

/// What a ratio to a peer, or a value where no peer is named, has to satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// A ratio of one, give or take this part.
    Within(f64),
}

#[derive(Clone, Copy, Debug)]
struct Target {
    work: &'static str,
    /// The place of the row among those of the work.
    row: usize,
    /// Empty: the value itself is meant.
    peer: &'static str,
    bound: Bound,
}

/// What is said of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Missed,
    /// Too few pairs, or too different ones: never a pass.
    Inconclusive,
}

const fn at_least(work: &'static str, peer: &'static str, ratio: f64) -> Target {
    Target { work, row: 0, peer, bound: Bound::AtLeast(ratio) }
}

const fn at_most(work: &'static str, row: usize, peer: &'static str, ratio: f64) -> Target {
    Target { work, row, peer, bound: Bound::AtMost(ratio) }
}

const fn alike(work: &'static str, row: usize, peer: &'static str) -> Target {
    Target { work, row, peer, bound: Bound::Within(0.05) }
}

/// To be better than the better of two peers is to be better than each.
const TARGETS: &[Target] = &[
    at_least("tcp", "kernel-bridge", 1.0),
    at_least("tcp", "ovs", 1.5),
    at_least("tcp", "vde", 12.0),
    at_least("tcp-four", "kernel-bridge", 1.0),
    at_least("tcp-both", "kernel-bridge", 1.0),
    at_least("tcp-jumbo", "kernel-bridge", 1.2),
    at_least("cubic", "kernel-bridge", 1.0),
    at_least("cubic", "ovs", 1.5),
    at_least("cubic", "vde", 12.0),
    at_least("cubic-four", "kernel-bridge", 1.0),
    at_least("cubic-jumbo", "kernel-bridge", 1.2),
    at_least("frames-60", "kernel-bridge", 1.5),
    at_least("udp-64", "kernel-bridge", 1.0),
    at_least("udp-64", "ovs", 1.3),
    at_most("ping-pong", 0, "kernel-bridge", 1.0),
    at_most("ping-pong", 1, "kernel-bridge", 1.2),
    alike("tcp", 0, "netloom-user"),
    alike("tcp-reverse", 0, "netloom-user"),
    alike("ping-pong", 0, "netloom-user"),
    alike("nat-tcp-up", 0, "netloom-user"),
    alike("nat-tcp-down", 0, "netloom-user"),
    alike("nat-ping-pong", 0, "netloom-user"),
    alike("nat-tcp-up", 0, "netloom-ipv6"),
    alike("nat-tcp-down", 0, "netloom-ipv6"),
    alike("nat-ping-pong", 0, "netloom-ipv6"),
    alike("nat-connects", 0, "netloom-ipv6"),
    at_least("nat-tcp-up", "slirp4netns", 3.0),
    at_least("nat-tcp-up", "pasta", 3.0),
    at_least("nat-tcp-down", "slirp4netns", 1.6),
    at_least("nat-tcp-down", "pasta", 1.6),
    at_least("nat-tcp-up", "slirp4netns-raised", 1.2),
    at_least("nat-tcp-up", "pasta-raised", 1.2),
    at_least("nat-tcp-down", "slirp4netns-raised", 1.3),
    at_least("nat-tcp-down", "pasta-raised", 1.3),
    at_least("nat-tcp-up", "slirp4netns-1500", 8.0),
    at_least("nat-tcp-up", "pasta-1500", 8.0),
    at_least("nat-tcp-down", "slirp4netns-1500", 8.0),
    at_least("nat-tcp-down", "pasta-1500", 8.0),
    at_least("nat-cubic-up", "slirp4netns", 3.0),
    at_least("nat-cubic-up", "pasta", 3.0),
    at_least("nat-cubic-up", "slirp4netns-1500", 8.0),
    at_least("nat-cubic-up", "pasta-1500", 8.0),
    at_least("nat-cubic-down", "slirp4netns", 1.6),
    at_least("nat-cubic-down", "pasta", 1.6),
    at_least("nat-cubic-down", "slirp4netns-1500", 8.0),
    at_least("nat-cubic-down", "pasta-1500", 8.0),
    at_most("nat-ping-pong", 0, "slirp4netns", 1.0),
    at_most("nat-ping-pong", 0, "pasta", 1.0),
    at_most("nat-ping-pong", 1, "slirp4netns", 1.0),
    at_most("nat-ping-pong", 1, "pasta", 1.0),
    at_least("nat-connects", "slirp4netns", 1.5),
    at_least("nat-connects", "pasta", 1.5),
    at_least("nat-udp-64-up", "slirp4netns", 1.0),
    at_least("nat-udp-64-up", "pasta", 1.0),
    at_least("nat-udp-64-down", "slirp4netns", 1.0),
    at_least("nat-udp-64-down", "pasta", 1.0),
    at_least("nat-udp-1400-up", "slirp4netns", 1.0),
    at_least("nat-udp-1400-up", "pasta", 1.0),
    at_least("nat-udp-1400-down", "slirp4netns", 1.0),
    at_least("nat-udp-1400-down", "pasta", 1.0),
    at_least("among-tcp", "netloom-alone", 0.95),
    at_least("flows-tcp-up", "netloom-alone", 0.9),
    at_least("hostile-tcp", "netloom-alone", 0.8),
    at_least("hostile-nat", "netloom-alone", 0.8),
    at_least("hostile-nat", "netloom-aside", 0.8),
    at_least("lossy-up", "host-socket", 0.9),
    at_least("lossy-down", "host-socket", 0.9),
    at_least("published-tcp-in", "docker-proxy", 1.0),
    at_least("published-tcp-in", "rootlesskit", 1.0),
    at_least("published-tcp-in", "loopback", 0.5),
    at_least("published-tcp-out", "docker-proxy", 1.0),
    at_least("published-tcp-out", "rootlesskit", 1.0),
    at_least("published-tcp-out", "loopback", 0.5),
    Target { work: "mesh-many-to-one", row: 2, peer: "", bound: Bound::AtLeast(0.95) },
    at_most("mesh-congestion", 0, "", 0.0),
    at_most("own-ports", 0, "", 16.0),
    at_most("own-ports", 1, "", 64.0),
    at_most("own-flows", 0, "", 16.0),
];

/// What bounds a work against a peer where a target cannot be reached, by the headings under which the README shows it.
const BOUNDED: &[(&str, &str, &str)] = &[
    ("tcp", "kernel-bridge", COPIES),
    ("tcp-four", "kernel-bridge", COPIES),
    ("tcp-both", "kernel-bridge", COPIES),
    ("tcp-jumbo", "kernel-bridge", COPIES),
    ("cubic", "kernel-bridge", COPIES),
    ("cubic-four", "kernel-bridge", COPIES),
    ("cubic-jumbo", "kernel-bridge", COPIES),
    ("tcp", "ovs", "pacing"),
    ("tcp", "vde", "pacing"),
    ("frames-60", "kernel-bridge", TUN),
    ("udp-64", "kernel-bridge", TUN),
    ("nat-tcp-down", "pasta", SENDER),
    ("nat-tcp-down", "pasta-1500", SENDER),
    ("nat-tcp-down", "slirp4netns-1500", SENDER),
    ("nat-cubic-up", "slirp4netns", PROCESSORS),
    ("nat-cubic-down", "pasta", PROCESSORS),
    ("nat-cubic-down", "slirp4netns-1500", PROCESSORS),
    ("nat-cubic-down", "pasta-1500", PROCESSORS),
    ("nat-connects", "pasta", "wake-ups"),
    ("hostile-nat", "netloom-alone", "another program at work"),
];
const COPIES: &str = "two copies more";
const SENDER: &str = "the host's own sender";
const TUN: &str = "the kernel's TUN code";
const PROCESSORS: &str = "both processors";

/// The heading under which the README shows what bounds a work against a peer.
#[must_use]
pub fn bounded_by(work: &str, peer: &str) -> Option<&'static str> {
    BOUNDED.iter().find(|(of, to, _)| (*of, *to) == (work, peer)).map(|(_, _, heading)| *heading)
}

/// For a subject that is not netloom itself, and against whom.
const OF_OTHERS: &[(&str, Target)] = &[("netloom-veth", at_least("tcp", "ovs", 0.9)), ("netloom-user", at_most("start", 0, "", 40.0))];

impl Bound {
    /// The target of a ratio, or with an empty `peer` of a value.
    #[must_use]
    pub fn of(subject: &str, work: &str, row: usize, peer: &str) -> Option<Self> {
        let others = OF_OTHERS.iter().filter(|(of, _)| *of == subject).map(|(_, target)| target);
        let own = TARGETS.iter().filter(|_| subject == "netloom");
        others.chain(own).find(|target| (target.work, target.row, target.peer) == (work, row, peer)).map(|target| target.bound)
    }

    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Within(part) => (value - 1.0).abs() <= part,
        }
    }

    /// Of ratios.
    #[must_use]
    pub fn judge(self, ratios: &Summary) -> Verdict {
        match (ratios.is_conclusive(), self.holds(ratios.median)) {
            (false, _) => Verdict::Inconclusive,
            (true, true) => Verdict::Met,
            (true, false) => Verdict::Missed,
        }
    }

    /// Of a value that stands for itself: no pair, so nothing to be conclusive about.
    #[must_use]
    pub fn judge_value(self, value: f64) -> Verdict {
        if self.holds(value) { Verdict::Met } else { Verdict::Missed }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::Within(part) => write!(f, "1 ± {part}"),
        }
    }
}

impl Verdict {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{peer::Known, work::Work};

    fn all() -> impl Iterator<Item = &'static Target> {
        TARGETS.iter().chain(OF_OTHERS.iter().map(|(_, target)| target))
    }

    #[test]
    fn every_target_names_a_row_and_a_peer_that_exist() {
        for target in all() {
            let work = Work::named(target.work).unwrap();
            assert!(target.row < work.rows.len(), "{target:?}");
            assert!(target.peer.is_empty() || Known::named(target.peer).unwrap().kinds.contains(&work.kind), "{target:?}");
        }
    }

    #[test]
    fn what_bounds_a_work_is_shown_in_the_readme() {
        let readme = include_str!("../../README.md").to_lowercase();
        for (work, peer, heading) in BOUNDED {
            assert!(Bound::of("netloom", work, 0, peer).is_some(), "{work} has no target against {peer}");
            assert!(readme.contains(&format!("\n- **{}**", heading.to_lowercase())), "{heading}");
        }
    }

    #[test]
    fn a_target_is_met_on_its_bound_and_missed_beyond() {
        let nine = |ratio| Summary::of(vec![ratio; 9]).unwrap();
        assert_eq!(Bound::AtLeast(1.5).judge(&nine(1.5)), Verdict::Met);
        assert_eq!(Bound::AtLeast(1.5).judge(&nine(1.49)), Verdict::Missed);
        assert_eq!(Bound::AtMost(1.2).judge(&nine(1.21)), Verdict::Missed);
        assert_eq!(Bound::Within(0.05).judge(&nine(1.06)), Verdict::Missed);
        assert_eq!(Bound::Within(0.05).judge(&nine(0.96)), Verdict::Met);
    }

    #[test]
    fn what_is_inconclusive_is_never_a_pass() {
        assert_eq!(Bound::AtLeast(1.0).judge(&Summary::of(vec![2.0; 8]).unwrap()), Verdict::Inconclusive);
    }

    #[test]
    fn targets_are_netlooms_own() {
        assert_eq!(Bound::of("netloom", "tcp", 0, "ovs"), Some(Bound::AtLeast(1.5)));
        assert_eq!(Bound::of("netloom-veth", "tcp", 0, "ovs"), Some(Bound::AtLeast(0.9)));
        assert_eq!(Bound::of("kernel-bridge", "tcp", 0, "ovs"), None);
    }
}
