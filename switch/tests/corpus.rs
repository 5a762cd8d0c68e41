//! Replays what the fuzzers know: every file of `tests/corpus/TARGET` goes through the target's body.
//!
//! `BLESS=1 cargo test -p netloom-switch --test corpus` writes the hand-made seeds anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use netloom_switch::{
    Checksum, Offload,
    testkit::{Built, Op, TcpFields, eth, fuzz, mac},
    vnet::encode,
};

const TARGETS: &[(&str, fn(&[u8]))] = &[("parse", fuzz::parse), ("vnet", fuzz::vnet), ("gso", fuzz::gso), ("handle_ops", fuzz::handle_ops)];

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
    for (name, script) in scripts() {
        fs::write(corpus("handle_ops").join(name), script.concat()).unwrap();
    }
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
