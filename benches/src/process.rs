//! Programs: run to their end, or kept until a value is dropped.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{BenchError, Result};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A program in the background. Dropping it kills it by its handle and collects it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    name: String,
}

impl Process {
    /// Starts a program whose output nobody reads.
    pub fn start(command: Command) -> Result<Self> {
        Self::spawn(command, Stdio::null())
    }

    /// Starts a program whose output is for [`Process::output`].
    pub fn start_piped(command: Command) -> Result<Self> {
        Self::spawn(command, Stdio::piped())
    }

    /// Starts a program and waits for a line of its output that contains `mark`.
    pub fn start_until(command: Command, mark: &str) -> Result<Self> {
        Self::start_until_within(command, mark, READY_WITHIN).map(|(process, _)| process)
    }

    /// As [`Process::start_until`], with its own patience, and the line.
    pub fn start_until_within(command: Command, mark: &str, within: Duration) -> Result<(Self, String)> {
        let mut process = Self::spawn(command, Stdio::piped())?;
        let Some(stdout) = &mut process.stdout else { return Ok((process, String::new())) };
        let mut heard = String::new();
        let begun = Instant::now();
        loop {
            let mut line = String::new();
            if stdout.buffer().is_empty() && !has_output(stdout.get_ref(), within.saturating_sub(begun.elapsed())) {
                let (what, last) = (process.name.clone(), heard.trim().to_owned());
                return Err(BenchError::NotReady { what, seconds: within.as_secs(), last });
            }
            let read = stdout.read_line(&mut line).map_err(BenchError::io(format!("reading from {}", process.name)))?;
            if line.contains(mark) {
                return Ok((process, line));
            }
            heard.push_str(&line);
            if read == 0 {
                return Err(BenchError::Command { command: process.name.clone(), said: format!("ended early: {}", heard.trim()) });
            }
        }
    }

    fn spawn(mut command: Command, stdout: Stdio) -> Result<Self> {
        let name = words_of(&command);
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::null());
        let mut child = command.spawn().map_err(BenchError::io(name.clone()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Self { child, stdin, stdout, name })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the program's input, which tells ours to finish, and returns the rest of its output.
    pub fn finish(mut self) -> Result<String> {
        self.stdin = None;
        let mut rest = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut rest).map_err(BenchError::io(format!("reading from {}", self.name)))?;
        }
        Ok(rest)
    }

    /// Waits for the program's own end and returns the rest of its output.
    pub fn output(mut self) -> Result<String> {
        let mut rest = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut rest).map_err(BenchError::io(format!("reading from {}", self.name)))?;
        }
        let status = self.child.wait().map_err(BenchError::io(format!("waiting for {}", self.name)))?;
        if status.success() { Ok(rest) } else { Err(BenchError::Command { command: self.name.clone(), said: rest.trim().to_owned() }) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Output, or the end of it, came in time.
fn has_output(stdout: &ChildStdout, within: Duration) -> bool {
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}

/// Runs a program to its end and returns what it wrote to standard output.
pub fn run(mut command: Command) -> Result<String> {
    let name = words_of(&command);
    let out = command.stdin(Stdio::null()).output().map_err(BenchError::io(name.clone()))?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&out.stderr);
    Err(BenchError::Command { command: name, said: format!("{} {} ({})", complaint.trim(), said.trim(), out.status) })
}

/// Runs a line of words that contain no blanks.
pub fn sh(line: &str) -> Result<String> {
    run(command(line))
}

/// A command from a line of words that contain no blanks.
#[must_use]
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Where `PATH`, or the folders of the system's daemons, hold a program.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// This very binary, to be run again inside a namespace.
pub fn ourselves() -> Result<PathBuf> {
    env::current_exe().map_err(BenchError::io("finding this program's file"))
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(BenchError::io(format!("making the folder {}", path.display())))
}

fn words_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_kept_once_it_has_said_the_word() {
        let process = Process::start_until(command("echo one ready two"), "ready").unwrap();
        assert_eq!(process.output().unwrap(), "");
    }

    #[test]
    fn a_program_that_ends_before_its_word_is_an_error_with_what_it_said() {
        let error = Process::start_until(command("echo sorry"), "ready").unwrap_err().to_string();
        assert!(error.contains("ended early: sorry"), "{error}");
    }

    #[test]
    fn a_failed_command_says_which_and_why() {
        let error = sh("ls /nonexistent-folder").unwrap_err().to_string();
        assert!(error.starts_with("ls /nonexistent-folder: ") && error.contains("No such file"), "{error}");
    }
}
