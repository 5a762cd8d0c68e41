//! Pings beyond the gateway.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    super::{testkit::*, *},
    echo_request, finished, is_summed,
};

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The identifier and sequence number of [`echo_request`].
const ID: u16 = 0x1234;
const SEQUENCE: u16 = 1;

struct Lab {
    gateway: Gateway,
    world: World,
    now: Time,
}

impl Lab {
    fn new(config: GatewayConfig) -> Self {
        Self { gateway: Gateway::new(view(config), 9), world: World::default(), now: Time::from_nanos(1_000_000_000) }
    }

    fn ping(&mut self, to: Ipv4Addr, payload: &[u8]) -> Result<(), DropReason> {
        self.gateway.frame(self.now, &finished(&echo_request(to, payload)), &mut self.world)
    }

    fn mapped(&mut self) -> &mut FakeEcho {
        let mut open = self.world.echo.values_mut().filter(|echo| !echo.closed);
        let one = open.next().unwrap();
        assert!(open.next().is_none());
        one
    }

    fn notice(&mut self) {
        for (socket, what) in self.world.notices() {
            self.gateway.ready(self.now, socket, what, &mut self.world);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        while self.gateway.next_timer().is_some_and(|at| at <= self.now) {
            self.gateway.timer(self.now, &mut self.world);
        }
    }

    /// The next packet that the container gets, from its IP header on.
    fn received(&mut self) -> Option<Vec<u8>> {
        let (bytes, offload) = self.world.emitted.pop_front()?;
        assert!(offload == Offload::default() && is_summed(&bytes[14..34]) && bytes[30..34] == CONTAINER.octets());
        Some(bytes[14..].to_vec())
    }
}

#[test]
fn a_ping_goes_out_with_its_number_and_payload_and_the_answer_comes_in_with_the_container_s_identifier() {
    let mut lab = Lab::new(config());
    lab.ping(PEER, b"payload").unwrap();
    let socket = lab.mapped();
    assert_eq!(socket.sent, [(PEER.into(), SEQUENCE, 63, b"payload".to_vec())], "a router takes one of the time to live");
    socket.inbox.push_back((PEER.into(), SEQUENCE, Some(57), b"payload".to_vec()));
    socket.inbox.push_back((PEER.into(), 2, None, Vec::new()));
    lab.notice();
    let reply = lab.received().unwrap();
    assert_eq!((&reply[12..16], reply[8], reply[9]), (&PEER.octets()[..], 56, 1));
    assert_eq!((&reply[20..22], &reply[24..]), (&[0, 0][..], &b"\x12\x34\0\x01payload"[..]));
    assert!(is_summed(&reply[20..]));
    let second = lab.received().unwrap();
    assert_eq!((second[8], &second[26..]), (64, &[0, 2][..]));
    assert!(lab.received().is_none());
}

#[test]
fn one_identifier_is_one_socket_whoever_is_pinged_and_it_ends_after_a_minute_of_silence() {
    let mut lab = Lab::new(config());
    lab.ping(PEER, b"").unwrap();
    lab.pass(Duration::from_secs(59));
    lab.ping(ROUTER, b"").unwrap();
    assert_eq!(lab.mapped().sent.iter().map(|sent| sent.0).collect::<Vec<_>>(), [IpAddr::from(PEER), IpAddr::from(ROUTER)]);
    let flows = lab.gateway.flows(lab.now);
    assert_eq!((flows.len(), flows[0].protocol, flows[0].inside), (1, "icmp", (CONTAINER, ID).into()));
    lab.pass(Duration::from_secs(59));
    lab.mapped();
    lab.pass(Duration::from_secs(1));
    assert!(lab.world.echo.values().all(|echo| echo.closed) && lab.gateway.flows(lab.now).is_empty());
    assert_eq!(lab.gateway.next_timer(), None);
}

#[test]
fn an_error_of_a_router_reaches_the_container_in_the_router_s_name_and_quotes_its_ping() {
    for (report, from, wanted) in [
        (Report { from: ROUTER.into(), kind: 11, code: 0, mtu: 0 }, ROUTER, [11, 0, 0, 0]),
        (Report { from: ROUTER.into(), kind: 3, code: 10, mtu: 1280 }, ROUTER, [3, 10, 0, 0]),
        (Report { from: ROUTER.into(), kind: 3, code: 4, mtu: 1280 }, ROUTER, [3, 4, 5, 0]),
        (Report { from: [10, 0, 0, 9].into(), kind: 3, code: 1, mtu: 0 }, GATEWAY, [3, 1, 0, 0]),
    ] {
        let mut lab = Lab::new(config());
        lab.ping(PEER, b"payload").unwrap();
        let error = EchoError { to: PEER.into(), sequence: SEQUENCE, error: OutsideError::HostUnreachable, report: Some(report) };
        lab.mapped().errors.push_back(error);
        lab.notice();
        let packet = lab.received().unwrap();
        assert_eq!(packet[12..16], from.octets());
        assert_eq!([packet[20], packet[21], packet[26], packet[27]], wanted);
        assert!(is_summed(&packet[20..]) && is_summed(&packet[28..48]));
        assert_eq!((&packet[40..44], &packet[44..48], packet[37]), (&CONTAINER.octets()[..], &PEER.octets()[..], 1));
        assert_eq!(packet[48..], [8, 0, 0, 0, 0x12, 0x34, 0, 1]);
    }
}

#[test]
fn what_the_host_finds_out_by_itself_is_told_in_the_gateway_s_name_and_an_old_error_costs_no_ping() {
    let mut lab = Lab::new(config());
    lab.ping(PEER, b"1").unwrap();
    let socket = lab.mapped();
    socket.errors.push_back(EchoError { to: PEER.into(), sequence: SEQUENCE, error: OutsideError::HostUnreachable, report: None });
    socket.send_errors.push_back(OutsideError::HostUnreachable);
    lab.ping(PEER, b"2").unwrap();
    assert_eq!(lab.mapped().sent.len(), 2, "the second was sent although the socket had an error to tell");
    let packet = lab.received().unwrap();
    assert_eq!((&packet[12..16], &packet[20..22]), (&GATEWAY.octets()[..], &[3, 1][..]));
    lab.mapped().send_errors.extend([OutsideError::NetworkUnreachable, OutsideError::NetworkUnreachable]);
    assert_eq!(lab.ping(PEER, b"3"), Err(DropReason::GatewayOutside));
    assert_eq!(lab.received().unwrap()[20..22], [3, 0]);
}

#[test]
fn an_error_without_a_name_of_its_own_costs_no_ping_in_either_direction() {
    let mut lab = Lab::new(config());
    lab.ping(PEER, b"1").unwrap();
    lab.mapped().send_errors.push_back(OutsideError::Rejected);
    lab.ping(PEER, b"2").unwrap();
    let socket = lab.mapped();
    assert_eq!(socket.sent.len(), 2);
    socket.read_errors.push_back(OutsideError::Rejected);
    socket.inbox.push_back((PEER.into(), SEQUENCE, None, b"2".to_vec()));
    lab.notice();
    assert!(lab.received().unwrap().ends_with(b"2"));
}

#[test]
fn a_ping_that_is_too_long_for_the_way_out_and_may_not_be_cut_is_answered_with_how_long_it_may_be() {
    let mut lab = Lab::new(config());
    lab.ping(PEER, b"1").unwrap();
    let socket = lab.mapped();
    assert!(socket.dont_fragment);
    socket.send_errors.push_back(OutsideError::MessageTooLong(0));
    socket.errors.push_back(EchoError { to: PEER.into(), sequence: 0, error: OutsideError::MessageTooLong(1300), report: None });
    assert_eq!(lab.ping(PEER, b"2"), Err(DropReason::GatewayTooBig));
    let packet = lab.received().unwrap();
    assert_eq!((&packet[12..16], &packet[20..22], &packet[26..28]), (&GATEWAY.octets()[..], &[3, 4][..], &1300u16.to_be_bytes()[..]));
    assert!(packet.ends_with(b"\x12\x34\0\x012"), "it quotes the ping itself");
    assert_eq!((lab.received(), lab.mapped().sent.len()), (None, 1));
}

#[test]
fn a_host_without_sockets_for_it_and_a_full_table_are_refusals_that_the_container_hears() {
    let mut lab = Lab::new(GatewayConfig { limits: Limits { echo_mappings: 1, ..Limits::default() }, ..config() });
    lab.world.open = Err(OutsideError::Forbidden);
    assert_eq!(lab.ping(PEER, b""), Err(DropReason::GatewayUnsupported));
    assert_eq!(lab.received().unwrap()[20..22], [3, 13]);
    lab.world.open = Ok(());
    lab.ping(PEER, b"").unwrap();
    let mut other = [8, 0, 0, 0, 0x99, 0x99, 0, 1];
    let sum = crate::checksum::finished(crate::checksum::sum(&other, 0)).to_be_bytes();
    other[2..4].copy_from_slice(&sum);
    assert_eq!(lab.gateway.frame(lab.now, &finished(&ipv4(PEER, 1, &other)), &mut lab.world), Err(DropReason::GatewayLimit));
    assert_eq!(lab.received().unwrap()[20..22], [3, 13]);
    lab.ping(PEER, b"again").unwrap();
    assert_eq!(lab.mapped().sent.len(), 2, "the old one lives");
}

#[test]
fn a_long_answer_is_cut_into_fragments_that_fit_the_network() {
    let mut lab = Lab::new(config());
    lab.ping(PEER, b"").unwrap();
    let payload: Vec<u8> = (0..4000u16).map(|at| (at % 251) as u8).collect();
    lab.mapped().inbox.push_back((PEER.into(), SEQUENCE, None, payload.clone()));
    lab.notice();
    let mut whole = Vec::new();
    while let Some(packet) = lab.received() {
        assert!(packet.len() <= 1500);
        let place = usize::from(u16::from_be_bytes([packet[6] & 0x1f, packet[7]])) * 8;
        assert_eq!(place, whole.len());
        whole.extend_from_slice(&packet[20..]);
    }
    assert!(is_summed(&whole) && whole[8..] == payload);
}

#[test]
fn a_ping_with_a_wrong_checksum_or_no_time_left_stays_inside() {
    let mut lab = Lab::new(config());
    assert_eq!(
        lab.gateway.frame(lab.now, &finished(&ipv4(PEER, 1, &[8, 0, 1, 2, 0, 0, 0, 0])), &mut lab.world),
        Err(DropReason::GatewayChecksum)
    );
    let mut last = echo_request(PEER, b"");
    last[22] = 1;
    last[24..26].fill(0);
    let sum = crate::checksum::finished(crate::checksum::sum(&last[14..34], 0)).to_be_bytes();
    last[24..26].copy_from_slice(&sum);
    lab.gateway.frame(lab.now, &finished(&last), &mut lab.world).unwrap();
    assert_eq!(lab.received().unwrap()[20..22], [11, 0]);
    assert!(lab.world.echo.is_empty());
    let internal = GatewayConfig { internal: true, ..config() };
    let mut lab = Lab::new(internal);
    assert_eq!(lab.ping(PEER, b""), Err(DropReason::GatewayForbidden));
    assert!(lab.world.echo.is_empty() && lab.received().is_some());
}
