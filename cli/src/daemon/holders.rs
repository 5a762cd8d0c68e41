//! Interfaces in namespaces that netloom did not make: `network attach` and `network detach`, seen from the daemon.
//!
//! A holder is to such an interface what a supervisor is to a container. It says hello with what it holds, asks for an address, brings
//! the TAP, and its end is the interface's end:
//!
//! ```text
//!   Hold ──▶ known ──Prepare──▶ leased ──Attach──▶ a port      the connection ends, or `network detach`: port and lease are free
//!   Hold with a port, after this daemon's predecessor has gone ────▲
//! ```

use std::{os::fd::OwnedFd, time::Duration};

use netloom_runtime::{
    protocol::{Request, ToDaemon, ToSupervisor},
    spec::{Attachment, HoldSpec, NamespaceId, NetworkRequest, Plan},
};
use netloom_switch::{PortId, subnet};

use super::{
    Daemon,
    checks::check_request,
    connect::Kept,
    container::Link,
    error::{Error, Result},
    plan::set_default_routes,
    state::State,
    store,
    supervisors::{Wire, refuse},
    tenants::{Plug, Tenant, Wanted},
};
use crate::api::DetachNamespace;

/// How long a holder may take to delete its interface.
const DETACH_PATIENCE: Duration = Duration::from_secs(20);

/// One interface and the process that holds it.
#[derive(Debug)]
pub(crate) struct Holder {
    pub id: String,
    /// As listings call it: `pid:1234`, `ns:/run/netns/lab`.
    pub name: String,
    pub spec: HoldSpec,
    pub link: Link,
    pub lease: Option<Attachment>,
    pub port: Option<PortId>,
}

impl Daemon {
    /// Takes a holder in, with the port that it brings from a predecessor's time.
    pub(crate) fn holder_hello(
        &self,
        wire: &Wire,
        id: &str,
        mut spec: HoldSpec,
        port: Option<Attachment>,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.holders.contains_key(id) || state.containers.contains_key(id) {
            return Err(Error::conflict("there is a holder of this ID already"));
        }
        state.expected.remove(id);
        // Its port may have been set up differently since it was attached.
        if let Ok(Some(request)) = store::read::<NetworkRequest>(&self.paths.holder(id).join("request.json")) {
            spec.request = request;
        }
        tracing::info!(id, target = %spec.target, network = spec.request.network, attached = port.is_some(), "a holder says hello");
        let name = spec.target.to_string();
        state
            .holders
            .insert(id.to_owned(), Holder { id: id.to_owned(), name, spec, link: Link::new(wire.clone()), lease: None, port: None });
        let attached = port.map_or(Ok(()), |attachment| self.attach_holder(state, id, attachment, fds));
        if attached.is_err() {
            self.forget_holder(state, id);
        }
        self.settle_if_all_are_back(state);
        attached
    }

    /// One message of the holder `id`.
    pub(crate) fn hear_holder(&self, id: &str, wire: &Wire, message: ToDaemon, fds: Vec<OwnedFd>) {
        let answer = match message {
            ToDaemon::Prepare => Some(self.prepare_holder(id).map_or_else(refuse, |plan| ToSupervisor::Plan { plan })),
            ToDaemon::Attach { ports, .. } => {
                let mut state = self.state();
                let attached = match ports.into_iter().next() {
                    Some(attachment) => self.attach_holder(&mut state, id, attachment, fds),
                    None => Err(Error::invalid("attach came without a port")),
                };
                Some(attached.map_or_else(refuse, |()| ToSupervisor::Attached))
            }
            ToDaemon::Done { request, error } => {
                let mut state = self.state();
                if let Some(waiter) = state.holders.get_mut(id).and_then(|holder| holder.link.pending.remove(&request)) {
                    // Whoever asked may have given up.
                    waiter.send(error).ok();
                }
                None
            }
            _ => Some(refuse(Error::invalid("that is a supervisor's word, not a holder's"))),
        };
        if let Some(answer) = answer
            && let Err(error) = wire.send(&answer, &[])
        {
            tracing::error!(id, error = error.message, "an answer did not reach its holder");
        }
    }

