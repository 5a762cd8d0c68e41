//! Host ports of containers, changed while they run. Those of one that does not run stay as they are: its supervisor takes a change
//! only with the sockets, and binds at the next start what it knows of.

use std::time::Duration;

use netloom_runtime::{
    protocol::Request,
    spec::{NetworkMode, Publication},
};

use super::{
    Daemon,
    checks::check_publications,
    connect::{nowhere_to_publish, publishes},
    container::Container,
    error::{Error, Result},
};
use crate::api::PortBinding;

/// How long a supervisor may take to open or close host sockets.
const PATIENCE: Duration = Duration::from_secs(10);

impl Daemon {
    /// Publishes more ports; those that were published before a failure stay.
    pub(crate) async fn publish(&self, word: &str, publications: Vec<Publication>) -> Result<Vec<PortBinding>> {
        let id = self.running(word, Container::runs)?;
        {
            let state = self.state();
            let container = state.by_id(&id)?;
            let networks = container.networks_wanted();
            let open = networks.iter().any(|wanted| state.network(&wanted.network).is_ok_and(|network| publishes(&network.record)));
            if container.record.spec.network.mode != NetworkMode::Bridge || !open {
                return Err(nowhere_to_publish(container));
            }
            check_publications(&state, &publications, None)?;
        }
        for publication in publications {
            self.request(&id, Request::Publish { publication: publication.clone() }, PATIENCE).await?;
            if !self.state().by_id(&id)?.listeners.iter().any(|listening| listening.listener.publication == publication) {
                self.request(&id, Request::Unpublish { publication }, PATIENCE).await.ok();
                return Err(Error::failed("the data plane did not take the listener").hint("see the daemon's log"));
            }
            let mut state = self.state();
            let container = state.by_id_mut(&id)?;
            container.record.spec.network.publish.push(publication);
            self.write_record(container)?;
        }
        Ok(self.state().by_id(&id)?.bindings())
    }

    /// Takes publications back, each named as it was made or by the host port it got.
    pub(crate) async fn unpublish(&self, word: &str, publications: Vec<Publication>) -> Result<Vec<PortBinding>> {
        let id = self.running(word, Container::runs)?;
        let found = {
            let state = self.state();
            let container = state.by_id(&id)?;
            publications.iter().map(|publication| published(container, publication)).collect::<Result<Vec<_>>>()?
        };
        for publication in found {
            self.request(&id, Request::Unpublish { publication: publication.clone() }, PATIENCE).await?;
            let mut state = self.state();
            self.unlisten(&mut state, &id, |other| *other == publication);
            let container = state.by_id_mut(&id)?;
            container.record.spec.network.publish.retain(|other| *other != publication);
            self.write_record(container)?;
        }
        Ok(self.state().by_id(&id)?.bindings())
    }
}

/// The publication that `wanted` names.
fn published(container: &Container, wanted: &Publication) -> Result<Publication> {
    let as_made = container.record.spec.network.publish.iter().find(|known| *known == wanted);
    let as_bound = || {
        let same = container.listeners.iter().map(|listening| &listening.listener).find(|listener| {
            let same_port = (listener.host_port, listener.container_port, listener.protocol)
                == (wanted.host_port, wanted.container_port, wanted.protocol);
            same_port && wanted.host_ip.is_none_or(|ip| ip == listener.host_ip)
        });
        same.map(|listener| &listener.publication)
    };
    as_made.or_else(as_bound).cloned().ok_or_else(|| {
        let port = wanted.container_port;
        let at = if wanted.host_port == 0 { String::new() } else { format!(" as the host's port {}", wanted.host_port) };
        Error::missing(format!("container `{}` does not publish its port {port}{at}", container.name()))
            .hint(format!("see `netloom port {}`", container.name()))
    })
}
