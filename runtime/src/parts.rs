//! A container with more ports and listeners than one message can carry tells of them in several.
//!
//! ```text
//!   Hello or Attach, more ──▶ Attach, more ──▶ … ──▶ Attach        answered once, as one message
//! ```
//!
//! The descriptors of all parts in a row are those of the whole: the ports', then the listeners'. Nothing else is said in between.

use crate::{
    protocol::{Listener, ToDaemon},
    spec::Attachment,
};

/// How many ports and listeners one message tells of: the kernel passes 253 descriptors at a time (unix(7), SCM_MAX_FD), a Hello
/// carries a user namespace as well, and the text must fit into [`crate::channel::MESSAGE_MAX`].
pub(crate) const PART: usize = 200;

/// `ports` and `listeners`, in parts of at most [`PART`] together; at least one part, which may be empty.
pub(crate) fn split(mut ports: Vec<Attachment>, mut listeners: Vec<Listener>) -> Vec<(Vec<Attachment>, Vec<Listener>)> {
    let mut parts = Vec::new();
    loop {
        let some_ports: Vec<_> = ports.drain(..ports.len().min(PART)).collect();
        let some_listeners: Vec<_> = listeners.drain(..listeners.len().min(PART - some_ports.len())).collect();
        parts.push((some_ports, some_listeners));
        if ports.is_empty() && listeners.is_empty() {
            return parts;
        }
    }
}

impl ToDaemon {
    /// Whether an `Attach` follows that belongs to this message.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Hello { more: true, .. } | Self::Attach { more: true, .. })
    }

    /// Adds the next part; `false` if `part` is none, which leaves this message as it is.
    pub fn take(&mut self, part: Self) -> bool {
        let (Self::Hello { ports, listeners, more, .. } | Self::Attach { ports, listeners, more }) = self else { return false };
        let Self::Attach { ports: some_ports, listeners: some_listeners, more: on } = part else { return false };
        ports.extend(some_ports);
        listeners.extend(some_listeners);
        *more = on;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Protocol, Publication};

    fn listener(port: u16) -> Listener {
        let publication = Publication { host_ip: None, host_port: port, container_port: port, protocol: Protocol::Tcp };
        let host_ip = std::net::Ipv4Addr::UNSPECIFIED.into();
        Listener { publication, host_ip, host_port: port, container_port: port, protocol: Protocol::Tcp }
    }

    #[test]
    fn a_thousand_listeners_are_told_in_parts_and_are_the_same_when_put_together() {
        let all: Vec<_> = (1..=1000).map(listener).collect();
        let parts = split(Vec::new(), all.clone());
        assert_eq!(parts.len(), 5);
        let count = parts.len();
        let mut messages = parts.into_iter().enumerate().map(|(index, (ports, listeners))| {
            assert!(ports.len() + listeners.len() <= PART);
            ToDaemon::Attach { ports, listeners, more: index + 1 < count }
        });
        let mut whole = messages.next().unwrap();
        for part in messages {
            assert!(whole.goes_on());
            assert!(whole.take(part));
        }
        assert!(!whole.goes_on());
        let ToDaemon::Attach { listeners, .. } = whole else { panic!("it was an Attach") };
        assert_eq!(listeners, all);
    }

    #[test]
    fn nothing_to_tell_is_one_part_and_no_other_message_is_taken_for_one() {
        assert_eq!(split(Vec::new(), Vec::new()).len(), 1);
        let mut attach = ToDaemon::Attach { ports: Vec::new(), listeners: Vec::new(), more: true };
        assert!(!attach.take(ToDaemon::Prepare));
        assert!(attach.goes_on());
    }
}
