//! One port: its frames, its gateway with the host sockets, its publications. One value, owned by one worker at a time.
//!
//! ```text
//!            park                      settle
//!   worker ────────▶ on its way ────────────────▶ worker (the same or another)
//!     │ frames flow   nothing of it is in any epoll set or timer; frames wait in its ring
//!     └─ retire: flows are reset, sockets closed
//! ```

use std::{net::IpAddr, ops::ControlFlow, sync::Arc, time::Duration};

use netloom_switch::{
    Mac, PortCounters, PortId, Time, Verdict,
    gateway::{Flow, Gateway, LeaseReply, Readiness, SocketId, View},
};

use super::{
    ListenerConfig, ListenerId, NetworkId,
    burst::Burst,
    datagrams::Datagrams,
    egress::EgressTable,
    ingress::Ingress,
    listeners::{Accepted, Acceptor, Listener, Listeners},
    network::Network,
    outside::Host,
    pace::Pace,
    port_io::{PortIo, RecvError},
    run::Run,
    sockets::{self, HostSocket, Sockets},
    sources::Sources,
    timers::{Due, Timers},
    worker::Slot,
};
use crate::spec::Protocol;

/// Frames that a port gets in one turn before others have theirs: a few hundred microseconds of the largest. One that goes to many ports
/// counts as so many.
const FRAMES: usize = 32;

/// Connections that a listener gets in one turn.
const CONNECTIONS: usize = 32;

/// The name of a port in the whole data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PortKey {
    pub(super) network: NetworkId,
    pub(super) port: PortId,
}

/// What a port uses of its worker.
pub(super) struct Place<'a> {
    pub(super) now: Time,
    pub(super) slot: Slot,
    pub(super) sources: &'a mut Sources,
    pub(super) timers: &'a mut Timers,
    pub(super) run: &'a mut Run,
}

/// Whether something is left for the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// An event or the clock will tell when there is more.
    Done,
    More,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) key: PortKey,
    /// Whose it is.
    owner: Arc<str>,
    network: Arc<Network>,
    counters: Arc<PortCounters>,
    io: Arc<dyn PortIo>,
    gateway: Gateway,
    /// What the gateway was told, to tell its successor.
    view: View,
    neighbours: Vec<(IpAddr, Mac)>,
    sockets: Sockets,
    listeners: Listeners,
    ingress: Ingress,
    /// When the worker looks at the gateway next.
    armed: Option<Time>,
    pace: Pace,
    /// How long the worker has been busy with it since it last added up.
    pub(super) took: Duration,
}

impl Port {
    /// `neighbours` is what the IPAM gave the container.
    pub(super) fn new(
        (key, owner): (PortKey, Arc<str>),
        network: Arc<Network>,
        counters: Arc<PortCounters>,
        io: Arc<dyn PortIo>,
        (view, neighbours, seed): (View, Vec<(IpAddr, Mac)>, u64),
    ) -> Self {
        let sockets = Sockets::new(&network.budgets);
        Self {
            key,
            owner,
            network,
            counters,
            io,
            gateway: new_gateway(&view, &neighbours, seed),
            view,
            neighbours,
            sockets,
            listeners: Listeners::default(),
            ingress: Ingress::default(),
            armed: None,
            pace: Pace::default(),
            took: Duration::ZERO,
        }
    }

    /// Takes its place on a worker. What became ready on the way is reported anew.
    pub(super) fn settle(&mut self, at: &mut Place<'_>) -> nix::Result<()> {
        self.ingress.watch(self.io.readiness(), at)?;
        self.listeners.resume(at.slot, at.sources)?;
        for lost in self.sockets.resume(at.slot, at.sources) {
            self.sockets.close(lost, at.sources);
            self.socket(lost, Readiness { error: true, ..Readiness::default() }, at);
        }
        self.arm(at);
        Ok(())
    }

    /// Leaves its worker.
    pub(super) fn park(&mut self, at: &mut Place<'_>) {
        self.ingress.stop(self.io.readiness(), at);
        self.listeners.suspend(at.slot, at.sources, at.timers);
        self.sockets.suspend(at.sources);
        at.timers.disarm(&mut self.armed, Due::Gateway(at.slot));
    }

    /// Ends its flows and closes its sockets; nothing is left but to drop it.
    pub(super) fn retire(&mut self, at: &mut Place<'_>) {
        self.gateway(at, |gateway, host| gateway.close_all(host.now, host));
        self.sockets.close_all(at.sources);
        self.park(at);
    }

