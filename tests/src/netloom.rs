//! The built binary on a host of the test's own, with a root of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::Value;

use crate::{
    host::{Host, Place},
    process::{Finished, Running, words},
    snapshot::Snapshot,
    terminal::Terminal,
    user::Who,
    wait::DEADLINE,
    wait_until,
};

/// One instance of netloom: one root on one host, used by the host's user.
#[derive(Debug)]
pub struct Netloom {
    pub host: Arc<Host>,
    root: PathBuf,
    before: Snapshot,
    /// Beside what the host's user has.
    environment: Vec<(String, String)>,
}

impl Netloom {
    /// Installs the binary on `host`; its root is made by its first command.
    #[track_caller]
    pub fn on(host: Host) -> Self {
        install(&host);
        let before = Snapshot::of(&host);
        Self { root: host.dir().join("root"), host: Arc::new(host), before, environment: Vec::new() }
    }

    /// Another instance on the same host, with a root of its own.
    pub fn beside(&self, name: &str) -> Self {
        self.again(self.host.dir().join(name), &[])
    }

    /// The same instance, whose commands have this in their environment, and so has what they start.
    pub fn with(&self, environment: &[(&str, &str)]) -> Self {
        self.again(self.root.clone(), environment)
    }

    fn again(&self, root: PathBuf, environment: &[(&str, &str)]) -> Self {
        let added = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let environment = self.environment.iter().cloned().chain(added).collect();
        Self { host: self.host.clone(), root, before: self.before.clone(), environment }
    }

    /// The same instance on a machine that lacks these features (the words of NETLOOM_TEST_OFF).
    pub fn without(&self, features: &str) -> Self {
        self.with(&[("NETLOOM_TEST_OFF", features)])
    }

    pub fn who(&self) -> Who {
        self.host.who
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The words of a netloom command on this instance.
    pub fn words(&self, line: &str) -> Vec<String> {
        let mut all = vec![binary_on(&self.host).display().to_string(), "--root".into(), self.root.display().to_string()];
        all.extend(words(line));
        all
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.host.command(Place::Host, self.who(), self.host.dir());
        command.args(self.words(line)).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts `netloom LINE` and leaves it running.
    #[track_caller]
    pub fn start(&self, line: &str) -> Running {
        Running::start(self.command(line), &format!("netloom {line}"))
    }

    /// Runs `netloom LINE` to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Finished {
        self.start(line).finish_within(DEADLINE * 2)
    }

    /// Runs `netloom LINE` to its end with its standard output to a file.
    #[track_caller]
    pub fn run_to(&self, file: &str, line: &str) -> Finished {
        let mut command = self.host.command(Place::Host, self.who(), self.host.dir());
        command.args(["sh", "-c", &format!("exec \"$@\" >{file}"), "sh"]).args(self.words(line));
        Running::start(command, &format!("netloom {line} >{file}")).finish_within(DEADLINE * 2)
    }

    /// Runs `netloom LINE` with `input` on its standard input.
    #[track_caller]
    pub fn run_with_input(&self, line: &str, input: impl Into<Vec<u8>>) -> Finished {
        let mut running = self.start(line);
        running.feed(input.into());
        running.finish_within(DEADLINE * 2)
    }

    /// Runs `netloom LINE`, which must succeed; its standard output without white space at the end.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.run(line).exits(0).text()
    }

    /// Runs `script` by python in a container of its own.
    #[track_caller]
    pub fn python(&self, options: &str, script: &str) -> Finished {
        let file = self.host.write("script.py", script);
        self.run(&format!("run --rm {options} -v {}:/script.py:ro python3 /script.py", file.display()))
    }

    /// Runs `netloom LINE`, which must exit with `code`; its standard error.
    #[track_caller]
    pub fn fails(&self, line: &str, code: i32) -> String {
        self.run(line).exits(code).stderr
    }

