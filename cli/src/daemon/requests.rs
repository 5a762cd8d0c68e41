//! What people ask of containers that supervisors do: start, stop, restart, signals, pause, wait.

use std::time::Duration;

use netloom_runtime::protocol::Request;
use tokio::time::timeout;

use super::{
    Daemon,
    container::{Container, Life},
    error::{Error, Result},
};
use crate::api::State;

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a supervisor that was just spawned may take to say hello.
const SPAWN_PATIENCE: Duration = Duration::from_secs(20);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The exit code of a container that never ran, as docker's wait tells it.
const NEVER_RAN: i32 = 0;

impl Life {
    const fn is_active(self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Restarting)
    }

    /// Whether it is being removed while it ran, so that how it ends is still to come.
    const fn is_ending(self) -> bool {
        matches!(self.state, State::Dead) && self.supervised && self.exit_code.is_none()
    }
}

impl Daemon {
    /// Starts a container in the background; a supervisor is spawned if there is none. Returns once its command has been executed.
    pub(crate) async fn start(&self, word: &str) -> Result<()> {
        let (id, mut life) = {
            let state = self.state();
            let container = state.find(word)?;
            if container.runs() {
                return Ok(());
            }
            self.check_startable(&state, container)?;
            if container.link.is_none() {
                self.launcher.supervisor(container.id())?;
            }
            (container.record.id.clone(), container.life.subscribe())
        };
        match timeout(SPAWN_PATIENCE, life.wait_for(|life| life.supervised)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Error::conflict("the container was removed while it started")),
            Err(_) => return Err(Error::timed_out("the supervisor did not start").hint("see the daemon's log")),
        }
        self.request(&id, Request::Start, START_PATIENCE).await
    }

    pub(crate) async fn restart(&self, word: &str, grace_seconds: u32) -> Result<()> {
        let id = {
            let state = self.state();
            let container = state.find(word)?;
            container.is_active().then(|| container.record.id.clone())
        };
        match id {
            None => self.start(word).await,
            Some(id) => self.request(&id, Request::Restart { grace_seconds }, START_PATIENCE + seconds(grace_seconds)).await,
        }
    }

    /// Stops a container; one that does not run is stopped already.
    pub(crate) async fn stop(&self, word: &str, grace_seconds: u32) -> Result<()> {
        let (id, mut life) = {
            let state = self.state();
            let container = state.find(word)?;
            if !container.is_active() {
                return Ok(());
            }
            (container.record.id.clone(), container.life.subscribe())
        };
        let asked = self.request(&id, Request::Stop { grace_seconds }, PATIENCE + seconds(grace_seconds)).await;
        match asked {
            // One with --rm may be gone before its supervisor answers.
            Err(_) if !life.borrow_and_update().is_active() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => timeout(PATIENCE, life.wait_for(|life| !life.is_active()))
                .await
                .map(drop)
                .map_err(|_| Error::timed_out("the supervisor stopped its container but did not say so")),
        }
    }

    pub(crate) async fn kill(&self, word: &str, signal: i32) -> Result<()> {
        let id = self.running(word, |container| container.is_active())?;
        self.request(&id, Request::Signal { signal }, PATIENCE).await
    }

    pub(crate) async fn pause(&self, word: &str) -> Result<()> {
        let id = self.running(word, Container::runs)?;
        if self.state().by_id(&id)?.status.state == State::Paused {
            return Err(Error::conflict(format!("container `{word}` is paused already")).hint(format!("netloom unpause {word}")));
        }
        self.request(&id, Request::Pause, PATIENCE).await?;
        self.paused(&id, true);
        Ok(())
    }

    pub(crate) async fn unpause(&self, word: &str) -> Result<()> {
        let id = self.running(word, Container::runs)?;
        if self.state().by_id(&id)?.status.state != State::Paused {
            return Err(Error::conflict(format!("container `{word}` is not paused")).hint("`netloom ps` says who is"));
        }
        self.request(&id, Request::Unpause, PATIENCE).await?;
        self.paused(&id, false);
        Ok(())
    }

    /// The exit code, once the container does not run and will not by itself.
    pub(crate) async fn wait(&self, word: &str) -> Result<i32> {
        let mut life = self.state().find(word)?.life.subscribe();
        match life.wait_for(|life| !life.is_active() && !life.is_ending()).await {
            Ok(life) => Ok(life.exit_code.unwrap_or(NEVER_RAN)),
            Err(_) => Err(Error::missing(format!("container `{word}` was removed"))),
        }
    }

    /// The ID of a container that `is_fit`, which is that it runs, more or less.
    pub(crate) fn running(&self, word: &str, is_fit: impl Fn(&Container) -> bool) -> Result<String> {
        let state = self.state();
        let container = state.find(word)?;
        if is_fit(container) {
            return Ok(container.record.id.clone());
        }
        let name = container.name();
        Err(Error::conflict(format!("container `{name}` is not running")).hint(format!("netloom start {name}")))
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
