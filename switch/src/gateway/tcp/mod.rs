//! TCP of one port: which segment belongs to which flow.
//!
//! ```text
//!            SYN                 connected              FIN both ways
//!   (none) ───────▶ Connecting ────────────▶ Open ─────────────────────▶ ended (TIME-WAIT) ──▶ (none)
//!                       │ refused: RST        ▲ │ RST, timeout, broken socket
//!                       │ unreachable: ICMP   │ └──────────▶ (none)
//!                       ▼ timeout: silence    │
//!                     (none)            accepted()
//! ```
//!
//! What leads from one state to the next stands in `open.rs`; what happens within an open flow, in `flow.rs`.

mod asleep;
mod device;
mod ended;
mod flow;
mod open;
mod probe;
mod segment;
mod spares;
mod straight;

use std::{collections::HashMap, net::SocketAddr};

use self::{
    asleep::Asleep,
    device::Wire,
    ended::Ended,
    flow::{Gone, TcpFlow},
    open::Connecting,
    segment::Segment,
    spares::Spares,
};
use super::{
    Core, Flow, Outside, Readiness,
    build::Link,
    dns, icmp,
    packet::Packet,
    policy::{self, Destination},
};
use crate::{DropReason, Mac, Time};

/// What tells one flow from another: the container's endpoint and the one it talks to, as the container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowKey {
    pub(super) inside: SocketAddr,
    pub(super) outside: SocketAddr,
}

#[derive(Debug)]
enum State {
    /// A host socket connects; the container hears nothing until it has.
    Connecting(Connecting),
    Open(Box<TcpFlow>),
    /// Open, and silent for a while.
    Asleep(Box<Asleep>),
}

impl State {
    /// The open flow, awake; `None` while its host socket connects.
    fn awake(&mut self, now: Time, spares: &mut Spares) -> Option<&mut TcpFlow> {
        if let Self::Asleep(asleep) = self {
            *self = Self::Open(Box::new(asleep.wake(now, spares)));
        }
        if let Self::Open(flow) = self { Some(flow) } else { None }
    }
}

/// The flows of one port.
#[derive(Debug, Default)]
pub(super) struct TcpTable {
    flows: HashMap<FlowKey, State>,
    /// How many of them have not finished their handshake.
    half_open: usize,
    ended: Ended,
    spares: Spares,
    /// Room for one packet, for flows that need it: as large as the longest so far.
    scratch: Vec<u8>,
}

impl TcpTable {
    /// Takes a segment from the container.
    pub(super) fn frame(&mut self, core: &mut Core, now: Time, packet: &Packet<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
        if !packet.transport_is_sound() {
            return Err(DropReason::GatewayChecksum);
        }
        let segment = Segment::parse(packet)?;
        match self.flows.get_mut(&segment.key) {
            Some(State::Connecting(connecting)) => connecting.frame(packet, &segment),
            Some(open) => {
                if let Some(flow) = open.awake(now, &mut self.spares) {
                    flow.frame(now, &packet.without_extensions(), &mut self.scratch, &mut core.wire(packet.mac, outside));
                }
                self.settle(core, now, segment.key, outside);
            }
            None => return self.stranger(core, now, packet, &segment, outside),
        }
        Ok(())
    }

    /// A segment of no flow: one that opens a flow, the last word of one that is over, or a mistake.
    fn stranger(
        &mut self,
        core: &mut Core,
        now: Time,
        packet: &Packet<'_>,
        segment: &Segment,
        outside: &mut impl Outside,
    ) -> Result<(), DropReason> {
        let to = match policy::destination(&core.view, packet.destination) {
            Destination::Subnet => return Err(DropReason::GatewayUnsupported),
            // What a packet filter says that does not hide: the program sees "no route to host" at once, not a service that is down.
            Destination::Forbidden => {
                icmp::error(core, now, packet, icmp::Error::Prohibited, outside);
                return Err(DropReason::GatewayForbidden);
            }
            // Whoever calls has a server there in the place of a host socket.
            Destination::Gateway if segment.key.outside.port() == dns::PORT => Some(packet.destination),
            Destination::Gateway => policy::gateway_port(&core.view, packet.destination),
            Destination::Outside(to) => Some(to),
        };
        if segment.opens() {
            return self.open(core, now, packet, segment, to, outside);
        }
        match self.ended.get(now, &segment.key) {
            Some(last) if segment.is_fin() => segment::acknowledge(&mut core.wire(packet.mac, outside), segment.key, last),
            Some(_) => (),
            None => segment::refuse(core, packet.mac, segment, outside),
        }
        Ok(())
    }

    /// The host socket of a flow can go on.
    pub(super) fn ready(&mut self, core: &mut Core, now: Time, key: FlowKey, what: Readiness, outside: &mut impl Outside) {
        match self.flows.get_mut(&key) {
            Some(State::Connecting(_)) => self.connected(core, now, key, outside),
            Some(open) => {
                if let Some(flow) = open.awake(now, &mut self.spares) {
                    let to = flow.setup().container;
                    flow.ready(now, what, &mut core.wire(to, outside));
                }
                self.settle(core, now, key, outside);
            }
            None => (),
        }
    }

