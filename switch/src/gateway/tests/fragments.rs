//! Packets in fragments from the container: put together, or dropped with a reason, within bounds.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    super::{
        fragments::{Fragment, Fragments},
        testkit::*,
        *,
    },
    finished,
    udp::Lab,
};

const PEERS: [&str; 2] = ["192.0.2.10:5000", "[2001:db8::10]:5000"];

fn send(lab: &mut Lab, pieces: &[Vec<u8>]) -> Vec<Result<(), DropReason>> {
    pieces.iter().map(|piece| lab.gateway.frame(lab.now, &finished(piece), &mut lab.world)).collect()
}

/// A datagram from the container, in fragments of at most `size` bytes of payload.
fn cut(to: SocketAddr, payload: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let whole = udp(7000, to, payload);
    let transport = &whole[if to.is_ipv4() { 34 } else { 54 }..];
    let last = (transport.len() - 1) / size;
    transport.chunks(size).enumerate().map(|(at, part)| fragment(to.ip(), 17, id, at * size, at < last, part)).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8).collect()
}

#[test]
fn the_longest_datagram_goes_out_whole_in_whatever_order_its_fragments_come() {
    for to in PEERS.map(|to| to.parse().unwrap()) {
        for order in 0..3 {
            let mut lab = Lab::new(config());
            let payload = pattern(65_507);
            let mut pieces = cut(to, &payload, 9, 1448);
            match order {
                0 => (),
                1 => pieces.reverse(),
                _ => pieces.rotate_left(17),
            }
            assert!(send(&mut lab, &pieces).iter().all(Result::is_ok));
            let socket = lab.mapped();
            assert_eq!(lab.world.udp[&socket].sent, [(to, None, payload)]);
            assert!(!lab.world.udp[&socket].departure.dont_fragment, "what its sender has cut may be cut again");
            assert_eq!((lab.gateway.fragments.held(), lab.world.drops.len()), ((0, 0), 0));
        }
    }
}

/// The packet that the gateway sent in fragments, none of which is longer than the network takes.
fn joined(lab: &mut Lab) -> Vec<u8> {
    let mut fragments = Fragments::default();
    let mut pieces = lab.world.emitted.drain(..);
    let whole = pieces.find_map(|(piece, _)| {
        assert!(piece.len() <= 14 + 1500);
        fragments.take(lab.now, GATEWAY_MAC, &Fragment::parse(&piece[14..]).unwrap(), 1).unwrap().map(|whole| whole.bytes().to_vec())
    });
    assert_eq!(pieces.next(), None, "nothing comes after the last fragment");
    whole.unwrap()
}

#[test]
fn a_long_ping_is_answered_by_the_gateway_in_fragments_that_join() {
    let ends: [(IpAddr, u8, [u8; 2]); 2] = [(GATEWAY.into(), 1, [8, 0]), (GATEWAY6.into(), 58, [128, 129])];
    for (to, protocol, [request, reply]) in ends {
        for len in [1500, 3000, 65_507] {
            let mut message = [&[request, 0, 0, 0, 0x12, 0x34, 0, 1][..], &pattern(len)].concat();
            let pseudo = if to.is_ipv4() { 0 } else { crate::checksum::pseudo(container(to), to, protocol, message.len() as u16) };
            let sum = crate::checksum::finished(crate::checksum::sum(&message, pseudo)).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
            let mut lab = Lab::new(config());
            let last = (message.len() - 1) / 1448;
            let pieces: Vec<_> =
                message.chunks(1448).enumerate().map(|(at, part)| fragment(to, protocol, 3, at * 1448, at < last, part)).collect();
            assert!(send(&mut lab, &pieces).iter().all(Result::is_ok));
            let whole = joined(&mut lab);
            let answer = Packet::from_bytes(GATEWAY_MAC, &whole, Offload::default()).unwrap();
            assert_eq!((answer.source, answer.destination), (to, container(to)));
            assert!(icmp::is_sound(&answer) && answer.payload[..2] == [reply, 0] && answer.payload[4..] == message[4..], "{len} bytes");
        }
    }
}

