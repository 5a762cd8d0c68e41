//! What the container 10.0.0.3 sends beside 10.0.0.2 and the gateway 10.0.0.1: in the name of those, and in its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netloom_switch::{
    Checksum, Mac, Offload,
    testkit::{Built, Eth, TcpFields, eth},
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);

const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const OPTIONS: u8 = 60;

const PRIORITY: [u8; 4] = [0x81, 0, 0xe0, 0];
const SERVICE_PRIORITY: [u8; 4] = [0x88, 0xa8, 0, 0];
const VLAN: [u8; 4] = [0x81, 0, 0, 5];

type Seed = (String, Built);

fn everyone() -> Eth {
    eth(Mac::from_ipv4(OWN), Mac::BROADCAST)
}

/// The frame with these tags between its addresses and its EtherType.
fn tagged(built: &Built, tags: &[[u8; 4]]) -> Built {
    let (addresses, rest) = built.bytes.split_at(12);
    Built::raw([addresses, &tags.concat(), rest].concat())
}

/// A packet to all nodes: `message` behind `before`, headers of which the first is `first`.
fn packet6(source: Ipv6Addr, (first, before): (u8, &[u8]), message: &[u8]) -> Built {
    let [l0, l1] = ((before.len() + message.len()) as u16).to_be_bytes();
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let header = [&[0x60, 0, 0, 0, l0, l1, first, 255][..], &source.octets(), &to.octets()].concat();
    everyone().raw(0x86dd, &[&header, before, message].concat())
}

/// A destination-options header of filling, and a fragment header.
const fn options(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

const fn fragment(next: u8, more: u8) -> [u8; 8] {
    [next, 0, 0, more, 0, 0, 0, 9]
}

fn neighbour(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
const DHCP6_ANSWER: [u8; 12] = [2, 35, 2, 34, 0, 12, 0, 0, 7, 0, 0, 1];

fn syn(from: IpAddr) -> Built {
    let to: SocketAddr = if from.is_ipv4() { "10.0.0.9:80".parse().unwrap() } else { "[fd00::9]:80".parse().unwrap() };
    everyone().tcp((from, 4000).into(), to, TcpFields { flags: 2, options: 1, ..TcpFields::default() }, b"")
}

fn dhcp_answer(port: u16) -> Built {
    everyone().extra(1).udp((OWN, port).into(), "255.255.255.255:68".parse().unwrap(), b"\x02offer")
}

/// What is summed from `start` on is left to be finished and written to `at`, where it will be `value`: two bytes more see to that.
fn unfinished(mut built: Built, start: usize, at: usize, value: u16) -> Built {
    let sum: u32 = built.bytes[start..].chunks(2).map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1])).sum();
    let rest = (0xffff - u32::from(value) + 0xffff - sum % 0xffff) % 0xffff;
    built.bytes.extend((rest as u16).to_be_bytes());
    built.offload = Offload { checksum: Checksum::Partial { start: start as u16, offset: (at - start) as u16 }, gso: None };
    built
}

/// Each kind of rogue, as plainly as it can be.
fn plain() -> Vec<(&'static str, Built)> {
    let gateway6 = Mac::from_ipv4(GATEWAY).link_local();
    vec![
        ("arp", everyone().arp_reply(NEIGHBOUR, NEIGHBOUR)),
        ("arp-of-the-gateway", everyone().arp_request(GATEWAY, OWN)),
        ("mac", eth(Mac::from_ipv4(NEIGHBOUR), Mac::BROADCAST).filler(60)),
        ("source4", syn(NEIGHBOUR.into())),
        ("source6", syn(NEIGHBOUR6.into())),
        ("advertisement", packet6(OWN6, (ICMPV6, &[]), &neighbour(136, NEIGHBOUR6))),
        ("advertisement-of-the-gateway", packet6(OWN6, (ICMPV6, &[]), &neighbour(136, gateway6))),
        ("solicitation-before-taking", packet6(Ipv6Addr::UNSPECIFIED, (ICMPV6, &[]), &neighbour(135, NEIGHBOUR6))),
        ("router", packet6(OWN6, (ICMPV6, &[]), &ADVERTISEMENT)),
        ("redirect", packet6(OWN6, (ICMPV6, &[]), &neighbour(137, OWN6))),
        ("dhcp", dhcp_answer(67)),
        ("dhcp6", packet6(OWN6, (UDP, &[]), &DHCP6_ANSWER)),
    ]
}

