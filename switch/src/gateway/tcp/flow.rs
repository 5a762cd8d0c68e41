//! One TCP flow: a smoltcp socket towards the container, a host socket towards the outside, and the pump between them.
//!
//! All of smoltcp stands behind this type. What comes from the host socket is read into the send buffer. What comes from the container
//! goes straight into the host socket while that takes it ([`Straight`]), and through the receive buffer otherwise. What one side does
//! the other sees: FIN as FIN, RST as RST, a full buffer as a closed window or as data left in the host socket.
//!
//! Of two superframes that come soon after another the second alone is acknowledged, after their bytes went on to the host socket:
//! the window is then the whole buffer. A few bytes alone are acknowledged by what is said next, which for a question is its answer, or within a millisecond
//! (RFC 9293, 3.8.6.3, allows half a second). There is no Nagle: the sender outside has decided on its segments.

use std::time::Duration;

use smoltcp::{
    iface::{Config, Interface, PollResult, SocketHandle, SocketSet},
    socket::tcp::{CongestionControl, RecvError, Socket, State},
    time::Instant,
    wire::{HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint},
};

use super::{
    super::{Direction, Flow, Limits, Outside, OutsideError, Readiness, SocketId},
    FlowKey,
    asleep::{Asleep, Heard},
    device::{FlowDevice, LastSent, Lengths, Silence, Wire},
    probe::Probe,
    segment,
    straight::{Payload, Straight},
};
use crate::{Mac, Time, gateway::build::IPV6_HEADER};

/// smoltcp asked for another look: not sooner than this, so that a mistake there cannot keep a worker busy.
const SOONEST: Duration = Duration::from_millis(1);

/// A segment with fewer bytes is a question or an answer, and no part of a stream (the shortest that every host takes, RFC 9293, 3.7.1).
const FEW: usize = 536;
/// How long such a one may wait for its acknowledgement.
const ACKNOWLEDGE_FEW_WITHIN: Duration = Duration::from_millis(1);

/// With so many bytes in one segment, and after so many in all, there will soon be another: its sender's window has room for several.
const MANY: usize = 16 * 1024;
const STREAM: u32 = 1 << 20;
/// How long it may wait for that: less than a sender needs to fill it.
const ACKNOWLEDGE_MANY_WITHIN: Duration = Duration::from_micros(30);

/// How long a flow that is open must be silent before its buffers are given up. Making them anew takes microseconds.
const SLEEP_AFTER: Duration = Duration::from_secs(5);

/// How a flow ended, and so what is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Both sides finished. With `time_wait` the container may say its FIN again.
    Closed { time_wait: bool },
    /// The container reset it, or never answered.
    Inside,
    /// The host socket failed; the container has its RST.
    Outside,
}

/// What a new flow is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) key: FlowKey,
    pub(super) socket: SocketId,
    pub(super) container: Mac,
    pub(super) mtu: u16,
    pub(super) seed: u64,
    pub(super) direction: Direction,
}

/// A flow whose host socket is connected.
pub(super) struct TcpFlow {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    setup: Setup,
    last: LastSent,
    lengths: Lengths,
    heard: Heard,
    straight: Straight,
    /// The acknowledgement number that smoltcp does not know to be due.
    due: Option<u32>,
    /// When the container or the outside last said something.
    active: Time,
    probe: Probe,
    /// The host socket may have something to read; it has room. Both are kept until it says `WouldBlock`.
    readable: bool,
    writable: bool,
    /// Until when what came last of the container must be acknowledged.
    owed: Option<Time>,
    /// FIN was read from the host socket.
    outside_done: bool,
    /// FIN was written to the host socket.
    finished: bool,
    /// The handshake counts against the limit of half-open flows until this is false.
    pub(super) half_open: bool,
    gone: Option<Gone>,
}

impl TcpFlow {
    /// A flow that answers the container's SYN, which is to be the first [`frame`](Self::frame).
    pub(super) fn listening(setup: Setup, socket: Socket<'static>, now: Time) -> Self {
        let mut flow = Self::new(setup, socket, now);
        flow.listen();
        flow
    }