#[test]
fn fragments_that_overlap_end_their_datagram_and_what_follows_of_it() {
    for to in PEERS.map(|to| to.parse::<SocketAddr>().unwrap()) {
        let mut lab = Lab::new(config());
        let pieces = cut(to, &pattern(4000), 9, 1448);
        let overlapping = fragment(to.ip(), 17, 9, 1440, true, &[1; 16]);
        assert_eq!(send(&mut lab, &[pieces[0].clone(), overlapping]), [Ok(()), Err(DropReason::GatewayFragment)]);
        assert_eq!(send(&mut lab, &pieces), [Err(DropReason::GatewayFragment); 3]);
        assert!(lab.world.udp.is_empty());
        // Another datagram, and the same identification a minute later, are none of its business.
        assert!(send(&mut lab, &cut(to, b"another datagram, in more than one", 10, 16)).iter().all(Result::is_ok));
        lab.pass(Duration::from_secs(60));
        assert!(send(&mut lab, &pieces).iter().all(Result::is_ok));
        assert_eq!(lab.world.udp.values().map(|udp| udp.sent.len()).sum::<usize>(), 2);
    }
}

#[test]
fn a_fragment_that_comes_twice_does_no_harm() {
    let mut lab = Lab::new(config());
    let to = PEERS[0].parse().unwrap();
    let pieces = cut(to, &pattern(4000), 9, 1448);
    let twice = [&pieces[..2], &pieces[..2], &pieces[2..]].concat();
    assert!(send(&mut lab, &twice).iter().all(Result::is_ok));
    assert_eq!(lab.world.udp[&lab.mapped()].sent, [(to, None, pattern(4000))]);
}

#[test]
fn a_rest_that_does_not_come_is_told_after_a_minute_if_the_first_fragment_did() {
    for (to, kind) in PEERS.map(|to| to.parse::<SocketAddr>().unwrap()).into_iter().zip([(11, 1), (3, 1)]) {
        let mut lab = Lab::new(config());
        let pieces = cut(to, &pattern(4000), 9, 1448);
        send(&mut lab, &pieces[..1]);
        send(&mut lab, &cut(to, &pattern(4000), 10, 1448)[1..]);
        lab.pass(Duration::from_secs(59));
        assert!(lab.world.drops.is_empty() && lab.world.emitted.is_empty());
        lab.pass(Duration::from_secs(1));
        assert_eq!(lab.world.drops, [DropReason::GatewayFragmentTimeout; 2]);
        assert_eq!(lab.world.emitted.len(), 1);
        let (error, _) = lab.world.emitted.pop_front().unwrap();
        let error = Packet::parse(GATEWAY_MAC, &finished(&error)).unwrap();
        assert!(icmp::is_sound(&error));
        assert_eq!((error.payload[0], error.payload[1]), kind);
        let quoted = &pieces[0][14..];
        assert!(quoted.starts_with(&error.payload[8..]), "the quote is the first fragment's beginning");
        assert_eq!((lab.gateway.fragments.held(), lab.gateway.next_timer()), ((0, 0), None));
    }
}

#[test]
fn at_the_limit_a_new_datagram_is_refused_and_an_old_one_gets_its_rest() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { fragments: 2, ..Limits::default() }, ..config() });
    let to = PEERS[0].parse().unwrap();
    let of = |id| cut(to, &pattern(2000), id, 1448);
    assert_eq!(send(&mut lab, &[of(1)[0].clone(), of(2)[0].clone()]), [Ok(()); 2]);
    assert_eq!(send(&mut lab, &of(3)), [Err(DropReason::GatewayFragmentLimit); 2]);
    assert_eq!(send(&mut lab, &of(1)[1..]), [Ok(())]);
    assert_eq!(send(&mut lab, &of(3)), [Ok(()); 2]);
}

#[test]
fn the_bytes_that_wait_are_bounded_whatever_their_places_are() {
    let mut lab = Lab::new(config());
    let to: IpAddr = Ipv4Addr::new(192, 0, 2, 10).into();
    let late: Vec<_> = (0..64).map(|id| fragment(to, 17, id, 65_000, true, &[1; 8])).collect();
    let refused = send(&mut lab, &late).iter().filter(|result| **result == Err(DropReason::GatewayFragmentLimit)).count();
    let (count, bytes) = lab.gateway.fragments.held();
    assert!(refused > 0 && count + refused == 64 && bytes <= 1 << 20, "{count} of {bytes} bytes, {refused} refused");
}

