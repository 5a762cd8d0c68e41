//! One thread of the data plane.
//!
//! [`Worker::turn`] is the whole of it: wait, read the clock once, serve what is ready. A busy port gets its share of frames, goes
//! to the end of the ready list and is served again in the next turn, which then does not wait; so no port, socket, timer or call
//! starves another, and none is looked at that has nothing to do.

use std::{
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use netloom_switch::{
    PortId, Time,
    gateway::{Flow, Readiness, View},
    switch::AGE_EVERY,
};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{
    FlowReport, NetworkId,
    balance::{Bell, Load, SPAN, is_crowded},
    burst::Burst,
    inbox::Inbox,
    network::Network,
    patience::Patience,
    port::{Place, Port, PortKey, Progress},
    run::Run,
    sources::{Source, Sources, Token},
    timers::{Due, Timers},
};

/// Events that one wait may report.
const EVENTS: usize = 256;

/// Calls that one turn takes from the inbox.
const INBOX: usize = 256;

/// A port's place on its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

/// The instants of one data plane: all its workers count from the same start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }
}

/// Who kept this worker busy.
#[derive(Debug)]
struct Books {
    crowded: Bell,
    /// What is being added up began then.
    from: Time,
    /// All that came before is some port's, or nobody's.
    at: Time,
    /// What was added up last.
    last: Vec<Load>,
}

#[derive(Debug)]
pub(super) struct Worker {
    inbox: Arc<Inbox>,
    clock: Clock,
    now: Time,
    ports: Vec<Option<Box<Port>>>,
    slots: HashMap<PortKey, Slot>,
    sources: Sources,
    timers: Timers,
    /// What this turn has taken out of them; empty between two turns.
    due: Vec<Due>,
    ready: VecDeque<Token>,
    rung: bool,
    stopping: bool,
    patience: Patience,
    /// The networks whose MAC tables this worker ages: all on the first, none on the others.
    ages: Vec<Arc<Network>>,
    ageing: Option<Time>,
    books: Books,
    burst: Burst,
    run: Run,
    events: Vec<EpollEvent>,
}

impl Worker {
    pub(super) fn new(inbox: Arc<Inbox>, clock: Clock, crowded: Bell) -> nix::Result<Self> {
        let mut sources = Sources::new()?;
        sources.add(inbox.bell(), Source::Inbox, EpollFlags::EPOLLIN)?;
        Ok(Self {
            inbox,
            clock,
            now: clock.now(),
            ports: Vec::new(),
            slots: HashMap::new(),
            sources,
            timers: Timers::default(),
            due: Vec::new(),
            ready: VecDeque::new(),
            rung: false,
            stopping: false,
            patience: Patience::default(),
            ages: Vec::new(),
            ageing: None,
            books: Books { crowded, from: clock.now(), at: clock.now(), last: Vec::new() },
            burst: Burst::new(),
            run: Run::new(),
            events: vec![EpollEvent::empty(); EVENTS],
        })
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        self.burst = Burst::with_ring();
        while self.turn().is_continue() {}
        for slot in self.slots.values().copied().collect::<Vec<_>>() {
            self.with_port(slot, |port, at, _| port.retire(at));
        }
    }

    /// One turn.
    pub(super) fn turn(&mut self) -> ControlFlow<()> {
        let busy = self.rung || !self.ready.is_empty();
        let count = if busy { self.look() } else { self.wait() };
        self.books.at = self.now;
        for index in 0..count {
            self.event(index);
        }
        for _ in 0..self.ready.len() {
            self.serve();
        }
        self.look_at_due();
        if self.rung {
            self.read_inbox();
        }
        if self.now.since(self.books.from) >= SPAN {
            self.add_up();
        }
        if self.stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What is ready now. The clock is read once it is known.
    fn look(&mut self) -> usize {
        let count = self.sources.wait(&mut self.events, Some(Duration::ZERO));
        self.now = self.clock.now();
        count
    }

    /// Waits for work: awake for as long as that has been paying, then asleep.
    fn wait(&mut self) -> usize {
        let begun = self.clock.now();
        let until = begun + self.patience.span();
        loop {
            let count = self.look();
            if count > 0 || self.timers.is_due(self.now) {
                return count;
            }
            if self.now >= until {
                break;
            }
            thread::yield_now();
        }
        let count = self.sources.wait(&mut self.events, self.timers.timeout(self.now));
        self.now = self.clock.now();
        if count > 0 {
            self.patience.slept(self.now.since(begun));
        } else {
            self.patience.woken();
        }
        count
    }

    fn event(&mut self, index: usize) {
        let Some(event) = self.events.get(index) else { return };
        let (token, flags) = (Sources::token(event), event.events());
        match self.sources.get(token) {
            Some(Source::Inbox) => {
                self.inbox.hear();
                self.rung = true;
            }
            Some(Source::Frames(slot)) => {
                let queued = self.with_port(slot, |port, _, _| port.ingress().queue()).flatten();
                self.ready.extend(queued);
            }
            Some(Source::Listener(slot, id)) => {
                let queued = self.with_port(slot, |port, _, _| port.acceptor(id).and_then(|acceptor| acceptor.queue()));
                self.ready.extend(queued.flatten());
            }
            Some(Source::Socket(slot, socket)) => {
                let readiness = Readiness {
                    readable: flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP),
                    writable: flags.contains(EpollFlags::EPOLLOUT),
                    error: flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
                };
                self.with_port(slot, |port, at, _| {
                    port.socket(socket, readiness, at);
                    port.arm(at);
                });
                self.charge(slot);
            }
            // It was closed by what an earlier event of this turn led to.
            None => (),
        }
    }

