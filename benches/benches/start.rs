//! How long a container takes: `netloom run --rm --net=bridge true`, beside its peers where they are installed.
//!
//! Every round runs each contender once, in turn, so that a machine whose speed drifts drifts for all. All of it happens in a
//! network namespace of its own (`unshare --net`), which has only `lo`. Run as root or as a user:
//!
//! ```sh
//! cargo bench -p netloom-benches --bench start
//! ```

use std::{
    env,
    error::Error,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

const ROUNDS: usize = 21;
const WARM_UP: usize = 2;

/// One way to start `true` in isolation.
struct Contender {
    name: &'static str,
    command: Vec<String>,
    is_peer: bool,
    times: Vec<Duration>,
}

impl Contender {
    fn words(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    if env::var_os("NETLOOM_BENCH_INSIDE").is_none() {
        return in_a_namespace();
    }
    run(&["ip", "link", "set", "lo", "up"])?;
    let root = env::temp_dir().join(format!("netloom-bench-{}", std::process::id()));
    // Closed to others, as netloom wants it.
    DirBuilder::new().mode(0o700).create(&root)?;
    let result = rounds(&root);
    let _ = run(&[&netloom()?, "--root", &root.display().to_string(), "rm", "-f", "keep"]);
    std::fs::remove_dir_all(&root)?;
    result
}

/// Runs this program again where the machine's network is out of reach.
fn in_a_namespace() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("unshare");
    if !is_root() {
        return Err("run this as root: it makes a network namespace to play the host".into());
    }
    let status = command.arg("--net").arg(env::current_exe()?).env("NETLOOM_BENCH_INSIDE", "1").status()?;
    if status.success() { Ok(()) } else { Err("the run in the namespace failed".into()) }
}

fn rounds(root: &Path) -> Result<(), Box<dyn Error>> {
    let netloom = netloom()?;
    let at = root.display().to_string();
    // One container that stays keeps the daemon up, as in daily use.
    run(&[&netloom, "--root", &at, "run", "-d", "--name", "keep", "sleep", "1000"])?;
    let mut contenders = contenders(&netloom, &at);
    // A peer that is installed and cannot run here is left out, and said so.
    contenders.retain(|contender| match run(&contender.words()) {
        Err(error) if contender.is_peer => {
            eprintln!("left out: {error}");
            false
        }
        _ => true,
    });
    for round in 0..WARM_UP + ROUNDS {
        for contender in &mut contenders {
            let started = Instant::now();
            run(&contender.words())?;
            if round >= WARM_UP {
                contender.times.push(started.elapsed());
            }
        }
    }
    report(&mut contenders);
    Ok(())
}

fn contenders(netloom: &str, root: &str) -> Vec<Contender> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let mut all = vec![
        Contender {
            name: "netloom run --rm --net=bridge true",
            command: words(&format!("{netloom} --root {root} run --rm --net=bridge true")),
            is_peer: false,
            times: Vec::new(),
        },
        Contender {
            name: "namespaces alone (unshare)",
            command: words("unshare --mount --pid --uts --ipc --net --cgroup --fork true"),
            is_peer: false,
            times: Vec::new(),
        },
    ];
    if installed("podman") {
        all.push(Contender {
            name: "podman run --rm --network=none",
            command: words("podman run --rm --network=none --rootfs /:O true"),
            is_peer: true,
            times: Vec::new(),
        });
    }
    if installed("docker") && Command::new("docker").args(["image", "inspect", "busybox"]).output().is_ok_and(|out| out.status.success()) {
        all.push(Contender {
            name: "docker run --rm busybox true",
            command: words("docker run --rm busybox true"),
            is_peer: true,
            times: Vec::new(),
        });
    }
    all
}

fn report(contenders: &mut [Contender]) {
    println!("{:<40} {:>10} {:>10} {:>10}   ({ROUNDS} rounds, in turn)", "", "min ms", "median ms", "max ms");
    for contender in contenders {
        contender.times.sort_unstable();
        let at = |index: usize| contender.times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        println!("{:<40} {:>10.1} {:>10.1} {:>10.1}", contender.name, at(0), at(ROUNDS / 2), at(ROUNDS - 1));
    }
}

/// The binary that was built beside this bench.
fn netloom() -> Result<String, Box<dyn Error>> {
    let exe = env::current_exe()?;
    let path: PathBuf = exe.parent().and_then(Path::parent).ok_or("no target folder")?.join("netloom");
    if path.exists() { Ok(path.display().to_string()) } else { Err(format!("{} is missing: cargo build --release", path.display()).into()) }
}

fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let (program, arguments) = words.split_first().ok_or("an empty command")?;
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if out.status.success() { Ok(()) } else { Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&out.stderr).trim()).into()) }
}

fn installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}
