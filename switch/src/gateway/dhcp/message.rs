//! DHCP messages: what a client's says, and what ours say. dhcproto has the format; what a message means is here.

use std::{net::Ipv4Addr, str::FromStr};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};
use hickory_proto::rr::Name;
use ipnet::Ipv4Net;

use super::{Exchange, Given, Kind, LeaseAnswer, LeaseAsk, LeaseWish};
use crate::{DropReason, Mac};

/// The fixed part with the magic cookie before the options (RFC 2131, 2).
const HEADER: usize = 240;
/// What every client takes (RFC 2131, 2), and BOOTP relays once wanted at least (RFC 1542, 2.1).
const LENGTH_MIN: usize = 300;
/// Ethernet (RFC 1700): type and length of the address.
const ETHERNET: [u8; 2] = [1, 6];
/// Options beyond this number are nobody's: a message has one of each that matters.
const OPTIONS_MAX: usize = 1024;

/// Reads a client's message. `own` is the address by which clients name this server.
pub(super) fn read(bytes: &[u8], own: Ipv4Addr) -> Result<LeaseAsk, DropReason> {
    let malformed = DropReason::GatewayMalformed;
    // The codec believes the length of the hardware address.
    if bytes.get(1..3) != Some(&ETHERNET) || bytes.len() < HEADER || bytes.len() > HEADER + OPTIONS_MAX {
        return Err(malformed);
    }
    let message = Message::decode(&mut Decoder::new(bytes)).map_err(|_| malformed)?;
    let client = Mac(*message.chaddr().first_chunk().ok_or(malformed)?);
    if message.opcode() != Opcode::BootRequest || client.is_group() || client.is_zero() {
        return Err(malformed);
    }
    if !message.giaddr().is_unspecified() {
        return Err(DropReason::GatewayUnsupported);
    }
    let option = |code| message.opts().get(code);
    let wanted = match option(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    };
    let for_us = match option(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server == own,
        _ => true,
    };
    let ciaddr = message.ciaddr();
    let (wish, kind) = match message.opts().msg_type().ok_or(malformed)? {
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
    let client_id = match option(OptionCode::ClientIdentifier) {
        // At least two bytes (RFC 2132, 9.14).
        Some(DhcpOption::ClientIdentifier(id)) if (2..=255).contains(&id.len()) => Some(id.clone()),
        _ => None,
    };
    let routes = match option(OptionCode::ParameterRequestList) {
        Some(DhcpOption::ParameterRequestList(list)) => list.contains(&OptionCode::ClasslessStaticRoute),
        _ => false,
    };
    let exchange = Exchange { client, xid: message.xid(), ciaddr, broadcast: message.flags().broadcast(), routes, kind };
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
