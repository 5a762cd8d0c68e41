//! How others reach a worker: calls from the control plane, never frames.
//!
//! Many write, the worker alone reads. The lock covers moves of a few words; the bell, an eventfd in the worker's epoll set, is
//! rung outside it, and only when nobody has rung it yet. Calls are not bounded, since every caller waits for its answer.

use std::{
    collections::VecDeque,
    fmt,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::worker::Worker;

/// What a caller wants done on a worker's thread.
type Call = Box<dyn FnOnce(&mut Worker) + Send>;

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    rung: bool,
    closed: bool,
}

/// One worker's inbox.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    bell: EventFd,
}

/// The worker has ended; nobody will do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Inbox {
    pub(super) fn new() -> nix::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), bell })
    }

    /// Has `what` done between two turns of the worker and waits for its result.
    pub(super) fn ask<R: Send + 'static>(&self, what: impl FnOnce(&mut Worker) -> R + Send + 'static) -> Result<R, Closed> {
        self.call(what)?.recv().map_err(|_| Closed)
    }

    /// As [`ask`](Self::ask), the waiting left to the caller: several workers can be asked at once.
    pub(super) fn call<R: Send + 'static>(&self, what: impl FnOnce(&mut Worker) -> R + Send + 'static) -> Result<Receiver<R>, Closed> {
        let (answer, answered) = sync_channel(1);
        let call: Call = Box::new(move |worker| {
            // Nobody listens when the caller has given up.
            let _ = answer.send(what(worker));
        });
        let ring = {
            let mut queue = self.lock();
            if queue.closed {
                return Err(Closed);
            }
            queue.calls.push_back(call);
            !std::mem::replace(&mut queue.rung, true)
        };
        if ring {
            self.ring();
        }
        Ok(answered)
    }

    /// What wakes the worker.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The bell was heard: whoever comes from here on rings it again.
    pub(super) fn hear(&self) {
        // EAGAIN: it was not rung after all.
        let _ = self.bell.read();
        self.lock().rung = false;
    }

    pub(super) fn next_call(&self) -> Option<Call> {
        self.lock().calls.pop_front()
    }

    /// Answers nobody any more: every caller that waits is told so.
    pub(super) fn close(&self) {
        let left = {
            let mut queue = self.lock();
            queue.closed = true;
            std::mem::take(&mut queue.calls)
        };
        drop(left);
    }

    fn ring(&self) {
        // EAGAIN: the counter is full, so the worker will wake anyway.
        let _ = self.bell.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("bell", &self.bell).finish_non_exhaustive()
    }
}
