//! Times, sizes and ports in the words that docker's users know.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use netloom_runtime::spec::Protocol;

use crate::api::{Container, PortBinding, State};

/// A length of time: `5 minutes`, `About an hour`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long before `now` an RFC 3339 time is; empty if it is no time.
pub fn since(time: &str, now: SystemTime) -> Option<String> {
    let time = humantime::parse_rfc3339_weak(time).ok()?;
    Some(duration(now.duration_since(time).unwrap_or_default()))
}

/// The STATUS column: `Up 2 hours`, `Exited (0) 5 minutes ago`.
pub fn status(container: &Container, now: SystemTime) -> String {
    let up = || container.started.as_deref().and_then(|time| since(time, now)).unwrap_or_default();
    let ago = || container.finished.as_deref().and_then(|time| since(time, now)).map(|text| format!(" {text} ago")).unwrap_or_default();
    let code = container.exit_code.map(|code| format!(" ({code})")).unwrap_or_default();
    match container.state {
        State::Created => "Created".into(),
        State::Running => format!("Up {}", up()),
        State::Paused => format!("Up {} (Paused)", up()),
        State::Restarting => format!("Restarting{code}{}", ago()),
        State::Exited => format!("Exited{code}{}", ago()),
        State::Dead => "Dead".into(),
    }
}

/// Bytes in powers of 1024: `1.5MiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.checked_ilog2().unwrap_or(0) / 10).min(4);
    let value = bytes as f64 / 1024_f64.powi(power.try_into().unwrap_or(0));
    let unit = units.get(power as usize).copied().unwrap_or("B");
    match value {
        _ if power == 0 => format!("{bytes}{unit}"),
        value if value < 9.995 => format!("{value:.2}{unit}"),
        value if value < 99.95 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    }
}

/// The PORTS column: `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`; runs of ports become ranges.
pub fn ports(bindings: &[PortBinding]) -> String {
    let mut sorted: Vec<&PortBinding> = bindings.iter().collect();
    sorted.sort_by_key(|binding| (binding.host_ip, binding.protocol, binding.container_port, binding.host_port));
    let mut runs: Vec<(&PortBinding, u16)> = Vec::new();
    for binding in sorted {
        match runs.last_mut() {
            Some((first, more)) if continues(first, *more, binding) => *more += 1,
            _ => runs.push((binding, 0)),
        }
    }
    runs.iter().map(|(first, more)| run(first, *more)).collect::<Vec<_>>().join(", ")
}

fn continues(first: &PortBinding, more: u16, next: &PortBinding) -> bool {
    let after = |port: u16| u32::from(port) + u32::from(more) + 1;
    (first.host_ip, first.protocol) == (next.host_ip, next.protocol)
        && after(first.container_port) == u32::from(next.container_port)
        && after(first.host_port) == u32::from(next.host_port)
}

fn run(first: &PortBinding, more: u16) -> String {
    let range = |port: u16| if more == 0 { port.to_string() } else { format!("{port}-{}", u32::from(port) + u32::from(more)) };
    let host = host(first.host_ip, &range(first.host_port));
    format!("{host}->{}/{}", range(first.container_port), protocol(first.protocol))
}

/// `0.0.0.0:8080`, `[::]:8080`
pub fn host(ip: IpAddr, port: &str) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

pub const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        let (minute, hour, day) = (60, 3600, 86_400);
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (5 * minute, "5 minutes"),
            (59 * minute, "59 minutes"),
            (hour, "About an hour"),
            (89 * minute, "About an hour"),
            (90 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (3 * day, "3 days"),
            (20 * day, "2 weeks"),
            (90 * day, "3 months"),
            (1000 * day, "2 years"),
        ];
        for (seconds, text) in table {
            assert_eq!(duration(Duration::from_secs(seconds)), text, "for {seconds} s");
        }
    }

    #[test]
    fn status_tells_state_code_and_age() {
        let at = |seconds| humantime::format_rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let container =
            |state, exit_code| Container { state, exit_code, started: Some(at(880)), finished: Some(at(990)), ..Container::default() };
        assert_eq!(status(&container(State::Running, None), now), "Up 2 minutes");
        assert_eq!(status(&container(State::Paused, None), now), "Up 2 minutes (Paused)");
        assert_eq!(status(&container(State::Exited, Some(137)), now), "Exited (137) 10 seconds ago");
        assert_eq!(status(&container(State::Created, None), now), "Created");
    }

    #[test]
    fn sizes_have_three_digits() {
        let table = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00KiB"),
            (1536, "1.50KiB"),
            (10 << 20, "10.0MiB"),
            (300 << 20, "300MiB"),
            (5 << 30, "5.00GiB"),
        ];
        for (size, text) in table {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn ports_show_where_they_lead_and_runs_are_ranges() {
        let binding = |host_ip: &str, host_port, container_port, protocol| PortBinding {
            host_ip: host_ip.parse().expect("an address"),
            host_port,
            container_port,
            protocol,
        };
        use Protocol::{Tcp, Udp};
        assert_eq!(ports(&[]), "");
        assert_eq!(ports(&[binding("::", 8080, 80, Tcp), binding("0.0.0.0", 8080, 80, Tcp)]), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(
            ports(&[binding("127.0.0.1", 8001, 81, Tcp), binding("127.0.0.1", 8000, 80, Tcp), binding("127.0.0.1", 8002, 82, Udp)]),
            "127.0.0.1:8000-8001->80-81/tcp, 127.0.0.1:8002->82/udp"
        );
        assert_eq!(ports(&[binding("::1", 65535, 65535, Tcp)]), "[::1]:65535->65535/tcp");
    }
}
