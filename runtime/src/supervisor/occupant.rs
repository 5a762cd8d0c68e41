//! Which program has a port of the host, as far as /proc tells whoever asks: all of them root, an ordinary user his own.
//!
//! Asked only once a bind has failed; it reads what all processes have open.

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::spec::Protocol;

/// The program's name and process, such as "nginx (process 4711)".
pub(super) fn of(protocol: Protocol, address: SocketAddr) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let sockets: HashSet<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|table| table.lines().filter_map(|line| inode(line, protocol, address)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let process = processes.into_iter().find(|process| has_one_of(*process, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!("{} (process {process})", name.trim_end()))
}

fn has_one_of(process: u32, sockets: &HashSet<String>) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| target.to_str().is_some_and(|name| sockets.contains(name)))
}

/// The inode of the socket that a line of /proc/net/{tcp,udp}{,6} (proc(5)) tells of, if it stands in the way of a bind to `address`.
fn inode(line: &str, protocol: Protocol, address: SocketAddr) -> Option<u64> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = parse_ip(ip)?;
    let wants = address.ip();
    let meets = ip == wants || ip.is_unspecified() || wants.is_unspecified();
    (port == address.port() && meets && (protocol == Protocol::Udp || *state == LISTENS)).then(|| inode.parse().ok()).flatten()
}

/// Words of 32 bits, each in the machine's own order.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?];
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_flattened()).ok()?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_whose_socket_stands_in_the_way() {
        let line = |local: &str, state: &str| {
            format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0")
        };
        let one = if cfg!(target_endian = "little") { "0100007F" } else { "7F000001" };
        let tcp = |local: &str, state: &str, address: &str| inode(&line(local, state), Protocol::Tcp, address.parse().unwrap());
        assert_eq!(tcp(&format!("{one}:1F90"), "0A", "127.0.0.1:8080"), Some(4711));
        assert_eq!(tcp(&format!("{one}:1F90"), "0A", "0.0.0.0:8080"), Some(4711));
        assert_eq!(tcp("00000000:1F90", "0A", "10.0.0.1:8080"), Some(4711));
        assert_eq!(tcp(&format!("{one}:1F90"), "0A", "10.0.0.1:8080"), None, "another address");
        assert_eq!(tcp(&format!("{one}:1F91"), "0A", "127.0.0.1:8080"), None, "another port");
        assert_eq!(tcp(&format!("{one}:1F90"), "01", "127.0.0.1:8080"), None, "a connection");
        assert_eq!(tcp(&format!("{}:1F90", "0".repeat(32)), "0A", "[::]:8080"), Some(4711));
        assert_eq!(inode(&line("00000000:0035", "07"), Protocol::Udp, "0.0.0.0:53".parse().unwrap()), Some(4711));
        for torn in ["", "  sl  local_address rem_address", "0: 0:0 0 0A 0 0 0 0 0 1", "0: 00000000:zz 0 0A 0 0 0 0 0 1"] {
            assert_eq!(inode(torn, Protocol::Tcp, "0.0.0.0:8080".parse().unwrap()), None, "{torn}");
        }
    }
}
