//! DHCPv6 messages: what a client's says, and what ours say. dhcproto writes them. It does not read them: its decoder subtracts from
//! lengths that the sender chose before it looks at them, and takes no offence at an option that ends early.

use std::{net::Ipv6Addr, str::FromStr, time::Duration};

use dhcproto::{
    Encodable, Encoder,
    v6::{DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IATA, Message, MessageType, OptionCode, Status, StatusCode},
};
use hickory_proto::rr::Name;

use super::{Associated, Association, Exchange6, LeaseAnswer6, LeaseAsk6, LeaseStatus6, LeaseWish6, Other};
use crate::{DropReason, Mac};

/// Associations of one message, and addresses of one of them: a client has an interface or two.
const ASSOCIATIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 8;
/// A type of two bytes and 1 to 128 more (RFC 8415, 11.1).
const DUID_LENGTH: std::ops::RangeInclusive<usize> = 3..=130;
/// An address, and its two lifetimes (RFC 8415, 21.6).
const ADDRESS_FIXED: usize = 24;

/// An option's code and content.
type RawOption<'a> = (OptionCode, &'a [u8]);

/// The options that `bytes` consist of.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = Result<RawOption<'_>, DropReason>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((option, rest)) = split_option(bytes) else {
            bytes = &[];
            return Some(Err(DropReason::GatewayMalformed));
        };
        bytes = rest;
        Some(Ok(option))
    })
}

fn split_option(bytes: &[u8]) -> Option<(RawOption<'_>, &[u8])> {
    let ([c0, c1, l0, l1], rest) = bytes.split_first_chunk()?;
    let (content, rest) = rest.split_at_checked(u16::from_be_bytes([*l0, *l1]).into())?;
    Some(((u16::from_be_bytes([*c0, *c1]).into(), content), rest))
}

/// DUID-LL, of Ethernet (RFC 8415, 11.4).
pub(super) fn duid_of(mac: Mac) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac.0].concat()
}

/// Reads the message that the station `client` sent from `address`; `server` is the MAC by which clients name this server.
pub(super) fn read(bytes: &[u8], client: Mac, address: Ipv6Addr, server: Mac) -> Result<LeaseAsk6, DropReason> {
    let malformed = DropReason::GatewayMalformed;
    let ([kind, transaction @ ..], rest) = bytes.split_first_chunk::<4>().ok_or(malformed)?;
    let mut wish = match MessageType::from(*kind) {
        MessageType::Solicit => LeaseWish6::Solicit { rapid: false },
        MessageType::Request => LeaseWish6::Request,
        MessageType::Confirm => LeaseWish6::Confirm,
        MessageType::Renew => LeaseWish6::Renew,
        MessageType::Rebind => LeaseWish6::Rebind,
        MessageType::Release => LeaseWish6::Release,
        MessageType::Decline => LeaseWish6::Decline,
        MessageType::InformationRequest => LeaseWish6::Information,
        _ => return Err(DropReason::GatewayUnsupported),
    };
    let (mut duid, mut named, mut associations, mut others) = (None, None, Vec::new(), Vec::new());
    for option in options(rest) {
        let (code, content) = option?;
        let id = || content.first_chunk().map(|id| u32::from_be_bytes(*id)).ok_or(malformed);
        match code {
            OptionCode::ClientId if duid.replace(content).is_some() || !DUID_LENGTH.contains(&content.len()) => return Err(malformed),
            OptionCode::ServerId if named.replace(content).is_some() => return Err(malformed),
            OptionCode::IANA => associations.push(association(content)?),
            OptionCode::IATA => others.push(Other::Temporary(id()?)),
            OptionCode::IAPD => others.push(Other::Prefix(id()?)),
            OptionCode::RapidCommit if wish == (LeaseWish6::Solicit { rapid: false }) => wish = LeaseWish6::Solicit { rapid: true },
            _ => (),
        }
    }
    if associations.len() + others.len() > ASSOCIATIONS_MAX {
        return Err(malformed);
    }
    let own = duid_of(server);
    // Who must say whom it means, and who must not (RFC 8415, 16).
    match (wish, named) {
        (LeaseWish6::Information, None) => (),
        (LeaseWish6::Information, Some(named)) if named == own => (),
        (_, Some(named)) if wish.names_a_server() && named == own => (),
        (_, None) if !wish.names_a_server() => (),
        (_, Some(named)) if named != own && (wish.names_a_server() || wish == LeaseWish6::Information) => {
            return Err(DropReason::GatewayUnsupported);
        }
        _ => return Err(malformed),
    }
    let is_information = wish == LeaseWish6::Information;
    if (duid.is_none() && !is_information) || (is_information && !(associations.is_empty() && others.is_empty())) {
        return Err(malformed);
    }
    let duid = duid.unwrap_or_default().to_vec();
    Ok(LeaseAsk6 { wish, associations, exchange: Exchange6 { client, address, transaction: *transaction, duid, wish, others } })
}

