//! The host as a gateway sees it: [`Outside`] over the port's [`Sockets`], and the way back into the switch.

use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use netloom_switch::{
    DropReason, Frame, Mac, PortId, Time, Verdict,
    gateway::{Datagram, DatagramError, Departure, EchoError, EchoReply, EchoRequest, LeaseQuestion, Outside, OutsideError, SocketId},
};

use super::{
    datagrams::Datagrams,
    echo::EchoSocket,
    egress::EgressTable,
    network::Network,
    port::PortKey,
    run::{Kind, Run},
    sockets::{self, HostSocket, Sockets, uninterrupted},
    sources::Sources,
    worker::Slot,
};

/// What one call into a gateway may use.
pub(super) struct Host<'a> {
    pub(super) now: Time,
    pub(super) slot: Slot,
    pub(super) port: PortId,
    pub(super) owner: &'a Arc<str>,
    pub(super) network: &'a Network,
    pub(super) table: &'a EgressTable,
    pub(super) sockets: &'a mut Sockets,
    pub(super) sources: &'a mut Sources,
    pub(super) run: &'a mut Run,
}

impl Host<'_> {
    fn tcp(&self, id: SocketId) -> Result<&TcpStream, OutsideError> {
        match self.sockets.get(id) {
            Some(HostSocket::Tcp(stream)) => Ok(stream),
            _ => Err(OutsideError::Failed),
        }
    }

    fn echo(&self, id: SocketId) -> Result<&EchoSocket, OutsideError> {
        match self.sockets.get(id) {
            Some(HostSocket::Echo(socket)) => Ok(socket),
            _ => Err(OutsideError::Failed),
        }
    }

    /// Asked before a socket is opened, since a connect that is under way cannot be taken back.
    fn room(&self) -> Result<(), OutsideError> {
        if self.sockets.has_room() { Ok(()) } else { Err(OutsideError::Exhausted) }
    }

    /// Sends the datagrams that wait for the end of the turn. Their frames count as sent since the gateway took them; each that is lost
    /// here is a drop beside that, as with a network card that cannot send what it has taken.
    pub(super) fn end_run(&mut self) {
        let Some((Kind { socket, to, with, len }, bytes)) = self.run.end() else { return };
        let lost = match self.sockets.get_mut(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published(udp)) => udp.send_run(to, with, len, bytes),
            _ => bytes.len() / len,
        };
        (0..lost).for_each(|_| self.network.gateway.dropped(DropReason::GatewayOutside));
    }

    fn add(&mut self, id: SocketId, socket: HostSocket) -> Result<(), OutsideError> {
        self.sockets.insert(self.slot, id, socket, self.sources).map_err(|errno| sockets::error(&errno.into()))
    }
}

impl Outside for Host<'_> {
    fn emit(&mut self, frame: &Frame<'_>) {
        match self.network.switch.handle(self.now, PortId::GATEWAY, frame) {
            Verdict::Forward(port) => self.table.egress(port, frame, &self.network.gateway),
            Verdict::Flood(ports) => ports.iter().for_each(|port| self.table.egress(port, frame, &self.network.gateway)),
            Verdict::Drop(_) => (),
        }
    }

    fn tcp_connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<(), OutsideError> {
        self.room()?;
        self.add(socket, sockets::connect(to)?)
    }

    fn tcp_outcome(&mut self, socket: SocketId) -> Result<(), OutsideError> {
        let stream = self.tcp(socket)?;
        // What went wrong after it was connected is found by reading. One without a peer has failed, or is still on its way.
        let Err(error) = stream.peer_addr() else { return Ok(()) };
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(sockets::error(&error)),
            Ok(None) if error.raw_os_error() == Some(libc::ENOTCONN) => Err(OutsideError::WouldBlock),
            Ok(None) => Err(sockets::error(&error)),
        }
    }

    fn tcp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<usize, OutsideError> {
        let mut stream = self.tcp(socket)?;
        uninterrupted(|| stream.read(into))
    }

    fn tcp_send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, OutsideError> {
        let mut stream = self.tcp(socket)?;
        uninterrupted(|| stream.write(bytes))
    }

    fn tcp_finish(&mut self, socket: SocketId) {
        if let Ok(stream) = self.tcp(socket) {
            // ENOTCONN: the peer has reset it, which reading will tell.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn tcp_reset(&mut self, socket: SocketId) {
        if let Ok(stream) = self.tcp(socket) {
            sockets::abort(stream);
        }
        self.close(socket);
    }

    fn udp_open(&mut self, socket: SocketId, of: IpAddr) -> Result<(), OutsideError> {
        if !self.sockets.has_room_for_udp() {
            return Err(OutsideError::Exhausted);
        }
        self.add(socket, HostSocket::Udp(Datagrams::bind(of)?))
    }

    fn udp_send(&mut self, socket: SocketId, to: SocketAddr, with: Departure, bytes: &[u8]) -> Result<(), OutsideError> {
        let kind = Kind { socket, to, with, len: bytes.len() };
        if self.run.keep(kind, bytes) {
            return Ok(());
        }
        self.end_run();
        match self.sockets.get_mut(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published(udp)) => udp.send(to, with, bytes)?,
            _ => return Err(OutsideError::Failed),
        }
        self.run.begin(kind);
        Ok(())
    }

    fn udp_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<Datagram, OutsideError> {
        match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published(udp)) => udp.receive(into),
            _ => Err(OutsideError::Failed),
        }
    }

    fn udp_error(&mut self, socket: SocketId) -> Option<DatagramError> {
        match self.sockets.get(socket) {
            Some(HostSocket::Udp(udp) | HostSocket::Published(udp)) => udp.error(),
            _ => None,
        }
    }

    fn echo_open(&mut self, socket: SocketId, of: IpAddr) -> Result<(), OutsideError> {
        self.room()?;
        self.add(socket, HostSocket::Echo(EchoSocket::open(of)?))
    }

    fn echo_send(&mut self, socket: SocketId, to: IpAddr, request: EchoRequest, payload: &[u8]) -> Result<(), OutsideError> {
        match self.sockets.get_mut(socket) {
            Some(HostSocket::Echo(echo)) => uninterrupted(|| echo.send(to, request, payload)),
            _ => Err(OutsideError::Failed),
        }
    }

    fn echo_recv(&mut self, socket: SocketId, into: &mut [u8]) -> Result<EchoReply, OutsideError> {
        let socket = self.echo(socket)?;
        uninterrupted(|| socket.receive(into))
    }

    fn echo_error(&mut self, socket: SocketId) -> Option<EchoError> {
        self.echo(socket).ok()?.error()
    }

    fn ask_lease(&mut self, question: LeaseQuestion) -> Result<(), DropReason> {
        self.network.asks.ask(PortKey { network: self.network.id, port: self.port }, self.owner, question)
    }

    fn is_anothers(&self, mac: Mac) -> bool {
        self.network.switch.is_anothers(self.now, mac, self.port)
    }

    fn close(&mut self, socket: SocketId) {
        self.end_run();
        self.sockets.close(socket, self.sources);
    }

    fn dropped(&mut self, reason: DropReason) {
        self.network.gateway.dropped(reason);
    }
}
