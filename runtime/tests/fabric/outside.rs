//! Through the gateway: out to the host's world, and in through publications.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use netloom_runtime::{
    fabric::{ListenerConfig, ListenerId},
    spec::Protocol,
};

use crate::lab::{Container, Lab, OUTSIDE, PATIENCE, accept, bounded, eventually, exchange, on_a_host, payload};

/// Enough to fill every buffer on the way several times.
const LARGE: usize = 32 << 20;

/// A server on the host's network.
fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Publishes a container's port on the host's address; where it listens.
fn publish(lab: &Lab, container: &Container, port: u16) -> (ListenerId, SocketAddr) {
    let (listener, address) = server();
    let to = SocketAddr::from((container.ip, port));
    let config = ListenerConfig { socket: listener.into(), protocol: Protocol::Tcp, to };
    (lab.fabric.listen(lab.network, container.port, config).unwrap(), address)
}

#[test]
fn a_server_outside_is_reached_and_nothing_is_lost_either_way() {
    on_a_host("a_server_outside_is_reached_and_nothing_is_lost_either_way", || {
        let lab = Lab::new(2);
        let a = lab.container(2);
        let (listener, address) = server();
        let client = a.connect(address).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
        let (stream, peer) = accept(&listener);
        assert_eq!(peer.ip(), OUTSIDE, "the host speaks with its own address");
        let serving = thread::spawn(move || exchange(stream, 2, 1, LARGE));
        exchange(client, 1, 2, LARGE);
        serving.join().unwrap();
    });
}

#[test]
fn a_flow_through_the_gateway_outlives_the_move_of_its_port() {
    on_a_host("a_flow_through_the_gateway_outlives_the_move_of_its_port", || {
        let lab = Lab::new(2);
        let [first, other, moved] = [2, 3, 4].map(|number| lab.container(number));
        let (listener, address) = server();
        let clients = [first.connect(address).unwrap(), moved.connect(address).unwrap()];
        let exchanges: Vec<_> = clients
            .into_iter()
            .flat_map(|client| {
                let (stream, _) = accept(&listener);
                [thread::spawn(move || exchange(stream, 2, 1, LARGE)), thread::spawn(move || exchange(client, 1, 2, LARGE))]
            })
            .collect();
        lab.fabric.detach(lab.network, other.port).unwrap();
        for exchange in exchanges {
            exchange.join().unwrap();
        }
        let reports = lab.fabric.ports(lab.network).unwrap();
        let worker = |port| reports.iter().find(|report| report.port == port).unwrap().worker;
        assert_ne!(worker(first.port), worker(moved.port), "none was moved");
    });
}

#[test]
fn fifty_connections_at_once_keep_apart() {
    on_a_host("fifty_connections_at_once_keep_apart", || {
        let lab = Lab::new(2);
        let a = lab.container(2);
        let (listener, address) = server();
        let serving = thread::spawn(move || {
            let echoes: Vec<_> = (0..50)
                .map(|_| {
                    let (mut stream, _) = accept(&listener);
                    thread::spawn(move || {
                        let mut reader = stream.try_clone().unwrap();
                        std::io::copy(&mut reader, &mut stream).unwrap();
                        stream.shutdown(Shutdown::Write).unwrap();
                    })
                })
                .collect();
            echoes.into_iter().for_each(|echo| echo.join().unwrap());
        });
        let clients: Vec<_> = (0..50).map(|_| a.connect(address).unwrap()).collect();
        let flows = lab.fabric.flows(lab.network).unwrap();
        assert_eq!(flows.iter().filter(|(port, flow)| *port == a.port && flow.outside == address).count(), 50);
        let exchanges: Vec<_> =
            (1..).zip(clients).map(|(seed, client)| thread::spawn(move || exchange(client, seed, seed, 256 << 10))).collect();
        exchanges.into_iter().for_each(|exchange| exchange.join().unwrap());
        serving.join().unwrap();
    });
}