/// Rogues behind headers, in fragments, and under another number.
fn hidden() -> Vec<(&'static str, Built)> {
    let mut as_802 = everyone().arp_reply(NEIGHBOUR, NEIGHBOUR);
    as_802.bytes[15] = 6;
    let mut first4 = dhcp_answer(67);
    first4.bytes[20..22].copy_from_slice(&[0x20, 0]);
    let chain = |count: usize| [&options(OPTIONS).repeat(count)[..], &options(ICMPV6)].concat();
    let first = [fragment(OPTIONS, 1), options(UDP)].concat();
    let nested = [fragment(FRAGMENT, 1), fragment(OPTIONS, 1), options(UDP)].concat();
    let authentication = [ICMPV6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    vec![
        ("arp-of-all-802-networks", as_802),
        ("dhcp-first-fragment", first4),
        ("dhcp-from-any-port", dhcp_answer(4000)),
        ("dhcp6-from-any-port", packet6(OWN6, (UDP, &[]), &[&[15, 160], &DHCP6_ANSWER[2..]].concat())),
        ("router-behind-a-chain", packet6(OWN6, (OPTIONS, &chain(7)), &ADVERTISEMENT)),
        ("router-behind-a-longer-chain", packet6(OWN6, (OPTIONS, &chain(20)), &ADVERTISEMENT)),
        ("router-in-an-atomic-fragment", packet6(OWN6, (FRAGMENT, &fragment(ICMPV6, 0)), &ADVERTISEMENT)),
        ("redirect-behind-mobility", packet6(OWN6, (135, &options(ICMPV6)), &neighbour(137, OWN6))),
        ("advertisement-behind-authentication", packet6(OWN6, (51, &authentication), &neighbour(136, NEIGHBOUR6))),
        ("dhcp6-first-fragment", packet6(OWN6, (FRAGMENT, &first), &DHCP6_ANSWER)),
        ("dhcp6-fragment-in-a-fragment", packet6(OWN6, (FRAGMENT, &nested), &DHCP6_ANSWER)),
    ]
}

/// Rogues that whoever finishes their checksum makes of them.
fn unfinished_rogues() -> Vec<(&'static str, Built)> {
    let in_vlans = tagged(&everyone().arp_reply(NEIGHBOUR, NEIGHBOUR), &[VLAN, VLAN]);
    let to_a_server = everyone().udp((OWN, 67).into(), "255.255.255.255:67".parse().unwrap(), b"of");
    vec![
        ("arp-unfinished", unfinished(everyone().arp_reply(OWN, OWN), 14, 30, 2)),
        ("source4-unfinished", unfinished(syn(OWN.into()), 14, 28, 2)),
        ("advertisement-unfinished", unfinished(packet6(OWN6, (ICMPV6, &[]), &neighbour(136, OWN6)), 54, 76, 2)),
        ("router-unfinished", unfinished(packet6(OWN6, (OPTIONS, &options(59)), &ADVERTISEMENT), 54, 54, 58 << 8)),
        ("dhcp-unfinished", unfinished(to_a_server, 34, 36, 68)),
        ("arp-in-an-unfinished-vlan", unfinished(in_vlans, 18, 18, 0xe000)),
    ]
}

/// Every rogue, some of them behind tags that their receivers take off.
pub(crate) fn rogues() -> Vec<Seed> {
    let priority = |(name, built): &(&str, Built)| (format!("{name}-tagged"), tagged(built, &[PRIORITY, SERVICE_PRIORITY]));
    let vlan = |(name, built): &(&str, Built)| (format!("{name}-in-a-vlan"), tagged(built, &[SERVICE_PRIORITY, VLAN, PRIORITY]));
    let plain = plain();
    let tagged = plain.iter().map(priority).chain(plain.iter().step_by(3).map(vlan)).collect::<Vec<_>>();
    let untagged = plain.iter().cloned().chain(hidden()).chain(unfinished_rogues());
    untagged.map(|(name, built)| (name.to_owned(), built)).chain(tagged).map(|(name, built)| (format!("rogue-{name}"), built)).collect()
}

/// What a container may say.
pub(crate) fn honest() -> Vec<Seed> {
    let (own4, own6, far4, far6) = ((OWN, 68).into(), (OWN6, 4000).into(), (NEIGHBOUR, 67).into(), (NEIGHBOUR6, 80).into());
    let mut later4 = dhcp_answer(67);
    later4.bytes[20..22].copy_from_slice(&[0x20, 1]);
    let push = TcpFields { flags: 0x18, ..TcpFields::default() };
    let mut echo = packet6(OWN6, (ICMPV6, &[]), &[128, 0, 0, 0, 0, 7, 0, 1]);
    echo.offload.checksum = Checksum::Partial { start: 54, offset: 2 };
    let later6 = [UDP, 0, 0, 9, 0, 0, 0, 9];
    let seeds = [
        ("arp", everyone().arp_request(OWN, NEIGHBOUR)),
        ("probe", everyone().arp_request(Ipv4Addr::UNSPECIFIED, OWN)),
        ("solicitation", packet6(OWN6, (ICMPV6, &[]), &neighbour(135, NEIGHBOUR6))),
        ("advertisement", packet6(OWN6, (ICMPV6, &[]), &neighbour(136, OWN6))),
        ("dhcp-question", everyone().udp(own4, far4, b"discover")),
        ("dhcp6-question", packet6(OWN6, (UDP, &[]), &[2, 34, 2, 35, 0, 12, 0, 0, 1, 0, 0, 1])),
        ("later-fragment", later4),
        ("later-fragment6", packet6(OWN6, (FRAGMENT, &later6), &DHCP6_ANSWER)),
        ("arp-of-anothers-vlan", tagged(&everyone().arp_reply(NEIGHBOUR, NEIGHBOUR), &[VLAN, VLAN])),
        ("superframe", everyone().tcp_gso((OWN, 4000).into(), far4, push, &[7; 100], 40)),
        ("unfinished-tcp6", everyone().extra(1).tcp_partial(own6, far6, push, b"hello")),
        ("unfinished-echo6", echo),
        ("source-of-nobody", syn([10, 9, 9, 9].into())),
    ];
    seeds.map(|(name, built)| (name.to_owned(), built)).into()
}
