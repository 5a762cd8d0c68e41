//! TCP between a container and the world.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use smoltcp::socket::tcp::{RecvError, State};

use super::{
    super::{testkit::*, *},
    container::Lab,
};
use crate::{Checksum, Offload};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 80), 80);

/// Bytes that tell where they stand.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A lab with an open connection.
pub(super) fn connected(config: GatewayConfig, superframes: bool) -> (Lab, smoltcp::iface::SocketHandle) {
    connected_to(SERVER.into(), config, superframes)
}

pub(super) fn connected_to(server: SocketAddr, config: GatewayConfig, superframes: bool) -> (Lab, smoltcp::iface::SocketHandle) {
    let mut lab = Lab::new(config, superframes);
    let handle = lab.connect(server, 40_000);
    lab.settle();
    lab.host().outcome = Some(Ok(()));
    lab.settle();
    assert_eq!(lab.state(handle), State::Established);
    (lab, handle)
}

/// What the container's socket has received.
pub(super) fn drain(lab: &mut Lab, handle: smoltcp::iface::SocketHandle, into: &mut Vec<u8>) {
    while lab.socket(handle).can_recv() {
        lab.socket(handle).recv(|bytes| (bytes.len(), into.extend_from_slice(bytes))).unwrap();
    }
}

#[test]
fn a_connect_is_answered_only_when_the_host_is_connected() {
    let mut lab = Lab::new(config(), true);
    let handle = lab.connect(SERVER, 40_000);
    lab.settle();
    assert_eq!((lab.state(handle), lab.host().to), (State::SynSent, Some(SERVER.into())));
    assert_eq!(lab.gateway.flows(lab.now)[0].state, "connecting");
    lab.host().outcome = Some(Ok(()));
    lab.settle();
    assert_eq!((lab.state(handle), lab.gateway.flows(lab.now)[0].state), (State::Established, "established"));
}

#[test]
fn a_refused_connect_is_a_reset() {
    let mut lab = Lab::new(config(), true);
    let handle = lab.connect(SERVER, 40_000);
    lab.settle();
    lab.host().outcome = Some(Err(OutsideError::Refused));
    lab.settle();
    assert_eq!(lab.state(handle), State::Closed);
    assert!(lab.host().closed && lab.gateway.flows(lab.now).is_empty() && lab.icmp.is_empty());
}

#[test]
fn an_unreachable_host_is_icmp_of_that_kind_and_a_timeout_is_silence() {
    let kinds = [
        (OutsideError::NetworkUnreachable, vec![(3, 0)]),
        (OutsideError::HostUnreachable, vec![(3, 1)]),
        (OutsideError::Forbidden, vec![(3, 13)]),
        (OutsideError::TimedOut, vec![]),
    ];
    for (error, icmp) in kinds {
        let mut lab = Lab::new(config(), true);
        let handle = lab.connect(SERVER, 40_000);
        lab.settle();
        lab.host().outcome = Some(Err(error));
        lab.settle();
        assert_eq!((lab.state(handle), &lab.icmp), (State::SynSent, &icmp), "{error}");
        assert!(lab.host().closed && lab.gateway.flows(lab.now).is_empty());
        let mut lab = Lab::new(config(), true);
        lab.world.open = Err(error);
        lab.connect(SERVER, 40_000);
        lab.settle();
        assert_eq!(lab.icmp, icmp, "{error} at once");
    }
}

#[test]
fn the_newest_syn_waits_and_no_second_socket_is_opened() {
    let mut lab = Lab::new(config(), true);
    let handle = lab.connect(SERVER, 40_000);
    lab.settle();
    // The container gives up and starts anew from the same port, with other sequence numbers.
    lab.socket(handle).abort();
    let again = lab.connect(SERVER, 40_000);
    lab.run_until(|lab| lab.now >= Time::from_nanos(5_000_000_000));
    assert_eq!(lab.world.tcp.len(), 1);
    lab.host().outcome = Some(Ok(()));
    lab.settle();
    assert_eq!(lab.state(again), State::Established);
}

#[test]
fn ten_megabytes_go_both_ways_unharmed() {
    for superframes in [true, false] {
        let (mut lab, handle) = connected(config(), superframes);
        exchange(&mut lab, handle, 10_000_000);
        assert!(lab.longest > 60_000, "the gateway sends superframes");
        assert!(lab.drops.is_empty());
    }
}