    /// A flow that has slept: `handshake` are the container's two words in one that leads to where it stood.
    pub(super) fn waking(asleep: &Asleep, seed: u64, socket: Socket<'static>, handshake: [&[u8]; 2], now: Time) -> Self {
        let mut flow = Self::new(Setup { seed, ..asleep.setup }, socket, now);
        flow.lengths = asleep.lengths;
        flow.listen();
        for packet in handshake {
            let Self { interface, sockets, last, lengths, .. } = &mut flow;
            let mut silence = Silence { packet: Some(packet), last, lengths: *lengths };
            interface.poll_ingress_single(instant(now), &mut silence, sockets);
            while interface.poll_egress(instant(now), &mut silence, sockets) == PollResult::SocketStateChanged {}
        }
        let stands = (flow.last.next, flow.last.acknowledgement) == (asleep.last.next, asleep.last.acknowledgement);
        if !stands || flow.state() != State::Established {
            // It cannot go on; the container's next segment is refused.
            flow.gone = Some(Gone::Inside);
        }
        (flow.setup, flow.last, flow.heard, flow.active) = (asleep.setup, asleep.last, asleep.heard, asleep.active);
        flow.straight = Straight::from(asleep.last.acknowledgement);
        (flow.readable, flow.writable, flow.half_open) = (asleep.readable, asleep.writable, false);
        flow
    }

    fn listen(&mut self) {
        let outside = self.setup.key.outside;
        if self.socket().listen(IpListenEndpoint { addr: Some(outside.ip().into()), port: outside.port() }).is_err() {
            self.gone = Some(Gone::Inside);
        }
    }