    /// Runs `netloom LINE`, which must succeed and print one JSON value.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let text = self.ok(line);
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("`netloom {line}` printed no JSON ({why}):\n{text}"))
    }

    /// Runs `netloom LINE` on a terminal.
    #[track_caller]
    pub fn terminal(&self, line: &str) -> Terminal {
        self.host.terminal(&self.words(line), &format!("netloom {line}"))
    }

    /// What `inspect` says of one container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.json(&format!("inspect {container}"))[0].clone()
    }

    /// A container's address on its first network in alphabetical order.
    #[track_caller]
    pub fn ip(&self, container: &str) -> String {
        let container = self.inspect(container);
        let network = container["networks"].as_object().and_then(|networks| networks.values().next());
        network.and_then(|network| network["ip_address"].as_str()).unwrap_or_else(|| panic!("no address in {container:#}")).to_owned()
    }

    /// A container's state.
    #[track_caller]
    pub fn state(&self, container: &str) -> String {
        at(&self.inspect(container), "state")
    }

    /// The PID of a container's PID 1 on the host.
    #[track_caller]
    pub fn pid(&self, container: &str) -> i64 {
        let container = self.inspect(container);
        container["pid"].as_i64().unwrap_or_else(|| panic!("no pid in {container:#}"))
    }

    /// The PID of a container's supervisor on the host.
    #[track_caller]
    pub fn supervisor(&self, container: &str) -> i64 {
        let id = at(&self.inspect(container), "id");
        let found = self.host.processes().into_iter().find(|(_, line)| line.contains("__supervisor") && line.contains(&id));
        found.unwrap_or_else(|| panic!("`{container}` has no supervisor")).0.into()
    }

    /// The PID of the daemon on the host; starts one where none runs.
    #[track_caller]
    pub fn daemon(&self) -> i64 {
        let pid = || {
            // `version` starts none, and one that just answered may be on its way out.
            self.ok("ps -q");
            self.json("version --format json")["daemon"]["pid"].as_i64()
        };
        let mut found = None;
        wait_until("a daemon answers", || {
            found = pid();
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Removes every container.
    #[track_caller]
    pub fn remove_all(&self) {
        let all = self.ok("ps -a -q");
        if !all.is_empty() {
            self.ok(&format!("rm -f {}", all.replace('\n', " ")));
        }
    }

    /// Removes every container, ends the daemon, and asserts that the host is as it was before the first command.
    #[track_caller]
    pub fn leave_nothing(&self) {
        if self.root.exists() {
            self.remove_all();
            // It would end by itself, some seconds later.
            self.host.kill(self.daemon(), "TERM");
        }
        self.expect_nothing_left();
    }

    /// Waits until the host is as it was before the first command.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        let end = std::time::Instant::now() + DEADLINE;
        loop {
            let changes = Snapshot::of(&self.host).changes_since(&self.before);
            if changes.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < end, "the host is not as it was:\n{}", changes.join("\n"));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Netloom {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- processes of the host\n{:#?}", self.host.processes());
            for log in logs(&self.root) {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                eprintln!("--- the end of {}\n{}", log.display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

/// The text of a JSON value at a path such as `networks.bridge.ip_address`.
#[track_caller]
pub fn at(value: &Value, path: &str) -> String {
    let found = value.pointer(&format!("/{}", path.replace('.', "/")));
    match found.unwrap_or_else(|| panic!("no {path} in {value:#}")) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The log files right under a root.
fn logs(root: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(root) else { return Vec::new() };
    list.filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "log") && path.is_file())
        .collect()
}

/// Where the binary lies on a host.
pub(crate) fn binary_on(host: &Host) -> PathBuf {
    host.dir().join("bin/netloom")
}

/// Puts the binary where an ordinary user can reach it, wherever the sources lie.
#[track_caller]
pub(crate) fn install(host: &Host) {
    let test = std::env::current_exe().expect("the test knows itself");
    let built = test.ancestors().nth(2).expect("deps lies in the profile's directory").join("netloom");
    assert!(built.is_file(), "{} is missing: `cargo build --release` makes it", built.display());
    let target = host.make_dir("bin").join("netloom");
    if std::fs::hard_link(&built, &target).is_err() {
        std::fs::copy(&built, &target).unwrap_or_else(|why| panic!("{}: {why}", target.display()));
    }
}
