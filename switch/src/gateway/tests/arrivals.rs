//! Datagrams that go in together.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

use super::{
    super::{testkit::*, udp::BUDGET, *},
    udp::{Lab, Received},
};
use crate::{Frame, frame::FRAME_MAX, gso::Segments};

const PEERS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 5000), SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 11), 6000)];

/// What a peer sent, as its container sees it.
type Datagram = (SocketAddr, Vec<u8>);

impl Lab {
    /// These have come before anybody looks.
    fn arrive_together(&mut self, socket: SocketId, all: &[Datagram]) {
        let inbox = &mut self.world.udp.get_mut(&socket).unwrap().inbox;
        inbox.extend(all.iter().map(|(from, payload)| (*from, None, payload.clone())));
        self.notice();
    }

    /// The datagrams of what was sent to the container, each with a right checksum, and the number of frames that they came in.
    pub(super) fn delivered(&mut self) -> (Vec<Datagram>, usize) {
        let (mut datagrams, mut room) = (Vec::new(), vec![0; FRAME_MAX]);
        let frames: Vec<_> = self.world.emitted.drain(..).collect();
        for (bytes, offload) in &frames {
            let mut segments = Segments::new(&Frame { bytes, offload: *offload }, &mut room).unwrap();
            while let Some(bytes) = segments.next() {
                let Received { from, payload, .. } = Received::of(bytes);
                datagrams.push((from, payload));
            }
        }
        (datagrams, frames.len())
    }
}

fn numbered(peer: usize, len: usize, number: usize) -> Datagram {
    (PEERS[peer].into(), (0..len).map(|at| (at + number) as u8).collect())
}

#[test]
fn the_first_goes_in_at_once_and_what_is_like_it_in_one_frame() {
    for published in [false, true] {
        let mut lab = Lab::new(config());
        let socket = if published {
            lab.publish_at((CONTAINER, 7000).into())
        } else {
            lab.send(7000, PEERS[0], b"x").unwrap();
            lab.mapped()
        };
        let all: Vec<_> = (0..20).map(|number| numbered(0, 100, number)).collect();
        lab.arrive_together(socket, &all);
        assert_eq!(lab.delivered(), (all, 2));
    }
}

#[test]
fn a_run_is_no_longer_than_the_kernel_takes_nor_than_a_packet() {
    for (len, frames) in [(10, 1 + 2), (1472, 1 + 3), (1473, 2 * BUDGET)] {
        let mut lab = Lab::new(config());
        lab.send(7000, PEERS[0], b"x").unwrap();
        let all: Vec<_> = (0..BUDGET).map(|number| numbered(0, len, number)).collect();
        let socket = lab.mapped();
        lab.arrive_together(socket, &all);
        assert_eq!(lab.world.emitted.len(), frames, "{len} bytes");
    }
}

/// What one read of the kernel's gives: `count` of `len` bytes each and one of `last`.
fn together(len: usize, count: usize, last: usize) -> (Datagram, Vec<Datagram>) {
    let apart: Vec<_> = (0..=count).map(|number| numbered(0, if number < count { len } else { last }, number)).collect();
    let bytes = apart.iter().flat_map(|(_, payload)| payload.clone()).collect();
    ((PEERS[0].into(), bytes), apart)
}

#[test]
fn what_the_kernel_put_together_stays_together() {
    let many = [
        // (each, how many, the last, packets of the network, frames)
        (1200, 50, 1200, 1500, 1),
        (1200, 50, 7, 1500, 1),
        (500, 127, 500, 1500, 2),
        (10, 127, 9, 1500, 2),
        (1400, 45, 3, 1280, 2 * 45 + 1),
        (65_000, 1, 507, 1500, 44 + 1),
    ];
    for (len, count, last, mtu, frames) in many {
        let mut lab = Lab::new(GatewayConfig { mtu, ..config() });
        lab.send(7000, PEERS[0], b"x").unwrap();
        let socket = lab.mapped();
        lab.world.udp.get_mut(&socket).unwrap().each = Some(len);
        let (one, apart) = together(len, count, last);
        lab.arrive_together(socket, &[one]);
        assert_eq!(lab.world.emitted.len(), frames, "{count} of {len} bytes and {last}");
        if frames <= 2 {
            assert_eq!(lab.delivered().0, apart, "{count} of {len} bytes and {last}");
        }
    }
}

#[test]
fn of_what_came_together_each_counts_against_the_turn_and_when_it_is_dropped() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEERS[0], b"x").unwrap();
    let socket = lab.mapped();
    lab.world.udp.get_mut(&socket).unwrap().each = Some(100);
    let (one, _) = together(100, BUDGET - 1, 100);
    lab.arrive_together(socket, &[one.clone(), one]);
    assert_eq!(lab.delivered().0.len(), BUDGET, "the second waits for the next turn");
    lab.pass(std::time::Duration::from_millis(1));
    assert_eq!(lab.delivered().0.len(), BUDGET);
    let (forbidden, _) = together(100, 9, 1);
    lab.arrive_together(socket, &[(([127, 0, 0, 1], 99).into(), forbidden.1)]);
    assert_eq!(lab.world.drops, vec![DropReason::GatewayForbidden; 10]);
}

#[test]
fn an_error_on_the_way_neither_loses_nor_changes_what_waits() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEERS[0], b"x").unwrap();
    let socket = lab.mapped();
    let all: Vec<_> = (0..5).map(|number| numbered(0, 50, number)).collect();
    lab.world.udp.get_mut(&socket).unwrap().read_error_after = Some((3, OutsideError::Refused));
    lab.arrive_together(socket, &all);
    assert_eq!(lab.delivered().0, all);
}

proptest! {
    #[test]
    fn whatever_comes_together_goes_in_whole_and_in_its_order(
        all in prop::collection::vec((0..2usize, prop_oneof![1..4000usize, Just(64), Just(640), Just(64_000)]), 1..100),
        each in prop_oneof![Just(64usize), Just(1472), 1..200usize]
    ) {
        let all: Vec<_> = all.into_iter().enumerate().map(|(number, (peer, len))| numbered(peer, len, number)).collect();
        let apart: Vec<_> = all.iter().flat_map(|(from, bytes)| bytes.chunks(each).map(|payload| (*from, payload.to_vec()))).collect();
        let mut lab = Lab::new(config());
        lab.send(7000, PEERS[0], b"x").unwrap();
        let socket = lab.mapped();
        lab.world.udp.get_mut(&socket).unwrap().each = Some(each);
        lab.arrive_together(socket, &all);
        for _ in 0..apart.len() {
            lab.pass(std::time::Duration::from_millis(1));
        }
        prop_assert_eq!(lab.delivered().0, apart);
    }

    #[test]
    fn whatever_comes_goes_in_whole_and_in_its_order(
        all in prop::collection::vec((0..2usize, prop_oneof![Just(0usize), Just(64), Just(64), Just(64), 1..200usize, Just(1472)]), 1..300)
    ) {
        let all: Vec<_> = all.into_iter().enumerate().map(|(number, (peer, len))| numbered(peer, len, number)).collect();
        let mut lab = Lab::new(config());
        lab.send(7000, PEERS[0], b"x").unwrap();
        let socket = lab.mapped();
        lab.arrive_together(socket, &all);
        lab.pass(std::time::Duration::from_millis(1));
        lab.pass(std::time::Duration::from_millis(1));
        let (delivered, frames) = lab.delivered();
        prop_assert!(frames <= all.len());
        prop_assert_eq!(delivered, all);
    }
}
