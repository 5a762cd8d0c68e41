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
//! DHCPv6 is in [`v6`].
//!
//! The workers' questions come through a channel to one thread of the daemon, which takes the state's lock as the API does. Leases stand
//! in the network's pool and file beside those of containers.

mod table;
mod v6;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use netloom_runtime::{
    fabric::{LeaseAsked, NetworkId},
    spec::Attachment,
};
use netloom_switch::{
    Mac, PortId,
    gateway::{Given, LeaseAnswer, LeaseAnswer6, LeaseAsk, LeaseAsk6, LeaseQuestion, LeaseReply, LeaseWish},
};
use serde::{Deserialize, Serialize};

use self::{
    table::{Holder, LEASED, Table, behind},
    v6::Client6,
};
use super::{Daemon, container::Container, network::Leases, state::State};

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
        format!("dhcp:{}:{}", self.container, hex(self.id.unwrap_or(&self.mac.0)))
    }

    fn holder(&self) -> Holder<'_> {
        Holder { mac: self.mac, container: self.container }
    }
}

impl Leases {
    /// Decides about one message, and does what follows for the pool; `now` in seconds since 1970.
    pub(crate) fn decide(&mut self, client: &Client<'_>, wish: LeaseWish, now: u64) -> Decision {
        let owner = client.owner();
        let mut table = self.table();
        let bound = table.bound(&owner);
        match (wish, client.reserved) {
            (LeaseWish::Inform, _) => Decision::Parameters,
            (LeaseWish::Discover { .. }, Some(own)) => Decision::Address(own),
            (LeaseWish::Request { wanted }, Some(own)) if wanted == own => Decision::Address(own),
            (LeaseWish::Request { .. }, Some(_)) => Decision::Refusal,
            (_, Some(_)) => Decision::Silence,
            (LeaseWish::Discover { wanted }, None) => match bound.or_else(|| table.find(client.container, &owner, wanted)) {
                Some(ip) => {
                    if !table.is_leased(ip) {
                        table.set(ip, client.holder(), Phase::Offered, now);
                    }
                    Decision::Address(ip)
                }
                None => Decision::Silence,
            },
            (LeaseWish::Request { wanted }, None) => {
                let granted = match bound {
                    Some(ip) => ip == wanted,
                    // Known to an earlier life of this network, or to a client that was away: it may keep what is free.
                    None => table.take(client.container, &owner, wanted),
                };
                if !granted {
                    return Decision::Refusal;
                }
                table.set(wanted, client.holder(), Phase::Leased, now);
                Decision::Address(wanted)
            }
            (LeaseWish::Refuse, None) => {
                if let Some(ip) = bound.filter(|ip| !table.is_leased(*ip)) {
                    table.free(ip);
                }
                Decision::Silence
            }
            (LeaseWish::Release { address }, None) => {
                if bound == Some(address) {
                    table.free(address);
                }
                Decision::Silence
            }
            (LeaseWish::Decline { address }, None) => {
                if bound == Some(address) {
                    table.decline(address, client.holder(), now);
                }
                Decision::Silence
            }
        }
    }

