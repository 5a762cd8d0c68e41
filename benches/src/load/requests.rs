//! TCP by the request: round trips on one connection, and connections one after the other.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::READY;
use crate::{
    error::{BenchError, Result},
    stats,
};

/// As sockperf's default message.
const MESSAGE: usize = 14;
/// Round trips before the clock starts: ARP, the table of the switch, slow start and sleeping processors are over by then.
const WARM_UP: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Clients at once in `connects`: enough to keep two processors busy, few enough to measure the path and not the queue.
const CLIENTS: usize = 8;

/// Half round trips, as sockperf counts them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub round_trips: usize,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Connections made, answered and closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connected {
    pub connections: u64,
    pub failures: u64,
    pub seconds: f64,
}

/// The endpoint of `connects` beside that of `ping-pong`.
fn for_connects(endpoint: SocketAddr) -> SocketAddr {
    SocketAddr::new(endpoint.ip(), endpoint.port() + 1)
}

/// Echoes at `on`; on the next port reads a byte and closes. Ends when standard input does.
pub fn serve(on: SocketAddr) -> Result<()> {
    let listen = |on: SocketAddr| TcpListener::bind(on).map_err(BenchError::io(format!("listening on {on}")));
    let (echoes, closers) = (listen(on)?, listen(for_connects(on))?);
    thread::spawn(move || {
        for stream in echoes.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    for _ in 0..CLIENTS {
        let closers = closers.try_clone().map_err(BenchError::io("sharing the listener"))?;
        thread::spawn(move || {
            for mut stream in closers.incoming().flatten() {
                // A client that is gone needs no answer.
                let _ = stream.read(&mut [0]);
            }
        });
    }
    println!("{READY}");
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(BenchError::io("waiting for the end of standard input"))?;
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

/// Sends and waits for the echo until `seconds` are over.
pub fn ping_pong(server: SocketAddr, seconds: f64) -> Result<Latency> {
    let failed = |source| BenchError::Io { what: format!("a round trip to {server}"), source };
    let mut stream = TcpStream::connect_timeout(&server, CONNECT_TIMEOUT).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT)).map_err(failed)?;
    let mut halves = Vec::with_capacity(1 << 20);
    let mut message = [7; MESSAGE];
    let begun = Instant::now();
    let end = WARM_UP + Duration::from_secs_f64(seconds);
    loop {
        let sent = Instant::now();
        let elapsed = sent - begun;
        if elapsed > end {
            break;
        }
        stream.write_all(&message).map_err(failed)?;
        stream.read_exact(&mut message).map_err(failed)?;
        if elapsed >= WARM_UP {
            halves.push(sent.elapsed().as_secs_f64() * 1e6 / 2.0);
        }
    }
    halves.sort_unstable_by(f64::total_cmp);
    Ok(Latency { round_trips: halves.len(), p50_us: stats::quantile(&halves, 0.5), p99_us: stats::quantile(&halves, 0.99) })
}

/// Some clients at once, each: connect, one byte, wait for the close.
pub fn connects(server: SocketAddr, seconds: f64) -> Result<Connected> {
    let server = for_connects(server);
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let (mut done, mut failures) = (0, 0);
                while Instant::now() < end {
                    if one_connection(server).is_ok() { done += 1 } else { failures += 1 }
                }
                (done, failures)
            })
        })
        .collect();
    let counts = clients.into_iter().filter_map(|client| client.join().ok());
    let (connections, failures) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    Ok(Connected { connections, failures, seconds: begun.elapsed().as_secs_f64() })
}

fn one_connection(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    stream.write_all(&[1])?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_counted_and_ordered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || echo(listener.accept().unwrap().0));
        let latency = ping_pong(address, 0.05).unwrap();
        assert!(latency.round_trips > 0 && latency.p50_us > 0.0 && latency.p50_us <= latency.p99_us, "{latency:?}");
        assert_eq!(server.join().unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error_that_names_it() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(ping_pong(address, 0.01).unwrap_err().to_string().contains("127.0.0.1:1"));
    }
}
