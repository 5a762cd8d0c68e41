//! A resolver that is asked again over TCP, because its answer over UDP was cut short and the asker takes a long one.

use super::{
    super::{Core, Outside, OutsideError, SocketId},
    Dns,
    forward::Heard,
    stream::LENGTH,
};
use crate::Time;

/// A question on its way over TCP.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    connected: bool,
    /// Bytes of the length and the message that are written.
    sent: usize,
    received: Vec<u8>,
}

impl Upstream {
    /// The message, once it is there as a whole.
    fn message(&self) -> Option<&[u8]> {
        let ([a, b], rest) = self.received.split_first_chunk::<LENGTH>()?;
        rest.get(..usize::from(u16::from_be_bytes([*a, *b])))
    }

    /// Writes what the socket takes and reads what is there; `Ok`: all for now.
    fn go_on(&mut self, socket: SocketId, query: &[u8], room: &mut [u8], outside: &mut impl Outside) -> Result<(), OutsideError> {
        if !self.connected {
            outside.tcp_outcome(socket)?;
            self.connected = true;
        }
        let length = u16::try_from(query.len()).map_err(|_| OutsideError::MessageTooLong(0))?.to_be_bytes();
        let framed = [&length, query].concat();
        while let Some(rest @ [_, ..]) = framed.get(self.sent..) {
            self.sent += outside.tcp_send(socket, rest)?;
        }
        while self.message().is_none() {
            match outside.tcp_recv(socket, room)? {
                0 => return Err(OutsideError::Reset),
                read => self.received.extend_from_slice(room.get(..read).unwrap_or_default()),
            }
        }
        Ok(())
    }
}

impl Dns {
    /// Asks the resolver that was just heard once more.
    pub(super) fn ask_over_tcp(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        let Some(query) = self.queries.get_mut(&socket) else { return };
        let Some(resolver) = query.resolver() else { return };
        outside.close(socket);
        if outside.tcp_connect(socket, resolver).is_err_and(|error| error != OutsideError::WouldBlock) {
            return self.ask_next(core, now, socket, outside);
        }
        query.upstream = Some(Upstream::default());
        query.until = now + core.view.config.limits.dns_timeout;
        core.sockets.wake_by(socket, query.until);
    }

    /// The socket of a query over TCP can go on.
    pub(super) fn upstream_ready(&mut self, core: &mut Core, now: Time, socket: SocketId, outside: &mut impl Outside) {
        let Some(query) = self.queries.get_mut(&socket) else { return };
        let (Some(mut upstream), Some(resolver)) = (query.upstream.take(), query.resolver()) else { return };
        match upstream.go_on(socket, &query.message, core.builder.udp_payload(), outside) {
            Err(OutsideError::WouldBlock) => query.upstream = Some(upstream),
            Err(_) => self.ask_next(core, now, socket, outside),
            Ok(()) => {
                let message = upstream.message().unwrap_or_default();
                let place = core.builder.udp_payload().get_mut(..message.len());
                match (query.hear(resolver, message), place) {
                    (Heard::Answer(len) | Heard::Truncated(len), Some(place)) => {
                        place.copy_from_slice(message);
                        self.pass_on(core, now, socket, len, outside);
                    }
                    _ => self.ask_next(core, now, socket, outside),
                }
            }
        }
    }
}
