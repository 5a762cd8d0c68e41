//! What happened: told to whoever listens, and kept for a while for those who ask later.
//!
//! Nobody waits for a listener. One that is slower than [`BACKLOG`] events loses the oldest and is told how many.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::api::Event;

/// How many events are kept, for late askers and for slow listeners alike.
const BACKLOG: usize = 1024;

/// The events of one daemon.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    recent: Mutex<VecDeque<Event>>,
}

/// The time now as the API writes it: RFC 3339, UTC.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, recent: Mutex::default() }
    }

    /// Tells that `action` happened to the `kind` named `name`.
    pub(crate) fn tell(&self, kind: &str, action: &str, id: &str, name: &str, attributes: &[(&str, String)]) {
        let attributes: BTreeMap<_, _> = attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        tracing::info!(kind, action, name, id, ?attributes, "event");
        let event =
            Event { time: now(), kind: kind.to_owned(), action: action.to_owned(), id: id.to_owned(), name: name.to_owned(), attributes };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == BACKLOG {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // No listener is no failure.
        self.sender.send(event).ok();
    }

    /// The last events, oldest first, and all that follow them.
    pub(crate) fn listen(&self) -> (Vec<Event>, Listener) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), Listener(self.sender.subscribe()))
    }
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener(broadcast::Receiver<Event>);

impl Listener {
    /// The next event; `None` when the daemon ends.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(count)) => Some(Event {
                time: now(),
                kind: "daemon".to_owned(),
                action: "lost".to_owned(),
                attributes: BTreeMap::from([("events".to_owned(), count.to_string())]),
                ..Event::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_slow_listener_is_told_what_it_lost_and_goes_on() {
        let events = Events::new();
        let (_, mut listener) = events.listen();
        for n in 0..BACKLOG + 5 {
            events.tell("container", "start", "id", &format!("c{n}"), &[]);
        }
        let lost = listener.next().await.unwrap();
        assert_eq!((lost.action.as_str(), lost.attributes["events"].as_str()), ("lost", "5"));
        assert_eq!(listener.next().await.unwrap().name, "c5");
        assert_eq!(events.listen().0.len(), BACKLOG);
    }
}
