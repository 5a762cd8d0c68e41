//! DHCP leases: which address a client gets that the gateways heard.
//!
//! ```text
//!             DISCOVER              REQUEST                     REQUEST: renewed
//!   free ───────────────▶ offered ───────────▶ leased ◀────────────────┐
//!    ▲                       │ one minute         │ └──────────────────┘
//!    ├───────────────────────┘                    │ DECLINE
//!    ├──────────── RELEASE, one hour ─────────────┤
//!    └──────────── ten minutes ──────── declined ◀┘
//! ```
//!
//! A container's own MAC has the container's address, for as long as the container has it. Everybody else behind a port is a client of
//! that port: known by what it calls itself there, so that nobody takes a lease from behind another port, and bounded in number.
//!
//! The workers' questions come through a channel to one thread of the daemon, which takes the state's lock as the API does. Leases stand
//! in the network's pool and file beside those of containers.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use netloom_runtime::fabric::LeaseAsked;
use netloom_switch::{
    Mac, PortId,
    gateway::{Given, LeaseAnswer, LeaseWish},
};
use serde::{Deserialize, Serialize};

use super::{
    Daemon, events,
    network::{LeaseNote, Leases},
    state::State,
    tenants::Tenant,
};

const LEASED: Duration = Duration::from_secs(3600);
const OFFERED: Duration = Duration::from_secs(60);
const DECLINED: Duration = Duration::from_secs(600);

/// Leases behind one port.
const PORT_MAX: usize = 64;

/// How often ended leases are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// What is special about the lease of a DHCP client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dynamic {
    /// The container behind whose port the client is.
    pub container: String,
    /// Seconds since 1970.
    pub expires: u64,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Offered,
    Leased,
    /// The client found that somebody uses the address.
    Declined,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    mac: Mac,
    id: Option<&'a [u8]>,
    container: &'a str,
    /// The address of the container, if this is its own MAC.
    reserved: Option<Ipv4Addr>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Address(Ipv4Addr),
    /// What belongs to any address.
    Parameters,
    Refusal,
    Silence,
}

impl Client<'_> {
    /// The owner that the pool knows.
    fn owner(&self) -> String {
        let id = self.id.unwrap_or(&self.mac.0);
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("dhcp:{}:{hex}", self.container)
    }
}

impl Leases {
    /// Decides about one message, and does what follows for the pool; `now` in seconds since 1970.
    pub(crate) fn decide(&mut self, client: &Client<'_>, wish: LeaseWish, now: u64) -> Decision {
        let owner = client.owner();
        let bound = self.pool.leases().find(|(_, holder)| *holder == owner).map(|(ip, _)| ip);
        match (wish, client.reserved) {
            (LeaseWish::Inform, _) => Decision::Parameters,
            (LeaseWish::Discover { .. }, Some(own)) => Decision::Address(own),
            (LeaseWish::Request { wanted }, Some(own)) if wanted == own => Decision::Address(own),
            (LeaseWish::Request { .. }, Some(_)) => Decision::Refusal,
            (_, Some(_)) => Decision::Silence,
            (LeaseWish::Discover { wanted }, None) => match bound.or_else(|| self.find(client, &owner, wanted)) {
                Some(ip) => {
                    if !self.is_leased(ip) {
                        self.set(ip, client, Phase::Offered, now);
                    }
                    Decision::Address(ip)
                }
                None => Decision::Silence,
            },
            (LeaseWish::Request { wanted }, None) => {
                let granted = match bound {
                    Some(ip) => ip == wanted,
                    // Known to an earlier life of this network, or to a client that was away: it may keep what is free.
                    None => self.has_room(client) && self.pool.take(wanted, &owner).is_ok(),
                };
                if !granted {
                    return Decision::Refusal;
                }
                self.set(wanted, client, Phase::Leased, now);
                Decision::Address(wanted)
            }
            (LeaseWish::Refuse, None) => {
                if let Some(ip) = bound.filter(|ip| !self.is_leased(*ip)) {
                    self.free(ip);
                }
                Decision::Silence
            }
            (LeaseWish::Release { address }, None) => {
                if bound == Some(address) {
                    self.free(address);
                }
                Decision::Silence
            }
            (LeaseWish::Decline { address }, None) => {
                if bound == Some(address) {
                    self.free(address);
                    if self.pool.take(address, "dhcp:declined").is_ok() {
                        self.set(address, client, Phase::Declined, now);
                    }
                }
                Decision::Silence
            }
        }
    }

