//! What a gateway is told: its network's settings, its port's view of the world, and its bounds.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Mac, names::Names};

/// The settings of one network's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    pub mac: Mac,
    /// `None`: nobody answers at port 0.
    pub ip: Option<Ipv4Addr>,
    pub subnet: Ipv4Net,
    /// `None`: the network has no IPv6.
    pub ipv6: Option<GatewayIpv6>,
    /// The network's IP MTU: no packet towards a container is longer, superframes aside.
    pub mtu: u16,
    /// Nothing goes out, names least of all.
    pub internal: bool,
    /// The host's loopback services may be reached; the gateway's own address then leads to 127.0.0.1, and not to the host's own.
    pub host_loopback: bool,
    pub limits: Limits,
}

/// The IPv6 side of a gateway. It also has the link-local address of its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayIpv6 {
    pub ip: Ipv6Addr,
    pub subnet: Ipv6Net,
}

impl GatewayConfig {
    /// Whether this is an address of the gateway.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.ip == Some(v4),
            IpAddr::V6(v6) => self.ipv6.is_some_and(|ipv6| v6 == ipv6.ip || v6 == self.mac.link_local()),
        }
    }

    /// The address under which the gateway speaks to `peer`: of the same family and the same scope.
    pub(super) fn own_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        match peer {
            IpAddr::V4(_) => self.ip.map(IpAddr::V4),
            IpAddr::V6(v6) => {
                self.ipv6.map(|ipv6| if v6.is_unicast_link_local() { self.mac.link_local() } else { ipv6.ip }).map(IpAddr::V6)
            }
        }
    }
}

/// Everything a gateway knows that can change while it runs; swapped whole.
#[derive(Clone, Debug)]
pub struct View {
    pub config: Arc<GatewayConfig>,
    /// The names this port may ask for.
    pub names: Arc<Names>,
    /// The host's resolvers, in the order to ask them.
    pub resolvers: Arc<[SocketAddr]>,
    pub host: Arc<HostAddresses>,
    /// The prefixes of all networks beside this one, which may be among them: whoever is on another is not reached through the host. In
    /// order, and none within another, so that a look at them costs little however many there are.
    pub networks: Arc<[IpNet]>,
}

/// The host's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    /// Every address of its `lo`.
    pub loopback: Vec<IpAddr>,
    /// One of each family that is not `lo`'s, where it has any: the one that it speaks from to the world.
    pub own: Vec<IpAddr>,
}

impl HostAddresses {
    /// The address to the world, of `of`'s family.
    pub(super) fn own(&self, of: IpAddr) -> Option<IpAddr> {
        self.own.iter().copied().find(|own| own.is_ipv4() == of.is_ipv4())
    }
}

/// The bounds of one port's gateway: each container has its own, so that one at its limits takes nothing from the others. At a limit
/// new flows are refused and old ones live, but for clients of UDP publications; a limit that is lowered ends none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP flows of any state.
    pub tcp_flows: usize,
    /// TCP flows whose connect or handshake has not ended.
    pub tcp_half_open: usize,
    /// Bytes that a container may send ahead of the host's socket; at most 1 GiB. Where many flows are open, later ones get a
    /// fraction of this, and of the send buffer.
    pub tcp_receive_buffer: usize,
    /// Bytes taken from the host's socket that the container has not acknowledged.
    pub tcp_send_buffer: usize,
    /// Idle time of an open flow: 2 h 4 min or more (RFC 5382, REQ-5).
    pub tcp_established: Duration,
    /// Idle time of a flow that opens, or that both sides have closed: 4 min or more (RFC 5382, REQ-5).
    pub tcp_transitory: Duration,
    /// How long the end of a closed flow is remembered (RFC 9293, 3.4.2).
    pub tcp_time_wait: Duration,
    /// UDP mappings: inside endpoints with a host socket.
    pub udp_mappings: usize,
    /// Idle time of a mapping (RFC 4787, REQ-5).
    pub udp_idle: Duration,
    /// Idle time of a mapping that only ever asked port 53.
    pub udp_dns_idle: Duration,
    /// Clients of this port's UDP publications; one more takes the place of one that is silent.
    pub udp_clients: usize,
    /// Mappings of ICMP echo: identifiers with a host socket.
    pub echo_mappings: usize,
    /// Idle time of such a mapping: a minute or more (RFC 5508, REQ-2).
    pub echo_idle: Duration,
    /// Packets in fragments whose rest has not come.
    pub fragments: usize,
    /// DNS queries that wait for a resolver.
    pub dns_queries: usize,
    /// Clients that ask over TCP.
    pub dns_streams: usize,
    /// How long such a client may be silent (RFC 7766, 6.2.3).
    pub dns_idle: Duration,
    /// How long one resolver gets.
    pub dns_timeout: Duration,
    /// DHCP messages a second that are asked about.
    pub dhcp_asks: u32,
    /// ICMP errors a second (RFC 1812, 4.3.2.8).
    pub icmp_errors: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp_flows: 16_384,
            tcp_half_open: 1024,
            tcp_receive_buffer: 512 * 1024,
            tcp_send_buffer: 1024 * 1024,
            tcp_established: Duration::from_secs(2 * 3600 + 4 * 60),
            tcp_transitory: Duration::from_secs(4 * 60),
            tcp_time_wait: Duration::from_secs(60),
            udp_mappings: 4096,
            udp_idle: Duration::from_secs(300),
            udp_dns_idle: Duration::from_secs(5),
            udp_clients: 4096,
            echo_mappings: 256,
            echo_idle: Duration::from_secs(60),
            fragments: 64,
            dns_queries: 256,
            dns_streams: 64,
            dns_idle: Duration::from_secs(10),
            dns_timeout: Duration::from_secs(2),
            dhcp_asks: 20,
            icmp_errors: 100,
        }
    }
}

/// One flow, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp` or `dns`.
    pub protocol: &'static str,
    /// The container's endpoint; its port is the identifier for ICMP echo.
    pub inside: SocketAddr,
    /// The endpoint the container talks to; unspecified for a mapping of UDP or ICMP echo, which serves every peer.
    pub outside: SocketAddr,
    pub direction: Direction,
    /// TCP: the state's name in RFC 9293, or `connecting`. UDP: `mapped` or `published`. ICMP echo: `mapped`. DNS: `forwarded`.
    pub state: &'static str,
    pub idle: Duration,
}

/// Who opened a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The container.
    Out,
    /// A client of a publication.
    In,
}

impl Direction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}