    /// Ends an open flow with a RST to both sides.
    pub(super) fn reset(&mut self, core: &mut Core, now: Time, key: FlowKey, outside: &mut impl Outside) {
        if let Some(flow) = self.flows.get_mut(&key).and_then(|state| state.awake(now, &mut self.spares)) {
            let to = flow.setup().container;
            flow.abort(now, Gone::Inside, &mut core.wire(to, outside));
            self.settle(core, now, key, outside);
        }
    }

    /// The time of a flow's socket has come.
    pub(super) fn timer(&mut self, core: &mut Core, now: Time, key: FlowKey, outside: &mut impl Outside) {
        match self.flows.get_mut(&key) {
            Some(State::Open(flow)) => {
                let (to, config) = (flow.setup().container, core.view.config.clone());
                flow.timer(now, &config.limits, &mut core.wire(to, outside));
                if flow.may_sleep(now) { self.fall_asleep(core, key) } else { self.settle(core, now, key, outside) }
            }
            Some(State::Asleep(asleep)) => {
                let until = asleep.idle_until(&core.view.config.limits);
                if now >= until { self.reset(core, now, key, outside) } else { core.sockets.wake_by(asleep.setup.socket, until) }
            }
            Some(State::Connecting(_)) => self.give_up_connecting(core, now, key, outside),
            None => (),
        }
    }

    /// Gives up the buffers of an open flow.
    fn fall_asleep(&mut self, core: &mut Core, key: FlowKey) {
        if !matches!(self.flows.get(&key), Some(State::Open(_))) {
            return;
        }
        let Some(State::Open(flow)) = self.flows.remove(&key) else { return };
        let (asleep, buffers) = flow.sleep();
        if let Some(buffers) = buffers {
            self.spares.give_back(buffers);
        }
        core.sockets.wake_by(asleep.setup.socket, asleep.idle_until(&core.view.config.limits));
        self.flows.insert(key, State::Asleep(Box::new(asleep)));
    }

    /// After each turn of a flow: its end, or its next timer.
    fn settle(&mut self, core: &mut Core, now: Time, key: FlowKey, outside: &mut impl Outside) {
        let Some(State::Open(flow)) = self.flows.get_mut(&key) else { return };
        let socket = flow.setup().socket;
        if flow.half_open && !flow.is_handshaking() {
            flow.half_open = false;
            self.half_open -= 1;
        }
        let Some(gone) = flow.gone() else {
            let at = flow.next_timer(now, &core.view.config.limits);
            core.sockets.wake_by(socket, at);
            return;
        };
        match gone {
            Gone::Inside => outside.tcp_reset(socket),
            Gone::Closed { .. } | Gone::Outside => outside.close(socket),
        }
        if gone == (Gone::Closed { time_wait: true }) {
            let limits = &core.view.config.limits;
            self.ended.insert(now, limits.tcp_time_wait, limits.tcp_flows, key, flow.last_sent());
        }
        self.half_open -= usize::from(flow.half_open);
        core.sockets.remove(socket);
        if let Some(State::Open(flow)) = self.flows.remove(&key)
            && let Some(socket) = flow.into_socket()
        {
            self.spares.give_back(socket);
        }
    }

    pub(super) fn flows(&self, now: Time) -> impl Iterator<Item = Flow> + '_ {
        self.flows.iter().map(move |(key, state)| match state {
            State::Connecting(connecting) => connecting.report(now, *key),
            State::Open(flow) => flow.report(now),
            State::Asleep(asleep) => asleep.report(now),
        })
    }

    /// Resets every flow on both sides. What a container has said to its end is not taken back: its host socket is closed, and the kernel
    /// brings the rest to the server.
    pub(super) fn close_all(&mut self, core: &mut Core, now: Time, outside: &mut impl Outside) {
        for (_, mut state) in self.flows.drain() {
            let (socket, has_ended) = match &state {
                State::Connecting(connecting) => (connecting.socket, false),
                State::Open(flow) => (flow.setup().socket, flow.has_ended()),
                State::Asleep(asleep) => (asleep.setup.socket, false),
            };
            if let Some(flow) = state.awake(now, &mut self.spares) {
                let to = flow.setup().container;
                flow.abort(now, Gone::Inside, &mut core.wire(to, outside));
            }
            if has_ended {
                outside.close(socket);
            } else {
                outside.tcp_reset(socket);
            }
            core.sockets.remove(socket);
        }
        *self = Self::default();
    }
}

impl Core {
    /// What a flow needs to speak to the container at `to`.
    fn wire<'a, O: Outside>(&'a mut self, to: Mac, outside: &'a mut O) -> Wire<'a, O> {
        Wire { link: Link { from: self.view.config.mac, to }, builder: &mut self.builder, outside }
    }
}
