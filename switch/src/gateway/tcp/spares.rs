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
/// Less would not hold a few segments.
const LEAST: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Socket<'static>>);

impl Spares {
    /// A closed socket for a flow beside `others`, with buffers as large as `limits` says, or a fraction of that where there are many:
    /// a container that opens every flow it may, and lets all of their buffers fill, gets about a gigabyte and not twenty-four.
    pub(super) fn take(&mut self, limits: &Limits, others: usize) -> Socket<'static> {
        let fraction = match others {
            ..128 => 1,
            128..512 => 4,
            512..4096 => 16,
            4096.. => 32,
        };
        let sized = |full: usize| (full / fraction).max(LEAST.min(full));
        self.take_sized(sized(limits.tcp_receive_buffer.min(RECEIVE_MAX)), sized(limits.tcp_send_buffer))
    }

    /// One with buffers of just these sizes.
    pub(super) fn take_sized(&mut self, receive: usize, send: usize) -> Socket<'static> {
        let spare = self.0.iter().rposition(|socket| (socket.recv_capacity(), socket.send_capacity()) == (receive, send));
        match spare {
            Some(at) => self.0.swap_remove(at),
            None => Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; send])),
        }
    }

    pub(super) fn give_back(&mut self, mut socket: Socket<'static>) {
        socket.abort();
        self.0.truncate(KEPT - 1);
        self.0.insert(0, socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_among_many_gets_less_and_a_spare_is_used_where_it_fits() {
        let (mut spares, limits) = (Spares::default(), Limits::default());
        let mut worst = 0;
        for others in 0..limits.tcp_flows {
            let socket = spares.take(&limits, others);
            worst += socket.recv_capacity() + socket.send_capacity();
            assert!(socket.recv_capacity() >= LEAST && socket.send_capacity() >= LEAST);
        }
        assert!(worst < 3 << 29, "all flows of a container may hold {worst} bytes");
        for others in [0, 200, 0, 0, 0, 0] {
            let socket = spares.take(&limits, others);
            spares.give_back(socket);
        }
        assert_eq!(spares.0.iter().map(Socket::recv_capacity).collect::<Vec<_>>(), [512 * 1024, 128 * 1024]);
        assert_eq!(spares.take(&limits, 200).recv_capacity(), 128 * 1024);
        assert_eq!(spares.0.len(), 1);
    }
}