    /// Decides what the interface is to be: its address is leased when this returns.
    fn prepare_holder(&self, id: &str) -> Result<Plan> {
        let mut guard = self.state();
        let state = &mut *guard;
        let spec = state.holder(id)?.spec.clone();
        check_hold(state, id, &spec)?;
        let wanted = Wanted { request: &spec.request, kept: Kept::default(), ifname: spec.ifname.clone() };
        let mut attachment = self.lease(state, id, wanted)?;
        set_default_routes(state, std::slice::from_mut(&mut attachment));
        if let Some(holder) = state.holders.get_mut(id) {
            holder.lease = Some(attachment.clone());
        }
        let attachments = vec![attachment];
        Ok(Plan { attachments, join_pid: None, nameservers: Vec::new(), search: Vec::new(), hosts: Vec::new(), publishes: false })
    }

    fn attach_holder(&self, state: &mut State, id: &str, attachment: Attachment, fds: Vec<OwnedFd>) -> Result<()> {
        let holder = state.holder(id)?;
        let (Some(link), None) = (fds.into_iter().next(), holder.port) else {
            return Err(Error::invalid("attach came with the wrong number of descriptors"));
        };
        if attachment.network != holder.spec.request.network {
            return Err(Error::invalid("attach came with another network than was asked for"));
        }
        let (name, namespace, isolated) = (holder.name.clone(), holder.spec.namespace, holder.spec.request.isolated);
        let plug = Plug { id, name: &name, attachment: &attachment, link, asks: Vec::new(), host_loopback: false, isolated };
        let port = self.plug(state, plug)?;
        let network = attachment.network.clone();
        if let Some(holder) = state.holders.get_mut(id) {
            (holder.lease, holder.port) = (Some(attachment), Some(port));
        }
        self.refresh_asks_in(state, namespace);
        self.allow_leased(state, &network, id);
        Ok(())
    }

    /// All the ports of one namespace may ask for the names of all its networks, as those of a container may.
    fn refresh_asks_in(&self, state: &State, namespace: NamespaceId) {
        let there = || state.holders.values().filter(move |holder| holder.spec.namespace == namespace && holder.port.is_some());
        let asks: Vec<_> = there().filter_map(|holder| Some(state.networks.get(&holder.spec.request.network)?.plane)).collect();
        for holder in there() {
            let (Some(port), Some(network)) = (holder.port, state.networks.get(&holder.spec.request.network)) else { continue };
            if let Err(error) = self.plane.set_asks(network.plane, port, asks.clone()) {
                tracing::error!(id = holder.id, %error, "a port may ask for the wrong networks' names");
            }
        }
    }

    /// The connection of a holder has ended, and with it its interface.
    pub(crate) fn holder_gone(&self, id: &str, wire: &Wire) {
        let mut state = self.state();
        if state.holders.get(id).is_some_and(|holder| holder.link.wire.is(wire)) {
            tracing::info!(id, "a holder is gone");
            self.forget_holder(&mut state, id);
        }
    }

    /// Gives back all that a holder has.
    fn forget_holder(&self, state: &mut State, id: &str) {
        let Some(holder) = state.holders.remove(id) else { return };
        if let Some(lease) = &holder.lease {
            self.unplug(state, Tenant { id, name: &holder.name, lease, port: holder.port });
            self.release(state, id, lease);
        }
        self.refresh_asks_in(state, holder.spec.namespace);
        if let Err(error) = store::remove_directory(&self.paths.holder(id)) {
            tracing::error!(id, %error, "files of a holder are left");
        }
    }