    /// An address for a new client: the one it would like, or the next.
    fn find(&mut self, client: &Client<'_>, owner: &str, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if !self.has_room(client) {
            return None;
        }
        let liked = wanted.filter(|ip| self.pool.range().contains(ip) && self.pool.take(*ip, owner).is_ok());
        liked.or_else(|| self.pool.allocate(owner).ok())
    }

    fn has_room(&self, client: &Client<'_>) -> bool {
        self.of(client.container).count() < PORT_MAX
    }

    /// The DHCP leases behind one container's port, those offered and declined among them.
    fn of<'a>(&'a self, container: &'a str) -> impl Iterator<Item = (Ipv4Addr, &'a Dynamic)> {
        let dynamic = self.notes.iter().filter_map(|(ip, note)| Some((*ip, note.dynamic.as_ref()?)));
        dynamic.filter(move |(_, dynamic)| dynamic.container == container)
    }

    fn is_leased(&self, ip: Ipv4Addr) -> bool {
        self.notes.get(&ip).and_then(|note| note.dynamic.as_ref()).is_some_and(|dynamic| dynamic.phase == Phase::Leased)
    }

    fn set(&mut self, ip: Ipv4Addr, client: &Client<'_>, phase: Phase, now: u64) {
        let time = match phase {
            Phase::Offered => OFFERED,
            Phase::Leased => LEASED,
            Phase::Declined => DECLINED,
        };
        let dynamic = Dynamic { container: client.container.to_owned(), expires: now + time.as_secs(), phase };
        let note = self.notes.entry(ip).or_insert_with(|| LeaseNote { mac: client.mac, since: events::now(), dynamic: None });
        note.dynamic = Some(dynamic);
    }

    fn free(&mut self, ip: Ipv4Addr) {
        self.pool.release(ip);
        self.notes.remove(&ip);
    }

    /// Ends what has come to its end; the containers behind whose ports it was.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<String> {
        let ended = |note: &LeaseNote| note.dynamic.as_ref().filter(|dynamic| dynamic.expires <= now).map(|d| d.container.clone());
        let ended: Vec<_> = self.notes.iter().filter_map(|(ip, note)| Some((*ip, ended(note)?))).collect();
        ended
            .into_iter()
            .map(|(ip, container)| {
                self.free(ip);
                container
            })
            .collect()
    }

    /// The addresses that are a port's alone because of leases behind it.
    fn leased_behind(&self, container: &str) -> Vec<Ipv4Addr> {
        self.of(container).filter(|(_, dynamic)| dynamic.phase == Phase::Leased).map(|(ip, _)| ip).collect()
    }
}

