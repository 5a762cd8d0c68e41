//! Publications: `[HOST_IP:][HOST[-END]:]PORT[-END][/tcp|udp]`.

use std::{net::IpAddr, ops::RangeInclusive};

use netloom_runtime::spec::{Protocol, Publication};

use super::{WordError, not};

/// What one `-p` word says: as many publications as its ranges are long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishSpec(pub Vec<Publication>);

impl std::str::FromStr for PublishSpec {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        let (rest, protocol) = transport(word)?;
        let (host_ip, rest) = host_address(word, rest)?;
        let (host, container) = match rest.rsplit_once(':') {
            Some((host, container)) => (host, container),
            None => ("", rest),
        };
        let container = ports(container, "a container port from 1 to 65535")?;
        if *container.start() == 0 {
            return Err(not("0", "a container port from 1 to 65535"));
        }
        let host = match host {
            "" | "0" => None,
            host => Some(ports(host, "a host port from 0 to 65535")?),
        };
        if let Some(host) = &host
            && host.len() != container.len()
        {
            return Err(WordError::RangeLengths { word: word.to_owned(), host: host.len(), container: container.len() });
        }
        let offset = host.map(|host| *host.start());
        let publications = container.clone().map(|container_port| Publication {
            host_ip,
            host_port: offset.map_or(0, |first| first + (container_port - container.start())),
            container_port,
            protocol,
        });
        Ok(Self(publications.collect()))
    }
}

/// A container port as `netloom port` takes it: `PORT[/tcp|udp]`; no protocol is either.
pub fn private_port(word: &str) -> Result<(u16, Option<Protocol>), WordError> {
    let (number, protocol) = match word.split_once('/') {
        Some((number, _)) => (number, Some(transport(word)?.1)),
        None => (word, None),
    };
    let port = number.parse().ok().filter(|port| *port > 0).ok_or_else(|| not(number, "a container port from 1 to 65535"))?;
    Ok((port, protocol))
}

fn transport(word: &str) -> Result<(&str, Protocol), WordError> {
    let Some((rest, name)) = word.rsplit_once('/') else { return Ok((word, Protocol::Tcp)) };
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok((rest, Protocol::Tcp)),
        "udp" => Ok((rest, Protocol::Udp)),
        _ => Err(not(name, "a protocol: tcp or udp")),
    }
}

/// The host address in front, if there is one, and what follows it.
fn host_address<'a>(word: &str, rest: &'a str) -> Result<(Option<IpAddr>, &'a str), WordError> {
    if let Some(rest) = rest.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(|| WordError::Lacks { word: word.to_owned(), missing: "a `]`" })?;
        let parsed = address.parse::<std::net::Ipv6Addr>().map_err(|_| not(address, "an IPv6 address"))?;
        let rest = rest.strip_prefix(':').ok_or_else(|| WordError::Lacks { word: word.to_owned(), missing: "a container port" })?;
        return Ok((Some(parsed.into()), rest));
    }
    match rest.matches(':').count() {
        0 | 1 => Ok((None, rest)),
        2 => {
            let (address, rest) = rest.split_once(':').unwrap_or_default();
            let parsed = address.parse::<std::net::Ipv4Addr>().map_err(|_| not(address, "a host address such as 127.0.0.1 or [::1]"))?;
            Ok((Some(parsed.into()), rest))
        }
        _ => Err(bare_ipv6(word, rest)),
    }
}

/// Too many colons: say it with the address, where the front of the word is one.
fn bare_ipv6(word: &str, rest: &str) -> WordError {
    let fronts = rest.char_indices().rev().filter(|(_, letter)| *letter == ':').map(|(at, _)| rest.get(..at).unwrap_or_default());
    match fronts.take(2).filter(|front| front.parse::<std::net::Ipv6Addr>().is_ok()).last() {
        Some(address) => WordError::Brackets { word: word.to_owned(), address: address.to_owned() },
        None => not(word, "a publication such as 8080:80, 127.0.0.1:8080:80 or [::1]:53:53/udp"),
    }
}

