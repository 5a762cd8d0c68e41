//! Sessions: connections of `run`, `attach`, `exec` and `cp`, in frames of one byte of kind, four of length, and the payload.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use serde::Serialize;

use crate::protocol::{FRAME_PAYLOAD_MAX, FrameKind, WindowSize};

const HEADER: usize = 5;
/// Above this a session is behind: what feeds a patient one waits.
const BEHIND: usize = 256 * 1024;
/// Above this an impatient one is dropped.
const LOST: usize = 1024 * 1024;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing said yet.
    New,
    /// It started the container: its streams wait for it, as a pipe's writer does for its reader, and so does docker.
    Starter { attach: bool },
    /// It came later. One that falls behind by [`LOST`] bytes is dropped, so that no forgotten terminal stops a container.
    Attached,
    /// It has a process of its own, which waits for it.
    Process,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: UnixStream,
    pub(crate) role: Role,
    /// The streams it is connected to.
    pub(crate) streams: Option<u32>,
    pub(crate) size: Option<WindowSize>,
    /// Ends once everything is sent.
    pub(crate) closing: bool,
    input: Vec<u8>,
    output: VecDeque<u8>,
}

/// A frame that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Session {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, role: Role::New, streams: None, size: None, closing: false, input: Vec::new(), output: VecDeque::new() })
    }

    /// Reads what is there; `false` at the end of the connection.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.input.extend_from_slice(bytes.get(..len).unwrap_or_default());
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame.
    ///
    /// Errors: a frame longer than the protocol allows.
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((&[kind, a, b, c, d], rest)) = self.input.split_first_chunk::<HEADER>() else { return Ok(None) };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > FRAME_PAYLOAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        let Some(payload) = rest.get(..len) else { return Ok(None) };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.input.drain(..HEADER + len);
        Ok(Some(frame))
    }

    /// Queues a frame, in pieces if it is long.
    pub(crate) fn push(&mut self, kind: FrameKind, payload: &[u8]) {
        for piece in payload.chunks(FRAME_PAYLOAD_MAX) {
            self.output.push_back(kind as u8);
            self.output.extend((piece.len() as u32).to_be_bytes());
            self.output.extend(piece);
        }
    }

    /// Queues a control word.
    pub(crate) fn say(&mut self, word: &impl Serialize) {
        if let Ok(json) = serde_json::to_vec(word) {
            self.push(FrameKind::Control, &json);
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let (first, _) = self.output.as_slices();
            match self.stream.write(first) {
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.shrink_to(0);
        Ok(())
    }

    pub(crate) fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether what feeds it should wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.output.len() > BEHIND && self.role != Role::Attached
    }

    /// Whether it is to be dropped.
    pub(crate) fn is_lost(&self) -> bool {
        self.output.len() > LOST && self.role == Role::Attached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Session, Session) {
        let (a, b) = UnixStream::pair().unwrap();
        (Session::new(a).unwrap(), Session::new(b).unwrap())
    }

    #[test]
    fn frames_arrive_whole_however_the_stream_is_cut() {
        let (mut a, mut b) = pair();
        let long = vec![7; FRAME_PAYLOAD_MAX + 3];
        a.push(FrameKind::Stdout, &long);
        a.say(&"word");
        let mut got = Vec::new();
        while got.len() < 3 {
            a.flush().unwrap();
            assert!(b.fill().unwrap());
            while let Some(frame) = b.next_frame().unwrap() {
                got.push((frame.kind, frame.payload.len()));
            }
        }
        assert_eq!(got, [(2, FRAME_PAYLOAD_MAX), (2, 3), (0, 6)]);
        drop(a);
        assert!(!b.fill().unwrap());
    }

    #[test]
    fn a_frame_longer_than_allowed_is_refused() {
        let (mut a, mut b) = pair();
        a.stream.write_all(&[1, 0xff, 0, 0, 0]).unwrap();
        b.fill().unwrap();
        assert!(b.next_frame().is_err());
    }

    #[test]
    fn only_a_late_comer_is_dropped_when_it_falls_behind() {
        let (mut a, _b) = pair();
        a.push(FrameKind::Stdout, &vec![0; LOST + 1]);
        a.role = Role::Attached;
        assert!(a.is_lost() && !a.is_behind());
        a.role = Role::Starter { attach: true };
        assert!(!a.is_lost() && a.is_behind());
    }
}
