//! One test body, run as root and as an ordinary user, each on a host of its own.

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use crate::{Host, Netloom, Who, needs};

/// No test may take longer: its host is then torn down under it, so that whatever it waits for fails.
const LIMIT: Duration = Duration::from_secs(180);

/// Makes `#[test]`s named `NAME::as_root` and `NAME::as_user` of functions that take a [`Netloom`].
#[macro_export]
macro_rules! for_both {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn as_root() {
                netloom_tests::run_case(concat!(module_path!(), "::as_root"), netloom_tests::Who::Root, super::$name);
            }
            #[test]
            fn as_user() {
                netloom_tests::run_case(concat!(module_path!(), "::as_user"), netloom_tests::Who::User, super::$name);
            }
        })+
    };
}

/// As [`for_both!`], for what only root can meet; it begins with the reason.
#[macro_export]
macro_rules! for_root {
    ($why:literal: $($name:ident),+ $(,)?) => {
        $(#[doc = $why]
        mod $name {
            #[test]
            fn as_root() {
                netloom_tests::run_case(concat!(module_path!(), "::as_root"), netloom_tests::Who::Root, super::$name);
            }
        })+
    };
}

/// As [`for_both!`], for what only an ordinary user can meet; it begins with the reason.
#[macro_export]
macro_rules! for_user {
    ($why:literal: $($name:ident),+ $(,)?) => {
        $(#[doc = $why]
        mod $name {
            #[test]
            fn as_user() {
                netloom_tests::run_case(concat!(module_path!(), "::as_user"), netloom_tests::Who::User, super::$name);
            }
        })+
    };
}

/// Runs `body` on a fresh host as `who`, then asserts that nothing is left; or writes down why it cannot run on this machine.
pub fn run_case(path: &str, who: Who, body: fn(&Netloom)) {
    let test = path.split_once("::").map_or(path, |(_crate, test)| test);
    if !needs::can_run(test) {
        return;
    }
    let host = Host::new(who);
    let (done, waits) = channel::<()>();
    let watchdog = {
        let killer = host.killer();
        std::thread::spawn(move || {
            if waits.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("a test may take {LIMIT:?}: its host is taken away");
                killer();
            }
        })
    };
    let netloom = Netloom::on(host);
    body(&netloom);
    netloom.leave_nothing();
    drop(done);
    watchdog.join().expect("the watchdog ends");
}

/// Runs `body` on each row of a table and fails once, naming every row that failed.
#[track_caller]
pub fn for_each_case<T: std::fmt::Debug>(cases: impl IntoIterator<Item = T>, mut body: impl FnMut(&T) -> Result<(), String>) {
    let failures: Vec<String> = cases.into_iter().filter_map(|case| body(&case).err().map(|why| format!("{case:?}: {why}"))).collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}
