//! DHCP messages: what a client's says, and what ours say. dhcproto writes them. It does not read them: its decoder asserts lengths that the
//! sender chose, and one frame of a container must not end a worker. What a message means is here.

use std::{net::Ipv4Addr, str::FromStr};

use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};
use hickory_proto::rr::Name;
use ipnet::Ipv4Net;

use super::{Exchange, Given, Kind, LeaseAnswer, LeaseAsk, LeaseWish};
use crate::{DropReason, Mac};

/// The fixed part with the magic cookie before the options (RFC 2131, 2).
const HEADER: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the fixed part has its fields.
mod field {
    use std::ops::Range;

    pub(super) const XID: usize = 4;
    pub(super) const FLAGS: usize = 10;
    pub(super) const CIADDR: usize = 12;
    pub(super) const GIADDR: usize = 24;
    pub(super) const CHADDR: usize = 28;
    pub(super) const SNAME: Range<usize> = 44..108;
    pub(super) const FILE: Range<usize> = 108..236;
    pub(super) const COOKIE: usize = 236;
}
/// BOOTREQUEST.
const REQUEST: u8 = 1;
/// What every client takes (RFC 2131, 2), and BOOTP relays once wanted at least (RFC 1542, 2.1).
const LENGTH_MIN: usize = 300;
/// Ethernet (RFC 1700): type and length of the address.
const ETHERNET: [u8; 2] = [1, 6];
/// Options beyond this number are nobody's: a message has one of each that matters.
const OPTIONS_MAX: usize = 1024;

/// The options of a message that matter here, as they came.
#[derive(Debug, Default)]
struct Options<'a> {
    requested_ip: Option<&'a [u8]>,
    overload: Option<&'a [u8]>,
    message_type: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    parameters: Option<&'a [u8]>,
    client_id: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Reads the options that `bytes` consist of; of two alike the first counts (RFC 2132, 2).
    fn read(&mut self, mut bytes: &'a [u8]) -> Option<()> {
        while let Some((code, rest)) = bytes.split_first() {
            let place = match OptionCode::from(*code) {
                OptionCode::Pad => {
                    bytes = rest;
                    continue;
                }
                OptionCode::End => return Some(()),
                OptionCode::RequestedIpAddress => Some(&mut self.requested_ip),
                OptionCode::OptionOverload => Some(&mut self.overload),
                OptionCode::MessageType => Some(&mut self.message_type),
                OptionCode::ServerIdentifier => Some(&mut self.server),
                OptionCode::ParameterRequestList => Some(&mut self.parameters),
                OptionCode::ClientIdentifier => Some(&mut self.client_id),
                _ => None,
            };
            let (length, rest) = rest.split_first()?;
            let (content, rest) = rest.split_at_checked(usize::from(*length))?;
            if let Some(place) = place {
                place.get_or_insert(content);
            }
            bytes = rest;
        }
        Some(())
    }

    /// All of a message, those in the fields for names among them (RFC 2132, 9.3).
    fn of(message: &'a [u8]) -> Option<Self> {
        let mut options = Self::default();
        options.read(message.get(HEADER..)?)?;
        let overload = options.overload.and_then(<[u8]>::first).copied().unwrap_or(0);
        for (bit, place) in [(1, field::FILE), (2, field::SNAME)] {
            if overload & bit != 0 {
                options.read(message.get(place)?)?;
            }
        }
        Some(options)
    }
}

/// The address that an option consists of; one of another length is no address.
fn address(content: Option<&[u8]>) -> Result<Option<Ipv4Addr>, DropReason> {
    let read = |content: &[u8]| <[u8; 4]>::try_from(content).map(Ipv4Addr::from).map_err(|_| DropReason::GatewayMalformed);
    content.map(read).transpose()
}

