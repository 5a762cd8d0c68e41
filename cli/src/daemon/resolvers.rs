//! What the gateways need to know of the host and that changes under them: its resolvers and its own addresses.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
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
    text: String,
    resolvers: Vec<SocketAddr>,
    addresses: Option<HostAddresses>,
}

impl Seen {
    fn look(&mut self, daemon: &Daemon) {
        let file = Some(stamp(Path::new(RESOLV_CONF)).ok());
        if file != self.file {
            self.file = file;
            self.text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        }
        // An interface that the file names may come later, or come back with another number.
        let resolvers = parse(&self.text, host::interface_number);
        if resolvers != self.resolvers {
            tracing::info!(?resolvers, "the host's resolvers");
            self.resolvers.clone_from(&resolvers);
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

/// The nameservers of a resolv.conf(5); without any it is the host itself. A link-local one names the interface that it is behind
/// (RFC 4007, 11), whose number `interface` knows.
fn parse(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|first| *first == "nameserver").and_then(|_| words.next())?;
        match word.split_once('%') {
            None => Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, PORT)),
            Some((address, zone)) => {
                let number = zone.parse().ok().or_else(|| interface(zone))?;
                Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, number).into())
            }
        }
    };
    let servers: Vec<_> = text.lines().filter_map(server).take(RESOLVERS_MAX).collect();
    if servers.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], PORT))] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver nonsense\n\
                    options edns0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let expected: Vec<SocketAddr> = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(parse(text, |_| None), expected);
        assert_eq!(parse("", |_| None), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_link_local_resolver_is_asked_on_its_interface() {
        let number = |name: &str| (name == "eth0").then_some(7);
        let text = "nameserver fe80::1%eth0\nnameserver fe80::2%3\nnameserver fe80::3%gone\n";
        let servers = ["fe80::1", "fe80::2"].map(|ip| ip.parse().unwrap()).into_iter().zip([7, 3]);
        let expected: Vec<SocketAddr> = servers.map(|(ip, number)| SocketAddrV6::new(ip, 53, 0, number).into()).collect();
        assert_eq!(parse(text, number), expected);
    }
}