    /// `network detach`: returns once the interface is gone.
    pub(crate) async fn detach_namespace(&self, network: &str, request: DetachNamespace) -> Result<()> {
        let (id, answer) = {
            let mut guard = self.state();
            let state = &mut *guard;
            state.network(network)?;
            let is_it = |holder: &&Holder| {
                holder.spec.request.network == network && holder.spec.namespace == request.namespace && holder.spec.ifname == request.ifname
            };
            let Some(id) = state.holders.values().find(is_it).map(|holder| holder.id.clone()) else {
                return Err(nothing_attached(state, network, &request));
            };
            // First the port, so that no frame meets half of it.
            let holder = state.holder(&id)?;
            if let Some(lease) = &holder.lease {
                self.unplug(state, Tenant { id: &id, name: &holder.name, lease, port: holder.port });
            }
            let holder = state.holders.get_mut(&id).ok_or_else(|| Error::missing("the interface is gone"))?;
            holder.port = None;
            let answer = holder.link.request(Request::Remove)?;
            (id, answer)
        };
        let detached = super::supervisors::answered(answer, DETACH_PATIENCE).await;
        self.forget_holder(&mut self.state(), &id);
        detached
    }
}

impl State {
    fn holder(&self, id: &str) -> Result<&Holder> {
        self.holders.get(id).ok_or_else(|| Error::missing("there is no such holder"))
    }
}

/// Whether an interface can be added to a namespace, as far as the daemon can tell: what else is in it, the helper sees.
fn check_hold(state: &State, id: &str, spec: &HoldSpec) -> Result<()> {
    check_request(state, &spec.request)?;
    let of = |network: &str| state.network(network).map(|network| (network.record.subnet, network.record.ipv6.map(|ipv6| ipv6.subnet)));
    let (subnet, subnet6) = of(&spec.request.network)?;
    let others = state.holders.values().filter(|other| other.id != id && other.spec.namespace == spec.namespace);
    for other in others {
        let request = &other.spec.request;
        if other.spec.ifname == spec.ifname {
            return Err(Error::conflict(format!(
                "`{}` is attached to network `{}` by an interface `{}` already",
                other.name, request.network, spec.ifname
            ))
            .hint("choose another name with --ifname"));
        }
        let (theirs, theirs6) = of(&request.network)?;
        let overlap6 = subnet6.zip(theirs6).is_some_and(|(a, b)| a.contains(&b) || b.contains(&a));
        if !request.no_ip && !spec.request.no_ip && (overlap6 || subnet::overlaps(&theirs, &subnet)) {
            let message = if request.network == spec.request.network {
                format!("`{}` has an address on network `{}` already", other.name, request.network)
            } else {
                let (one, two) = (&request.network, &spec.request.network);
                format!("networks `{one}` and `{two}` overlap, and `{}` is attached to the first", other.name)
            };
            return Err(Error::conflict(message)
                .hint("one namespace cannot have both: it could not tell which way an address is; with --no-ip it gets none"));
        }
    }
    Ok(())
}

