//! Headers and frames that were right until somebody changed a few bytes of them.

use std::net::SocketAddr;

use netloom_switch::{
    testkit::{Built, TcpFields, eth, fuzz, mac},
    vnet::encode,
};
use proptest::prelude::*;

prop_compose! {
    fn superframe()(
        is_v6: bool, is_tcp: bool, tagged: bool, extra in 0u8..3, options in 0u8..4, payload in 1usize..3000, size in 1u16..2000,
    ) -> Built {
        let (a, b): (SocketAddr, SocketAddr) = if is_v6 {
            ("[fd00::2]:4000".parse().unwrap(), "[fd00::3]:80".parse().unwrap())
        } else {
            ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap())
        };
        let head = eth(mac(1), mac(2)).extra(extra);
        let head = if tagged { head.tag(3) } else { head };
        let payload = vec![7; payload];
        if is_tcp { head.tcp_gso(a, b, TcpFields { options, ..TcpFields::default() }, &payload, size) } else { head.udp_gso(a, b, &payload, size) }
    }
}

/// TCP options of up to ten words: such as kernels say, odd ones, and any bytes.
fn tcp_options() -> impl Strategy<Value = Vec<u8>> {
    let said: Vec<&[u8]> = vec![
        &[1],
        &[2, 4, 5, 180],
        &[2, 4, 0, 1],
        &[3, 3, 7],
        &[3, 3, 255],
        &[4, 2],
        &[5, 10, 0, 0, 0, 1, 0, 0, 0, 9],
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0],
        &[2, 0],
        &[8, 200],
    ];
    let some = prop::collection::vec(prop::sample::select(said), 0..6).prop_map(|options| options.concat());
    prop_oneof![some, prop::collection::vec(any::<u8>(), 0..40)].prop_map(|mut options| {
        options.resize(options.len().min(40).next_multiple_of(4), 1);
        options
    })
}

prop_compose! {
    /// A segment in a script, of one flow or the one that spoke last: flags that mean something, and numbers that are mostly right.
    fn segment()(
        what: u8, flags in prop::sample::select(vec![0x10u8, 0x10, 0x18, 0x38, 0x11, 2, 4, 0x14]), sequence in 0u8..2,
        acknowledgement in 0u8..3, options in tcp_options(), length in prop::option::weighted(0.05, any::<u8>()),
        urgent: [u8; 2], rest: [u8; 4],
    ) -> Vec<u8> {
        let what = what & 0x30 | 0x40 | if length.is_some() { 0x80 } else { 0 };
        let urgent = if flags & 0x20 != 0 { &urgent[..] } else { &[] };
        let head = [2, what, flags, 0, sequence, acknowledgement, (options.len() / 4) as u8];
        [&head[..], &options, length.as_slice(), urgent, &rest].concat()
    }
}

/// Something that happens outside, or time that passes, and any bytes behind it.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 8..12);
    (prop::sample::select(vec![6u8, 6, 7]), bytes).prop_map(|(op, bytes)| [&[op][..], &bytes].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn a_spoiled_header_or_frame_breaks_no_promise(
        built in superframe(),
        changes in prop::collection::vec((0usize..130, any::<u8>()), 0..4),
        cut in prop::option::weighted(0.3, 0usize..3100),
    ) {
        let mut bytes = [&encode(&built.offload, &built.bytes)[..], &built.bytes].concat();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        fuzz::vnet(&bytes);
        fuzz::gso(&bytes);
        fuzz::parse(bytes.get(12..).unwrap_or_default());
    }

    #[test]
    fn the_gateway_keeps_its_promises_whatever_comes(script in prop::collection::vec(any::<u8>(), 0..1500)) {
        fuzz::gateway(&script);
    }

    #[test]
    fn a_dhcp_message_of_any_bytes_breaks_no_promise(
        changes in prop::collection::vec((0usize..300, any::<u8>()), 0..6), options in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = vec![0; 236];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes.extend([99, 130, 83, 99, 53, 1, 1 + options.len() as u8 % 8]);
        bytes.extend(options);
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        fuzz::dhcp(&bytes);
    }

    #[test]
    fn a_client_over_tcp_gets_whole_answers_or_none_whatever_it_says(
        piece in 1u8..40, parts in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 0..30)), 0..20),
    ) {
        let question = [0, 21, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, b'w', b'e', b'b', 0, 0, 1, 0, 1];
        let bytes = parts.iter().flat_map(|(kind, junk)| match kind {
            0 => junk.clone(),
            1 => [&(junk.len() as u16).to_be_bytes()[..], junk].concat(),
            _ => question.to_vec(),
        });
        fuzz::dns_stream(&std::iter::once(piece).chain(bytes).collect::<Vec<_>>());
    }

    #[test]
    fn a_tcp_flow_keeps_its_promises_whatever_its_ends_do(
        is_v6: bool, options in tcp_options(), steps in prop::collection::vec(prop_oneof![2 => segment(), 3 => event()], 1..150),
    ) {
        // Addresses of the script's, one of each family.
        let to = if is_v6 { 141 } else { 5 };
        let syn = [&[2, 0x40, 2, to, 0, 0, (options.len() / 4) as u8][..], &options, &[0, 0, 0xff, 0xff]].concat();
        let (connected, ack) = ([6, 0, 0, 0, 0], [2, 0, 0x10, to, 0, 0, 0, 0, 0xff, 0xff]);
        let script = steps.into_iter().flat_map(|mut step| {
            if step[0] == 2 {
                step[3] = to;
            }
            step
        });
        fuzz::gateway(&syn.into_iter().chain(connected).chain(ack).chain(script).collect::<Vec<_>>());
    }
}
