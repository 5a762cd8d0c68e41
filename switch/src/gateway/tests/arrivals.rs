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

#[test]
fn an_error_on_the_way_neither_loses_nor_changes_what_waits() {
    let mut lab = Lab::new(config());
    lab.send(7000, PEERS[0], b"x").unwrap();
    let socket = lab.mapped();
    let all: Vec<_> = (0..5).map(|number| numbered(0, 50, number)).collect();
    lab.world.udp.get_mut(&socket).unwrap().read_error_after = Some(3);
    lab.arrive_together(socket, &all);
    assert_eq!(lab.delivered().0, all);
}

proptest! {
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
