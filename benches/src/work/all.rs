//! The one table of works.

use super::{Row, Work, flood, iperf, mesh, own, requests, udp};
use crate::peer::Kind;

const JUMBO: u32 = 65520;
const ETHERNET: u32 = 1500;
const GIGABITS: &str = "Gbit/s";

const fn more(title: &'static str, unit: &'static str) -> Row {
    Row { title, unit, more_is_better: true }
}

const fn less(title: &'static str, unit: &'static str) -> Row {
    Row { title, unit, more_is_better: false }
}

const SWITCH: Work = Work {
    name: "",
    kind: Kind::Switch,
    rows: &[],
    quantity: "GB",
    mtu: ETHERNET,
    congestion_control: None,
    run: |peer, seconds| iperf::streams(peer, seconds, &[&[]]),
};
/// Linux's own default, whatever the machine's.
const CUBIC: Option<&str> = Some("cubic");
const NAT: Work = Work { kind: Kind::Nat, ..SWITCH };
const MESH: Work = Work { kind: Kind::Mesh, quantity: "million frames", ..SWITCH };
const DOWN: fn(&crate::peer::Peer, u32) -> crate::Result<super::Done> = |peer, seconds| iperf::streams(peer, seconds, &[&["-R"]]);
const FOUR: fn(&crate::peer::Peer, u32) -> crate::Result<super::Done> = |peer, seconds| iperf::streams(peer, seconds, &[&["-P", "4"]]);