    /// Serves the first of the ready list, which goes to its end if there is more.
    fn serve(&mut self) {
        let Some(token) = self.ready.pop_front() else { return };
        let source = self.sources.get(token);
        let progress = match source {
            Some(Source::Frames(slot)) => self.with_port(slot, |port, at, burst| {
                let progress = port.receive(at, burst);
                port.arm(at);
                if progress == Progress::Done {
                    port.ingress().unqueue();
                }
                progress
            }),
            Some(Source::Listener(slot, id)) => self.with_port(slot, |port, at, _| {
                let progress = port.accept(id, at);
                port.arm(at);
                if let Some(acceptor) = port.acceptor(id).filter(|_| progress == Progress::Done) {
                    acceptor.unqueue();
                }
                progress
            }),
            _ => None,
        };
        if let Some(Source::Frames(slot) | Source::Listener(slot, _)) = source {
            self.charge(slot);
        }
        if progress == Some(Progress::More) {
            self.ready.push_back(token);
        }
    }

    /// The time since the last charge was this port's.
    fn charge(&mut self, slot: Slot) {
        let now = self.clock.now();
        let took = now.since(std::mem::replace(&mut self.books.at, now));
        if let Some(port) = self.ports.get_mut(slot.0 as usize).and_then(Option::as_mut) {
            port.took += took;
        }
    }

    /// Adds up what ports took since it last did, and rings if two busy ones share this worker.
    fn add_up(&mut self) {
        let span = self.now.since(std::mem::replace(&mut self.books.from, self.now));
        self.books.last.clear();
        let loads = self.ports.iter_mut().flatten().map(|port| Load::new(port.key, std::mem::take(&mut port.took), span));
        self.books.last.extend(loads.filter(|load| load.share > 0));
        if is_crowded(&self.books.last) {
            self.books.crowded.ring();
        }
    }

    /// How busy its ports have kept it lately; nothing if it has slept since it last added up.
    pub(super) fn loads(&mut self) -> Vec<Load> {
        if self.now.since(self.books.from) >= SPAN {
            self.add_up();
        }
        self.books.last.clone()
    }

    /// What is due is taken out first: whoever has more to do asks for this very instant again, and that is the next turn.
    fn look_at_due(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        due.extend(std::iter::from_fn(|| self.timers.next(self.now)));
        due.drain(..).for_each(|due| self.look_at(due));
        self.due = due;
    }

    fn look_at(&mut self, due: Due) {
        match due {
            Due::Ageing => self.age_all(),
            Due::Frames(slot) => {
                // What gathers is not waited for awake.
                self.patience = Patience::default();
                let queued = self.with_port(slot, |port, _, _| port.ingress().look()).flatten();
                self.ready.extend(queued);
            }
            Due::Gateway(slot) => _ = self.with_port(slot, |port, at, _| port.timer(at)),
            Due::Accept(slot, id) => {
                let queued = self.with_port(slot, |port, _, _| {
                    let acceptor = port.acceptor(id)?;
                    acceptor.wake();
                    acceptor.queue()
                });
                self.ready.extend(queued.flatten());
            }
        }
    }

    fn read_inbox(&mut self) {
        let inbox = Arc::clone(&self.inbox);
        for _ in 0..INBOX {
            let Some(call) = inbox.next_call() else {
                self.rung = false;
                return;
            };
            call(self);
        }
    }

