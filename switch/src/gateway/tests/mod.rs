//! What the gateway answers itself.

mod arrivals;
mod container;
mod dhcp;
mod dhcp6;
mod dns;
mod dns_tcp;
mod echo;
mod fragments;
mod ipv6;
mod policy;
mod publish;
mod tcp;
mod tcp_silence;
mod udp;

use std::net::Ipv4Addr;

use super::{testkit::*, *};
use crate::{Offload, checksum};

pub(super) fn finished(bytes: &[u8]) -> Frame<'_> {
    Frame { bytes, offload: Offload::default() }
}

/// Whether the checksum within `bytes` is right.
fn is_summed(bytes: &[u8]) -> bool {
    checksum::finished(checksum::sum(bytes, 0)) == 0
}

fn echo_request(to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut icmp = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], payload].concat();
    let sum = checksum::finished(checksum::sum(&icmp, 0)).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);
    ipv4(to, 1, &icmp)
}

fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[..6].fill(0xff);
    [&frame[..], &CONTAINER_MAC.0, &CONTAINER.octets(), &[0; 6], &target.octets()].concat()
}

#[test]
fn arp_is_answered_for_the_gateway_and_for_nobody_else() {
    let (mut gateway, mut world) = (Gateway::new(view(config()), 1), World::default());
    assert_eq!(gateway.frame(Time::ZERO, &finished(&arp_request(Ipv4Addr::new(10, 0, 0, 9))), &mut world), Ok(()));
    assert!(world.emitted.is_empty());
    assert_eq!(gateway.frame(Time::ZERO, &finished(&arp_request(GATEWAY)), &mut world), Ok(()));
    let (reply, offload) = world.emitted.pop_front().unwrap();
    let wanted = [
        &CONTAINER_MAC.0[..],
        &GATEWAY_MAC.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        &GATEWAY_MAC.0,
        &GATEWAY.octets(),
        &CONTAINER_MAC.0,
        &CONTAINER.octets(),
    ]
    .concat();
    assert_eq!((reply, offload), (wanted, Offload::default()));
}

#[test]
fn a_ping_to_the_gateway_comes_back_whole() {
    let (mut gateway, mut world) = (Gateway::new(view(config()), 1), World::default());
    assert_eq!(gateway.frame(Time::ZERO, &finished(&echo_request(GATEWAY, b"payload")), &mut world), Ok(()));
    let (reply, _) = world.emitted.pop_front().unwrap();
    assert_eq!(reply[..14], [&CONTAINER_MAC.0[..], &GATEWAY_MAC.0, &[8, 0]].concat());
    assert_eq!((&reply[26..30], &reply[30..34]), (&GATEWAY.octets()[..], &CONTAINER.octets()[..]));
    assert_eq!(checksum::finished(checksum::sum(&reply[14..34], 0)), 0);
    assert_eq!(checksum::finished(checksum::sum(&reply[34..], 0)), 0);
    assert_eq!((&reply[34..36], &reply[38..]), (&[0, 0][..], &b"\x12\x34\0\x01payload"[..]));
}