pub static ALL: &[Work] = &[
    Work { name: "tcp", rows: &[more("TCP, one stream, A to B, MTU 1500", GIGABITS)], ..SWITCH },
    Work { name: "tcp-reverse", rows: &[more("TCP, one stream, B to A, MTU 1500", GIGABITS)], run: DOWN, ..SWITCH },
    Work { name: "tcp-four", rows: &[more("TCP, four streams, A to B, MTU 1500", GIGABITS)], run: FOUR, ..SWITCH },
    Work {
        name: "tcp-both",
        rows: &[more("TCP, both directions at once, sum, MTU 1500", GIGABITS)],
        run: |peer, seconds| iperf::streams(peer, seconds, &[&[], &["-R"]]),
        ..SWITCH
    },
    Work { name: "tcp-jumbo", rows: &[more("TCP, one stream, A to B, MTU 65520 on both", GIGABITS)], mtu: JUMBO, ..SWITCH },
    Work { name: "cubic", rows: &[more("TCP with cubic, one stream, A to B, MTU 1500", GIGABITS)], congestion_control: CUBIC, ..SWITCH },
    Work {
        name: "cubic-four",
        rows: &[more("TCP with cubic, four streams, A to B, MTU 1500", GIGABITS)],
        congestion_control: CUBIC,
        run: FOUR,
        ..SWITCH
    },
    Work {
        name: "cubic-jumbo",
        rows: &[more("TCP with cubic, one stream, A to B, MTU 65520 on both", GIGABITS)],
        mtu: JUMBO,
        congestion_control: CUBIC,
        ..SWITCH
    },
    Work {
        name: "frames-60",
        rows: &[more("60-byte frames forwarded under flood", "kpps")],
        quantity: "million frames",
        run: |peer, seconds| flood::measure(peer, seconds, 60),
        ..SWITCH
    },
    Work {
        name: "udp-64",
        rows: &[more("UDP, 64 B, highest rate with at most 0.1 % lost", "kpps")],
        quantity: "million datagrams",
        run: |peer, _| udp::highest(peer, udp::Way::Up, 64),
        ..SWITCH
    },
    Work {
        name: "ping-pong",
        rows: &[less("TCP ping-pong, half round trip, p50", "µs"), less("TCP ping-pong, half round trip, p99", "µs")],
        quantity: "million round trips",
        run: requests::ping_pong,
        ..SWITCH
    },
    Work {
        name: "connects",
        rows: &[more("TCP connections: connect, one byte, close", "1/s")],
        quantity: "million connections",
        run: requests::connects,
        ..SWITCH
    },
    Work { name: "nat-tcp-up", rows: &[more("NAT: TCP, one stream, container to host", GIGABITS)], ..NAT },
    Work { name: "nat-tcp-down", rows: &[more("NAT: TCP, one stream, host to container", GIGABITS)], run: DOWN, ..NAT },
    Work {
        name: "nat-cubic-up",
        rows: &[more("NAT: TCP with cubic, one stream, container to host", GIGABITS)],
        congestion_control: CUBIC,
        ..NAT
    },
    Work {
        name: "nat-cubic-down",
        rows: &[more("NAT: TCP with cubic, one stream, host to container", GIGABITS)],
        congestion_control: CUBIC,
        run: DOWN,
        ..NAT
    },
    Work {
        name: "nat-ping-pong",
        rows: &[less("NAT: TCP ping-pong, half round trip, p50", "µs"), less("NAT: TCP ping-pong, half round trip, p99", "µs")],
        quantity: "million round trips",
        run: requests::ping_pong,
        ..NAT
    },
    Work {
        name: "nat-connects",
        rows: &[more("NAT: TCP connections: connect, one byte, close", "1/s")],
        quantity: "million connections",
        run: requests::connects,
        ..NAT
    },
    Work {
        name: "nat-udp-64-up",
        rows: &[more("NAT: UDP, 64 B, container to host, at most 0.1 % lost", "kpps")],
        quantity: "million datagrams",
        run: |peer, _| udp::highest(peer, udp::Way::Up, 64),
        ..NAT
    },
    Work {
        name: "nat-udp-64-down",
        rows: &[more("NAT: UDP, 64 B, host to container, at most 0.1 % lost", "kpps")],
        quantity: "million datagrams",
        run: |peer, _| udp::highest(peer, udp::Way::Down, 64),
        ..NAT
    },
    Work {
        name: "nat-udp-1400-up",
        rows: &[more("NAT: UDP, 1400 B, container to host, at most 0.1 % lost", "kpps")],
        quantity: "million datagrams",
        run: |peer, _| udp::highest(peer, udp::Way::Up, 1400),
        ..NAT
    },
    Work {
        name: "nat-udp-1400-down",
        rows: &[more("NAT: UDP, 1400 B, host to container, at most 0.1 % lost", "kpps")],
        quantity: "million datagrams",
        run: |peer, _| udp::highest(peer, udp::Way::Down, 1400),
        ..NAT
    },
    // RFC 2889, 5.1, 5.2, 5.5, 5.7, 5.8 and 5.10; README.md says why not the others.
    Work { name: "mesh-full", rows: &[more("fully meshed, four ports, 60-byte frames received", "kpps")], run: mesh::full, ..MESH },
    Work { name: "mesh-one-to-many", rows: &[more("one to three, 60-byte frames received", "kpps")], run: mesh::one_to_many, ..MESH },
    Work {
        name: "mesh-many-to-one",
        rows: &[
            more("three to one, highest rate received at any load", "kpps"),
            more("three to one, rate received at overload", "kpps"),
            more("rate at overload of the highest", "ratio"),
        ],
        run: mesh::many_to_one,
        ..MESH
    },
    Work {
        name: "mesh-congestion",
        rows: &[less("lost on an uncongested port beside a congested one", "%")],
        run: mesh::congestion,
        ..MESH
    },
    Work {
        name: "mesh-caching",
        rows: &[more("address caching capacity, tried 1,000, 2,000, … 64,000", "addresses")],
        run: mesh::caching,
        ..MESH
    },
    Work { name: "mesh-learning", rows: &[more("address learning rate, tried up to 400", "kpps")], run: mesh::learning, ..MESH },
    Work { name: "mesh-broadcast", rows: &[more("broadcast, received by each of three", "kpps")], run: mesh::broadcast, ..MESH },
    Work {
        name: "mesh-latency",
        rows: &[
            less("one way, known address, p50", "µs"),
            less("one way, broadcast, p50", "µs"),
            less("first frame from an unknown to an unknown address, p50", "µs"),
            less("first frame from an unknown to an unknown address, p99", "µs"),
        ],
        run: mesh::latency,
        ..MESH
    },
    Work {
        name: "among-tcp",
        kind: Kind::Among,
        rows: &[more("TCP, one stream between two ports among 1,000 idle ones", GIGABITS)],
        ..SWITCH
    },
    Work { name: "flows-tcp-up", kind: Kind::Flows, rows: &[more("NAT: TCP, one stream beside 10,000 idle flows, up", GIGABITS)], ..NAT },
    Work {
        name: "hostile-tcp",
        kind: Kind::Hostile,
        rows: &[more("TCP between two, beside a container that sends mutated frames", GIGABITS)],
        ..SWITCH
    },
    Work {
        name: "hostile-nat",
        kind: Kind::HostileNat,
        rows: &[more("NAT: TCP up, beside a container that sends mutated frames", GIGABITS)],
        ..NAT
    },
    Work {
        name: "churn-udp",
        kind: Kind::Churn,
        rows: &[less("UDP, 64 B at 20 kpps, lost while containers come and go", "%")],
        quantity: "million datagrams",
        run: |peer, seconds| udp::lost(peer, 64, 20.0, seconds),
        ..SWITCH
    },
    Work {
        name: "lossy-up",
        kind: Kind::Lossy,
        rows: &[more("TCP up over 20 ms and 0.1 % loss outside", "Mbit/s")],
        run: |peer, seconds| iperf::megabits(peer, seconds, &[]),
        ..NAT
    },
    Work {
        name: "lossy-down",
        kind: Kind::Lossy,
        rows: &[more("TCP down over 20 ms and 0.1 % loss outside", "Mbit/s")],
        run: |peer, seconds| iperf::megabits(peer, seconds, &["-R"]),
        ..NAT
    },
    Work { name: "published-tcp-in", kind: Kind::Published, rows: &[more("published port, host to container", GIGABITS)], ..NAT },
    Work {
        name: "published-tcp-out",
        kind: Kind::Published,
        rows: &[more("published port, container to host", GIGABITS)],
        run: DOWN,
        ..NAT
    },
    Work {
        name: "start",
        kind: Kind::Start,
        rows: &[less("a container on a network that runs `true`, start to end", "ms")],
        quantity: "container",
        run: requests::starts,
        ..SWITCH
    },
    Work {
        name: "own-ports",
        kind: Kind::Own,
        rows: &[
            less("the daemon with one port", "MiB"),
            less("for each of 1,000 idle ports", "KiB"),
            less("processor used by the daemon with 1,000 idle ports", "%"),
            less("for each of 100 networks with a port", "KiB"),
        ],
        quantity: "work",
        run: |peer, _| own::ports(peer),
        ..SWITCH
    },
    Work {
        name: "own-flows",
        kind: Kind::Own,
        rows: &[
            less("for each of 10,000 idle flows that moved 1 MB", "KiB"),
            less("growth a minute after 10,000 flows were closed", "MiB"),
            more("flows that were open at once", "flows"),
        ],
        quantity: "GB",
        run: |peer, _| own::flows(peer),
        ..SWITCH
    },
];
