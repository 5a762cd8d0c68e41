//! DNS over TCP (RFC 7766): what stands behind a flow to the gateway's port 53 in the place of a host socket.
//!
//! ```text
//!   container ── TCP ──▶ TcpFlow ── tcp_send ──▶ input ── whole messages ──▶ Dns::query
//!   container ◀── TCP ── TcpFlow ◀── tcp_recv ── output ◀── answers, in the order in which they come
//! ```
//!
//! A client that reads nothing is read from no more once [`OUTPUT`] bytes wait for it or [`IN_FLIGHT`] of its queries are being asked;
//! one that is silent is hung up on. Both cost one entry of [`Streams`], and nobody waits for them.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    DropReason, Frame, Mac, Time,
    gateway::{
        Core, Datagram, Departure, EchoError, EchoReply, EchoRequest, LeaseQuestion, Outside, OutsideError, Readiness, SocketId,
        sockets::Owner, tcp::FlowKey,
    },
};

/// A message's length stands before it (RFC 1035, 4.2.2).
pub(super) const LENGTH: usize = 2;
/// The longest message with its length.
const INPUT: usize = LENGTH + u16::MAX as usize;
/// Bytes of answers that may wait before no further message is taken.
const OUTPUT: usize = u16::MAX as usize;
/// Queries of one client that may be on their way.
const IN_FLIGHT: usize = 32;

#[derive(Debug)]
struct Stream {
    key: FlowKey,
    /// What the container sent: at most one message and the beginning of the next.
    input: Vec<u8>,
    output: VecDeque<u8>,
    in_flight: usize,
    /// When it began, asked or was answered last.
    active: Time,
    /// The container has sent FIN.
    finished: bool,
    /// We hang up once all is read.
    closing: bool,
    broken: bool,
    /// It is in the list of those to look at.
    touched: bool,
}

impl Stream {
    fn has_room(&self) -> bool {
        self.in_flight < IN_FLIGHT && self.output.len() < OUTPUT && !self.closing
    }

    /// The next whole message.
    fn first(&self) -> Option<&[u8]> {
        let ([a, b], rest) = self.input.split_first_chunk::<LENGTH>()?;
        rest.get(..usize::from(u16::from_be_bytes([*a, *b])))
    }

    /// Takes the next whole message.
    fn message(&mut self) -> Option<Vec<u8>> {
        let message = self.first()?.to_vec();
        self.input.drain(..LENGTH + message.len());
        Some(message)
    }

    fn is_done(&self) -> bool {
        self.closing || (self.finished && self.in_flight == 0 && self.first().is_none())
    }
}

/// The clients of one port that ask over TCP.
#[derive(Debug, Default)]
pub(in super::super) struct Streams {
    streams: HashMap<SocketId, Stream>,
    touched: VecDeque<SocketId>,
    /// What the timer of all of them runs under.
    clock: Option<SocketId>,
}

impl Streams {
    pub(in super::super) fn has(&self, socket: SocketId) -> bool {
        self.streams.contains_key(&socket)
    }

    /// The world as a flow of `key` sees it: its host socket is a stream of ours.
    pub(in super::super) fn serve<'a, O>(&'a mut self, now: Time, key: FlowKey, most: usize, outside: &'a mut O) -> Served<'a, O> {
        Served { now, key, most, streams: self, outside }
    }

    /// The next message that a client sent and that may be asked now.
    pub(super) fn message(&mut self, socket: SocketId, now: Time) -> Option<(FlowKey, Vec<u8>)> {
        let stream = self.streams.get_mut(&socket).filter(|stream| stream.has_room())?;
        let message = stream.message()?;
        stream.in_flight += 1;
        stream.active = now;
        Some((stream.key, message))
    }

    /// The answer to a message; nothing: there will be none.
    pub(super) fn answer(&mut self, socket: SocketId, now: Time, message: &[u8]) {
        let Some(stream) = self.streams.get_mut(&socket) else { return };
        stream.in_flight = stream.in_flight.saturating_sub(1);
        stream.active = now;
        if let (1.., Ok(length)) = (message.len(), u16::try_from(message.len())) {
            stream.output.extend(length.to_be_bytes());
            stream.output.extend(message);
        }
        self.touch(socket);
    }

    /// A stream that something happened to.
    pub(super) fn next_touched(&mut self) -> Option<SocketId> {
        let socket = self.touched.pop_front()?;
        if let Some(stream) = self.streams.get_mut(&socket) {
            stream.touched = false;
        }
        Some(socket)
    }

    /// What its flow can do now.
    pub(super) fn readiness(&self, socket: SocketId) -> Option<(FlowKey, Readiness)> {
        let stream = self.streams.get(&socket)?;
        let readable = !stream.output.is_empty() || stream.is_done() || stream.broken;
        Some((stream.key, Readiness { readable, writable: stream.input.len() < INPUT, error: stream.broken }))
    }

    fn touch(&mut self, socket: SocketId) {
        if let Some(stream) = self.streams.get_mut(&socket)
            && !std::mem::replace(&mut stream.touched, true)
        {
            self.touched.push_back(socket);
        }
    }

    /// Has the timer run while there are streams.
    pub(super) fn arm(&mut self, core: &mut Core) {
        let idle = core.view.config.limits.dns_idle;
        let Some(first) = self.streams.values().map(|stream| stream.active).min() else {
            return;
        };
        let clock = *self.clock.get_or_insert_with(|| core.sockets.add(Owner::DnsStreams));
        core.sockets.wake_by(clock, first + idle);
    }