/// IA_NA: an identity, two times, and options (RFC 8415, 21.4).
fn association(content: &[u8]) -> Result<Association, DropReason> {
    let malformed = DropReason::GatewayMalformed;
    let ([i0, i1, i2, i3, ..], rest) = content.split_first_chunk::<12>().ok_or(malformed)?;
    let mut addresses = Vec::new();
    for option in options(rest) {
        let (code, content) = option?;
        if code == OptionCode::IAAddr {
            let address = content.first_chunk::<ADDRESS_FIXED>().and_then(|fixed| fixed.first_chunk::<16>()).ok_or(malformed)?;
            addresses.push(Ipv6Addr::from(*address));
        }
    }
    let within = addresses.len() <= ADDRESSES_MAX;
    within.then_some(Association { id: u32::from_be_bytes([*i0, *i1, *i2, *i3]), addresses }).ok_or(malformed)
}

/// All that an answer is made of.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) answer: &'a LeaseAnswer6,
    pub(super) server: Mac,
    pub(super) resolver: Ipv6Addr,
}

impl Reply<'_> {
    /// The message; `None`: it cannot be written.
    pub(super) fn write(&self) -> Option<Vec<u8>> {
        let LeaseAnswer6 { exchange, status, associations, search } = self.answer;
        let given = associations.iter().any(|association| !association.addresses.is_empty());
        let kind = match exchange.wish {
            LeaseWish6::Solicit { rapid } if !(rapid && given) => MessageType::Advertise,
            _ => MessageType::Reply,
        };
        let mut message = Message::new_with_id(kind, exchange.transaction);
        let options = message.opts_mut();
        if !exchange.duid.is_empty() {
            options.insert(DhcpOption::ClientId(exchange.duid.clone()));
        }
        options.insert(DhcpOption::ServerId(duid_of(self.server)));
        options_of_status(*status).for_each(|option| options.insert(option));
        // Nothing else belongs to this one (RFC 8415, 18.3.2).
        if *status != Some(LeaseStatus6::UseMulticast) {
            match (exchange.wish, kind) {
                (LeaseWish6::Solicit { .. }, MessageType::Reply) => options.insert(DhcpOption::RapidCommit),
                (LeaseWish6::Solicit { .. }, _) => options.insert(DhcpOption::Preference(255)),
                _ => (),
            }
            associations.iter().for_each(|association| options.insert(written(association)));
            exchange.others.iter().filter_map(|other| refusal(exchange.wish, *other)).for_each(|option| options.insert(option));
            options.insert(DhcpOption::DomainNameServers(vec![self.resolver]));
            let search: Vec<Name> = search.iter().filter_map(|domain| fully_qualified(domain)).collect();
            if !search.is_empty() {
                options.insert(DhcpOption::DomainSearchList(search));
            }
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).ok()?;
        Some(bytes)
    }
}

fn fully_qualified(domain: &str) -> Option<Name> {
    let mut name = Name::from_str(domain).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn options_of_status(status: Option<LeaseStatus6>) -> impl Iterator<Item = DhcpOption> {
    let code = |status| match status {
        LeaseStatus6::Success => (Status::Success, ""),
        LeaseStatus6::NoAddresses => (Status::NoAddrsAvail, "no address is left"),
        LeaseStatus6::NoBinding => (Status::NoBinding, "this is no lease of yours"),
        LeaseStatus6::NotOnLink => (Status::NotOnLink, "this is no address of this link"),
        LeaseStatus6::UseMulticast => (Status::UseMulticast, "ask all servers"),
    };
    let option = |(status, message): (Status, &str)| DhcpOption::StatusCode(StatusCode { status, msg: message.to_owned() });
    status.map(code).map(option).into_iter()
}

fn written(association: &Associated) -> DhcpOption {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let shortest = association.addresses.iter().map(|(_, time)| seconds(*time)).filter(|time| *time > 0).min().unwrap_or(0);
    let address = |(address, time): &(Ipv6Addr, Duration)| {
        let life = seconds(*time);
        DhcpOption::IAAddr(IAAddr { addr: *address, preferred_life: life, valid_life: life, opts: DhcpOptions::new() })
    };
    let options = association.addresses.iter().map(address).chain(options_of_status(association.status));
    // Half and four fifths (RFC 8415, 21.4).
    let (t1, t2) = (shortest / 2, (u64::from(shortest) * 4 / 5) as u32);
    DhcpOption::IANA(IANA { id: association.id, t1, t2, opts: options.collect() })
}

/// What is said of an association for what nobody gets here.
fn refusal(wish: LeaseWish6, other: Other) -> Option<DhcpOption> {
    let ends = matches!(wish, LeaseWish6::Release | LeaseWish6::Decline);
    if wish == LeaseWish6::Confirm {
        return None;
    }
    let status = |status, msg: &str| std::iter::once(DhcpOption::StatusCode(StatusCode { status, msg: msg.to_owned() })).collect();
    Some(match other {
        Other::Temporary(id) | Other::Prefix(id) if ends => {
            let opts = status(Status::NoBinding, "this is no lease of yours");
            match other {
                Other::Temporary(_) => DhcpOption::IATA(IATA { id, opts }),
                Other::Prefix(_) => DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts }),
            }
        }
        Other::Temporary(id) => DhcpOption::IATA(IATA { id, opts: status(Status::NoAddrsAvail, "there are no temporary addresses") }),
        Other::Prefix(id) => DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts: status(Status::NoPrefixAvail, "there are no prefixes") }),
    })
}
