//! The connections to supervisors: hello, then messages both ways until the supervisor is gone.
//!
//! A message to a supervisor never waits: a supervisor that has not read dozens of them is hung, and the request fails.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use netloom_runtime::{
    cgroup::ledger,
    channel::{AsyncChannel, Channel, ChannelError, Listener},
    protocol::{Failure, Request, RequestId, ToDaemon, ToSupervisor, VERSION},
    rootfs::upper::{self, Layers},
    supervisor, userns,
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Daemon,
    container::Link,
    error::{Error, Result},
    lifecycle::Hello,
    plane::Launcher,
};

/// How long a connection may be silent before it says hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How often, and how far apart, a layer is looked for that its supervisor has let go.
const SWEEP_TRIES: u32 = 100;
const SWEEP_PAUSE: Duration = Duration::from_millis(50);

/// The sending side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<AsyncChannel>);

impl Wire {
    pub(crate) fn new(channel: Channel) -> Result<Self> {
        let failed = |error| Error::internal(format!("a supervisor's connection: {error}"));
        channel.into_async().map(|channel| Self(Arc::new(channel))).map_err(failed)
    }

    pub(crate) fn send(&self, message: &ToSupervisor, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.0.send(message, fds).map_err(|error| match error {
            ChannelError::TooLong(_) => Error::invalid(format!("the supervisor cannot be told everything: {error}"))
                .hint("give the container fewer networks, aliases, published ports or added hosts"),
            error if error.would_block() => Error::failed("the supervisor does not read what it is told"),
            error => Error::failed(format!("the supervisor is gone: {error}")),
        })
    }

    /// Answers the supervisor of container `id`. A start must not wait for ever for what cannot be said, so then it is told why.
    pub(crate) fn answer(&self, id: &str, answer: &ToSupervisor) {
        let Err(error) = self.send(answer, &[]) else { return };
        tracing::error!(id, error = error.message, "an answer did not reach its supervisor");
        // One that is gone waits for nothing.
        self.send(&ToSupervisor::Refused { failure: error.into_failure() }, &[]).ok();
    }

    /// The next message, whole. Half of one is lost when this is cancelled, so then the connection is of no use any more.
    async fn receive(&self) -> std::result::Result<Option<(ToDaemon, Vec<OwnedFd>)>, ChannelError> {
        let Some((mut message, mut fds)) = self.0.receive::<ToDaemon>().await? else { return Ok(None) };
        while message.goes_on() {
            let Some((part, more)) = self.0.receive().await? else { return Ok(None) };
            if !message.take(part) {
                return Err(ChannelError::Unfinished);
            }
            fds.extend(more);
        }
        Ok(Some((message, fds)))
    }

    /// For one that does not do what it is told.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.0.kill_peer()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Link {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, next_request: 1, pending: std::collections::HashMap::new() }
    }

    /// Sends a request; its answer comes through the receiver.
    pub(crate) fn request(&mut self, what: Request) -> Result<oneshot::Receiver<Option<Failure>>> {
        let request: RequestId = self.next_request;
        self.wire.send(&ToSupervisor::Request { request, what }, &[])?;
        self.next_request += 1;
        let (sender, receiver) = oneshot::channel();
        self.pending.insert(request, sender);
        Ok(receiver)
    }
}

pub(crate) fn refuse(error: Error) -> ToSupervisor {
    ToSupervisor::Refused { failure: error.into_failure() }
}

/// Waits for the answer to a request, at most `patience`.
pub(crate) async fn answered(answer: oneshot::Receiver<Option<Failure>>, patience: Duration) -> Result<()> {
    match timeout(patience, answer).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(failure))) => Err(failure.into()),
        Ok(Err(_)) => Err(Error::failed("the supervisor ended before it answered")),
        Err(_) => Err(Error::timed_out(format!("the supervisor did not answer within {} s", patience.as_secs()))
            .hint("it may be stopped or hung; `netloom rm -f` ends it")),
    }
}

/// Who is at the other end of a connection, by its ID.
enum Peer {
    Supervisor(String),
    Holder(String),
}

