//! How a flow begins: outward by a host socket that connects first, inward by a connection that a publication accepted.

use std::net::{IpAddr, SocketAddr};

use super::{
    super::{Core, Direction, Flow, OWN_PORTS, Outside, OutsideError, SocketId, icmp, packet::Packet, policy, sockets::Owner},
    FlowKey, State, TcpTable,
    flow::{Setup, TcpFlow},
    segment::{self, Segment},
};
use crate::{DropReason, Mac, Offload, Time};

/// A connect that has not ended, and the newest copy of the SYN that asked for it.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) socket: SocketId,
    container: Mac,
    syn: Vec<u8>,
    since: Time,
}

impl Connecting {
    /// The container says something while the host socket connects: only a newer SYN matters.
    pub(super) fn frame(&mut self, packet: &Packet<'_>, segment: &Segment) {
        if segment.opens() {
            self.container = packet.mac;
            self.syn = segment::bare_syn(packet, segment);
        }
    }

    pub(super) fn report(&self, now: Time, key: FlowKey) -> Flow {
        let FlowKey { inside, outside } = key;
        Flow { protocol: "tcp", inside, outside, direction: Direction::Out, state: "connecting", idle: now.since(self.since) }
    }
}

impl TcpTable {
    /// A SYN for `to` at the host's side; `None`: for a port of the gateway that nobody serves.
    pub(super) fn open(
        &mut self,
        core: &mut Core,
        now: Time,
        packet: &Packet<'_>,
        segment: &Segment,
        to: Option<IpAddr>,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let Some(to) = to else {
            segment::refuse(core, packet.mac, segment, outside);
            return Ok(());
        };
        if packet.expires(&core.view.config) {
            icmp::error(core, now, packet, icmp::Error::TimeExceeded, outside);
            return Ok(());
        }
        if let Some(reason) = self.limit_reached(core) {
            segment::refuse(core, packet.mac, segment, outside);
            return Err(reason);
        }
        let socket = core.sockets.add(Owner::Tcp(segment.key));
        match outside.tcp_connect(socket, SocketAddr::new(to, segment.key.outside.port())) {
            Ok(()) | Err(OutsideError::WouldBlock) => {
                let syn = segment::bare_syn(packet, segment);
                let connecting = Connecting { socket, container: packet.mac, syn, since: now };
                self.ended.remove(&segment.key);
                self.flows.insert(segment.key, State::Connecting(connecting));
                self.half_open += 1;
                core.sockets.wake_by(socket, now + core.view.config.limits.tcp_transitory);
                // A server on this machine has answered by now.
                self.connected(core, now, segment.key, outside);
                Ok(())
            }
            Err(error) => {
                core.sockets.remove(socket);
                answer_failure(core, now, packet, segment, error, outside)
            }
        }
    }

    /// A host socket that was connecting has something to say.
    pub(super) fn connected(&mut self, core: &mut Core, now: Time, key: FlowKey, outside: &mut impl Outside) {
        let Some(State::Connecting(Connecting { socket, .. })) = self.flows.get(&key) else { return };
        let socket = *socket;
        let outcome = outside.tcp_outcome(socket);
        if outcome == Err(OutsideError::WouldBlock) {
            return;
        }
        let Some(State::Connecting(Connecting { container, syn, .. })) = self.flows.remove(&key) else { return };
        match outcome {
            Ok(()) => {
                let setup = self.setup(core, key, socket, container, Direction::Out);
                let (buffers, mut wire) = (self.spares.take(&core.view.config.limits, self.flows.len()), core.wire(container, outside));
                let mut flow = TcpFlow::listening(setup, buffers, now);
                flow.frame(now, &syn, &mut self.scratch, &mut wire);
                self.flows.insert(key, State::Open(Box::new(flow)));
                self.settle(core, now, key, outside);
            }
            Err(error) => {
                self.half_open -= 1;
                core.sockets.remove(socket);
                outside.close(socket);
                let Ok(packet) = Packet::from_bytes(container, &syn, Offload::default()) else { return };
                let Ok(segment) = Segment::parse(&packet) else { return };
                if let Err(reason) = answer_failure(core, now, &packet, &segment, error, outside) {
                    outside.dropped(reason);
                }
            }
        }
    }

