//! Between containers, and to the gateway.

use std::{
    net::{SocketAddrV4, UdpSocket},
    process::Command,
    thread,
};

use crate::lab::{GATEWAY, Lab, PATIENCE, accept, eventually, exchange, on_a_host};

/// Enough for hundreds of superframes and several window sizes.
const LARGE: usize = 64 << 20;

#[test]
fn containers_ping_each_other_and_the_gateway() {
    on_a_host("containers_ping_each_other_and_the_gateway", || {
        let lab = Lab::new(2);
        let [a, b] = [2, 3].map(|number| lab.container(number));
        for (from, to) in [(&a, b.ip), (&b, a.ip), (&a, GATEWAY), (&b, GATEWAY)] {
            from.ping(to).unwrap_or_else(|said| panic!("{} to {to}:\n{said}\n{}", from.ip, lab.drops()));
        }
    });
}

#[test]
fn tcp_between_containers_arrives_whole_both_ways_at_once() {
    on_a_host("tcp_between_containers_arrives_whole_both_ways_at_once", || {
        let lab = Lab::new(2);
        let [a, b] = [2, 3].map(|number| lab.container(number));
        let listener = b.listen(5001);
        let client = a.connect(SocketAddrV4::new(b.ip, 5001)).unwrap();
        let (server, peer) = accept(&listener);
        assert_eq!(peer.ip(), a.ip);
        let serving = thread::spawn(move || exchange(server, 2, 1, LARGE));
        exchange(client, 1, 2, LARGE);
        serving.join().unwrap();
        let reports = lab.fabric.ports(lab.network).unwrap();
        let frames: u64 = reports.iter().map(|report| report.counts.rx_frames).sum();
        assert!(frames < 2 * LARGE as u64 / 1448, "{frames} frames: superframes did not stay whole");
    });
}

#[test]
fn udp_between_containers_keeps_its_datagrams() {
    on_a_host("udp_between_containers_keeps_its_datagrams", || {
        let lab = Lab::new(1);
        let [a, b] = [2, 3].map(|number| lab.container(number));
        let (from, to) = (SocketAddrV4::new(a.ip, 7000), SocketAddrV4::new(b.ip, 7000));
        let server = b.namespace.run(move || UdpSocket::bind(to).unwrap());
        let client = a.namespace.run(move || UdpSocket::bind(from).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        // The last one is cut into IP fragments.
        for len in [0, 1, 512, 1472, 9000] {
            let sent: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            client.send_to(&sent, to).unwrap();
            let mut received = vec![0; 10_000];
            let (got, peer) = server.recv_from(&mut received).unwrap_or_else(|why| panic!("{len} bytes: {why}\n{}", lab.drops()));
            assert_eq!((got, peer), (len, from.into()));
            assert_eq!(received[..got], sent);
        }
    });
}

#[test]
fn a_detached_container_has_no_interface_left() {
    on_a_host("a_detached_container_has_no_interface_left", || {
        let lab = Lab::new(2);
        let [a, b] = [2, 3].map(|number| lab.container(number));
        a.ping(b.ip).unwrap();
        lab.fabric.detach(lab.network, b.port).unwrap();
        eventually("the TAP is gone", || {
            !b.namespace.run(|| Command::new("ip").args(["link", "show", "eth0"]).output().unwrap().status.success())
        });
        assert!(a.ping(GATEWAY).is_ok());
    });
}

#[test]
fn a_connection_outlives_the_moves_of_its_ports() {
    on_a_host("a_connection_outlives_the_moves_of_its_ports", || {
        let lab = Lab::new(2);
        let [a, other, b] = [2, 3, 4].map(|number| lab.container(number));
        let listener = b.listen(5001);
        let client = a.connect(SocketAddrV4::new(b.ip, 5001)).unwrap();
        let (server, _) = accept(&listener);
        let serving = thread::spawn(move || exchange(server, 2, 1, LARGE));
        let sending = thread::spawn(move || exchange(client, 1, 2, LARGE));
        // Two ports on the first worker and none on the second once the other is gone: one of them has to move.
        let worker = |port| lab.fabric.ports(lab.network).unwrap().iter().find(|report| report.port == port).unwrap().worker;
        assert_eq!(worker(a.port), worker(b.port));
        lab.fabric.detach(lab.network, other.port).unwrap();
        assert_ne!(worker(a.port), worker(b.port));
        sending.join().unwrap();
        serving.join().unwrap();
    });
}