/// Reads a client's message. `own` is the address by which clients name this server.
pub(super) fn read(bytes: &[u8], own: Ipv4Addr) -> Result<LeaseAsk, DropReason> {
    let malformed = DropReason::GatewayMalformed;
    if bytes.get(1..3) != Some(&ETHERNET) || bytes.len() < HEADER || bytes.len() > HEADER + OPTIONS_MAX {
        return Err(malformed);
    }
    let word = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).copied().ok_or(malformed);
    let client = Mac(*bytes.get(field::CHADDR..).and_then(<[u8]>::first_chunk).ok_or(malformed)?);
    if bytes.first() != Some(&REQUEST) || word(field::COOKIE)? != COOKIE || client.is_group() || client.is_zero() {
        return Err(malformed);
    }
    let options = Options::of(bytes).ok_or(malformed)?;
    if word(field::GIADDR)? != [0; 4] {
        return Err(DropReason::GatewayUnsupported);
    }
    let wanted = address(options.requested_ip)?;
    let for_us = address(options.server)?.is_none_or(|server| server == own);
    let ciaddr = Ipv4Addr::from(word(field::CIADDR)?);
    let Some(&[kind]) = options.message_type else { return Err(malformed) };
    let (wish, kind) = match MessageType::from(kind) {
        MessageType::Discover => (LeaseWish::Discover { wanted }, Kind::Offer),
        MessageType::Request if !for_us => (LeaseWish::Refuse, Kind::None),
        MessageType::Request => {
            let wanted = wanted.or_else(|| (!ciaddr.is_unspecified()).then_some(ciaddr)).ok_or(malformed)?;
            (LeaseWish::Request { wanted }, Kind::Ack)
        }
        MessageType::Decline if for_us => (LeaseWish::Decline { address: wanted.ok_or(malformed)? }, Kind::None),
        MessageType::Release if for_us => (LeaseWish::Release { address: ciaddr }, Kind::None),
        MessageType::Inform => (LeaseWish::Inform, Kind::Inform),
        _ => return Err(DropReason::GatewayUnsupported),
    };
    // At least two bytes (RFC 2132, 9.14).
    let client_id = options.client_id.filter(|id| id.len() >= 2).map(<[u8]>::to_vec);
    let routes = options.parameters.is_some_and(|list| list.contains(&OptionCode::ClasslessStaticRoute.into()));
    let broadcast = bytes.get(field::FLAGS).is_some_and(|flags| flags & 0x80 != 0);
    let exchange = Exchange { client, xid: u32::from_be_bytes(word(field::XID)?), ciaddr, broadcast, routes, kind };
    Ok(LeaseAsk { wish, client, client_id, exchange })
}

/// All that an answer is made of.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) answer: &'a LeaseAnswer,
    pub(super) server: Ipv4Addr,
    pub(super) subnet: Ipv4Net,
    pub(super) mtu: u16,
}

impl Reply<'_> {
    /// The message; `None`: there is none for this exchange.
    pub(super) fn write(&self) -> Option<Vec<u8>> {
        let Exchange { client, xid, ciaddr, broadcast, kind, .. } = self.answer.exchange;
        let given = self.answer.given.as_ref();
        let address = given.and_then(|given| given.address);
        let kind = match (kind, given) {
            (Kind::Offer, Some(_)) => MessageType::Offer,
            (Kind::Ack | Kind::Inform, Some(_)) => MessageType::Ack,
            (Kind::Ack, None) => MessageType::Nak,
            (Kind::Offer | Kind::Inform, None) | (Kind::None, _) => return None,
        };
        let yiaddr = address.map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| address);
        // In a NAK and an offer there is no address that the client has.
        let ciaddr = if kind == MessageType::Ack { ciaddr } else { Ipv4Addr::UNSPECIFIED };
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, ciaddr, yiaddr, none, none, &client.0);
        message.set_opcode(Opcode::BootReply);
        // A NAK reaches a client whose address is wrong only so.
        message.set_flags(if broadcast || given.is_none() { Flags::default().set_broadcast() } else { Flags::default() });
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.server));
        if let Some((_, time)) = address {
            options.insert(DhcpOption::AddressLeaseTime(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)));
        }
        for option in given.into_iter().flat_map(|given| self.options(given)) {
            options.insert(option);
        }
        let mut bytes = Vec::with_capacity(LENGTH_MIN);
        message.encode(&mut Encoder::new(&mut bytes)).ok()?;
        bytes.resize(bytes.len().max(LENGTH_MIN), 0);
        Some(bytes)
    }

    /// What a client is told of its network.
    fn options(&self, given: &Given) -> Vec<DhcpOption> {
        let mut options = vec![
            DhcpOption::SubnetMask(self.subnet.netmask()),
            DhcpOption::Router(vec![self.server]),
            DhcpOption::DomainNameServer(vec![self.server]),
            DhcpOption::InterfaceMtu(self.mtu),
        ];
        options.extend(given.hostname.clone().map(DhcpOption::Hostname));
        options.extend(given.search.first().cloned().map(DhcpOption::DomainName));
        let search: Vec<Name> = given.search.iter().filter_map(|domain| Name::from_str(domain).ok()).collect();
        if !search.is_empty() {
            options.push(DhcpOption::DomainSearch(search));
        }
        if self.answer.exchange.routes {
            options.push(DhcpOption::ClasslessStaticRoute(vec![(Ipv4Net::default(), self.server)]));
        }
        options
    }
}