/// What the container's socket has received since it was last asked.
pub(super) fn heard(lab: &mut Lab, handle: smoltcp::iface::SocketHandle) -> Vec<u8> {
    let mut received = Vec::new();
    drain(lab, handle, &mut received);
    received
}

/// Sends as much both ways and looks at what arrives.
pub(super) fn exchange(lab: &mut Lab, handle: smoltcp::iface::SocketHandle, len: usize) {
    let data = pattern(len);
    lab.host().inbox.extend(&data);
    let (mut sent, mut received) = (0, Vec::new());
    lab.run_until(|lab| {
        if lab.socket(handle).can_send() {
            sent += lab.socket(handle).send_slice(&data[sent..]).unwrap();
        }
        drain(lab, handle, &mut received);
        received.len() == data.len() && lab.host().outbox.len() == data.len()
    });
    assert!(received == data && lab.host().outbox == data);
}

#[test]
fn lost_frames_are_sent_again() {
    for superframes in [true, false] {
        let (mut lab, handle) = connected(config(), superframes);
        lab.lose = Box::new(|frame| frame.is_multiple_of(7));
        exchange(&mut lab, handle, 400_000);
    }
}

#[test]
fn frames_that_overtake_each_other_are_put_in_order() {
    for superframes in [true, false] {
        let (mut lab, handle) = connected(config(), superframes);
        lab.overtake = Some(3);
        exchange(&mut lab, handle, 1_000_000);
    }
}

#[test]
fn the_container_closes_first_and_still_hears_the_answer() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).send_slice(b"request").unwrap();
    lab.socket(handle).close();
    lab.settle();
    assert!(lab.host().finished && !lab.host().closed);
    assert_eq!(lab.host().outbox, b"request");
    lab.host().inbox.extend(b"answer");
    lab.settle();
    let received = heard(&mut lab, handle);
    assert_eq!(received, b"answer");
    lab.host().inbox_fin = true;
    lab.settle();
    assert_eq!(lab.state(handle), State::TimeWait);
    assert!(lab.host().closed && !lab.host().reset && lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn a_question_is_acknowledged_by_its_answer_or_within_a_millisecond_and_the_second_of_two_at_once() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).set_nagle_enabled(false);
    let unanswered = |lab: &mut Lab, bytes: &[u8]| {
        lab.socket(handle).send_slice(bytes).unwrap();
        lab.settle();
        lab.socket(handle).send_queue()
    };
    for _ in 0..3 {
        let before = lab.frames;
        assert_eq!(unanswered(&mut lab, b"question"), 8);
        assert_eq!(lab.frames, before + 1, "it is acknowledged in vain");
        lab.host().inbox.extend(b"answer");
        lab.settle();
        assert_eq!(lab.socket(handle).send_queue(), 0);
    }
    assert_eq!(unanswered(&mut lab, b"question"), 8);
    assert_eq!(unanswered(&mut lab, b"another"), 0);
    assert_eq!(unanswered(&mut lab, b"question"), 8);
    lab.pass(Duration::from_millis(1));
    assert_eq!(lab.socket(handle).send_queue(), 0);
    assert_eq!(unanswered(&mut lab, &[7; 1000]), 0, "a stream is not kept waiting");
}

#[test]
fn in_a_stream_every_second_superframe_is_acknowledged_and_the_last_within_a_millisecond() {
    let (mut lab, handle) = connected(config(), true);
    exchange(&mut lab, handle, 4_000_000);
    lab.pass(Duration::from_millis(1));
    let superframe = pattern(20_000);
    for _ in 0..3 {
        let before = lab.frames;
        for unacknowledged in [20_000, 0] {
            lab.socket(handle).send_slice(&superframe).unwrap();
            lab.settle();
            assert_eq!(lab.socket(handle).send_queue(), unacknowledged);
        }
        assert_eq!(lab.frames, before + 3, "two superframes and one acknowledgement");
    }
    lab.socket(handle).send_slice(&superframe).unwrap();
    lab.pass(Duration::from_millis(1));
    assert_eq!(lab.socket(handle).send_queue(), 0);
    assert_eq!(lab.host().outbox.len(), 4_000_000 + 7 * 20_000);

    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).send_slice(&superframe).unwrap();
    lab.settle();
    assert_eq!(lab.socket(handle).send_queue(), 0, "a sender that has just begun waits for it");
}

