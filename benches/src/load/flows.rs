//! Many TCP connections at once, that move something and then idle.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::READY;
use crate::error::{BenchError, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CHUNK: usize = 256 << 10;
const CLIENTS: usize = 4;

/// `hold-flows SERVER COUNT BYTES`
#[derive(Clone, Debug, Args)]
pub struct Hold {
    server: SocketAddrV4,
    count: usize,
    /// How much each sends before it idles; the other end answers with a byte when it has all of them
    bytes: usize,
}

impl Hold {
    /// Prints the word and the number that are open once all have sent.
    pub fn run(&self) -> Result<()> {
        raise_files();
        let share = self.count.div_ceil(CLIENTS);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (hold, count) = (self.clone(), share.min(self.count.saturating_sub(client * share)));
                thread::spawn(move || (0..count).map_while(|_| hold.open().ok()).collect::<Vec<TcpStream>>())
            })
            .collect();
        let open: Vec<TcpStream> = clients.into_iter().filter_map(|client| client.join().ok()).flatten().collect();
        println!("{READY} {}", open.len());
        io::copy(&mut io::stdin(), &mut io::sink()).map_err(BenchError::io("waiting for the end of standard input"))?;
        Ok(())
    }

    fn open(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(self.server), CONNECT_TIMEOUT)?;
        stream.write_all(&(self.bytes as u64).to_be_bytes())?;
        let chunk = vec![7; CHUNK.min(self.bytes)];
        let mut left = self.bytes;
        while left > 0 {
            let part = left.min(CHUNK);
            stream.write_all(&chunk[..part])?;
            left -= part;
        }
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    }
}

/// The other end of `hold-flows`. A connection that has sent all it promised is kept without a thread.
pub fn swallow(port: u16) -> Result<()> {
    raise_files();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(BenchError::io(format!("listening on port {port}")))?;
    for _ in 0..CLIENTS {
        let listener = listener.try_clone().map_err(BenchError::io("sharing the listener"))?;
        thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                if take(&mut stream).is_ok() {
                    kept.push(stream);
                }
            }
        });
    }
    println!("{READY}");
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(BenchError::io("waiting for the end of standard input"))?;
    Ok(())
}

fn take(stream: &mut TcpStream) -> io::Result<()> {
    let mut promised = [0; 8];
    stream.read_exact(&mut promised)?;
    let promised = u64::from_be_bytes(promised);
    if io::copy(&mut stream.take(promised), &mut io::sink())? < promised {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(&[1])
}

/// As many descriptors as this process may have. Where that is too few, the number that are open says so.
fn raise_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_once_the_other_end_has_all_of_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(server) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        let other = thread::spawn(move || take(&mut listener.accept().unwrap().0));
        Hold { server, count: 1, bytes: 1_000_000 }.open().unwrap();
        other.join().unwrap().unwrap();
    }
}
