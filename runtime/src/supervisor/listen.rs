//! The host sockets of publications, bound with the caller's rights in the caller's network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use socket2::{Domain, Socket, Type};

use super::occupant;
use crate::{
    fault::{Fault, Result},
    protocol::Listener,
    spec::{Protocol, Publication},
};

/// A listener and its socket.
pub(crate) type Bound = (Listener, OwnedFd);

/// Binds one publication: at its address, or at 0.0.0.0 and [::] with the same port. A host without IPv6 has the first alone.
pub(crate) fn bind(publication: &Publication) -> Result<Vec<Bound>> {
    let any4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let first = bind_at(publication, publication.host_ip.unwrap_or(any4), publication.host_port)?;
    if publication.host_ip.is_some() {
        return Ok(vec![first]);
    }
    let port = first.0.host_port;
    match bind_at(publication, IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) {
        Ok(second) => Ok(vec![first, second]),
        Err(fault) if [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL].contains(&fault.errno()) => Ok(vec![first]),
        Err(fault) => Err(fault),
    }
}

/// Binds all of them, or none.
pub(crate) fn bind_all(publications: &[Publication]) -> Result<Vec<Bound>> {
    let bound = publications.iter().map(bind).collect::<Result<Vec<_>>>()?;
    Ok(bound.into_iter().flatten().collect())
}

fn bind_at(publication: &Publication, ip: IpAddr, port: u16) -> Result<Bound> {
    let address = SocketAddr::new(ip, port);
    let open = || {
        let kind = match publication.protocol {
            Protocol::Tcp => Type::STREAM,
            Protocol::Udp => Type::DGRAM,
        };
        let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if publication.protocol == Protocol::Tcp {
            // A server that was here before may have left connections in TIME-WAIT.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        if publication.protocol == Protocol::Tcp {
            socket.listen(libc::SOMAXCONN)?;
        }
        let port = socket.local_addr()?.as_socket().map_or(port, |address| address.port());
        Ok((OwnedFd::from(socket), port))
    };
    let (socket, host_port) = open().map_err(|error: std::io::Error| explain(publication, address, error))?;
    let listener = Listener {
        publication: publication.clone(),
        host_ip: ip,
        host_port,
        container_port: publication.container_port,
        protocol: publication.protocol,
    };
    Ok((listener, socket))
}

fn explain(publication: &Publication, address: SocketAddr, error: std::io::Error) -> Fault {
    let protocol = match publication.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let hint = hint(publication.protocol, address, error.raw_os_error());
    let fault = Fault::system(format!("listen on {address}/{protocol}"), error);
    match hint {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    }
}

fn hint(protocol: Protocol, address: SocketAddr, errno: Option<i32>) -> Option<String> {
    let known = match errno? {
        libc::EADDRINUSE => match occupant::of(protocol, address) {
            Some(program) => return Some(format!("{program} has this port; without a host port the host chooses one that is free")),
            None => "another program has this port; `ss -lntup` shows which, and no host port lets the host choose one",
        },
        libc::EACCES => "ports below net.ipv4.ip_unprivileged_port_start need root: take a higher one",
        libc::EADDRNOTAVAIL => "the host has no such address",
        libc::EMFILE => "each port is an open file at each of its addresses: raise the hard limit (`ulimit -Hn`), or publish fewer",
        // Each interface has such addresses, so they are none without it (RFC 4007).
        libc::EINVAL if matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) => {
            "a link-local address needs an interface, which a publication cannot name: take another address of the host, or [::]"
        }
        _ => return None,
    };
    Some(known.to_owned())
}