    /// Starts anew after a panic while the port was served: its flows are lost, its publications are not.
    pub(super) fn revive(&mut self, seed: u64, at: &mut Place<'_>) -> nix::Result<()> {
        self.gateway = new_gateway(&self.view, &self.neighbours, seed);
        let mut published = Vec::new();
        for (socket, to) in self.listeners.datagrams() {
            if let Some(open) = self.sockets.take(*socket, at.sources) {
                *socket = self.gateway.new_socket_id();
                self.gateway.publish_udp(*socket, to);
                published.push((*socket, open));
            }
        }
        self.sockets.close_all(at.sources);
        for (socket, open) in published {
            self.sockets.insert(at.slot, socket, open, at.sources)?;
        }
        self.park(at);
        self.settle(at)
    }

    /// Serves frames that have come in.
    pub(super) fn receive(&mut self, at: &mut Place<'_>, burst: &mut Burst) -> Progress {
        let progress = self.receive_some(at, burst);
        if at.run.waits() {
            self.gateway(at, |_, host| host.end_run());
        }
        // The next port's sockets have the same numbers.
        at.run.end();
        progress
    }

    fn receive_some(&mut self, at: &mut Place<'_>, burst: &mut Burst) -> Progress {
        let network = Arc::clone(&self.network);
        let table = network.table.load();
        let (mut left, mut asked) = (FRAMES, self.pace.begin());
        while left > 0 {
            asked = burst.read(&*self.io, asked.min(left));
            let (mut frames, mut came, mut bytes, mut written, mut end) = (0, 0, 0, 0, None);
            for room in 0..asked {
                match burst.held(room) {
                    Ok(held) => {
                        let ports = self.serve(at, &table, burst, room);
                        (frames, came) = (frames + 1, came + held.len);
                        (bytes, written) = (bytes + held.len * ports, written + ports);
                    }
                    Err(RecvError::Unfit { len, reason }) => {
                        network.switch.refuse(self.key.port, len, reason);
                        self.ingress.read(at.now, 1, len);
                    }
                    Err(ended) => end = Some(ended),
                }
            }
            burst.flush(&table, &self.counters);
            self.ingress.read(at.now, frames, came);
            left = left.saturating_sub(asked.max(written));
            asked = self.pace.next(asked, frames, bytes);
            match end {
                None => (),
                Some(RecvError::Closed) => {
                    self.ingress.stop(self.io.readiness(), at);
                    return Progress::Done;
                }
                Some(_) => {
                    self.ingress.emptied(self.io.readiness(), at);
                    return Progress::Done;
                }
            }
        }
        Progress::More
    }

    /// The switch's verdict on one frame, carried out: to the gateway at once, elsewhere with the burst. To how many ports it went; one
    /// that went nowhere has cost as much as one that went somewhere.
    fn serve(&mut self, at: &mut Place<'_>, table: &EgressTable, burst: &mut Burst, room: usize) -> usize {
        match self.network.switch.handle(at.now, self.key.port, &burst.frame(room)) {
            Verdict::Forward(port) => self.egress(at, table, burst, room, port),
            Verdict::Flood(ports) => return ports.iter().map(|port| self.egress(at, table, burst, room, port)).count().max(1),
            Verdict::Drop(_) => (),
        }
        1
    }

    /// The way out of a frame: the gateway is this port's own, everything else a way in the table.
    fn egress(&mut self, at: &mut Place<'_>, table: &EgressTable, burst: &mut Burst, room: usize, port: PortId) {
        if port != PortId::GATEWAY {
            return burst.forward(room, port, table, &self.counters);
        }
        let Self { key, owner, network, gateway, sockets, .. } = self;
        let frame = burst.frame(room);
        let mut host =
            Host { now: at.now, slot: at.slot, port: key.port, owner, network, table, sockets, sources: at.sources, run: at.run };
        match gateway.frame(at.now, &frame, &mut host) {
            Ok(()) => network.gateway.sent(frame.bytes.len()),
            Err(reason) => network.gateway.dropped(reason),
        }
    }

    /// A host socket can go on.
    pub(super) fn socket(&mut self, socket: SocketId, readiness: Readiness, at: &mut Place<'_>) {
        self.gateway(at, |gateway, host| gateway.ready(host.now, socket, readiness, host));
    }

    /// The instant that was armed has come.
    pub(super) fn timer(&mut self, at: &mut Place<'_>) {
        self.armed = None;
        // A busy flow has put its timer off since.
        if self.gateway.next_timer().is_some_and(|due| due <= at.now) {
            self.gateway(at, |gateway, host| gateway.timer(host.now, host));
        }
        self.arm(at);
    }