    /// Hangs up on those that have been silent, and ends those that would not hear it.
    pub(super) fn expire(&mut self, core: &mut Core, now: Time) {
        let idle: Duration = core.view.config.limits.dns_idle;
        let silent = |stream: &Stream| stream.in_flight == 0 && stream.active + idle <= now;
        let expired: Vec<SocketId> = self.streams.iter().filter(|(_, stream)| silent(stream)).map(|(socket, _)| *socket).collect();
        for socket in expired {
            if let Some(stream) = self.streams.get_mut(&socket) {
                stream.broken = std::mem::replace(&mut stream.closing, true);
                stream.active = now;
            }
            self.touch(socket);
        }
        // A query on its way has a timer of its own, and is looked at again when this one's period is over.
        for stream in self.streams.values_mut().filter(|stream| stream.in_flight > 0) {
            stream.active = stream.active.max(now);
        }
        if self.streams.is_empty() {
            self.close_all(core);
        } else {
            self.arm(core);
        }
    }

    pub(super) fn close_all(&mut self, core: &mut Core) {
        if let Some(clock) = self.clock.take() {
            core.sockets.remove(clock);
        }
        self.streams.clear();
        self.touched.clear();
    }
}

/// The outside of a flow to the gateway's port 53.
#[derive(Debug)]
pub(in super::super) struct Served<'a, O> {
    now: Time,
    key: FlowKey,
    most: usize,
    streams: &'a mut Streams,
    outside: &'a mut O,
}

impl<O> Served<'_, O> {
    fn stream(&mut self, socket: SocketId) -> Result<&mut Stream, OutsideError> {
        self.streams.streams.get_mut(&socket).filter(|stream| !stream.broken).ok_or(OutsideError::Reset)
    }
}

impl<O: Outside> Outside for Served<'_, O> {
    fn emit(&mut self, frame: &Frame<'_>) {
        self.outside.emit(frame);
    }

    fn is_anothers(&self, mac: Mac) -> bool {
        self.outside.is_anothers(mac)
    }

    fn tcp_connect(&mut self, socket: SocketId, _to: SocketAddr) -> Result<(), OutsideError> {
        if self.streams.streams.len() >= self.most {
            return Err(OutsideError::Exhausted);
        }
        let stream = Stream {
            key: self.key,
            input: Vec::new(),
            output: VecDeque::new(),
            in_flight: 0,
            active: self.now,
            finished: false,
            closing: false,
            broken: false,
            touched: false,
        };
        self.streams.streams.insert(socket, stream);
        self.streams.touch(socket);
        Ok(())
    }

    fn tcp_outcome(&mut self, socket: SocketId) -> Result<(), OutsideError> {
        self.stream(socket).map(drop)
    }

    fn tcp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<usize, OutsideError> {
        let stream = self.stream(socket)?;
        if stream.output.is_empty() {
            return if stream.is_done() { Ok(0) } else { Err(OutsideError::WouldBlock) };
        }
        let read = std::io::Read::read(&mut stream.output, into).map_err(|_| OutsideError::Failed)?;
        // There may be room for a message that waits.
        self.streams.touch(socket);
        Ok(read)
    }

    fn tcp_send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, OutsideError> {
        let stream = self.stream(socket)?;
        let room = INPUT.saturating_sub(stream.input.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        if taken.is_empty() {
            return Err(OutsideError::WouldBlock);
        }
        stream.input.extend_from_slice(taken);
        self.streams.touch(socket);
        Ok(taken.len())
    }

    fn tcp_finish(&mut self, socket: SocketId) {
        if let Ok(stream) = self.stream(socket) {
            stream.finished = true;
            self.streams.touch(socket);
        }
    }

    fn tcp_reset(&mut self, socket: SocketId) {
        self.close(socket);
    }

    fn udp_open(&mut self, _socket: SocketId, _of: IpAddr) -> Result<(), OutsideError> {
        Err(OutsideError::Failed)
    }

    fn udp_send(&mut self, _socket: SocketId, _to: SocketAddr, _with: Departure, _bytes: &[u8]) -> Result<(), OutsideError> {
        Err(OutsideError::Failed)
    }

    fn udp_recv(&mut self, _socket: SocketId, _into: &mut [u8]) -> Result<Datagram, OutsideError> {
        Err(OutsideError::Failed)
    }

    fn echo_open(&mut self, _socket: SocketId, _of: IpAddr) -> Result<(), OutsideError> {
        Err(OutsideError::Failed)
    }

    fn echo_send(&mut self, _socket: SocketId, _to: IpAddr, _request: EchoRequest, _payload: &[u8]) -> Result<(), OutsideError> {
        Err(OutsideError::Failed)
    }

    fn echo_recv(&mut self, _socket: SocketId, _into: &mut [u8]) -> Result<EchoReply, OutsideError> {
        Err(OutsideError::Failed)
    }

    fn echo_error(&mut self, _socket: SocketId) -> Option<EchoError> {
        None
    }

    fn ask_lease(&mut self, _question: LeaseQuestion) -> Result<(), DropReason> {
        Err(DropReason::GatewayOutside)
    }

    fn close(&mut self, socket: SocketId) {
        self.streams.streams.remove(&socket);
    }

    fn dropped(&mut self, reason: DropReason) {
        self.outside.dropped(reason);
    }
}
