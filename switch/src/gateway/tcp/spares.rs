//! Where the buffers of flows come from: sockets with their buffers, a few of them kept for the next flow.
//!
//! Buffers are large and allocated as zeros, so pages that were never written cost nothing; a socket that is used again has its
//! pages already.

use smoltcp::socket::tcp::{Socket, SocketBuffer};

use super::super::Limits;

/// Sockets kept for reuse: enough for a client that opens one connection after another.
const KEPT: usize = 4;
/// smoltcp takes no larger receive buffer.
const RECEIVE_MAX: usize = 1 << 30;

#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Socket<'static>>);

impl Spares {
    /// A closed socket with buffers as large as `limits` says.
    pub(super) fn take(&mut self, limits: &Limits) -> Socket<'static> {
        let receive = limits.tcp_receive_buffer.min(RECEIVE_MAX);
        while let Some(socket) = self.0.pop() {
            if (socket.recv_capacity(), socket.send_capacity()) == (receive, limits.tcp_send_buffer) {
                return socket;
            }
        }
        Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; limits.tcp_send_buffer]))
    }

    pub(super) fn give_back(&mut self, mut socket: Socket<'static>) {
        if self.0.len() < KEPT {
            socket.abort();
            self.0.push(socket);
        }
    }
}
