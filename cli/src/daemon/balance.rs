//! Spreads busy ports over the workers, for as long as the daemon lives: when a worker rings, and then at most once a second.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use super::Daemon;

/// What a move has changed shows in what the workers add up after it.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers the workers' rings.
pub(crate) fn serve(daemon: &Arc<Daemon>, rings: Receiver<()>) -> std::io::Result<()> {
    let daemon = Arc::downgrade(daemon);
    let answer = move || {
        while rings.recv().is_ok() {
            let Some(daemon) = daemon.upgrade() else { return };
            match daemon.plane.balance_by_load() {
                Ok(0) => {}
                Ok(moved) => tracing::info!(moved, "a busy port has another worker"),
                Err(error) => tracing::warn!(%error, "busy ports could not be spread"),
            }
            drop(daemon);
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new().name("balance".to_owned()).spawn(answer).map(drop)
}