    fn table(&mut self) -> Table<'_, Ipv4Addr> {
        Table { pool: &mut self.pool, notes: &mut self.notes }
    }

    /// Ends what has come to its end; the containers behind whose ports it was, each once. Until the switch is told, the addresses
    /// remain their ports' alone.
    #[must_use]
    pub(crate) fn expire(&mut self, now: u64) -> Vec<String> {
        let mut ended = self.table().expire(now);
        if let Some(pool) = self.pool6.as_mut() {
            ended.extend(Table { pool, notes: &mut self.notes6 }.expire(now));
        }
        ended.sort_unstable();
        ended.dedup();
        ended
    }

    /// The addresses that are a port's alone because of leases behind it.
    fn leased_behind(&self, container: &str) -> Vec<IpAddr> {
        let (of4, of6) = (behind(&self.notes, container), behind(&self.notes6, container));
        let all = of4.map(|(ip, dynamic)| (IpAddr::V4(ip), dynamic)).chain(of6.map(|(ip, dynamic)| (IpAddr::V6(ip), dynamic)));
        all.filter(|(_, dynamic)| dynamic.phase == Phase::Leased).map(|(ip, _)| ip).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        let LeaseAsked { network: plane, port, owner, question } = asked;
        let now = seconds();
        // The lock is let go of before the answer, for which the port's worker is waited for.
        let reply = self.decide_lease(&mut self.state(), (plane, port, &owner), now, |asker, leases| match question {
            LeaseQuestion::V4(ask) => asker.answer(leases, ask, now),
            LeaseQuestion::V6(ask) => asker.answer6(leases, ask, now),
        });
        let Some(reply) = reply else { return };
        if let Err(error) = self.plane.answer_lease(plane, port, &owner, reply) {
            tracing::warn!(id = &*owner, port = port.0, %error, "a DHCP client got no answer");
        }
    }

    /// Has a question decided that came from this port when it was `owner`'s; writes down what follows and tells the switch.
    fn decide_lease(
        &self,
        state: &mut State,
        (plane, port, owner): (NetworkId, PortId, &str),
        now: u64,
        decide: impl FnOnce(&Asker, &mut Leases) -> Option<LeaseReply>,
    ) -> Option<LeaseReply> {
        let name = state.networks.iter().find(|(_, network)| network.plane == plane).map(|(name, _)| name.clone())?;
        let asker = Asker::of(state, &name, port).filter(|asker| asker.id == owner)?;
        let network = state.network_mut(&name).ok()?;
        let before = network.leases.clone();
        let mut concerned = network.leases.expire(now);
        let reply = decide(&asker, &mut network.leases);
        if network.leases != before
            && let Err(error) = network.keep_leases(&self.paths.leases())
        {
            // An address that could be given twice after a crash is not given.
            tracing::error!(network = name, error = error.message, "leases are not on disk");
            network.leases = before;
            return None;
        }
        concerned.push(asker.id);
        // For a renewal, or an offer, the switch need not be told anew who all may use what.
        concerned.retain(|id| network.leases.leased_behind(id) != before.leased_behind(id));
        concerned.iter().for_each(|id| self.allow_leased(state, &name, id));
        reply
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

/// Whose port a question came through.
#[derive(Debug)]
struct Asker {
    id: String,
    network: String,
    port: PortId,
    attachment: Attachment,
    /// Of a container; a namespace that is not ours has its own idea of both.
    hostname: Option<String>,
    search: Vec<String>,
}

impl Asker {
    fn of(state: &State, network: &str, port: PortId) -> Option<Self> {
        let tenant = state.tenants_on(network).find(|tenant| tenant.port == Some(port))?;
        let container = state.containers.get(tenant.id);
        Some(Self {
            id: tenant.id.to_owned(),
            network: network.to_owned(),
            port,
            attachment: tenant.lease.clone(),
            hostname: container.map(|container| container.hostname().to_owned()),
            search: container.map(Container::search).unwrap_or_default(),
        })
    }

    fn is_own(&self, client: Mac) -> bool {
        client == self.attachment.mac
    }

    fn answer(&self, leases: &mut Leases, ask: LeaseAsk, now: u64) -> Option<LeaseReply> {
        let reserved = self.attachment.ip.filter(|_| self.is_own(ask.client));
        let client = Client { mac: ask.client, id: ask.client_id.as_deref(), container: &self.id, reserved };
        let decision = leases.decide(&client, ask.wish, now);
        tracing::info!(network = self.network, port = self.port.0, client = %ask.client, wish = ?ask.wish, ?decision, "dhcp");
        let search = self.search.clone();
        let hostname = self.hostname.clone().filter(|_| reserved.is_some());
        let given = match decision {
            Decision::Address(ip) => Some(Given { address: Some((ip, LEASED)), hostname, search }),
            Decision::Parameters => Some(Given { search, ..Given::default() }),
            Decision::Refusal => None,
            Decision::Silence => return None,
        };
        Some(LeaseReply::V4(LeaseAnswer { exchange: ask.exchange, given }))
    }

    fn answer6(&self, leases: &mut Leases, ask: LeaseAsk6, now: u64) -> Option<LeaseReply> {
        let mac = ask.exchange.client();
        let reserved = self.attachment.ipv6.map(|ipv6| ipv6.ip).filter(|_| self.is_own(mac));
        let client = Client6 { holder: Holder { mac, container: &self.id }, duid: ask.exchange.duid(), reserved };
        let decision = leases.decide6(&client, ask.wish, &ask.associations, now);
        tracing::info!(network = self.network, port = self.port.0, client = %mac, wish = ?ask.wish, ?decision, "dhcpv6");
        let decision = decision?;
        let (status, associations, search) = (decision.status, decision.associations, self.search.clone());
        Some(LeaseReply::V6(LeaseAnswer6 { exchange: ask.exchange, status, associations, search }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netloom_switch::ipam::{GatewayChoice, Pool};

    use super::{
        super::{
            network::{BRIDGE, LeaseNote},
            testkit::{Leased, Scratch, Supervisor, named, spec},
        },
        table::PORT_MAX,
        *,
    };

    const NOW: u64 = 1_000_000;
    const DISCOVER: LeaseWish = LeaseWish::Discover { wanted: None };

    fn leases() -> Leases {
        let mut pool = Pool::new("10.5.0.0/24".parse().unwrap(), GatewayChoice::First, None).unwrap();
        pool.take([10, 5, 0, 2].into(), "web").unwrap();
        Leases { pool, pool6: None, notes: BTreeMap::new(), notes6: BTreeMap::new() }
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
        assert_eq!(leases.leased_behind("web"), [IpAddr::V4(ip(3))]);
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
            assert!(leases.table().is_leased(ip(3)));
        }
        leases.decide(&client(1), LeaseWish::Decline { address: ip(3) }, NOW);
        assert_eq!(leases.decide(&client(1), DISCOVER, NOW), Decision::Address(ip(4)));
        assert_eq!(leases.decide(&client(2), request(3), NOW), Decision::Refusal);
        leases.decide(&client(1), LeaseWish::Refuse, NOW);
        assert_eq!(leases.pool.owner(ip(4)), None, "the offer went to nobody");
        assert_eq!(leases.expire(NOW + 600), ["web"]);
        assert_eq!(leases.decide(&client(2), request(3), NOW + 600), Decision::Address(ip(3)));
        leases.decide(&client(2), LeaseWish::Release { address: ip(3) }, NOW);
        assert_eq!(leases.pool.leases().count(), 1);
    }

    /// How many of 200 clients behind `container` are offered an address.
    fn offered(leases: &mut Leases, container: &str) -> usize {
        (0..200).filter(|last| leases.decide(&Client { container, ..client(*last) }, DISCOVER, NOW) != Decision::Silence).count()
    }

    fn leases_in(subnet: &str, range: Option<&str>) -> Leases {
        let pool = Pool::new(subnet.parse().unwrap(), GatewayChoice::First, range.map(|range| range.parse().unwrap())).unwrap();
        Leases { pool, ..leases() }
    }

    #[test]
    fn one_port_s_clients_have_a_quarter_of_what_is_free_and_no_more_than_64() {
        for (subnet, most) in [("10.5.0.0/16", PORT_MAX), ("10.5.0.0/24", 253 / 4), ("10.5.0.0/26", 61 / 4), ("10.5.0.0/29", 1)] {
            let mut leases = leases_in(subnet, None);
            assert_eq!(offered(&mut leases, "web"), most, "{subnet}");
            let last = Ipv4Addr::from_bits(leases.pool.subnet().broadcast().to_bits() - 1);
            assert_eq!(leases.decide(&client(250), LeaseWish::Request { wanted: last }, NOW), Decision::Refusal, "by name neither");
            assert_ne!(offered(&mut leases, "db"), 0, "another has its own share");
        }
    }

    #[test]
    fn half_of_the_pool_is_for_containers_whatever_clients_take() {
        for (subnet, clients) in [("10.5.0.0/26", 61 / 2), ("10.5.0.0/29", 5 / 2), ("10.5.0.0/30", 0)] {
            let mut leases = leases_in(subnet, None);
            let given: usize = (0..100).map(|container| offered(&mut leases, &format!("c{container}"))).sum();
            assert_eq!(given, clients, "{subnet}");
        }
    }

    #[test]
    fn clients_get_none_outside_of_the_range_even_by_name_but_keep_their_own() {
        let mut leases = leases_in("10.5.0.0/24", Some("10.5.0.128/25"));
        assert_eq!(leases.decide(&client(1), request(9), NOW), Decision::Refusal);
        assert_eq!(leases.decide(&client(1), request(200), NOW), Decision::Address(ip(200)));
        // Leased when the range was another, or by an older version.
        let (old, mut table) = (client(2), leases.table());
        table.pool.take(ip(9), &old.owner()).unwrap();
        table.set(ip(9), old.holder(), Phase::Leased, NOW);
        assert_eq!(leases.decide(&old, request(9), NOW), Decision::Address(ip(9)));
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

    /// Two containers on the default network, each with a client behind it, and what the data plane was told of their leases.
    struct Lab {
        daemon: Arc<Daemon>,
        told: Leased,
        containers: Vec<(String, PortId, Supervisor)>,
        _scratch: Scratch,
    }

    impl Lab {
        async fn new() -> Self {
            let scratch = Scratch::new();
            let (daemon, told) = scratch.daemon_and_leased();
            let mut containers = Vec::new();
            for name in ["web", "db"] {
                let id = daemon.create(named(name, spec(&[]))).unwrap().id;
                let supervisor = Supervisor::new(&daemon, &id).await;
                supervisor.start(Vec::new()).await;
                let port = daemon.state().tenants_on(BRIDGE).find(|tenant| tenant.id == id).unwrap().port.unwrap();
                containers.push((id, port, supervisor));
            }
            told.lock().unwrap().clear();
            Self { daemon, told, containers, _scratch: scratch }
        }

        /// The client behind a container says something; what the data plane is told then.
        fn say(&self, container: usize, wish: LeaseWish, now: u64) -> Vec<(PortId, Vec<IpAddr>)> {
            let ((id, port, _), mut guard) = (&self.containers[container], self.daemon.state());
            let plane = guard.network(BRIDGE).unwrap().plane;
            self.daemon.decide_lease(&mut guard, (plane, *port, id), now, |asker, leases| {
                leases.decide(&Client { container: &asker.id, ..client(9) }, wish, now);
                None
            });
            std::mem::take(&mut *self.told.lock().unwrap())
        }
    }

    fn wanted(last: u8) -> LeaseWish {
        LeaseWish::Request { wanted: [172, 17, 0, last].into() }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_switch_is_told_of_a_lease_that_begins_or_ends_and_of_no_offer_or_renewal() {
        let lab = Lab::new().await;
        let web = lab.containers[0].1;
        assert_eq!(lab.say(0, DISCOVER, NOW), []);
        let leased = [172, 17, 0, 4].into();
        assert_eq!(lab.say(0, wanted(4), NOW), [(web, vec![IpAddr::V4(leased)])]);
        for wish in [wanted(4), DISCOVER, LeaseWish::Inform, wanted(5)] {
            assert_eq!(lab.say(0, wish, NOW + 1800), [], "{wish:?}");
        }
        assert_eq!(lab.say(0, LeaseWish::Release { address: leased }, NOW + 1801), [(web, Vec::new())]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_question_is_not_the_next_one_s_who_has_the_port_s_number() {
        let lab = Lab::new().await;
        let mut guard = lab.daemon.state();
        let plane = guard.network(BRIDGE).unwrap().plane;
        let (id, port, _) = &lab.containers[0];
        for (owner, is_heard) in [("the one before", false), (id.as_str(), true)] {
            let mut heard = false;
            lab.daemon.decide_lease(&mut guard, (plane, *port, owner), NOW, |_, _| {
                heard = true;
                None
            });
            assert_eq!(heard, is_heard, "{owner}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_ended_lease_is_taken_from_its_port_whoever_s_question_ends_it() {
        let lab = Lab::new().await;
        let [web, db] = [0, 1].map(|at| lab.containers[at].1);
        let leased = IpAddr::from([172, 17, 0, 77]);
        assert_eq!(lab.say(0, wanted(77), NOW), [(web, vec![leased])]);
        let mut told = lab.say(1, wanted(77), NOW + 3600);
        told.sort_unstable();
        assert_eq!(told, [(web, Vec::new()), (db, vec![leased])]);
    }
}
