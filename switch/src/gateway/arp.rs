//! ARP (RFC 826): the gateway answers for its own address and for no other.

use pnet_packet::{
    arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket},
    ethernet::EtherTypes,
};

use super::{
    Core, Outside,
    build::{Link, ethertype},
};
use crate::{DropReason, Frame, Mac, frame::ETHERNET_HEADER};

/// Answers a request for the gateway's address, and learns who asked. Whatever else is said over ARP is for other ears.
pub(super) fn frame(core: &mut Core, mac: Mac, frame: &Frame<'_>, outside: &mut impl Outside) -> Result<(), DropReason> {
    let request = frame.bytes.get(ETHERNET_HEADER..).and_then(ArpPacket::new).ok_or(DropReason::GatewayMalformed)?;
    let ethernet_and_ipv4 = request.get_hardware_type() == ArpHardwareTypes::Ethernet
        && request.get_protocol_type() == EtherTypes::Ipv4
        && (request.get_hw_addr_len(), request.get_proto_addr_len()) == (6, 4);
    if !ethernet_and_ipv4 {
        return Err(DropReason::GatewayMalformed);
    }
    let config = core.view.config.clone();
    let (Some(own), asker) = (config.ip, request.get_sender_proto_addr()) else { return Ok(()) };
    // What the packet says of its sender must agree with the frame it came in: nobody speaks for another here.
    let honest = request.get_sender_hw_addr() == mac.0;
    if honest && config.subnet.contains(&asker) && asker != own {
        core.neighbours.learn(asker.into(), mac);
    }
    if request.get_operation() != ArpOperations::Request || request.get_target_proto_addr() != own {
        return Ok(());
    }
    let link = Link { from: config.mac, to: mac };
    core.builder.send_ethernet(outside, link, ethertype::ARP, ArpPacket::minimum_packet_size(), |bytes| {
        let Some(mut reply) = MutableArpPacket::new(bytes) else { return };
        reply.set_hardware_type(ArpHardwareTypes::Ethernet);
        reply.set_protocol_type(EtherTypes::Ipv4);
        reply.set_hw_addr_len(6);
        reply.set_proto_addr_len(4);
        reply.set_operation(ArpOperations::Reply);
        reply.set_sender_hw_addr(config.mac.0.into());
        reply.set_sender_proto_addr(own);
        reply.set_target_hw_addr(mac.0.into());
        reply.set_target_proto_addr(asker);
    });
    Ok(())
}
