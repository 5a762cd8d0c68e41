//! Connections that a publication accepted.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use smoltcp::socket::tcp::State;

use super::{
    super::{testkit::*, *},
    container::Lab,
};

const CLIENT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 33), 51_000));

fn accept(lab: &mut Lab, peer: SocketAddr, port: u16) -> SocketId {
    let socket = lab.gateway.new_socket_id();
    lab.world.add_tcp(socket);
    lab.gateway.accepted(lab.now, socket, peer, (CONTAINER, port).into(), &mut lab.world);
    socket
}

#[test]
fn the_container_sees_the_clients_own_address() {
    let mut lab = Lab::new(config(), true);
    let server = lab.listen(80);
    let socket = accept(&mut lab, CLIENT, 80);
    lab.world.tcp.get_mut(&socket).unwrap().inbox.extend(b"GET /");
    lab.settle();
    assert_eq!(lab.state(server), State::Established);
    assert_eq!(lab.socket(server).remote_endpoint(), Some(CLIENT.into()));
    assert_eq!(lab.socket(server).recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap(), b"GET /");
    lab.socket(server).send_slice(b"200 OK").unwrap();
    lab.socket(server).close();
    lab.settle();
    assert!(lab.world.tcp[&socket].outbox == b"200 OK" && lab.world.tcp[&socket].finished);
    let flow = &lab.gateway.flows(lab.now)[0];
    assert_eq!((flow.direction, flow.inside, flow.outside), (Direction::In, SocketAddr::from((CONTAINER, 80)), CLIENT));
    lab.world.tcp.get_mut(&socket).unwrap().inbox_fin = true;
    lab.settle();
    assert!(lab.world.tcp[&socket].closed && lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn clients_whose_address_means_something_else_inside_appear_as_the_gateway() {
    let clients: [SocketAddr; 6] = [
        ([127, 0, 0, 1], 99).into(),
        ([10, 0, 0, 77], 99).into(),
        ([169, 254, 1, 1], 99).into(),
        ([203, 0, 113, 200], 99).into(),
        "[2001:db8::5]:99".parse().unwrap(),
        "[::ffff:127.0.0.1]:98".parse().unwrap(),
    ];
    let mut lab = Lab::new(config(), true);
    let mut seen = std::collections::HashSet::new();
    for client in clients {
        let server = lab.listen(80);
        accept(&mut lab, client, 80);
        lab.settle();
        let apparent = lab.socket(server).remote_endpoint().unwrap();
        assert_eq!((lab.state(server), apparent.addr), (State::Established, GATEWAY.into()));
        assert!(seen.insert(apparent.port), "each has a port of its own");
    }
}

#[test]
fn one_client_port_can_come_in_by_two_publications() {
    let mut lab = Lab::new(config(), true);
    let servers = [lab.listen(80), lab.listen(80)];
    for _ in servers {
        accept(&mut lab, CLIENT, 80);
        lab.settle();
    }
    let mut seen = servers.map(|server| lab.socket(server).remote_endpoint().unwrap().addr);
    seen.sort();
    assert_eq!(seen, [GATEWAY.into(), CLIENT.ip().into()]);
}

#[test]
fn a_closed_port_resets_the_client() {
    let mut lab = Lab::new(config(), true);
    let socket = accept(&mut lab, CLIENT, 81);
    lab.settle();
    assert!(lab.world.tcp[&socket].reset && lab.gateway.flows(lab.now).is_empty());
}

#[test]
fn a_container_that_does_not_answer_is_given_up() {
    let mut lab = Lab::new(config(), true);
    lab.lose = Box::new(|_| true);
    let socket = accept(&mut lab, CLIENT, 80);
    lab.pass(Duration::from_secs(241));
    assert!(lab.world.tcp[&socket].reset && lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
}

#[test]
fn a_connection_for_nobody_and_one_too_many_are_reset_and_counted() {
    let mut lab = Lab::new(config(), true);
    let socket = lab.gateway.new_socket_id();
    lab.world.add_tcp(socket);
    let nobody = SocketAddr::from(([10, 0, 0, 99], 80));
    lab.gateway.accepted(lab.now, socket, CLIENT, nobody, &mut lab.world);
    assert!(lab.world.tcp[&socket].reset);
    assert_eq!(lab.world.drops, [DropReason::GatewayUnsupported]);

    let mut lab = Lab::new(GatewayConfig { limits: Limits { tcp_flows: 0, ..Limits::default() }, ..config() }, true);
    let socket = accept(&mut lab, CLIENT, 80);
    assert!(lab.world.tcp[&socket].reset);
    assert_eq!(lab.world.drops, [DropReason::GatewayFlowLimit]);
}

#[test]
fn a_connection_that_has_slept_goes_on() {
    let mut lab = Lab::new(config(), true);
    let server = lab.listen(80);
    let socket = accept(&mut lab, CLIENT, 80);
    lab.settle();
    for _ in 0..3 {
        lab.pass(Duration::from_secs(20));
        lab.world.tcp.get_mut(&socket).unwrap().inbox.extend(b"GET /");
        lab.settle();
        assert_eq!(lab.socket(server).recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap(), b"GET /");
        lab.pass(Duration::from_secs(20));
        lab.socket(server).send_slice(b"200 OK").unwrap();
        lab.settle();
        assert_eq!(std::mem::take(&mut lab.world.tcp.get_mut(&socket).unwrap().outbox), b"200 OK");
    }
    assert_eq!(lab.gateway.flows(lab.now)[0].direction, Direction::In);
}
