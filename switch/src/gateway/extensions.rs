//! IPv6 extension headers (RFC 8200, 4): which the gateway walks past, and which end a packet's way.
//!
//! | header | what happens |
//! |---|---|
//! | hop-by-hop (only the first), destination options | walked past, if every option that is not known may be skipped (4.2) |
//! | routing | walked past when its way is done, dropped otherwise: the gateway is nobody's waypoint |
//! | fragment | walked past when it makes no fragment (RFC 6946); what is one waits for the others |
//! | anything else | not an extension header here: the packet's protocol |

use super::build::IPV6_HEADER;
use crate::{DropReason, parse::protocol};

/// Headers walked past in one packet; RFC 8200, 4.1 expects at most seven.
const MOST: usize = 8;

/// Where a walk past extension headers ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the packet's protocol, and where it begins.
    Payload(u8, usize),
    /// At a fragment header, which makes a fragment of the packet.
    Fragment(usize),
}

/// The protocol behind the extension headers of a whole packet, and where it begins; `next` is what the IPv6 header names.
pub(super) fn skip(packet: &[u8], next: u8) -> Result<(u8, usize), DropReason> {
    match walk(packet, next)? {
        End::Payload(protocol, at) => Ok((protocol, at)),
        End::Fragment(_) => Err(DropReason::GatewayFragment),
    }
}

/// Walks past the extension headers that ask for nothing.
pub(super) fn walk(packet: &[u8], mut next: u8) -> Result<End, DropReason> {
    let malformed = DropReason::GatewayMalformed;
    let mut at = IPV6_HEADER;
    for _ in 0..=MOST {
        let is_first = at == IPV6_HEADER;
        match next {
            protocol::HOP_BY_HOP if !is_first => return Err(malformed),
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS | protocol::ROUTING | protocol::FRAGMENT => (),
            _ => return Ok(End::Payload(next, at)),
        }
        let [after, units, second, third] = *packet.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(malformed)?;
        // The first eight bytes are not counted; a fragment header has no others (4.5).
        let len = if next == protocol::FRAGMENT { 8 } else { 8 + usize::from(units) * 8 };
        let header = packet.get(at..at + len).ok_or(malformed)?;
        match next {
            protocol::ROUTING if third != 0 => return Err(DropReason::GatewayUnsupported),
            protocol::FRAGMENT if u16::from_be_bytes([second, third]) & 0xfff9 != 0 => return Ok(End::Fragment(at)),
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => check_options(header.get(2..).unwrap_or_default())?,
            _ => (),
        }
        (next, at) = (after, at + len);
    }
    Err(malformed)
}

/// Whether nothing but options to be skipped stands here.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    const PAD1: u8 = 0;
    while let Some((&kind, rest)) = options.split_first() {
        if kind == PAD1 {
            options = rest;
            continue;
        }
        // The highest two bits say what becomes of a packet with an option that is not known.
        if kind >> 6 != 0 {
            return Err(DropReason::GatewayUnsupported);
        }
        let (&len, rest) = rest.split_first().ok_or(DropReason::GatewayMalformed)?;
        options = rest.get(usize::from(len)..).ok_or(DropReason::GatewayMalformed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(next: u8, headers: &[u8]) -> Result<(u8, usize), DropReason> {
        skip(&[&[0x60; IPV6_HEADER][..], headers].concat(), next)
    }

    #[test]
    fn headers_that_ask_for_nothing_are_walked_past() {
        assert_eq!(walk(6, b"tcp"), Ok((6, 40)));
        assert_eq!(walk(59, b""), Ok((59, 40)), "no next header");
        let router_alert = [0x3a, 0, 5, 2, 0, 0, 1, 0];
        assert_eq!(walk(0, &router_alert), Ok((58, 48)));
        let chain =
            [&[60, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[43, 0, 0, 0, 1, 2, 0, 0], &[44, 0, 4, 0, 0, 0, 0, 0]].concat();
        let atomic = [17, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(walk(0, &[&chain[..], &atomic].concat()), Ok((17, 80)));
        assert_eq!(walk(51, &[0; 8]), Ok((51, 40)), "authentication is somebody else's");
    }

    #[test]
    fn headers_that_ask_for_more_or_make_no_sense_end_the_way() {
        let table = [
            (
                "hop-by-hop that is not the first",
                60,
                [&[0, 0, 1, 4, 0, 0, 0, 0][..], &[6, 0, 1, 4, 0, 0, 0, 0]].concat(),
                DropReason::GatewayMalformed,
            ),
            ("an option that must be known", 0, vec![6, 0, 0x45, 4, 0, 0, 0, 0], DropReason::GatewayUnsupported),
            ("an option that leaves its header", 60, vec![6, 0, 1, 5, 0, 0, 0, 0], DropReason::GatewayMalformed),
            ("a header that leaves the packet", 60, vec![6, 1, 1, 4, 0, 0, 0, 0], DropReason::GatewayMalformed),
            ("half a header", 60, vec![6, 0, 1], DropReason::GatewayMalformed),
            ("a way that is not done", 43, vec![6, 2, 0, 1, 0, 0, 0, 0], DropReason::GatewayMalformed),
            ("a waypoint", 43, vec![6, 0, 0, 1, 0, 0, 0, 0], DropReason::GatewayUnsupported),
            ("a first fragment", 44, vec![6, 0, 0, 1, 0, 0, 0, 7], DropReason::GatewayFragment),
            ("a last fragment", 44, vec![6, 0, 0, 8, 0, 0, 0, 7], DropReason::GatewayFragment),
            ("a chain without end", 60, [60, 0, 1, 4, 0, 0, 0, 0].repeat(20), DropReason::GatewayMalformed),
        ];
        for (what, next, headers, reason) in table {
            assert_eq!(walk(next, &headers), Err(reason), "{what}");
        }
    }
}