/// Answers the gateways' questions for as long as the daemon lives.
pub(crate) fn serve(daemon: &Arc<Daemon>, asked: Receiver<LeaseAsked>) -> std::io::Result<()> {
    let daemon = Arc::downgrade(daemon);
    let answer = move || {
        let mut swept = Instant::now();
        loop {
            let question = asked.recv_timeout(SWEEP);
            let Some(daemon) = daemon.upgrade() else { return };
            match question {
                Ok(question) => daemon.lease_asked(question),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                daemon.expire_leases(seconds());
            }
        }
    };
    std::thread::Builder::new().name("dhcp".to_owned()).spawn(answer).map(drop)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Daemon {
    fn lease_asked(&self, asked: LeaseAsked) {
        let LeaseAsked { network: plane, port, ask } = asked;
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(name) = state.networks.iter().find(|(_, network)| network.plane == plane).map(|(name, _)| name.clone()) else { return };
        let Some(tenant) = behind(state, &name, port) else { return };
        let id = tenant.id.to_owned();
        let reserved = tenant.lease.ip.filter(|_| tenant.lease.mac == ask.client);
        // A namespace that is not ours has its own idea of both.
        let container = state.containers.get(&id);
        let hostname = container.filter(|_| reserved.is_some()).map(|container| container.hostname().to_owned());
        let search = container.map(|container| container.record.spec.network.dns_search.clone()).unwrap_or_default();
        let client = Client { mac: ask.client, id: ask.client_id.as_deref(), container: &id, reserved };
        let Ok(network) = state.network_mut(&name) else { return };
        let before = network.leases.clone();
        network.leases.expire(seconds());
        let decision = network.leases.decide(&client, ask.wish, seconds());
        if network.leases != before
            && let Err(error) = network.keep_leases(&self.paths.leases())
        {
            // An address that could be given twice after a crash is not given.
            tracing::error!(network = name, error = error.message, "leases are not on disk");
            network.leases = before;
            return;
        }
        tracing::info!(network = name, port = port.0, client = %ask.client, wish = ?ask.wish, ?decision, "dhcp");
        self.allow_leased(state, &name, &id);
        let address = |ip| Given { address: Some((ip, LEASED)), hostname, search: search.clone() };
        let given = match decision {
            Decision::Address(ip) => Some(address(ip)),
            Decision::Parameters => Some(Given { search, ..Given::default() }),
            Decision::Refusal => None,
            Decision::Silence => return,
        };
        if let Err(error) = self.plane.answer_lease(plane, port, LeaseAnswer { exchange: ask.exchange, given }) {
            tracing::warn!(network = name, %error, "a DHCP client got no answer");
        }
    }

    /// Ends the leases whose time is over.
    fn expire_leases(&self, now: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let names: Vec<_> = state.networks.keys().cloned().collect();
        for name in names {
            let Ok(network) = state.network_mut(&name) else { continue };
            let containers = network.leases.expire(now);
            if containers.is_empty() {
                continue;
            }
            if let Err(error) = network.keep_leases(&self.paths.leases()) {
                tracing::error!(network = name, error = error.message, "leases are not on disk");
            }
            containers.iter().for_each(|id| self.allow_leased(state, &name, id));
        }
    }

    /// Tells the switch which addresses are those of a container's port because of leases behind it.
    pub(crate) fn allow_leased(&self, state: &State, name: &str, id: &str) {
        let Ok(network) = state.network(name) else { return };
        let Some(port) = state.tenants_on(name).find(|tenant| tenant.id == id).and_then(|tenant| tenant.port) else { return };
        if let Err(error) = self.plane.set_leased(network.plane, port, network.leases.leased_behind(id)) {
            tracing::warn!(network = name, %error, "a port does not know its leases");
        }
    }
}

/// Who has a port.
fn behind<'a>(state: &'a State, network: &'a str, port: PortId) -> Option<Tenant<'a>> {
    state.tenants_on(network).find(|tenant| tenant.port == Some(port))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netloom_switch::ipam::{GatewayChoice, Pool};

    use super::*;

    const NOW: u64 = 1_000_000;
    const DISCOVER: LeaseWish = LeaseWish::Discover { wanted: None };

    fn leases() -> Leases {
        let mut pool = Pool::new("10.5.0.0/24".parse().unwrap(), GatewayChoice::First, None).unwrap();
        pool.take([10, 5, 0, 2].into(), "web").unwrap();
        Leases { pool, pool6: None, notes: BTreeMap::new() }
    }

    fn client(last: u8) -> Client<'static> {
        Client { mac: Mac([2, 0, 0, 0, 0, last]), id: None, container: "web", reserved: None }
    }

    fn ip(last: u8) -> Ipv4Addr {
        [10, 5, 0, last].into()
    }

    fn request(last: u8) -> LeaseWish {
        LeaseWish::Request { wanted: ip(last) }
    }

    #[test]
    fn a_container_s_own_mac_has_the_container_s_address_and_no_other() {
        let mut leases = leases();
        let own = Client { reserved: Some(ip(2)), ..client(1) };
        assert_eq!(leases.decide(&own, LeaseWish::Discover { wanted: Some(ip(9)) }, NOW), Decision::Address(ip(2)));
        assert_eq!(leases.decide(&own, request(2), NOW), Decision::Address(ip(2)));
        assert_eq!(leases.decide(&own, request(9), NOW), Decision::Refusal);
        assert_eq!(leases.decide(&own, LeaseWish::Release { address: ip(2) }, NOW), Decision::Silence);
        assert_eq!(leases.pool.owner(ip(2)), Some("web"), "what the IPAM gave is not the client's to give back");
    }

    #[test]
    fn an_offer_lapses_after_a_minute_and_a_lease_after_an_hour_from_its_last_renewal() {
        let mut leases = leases();
        assert_eq!(leases.decide(&client(1), DISCOVER, NOW), Decision::Address(ip(3)));
        assert_eq!(leases.decide(&client(2), DISCOVER, NOW), Decision::Address(ip(4)), "what is offered is not offered twice");
        assert_eq!(leases.expire(NOW + 59), Vec::<String>::new());
        assert_eq!(leases.decide(&client(1), request(3), NOW + 59), Decision::Address(ip(3)));
        assert_eq!(leases.expire(NOW + 60), ["web"]);
        assert_eq!(leases.pool.owner(ip(4)), None);
        assert_eq!(leases.decide(&client(1), request(3), NOW + 1800), Decision::Address(ip(3)));
        assert_eq!(leases.expire(NOW + 3700), Vec::<String>::new());
        assert_eq!(leases.leased_behind("web"), [ip(3)]);
        assert_eq!(leases.expire(NOW + 1800 + 3600), ["web"]);
        assert!(leases.leased_behind("web").is_empty() && leases.notes.is_empty());
    }

    #[test]
    fn a_client_keeps_its_address_and_gets_no_other_by_asking() {
        let mut leases = leases();
        leases.decide(&client(1), DISCOVER, NOW);
        leases.decide(&client(1), request(3), NOW);
        assert_eq!(leases.decide(&client(1), LeaseWish::Discover { wanted: Some(ip(77)) }, NOW), Decision::Address(ip(3)));
        for wanted in [2, 1, 0, 255, 4] {
            assert_eq!(leases.decide(&client(1), request(wanted), NOW), Decision::Refusal, "{wanted}");
        }
        assert_eq!(leases.decide(&client(2), request(3), NOW), Decision::Refusal);
        assert_eq!(leases.decide(&client(2), request(77), NOW), Decision::Address(ip(77)), "one that comes back keeps what is free");
        assert_eq!(leases.decide(&client(3), LeaseWish::Discover { wanted: Some(ip(78)) }, NOW), Decision::Address(ip(78)));
    }

    #[test]
    fn release_frees_and_decline_sets_aside_and_only_the_holder_can() {
        let mut leases = leases();
        leases.decide(&client(1), request(3), NOW);
        for wish in [LeaseWish::Release { address: ip(3) }, LeaseWish::Decline { address: ip(3) }] {
            leases.decide(&client(2), wish, NOW);
            let elsewhere = Client { container: "db", ..client(1) };
            leases.decide(&elsewhere, wish, NOW);
            assert!(leases.is_leased(ip(3)));
        }
        leases.decide(&client(1), LeaseWish::Decline { address: ip(3) }, NOW);
        assert_eq!(leases.decide(&client(1), DISCOVER, NOW), Decision::Address(ip(4)));
        assert_eq!(leases.decide(&client(2), request(3), NOW), Decision::Refusal);
        leases.decide(&client(1), LeaseWish::Refuse, NOW);
        assert_eq!(leases.pool.owner(ip(4)), None, "the offer went to nobody");
        leases.expire(NOW + 600);
        assert_eq!(leases.decide(&client(2), request(3), NOW + 600), Decision::Address(ip(3)));
        leases.decide(&client(2), LeaseWish::Release { address: ip(3) }, NOW);
        assert_eq!(leases.pool.leases().count(), 1);
    }

    #[test]
    fn one_port_cannot_take_the_whole_pool() {
        let mut leases = leases();
        let given = (0..200).filter(|last| leases.decide(&client(*last), DISCOVER, NOW) != Decision::Silence).count();
        assert_eq!(given, PORT_MAX);
        assert_eq!(leases.decide(&client(250), request(200), NOW), Decision::Refusal);
        let other = Client { container: "db", ..client(250) };
        assert_ne!(leases.decide(&other, DISCOVER, NOW), Decision::Silence);
    }

    #[test]
    fn leases_of_clients_outlive_their_file() {
        let mut leases = leases();
        leases.decide(&client(1), request(3), NOW);
        let again: Leases = serde_json::from_str(&serde_json::to_string(&leases).unwrap()).unwrap();
        assert_eq!(again, leases);
        let old = r#"{"mac":"02:42:0a:05:00:02","since":"2026-01-01T00:00:00.000Z"}"#;
        assert_eq!(serde_json::from_str::<LeaseNote>(old).unwrap().dynamic, None, "files of before are read");
    }
}