#[test]
fn what_the_host_refuses_the_container_is_refused() {
    on_a_host("what_the_host_refuses_the_container_is_refused", || {
        let lab = Lab::new(1);
        let a = lab.container(2);
        let (listener, closed) = server();
        drop(listener);
        let refused = a.connect(closed).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let nowhere = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 80));
        let unreachable = a.connect(nowhere).unwrap_err();
        assert_eq!(unreachable.kind(), std::io::ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn a_publication_leads_in_and_shows_the_client() {
    on_a_host("a_publication_leads_in_and_shows_the_client", || {
        let lab = Lab::new(2);
        let a = lab.container(2);
        let listener = a.listen(80);
        let (id, address) = publish(&lab, &a, 80);
        let client = TcpStream::connect(address).unwrap();
        let from = client.local_addr().unwrap();
        let (stream, peer) = accept(&listener);
        assert_eq!(peer, from, "the container sees the real client");
        let serving = thread::spawn(move || exchange(stream, 2, 1, LARGE));
        // It lives on when no more are taken.
        lab.fabric.unlisten(lab.network, a.port, id).unwrap();
        exchange(client, 1, 2, LARGE);
        serving.join().unwrap();
        assert!(TcpStream::connect(address).is_err(), "somebody still listens");
    });
}

#[test]
fn five_hundred_clients_of_a_publication_are_all_served() {
    on_a_host("five_hundred_clients_of_a_publication_are_all_served", || {
        let lab = Lab::new(2);
        let a = lab.container(2);
        let listener = a.listen(80);
        let (_, address) = publish(&lab, &a, 80);
        let serving = a.namespace.spawn(move || {
            for _ in 0..500 {
                let (mut stream, _) = accept(&listener);
                let mut request = [0; 8];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&payload(u64::from_le_bytes(request), 10_000)).unwrap();
            }
        });
        let mut clients: Vec<_> = (1u64..=500)
            .map(|seed| {
                let mut stream = TcpStream::connect(address).unwrap();
                bounded(&stream);
                stream.write_all(&seed.to_le_bytes()).unwrap();
                (seed, stream)
            })
            .collect();
        for (seed, stream) in &mut clients {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap_or_else(|why| panic!("client {seed}: {why}\n{}", lab.drops()));
            assert!(answer == payload(*seed, 10_000), "client {seed} got another's answer, {} bytes", answer.len());
        }
        serving.join().unwrap();
    });
}

#[test]
fn datagrams_go_out_and_their_answers_come_back() {
    on_a_host("datagrams_go_out_and_their_answers_come_back", || {
        let lab = Lab::new(1);
        let a = lab.container(2);
        let [one, two] = [(); 2].map(|()| UdpSocket::bind((OUTSIDE, 0)).unwrap());
        let ip = a.ip;
        let client = a.namespace.run(move || UdpSocket::bind((ip, 7000)).unwrap());
        for socket in [&one, &two, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut seen = Vec::new();
        for server in [&one, &two] {
            client.send_to(b"question", server.local_addr().unwrap()).unwrap();
            let mut bytes = [0; 64];
            let (len, peer) = server.recv_from(&mut bytes).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
            assert_eq!(&bytes[..len], b"question");
            seen.push(peer);
            server.send_to(b"answer", peer).unwrap();
            let (len, from) = client.recv_from(&mut bytes).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
            assert_eq!((&bytes[..len], from), (&b"answer"[..], server.local_addr().unwrap()));
        }
        assert_eq!(seen[0], seen[1], "one mapping serves every peer (RFC 4787, REQ-1)");
    });
}

#[test]
fn a_burst_of_datagrams_goes_out_whole_and_in_order() {
    on_a_host("a_burst_of_datagrams_goes_out_whole_and_in_order", || {
        // With the last, what the container has cut into packets is too long for one on the way out.
        crate::lab::ip("link set lo mtu 1500");
        let lab = Lab::new(1);
        let a = lab.container(2);
        let servers = [(); 2].map(|()| UdpSocket::bind((OUTSIDE, 0)).unwrap());
        let client = a.namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        servers.iter().for_each(|server| server.set_read_timeout(Some(PATIENCE)).unwrap());
        // The container's own kernel may let what it sends overtake what waits for the gateway's address (ARP).
        client.send_to(b"first", servers[0].local_addr().unwrap()).unwrap();
        servers[0].recv(&mut [0; 8]).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
        for len in [1, 64, 1400, 3000] {
            for round in 0..20 {
                let alike = |at: u8| if at % 10 == 9 { len + 1 } else { len };
                for at in 0..40u8 {
                    let to = servers[usize::from(at / 20 % 2)].local_addr().unwrap();
                    client.send_to(&vec![at; alike(at)], to).unwrap();
                }
                let mut bytes = [0; 4000];
                for at in 0..40u8 {
                    let received = servers[usize::from(at / 20 % 2)].recv(&mut bytes);
                    let got = received.unwrap_or_else(|why| panic!("{len} bytes, round {round}, number {at}: {why}\n{}", lab.drops()));
                    assert_eq!(&bytes[..got], vec![at; alike(at)], "{len} bytes, round {round}");
                }
            }
        }
    });
}

#[test]
fn a_datagram_to_a_closed_port_is_refused_as_on_a_real_network() {
    on_a_host("a_datagram_to_a_closed_port_is_refused_as_on_a_real_network", || {
        let lab = Lab::new(1);
        let a = lab.container(2);
        let [server, closed] = [(); 2].map(|()| UdpSocket::bind((OUTSIDE, 0)).unwrap());
        let nobody = closed.local_addr().unwrap();
        drop(closed);
        let [client, other] = [(); 2].map(|()| a.namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()));
        for socket in [&client, &other, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect(nobody).unwrap();
        client.send(b"anybody there?").unwrap();
        let refused = client.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{}", lab.drops());
        // One endpoint, two peers: the refusal of the one is nothing to the other.
        other.send_to(b"one", nobody).unwrap();
        other.send_to(b"two", server.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 8];
        let (len, _) = server.recv_from(&mut bytes).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
        assert_eq!(&bytes[..len], b"two");
    });
}

#[test]
fn a_published_datagram_is_answered_from_where_it_was_sent_to() {
    on_a_host("a_published_datagram_is_answered_from_where_it_was_sent_to", || {
        let lab = Lab::new(1);
        let a = lab.container(2);
        let ip = a.ip;
        let server = a.namespace.run(move || UdpSocket::bind((ip, 53)).unwrap());
        let listener = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let address = SocketAddr::from((OUTSIDE, listener.local_addr().unwrap().port()));
        let config = ListenerConfig { socket: listener.into(), protocol: Protocol::Udp, to: (a.ip, 53).into() };
        let id = lab.fabric.listen(lab.network, a.port, config).unwrap();
        let client = UdpSocket::bind((OUTSIDE, 0)).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.send_to(b"question", address).unwrap();
        let mut bytes = [0; 64];
        let (len, peer) = server.recv_from(&mut bytes).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
        assert_eq!((&bytes[..len], peer), (&b"question"[..], client.local_addr().unwrap()));
        server.send_to(b"answer", peer).unwrap();
        let (len, from) = client.recv_from(&mut bytes).unwrap_or_else(|why| panic!("{why}\n{}", lab.drops()));
        assert_eq!((&bytes[..len], from), (&b"answer"[..], address));
        lab.fabric.unlisten(lab.network, a.port, id).unwrap();
        UdpSocket::bind(address).expect("the publication's socket is closed");
    });
}

#[test]
fn detaching_ends_flows_and_closes_every_socket() {
    on_a_host("detaching_ends_flows_and_closes_every_socket", || {
        let lab = Lab::new(2);
        let a = lab.container(2);
        let inside = a.listen(80);
        let (_, published) = publish(&lab, &a, 80);
        let (listener, address) = server();
        let _outward = a.connect(address).unwrap();
        let (mut outer, _) = accept(&listener);
        let mut inward = TcpStream::connect(published).unwrap();
        bounded(&inward);
        let _served = accept(&inside);
        eventually("both flows are open", || lab.fabric.flows(lab.network).unwrap().len() == 2);
        lab.fabric.detach(lab.network, a.port).unwrap();
        for (name, stream) in [("outward", &mut outer), ("inward", &mut inward)] {
            let end = stream.read(&mut [0; 1]);
            assert!(matches!(&end, Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset), "{name}: {end:?}");
        }
        TcpListener::bind(published).expect("the publication's socket is closed");
        assert_eq!(lab.fabric.flows(lab.network).unwrap().len(), 0);
    });
}

#[test]
fn publications_move_with_their_port() {
    on_a_host("publications_move_with_their_port", || {
        let lab = Lab::new(2);
        let containers = [2, 3, 4].map(|number| lab.container(number));
        let published = containers.each_ref().map(|container| (container.listen(80), publish(&lab, container, 80).1));
        let worker = |index: usize| lab.fabric.ports(lab.network).unwrap()[index + 1].worker;
        let before = [worker(0), worker(2)];
        lab.fabric.detach(lab.network, containers[1].port).unwrap();
        let reports = lab.fabric.ports(lab.network).unwrap();
        assert_ne!(before, [reports[1].worker, reports[2].worker], "none was moved");
        for (listener, address) in [&published[0], &published[2]] {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            let mut hello = [0; 5];
            accept(listener).0.read_exact(&mut hello).unwrap();
            assert_eq!(&hello, b"hello");
        }
    });
}

#[test]
fn a_ping_goes_out_by_a_ping_socket_where_the_host_allows_one_and_by_a_raw_one_where_not() {
    on_a_host("a_ping_goes_out_by_a_ping_socket_where_the_host_allows_one_and_by_a_raw_one_where_not", || {
        let lab = Lab::new(2);
        let [a, b] = [2, 3].map(|number| lab.container(number));
        for (range, table) in [("1 0", "/proc/thread-self/net/raw"), ("0 0", "/proc/thread-self/net/icmp")] {
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", range).unwrap();
            let others = std::fs::read_to_string(table).unwrap().lines().count();
            for container in [&a, &b] {
                container.ping(OUTSIDE).unwrap_or_else(|said| panic!("range {range}:\n{said}\n{}", lab.drops()));
            }
            let sockets = std::fs::read_to_string(table).unwrap().lines().count() - others;
            assert_eq!(sockets, 2, "one for each identifier, of that kind");
        }
        let flows: Vec<_> = lab.fabric.flows(lab.network).unwrap().into_iter().map(|(_, flow)| flow.protocol).collect();
        assert_eq!(flows, ["icmp"; 4]);
    });
}

#[test]
fn a_ping_without_a_route_is_a_counted_refusal() {
    on_a_host("a_ping_without_a_route_is_a_counted_refusal", || {
        let lab = Lab::new(1);
        let a = lab.container(2);
        crate::lab::ip("route add unreachable 203.0.113.0/24");
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
        let said = a.ping([203, 0, 113, 1].into()).unwrap_err();
        assert!(said.contains("0 packets received"), "{said}");
        let reports = lab.fabric.ports(lab.network).unwrap();
        let gateway = &reports.first().unwrap().counts;
        assert!(gateway.drops.contains(&(netloom_switch::DropReason::GatewayOutside, 3)), "{:?}", gateway.drops);
    });
}
