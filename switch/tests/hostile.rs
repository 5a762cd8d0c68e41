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
        is_v6: bool,
        steps in prop::collection::vec((prop::sample::select(vec![2u8, 3, 6, 6, 7]), prop::collection::vec(any::<u8>(), 8..12)), 1..150),
    ) {
        // Addresses of the script's, one of each family.
        let to = if is_v6 { 137 } else { 5 };
        let open = [2, 0, 2, to, 0, 0, 0, 0, 0xff, 0xff, 6, 0, 0, 0, 0, 2, 0, 0x10, to, 0, 0, 0, 0, 0xff, 0xff];
        let script = steps.into_iter().flat_map(|(op, mut bytes)| {
            if op <= 3 {
                // One flow or the one that spoke last, flags that mean something, and numbers that are mostly right.
                (bytes[0], bytes[2]) = (bytes[0] & 0x30, to);
                bytes[1] = [0x10, 0x10, 0x18, 0x11, 2, 4, 0x14][usize::from(bytes[1] % 7)];
                (bytes[3], bytes[4]) = (bytes[3] / 128, bytes[4] / 86);
            }
            std::iter::once(op).chain(bytes)
        });
        fuzz::gateway(&open.into_iter().chain(script).collect::<Vec<_>>());
    }
}