fn nothing_attached(state: &State, network: &str, request: &DetachNamespace) -> Error {
    let there = state.holders.values().filter(|holder| holder.spec.request.network == network);
    let there: Vec<_> = there.map(|holder| format!("{} ({})", holder.name, holder.spec.ifname)).collect();
    let error = Error::missing(format!("`{}` has no interface `{}` on network `{network}`", request.target, request.ifname));
    error.hint(if there.is_empty() { "nothing is attached to it".to_owned() } else { format!("attached to it: {}", there.join(", ")) })
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, sync::Arc};

    use netloom_runtime::{
        channel::{AsyncChannel, Channel},
        protocol::VERSION,
        spec::Target,
    };

    use super::*;
    use crate::daemon::{
        supervisors::serve,
        testkit::{Scratch, until},
    };

    fn spec(inode: u64, no_ip: bool) -> HoldSpec {
        HoldSpec {
            target: Target::Pid { pid: 7 },
            namespace: NamespaceId { device: 4, inode },
            ifname: "eth0".to_owned(),
            request: NetworkRequest { network: "bridge".to_owned(), no_ip, ..NetworkRequest::default() },
        }
    }

    /// A holder, played by the test, that has said hello.
    async fn holder(daemon: &Arc<Daemon>, id: &str, what: HoldSpec, port: Option<Attachment>) -> AsyncChannel {
        let (ours, theirs) = Channel::pair().unwrap();
        tokio::spawn(serve(Arc::clone(daemon), theirs));
        let ours = ours.into_async().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let fds: Vec<_> = port.iter().map(|_| null.as_fd()).collect();
        ours.send(&ToDaemon::Hold { version: VERSION, holder: id.to_owned(), what, port: port.clone() }, &fds).unwrap();
        assert!(matches!(hear(&ours).await, ToSupervisor::Welcome { .. }));
        ours
    }

    async fn hear(channel: &AsyncChannel) -> ToSupervisor {
        tokio::time::timeout(Duration::from_secs(10), channel.receive()).await.expect("no answer").unwrap().expect("an end").0
    }

    async fn attach(channel: &AsyncChannel) -> Attachment {
        channel.send(&ToDaemon::Prepare, &[]).unwrap();
        let ToSupervisor::Plan { plan } = hear(channel).await else { panic!("no plan") };
        let null = std::fs::File::open("/dev/null").unwrap();
        channel.send(&ToDaemon::Attach { ports: plan.attachments.clone(), listeners: Vec::new(), more: false }, &[null.as_fd()]).unwrap();
        assert!(matches!(hear(channel).await, ToSupervisor::Attached));
        plan.attachments[0].clone()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_daemon_stays_for_an_attached_interface_and_its_end_frees_all() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        let channel = holder(&daemon, "ab", spec(1, false), None).await;
        let attached = attach(&channel).await;
        assert!(!daemon.state().is_idle() && attached.ip.is_some() && attached.default_route);
        assert_eq!(daemon.leases(None).unwrap()[0].container, "pid:7");
        drop(channel);
        until("it is gone", || daemon.state().is_idle()).await;
        assert!(daemon.leases(None).unwrap().is_empty() && daemon.ports(None).unwrap().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn without_an_address_there_is_no_lease_and_no_route() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        let channel = holder(&daemon, &"ab".repeat(32), spec(1, true), None).await;
        let attached = attach(&channel).await;
        assert_eq!((attached.ip, attached.default_route, attached.mac.0[..2].to_vec()), (None, false, vec![0x06, 0xab]));
        assert!(daemon.leases(None).unwrap().is_empty());
        assert_eq!(daemon.ports(None).unwrap()[0].link, "eth0");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_next_daemon_takes_port_and_address_back() {
        let scratch = Scratch::new();
        let attached = {
            let daemon = scratch.daemon();
            attach(&holder(&daemon, "ab", spec(1, false), None).await).await
        };
        let daemon = scratch.daemon();
        let _channel = holder(&daemon, "ab", spec(1, false), Some(attached.clone())).await;
        let leases = daemon.leases(None).unwrap();
        assert_eq!((leases.len(), leases[0].ip_address), (1, attached.ip));
        assert_eq!(daemon.ports(None).unwrap().len(), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_namespace_has_one_interface_of_a_name() {
        let scratch = Scratch::new();
        let daemon = scratch.daemon();
        let first = holder(&daemon, "ab", spec(1, true), None).await;
        attach(&first).await;
        let twice = holder(&daemon, "cd", spec(1, true), None).await;
        twice.send(&ToDaemon::Prepare, &[]).unwrap();
        assert!(matches!(hear(&twice).await, ToSupervisor::Refused { failure } if failure.message.contains("`eth0`")));
        // Another namespace may.
        attach(&holder(&daemon, "ef", spec(2, true), None).await).await;
    }
}