fn ports(word: &str, wanted: &'static str) -> Result<RangeInclusive<u16>, WordError> {
    let port = |part: &str| match part.parse::<u16>() {
        Ok(port) if !part.starts_with('+') => Ok(port),
        _ => Err(not(part, wanted)),
    };
    match word.split_once('-') {
        None => port(word).map(|port| port..=port),
        Some((first, last)) => {
            let range = port(first)?..=port(last)?;
            if range.is_empty() { Err(WordError::Backwards { word: word.to_owned() }) } else { Ok(range) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::{refuses, takes};

    fn parse(word: &str) -> Result<Vec<Publication>, WordError> {
        word.parse::<PublishSpec>().map(|spec| spec.0)
    }

    fn publication(host_ip: Option<&str>, host_port: u16, container_port: u16, protocol: Protocol) -> Publication {
        Publication { host_ip: host_ip.map(|ip| ip.parse().expect("an address")), host_port, container_port, protocol }
    }

    #[test]
    fn every_form_of_a_publication_is_taken() {
        use Protocol::{Tcp, Udp};
        takes(
            parse,
            &[
                ("80", vec![publication(None, 0, 80, Tcp)]),
                ("8080:80", vec![publication(None, 8080, 80, Tcp)]),
                ("0:80", vec![publication(None, 0, 80, Tcp)]),
                (":80", vec![publication(None, 0, 80, Tcp)]),
                ("53:53/udp", vec![publication(None, 53, 53, Udp)]),
                ("53:53/UDP", vec![publication(None, 53, 53, Udp)]),
                ("8080:80/Tcp", vec![publication(None, 8080, 80, Tcp)]),
                ("127.0.0.1:8080:80", vec![publication(Some("127.0.0.1"), 8080, 80, Tcp)]),
                ("127.0.0.1::80/tcp", vec![publication(Some("127.0.0.1"), 0, 80, Tcp)]),
                ("[::1]:8080:80", vec![publication(Some("::1"), 8080, 80, Tcp)]),
                ("[::]::80", vec![publication(Some("::"), 0, 80, Tcp)]),
                ("[::1]:80", vec![publication(Some("::1"), 0, 80, Tcp)]),
                ("8000-8001:80-81", vec![publication(None, 8000, 80, Tcp), publication(None, 8001, 81, Tcp)]),
                ("80-81", vec![publication(None, 0, 80, Tcp), publication(None, 0, 81, Tcp)]),
                ("65535:65535", vec![publication(None, 65535, 65535, Tcp)]),
            ],
        );
    }

    #[test]
    fn a_bad_publication_is_refused_by_its_wrong_part() {
        refuses(
            parse,
            &[
                ("", "`` is not a container port from 1 to 65535"),
                ("0", "`0` is not a container port from 1 to 65535"),
                ("65536", "`65536` is not a container port from 1 to 65535"),
                ("80:", "`` is not a container port from 1 to 65535"),
                ("+80", "`+80` is not a container port from 1 to 65535"),
                ("http:80", "`http` is not a host port from 0 to 65535"),
                ("70000:80", "`70000` is not a host port from 0 to 65535"),
                ("80/sctp", "`sctp` is not a protocol: tcp or udp"),
                ("8000-8002:80-81", "the ranges of `8000-8002:80-81` differ in length: 3 host ports for 2 of the container"),
                ("8000:80-81", "the ranges of `8000:80-81` differ in length: 1 host ports for 2 of the container"),
                ("81-80", "the range `81-80` runs backwards"),
                ("80-", "`` is not a container port from 1 to 65535"),
                ("300.0.0.1:80:80", "`300.0.0.1` is not a host address such as 127.0.0.1 or [::1]"),
                ("::1:8080:80", "`::1` in `::1:8080:80` stands without brackets: write [::1]"),
                ("[::1:80", "`[::1:80` lacks a `]`"),
                ("[::1]", "`[::1]` lacks a container port"),
                ("[127.0.0.1]:80:80", "`127.0.0.1` is not an IPv6 address"),
                ("a:b:c:d", "`a:b:c:d` is not a publication such as 8080:80, 127.0.0.1:8080:80 or [::1]:53:53/udp"),
            ],
        );
    }

    #[test]
    fn a_private_port_may_name_its_protocol() {
        takes(private_port, &[("80", (80, None)), ("53/udp", (53, Some(Protocol::Udp))), ("80/TCP", (80, Some(Protocol::Tcp)))]);
        refuses(private_port, &[("0/tcp", "`0` is not a container port from 1 to 65535"), ("80/x", "`x` is not a protocol: tcp or udp")]);
    }
}
