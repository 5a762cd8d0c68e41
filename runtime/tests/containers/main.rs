//! Containers on a real kernel, with a daemon that is a thread of this test.
//!
//! The test becomes a supervisor or a helper when its first argument says so. As root it makes a network and a mount namespace of its
//! own, runs everything, and then once more as an ordinary user; as a user it runs everything that a user can.

mod daemon;
mod kernel;
mod lab;

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    panic,
    path::Path,
    process::{Command, ExitCode},
};

use netloom_runtime::{helper, supervisor};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::geteuid,
};

/// The ordinary user.
const USER: u32 = 1000;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == supervisor::ARGUMENT => return supervisor::main(arguments, daemon::restart),
        Some(first) if first == helper::ARGUMENT => return helper::main(),
        _ => {}
    }
    let filter: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if !geteuid().is_root() {
        return run(&filter, "user");
    }
    set_up_host();
    let as_root = run(&filter, "root");
    let as_user = Command::new("/proc/self/exe").args(&filter).uid(USER).gid(USER).env("HOME", "/nonexistent").status();
    match as_user {
        Ok(status) if status.success() => as_root,
        _ => ExitCode::FAILURE,
    }
}

fn run(filter: &[String], who: &str) -> ExitCode {
    let (mut passes, mut failed) = (0, 0);
    for (name, test) in kernel::TESTS {
        if !filter.is_empty() && !filter.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let passed = panic::catch_unwind(test).is_ok();
        println!("test {name} (as {who}) ... {}", if passed { "ok" } else { "FAILED" });
        passes += u32::from(passed);
        failed += u32::from(!passed);
    }
    // In the form of libtest, for whoever counts.
    println!("\ntest result: {}. {passes} passed; {failed} failed;", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A network of our own, and /dev/net/tun for everybody, as most systems have it.
fn set_up_host() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let dir = env::temp_dir().join(format!("netloom-tun-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let node = dir.join("tun");
    mknod(&node, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).unwrap();
    fs::set_permissions(&node, PermissionsExt::from_mode(0o666)).unwrap();
    mount(Some(&node), Path::new("/dev/net/tun"), none, MsFlags::MS_BIND, none).unwrap();
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir(&dir).unwrap();
}