    /// A flow that connects to the container, in the name of `key.outside`.
    pub(super) fn connecting<O: Outside>(setup: Setup, socket: Socket<'static>, now: Time, wire: &mut Wire<'_, O>) -> Self {
        let mut flow = Self::new(setup, socket, now);
        let (inside, outside) = (IpEndpoint::from(setup.key.inside), IpEndpoint::from(setup.key.outside));
        let Self { interface, sockets, handle, .. } = &mut flow;
        if sockets.get_mut::<Socket<'_>>(*handle).connect(interface.context(), inside, outside).is_err() {
            flow.gone = Some(Gone::Inside);
        }
        flow.turn(now, wire);
        flow
    }

    fn new(setup: Setup, mut socket: Socket<'static>, now: Time) -> Self {
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_congestion_control(CongestionControl::None);
        let mut last = LastSent::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = setup.seed;
        let lengths = Lengths::new(setup.key.inside.is_ipv4(), setup.mtu);
        let mut device = Silence { packet: None, last: &mut last, lengths };
        let mut interface = Interface::new(config, &mut device, instant(now));
        let own = setup.key.outside.ip();
        interface.update_ip_addrs(|addresses| {
            // The list is empty and has room for two.
            let _ = addresses.push(IpCidr::new(own.into(), if own.is_ipv4() { 32 } else { 128 }));
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            interface,
            sockets,
            handle,
            setup,
            last,
            lengths,
            heard: Heard::default(),
            straight: Straight::default(),
            due: None,
            active: now,
            probe: Probe::default(),
            readable: true,
            writable: true,
            owed: None,
            outside_done: false,
            finished: false,
            half_open: true,
            gone: None,
        }
    }

    /// Takes a packet of this flow from the container, whose checksums are known to be right.
    pub(super) fn frame<O: Outside>(&mut self, now: Time, packet: &[u8], scratch: &mut Vec<u8>, wire: &mut Wire<'_, O>) {
        self.setup.container = wire.link.to;
        self.lengths.learn(packet);
        let segment = segment_of(packet);
        let acknowledged = self.heard.acknowledgement;
        let news = self.heard.learn(segment);
        let payload = Payload::of(segment);
        let is_bare = payload.is_some_and(|payload| payload.bytes.is_empty()) && self.heard.acknowledgement == acknowledged;
        if !(is_bare && self.probe.take_answer()) {
            self.active = now;
        }
        let Ok(gone) = payload.map_or(Ok(0), |payload| self.send_straight(&payload, wire.outside)) else {
            self.fail(now, wire);
            return;
        };
        self.straight.learn(segment);
        let len = payload.map_or(0, |payload| payload.bytes.len());
        if news || gone == 0 || gone < len {
            let header = packet.len() - segment.len();
            let seen = if self.straight.is_none() { Some(packet) } else { self.straight.inward(packet, header, gone, scratch) };
            seen.into_iter().for_each(|packet| self.ingress(now, packet, wire));
        }
        self.owe(now, len, gone);
        self.turn(now, wire);
    }

    /// Decides how long `len` bytes, of which as many as `gone` says went straight, may wait for their acknowledgement.
    fn owe(&mut self, now: Time, len: usize, gone: usize) {
        let waits = self.owed.is_some();
        self.owed = match len {
            1..FEW if !waits => Some(now + ACKNOWLEDGE_FEW_WITHIN),
            MANY.. if !waits && gone == len && self.straight.bytes() >= STREAM => Some(now + ACKNOWLEDGE_MANY_WITHIN),
            _ => None,
        };
    }

    /// Shows smoltcp a packet.
    fn ingress<O: Outside>(&mut self, now: Time, packet: &[u8], wire: &mut Wire<'_, O>) {
        let before = self.state();
        let Self { interface, sockets, last, lengths, straight, .. } = self;
        let mut device = FlowDevice { packet: Some(packet), wire, last, lengths: *lengths, straight: *straight };
        interface.poll_ingress_single(instant(now), &mut device, sockets);
        self.notice_reset(before);
    }

    /// Hands payload to the host socket past smoltcp if it comes in order, nothing is before it, and smoltcp would take it; how much
    /// of it went.
    fn send_straight(&mut self, payload: &Payload<'_>, outside: &mut impl Outside) -> Result<usize, OutsideError> {
        let Payload { sequence, acknowledgement, bytes } = *payload;
        let expected = self.due.unwrap_or(self.last.acknowledgement);
        let in_order = sequence == expected && self.straight.is_next(sequence);
        let believable = (acknowledgement.wrapping_sub(self.last.next) as i32) <= 0;
        // With all of the window open, whatever more comes within it finds room.
        let open = self.state() == State::Established && self.last.window > 0 && self.last.window == self.last.widest;
        if bytes.len() < FEW || !self.writable || !in_order || !believable || !open || self.socket().can_recv() {
            return Ok(0);
        }
        match outside.tcp_send(self.setup.socket, bytes) {
            Ok(gone) => {
                self.straight.add(gone);
                self.due = Some(sequence.wrapping_add(gone as u32));
                Ok(gone)
            }
            Err(OutsideError::WouldBlock) => {
                self.writable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// The host socket can go on.
    pub(super) fn ready<O: Outside>(&mut self, now: Time, what: Readiness, wire: &mut Wire<'_, O>) {
        // An error is found by reading and by writing.
        self.readable |= what.readable || what.error;
        self.writable |= what.writable || what.error;
        self.turn(now, wire);
    }

    /// Sends again what was lost, and gives up on a flow that has been silent for too long.
    pub(super) fn timer<O: Outside>(&mut self, now: Time, limits: &Limits, wire: &mut Wire<'_, O>) {
        if now >= self.idle_until(limits) {
            return self.abort(now, Gone::Inside, wire);
        }
        self.turn(now, wire);
        if self.container_may_be_gone() && now >= self.probe.due(self.active) {
            self.probe.ask(now);
            segment::acknowledge(wire, self.setup.key, LastSent { sequence: self.last.next.wrapping_sub(1), ..self.last });
        }
    }

    /// Whether the container has closed its end, and has nothing to acknowledge.
    fn container_may_be_gone(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        self.gone.is_none() && socket.state() == State::CloseWait && socket.send_queue() == 0
    }

    /// Sends RST to the container; `gone` says who is to blame.
    pub(super) fn abort<O: Outside>(&mut self, now: Time, gone: Gone, wire: &mut Wire<'_, O>) {
        self.socket().abort();
        self.gone = Some(gone);
        self.egress(now, wire);
    }

    /// Whether all that the container said, and that it was all, has gone to the host socket.
    pub(super) fn has_ended(&self) -> bool {
        self.finished
    }

    /// How the flow ended, once it has.
    pub(super) fn gone(&self) -> Option<Gone> {
        self.gone
    }

    /// When [`timer`](Self::timer) has something to do.
    pub(super) fn next_timer(&mut self, now: Time, limits: &Limits) -> Time {
        let idle = self.idle_until(limits);
        let idle = if self.rests() { idle.min(self.active + SLEEP_AFTER) } else { idle };
        let idle = if self.container_may_be_gone() { idle.min(self.probe.due(self.active)) } else { idle };
        if let Some(until) = self.owed {
            return until.min(idle);
        }
        match self.interface.poll_at(instant(now), &self.sockets) {
            Some(at) => idle.min((Time::ZERO + Duration::from_micros(at.total_micros().unsigned_abs())).max(now + SOONEST)),
            None => idle,
        }
    }

    /// Whether it has been silent for so long, with nothing on its way, that it may sleep.
    pub(super) fn may_sleep(&self, now: Time) -> bool {
        self.rests() && now >= self.active + SLEEP_AFTER
    }

    fn rests(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        let open = self.gone.is_none() && !self.outside_done && !self.finished && socket.state() == State::Established;
        open && socket.send_queue() == 0 && socket.recv_queue() == 0
    }

    /// What is kept of it while it sleeps, and the socket with its buffers, which is not.
    pub(super) fn sleep(self) -> (Asleep, Option<Socket<'static>>) {
        let Self { setup, last, lengths, heard, active, readable, writable, .. } = self;
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        let (receive, send) = (socket.recv_capacity(), socket.send_capacity());
        (Asleep { setup, last, lengths, heard, active, readable, writable, receive, send }, self.into_socket())
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) fn last_sent(&self) -> LastSent {
        self.last
    }

    pub(super) fn report(&self, now: Time) -> Flow {
        let FlowKey { inside, outside } = self.setup.key;
        let state = match self.state() {
            State::Closed => "closed",
            State::Listen => "listen",
            State::SynSent => "syn-sent",
            State::SynReceived => "syn-received",
            State::Established => "established",
            State::FinWait1 => "fin-wait-1",
            State::FinWait2 => "fin-wait-2",
            State::CloseWait => "close-wait",
            State::Closing => "closing",
            State::LastAck => "last-ack",
            State::TimeWait => "time-wait",
        };
        Flow { protocol: "tcp", inside, outside, direction: self.setup.direction, state, idle: now.since(self.active) }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.state(), State::Listen | State::SynSent | State::SynReceived)
    }

    /// The state of the connection with the container.
    fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// The socket with its buffers, to be used again.
    pub(super) fn into_socket(mut self) -> Option<Socket<'static>> {
        match self.sockets.remove(self.handle) {
            smoltcp::socket::Socket::Tcp(socket) => Some(socket),
            #[expect(unreachable_patterns, reason = "smoltcp's features decide which kinds there are")]
            _ => None,
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// A RST leaves no trace in smoltcp but the state it leads to. A socket that listens still, or again, has met a SYN that it
    /// cannot read or a RST that took the SYN back.
    fn notice_reset(&mut self, before: State) {
        let was_over = matches!(before, State::Closed | State::LastAck | State::TimeWait);
        if self.state() == State::Listen || (self.state() == State::Closed && !was_over) {
            self.gone = Some(Gone::Inside);
        }
    }

    /// Moves what can be moved both ways, then sends what is to be sent.
    fn turn<O: Outside>(&mut self, now: Time, wire: &mut Wire<'_, O>) {
        if self.gone.is_some() {
            return;
        }
        let moved = self.pump_out(wire.outside).and_then(|()| self.pump_in(now, wire.outside));
        if moved.is_err() {
            self.fail(now, wire);
            return;
        }
        let finishes = !self.finished && self.socket().peek(1) == Err(RecvError::Finished);
        self.finished |= finishes;
        if !self.may_wait(now) {
            self.egress(now, wire);
        }
        let state = self.state();
        let drained = !self.socket().can_recv();
        if matches!(state, State::Closed | State::TimeWait) && self.finished && drained {
            // Closing the host socket, of which all has been read, sends its FIN.
            self.gone = Some(Gone::Closed { time_wait: state == State::TimeWait });
        } else if finishes {
            wire.outside.tcp_finish(self.setup.socket);
        }
    }

    /// Whether all there is to say is that bytes have come, and somebody may have more to say soon.
    fn may_wait(&mut self, now: Time) -> bool {
        let alone = self.state() == State::Established && self.socket().send_queue() == 0;
        self.owed.is_some_and(|until| alone && now < until)
    }

    fn pump_out(&mut self, outside: &mut impl Outside) -> Result<(), OutsideError> {
        let id = self.setup.socket;
        while self.writable && self.socket().can_recv() {
            let sent = self.socket().recv(|bytes| match outside.tcp_send(id, bytes) {
                Ok(taken) => (taken.min(bytes.len()), Ok(taken)),
                Err(error) => (0, Err(error)),
            });
            match sent {
                Ok(Ok(0) | Err(OutsideError::WouldBlock)) => self.writable = false,
                Ok(Ok(_)) => (),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn pump_in(&mut self, now: Time, outside: &mut impl Outside) -> Result<(), OutsideError> {
        while self.readable && !self.outside_done && self.socket().can_send() {
            match self.read(outside) {
                Ok(0) => {
                    self.outside_done = true;
                    self.socket().close();
                }
                Ok(_) => self.active = now,
                Err(OutsideError::WouldBlock) => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads from the host socket into the send buffer.
    fn read(&mut self, outside: &mut impl Outside) -> Result<usize, OutsideError> {
        let id = self.setup.socket;
        let received = self.socket().send(|room| match outside.tcp_recv(id, room) {
            Ok(read) => (read.min(room.len()), Ok(read)),
            Err(error) => (0, Err(error)),
        });
        // A buffer that takes nothing more is not asked for room.
        received.unwrap_or(Err(OutsideError::Failed))
    }

    /// Ends the flow of a host socket that failed. What had come before can be read still, and goes to the container before its RST, as
    /// far as its window is open: a server that refuses an upload says why, and resets it for what it left unread.
    fn fail<O: Outside>(&mut self, now: Time, wire: &mut Wire<'_, O>) {
        // The end of what can be read is here no FIN, by which half an answer would seem whole.
        while !self.outside_done && self.socket().can_send() && self.read(wire.outside).is_ok_and(|read| read > 0) {}
        self.egress(now, wire);
        self.abort(now, Gone::Outside, wire);
    }

    fn egress<O: Outside>(&mut self, now: Time, wire: &mut Wire<'_, O>) {
        let Self { interface, sockets, last, lengths, straight, setup, .. } = self;
        wire.link.to = setup.container;
        self.owed = None;
        let mut device = FlowDevice { packet: None, wire, last, lengths: *lengths, straight: *straight };
        while interface.poll_egress(instant(now), &mut device, sockets) == PollResult::SocketStateChanged {}
        if let Some(due) = self.due.take()
            && (due.wrapping_sub(last.acknowledgement) as i32) > 0
        {
            (last.sequence, last.acknowledgement) = (last.next, due);
            segment::acknowledge(wire, setup.key, *last);
        }
    }

    /// The end of the flow's patience (RFC 5382, REQ-5). A flow that one side has closed is open: the other may have much to say.
    fn idle_until(&self, limits: &Limits) -> Time {
        let open = matches!(self.state(), State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait);
        self.active + if open { limits.tcp_established } else { limits.tcp_transitory }
    }
}

impl std::fmt::Debug for TcpFlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpFlow")
            .field("setup", &self.setup)
            .field("state", &self.state())
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}

/// A packet without extension headers, from its TCP header on.
fn segment_of(packet: &[u8]) -> &[u8] {
    let header = match packet.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 0xf) * 4,
        _ => IPV6_HEADER,
    };
    packet.get(header..).unwrap_or_default()
}

/// smoltcp counts microseconds.
fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}
