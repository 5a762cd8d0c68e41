//! rtnetlink from a process with one thread, in its own network namespace.

use rtnetlink::Handle;

use crate::fault::{Doing, Fault, Result};

/// Does `work` over a netlink socket of the caller's network namespace.
pub(crate) fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().doing("start netlink")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().doing("open a netlink socket")?;
        let connection = tokio::spawn(connection);
        let done = work(handle).await;
        connection.abort();
        done
    })
}

/// The fault of a request that the kernel refused; `what` was asked for.
pub(crate) fn refused(what: impl Into<String>, error: rtnetlink::Error) -> Fault {
    let what = what.into();
    match error {
        rtnetlink::Error::NetlinkError(message) => Fault::system(what, message.to_io()),
        other => Fault::Refused { message: format!("cannot {what}: {other}"), hint: None },
    }
}
