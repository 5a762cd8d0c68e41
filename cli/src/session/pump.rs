//! The threads of a session that move bytes: descriptors of ours on one side, frames on the other.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::mpsc::Sender,
};

use netloom_runtime::protocol::{FRAME_PAYLOAD_MAX, FrameKind, FromSupervisor, ToSession};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{DetachKeys, Event, FrameReader, FrameWriter, Incoming};

/// Frames to stdout and stderr, in order, until the session ends. Errors of our own output are told once; what comes after is
/// read and dropped, so that the process is not held up by a reader that went away.
pub(super) fn output(mut reader: FrameReader<UnixStream>, events: &Sender<Event>) {
    let mut stdout = Sink::new(io::stdout().as_fd());
    let mut stderr = Sink::new(io::stderr().as_fd());
    loop {
        let event = match reader.read_frame() {
            Ok(Some(Incoming::Stdout(bytes))) => match stdout.write(bytes) {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Event::StdoutClosed,
                Err(error) => Event::StdoutFailed(error),
            },
            Ok(Some(Incoming::Stderr(bytes))) => {
                // Without a stderr there is no place to complain.
                let _ = stderr.write(bytes);
                continue;
            }
            Ok(Some(Incoming::Control(FromSupervisor::Started { .. }))) => Event::Started,
            Ok(Some(Incoming::Control(FromSupervisor::Failed { failure }))) => Event::Failed(failure.into()),
            Ok(Some(Incoming::Control(FromSupervisor::Exited { code }))) => Event::Exited(code),
            Ok(None) => Event::Lost(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Event::Lost(error),
        };
        let last = matches!(event, Event::Failed(_) | Event::Exited(_) | Event::Lost(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// Standard input to frames until it ends, which is said; true: the detach keys were typed.
pub(super) fn input(writer: &FrameWriter, keys: Option<DetachKeys>) -> bool {
    let stdin = io::stdin();
    let Ok(source) = stdin.as_fd().try_clone_to_owned().map(File::from) else { return false };
    forward(source, writer, keys).unwrap_or(false)
}

/// An error means that the session is over, which the output thread tells, or that there is no input any more.
fn forward(mut source: File, writer: &FrameWriter, mut keys: Option<DetachKeys>) -> io::Result<bool> {
    let mut buffer = vec![0; FRAME_PAYLOAD_MAX];
    let mut passed = Vec::new();
    loop {
        let read = match source.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for(source.as_fd(), PollFlags::POLLIN)?;
                continue;
            }
            // A terminal that hung up answers EIO: that is its end.
            Err(_) => 0,
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            let rest = keys.as_mut().map(DetachKeys::finish).unwrap_or_default();
            writer.data(FrameKind::Stdin, &rest)?;
            writer.control(&ToSession::StdinClosed)?;
            return Ok(false);
        }
        let Some(keys) = &mut keys else {
            writer.data(FrameKind::Stdin, bytes)?;
            continue;
        };
        passed.clear();
        let detach = keys.feed(bytes, &mut passed);
        writer.data(FrameKind::Stdin, &passed)?;
        if detach {
            return Ok(true);
        }
    }
}

/// One of our own outputs, unbuffered.
struct Sink {
    file: Option<File>,
}

impl Sink {
    fn new(fd: BorrowedFd<'_>) -> Self {
        Self { file: fd.try_clone_to_owned().ok().map(File::from) }
    }

    /// Writes all of it; after the first error everything is dropped in silence.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the descriptor made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for(file.as_fd(), PollFlags::POLLOUT)?,
                Err(error) => {
                    self.file = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn wait_for(fd: BorrowedFd<'_>, what: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd, what)], PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::OwnedFd, thread};

    use super::*;

    /// What `forward` makes of some input: the frames' kinds and payloads, and whether it detached.
    fn forwarded(input: &'static [u8], keys: Option<&str>) -> (Vec<(u8, Vec<u8>)>, bool) {
        let (source, mut feed) = io::pipe().expect("a pipe");
        thread::spawn(move || feed.write_all(input));
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let keys = keys.map(|word| word.parse().expect("keys"));
        let source = File::from(OwnedFd::from(source));
        let worker = thread::spawn(move || forward(source, &FrameWriter::new(ours), keys));
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).expect("frames");
        let mut frames: Vec<(u8, Vec<u8>)> = Vec::new();
        while !bytes.is_empty() {
            let length = usize::from(bytes[3]) << 8 | usize::from(bytes[4]) | usize::from(bytes[2]) << 16;
            let payload = bytes[5..5 + length].to_vec();
            match frames.last_mut() {
                Some((1, data)) if bytes[0] == 1 => data.extend(payload),
                _ => frames.push((bytes[0], payload)),
            }
            bytes.drain(..5 + length);
        }
        (frames, worker.join().expect("no panic").expect("sent"))
    }

    const CLOSED: &[u8] = br#"{"type":"stdin_closed"}"#;

    #[test]
    fn input_arrives_whole_and_its_end_is_said() {
        let input: &'static [u8] = Vec::leak((0..300_000_u32).map(|at| (at % 251) as u8).collect());
        let (frames, detached) = forwarded(input, None);
        assert!(!detached);
        assert!(frames == [(1, input.to_vec()), (0, CLOSED.to_vec())]);
        assert_eq!(forwarded(b"", None), (vec![(0, CLOSED.to_vec())], false));
    }

    #[test]
    fn the_detach_keys_end_the_input_without_closing_it() {
        assert_eq!(forwarded(b"ls\r\x10\x11gone", Some("ctrl-p,ctrl-q")), (vec![(1, b"ls\r".to_vec())], true));
        assert_eq!(forwarded(b"ls\x10", Some("ctrl-p,ctrl-q")), (vec![(1, b"ls\x10".to_vec()), (0, CLOSED.to_vec())], false));
    }

    #[test]
    fn without_keys_every_byte_is_data() {
        assert_eq!(forwarded(b"\x10\x11", None), (vec![(1, b"\x10\x11".to_vec()), (0, CLOSED.to_vec())], false));
    }

    #[test]
    fn a_reader_that_went_away_is_told_once() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let mut sink = Sink::new(writer.as_fd());
        assert_eq!(sink.write(b"x").expect_err("nobody reads").kind(), io::ErrorKind::BrokenPipe);
        sink.write(b"x").expect("dropped in silence");
    }
}
