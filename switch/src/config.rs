//! What a switch is told: its settings and its ports, as one immutable snapshot that is swapped whole.
//!
//! A worker loads the snapshot once for each frame and never waits for whoever changes it. What a frame needs (who may hear a
//! flood, who owns an address, the shortest link) is worked out when the snapshot is made, not when the frame comes.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use crate::{Mac, PortCounters, PortId, PortSet};

/// Settings of one network's switch; all can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a learned address is kept.
    pub ageing: Duration,
    /// Learned addresses at most.
    pub fdb_max: usize,
    /// Ports reach the gateway alone.
    pub isolated: bool,
    pub reserved_macs: ReservedMacs,
    /// The gateway's MTU, bytes of a packet without its Ethernet header.
    pub mtu: u16,
    /// The gateway's address. `None`: there is no port 0.
    pub gateway: Option<Mac>,
    /// The addresses that are the gateway's alone to claim.
    pub gateway_ips: Vec<IpAddr>,
    /// What the IPAM gave to a port, no other port may use as its source.
    pub port_security: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ageing: Duration::from_secs(300),
            fdb_max: 8192,
            isolated: false,
            reserved_macs: ReservedMacs::Strict,
            mtu: 1500,
            gateway: None,
            gateway_ips: Vec::new(),
            port_security: true,
        }
    }
}

/// What becomes of frames to 01:80:c2:00:00:00 to 0f, which a bridge does not forward (IEEE 802.1Q, 8.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedMacs {
    /// Dropped.
    Strict,
    /// Flooded as other group addresses: labs run spanning tree and link aggregation across the switch.
    Transparent,
}

/// Settings of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// The largest packet that its link takes, without the Ethernet header.
    pub mtu: u16,
    /// It reaches the gateway alone, and only the gateway reaches it.
    pub isolated: bool,
    /// What the IPAM gave it.
    pub mac: Option<Mac>,
    pub ips: Vec<IpAddr>,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self { mtu: 1500, isolated: false, mac: None, ips: Vec::new() }
    }
}

/// One port of a snapshot. Its counters outlive every snapshot that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) settings: PortSettings,
    pub(crate) counters: Arc<PortCounters>,
}

/// The snapshot.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    /// By port number.
    ports: Vec<Option<Port>>,
    /// Everyone, and those that neither are isolated nor the gateway.
    pub(crate) members: PortSet,
    pub(crate) open: PortSet,
    /// The shortest link of all ports: a flood of frames that fit through it needs no look at each.
    pub(crate) mtu_min: u16,
    macs: HashMap<Mac, Vec<PortId>>,
    ips: HashMap<IpAddr, Vec<PortId>>,
}

impl Config {
    pub(crate) fn new(settings: Settings, mut ports: Vec<Option<Port>>) -> Self {
        Self::seat_gateway(&settings, &mut ports);
        let mut config = Self {
            settings,
            ports: Vec::new(),
            members: PortSet::EMPTY,
            open: PortSet::EMPTY,
            mtu_min: u16::MAX,
            macs: HashMap::new(),
            ips: HashMap::new(),
        };
        for (id, port) in numbered(&ports) {
            config.members.insert(id);
            config.mtu_min = config.mtu_min.min(port.settings.mtu);
            if !config.settings.isolated && !port.settings.isolated && id != PortId::GATEWAY {
                config.open.insert(id);
            }
            if let Some(mac) = port.settings.mac {
                config.macs.entry(mac).or_default().push(id);
            }
            for ip in &port.settings.ips {
                config.ips.entry(*ip).or_default().push(id);
            }
        }
        config.ports = ports;
        config
    }

    /// Port 0 is there when the settings name a gateway, and what it may send from is the gateway's address.
    fn seat_gateway(settings: &Settings, ports: &mut Vec<Option<Port>>) {
        if ports.is_empty() {
            ports.push(None);
        }
        if let Some(seat) = ports.first_mut() {
            let counters = seat.take().map(|port| port.counters).unwrap_or_default();
            *seat = settings.gateway.map(|mac| Port {
                settings: PortSettings { mtu: settings.mtu, isolated: false, mac: Some(mac), ips: settings.gateway_ips.clone() },
                counters,
            });
        }
    }

    pub(crate) fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.get(port.index())?.as_ref()
    }

    pub(crate) fn ports(&self) -> Vec<Option<Port>> {
        self.ports.clone()
    }

    /// Whether this address is others' and not `port`'s: given by the IPAM, where that is to be respected, or the gateway's.
    pub(crate) fn is_anothers_mac(&self, mac: Mac, port: PortId) -> bool {
        self.macs.get(&mac).is_some_and(|owners| self.are_others(owners, port))
    }

    pub(crate) fn is_anothers_ip(&self, ip: IpAddr, port: PortId) -> bool {
        // Nearly all that comes is from its own.
        let is_own = self.port(port).is_some_and(|port| port.settings.ips.contains(&ip));
        !is_own && self.ips.get(&ip).is_some_and(|owners| self.are_others(owners, port))
    }

    /// The gateway's addresses are its own whatever the settings are: who takes them takes all traffic to the outside.
    fn are_others(&self, owners: &[PortId], port: PortId) -> bool {
        !owners.contains(&port) && (self.settings.port_security || owners.contains(&PortId::GATEWAY))
    }

    /// Whether frames may pass from one port to the other.
    pub(crate) fn may_pass(&self, ingress: PortId, egress: PortId) -> bool {
        ingress == PortId::GATEWAY || egress == PortId::GATEWAY || (self.open.contains(ingress) && self.open.contains(egress))
    }

    /// Everyone that frames may pass to from `ingress`.
    pub(crate) fn reachable(&self, ingress: PortId) -> PortSet {
        let mut set = if ingress == PortId::GATEWAY {
            self.members
        } else if self.open.contains(ingress) {
            self.open
        } else {
            PortSet::EMPTY
        };
        if self.members.contains(PortId::GATEWAY) {
            set.insert(PortId::GATEWAY);
        }
        set.remove(ingress);
        set
    }
}

fn numbered(ports: &[Option<Port>]) -> impl Iterator<Item = (PortId, &Port)> {
    (0..).map(PortId).zip(ports).filter_map(|(id, port)| Some((id, port.as_ref()?)))
}
