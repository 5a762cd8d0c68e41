//! TCP segments of a script: of one of a few flows, with numbers near those that the gateway expects, and anything beside them.

use std::net::IpAddr;

use super::{super::ip, Reader, Stage};
use crate::{Checksum, Gso, GsoKind, Offload, gateway::build::transport_at, parse::tcp_flags};

/// Bits of a segment's first byte: what comes with it. The lowest four are one of four ports of the container's, and of the server's.
const ANSWERS: u8 = 0x10;
const PAYLOAD: u8 = 0x20;
const OPTIONS: u8 = 0x40;
const LENGTH: u8 = 0x80;

/// Words of options that fit behind a header.
const OPTIONS_MAX: u8 = 10;

impl Stage {
    pub(super) fn segment(&mut self, rest: &mut Reader<'_>) {
        let (what, flags, to) = (rest.byte(), rest.byte(), rest.address());
        let sequence = self.heard.sequence.wrapping_add_signed(i32::from(rest.byte() as i8));
        let acknowledgement = self.heard.acknowledgement.wrapping_add_signed(i32::from(rest.byte() as i8) * 8);
        let words = if what & OPTIONS != 0 { rest.byte() % (OPTIONS_MAX + 1) } else { 0 };
        let options = rest.bytes(usize::from(words) * 4);
        // A length that is not the header's own may be anything.
        let length = if what & LENGTH != 0 { rest.byte() } else { 5 + words };
        let urgent = if flags & tcp_flags::URG != 0 { rest.word() } else { 0 };
        let payload = vec![what; usize::from(rest.word()) % 30_000 * usize::from(what & PAYLOAD != 0)];
        let (to, port, server) = match what & ANSWERS {
            0 => (to, 1 + u16::from(what & 3), 80 + u16::from(what >> 2 & 3)),
            _ => (self.heard.peer, self.heard.port, self.heard.peer_port),
        };
        let segment = [
            &port.to_be_bytes()[..],
            &server.to_be_bytes(),
            &sequence.to_be_bytes(),
            &acknowledgement.to_be_bytes(),
            &[length << 4, flags],
            &rest.word().to_be_bytes(),
            &[0; 2],
            &urgent.to_be_bytes(),
            &options,
            &payload,
        ]
        .concat();
        self.frame(&ip(to, 6, &segment), offload(to, length & 15 == 5 + words, payload.len()));
    }
}

/// What a container may leave to be done, and a port lets it: a superframe has a header that is what it says.
fn offload(to: IpAddr, is_right: bool, payload: usize) -> Offload {
    let kind = if to.is_ipv4() { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
    let gso = (is_right && payload > 1400).then(|| Gso { kind, size: 1400.try_into().unwrap(), ecn: false });
    Offload { checksum: Checksum::Partial { start: transport_at(to), offset: 16 }, gso }
}
