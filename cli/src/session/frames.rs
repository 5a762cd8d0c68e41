//! The frames of `attach.sock` as its caller sends and reads them: one byte of kind, four of length, the payload.
//!
//! Data is moved in pieces of up to 64 KiB and never looked at.

use std::{
    io::{self, IoSlice, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError},
};

use netloom_runtime::protocol::{FRAME_PAYLOAD_MAX, FrameKind, FromSupervisor};
use serde::Serialize;

const HEADER: usize = 5;

/// The way to the supervisor. Its clones take turns, a frame at a time.
#[derive(Clone, Debug)]
pub struct FrameWriter {
    stream: Arc<Mutex<UnixStream>>,
}

impl FrameWriter {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)) }
    }

    /// Sends a control word as JSON.
    pub fn control(&self, word: &impl Serialize) -> io::Result<()> {
        self.frame(FrameKind::Control, &serde_json::to_vec(word)?)
    }

    /// Sends data of any length.
    pub fn data(&self, kind: FrameKind, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(FRAME_PAYLOAD_MAX).try_for_each(|piece| self.frame(kind, piece))
    }

    fn frame(&self, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FRAME_PAYLOAD_MAX);
        let [a, b, c, d] = length.ok_or_else(|| io::Error::other("a message is too long"))?.to_be_bytes();
        let header = [kind as u8, a, b, c, d];
        let mut parts = [IoSlice::new(&header), IoSlice::new(payload)];
        let mut parts = &mut parts[..];
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        while !parts.is_empty() {
            match stream.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the supervisor said.
#[derive(Debug)]
pub enum Incoming<'a> {
    Control(FromSupervisor),
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
}

/// The way from the supervisor.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// What of the buffer is still to be handed out.
    start: usize,
    end: usize,
}

impl<R: Read> FrameReader<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; 4 * (HEADER + FRAME_PAYLOAD_MAX)], start: 0, end: 0 }
    }

    /// The next frame; none at the end of the stream.
    pub fn read_frame(&mut self) -> io::Result<Option<Incoming<'_>>> {
        let Some(header) = self.take::<HEADER>()? else { return Ok(None) };
        let [kind, a, b, c, d] = header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_PAYLOAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the supervisor sent a frame that is too long"));
        }
        if !self.fill(length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let payload = self.buffer.get(self.start..self.start + length).unwrap_or_default();
        self.start += length;
        match kind {
            kind if kind == FrameKind::Control as u8 => Ok(Some(Incoming::Control(serde_json::from_slice(payload)?))),
            kind if kind == FrameKind::Stdout as u8 => Ok(Some(Incoming::Stdout(payload))),
            kind if kind == FrameKind::Stderr as u8 => Ok(Some(Incoming::Stderr(payload))),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the supervisor sent a frame of an unknown kind")),
        }
    }

    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        if !self.fill(N)? {
            return if self.start == self.end { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let bytes = self.buffer.get(self.start..self.start + N).and_then(|bytes| bytes.try_into().ok());
        self.start += N;
        Ok(bytes)
    }

    /// Reads until `wanted` bytes are there; false if the stream ends before.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < wanted {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(room) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// A stream that gives a few bytes at a time.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn read_all(stream: impl Read) -> io::Result<Vec<(u8, Vec<u8>)>> {
        let mut reader = FrameReader::new(stream);
        let mut found = Vec::new();
        while let Some(frame) = reader.read_frame()? {
            found.push(match frame {
                Incoming::Stdout(bytes) => (2, bytes.to_vec()),
                Incoming::Stderr(bytes) => (3, bytes.to_vec()),
                Incoming::Control(FromSupervisor::Exited { code }) => (0, code.to_string().into_bytes()),
                Incoming::Control(other) => panic!("unexpected {other:?}"),
            });
        }
        Ok(found)
    }

    #[test]
    fn frames_are_whole_however_the_stream_is_cut() {
        let big: Vec<u8> = (0..FRAME_PAYLOAD_MAX).map(|at| (at % 251) as u8).collect();
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..9 {
            stream.extend(frame(2, &big));
            stream.extend(frame(3, b"err\0\xff"));
            stream.extend(frame(2, b""));
            expected.extend([(2, big.clone()), (3, b"err\0\xff".to_vec()), (2, Vec::new())]);
        }
        stream.extend(frame(0, br#"{"type":"exited","code":7}"#));
        expected.push((0, b"7".to_vec()));
        for cut in [1_000, 4_099, 65_536, usize::MAX] {
            assert!(read_all(Trickle(stream.clone(), cut)).expect("good frames") == expected, "cut into {cut}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_or_lies_is_an_error() {
        let kind = |bytes: Vec<u8>| read_all(Trickle(bytes, 3)).expect_err("a bad stream").kind();
        assert_eq!(kind(vec![2, 0, 0]), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(vec![2, 0, 0, 0, 2, b'x']), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(frame(9, b"")), io::ErrorKind::InvalidData);
        assert_eq!(kind(vec![2, 0, 1, 0, 1]), io::ErrorKind::InvalidData);
        assert!(read_all(Trickle(Vec::new(), 1)).expect("an empty stream").is_empty());
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let data: Vec<u8> = (0..3 * FRAME_PAYLOAD_MAX + 17).map(|at| (at % 253) as u8).collect();
        let sent = data.clone();
        let writer = std::thread::spawn(move || FrameWriter::new(ours).data(FrameKind::Stdout, &sent));
        let found = read_all(theirs).expect("good frames");
        writer.join().expect("no panic").expect("written");
        assert_eq!(found.len(), 4);
        assert!(found.into_iter().flat_map(|(_, bytes)| bytes).eq(data));
    }
}