#[test]
fn fragments_that_cannot_be_are_dropped() {
    let to: IpAddr = Ipv4Addr::new(192, 0, 2, 10).into();
    let to6: IpAddr = PEERS[1].parse::<SocketAddr>().unwrap().ip();
    let mut foreign = fragment(to, 17, 1, 0, true, &[1; 8]);
    foreign[26..30].copy_from_slice(&[10, 0, 1, 2]);
    foreign[24..26].fill(0);
    let sum = crate::checksum::finished(crate::checksum::sum(&foreign[14..34], 0)).to_be_bytes();
    foreign[24..26].copy_from_slice(&sum);
    let table = [
        ("not of eights", DropReason::GatewayMalformed, fragment(to, 17, 1, 0, true, &[1; 9])),
        ("not of eights, IPv6", DropReason::GatewayMalformed, fragment(to6, 17, 1, 0, true, &[1; 9])),
        ("an end beyond every packet", DropReason::GatewayMalformed, fragment(to, 17, 1, 65_528, false, &[1; 8])),
        ("nothing in it", DropReason::GatewayMalformed, fragment(to, 17, 1, 8, false, &[])),
        ("another's source", DropReason::SpoofedSource, foreign),
    ];
    for (what, reason, frame) in table {
        let mut lab = Lab::new(config());
        assert_eq!(send(&mut lab, &[frame]), [Err(reason)], "{what}");
        assert_eq!(lab.gateway.fragments.held().0, 0, "{what}");
    }
    let mut lab = Lab::new(config());
    let too_long = [fragment(to, 17, 1, 0, true, &[1; 65_480]), fragment(to, 17, 1, 65_480, false, &[1; 50])];
    assert_eq!(send(&mut lab, &too_long), [Ok(()), Err(DropReason::GatewayMalformed)], "with its header it is no packet");
}

/// What the reference knows of one packet.
#[derive(Default)]
struct Known {
    pieces: BTreeMap<usize, (Vec<u8>, bool)>,
    spoilt: bool,
    until: Time,
}

/// The reference: slow, and without a shared buffer.
#[derive(Default)]
struct Model(BTreeMap<u16, Known>);

impl Model {
    fn take(&mut self, now: Time, most: usize, (id, start, more, bytes): (u16, usize, bool, &[u8])) -> Result<Option<Vec<u8>>, DropReason> {
        if !self.0.contains_key(&id) && self.0.len() >= most {
            return Err(DropReason::GatewayFragmentLimit);
        }
        let known = self.0.entry(id).or_insert_with(|| Known { until: now + Duration::from_secs(60), ..Known::default() });
        if known.spoilt {
            return Err(DropReason::GatewayFragment);
        }
        let end = start + bytes.len();
        if known.pieces.get(&start).is_some_and(|(same, and)| same == bytes && *and == more) {
            return Ok(None);
        }
        let clash = known.pieces.iter().any(|(from, (other, other_more))| {
            let until = from + other.len();
            (*from < end && start < until) || (!more && (until > end || !other_more)) || (!other_more && end > until)
        });
        if clash {
            known.spoilt = true;
            return Err(DropReason::GatewayFragment);
        }
        known.pieces.insert(start, (bytes.to_vec(), more));
        let mut whole = Vec::new();
        for (from, (part, more)) in &known.pieces {
            if *from != whole.len() {
                break;
            }
            whole.extend_from_slice(part);
            if !more {
                self.0.remove(&id);
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn fragments_join_as_the_reference_says(
        is_ipv6: bool,
        script in prop::collection::vec((0..4u16, 0..6usize, 1..4usize, any::<bool>(), 0..2u8, 0..8u64), 0..60),
    ) {
        let to: IpAddr = PEERS[usize::from(is_ipv6)].parse::<SocketAddr>().unwrap().ip();
        let (mut fragments, mut model, mut now) = (Fragments::default(), Model::default(), Time::ZERO);
        for (id, start, count, more, fill, pause) in script {
            // The first that is the last as well is no fragment.
            let more = more || start == 0;
            now = now + Duration::from_secs(pause);
            while fragments.expired(now).is_some() {}
            model.0.retain(|_, known| known.until > now);
            let bytes = vec![fill; count * 8 - usize::from(!more) * 3];
            let frame = fragment(to, 17, id, start * 8, more, &bytes);
            let taken = fragments.take(now, CONTAINER_MAC, &Fragment::parse(&frame[14..]).unwrap(), 3);
            let taken = taken.map(|whole| whole.map(|whole| {
                let packet = Packet::from_bytes(CONTAINER_MAC, whole.bytes(), Offload::default()).unwrap();
                assert_eq!((packet.protocol, packet.destination), (17, to));
                packet.payload.to_vec()
            }));
            prop_assert_eq!(taken, model.take(now, 3, (id, start * 8, more, &bytes)));
            prop_assert_eq!(fragments.held().0, model.0.len());
        }
    }
}