    /// Has the worker look at the gateway when it wants to be looked at.
    pub(super) fn arm(&mut self, at: &mut Place<'_>) {
        at.timers.arm(&mut self.armed, self.gateway.next_timer(), Due::Gateway(at.slot));
    }

    pub(super) fn listen(&mut self, id: ListenerId, config: ListenerConfig, at: &mut Place<'_>) -> std::io::Result<()> {
        let listener = match config.protocol {
            Protocol::Tcp => Listener::Tcp(Acceptor::new(config.socket, config.to)?),
            Protocol::Udp => {
                let host_socket = HostSocket::Published(Datagrams::publish(config.socket)?);
                let socket = self.gateway.new_socket_id();
                self.sockets.insert(at.slot, socket, host_socket, at.sources)?;
                self.gateway.publish_udp(socket, config.to);
                Listener::Udp { socket, to: config.to }
            }
        };
        Ok(self.listeners.insert(id, listener, at.slot, at.sources)?)
    }

    /// Stops a listener; false if there is none of that name.
    pub(super) fn unlisten(&mut self, id: ListenerId, at: &mut Place<'_>) -> bool {
        let listener = self.listeners.remove(id, at.slot, at.sources, at.timers);
        if let Some(Listener::Udp { socket, .. }) = listener {
            self.gateway.unpublish_udp(socket);
            self.sockets.close(socket, at.sources);
        }
        listener.is_some()
    }

    /// The answer to a lease that its gateway asked about.
    pub(super) fn lease_answered(&mut self, answer: &LeaseReply, at: &mut Place<'_>) {
        self.gateway(at, |gateway, host| gateway.lease_answered(answer, host));
    }

    /// Takes connections that wait on a listener.
    pub(super) fn accept(&mut self, id: ListenerId, at: &mut Place<'_>) -> Progress {
        for _ in 0..CONNECTIONS {
            if self.accept_one(id, at).is_break() {
                return Progress::Done;
            }
        }
        Progress::More
    }

    fn accept_one(&mut self, id: ListenerId, at: &mut Place<'_>) -> ControlFlow<()> {
        let has_room = self.sockets.has_room();
        let Some(acceptor) = self.listeners.acceptor(id) else { return ControlFlow::Break(()) };
        let to = acceptor.to;
        // Connections wait in the kernel's queue meanwhile.
        let (stream, peer) = match if has_room { acceptor.accept() } else { Accepted::NotNow } {
            Accepted::Connection(stream, peer) => (stream, peer),
            Accepted::Nobody => return ControlFlow::Break(()),
            Accepted::NotNow => {
                acceptor.rest(at.now, Due::Accept(at.slot, id), at.timers);
                return ControlFlow::Break(());
            }
        };
        let socket = self.gateway.new_socket_id();
        // A socket that cannot be kept is closed here; the gateway finds none of that number and ends the flow.
        if let Ok(stream) = sockets::accepted(stream) {
            let _ = self.sockets.insert(at.slot, socket, stream, at.sources);
        }
        let peer = sockets::canonical(peer);
        self.gateway(at, |gateway, host| gateway.accepted(host.now, socket, peer, to, host));
        ControlFlow::Continue(())
    }

    pub(super) fn acceptor(&mut self, id: ListenerId) -> Option<&mut Acceptor> {
        self.listeners.acceptor(id)
    }

    pub(super) fn ingress(&mut self) -> &mut Ingress {
        &mut self.ingress
    }

    pub(super) fn set_view(&mut self, view: View) {
        self.view = view.clone();
        self.gateway.set_view(view);
    }

    pub(super) fn flows(&self, now: Time) -> Vec<Flow> {
        self.gateway.flows(now)
    }

    fn gateway<R>(&mut self, at: &mut Place<'_>, what: impl FnOnce(&mut Gateway, &mut Host<'_>) -> R) -> R {
        let Self { key, owner, network, gateway, sockets, .. } = self;
        let table = network.table.load();
        let mut host =
            Host { now: at.now, slot: at.slot, port: key.port, owner, network, table: &table, sockets, sources: at.sources, run: at.run };
        let result = what(gateway, &mut host);
        host.end_run();
        result
    }
}

fn new_gateway(view: &View, neighbours: &[(IpAddr, Mac)], seed: u64) -> Gateway {
    let mut gateway = Gateway::new(view.clone(), seed);
    for (ip, mac) in neighbours {
        gateway.set_neighbour(*ip, *mac);
    }
    gateway
}