    /// Takes a port in; its frames flow from here on. A port that cannot be watched is given back.
    pub(super) fn give(&mut self, port: Box<Port>) -> Result<(), (Box<Port>, nix::Error)> {
        let free = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        if free == self.ports.len() {
            self.ports.push(None);
        }
        let slot = Slot(free as u32);
        let key = port.key;
        if let Some(place) = self.ports.get_mut(free) {
            *place = Some(port);
        }
        self.slots.insert(key, slot);
        match self.with_port(slot, |port, at, _| port.settle(at)) {
            Some(Err(errno)) => self.take(key).map_or(Ok(()), |port| Err((port, errno))),
            _ => Ok(()),
        }
    }

    /// Lets a port go, whole: its flows and listeners go with it.
    pub(super) fn take(&mut self, key: PortKey) -> Option<Box<Port>> {
        let slot = self.slots.remove(&key)?;
        self.with_port(slot, |port, at, _| port.park(at));
        self.ports.get_mut(slot.0 as usize)?.take()
    }

    /// Ends a port: its flows are reset and its sockets closed.
    pub(super) fn retire(&mut self, key: PortKey) -> bool {
        let Some(slot) = self.slots.remove(&key) else { return false };
        self.with_port(slot, |port, at, _| port.retire(at));
        self.ports.get_mut(slot.0 as usize).is_some_and(|place| place.take().is_some())
    }

    /// Does something with one port, if it is here.
    pub(super) fn port<R>(&mut self, key: PortKey, what: impl FnOnce(&mut Port, &mut Place<'_>) -> R) -> Option<R> {
        let slot = self.slots.get(&key).copied()?;
        self.with_port(slot, |port, at, _| {
            let result = what(port, at);
            port.arm(at);
            result
        })
    }

    pub(super) fn set_views(&mut self, views: Vec<(PortKey, View)>) {
        for (key, view) in views {
            self.port(key, |port, _| port.set_view(view));
        }
    }

    /// The flows of one network's ports that are here.
    pub(super) fn flows(&mut self, network: NetworkId) -> Vec<(PortId, FlowReport)> {
        let now = self.now;
        let slots: Vec<_> = self.slots.iter().filter(|(key, _)| key.network == network).map(|(key, slot)| (key.port, *slot)).collect();
        let flows =
            slots.into_iter().map(|(number, slot)| (number, self.with_port(slot, |port, _, _| port.flows(now)).unwrap_or_default()));
        flows.flat_map(|(number, flows)| flows.into_iter().map(move |flow| (number, report(flow)))).collect()
    }

    /// Ages a network's MAC table from here on.
    pub(super) fn age(&mut self, network: Arc<Network>) {
        self.ages.push(network);
        self.timers.arm(&mut self.ageing, Some(self.now + AGE_EVERY), Due::Ageing);
    }

    pub(super) fn age_no_more(&mut self, network: NetworkId) {
        self.ages.retain(|aged| aged.id != network);
        if self.ages.is_empty() {
            self.timers.disarm(&mut self.ageing, Due::Ageing);
        }
    }

    fn age_all(&mut self) {
        for network in &self.ages {
            network.switch.age(self.now);
        }
        self.ageing = None;
        self.timers.arm(&mut self.ageing, Some(self.now + AGE_EVERY), Due::Ageing);
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    fn with_port<R>(&mut self, slot: Slot, what: impl FnOnce(&mut Port, &mut Place<'_>, &mut Burst) -> R) -> Option<R> {
        let port = self.ports.get_mut(slot.0 as usize)?.as_mut()?;
        let mut at = Place { now: self.now, slot, sources: &mut self.sources, timers: &mut self.timers, run: &mut self.run };
        // What a container sends goes through much code that is not ours. Should any of it panic, the port loses its flows and
        // nobody else anything: all that may be half done is the port's, and made anew.
        match catch_unwind(AssertUnwindSafe(|| what(port, &mut at, &mut self.burst))) {
            Ok(result) => Some(result),
            Err(_) => {
                at.run.end();
                // Without randomness, or epoll, it stays deaf until it is detached.
                let _ = getrandom::u64().map(|seed| port.revive(seed, &mut at));
                None
            }
        }
    }
}

fn report(flow: Flow) -> FlowReport {
    FlowReport {
        protocol: flow.protocol,
        inside: flow.inside,
        outside: flow.outside,
        direction: flow.direction.name(),
        state: flow.state,
        idle_seconds: flow.idle.as_secs(),
    }
}

impl Drop for Worker {
    /// However the thread ends, nobody waits for it.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