#[test]
fn the_host_closes_first_and_still_hears_the_container() {
    let (mut lab, handle) = connected(config(), true);
    lab.host().inbox.extend(b"greeting");
    lab.host().inbox_fin = true;
    lab.settle();
    let received = heard(&mut lab, handle);
    assert_eq!((received.as_slice(), lab.state(handle)), (&b"greeting"[..], State::CloseWait));
    assert_eq!(lab.socket(handle).recv(|_| (0, ())), Err(RecvError::Finished));
    lab.socket(handle).send_slice(b"late words").unwrap();
    lab.settle();
    assert!(lab.host().outbox == b"late words" && !lab.host().finished);
    lab.socket(handle).close();
    lab.settle();
    assert!(lab.host().closed && !lab.host().reset);
    assert_eq!(lab.state(handle), State::Closed);
}

#[test]
fn a_fin_said_again_in_time_wait_is_acknowledged_again() {
    let (mut lab, handle) = connected(config(), true);
    lab.host().inbox_fin = true;
    lab.settle();
    // The acknowledgement of the container's FIN is lost.
    lab.lose = Box::new({
        let mut fins = 0;
        move |_| {
            fins += 1;
            fins == 2
        }
    });
    lab.socket(handle).close();
    lab.settle();
    assert!(lab.gateway.flows(lab.now).is_empty(), "no socket waits in TIME-WAIT");
    assert_eq!(lab.state(handle), State::LastAck);
    lab.run_until(|lab| lab.state(handle) == State::Closed);
}

