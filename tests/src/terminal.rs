//! A person at a terminal: a pseudo-terminal whose other end a program has as its controlling terminal.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    unistd::{fchown, ttyname},
};

use crate::{
    process::{Gathered, code, find},
    user::Who,
    wait::DEADLINE,
};

/// A session: what is typed, what appears, and the program's end.
#[derive(Debug)]
pub struct Terminal {
    line: String,
    keyboard: File,
    screen: Gathered,
    /// Everything before this offset has been asserted on.
    read: usize,
    device: OwnedFd,
    child: Child,
}

impl Terminal {
    /// Starts `command`, which must end in the program's words, on a terminal of 24 lines and 80 columns that belongs to `who`.
    #[track_caller]
    pub(crate) fn start(who: Who, mut command: Command, line: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a pseudo-terminal");
        let (uid, gid) = who.ids().expect("the user exists");
        fchown(&pty.slave, Some(uid), Some(gid)).expect("the terminal changes hands");
        let end = || pty.slave.try_clone().expect("a descriptor");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        let child = child.unwrap_or_else(|why| panic!("cannot start `{line}`: {why}"));
        let keyboard = File::from(pty.master);
        let screen = Gathered::from(keyboard.try_clone().expect("a descriptor"));
        Self { line: line.into(), keyboard, screen, read: 0, device: pty.slave, child }
    }

    /// Types `keys`; `\r` is Enter, `\x03` Ctrl-C.
    #[track_caller]
    pub fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap_or_else(|why| panic!("typing into `{}`: {why}", self.line));
    }

    /// Waits until `text` appears after what was expected before; gives what came in between.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let from = self.read;
        let at = self.screen.wait(DEADLINE, |bytes| find(&bytes[from..], text.as_bytes()));
        let bytes = self.screen.bytes();
        let Some(at) = at else {
            panic!("`{text}` never appeared on the terminal of `{}`; since then:\n{}", self.line, String::from_utf8_lossy(&bytes[from..]));
        };
        self.read = from + at + text.len();
        String::from_utf8_lossy(&bytes[from..from + at]).into_owned()
    }

    /// Waits until a line begins with `prompt`, stands alone at the end of the screen and nothing follows; gives what came before it.
    #[track_caller]
    pub fn expect_prompt(&mut self, prompt: char) -> String {
        let from = self.read;
        let end = format!("{prompt} ");
        let at = self.screen.wait(DEADLINE, |bytes| {
            let head = bytes[from..].strip_suffix(end.as_bytes())?;
            (head.is_empty() || head.ends_with(b"\n")).then_some(head.len())
        });
        let bytes = self.screen.bytes();
        let Some(at) = at else {
            panic!("no `{end}` on the terminal of `{}`; since the last one:\n{}", self.line, String::from_utf8_lossy(&bytes[from..]));
        };
        self.read = from + at + end.len();
        String::from_utf8_lossy(&bytes[from..from + at]).replace('\r', "")
    }

    /// Types a command line into a shell and waits for `answer`, which must not stand in the line itself: the echo shows that.
    #[track_caller]
    pub fn ask(&mut self, line: &str, answer: &str) {
        assert!(!line.contains(answer), "`{answer}` would be found in the echo of `{line}`");
        self.send(&format!("{line}\r"));
        self.expect(answer);
    }

    /// Changes the window's size; the kernel sends SIGWINCH to whoever is in front. stty sets one after the other: who sees the new rows
    /// sees the new columns.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let status = Command::new("stty").arg("-F").arg(self.path()).args(["cols", &columns, "rows", &rows]).status();
        assert!(status.expect("stty runs").success(), "the terminal takes a new size");
    }

    /// The line discipline's settings, as `stty -g` writes them.
    #[track_caller]
    pub fn settings(&self) -> String {
        let out = Command::new("stty").arg("-F").arg(self.path()).arg("-g").output().expect("stty runs");
        String::from_utf8(out.stdout).expect("stty writes text")
    }

    fn path(&self) -> std::path::PathBuf {
        ttyname(self.device.as_fd()).expect("a terminal has a name")
    }

    /// Waits for the program's end; its exit code, 128 + N for signal N.
    #[track_caller]
    pub fn finish(mut self) -> i32 {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return code(status);
            }
            assert!(Instant::now() < end, "`{}` did not end; its terminal shows:\n{}", self.line, self.screen.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