/// Takes connections for as long as the daemon lives.
pub(crate) async fn accept(daemon: &Arc<Daemon>, listener: &Listener) {
    loop {
        match listener.accept().await {
            Ok(channel) => {
                tokio::spawn(serve(Arc::clone(daemon), channel));
            }
            Err(error) => {
                tracing::warn!(%error, "a supervisor could not be accepted");
                // Out of descriptors, most likely: not at once again.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One supervisor or holder, from hello to its end.
pub(crate) async fn serve(daemon: Arc<Daemon>, channel: Channel) {
    let wire = match Wire::new(channel) {
        Ok(wire) => wire,
        Err(error) => return tracing::warn!(error = error.message, "a supervisor is not served"),
    };
    let peer = match greet(&daemon, &wire).await {
        Ok(Some(peer)) => peer,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(error = error.message, "a supervisor is refused");
            wire.send(&refuse(error), &[]).ok();
            return;
        }
    };
    loop {
        match (wire.receive().await, &peer) {
            (Ok(Some((message, fds))), Peer::Supervisor(id)) => daemon.hear(id, &wire, message, fds),
            (Ok(Some((message, fds))), Peer::Holder(id)) => daemon.hear_holder(id, &wire, message, fds),
            (Ok(None), _) => break,
            (Err(error), Peer::Supervisor(id) | Peer::Holder(id)) => {
                tracing::error!(id, %error, "a supervisor's connection is given up");
                break;
            }
        }
    }
    match &peer {
        Peer::Supervisor(id) => {
            daemon.supervisor_gone(id, &wire);
            daemon.run_again(id).await;
            daemon.sweep_layers().await;
        }
        Peer::Holder(id) => daemon.holder_gone(id, &wire),
    }
}

/// Hello and welcome. `None`: there was no hello.
async fn greet(daemon: &Arc<Daemon>, wire: &Wire) -> Result<Option<Peer>> {
    let first = timeout(HELLO_PATIENCE, wire.receive()).await.map_err(|_| Error::timed_out("no hello"))?;
    let Some((message, mut fds)) = first.map_err(|error| Error::invalid(error.to_string()))? else { return Ok(None) };
    if let ToDaemon::Hold { version, holder, what, port } = message {
        check_hello(version, usize::from(port.is_some()), &fds)?;
        daemon.holder_hello(wire, &holder, what, port, fds)?;
        daemon.welcome_holder(wire, &holder).await?;
        return Ok(Some(Peer::Holder(holder)));
    }
    let ToDaemon::Hello { version, container, state, userns, ports, listeners, more: _ } = message else {
        return Err(Error::invalid("the first word was not hello"));
    };
    check_hello(version, usize::from(userns) + ports.len() + listeners.len(), &fds)?;
    let namespace = userns.then(|| fds.remove(0));
    daemon.take_user_namespace(namespace).await;
    daemon.hello(wire, Hello { container: container.clone(), state, ports, listeners, fds })?;
    let namespace = if userns { None } else { daemon.user_namespace().await? };
    let welcome = ToSupervisor::Welcome { version: VERSION, userns: namespace.is_some() };
    let fds: Vec<_> = namespace.iter().map(AsFd::as_fd).collect();
    if let Err(error) = wire.send(&welcome, &fds) {
        daemon.supervisor_gone(&container, wire);
        return Err(error);
    }
    Ok(Some(Peer::Supervisor(container)))
}

fn check_hello(version: u32, promised: usize, fds: &[OwnedFd]) -> Result<()> {
    if version > VERSION {
        return Err(Error::invalid(format!("the supervisor speaks protocol {version}, the daemon {VERSION}"))
            .hint("the daemon is older than the command; end it, and the next command starts the newer one"));
    }
    if fds.len() != promised {
        return Err(Error::invalid("hello came with the wrong number of descriptors"));
    }
    Ok(())
}

impl Daemon {
    /// Keeps the namespace that a supervisor brought, if there is none yet.
    async fn take_user_namespace(&self, brought: Option<OwnedFd>) {
        if let Some(namespace) = brought {
            self.user_namespace.lock().await.get_or_insert(namespace);
        }
    }

    /// The namespace for a supervisor that has none. It is made only after every supervisor that could bring one has come back.
    async fn user_namespace(&self) -> Result<Option<OwnedFd>> {
        let failed = |error: io::Error| Error::failed(format!("cannot share the user namespace: {error}"));
        // The sender lives as long as the daemon.
        self.settled.subscribe().wait_for(|settled| *settled).await.ok();
        let mut namespace = self.user_namespace.lock().await;
        if namespace.is_none() {
            *namespace = self.launcher.user_namespace()?;
        }
        namespace.as_ref().map(|namespace| namespace.try_clone().map_err(failed)).transpose()
    }

    /// Removes the writable layers that ended supervisors left on a disk, until there is none but of those that live. A user's instances may
    /// share a disk, so that what is found unused first need not be ours.
    pub(crate) async fn sweep_layers(&self) {
        for _ in 0..SWEEP_TRIES {
            let Layers { names, unused } = self.launcher.layers();
            let lives = |name: &String| self.state().containers.get(name).is_some_and(|container| container.link.is_some());
            if names.iter().all(lives) {
                return;
            }
            if unused {
                match self.user_namespace().await {
                    Ok(namespace) => namespace.into_iter().for_each(|namespace| self.launcher.sweep_layers(namespace)),
                    Err(error) => return tracing::error!(error = error.message, "layers that nobody uses stay"),
                }
            }
            // The kernel may still be about to let go of the one whose supervisor has just ended.
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }

    /// Answers a holder's hello once everybody is back: until then nobody can tell which addresses are free.
    async fn welcome_holder(&self, wire: &Wire, id: &str) -> Result<()> {
        // The sender lives as long as the daemon.
        self.settled.subscribe().wait_for(|settled| *settled).await.ok();
        wire.send(&ToSupervisor::Welcome { version: VERSION, userns: false }, &[]).inspect_err(|_| self.holder_gone(id, wire))
    }

    /// Sends a request to the supervisor of container `id` and waits for its answer, at most `patience`.
    pub(crate) async fn request(&self, id: &str, what: Request, patience: Duration) -> Result<()> {
        let receiver = {
            let mut state = self.state();
            let container = state.by_id_mut(id)?;
            let name = container.record.name.clone();
            let link = container.link.as_mut().ok_or_else(|| Error::conflict(format!("container `{name}` is not running")))?;
            link.request(what)?
        };
        answered(receiver, patience).await
    }
}

/// [`Launcher`] with real processes.
#[derive(Debug)]
pub(crate) struct Processes {
    root: PathBuf,
    is_root: bool,
}

impl Processes {
    pub(crate) fn new(root: &Path, is_root: bool) -> Self {
        Self { root: root.to_owned(), is_root }
    }
}

impl Launcher for Processes {
    fn supervisor(&self, id: &str) -> Result<()> {
        // It is asked to start once it has said hello.
        supervisor::spawn_by_daemon(&self.root, id).map_err(|error| Error::failed(format!("cannot start a supervisor: {error}")))
    }

    fn sweep_groups(&self, id: &str) {
        match ledger::sweep_later(&self.root.join("containers").join(id)) {
            Ok(true) => tracing::info!(id, "control groups are swept"),
            Ok(false) => {}
            Err(error) => tracing::error!(id, %error, "control groups of a lost container may be left"),
        }
    }

    fn user_namespace(&self) -> Result<Option<OwnedFd>> {
        if self.is_root {
            return Ok(None);
        }
        let made = userns::create().map_err(|error| {
            let hint = error.hint().unwrap_or("see `netloom doctor`").to_owned();
            Error::failed(error.to_string()).hint(hint)
        })?;
        tracing::info!(mapping = ?made.mapping, "the user namespace is made");
        Ok(Some(made.fd))
    }

    fn layers(&self) -> Layers {
        upper::survey(&self.root)
    }

    fn sweep_layers(&self, namespace: OwnedFd) {
        let root = self.root.clone();
        let sweep = move || upper::sweep(&root, namespace).unwrap_or_else(|error| tracing::error!(%error, "not swept"));
        if let Err(error) = thread::Builder::new().name("sweep".to_owned()).spawn(sweep) {
            tracing::error!(%error, "layers that nobody uses stay");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::atomic::Ordering::Relaxed};

    use super::*;
    use crate::daemon::testkit::{Layered, Scratch};

    /// Another instance's layer is free while ours is not yet.
    #[tokio::test]
    async fn a_layer_is_swept_however_many_of_others_are_free_before_it() {
        let seen = |names: &[&str], unused| Layers { names: names.iter().map(ToString::to_string).collect(), unused };
        let seen = [seen(&["ours", "theirs"], true), seen(&["ours"], false), seen(&["ours"], true), seen(&[], false)];
        let (launcher, sweeps) = Layered::new(seen, || File::open("/dev/null").unwrap().into());
        let scratch = Scratch::new();
        let daemon = scratch.daemon_with(Box::new(launcher), &[]);
        daemon.settled.send_replace(true);
        daemon.sweep_layers().await;
        assert_eq!(sweeps.load(Relaxed), 2);
    }
}
