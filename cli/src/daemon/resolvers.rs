//! What the gateways need to know of the host and that changes under them: its resolvers and its own addresses.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use netloom_runtime::host;
use netloom_switch::gateway::HostAddresses;

use super::Daemon;

/// How often the host is looked at; a VPN that comes up is noticed within it.
const INTERVAL: Duration = Duration::from_secs(2);

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// DNS (RFC 1035, 4.2).
const PORT: u16 = 53;

/// As many as the C library asks (resolv.conf(5)).
const RESOLVERS_MAX: usize = 3;

/// Tells the data plane now and at every change.
pub(crate) fn follow(daemon: &Arc<Daemon>) {
    let mut seen = Seen::default();
    seen.look(daemon);
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            seen.look(&daemon);
        }
    });
}

#[derive(Debug, Default)]
struct Seen {
    /// The file's stamp when it was read last; inside, `None` where there was no file.
    file: Option<Option<(SystemTime, u64)>>,
    addresses: Option<HostAddresses>,
}

impl Seen {
    fn look(&mut self, daemon: &Daemon) {
        let file = Some(stamp(Path::new(RESOLV_CONF)).ok());
        if file != self.file {
            self.file = file;
            let resolvers = parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
            tracing::info!(?resolvers, "the host's resolvers");
            daemon.plane.set_resolvers(resolvers);
        }
        match host::addresses().map(Some) {
            Ok(addresses) if addresses == self.addresses => {}
            Ok(addresses) => {
                self.addresses.clone_from(&addresses);
                addresses.into_iter().for_each(|addresses| daemon.plane.set_host(addresses));
            }
            Err(error) => tracing::warn!(%error, "the host's addresses may have changed"),
        }
    }
}

fn stamp(path: &Path) -> io::Result<(SystemTime, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len()))
}

/// The nameservers of a resolv.conf(5); without any it is the host itself.
fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // A scope such as fe80::1%eth0 names an interface that our sockets are not bound to.
        words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()
    };
    let mut servers: Vec<_> = text.lines().filter_map(address).take(RESOLVERS_MAX).collect();
    if servers.is_empty() {
        servers.push(IpAddr::from([127, 0, 0, 1]));
    }
    servers.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver nonsense\n\
                    options edns0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let expected: Vec<SocketAddr> = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), ["127.0.0.1:53".parse().unwrap()]);
    }
}