#[test]
fn a_reset_goes_through_both_ways() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).abort();
    lab.settle();
    assert!(lab.host().reset && lab.gateway.flows(lab.now).is_empty());

    let (mut lab, handle) = connected(config(), true);
    lab.host().broken = Some(OutsideError::Reset);
    lab.settle();
    assert_eq!(lab.state(handle), State::Closed);
    assert!(lab.host().closed && !lab.host().finished && lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn what_a_server_said_before_it_reset_the_connection_reaches_the_container_before_the_reset() {
    // Found by reading; by writing what had been kept; by writing what has just come.
    for upload in [0, 100, 20_000] {
        let (mut lab, handle) = connected(config(), true);
        let answer = pattern(40_000);
        lab.host().inbox.extend(&answer);
        lab.host().broken = Some(OutsideError::Reset);
        lab.socket(handle).send_slice(&pattern(upload)).unwrap();
        lab.settle();
        let received = heard(&mut lab, handle);
        assert!(received == answer, "{} bytes came", received.len());
        assert_eq!(lab.state(handle), State::Closed);
        assert_eq!(lab.socket(handle).peek(1), Err(RecvError::InvalidState), "it does not look like the whole answer");
        assert!(lab.host().closed && lab.gateway.flows(lab.now).is_empty());
    }
}

#[test]
fn a_slow_reader_outside_slows_the_container_down() {
    let (mut lab, handle) = connected(config(), true);
    lab.host().room = 0;
    let data = pattern(3_000_000);
    let mut sent = 0;
    for _ in 0..2_000 {
        sent += lab.socket(handle).send_slice(&data[sent..]).unwrap();
        lab.step();
    }
    let limits = Limits::default();
    assert!(sent <= 300_000 + limits.tcp_receive_buffer, "{sent} bytes are on their way");
    assert!(sent >= limits.tcp_receive_buffer, "the window was only {sent}");
    lab.run_until(|lab| {
        sent += lab.socket(handle).send_slice(&data[sent..]).unwrap();
        lab.host().room = lab.host().room.max(10_000);
        lab.host().outbox.len() == data.len()
    });
    assert!(lab.host().outbox == data);
}

/// Whatever is lost, overtaken or taken in part, the bytes arrive: those that went straight, and those that did not.
#[test]
fn a_stream_arrives_whole_past_a_socket_that_takes_it_in_parts_and_a_link_that_loses_it() {
    for (seed, superframes) in (0..24u64).zip([true, false].into_iter().cycle()) {
        let (mut lab, handle) = connected(config(), superframes);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        lab.overtake = (seed % 3 == 1).then_some(5 + seed);
        if seed % 3 == 2 {
            lab.lose = Box::new(move |frame| frame % (20 + seed) == seed);
        }
        let data = pattern(1_500_000);
        lab.host().room = 0;
        let (mut sent, mut received) = (0, Vec::new());
        lab.host().inbox.extend(&data[..100_000]);
        lab.run_until(|lab| {
            if lab.socket(handle).can_send() {
                sent += lab.socket(handle).send_slice(&data[sent..]).unwrap();
            }
            lab.host().room += [1, 100, 10_000, 70_000, 400_000][draw(5) as usize];
            drain(lab, handle, &mut received);
            lab.host().outbox.len() == data.len() && received.len() == 100_000
        });
        assert!(lab.host().outbox == data && received == data[..100_000], "seed {seed}");
    }
}

#[test]
fn a_slow_reader_inside_leaves_the_data_in_the_host_socket() {
    let (mut lab, handle) = connected(config(), true);
    let data = pattern(4_000_000);
    lab.host().inbox.extend(&data);
    lab.settle();
    let taken = data.len() - lab.host().inbox.len();
    assert!(taken <= Limits::default().tcp_send_buffer + 300_000, "{taken} bytes were taken");
    let mut received = Vec::new();
    lab.run_until(|lab| {
        drain(lab, handle, &mut received);
        received.len() == data.len()
    });
    assert!(received == data);
}

#[test]
fn a_connect_that_never_ends_is_given_up() {
    let mut lab = Lab::new(config(), true);
    let handle = lab.connect(SERVER, 40_000);
    lab.settle();
    lab.socket(handle).set_timeout(Some(smoltcp::time::Duration::from_secs(10)));
    lab.run_until(|lab| lab.state(handle) == State::Closed);
    lab.pass(Duration::from_secs(240));
    assert!(lab.host().closed && lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
}

#[test]
fn at_the_limit_new_flows_are_refused_and_old_ones_live() {
    let flows = (Limits { tcp_flows: 2, ..Limits::default() }, DropReason::GatewayFlowLimit);
    let half_open = (Limits { tcp_half_open: 1, ..Limits::default() }, DropReason::GatewayHalfOpenLimit);
    for (limits, reason) in [flows, half_open] {
        let (mut lab, first) = connected(GatewayConfig { limits, ..config() }, true);
        lab.connect(SERVER, 40_001);
        let third = lab.connect(SERVER, 40_002);
        lab.settle();
        assert_eq!((lab.state(third), lab.world.tcp.len()), (State::Closed, 2));
        assert_eq!(lab.drops, [reason]);
        lab.socket(first).send_slice(b"still here").unwrap();
        lab.settle();
        assert!(lab.world.tcp.values().any(|tcp| tcp.outbox == b"still here"));
    }
}

#[test]
fn a_flood_of_syns_holds_no_more_than_the_limit_and_is_forgotten() {
    let limits = Limits { tcp_half_open: 16, ..Limits::default() };
    let (mut lab, first) = connected(GatewayConfig { limits, ..config() }, true);
    let verified = Offload { checksum: Checksum::Verified, gso: None };
    for number in 0..50_000u32 {
        let to = SocketAddrV4::new(Ipv4Addr::from(0xc000_0200 | number & 0xff), 80);
        let segment =
            [&(1024 + number as u16 % 60_000).to_be_bytes()[..], &to.port().to_be_bytes(), &[0; 8], &[0x50, 2, 255, 255, 0, 0, 0, 0]];
        let frame = ipv4(*to.ip(), 6, &segment.concat());
        let fate = lab.gateway.frame(lab.now, &Frame { bytes: &frame, offload: verified }, &mut lab.world);
        assert_eq!(fate, if number < 16 { Ok(()) } else { Err(DropReason::GatewayHalfOpenLimit) });
        lab.world.emitted.clear();
    }
    assert_eq!((lab.world.tcp.len(), lab.gateway.flows(lab.now).len()), (17, 17));
    lab.socket(first).send_slice(b"still here").unwrap();
    lab.settle();
    assert!(lab.world.tcp.values().any(|tcp| tcp.outbox == b"still here"));
    lab.pass(Duration::from_secs(240));
    assert_eq!(lab.gateway.flows(lab.now).len(), 1, "who never connected is forgotten");
    let next = lab.connect(SERVER, 40_100);
    lab.settle();
    assert_ne!(lab.state(next), State::Closed, "there is room again");
}

#[test]
fn a_timeout_that_is_made_shorter_holds_for_flows_that_wait() {
    let (mut lab, handle) = connected(config(), true);
    lab.connect(SERVER, 40_001);
    lab.settle();
    lab.pass(Duration::from_secs(60));
    let shorter = Limits { tcp_established: Duration::from_secs(90), tcp_transitory: Duration::from_secs(30), ..Limits::default() };
    lab.gateway.set_view(view(GatewayConfig { limits: shorter, ..config() }));
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.gateway.flows(lab.now).len(), 1, "a connect had its time");
    lab.pass(Duration::from_secs(30));
    assert_eq!(lab.state(handle), State::Closed);
    // The other tries again and again.
    assert!(lab.gateway.flows(lab.now).iter().all(|flow| flow.state == "connecting"));
}

#[test]
fn a_segment_of_no_flow_is_reset() {
    let (mut lab, handle) = connected(config(), true);
    lab.gateway = Gateway::new(view(config()), 7);
    lab.socket(handle).send_slice(b"to a gateway that knows nothing of it").unwrap();
    lab.settle();
    assert_eq!(lab.state(handle), State::Closed);
}

#[test]
fn tcp_to_the_gateway_leads_to_the_hosts_own_address_and_to_loopback_only_when_allowed() {
    let (own, loopback) = (SocketAddr::from((HOST, 80)), SocketAddr::from(([127, 0, 0, 1], 80)));
    for (host_loopback, internal, to) in [(false, false, Some(own)), (true, false, Some(loopback)), (false, true, None), (true, true, None)]
    {
        let mut lab = Lab::new(GatewayConfig { host_loopback, internal, ..config() }, true);
        let handle = lab.connect(SocketAddrV4::new(GATEWAY, 80), 40_000);
        lab.settle();
        assert_eq!(lab.world.tcp.values().next().and_then(|tcp| tcp.to), to);
        assert_eq!(lab.state(handle) == State::Closed, to.is_none());
    }
}

#[test]
fn of_a_host_without_an_address_of_its_own_the_gateway_refuses_and_lo_s_is_none() {
    let with = |v4: Option<Ipv4Addr>| {
        let own = v4.map(IpAddr::V4).into_iter().collect();
        View { host: HostAddresses { own, ..(*view(config()).host).clone() }.into(), ..view(config()) }
    };
    for v4 in [None, Some(Ipv4Addr::new(203, 0, 113, 200))] {
        let mut lab = Lab::new(config(), true);
        lab.gateway.set_view(with(v4));
        let handle = lab.connect(SocketAddrV4::new(GATEWAY, 80), 40_000);
        lab.settle();
        assert!(lab.world.tcp.is_empty() && lab.state(handle) == State::Closed, "{v4:?}");
    }
}

#[test]
fn one_connection_after_another_leaves_nothing_behind() {
    let mut lab = Lab::new(config(), true);
    for port in 40_000..40_050 {
        let handle = lab.connect(SERVER, port);
        lab.settle();
        lab.host().outcome = Some(Ok(()));
        exchange(&mut lab, handle, 3_000 + usize::from(port % 7) * 100_000);
        // Each way to end leaves its own traces in a socket that is used again.
        match port % 3 {
            0 => lab.socket(handle).abort(),
            1 => lab.host().broken = Some(OutsideError::Reset),
            _ => {
                lab.host().inbox_fin = true;
                lab.settle();
                lab.socket(handle).close();
            }
        }
        lab.settle();
        assert!(lab.host().closed || lab.host().reset);
        lab.world.tcp.clear();
    }
    assert!(lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
}

#[test]
fn closing_everything_resets_both_sides() {
    let (mut lab, handle) = connected(config(), true);
    lab.gateway.close_all(lab.now, &mut lab.world);
    lab.settle();
    assert_eq!(lab.state(handle), State::Closed);
    assert!(lab.host().reset && lab.gateway.next_timer().is_none());
}

#[test]
fn what_a_container_said_to_its_end_is_not_taken_back_when_it_is_gone() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).send_slice(b"last words").unwrap();
    lab.socket(handle).close();
    lab.settle();
    lab.gateway.close_all(lab.now, &mut lab.world);
    assert!(lab.host().outbox == b"last words" && lab.host().finished && lab.host().closed && !lab.host().reset);

    let (mut lab, handle) = connected(config(), true);
    lab.host().room = 4;
    lab.socket(handle).send_slice(b"last words").unwrap();
    lab.socket(handle).close();
    lab.settle();
    lab.gateway.close_all(lab.now, &mut lab.world);
    assert!(lab.host().reset, "half of them would seem to be all");
}
