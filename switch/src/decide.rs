//! Where an admitted frame goes: to the one port that its destination lies behind, or to all that may hear it.

use crate::{
    DropReason, Frame, PortId, PortSet, Verdict,
    config::Config,
    parse::{Ethernet, Headers},
};

/// The destination lies behind `egress`.
pub(crate) fn forward(config: &Config, ingress: PortId, egress: PortId, packet: usize) -> Result<Verdict, DropReason> {
    let port = config.port(egress).ok_or(DropReason::PortClosed)?;
    if egress == ingress {
        return Err(DropReason::BackToIngress);
    }
    if !config.may_pass(ingress, egress) {
        return Err(DropReason::Isolated);
    }
    if packet > usize::from(port.settings.mtu) {
        return Err(DropReason::TooLong);
    }
    Ok(Verdict::Forward(egress))
}

/// The destination is a group, or unknown. Ports whose link is too short are left out, as a broadcast on a wire with them would
/// be lost to them alone.
pub(crate) fn flood(config: &Config, ingress: PortId, is_group: bool, packet: usize) -> Result<Verdict, DropReason> {
    let mut egress = config.reachable(ingress);
    if !is_group {
        // The gateway's address is pinned, so what is unknown is not for it.
        egress.remove(PortId::GATEWAY);
    }
    if egress.is_empty() {
        return Err(DropReason::NobodyElse);
    }
    if packet > usize::from(config.mtu_min) {
        let fits = |port: &PortId| config.port(*port).is_some_and(|port| packet <= usize::from(port.settings.mtu));
        egress = egress.iter().filter(fits).collect::<PortSet>();
        if egress.is_empty() {
            return Err(DropReason::TooLong);
        }
    }
    Ok(Verdict::Flood(egress))
}

/// Bytes of the packet that an egress link will carry: without the Ethernet header and its tag, and of a superframe its longest
/// segment.
pub(crate) fn packet_len(frame: &Frame<'_>, ethernet: &Ethernet) -> Result<usize, DropReason> {
    let Some(gso) = frame.offload.gso else { return Ok(frame.bytes.len() - ethernet.len) };
    let (payload, end) = Headers::parse(frame.bytes)?.payload().ok_or(DropReason::BadOffload)?;
    Ok(payload + usize::from(gso.size.get()).min(end - payload) - ethernet.len)
}
