//! Host ports of containers, changed while they run. Those of one that does not run stay as they are: its supervisor takes a change
//! only with the sockets, and binds at the next start what it knows of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use netloom_runtime::{
    protocol::{Listener, Request},
    spec::{NetworkMode, Protocol, Publication},
};

use super::{
    Daemon,
    checks::{check_publications, text},
    connect::{can_publish, nowhere_to_publish},
    container::{Container, bindings},
    error::{Error, Result},
};
use crate::api::PortBinding;

/// How long a supervisor may take to open or close host sockets.
const PATIENCE: Duration = Duration::from_secs(10);

/// A publication that listens. The port it got tells it from equal ones, which leave the choice to the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    publication: Publication,
    host_port: u16,
}

impl Published {
    fn by(listener: &Listener) -> Self {
        Self { publication: listener.publication.clone(), host_port: listener.host_port }
    }
}

impl Daemon {
    /// Publishes more ports, all of them or none; where they are reached.
    pub(crate) async fn publish(&self, word: &str, publications: Vec<Publication>) -> Result<Vec<PortBinding>> {
        let id = self.running(word, Container::runs)?;
        let turn = self.turn(&id)?;
        let _turn = turn.lock().await;
        self.check_publishable(&id, &publications)?;
        let mut listeners = Vec::new();
        let added = self.add(&id, publications, &mut listeners).await;
        if let Err(error) = added {
            let added: BTreeSet<_> = listeners.iter().map(Published::by).collect();
            for published in &added {
                if let Err(error) = self.take_back(&id, published).await {
                    tracing::error!(id, ?published, error = error.message, "a publication whose command failed stays");
                }
            }
            return Err(error);
        }
        Ok(bindings(&listeners))
    }

    /// Takes publications back, all that `wanted` covers; if some of it covers none, all of them stay. Returns those that are left.
    pub(crate) async fn unpublish(&self, word: &str, wanted: Vec<Publication>) -> Result<Vec<PortBinding>> {
        let id = self.running(word, Container::runs)?;
        let turn = self.turn(&id)?;
        let _turn = turn.lock().await;
        let covered = covered(self.state().by_id(&id)?, &wanted)?;
        let mut taken_back = Ok(());
        for published in &covered {
            if taken_back.is_ok() {
                taken_back = self.take_back(&id, published).await;
            }
        }
        let state = self.state();
        let container = state.by_id(&id)?;
        self.write_record(container)?;
        taken_back.map(|()| container.bindings())
    }

    /// Whoever changes what a container publishes, or where that leads, waits for its turn: what is there more in the end is what it has
    /// added.
    pub(crate) fn turn(&self, id: &str) -> Result<Arc<tokio::sync::Mutex<()>>> {
        self.state().by_id(id).map(|container| Arc::clone(&container.turn))
    }

    fn check_publishable(&self, id: &str, publications: &[Publication]) -> Result<()> {
        let state = self.state();
        let container = state.by_id(id)?;
        if container.record.spec.network.mode != NetworkMode::Bridge || !can_publish(&state, container) {
            return Err(nowhere_to_publish(container));
        }
        check_publications(&state, publications, None)
    }

    /// Publishes them and writes it down; `listeners` are those that listen, however far it came.
    async fn add(&self, id: &str, publications: Vec<Publication>, listeners: &mut Vec<Listener>) -> Result<()> {
        for publication in publications {
            let before = self.state().by_id(id)?.listeners.len();
            self.request(id, Request::Publish { publication: publication.clone() }, PATIENCE).await?;
            let new = self.taken(id, before, &publication)?;
            if new.is_empty() {
                // The supervisor alone knows a port that the host chose; such a one stays open there until the container ends.
                let host_port = Some(publication.host_port);
                self.request(id, Request::Unpublish { publication, host_port }, PATIENCE).await.ok();
                return Err(Error::failed("the data plane did not take the listener").hint("see the daemon's log"));
            }
            listeners.extend(new);
        }
        self.write_record(self.state().by_id(id)?)
    }

    /// The listeners of a new publication, which are not among the first `before`; with them the record has it.
    fn taken(&self, id: &str, before: usize, publication: &Publication) -> Result<Vec<Listener>> {
        let mut state = self.state();
        let container = state.by_id_mut(id)?;
        let new = container.listeners.iter().skip(before).map(|listening| &listening.listener);
        let new: Vec<_> = new.filter(|listener| listener.publication == *publication).cloned().collect();
        if !new.is_empty() {
            container.record.spec.network.publish.push(publication.clone());
        }
        Ok(new)
    }

    /// Has the supervisor close what listens for a publication, and forgets it; to write that down is the caller's.
    async fn take_back(&self, id: &str, published: &Published) -> Result<()> {
        let Published { publication, host_port } = published.clone();
        self.request(id, Request::Unpublish { publication, host_port: Some(host_port) }, PATIENCE).await?;
        let mut state = self.state();
        let publish = &mut state.by_id_mut(id)?.record.spec.network.publish;
        if let Some(at) = publish.iter().position(|other| *other == published.publication) {
            publish.remove(at);
        }
        Ok(())
    }
}

/// What of the container's publications `wanted` covers; each of it must cover one.
fn covered(container: &Container, wanted: &[Publication]) -> Result<BTreeSet<Published>> {
    let mut by_port: BTreeMap<(u16, Protocol), Vec<&Listener>> = BTreeMap::new();
    for listener in container.listeners.iter().map(|listening| &listening.listener) {
        by_port.entry((listener.container_port, listener.protocol)).or_default().push(listener);
    }
    let mut all = BTreeSet::new();
    for one in wanted {
        let same_port = by_port.get(&(one.container_port, one.protocol)).into_iter().flatten();
        let mut found = same_port.filter(|listener| covers(one, listener)).map(|listener| Published::by(listener)).peekable();
        if found.peek().is_none() {
            return Err(not_published(container, one));
        }
        all.extend(found);
    }
    Ok(all)
}

/// Without a host address it is every one, without a host port as well. An address is the publication's own, which has two sockets if
/// it was made without one: neither is taken back alone.
fn covers(wanted: &Publication, listener: &Listener) -> bool {
    let same_port = wanted.host_port == 0 || wanted.host_port == listener.host_port;
    same_port && (wanted.host_ip.is_none() || wanted.host_ip == listener.publication.host_ip)
}

/// Why nothing is taken back.
fn not_published(container: &Container, wanted: &Publication) -> Error {
    let (name, port) = (container.name(), wanted.container_port);
    let at = match (wanted.host_ip, wanted.host_port) {
        (None, 0) => String::new(),
        (Some(ip), 0) => format!(" at the host's address {ip}"),
        _ => format!(" as the host's port {}", text(wanted)),
    };
    let error = Error::missing(format!("container `{name}` does not publish its port {port}{at}"));
    // `port` shows a socket at this address, which is half of a publication.
    let is_half = |listener: &Listener| {
        (listener.container_port, listener.protocol, Some(listener.host_ip)) == (port, wanted.protocol, wanted.host_ip)
            && [0, listener.host_port].contains(&wanted.host_port)
    };
    if container.listeners.iter().any(|listening| is_half(&listening.listener)) {
        return error.hint("it is published at every address: name no host address to take it back");
    }
    error.hint(format!("see `netloom port {name}`"))
}
