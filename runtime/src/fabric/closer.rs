//! Closing an interface without waiting for it: a thread that does nothing else.
//!
//! The last close of a TAP takes its network interface down, for which the kernel waits for grace periods: 10 to 25 ms. On a
//! worker no frame would flow meanwhile, and on the control side no request would be answered.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        LazyLock,
        mpsc::{Sender, channel},
    },
    thread,
};

/// A descriptor that its owner drops at once and that is closed soon after, in the order of the drops.
#[derive(Debug)]
pub(super) struct Deferred(OwnedFd);

/// `None`: there was no room for one more thread, and descriptors are closed where they are dropped.
static CLOSER: LazyLock<Option<Sender<OwnedFd>>> = LazyLock::new(|| {
    let (sender, receiver) = channel::<OwnedFd>();
    let closer = thread::Builder::new().name("closer".to_owned());
    closer.spawn(move || receiver.into_iter().for_each(drop)).ok().map(|_| sender)
});

impl Deferred {
    pub(super) fn new(fd: OwnedFd) -> Self {
        // Started here, by the control side: what drops it may be a worker.
        LazyLock::force(&CLOSER);
        Self(fd)
    }
}

impl AsFd for Deferred {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        // The copy is what is closed last. Without one, or without the thread, the wait is ours.
        if let (Ok(copy), Some(closer)) = (self.0.try_clone(), &*CLOSER) {
            drop(closer.send(copy));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    #[test]
    fn what_is_dropped_is_closed_soon_after() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(Deferred::new(writer));
        // The end of the pipe comes with the last close.
        assert_eq!(File::from(reader).read(&mut [0]).unwrap(), 0);
    }
}
