//! What the fuzzers run, and what `cargo test` replays over the corpus: any bytes in, a panic if a promise is broken.

use super::{Model, Op, is_right_on_a_wire, joined, neighbourhood};
use crate::{
    Checksum, DropReason, Frame, Headers, PortId, Verdict,
    gso::Segments,
    parse::{Network, Transport},
    vnet::{self, VNET_HEADER},
};

/// Headers of any bytes: every offset lies inside, in order.
pub fn parse(bytes: &[u8]) {
    let Ok(headers) = Headers::parse(bytes) else {
        assert!(bytes.len() < 18, "only a runt has no headers");
        return;
    };
    let behind = headers.ethernet.len;
    if let Some(ethernet) = headers.ethernet.behind_priority_tags(bytes) {
        assert!(behind <= ethernet.len && ethernet.len <= bytes.len());
    }
    let (payload, end) = match headers.network {
        Network::Ipv4(ip) => {
            assert_eq!(ip.start, behind);
            (ip.payload, ip.end)
        }
        Network::Ipv6(ip) => {
            assert_eq!(ip.start, behind);
            (ip.payload, ip.end)
        }
        Network::Malformed | Network::Other => return assert_eq!(headers.transport, Transport::None),
    };
    assert!(behind < payload && payload <= end && end <= bytes.len());
    match headers.transport {
        Transport::Tcp(tcp) => assert!(tcp.start == payload && tcp.start + 20 <= tcp.payload && tcp.payload <= end),
        Transport::Udp(udp) => assert!(udp.start == payload && udp.start + 8 == udp.payload && udp.payload <= end),
        Transport::Fragment | Transport::Malformed | Transport::Other | Transport::None => {}
    }
}

/// A virtio header and a frame: what is accepted keeps the promises of [`vnet`](crate::vnet) and survives the way back.
pub fn vnet(bytes: &[u8]) {
    let Some((header, frame)) = bytes.split_first_chunk::<VNET_HEADER>() else { return };
    let offload = match vnet::decode(header, frame) {
        Ok(offload) => offload,
        Err(why) => return assert!(matches!(why, DropReason::BadOffload | DropReason::Runt)),
    };
    if let Checksum::Partial { start, offset } = offload.checksum {
        assert!(start >= 14 && usize::from(start) + usize::from(offset) + 2 <= frame.len());
    }
    let written = vnet::encode(&offload, frame);
    assert_eq!(vnet::decode(&written, frame), Ok(offload));
    if let Some(gso) = offload.gso {
        assert!(matches!(offload.checksum, Checksum::Partial { .. }));
        let (start, end) = Headers::parse(frame).unwrap().payload().unwrap();
        assert_eq!(u16::from_le_bytes([written[2], written[3]]), u16::try_from(start).unwrap(), "hdr_len is the frame's");
        assert!(end - start > usize::from(gso.size.get()), "a superframe has two segments");
    }
}

/// A virtio header and a frame: what is cut is right on a wire, and joined again it is the frame's payload.
pub fn gso(bytes: &[u8]) {
    let Some((header, frame)) = bytes.split_first_chunk::<VNET_HEADER>() else { return };
    let Ok(offload) = vnet::decode(header, frame) else { return };
    let mut buffer = vec![0; frame.len()];
    let mut segments = Segments::new(&Frame { bytes: frame, offload }, &mut buffer).expect("a checked offload can be cut");
    let mut cut = Vec::new();
    while let Some(segment) = segments.next() {
        cut.push(segment.to_vec());
    }
    let Some(gso) = offload.gso else { return assert_eq!(cut.len(), 1) };
    let (start, end) = Headers::parse(frame).unwrap().payload().unwrap();
    assert!(cut.len() == (end - start).div_ceil(usize::from(gso.size.get())) && cut.iter().all(|segment| is_right_on_a_wire(segment)));
    assert_eq!(joined(&cut), frame[start..end]);
}

/// A script for the switch: it does what the reference model does.
pub fn handle_ops(bytes: &[u8]) {
    let mut rest = bytes;
    let mut model = Model::new();
    while let Some(op) = Op::read(&mut rest) {
        model.step(&op);
    }
}

/// A virtio header and a frame from a container: nothing goes on that says something in the name of its neighbour or of the gateway.
pub fn admit(bytes: &[u8]) {
    let Some((header, bytes)) = bytes.split_first_chunk::<VNET_HEADER>() else { return };
    let Ok(offload) = vnet::decode(header, bytes) else { return };
    let (lab, others) = neighbourhood();
    let frame = Frame { bytes, offload };
    let verdict = lab.switch.handle(lab.now(), PortId(2), &frame);
    let heard = others.hear(&frame).filter(|_| !matches!(verdict, Verdict::Drop(_)));
    assert_eq!(heard, None, "{verdict:?} of {bytes:02x?} with {offload:?}");
}

/// What a DHCP client says to a gateway.
pub fn dhcp(bytes: &[u8]) {
    crate::gateway::testkit::script::dhcp(bytes);
}

/// A virtio header and a frame, as a container can send them to a gateway.
pub fn frame(bytes: &[u8]) {
    crate::gateway::testkit::script::frame(bytes);
}

/// What a DHCPv6 client says to a gateway.
pub fn dhcp6(bytes: &[u8]) {
    crate::gateway::testkit::script::dhcp6(bytes);
}

/// Fragments of packets for a gateway.
pub fn fragments(bytes: &[u8]) {
    crate::gateway::testkit::script::fragments(bytes);
}

/// What a client says over TCP to a gateway's DNS.
pub fn dns_stream(bytes: &[u8]) {
    crate::gateway::testkit::script::dns_stream(bytes);
}

/// A script for a gateway: hostile frames, a hostile world, a clock that leaps.
pub fn gateway(bytes: &[u8]) {
    crate::gateway::testkit::script::run(bytes);
}
