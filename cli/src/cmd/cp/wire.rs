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

    /// Sends what `fill` writes, and waits until it is unpacked.
    pub fn send(mut self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
        let mut into = BufWriter::with_capacity(FRAME_PAYLOAD_MAX, Sender(self.writer.clone()));
        let sent = fill(&mut into).and_then(|()| into.flush()).and_then(|()| self.writer.control(&ToSession::StdinClosed));
        drop(into);
        let ended = if sent.is_ok() { io::copy(&mut self, &mut io::sink()).map(|_| ()) } else { Ok(()) };
        match (self.failure, sent.and(ended)) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(CliError::io("cannot copy", &error)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Waits for the next piece of the archive; false at its end.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            match self.reader.next()? {
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

fn broken(error: &io::Error) -> CliError {
    CliError::io("cannot talk to the container's supervisor", error)
}
