//! Replays what the fuzzers know: every file of `tests/corpus/TARGET` goes through the target's body.
//!
//! `BLESS=1 cargo test -p netloom-switch --test corpus` writes the hand-made seeds anew.

mod seeds;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use netloom_switch::{
    Checksum, Mac, Offload, Verdict,
    gateway::testkit::script,
    testkit::{Built, Op, TcpFields, eth, fuzz, mac, neighbourhood},
    vnet::encode,
};

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("parse", fuzz::parse),
    ("vnet", fuzz::vnet),
    ("gso", fuzz::gso),
    ("handle_ops", fuzz::handle_ops),
    ("admit", fuzz::admit),
    ("gateway", fuzz::gateway),
    ("dns_stream", fuzz::dns_stream),
    ("dhcp", fuzz::dhcp),
    ("dhcp6", fuzz::dhcp6),
    ("frame", fuzz::frame),
    ("fragments", fuzz::fragments),
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

/// Frames of every shape that the switch reads, small enough to read in a hex dump.
fn frames() -> Vec<(&'static str, Built)> {
    let (a4, b4) = ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap());
    let (a6, b6) = ("[fd00::2]:4000".parse().unwrap(), "[fd00::3]:80".parse().unwrap());
    let (plain, fields) = (eth(mac(1), mac(2)), TcpFields { flags: 0x18, options: 3, ..TcpFields::default() });
    let verified = Offload { checksum: Checksum::Verified, gso: None };
    vec![
        ("runt", plain.filler(14).to_len(13)),
        ("filler", plain.filler(60)),
        ("verified", Built { offload: verified, ..plain.filler(60) }),
        ("arp", plain.arp_request([10, 0, 0, 2].into(), [10, 0, 0, 3].into())),
        ("udp4-options", plain.clone().extra(2).udp(a4, b4, b"hello")),
        ("udp6-extension", plain.clone().extra(2).udp(a6, b6, b"hello")),
        ("tcp4-tagged", plain.clone().tag(0x6005).tcp(a4, b4, fields, b"hello")),
        ("tcp4-partial", plain.tcp_partial(a4, b4, fields, b"hello")),
        ("tso4", plain.tcp_gso(a4, b4, fields, &[7; 100], 40)),
        ("tso6-tagged-extension", plain.clone().tag(5).extra(1).tcp_gso(a6, b6, fields, &[7; 100], 33)),
        ("uso4", plain.udp_gso(a4, b4, &[7; 100], 30)),
        ("uso6", plain.udp_gso(a6, b6, &[7; 100], 30)),
    ]
}

/// Frames that a container can send to the gateway of 10.0.0.0/24, and what it may get wrong.
fn frames_to_the_gateway() -> Vec<(&'static str, Built)> {
    let (gateway, container) = (Mac::from_ipv4([10, 0, 0, 1].into()), Mac::from_ipv4([10, 0, 0, 2].into()));
    let (a4, a6) = ("10.0.0.2:4000".parse().unwrap(), "[fd00::a:0:0:2]:4000".parse().unwrap());
    let (b4, b6, dns4) = ("192.0.2.9:80".parse().unwrap(), "[2001:db8::9]:80".parse().unwrap(), "10.0.0.1:53".parse().unwrap());
    let plain = eth(container, gateway);
    let syn = TcpFields { flags: 2, options: 3, ..TcpFields::default() };
    let query = b"\0\x09\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
    let icmp =
        |kind: u8| [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 192, 0, 2, 9, kind, 0, 0, 0][..], &[0, 7, 0, 1]].concat();
    let ethernet = |kind: [u8; 2], rest: &[u8]| Built {
        bytes: [&gateway.0[..], &container.0, &kind, rest].concat(),
        offload: Offload { checksum: Checksum::Verified, gso: None },
    };
    vec![
        ("arp", plain.arp_request([10, 0, 0, 2].into(), [10, 0, 0, 1].into())),
        ("tcp4-syn", plain.tcp(a4, b4, syn, b"")),
        ("tcp6-syn", plain.tcp(a6, b6, syn, b"")),
        ("tcp4-urgent-payload", plain.tcp(a4, b4, TcpFields { flags: 0x3f, options: 1, ..TcpFields::default() }, b"urgent")),
        ("tso4", plain.tcp_gso(a4, b4, TcpFields { flags: 0x18, ..TcpFields::default() }, &[7; 200], 40)),
        ("uso6", plain.udp_gso(a6, b6, &[7; 100], 30)),
        ("udp4-options", plain.clone().extra(2).udp(a4, b4, b"hello")),
        ("udp6-extensions", plain.clone().extra(2).udp(a6, b6, b"hello")),
        ("dns", plain.udp(a4, dns4, query)),
        ("tagged", plain.clone().tag(5).udp(a4, dns4, query)),
        ("ping", ethernet([8, 0], &icmp(8))),
        ("icmp-error", ethernet([8, 0], &icmp(3))),
        ("fragment4", ethernet([8, 0], &[0x45, 0, 0, 28, 0, 1, 0x20, 0, 64, 17, 0, 0, 10, 0, 0, 2, 192, 0, 2, 9, 0, 9, 0, 9, 0, 40, 0, 0])),
        ("ipv4-shorter-than-its-header", ethernet([8, 0], &[0x4f, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 192, 0, 2, 9])),
        ("ipv6-headers-without-end", ethernet([0x86, 0xdd], &[&[0x60, 0, 0, 0, 0, 48, 0, 64][..], &[0; 32], &[0; 48]].concat())),
    ]
}

