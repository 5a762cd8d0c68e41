//! The clients of one port's UDP publications, no more than a bound allows.
//!
//! At the bound a new client takes the place of the one that has been silent for longest, and first of those that the container never
//! answered: senders that a flood makes up push each other out, and nobody whom the container talks with.
//!
//! The order in which they leave is put right only when one has to. An entry says how its client stood when it was last looked at; one
//! that stands better by now is put further back, which what it said since has paid for. So a datagram of a known client costs one
//! look into a table, and one of a new client no more than that and a few looks at the order, however many there are.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::SocketId;
use crate::Time;

/// An endpoint of the container and the client it answers, as the container sees both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClientKey {
    pub(super) inside: SocketAddr,
    pub(super) client: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Client {
    /// The publication that it came in by.
    pub(super) socket: SocketId,
    pub(super) real: SocketAddr,
    /// The host address that the client sent to.
    pub(super) local: Option<IpAddr>,
    /// When it or the container last said something.
    pub(super) active: Time,
    /// The container has sent it something.
    pub(super) answered: bool,
}

/// What a client is kept for: one that was answered before one that was not, then the one that was active later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    answered: bool,
    active: Time,
}

impl Client {
    fn standing(&self) -> Standing {
        Standing { answered: self.answered, active: self.active }
    }
}

/// The clients of one port.
#[derive(Debug, Default)]
pub(super) struct Clients {
    table: HashMap<ClientKey, Client>,
    /// The client that a publication's peer is inside.
    keys: HashMap<(SocketId, SocketAddr), ClientKey>,
    /// Every client once, none better than it stands.
    order: BTreeSet<(Standing, ClientKey)>,
}

impl Clients {
    /// The client that a publication's peer is inside, if it is one.
    pub(super) fn key(&self, socket: SocketId, real: SocketAddr) -> Option<ClientKey> {
        self.keys.get(&(socket, real)).copied()
    }

    pub(super) fn contains(&self, key: &ClientKey) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn get_mut(&mut self, key: &ClientKey) -> Option<&mut Client> {
        self.table.get_mut(key)
    }

    /// Takes a client whose key no other has.
    pub(super) fn insert(&mut self, key: ClientKey, client: Client) {
        self.keys.insert((client.socket, client.real), key);
        self.order.insert((client.standing(), key));
        self.table.insert(key, client);
    }

    /// Whether there may be one more of `most`; where there are as many, one leaves for it.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        if self.table.len() < most {
            return true;
        }
        while most > 0
            && let Some((stood, key)) = self.order.pop_first()
        {
            match self.table.get(&key).map(Client::standing) {
                Some(stands) if stands > stood => _ = self.order.insert((stands, key)),
                _ => {
                    self.remove(&key);
                    return true;
                }
            }
        }
        false
    }

    fn remove(&mut self, key: &ClientKey) {
        if let Some(client) = self.table.remove(key) {
            self.keys.remove(&(client.socket, client.real));
        }
    }

    /// Forgets every client of which `stays` is not true.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&Client) -> bool) {
        let Self { table, keys, order } = self;
        table.retain(|_, client| stays(client));
        keys.retain(|_, key| table.contains_key(key));
        order.retain(|(_, key)| table.contains_key(key));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ClientKey, &Client)> {
        self.table.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The client with this number, which came in by one of two publications.
    fn client(number: u16, now: Time) -> (ClientKey, Client) {
        let real = SocketAddr::from(([192, 0, 2, 1], number));
        let key = ClientKey { inside: ([10, 0, 0, 2], 53).into(), client: real };
        (key, Client { socket: SocketId(u32::from(number % 2)), real, local: None, active: now, answered: false })
    }

    proptest! {
        #[test]
        fn whoever_is_worth_least_leaves_as_if_all_had_been_looked_at(
            most in 0..5usize,
            script in prop::collection::vec((0..8u16, 0..4u8, 0..3u64), 0..80),
        ) {
            let (mut clients, mut now) = (Clients::default(), Time::ZERO);
            // The reference: whether it was answered, when it was active, and its key.
            let mut model: Vec<(bool, Time, ClientKey)> = Vec::new();
            for (number, what, pause) in script {
                now = now + Duration::from_secs(pause);
                let (key, new) = client(number, now);
                let known = model.iter_mut().find(|(.., of)| *of == key);
                prop_assert_eq!(clients.key(new.socket, new.real), known.as_ref().map(|_| key));
                match (known, what) {
                    (Some(known), 0 | 1) => {
                        (known.0, known.1) = (known.0 || what == 1, now);
                        let client = clients.get_mut(&key).unwrap();
                        (client.active, client.answered) = (now, client.answered || what == 1);
                    }
                    (None, 0..=2) => {
                        prop_assert_eq!(clients.make_room(most), most > 0);
                        model.sort();
                        model.drain(..usize::from(model.len() == most).min(model.len()));
                        if most > 0 {
                            clients.insert(key, new);
                            model.push((false, now, key));
                        }
                    }
                    (_, 2) => (),
                    _ => {
                        clients.retain(|client| client.socket != new.socket);
                        model.retain(|(.., of)| of.client.port() % 2 != number % 2);
                    }
                }
                let mut stay: Vec<_> = clients.iter().map(|(key, client)| (client.answered, client.active, *key)).collect();
                stay.sort();
                model.sort();
                prop_assert_eq!(&stay, &model);
                prop_assert_eq!((clients.order.len(), clients.keys.len()), (model.len(), model.len()));
            }
        }
    }
}
