//! Taking containers away: by hand, by `--rm`, by prune.

use std::time::Duration;

use netloom_runtime::protocol::{Request, ToSupervisor};
use tokio::time::timeout;

use super::{
    Daemon,
    container::Container,
    error::{Error, Result},
    network::file_of,
    state::State,
    store,
};
use crate::api::{self, Pruned};

/// How long a supervisor may take to end its container and itself.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end one that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Daemon {
    /// `rm`: returns once nothing of the container is left.
    pub(crate) async fn remove(&self, word: &str, force: bool) -> Result<()> {
        let (id, name, mut life) = {
            let mut guard = self.state();
            let state = &mut *guard;
            let container = state.find(word)?;
            let (id, name) = (container.record.id.clone(), container.record.name.clone());
            if container.is_active() && !force {
                return Err(Error::conflict(format!("container `{name}` is running"))
                    .hint(format!("stop it first, or end it at once: netloom rm -f {name}")));
            }
            let life = container.life.subscribe();
            self.end_supervisor(state, &id)?;
            (id, name, life)
        };
        // Ends when the container is dropped, too.
        let mut ended = timeout(END_PATIENCE, life.wait_for(|life| !life.supervised)).await.is_ok();
        if !ended && force {
            self.kill_supervisor(&id);
            ended = timeout(KILL_PATIENCE, life.wait_for(|life| !life.supervised)).await.is_ok();
        }
        if ended {
            return Ok(());
        }
        Err(Error::timed_out(format!("the supervisor of container `{name}` does not end")).hint(if force {
            "the kernel keeps it: a file system that it uses may not answer".to_owned()
        } else {
            format!("it may be stopped or hung; `netloom rm -f {name}` kills it")
        }))
    }

    /// The last resort: its container ends with it.
    fn kill_supervisor(&self, id: &str) {
        let state = self.state();
        let link = state.containers.get(id).and_then(|container| container.link.as_ref());
        if let Some(Err(error)) = link.map(|link| link.wire.kill()) {
            tracing::error!(id, %error, "a supervisor that does not end cannot be killed");
        }
    }

    /// Marks a container as dead and asks its supervisor to end; without one it is removed at once.
    fn end_supervisor(&self, state: &mut State, id: &str) -> Result<()> {
        let container = state.by_id_mut(id)?;
        container.status.state = api::State::Dead;
        container.status.wanted = false;
        match &mut container.link {
            Some(link) => link.wire.send(&ToSupervisor::Request { request: 0, what: Request::Remove }, &[])?,
            None => {
                self.let_go(state, id);
                if let Some(container) = state.containers.remove(id) {
                    self.bury(container);
                }
                return Ok(());
            }
        }
        self.keep_status(state, id);
        Ok(())
    }

    /// `--rm`: its name is free at once, its directory goes when its supervisor has ended.
    pub(crate) fn leave(&self, state: &mut State, id: &str) {
        let Some(mut container) = state.containers.remove(id) else { return };
        container.status.state = api::State::Dead;
        container.publish_life();
        if let Err(error) = self.write_status(&container) {
            tracing::error!(id, error = error.message, "a container that was removed may be seen again");
        }
        let told = container.link.as_ref().map(|link| link.wire.send(&ToSupervisor::Request { request: 0, what: Request::Remove }, &[]));
        match told {
            Some(Ok(())) => {
                state.leaving.insert(id.to_owned(), container);
            }
            _ => self.bury(container),
        }
    }

    /// The end of a container: its files.
    pub(crate) fn bury(&self, mut container: Container) {
        let id = container.record.id.clone();
        container.link = None;
        let removed =
            store::remove_directory(&self.paths.container(&id)).and_then(|()| store::remove_file(&file_of(&self.paths.revenants(), &id)));
        if let Err(error) = removed {
            tracing::error!(id, %error, "files of a removed container are left");
        }
        self.events.tell("container", "destroy", &id, container.name(), &[]);
        container.publish_life();
    }

    /// `system prune`: stopped containers, then networks that nobody is on.
    pub(crate) async fn prune(&self) -> Result<Pruned> {
        let stopped: Vec<_> = {
            let state = self.state();
            let stopped = state.containers.values().filter(|container| !container.is_active() && !self.is_starting(container));
            stopped.map(|container| container.record.id.clone()).collect()
        };
        let mut pruned = Pruned::default();
        for id in stopped {
            match self.remove(&id, false).await {
                Ok(()) => pruned.containers.push(id),
                // Started or removed meanwhile.
                Err(error) => tracing::warn!(id, error = error.message, "not pruned"),
            }
        }
        pruned.networks = self.prune_networks();
        Ok(pruned)
    }

    /// Between its creation and its start: somebody's `run` is at it.
    fn is_starting(&self, container: &Container) -> bool {
        container.status.state == api::State::Created && (container.link.is_some() || !container.leases.is_empty())
    }
}