/// Scripts for the switch: learn, move, age, fill the table, isolate, close.
fn scripts() -> Vec<(&'static str, Vec<[u8; Op::LEN]>)> {
    let frame = |port, src, dst| [7, port, src, dst, 0];
    let flood: Vec<_> = (6..20).map(|src| frame(1, src, 5)).collect();
    vec![
        ("learn-and-move", vec![frame(1, 5, 6), frame(2, 6, 5), frame(3, 6, 5), frame(1, 5, 6)]),
        ("age", vec![frame(1, 5, 6), [0, 255, 0, 0, 0], [0, 255, 0, 0, 0], frame(2, 6, 5), [1, 0, 0, 0, 0]]),
        ("fill-the-table", [vec![frame(2, 5, 6)], flood, vec![frame(3, 6, 5)]].concat()),
        ("isolate", vec![frame(1, 5, 6), [6, 0, 6, 9, 0], frame(2, 6, 5), frame(2, 6, 1)]),
        ("close-and-open", vec![[4, 5, 2, 0, 0], [2, 2, 0, 0, 0], frame(1, 6, 5), [3, 2, 1, 0, 7], [3, 2, 1, 0, 7], frame(2, 5, 6)]),
    ]
}

/// Scripts for the gateway: what each byte means stands in `gateway/testkit/script.rs`.
fn gateway_scripts() -> Vec<(&'static str, Vec<u8>)> {
    let [syn, ack, fin, rst] = [2, 0x10, 0x11, 4];
    let segment = |flags: u8, payload: u8| vec![2, if payload > 0 { 0x20 } else { 0 }, flags, 5, 0, 0, 0, payload, 0xff, 0xff];
    let segment6 =
        |flags: u8, payload: u8| [&[2, if payload > 0 { 0x20 } else { 0 }, flags, 141][..], &[0, 0, 0, payload, 0xff, 0xff]].concat();
    let (connected, wait) = (vec![6, 0, 0, 0, 0], |power: u8| vec![7, power]);
    let (data, host_fin) = (vec![6, 2, 0, 0xff, 0xff], vec![6, 3, 0, 0, 0]);
    let open = [segment(syn, 0), connected.clone(), segment(ack, 0)].concat();
    let query = |name: &[u8]| [&[5, 12 + name.len() as u8 + 4, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, 1]].concat();
    let forward = query(b"\x07example\x03com\0");
    vec![
        (
            "tcp-both-ways",
            [open.clone(), segment(0x18, 200), data.clone(), segment(ack, 0), segment(fin, 0), host_fin.clone(), segment(ack, 0)].concat(),
        ),
        ("tcp-refused", [segment(syn, 0), vec![6, 5, 0, 0, 0]].concat()),
        ("tcp-reset", [open.clone(), segment(rst, 0)].concat()),
        ("tcp-broken-outside", [open.clone(), vec![6, 5, 1, 0, 0]].concat()),
        ("tcp-retransmit-and-idle", [open, vec![6, 2, 0, 1, 0], wait(20), wait(22), wait(35)].concat()),
        ("accepted", [vec![8, 5, 0xc0, 0, 1], vec![2, 0x10, 0x12, 5, 0, 0, 0, 0, 0xff, 0xff], data.clone(), host_fin.clone()].concat()),
        ("udp-errors-and-fragments", vec![4, 1, 5, 9, 3, 1, 2, 3, 9, 5, 0, 0, 0, 0, 9, 5, 3, 0, 0x20, 0, 7, 30]),
        ("uso", vec![4, 1, 5, 200, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("dns-here", query(b"\x03web\0")),
        ("dns-answered", [forward.clone(), vec![9, 5, 1, 0, 0, 0]].concat()),
        ("dns-silence", [forward, wait(21), wait(21)].concat()),
        ("dns-compression-loop", query(&[0xc0, 0x0c])),
        (
            "ping-answered-and-refused",
            vec![10, 6, 3, 4, 1, 2, 3, 4, 11, 6, 0, 0, 0, 40, 11, 6, 1, 0, 0, 0, 11, 5, 227, 2, 5, 0, 10, 6, 3, 0],
        ),
        (
            "ping-cut-and-full",
            vec![10, 6, 1, 0, 10, 6, 2, 0, 10, 6, 3, 0, 10, 6, 4, 0, 11, 6, 4, 0, 0x20, 0, 11, 6, 2, 2, 0, 0, 10, 7, 1, 0, 7, 36],
        ),
        (
            "tcp6-both-ways",
            [segment6(syn, 0), connected.clone(), segment6(ack, 0), segment6(0x18, 200), data.clone(), segment6(ack, 0), segment6(fin, 0)]
                .concat(),
        ),
        ("udp6", vec![4, 1, 141, 9, 3, 1, 2, 3, 9, 141, 1, 0, 0x20, 0, 4, 1, 132, 9, 1, 7]),
        (
            "neighbour-solicitations",
            [vec![13, 7, 2, 2, 16, 1, 1, 2, 0x42, 10, 0, 0, 2], vec![13, 7, 5, 2, 0], vec![13, 7, 5, 2, 2, 1]].concat(),
        ),
        ("router-solicitations", [vec![13, 6, 3, 0, 1, 2], vec![13, 6, 5, 0, 1, 2], vec![7, 35]].concat()),
        ("discovery-with-bad-options", vec![13, 7, 2, 2, 16, 1, 0, 0, 0, 0, 0, 0, 0, 13, 7, 2, 2, 16, 1, 9, 0, 0, 0, 0, 0, 0]),
        ("ping6", vec![13, 0, 2, 128, 2, 1]),
        ("extension-headers", vec![12, 9, 2, 64, 0, 24, 60, 0, 5, 2, 0, 0, 1, 0, 43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 4, 0, 0, 0, 0, 0]),
        ("fragment6", vec![12, 9, 2, 64, 44, 8, 17, 0, 0, 1, 0, 0, 0, 7]),
        ("arp-and-junk", vec![0, 1, 8, 0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 4, 0x45, 0, 0, 9, 1, 0, 1, 3, 8, 0, 0]),
    ]
}

/// What clients say over TCP to a gateway's DNS: the size of the pieces, and messages with their lengths.
fn dns_streams() -> Vec<(&'static str, Vec<u8>)> {
    let message = |name: &[u8], kind: u8| {
        let message = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, kind, 0, 1]].concat();
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let (here, far) = (message(b"\x03web\0", 1), message(b"\x07example\x03com\0", 1));
    vec![
        ("one-byte-at-a-time", [&[1][..], &here, &here].concat()),
        ("pipelined-past-the-limit", [&[255][..], &far.repeat(6), &here].concat()),
        ("empty-and-short", [&[7, 0, 0, 0, 0, 0, 1, 9, 0, 12][..], &here].concat()),
        ("a-length-that-never-comes", [&[9, 0xff, 0xff][..], &here.repeat(20)].concat()),
        ("a-compression-loop", [&[255][..], &message(&[0xc0, 0x0c], 1)].concat()),
        ("a-response", [&[255][..], &[0, 12, 0, 7, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat()),
    ]
}

/// What DHCP clients say.
fn dhcp_messages() -> Vec<(&'static str, Vec<u8>)> {
    let message = |ciaddr: [u8; 4], options: &[u8]| {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[12..16].copy_from_slice(&ciaddr);
        [&bytes[..], &[99, 130, 83, 99], options, &[255]].concat()
    };
    let (none, own) = ([0; 4], [10, 0, 0, 2]);
    vec![
        ("discover", message(none, &[53, 1, 1, 55, 4, 1, 3, 119, 121, 61, 3, 1, 2, 3])),
        ("request", message(none, &[53, 1, 3, 54, 4, 10, 0, 0, 1, 50, 4, 10, 0, 0, 77])),
        ("renew", message(own, &[53, 1, 3])),
        ("decline", message(none, &[53, 1, 4, 54, 4, 10, 0, 0, 1, 50, 4, 10, 0, 0, 77])),
        ("release-and-overload", message(own, &[52, 1, 3, 53, 1, 7, 54, 4, 10, 0, 0, 1])),
        ("inform", message(own, &[53, 1, 8, 12, 3, 98, 111, 120])),
        ("options-that-end-early", message(none, &[53, 1, 1, 119, 200, 3])),
        ("names-that-loop", message(none, &[53, 1, 1, 119, 2, 0xc0, 0])),
        ("address-of-255-bytes", [&[1, 1, 255][..], &message(none, &[53, 1, 1])[3..]].concat()),
    ]
}

/// What DHCPv6 clients say.
fn dhcp6_messages() -> Vec<(&'static str, Vec<u8>)> {
    let option = |code: u8, content: &[u8]| [&[0, code, 0, content.len() as u8][..], content].concat();
    let address = option(5, &[&[0xfd, 0, 0, 0, 0, 0, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 8]].concat());
    let client = option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
    let own = option(2, &[0, 3, 0, 1, 0x02, 0x42, 10, 0, 0, 1]);
    let association = option(3, &[&[0, 0, 0, 7][..], &[0; 8], &address].concat());
    let message = |kind: u8, options: &[&[u8]]| [&[kind, 1, 2, 3][..], &options.concat()].concat();
    // The client's identity, the times, the option in it: as deep as a frame is long.
    let nested = (0..60).fold(Vec::new(), |inner: Vec<u8>, _| {
        let length = (12 + inner.len() as u16).to_be_bytes();
        [&[0, 3][..], &length, &[0; 12], &inner].concat()
    });
    vec![
        ("solicit", message(1, &[&client, &option(6, &[0, 23, 0, 24]), &option(8, &[0, 0]), &association])),
        ("solicit-rapid", message(1, &[&client, &option(14, &[]), &association])),
        ("request", message(3, &[&client, &own, &association])),
        ("confirm", message(4, &[&client, &association])),
        ("renew", message(5, &[&client, &own, &association])),
        ("rebind", message(6, &[&client, &association])),
        ("release", message(8, &[&client, &own, &association])),
        ("decline", message(9, &[&client, &own, &association])),
        ("information-request", message(11, &[&option(6, &[0, 23])])),
        ("prefixes-and-temporary-addresses", message(1, &[&client, &option(25, &[0; 12]), &option(4, &[0; 4])])),
        ("associations-in-associations", message(1, &[&client, &nested])),
        ("a-status-of-no-length", message(1, &[&client, &[0, 13, 0, 0], &[0, 16, 0, 1, 0], &association])),
        ("an-option-that-ends-early", message(1, &[&client, &[0, 3, 0xff, 0xff, 0]])),
        ("a-relay", [&[12, 0][..], &[0; 32], &option(9, &message(1, &[&client]))].concat()),
    ]
}

/// Scripts of fragments: what each byte means stands in `gateway/testkit/script.rs`.
fn fragment_scripts() -> Vec<(&'static str, Vec<u8>)> {
    // The kind's remainder by five is the protocol, its last bit is off where more fragments follow.
    let piece = |kind: u8, to: u8, id: u8, start: u16, count: u8| {
        let [s0, s1] = start.to_be_bytes();
        [&[kind, to, id, s0, s1, count][..], &vec![7; usize::from(count) * if kind >= 128 { 64 } else { 1 }]].concat()
    };
    let (more, last) = (20, 25);
    vec![
        ("in-order", [piece(more, 5, 1, 0, 16), piece(more, 5, 1, 16, 16), piece(last, 5, 1, 32, 9)].concat()),
        ("last-first-ipv6", [piece(last, 141, 1, 16, 9), piece(more, 141, 1, 0, 16)].concat()),
        ("overlap", [piece(more, 5, 1, 0, 16), piece(more, 5, 1, 8, 16), piece(last, 5, 1, 32, 9)].concat()),
        ("twice", [piece(more, 5, 1, 0, 16), piece(more, 5, 1, 0, 16), piece(last, 5, 1, 16, 9)].concat()),
        ("two-ends", [piece(last, 5, 1, 16, 9), piece(last, 5, 1, 64, 9), piece(more, 5, 1, 0, 16)].concat()),
        ("late-places", (0..6).flat_map(|id| piece(more, 5, id, 65_000, 8)).collect()),
        ("a-fragment-in-a-fragment", [piece(24, 141, 1, 0, 16), piece(29, 141, 1, 16, 16)].concat()),
        ("the-rest-never-comes", [piece(more, 5, 1, 0, 64), piece(more, 141, 1, 0, 64), [15; 5].to_vec()].concat()),
        ("long-ones", [piece(140, 5, 1, 0, 255), piece(145, 5, 1, 16_320, 255), piece(140, 5, 2, 0, 255)].concat()),
        ("any-bytes", vec![0, 6, 0x45, 0, 0, 24, 0, 1, 1, 9, 0x60, 0, 0, 0, 0, 4, 44, 64]),
    ]
}

fn bless() {
    for (target, _) in TARGETS {
        fs::create_dir_all(corpus(target)).unwrap();
    }
    for (name, built) in frames() {
        fs::write(corpus("parse").join(name), &built.bytes).unwrap();
        let with_header = [&encode(&built.offload, &built.bytes)[..], &built.bytes].concat();
        for target in ["vnet", "gso"] {
            fs::write(corpus(target).join(name), &with_header).unwrap();
        }
    }
    for (name, built) in frames_to_the_gateway() {
        fs::write(corpus("frame").join(name), [&encode(&built.offload, &built.bytes)[..], &built.bytes].concat()).unwrap();
    }
    for (name, built) in seeds::admit::rogues().into_iter().chain(seeds::admit::honest()) {
        fs::write(corpus("admit").join(name), [&encode(&built.offload, &built.bytes)[..], &built.bytes].concat()).unwrap();
    }
    for (name, script) in scripts() {
        fs::write(corpus("handle_ops").join(name), script.concat()).unwrap();
    }
    for (name, bytes) in dhcp_messages() {
        fs::write(corpus("dhcp").join(name), bytes).unwrap();
    }
    for (name, bytes) in dhcp6_messages() {
        fs::write(corpus("dhcp6").join(name), bytes).unwrap();
    }
    for (name, script) in fragment_scripts() {
        fs::write(corpus("fragments").join(name), script).unwrap();
    }
    for (name, bytes) in dns_streams() {
        fs::write(corpus("dns_stream").join(name), bytes).unwrap();
    }
    for (name, script) in gateway_scripts().into_iter().chain(seeds::segments::scripts()) {
        fs::write(corpus("gateway").join(name), script).unwrap();
    }
}

/// What is in a directory of this crate, by its name without an ending.
fn names_in(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_fuzzer_is_replayed_and_has_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz/fuzz_targets"), targets, "the fuzzers");
    assert_eq!(names_in("tests/corpus"), targets, "the corpora");
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    let is_built = |name: &String| manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\""));
    assert!(targets.iter().all(is_built), "cargo is told of each");
}

#[test]
fn what_the_fuzzers_know_still_holds() {
    if std::env::var_os("BLESS").is_some() {
        bless();
    }
    for (target, body) in TARGETS {
        let cases: Vec<PathBuf> = fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(cases.len() >= 5, "the corpus of {target} is there");
        for case in cases {
            println!("{}", case.display());
            body(&fs::read(&case).unwrap());
        }
    }
}

#[test]
fn the_flows_of_scripts_carry_what_their_containers_say() {
    let scripts: BTreeMap<_, _> = gateway_scripts().into_iter().chain(seeds::segments::scripts()).collect();
    for (name, bytes) in [
        ("tcp-both-ways", 200),
        ("tcp6-both-ways", 200),
        ("tcp-options-and-asleep", 2200),
        ("tcp6-options-and-asleep", 2200),
        // What goes straight to the host's socket is not asked for options; what does not is lost if they make no sense.
        ("tcp-option-of-no-length", 1400),
        ("tcp-option-past-the-header", 1400),
        ("tcp-option-cut-after-its-kind", 1400),
        ("tcp-options-of-absurd-size", 1600),
        ("tcp-urgent-pointer-lies", 2400),
    ] {
        assert_eq!(script::run(&scripts[name]), bytes, "{name}");
    }
}

#[test]
fn a_rogue_is_heard_for_what_it_is_and_refused_and_others_are_not() {
    let (mut lab, others) = neighbourhood();
    for (name, built) in seeds::admit::rogues() {
        assert!(others.hear(&built.frame()).is_some(), "{name} is a rogue");
        assert!(matches!(lab.send(2, &built), Verdict::Drop(_)), "{name}");
    }
    for (name, built) in seeds::admit::honest() {
        assert_eq!(others.hear(&built.frame()), None, "{name}");
        assert!(!matches!(lab.send(2, &built), Verdict::Drop(_)), "{name}");
    }
}