    /// The host socket has not connected in all this time: silence, as from the network.
    pub(super) fn give_up_connecting(&mut self, core: &mut Core, now: Time, key: FlowKey, outside: &mut impl Outside) {
        if let Some(State::Connecting(Connecting { socket, since, .. })) = self.flows.get(&key) {
            let until = *since + core.view.config.limits.tcp_transitory;
            if now < until {
                return core.sockets.wake_by(*socket, until);
            }
        }
        if let Some(State::Connecting(connecting)) = self.flows.remove(&key) {
            self.half_open -= 1;
            core.sockets.remove(connecting.socket);
            outside.close(connecting.socket);
        }
    }

    /// Takes a connection from `peer` to the container's `to`.
    pub(in super::super) fn accepted(
        &mut self,
        core: &mut Core,
        now: Time,
        socket: SocketId,
        peer: SocketAddr,
        to: SocketAddr,
        outside: &mut impl Outside,
    ) {
        match self.accept(core, socket, peer, to) {
            Ok(setup) => {
                let (buffers, mut wire) =
                    (self.spares.take(&core.view.config.limits, self.flows.len()), core.wire(setup.container, outside));
                let flow = TcpFlow::connecting(setup, buffers, now, &mut wire);
                core.sockets.set_owner(socket, Owner::Tcp(setup.key));
                self.ended.remove(&setup.key);
                self.flows.insert(setup.key, State::Open(Box::new(flow)));
                self.half_open += 1;
                self.settle(core, now, setup.key, outside);
            }
            Err(reason) => {
                core.sockets.remove(socket);
                outside.tcp_reset(socket);
                outside.dropped(reason);
            }
        }
    }

    fn accept(&self, core: &mut Core, socket: SocketId, peer: SocketAddr, to: SocketAddr) -> Result<Setup, DropReason> {
        if let Some(reason) = self.limit_reached(core) {
            return Err(reason);
        }
        let gateway = core.view.config.own_towards(to.ip()).ok_or(DropReason::GatewayUnsupported)?;
        let container = core.neighbours.mac(to.ip()).ok_or(DropReason::GatewayUnsupported)?;
        let key = policy::client_keeps_address(&core.view, peer.ip(), to.ip())
            .map(|client| FlowKey { inside: to, outside: SocketAddr::new(client, peer.port()) })
            .filter(|key| peer.port() != 0 && !self.flows.contains_key(key));
        let key = key.or_else(|| self.key_of_our_own(core, to, gateway)).ok_or(DropReason::GatewayLimit)?;
        Ok(self.setup(core, key, socket, container, Direction::In))
    }

    /// A key with the gateway's address and a port that is free towards `inside`.
    fn key_of_our_own(&self, core: &mut Core, inside: SocketAddr, gateway: IpAddr) -> Option<FlowKey> {
        OWN_PORTS
            .starting_anywhere(&mut core.random)
            .map(|port| FlowKey { inside, outside: SocketAddr::new(gateway, port) })
            .find(|key| !self.flows.contains_key(key))
    }

    fn setup(&self, core: &mut Core, key: FlowKey, socket: SocketId, container: Mac, direction: Direction) -> Setup {
        Setup { key, socket, container, mtu: core.view.config.mtu, seed: core.random.next(), direction }
    }

    /// Why there may be no flow more, if so.
    fn limit_reached(&self, core: &Core) -> Option<DropReason> {
        let limits = &core.view.config.limits;
        let flows = (self.flows.len() >= limits.tcp_flows).then_some(DropReason::GatewayFlowLimit);
        flows.or_else(|| (self.half_open >= limits.tcp_half_open).then_some(DropReason::GatewayHalfOpenLimit))
    }
}

/// Says to the container what the network said to the host.
fn answer_failure(
    core: &mut Core,
    now: Time,
    packet: &Packet<'_>,
    segment: &Segment,
    error: OutsideError,
    outside: &mut impl Outside,
) -> Result<(), DropReason> {
    match error {
        OutsideError::Refused | OutsideError::Reset => segment::refuse(core, packet.mac, segment, outside),
        OutsideError::TimedOut | OutsideError::WouldBlock => (),
        OutsideError::NetworkUnreachable | OutsideError::HostUnreachable | OutsideError::Forbidden => {
            if let Some(error) = icmp::Error::of(error) {
                icmp::error(core, now, packet, error, outside);
            }
        }
        OutsideError::Exhausted => {
            segment::refuse(core, packet.mac, segment, outside);
            return Err(DropReason::GatewayLimit);
        }
        OutsideError::MessageTooLong(_) | OutsideError::Rejected | OutsideError::Failed => {
            segment::refuse(core, packet.mac, segment, outside);
            return Err(DropReason::GatewayOutside);
        }
    }
    Ok(())
}
