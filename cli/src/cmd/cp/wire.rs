//! A session that carries a tar archive, as a reader and as a writer.

use std::{
    io::{self, BufWriter, Read, Write},
    os::unix::net::UnixStream,
};

use netloom_runtime::protocol::{FRAME_PAYLOAD_MAX, FrameKind, FromSupervisor, Open, ToSession};

use crate::{
    error::CliError,
    session::{FrameReader, FrameWriter, Incoming},
};

/// The archive of one session.
#[derive(Debug)]
pub struct Wire {
    writer: FrameWriter,
    reader: FrameReader<UnixStream>,
    /// What has come and not been read, and how much of it has.
    pending: Vec<u8>,
    used: usize,
    ended: bool,
    failure: Option<CliError>,
}

impl Wire {
    pub fn open(stream: UnixStream, open: &Open) -> Result<Self, CliError> {
        let reader = FrameReader::new(stream.try_clone().map_err(|error| broken(&error))?);
        let writer = FrameWriter::new(stream);
        writer.control(open).map_err(|error| broken(&error))?;
        Ok(Self { writer, reader, pending: Vec::new(), used: 0, ended: false, failure: None })
    }

    /// What the supervisor said in place of an archive.
    pub fn take_failure(&mut self) -> Option<CliError> {
        self.failure.take()
    }

    /// Sends what `fill` writes, and waits until it is unpacked. Whoever unpacks may be done before the last padding is sent: what
    /// they say then counts.
    pub fn send(mut self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
        let mut into = BufWriter::with_capacity(FRAME_PAYLOAD_MAX, Sender(self.writer.clone()));
        let filled = fill(&mut into).and_then(|()| into.flush());
        // What is left in it belongs to a peer that is gone.
        let _ = into.into_parts();
        let sent = filled.and_then(|()| self.writer.control(&ToSession::StdinClosed));
        let heard = match sent {
            Err(error) if !is_gone(&error) => Err(error),
            _ => io::copy(&mut self, &mut io::sink()).map(|_| ()),
        };
        match (self.failure, heard) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(CliError::io("cannot copy", &error)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Waits for the next piece of the archive; false at its end.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            match self.reader.read_frame()? {
                Some(Incoming::Stdout(bytes)) => {
                    self.pending.clear();
                    self.pending.extend_from_slice(bytes);
                    self.used = 0;
                    return Ok(true);
                }
                Some(Incoming::Control(FromSupervisor::Failed { failure })) => {
                    let message = failure.message.clone();
                    self.failure = Some(CliError { exit_code: 1, ..failure.into() });
                    return Err(io::Error::other(message));
                }
                Some(Incoming::Control(FromSupervisor::Exited { code: 0 })) => return Ok(false),
                Some(Incoming::Control(FromSupervisor::Exited { .. })) => return Err(io::Error::other("the copy broke off")),
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.used == self.pending.len() {
            if self.ended || !self.next()? {
                self.ended = true;
                return Ok(0);
            }
        }
        let mut rest = self.pending.get(self.used..).unwrap_or_default();
        let read = rest.read(into)?;
        self.used += read;
        Ok(read)
    }
}

struct Sender(FrameWriter);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(FrameKind::Stdin, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn broken(error: &io::Error) -> CliError {
    CliError::io("cannot talk to the container's supervisor", error)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use netloom_runtime::protocol::Failure;

    use super::*;

    /// A supervisor that takes `taken` bytes of what is sent, says one word and hangs up.
    fn wire(taken: usize, word: FromSupervisor) -> Wire {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        thread::spawn(move || {
            theirs.read_exact(&mut vec![0; taken]).expect("bytes");
            FrameWriter::new(theirs).control(&word).expect("said");
        });
        Wire::open(ours, &Open::CopyIn { path: "/".into() }).expect("open")
    }

    #[test]
    fn an_archive_whose_padding_is_not_taken_has_arrived() {
        let padded = |into: &mut dyn Write| into.write_all(&vec![0; 1 << 22]);
        assert_eq!(wire(5, FromSupervisor::Exited { code: 0 }).send(padded), Ok(()));
        assert_eq!(
            wire(5, FromSupervisor::Exited { code: 1 }).send(padded).expect_err("broken").message,
            "cannot copy: the copy broke off"
        );
    }

    #[test]
    fn what_the_supervisor_refuses_is_told_in_its_words() {
        let failure = Failure { message: "/x is not a directory".into(), hint: None, code: 125 };
        let told = wire(5, FromSupervisor::Failed { failure }).send(|into| into.write_all(&vec![0; 1 << 22]));
        assert_eq!(told.map_err(|error| (error.message, error.exit_code)), Err(("/x is not a directory".into(), 1)));
    }

    #[test]
    fn an_error_of_our_own_is_not_hidden_by_the_peers_silence() {
        let told = wire(5, FromSupervisor::Exited { code: 0 }).send(|_| Err(io::Error::other("`a`: gone")));
        assert_eq!(told.expect_err("ours").message, "cannot copy: `a`: gone");
    }
}
