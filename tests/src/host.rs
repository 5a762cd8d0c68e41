//! A host of a test's own: namespaces that hang on one process, joined by a wire to a second network that plays the outside.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    process::{Finished, Gathered, Running, children, words},
    terminal::Terminal,
    user::Who,
    wait::{wait_for, wait_until},
};

/// The host's address on its wire.
pub const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The server's address on that wire; the host's default gateway.
pub const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Another address of the server namespace, from which clients may come.
pub const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 77);
/// An address of the server namespace that lies behind the host's gateway.
pub const FAR_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// The same of IPv6.
pub const HOST_IP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);
pub const SERVER_IP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
pub const FAR_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

/// The search path of everything that a test runs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments: the test's directory, the user's UID and GID.
const SETUP: &str = r#"
set -eu
dir=$1 uid=$2 gid=$3
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock "/run/user/$uid" && chmod 700 "/run/user/$uid" && chown "$uid:$gid" "/run/user/$uid"
mkdir "$dir/cgroup" && mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t sysfs sysfs /sys && mount --move "$dir/cgroup" /sys/fs/cgroup && rmdir "$dir/cgroup"
mkdir "$dir/dev" && mount -t tmpfs -o mode=755 tmpfs "$dir/dev"
mknod -m 666 "$dir/dev/tun" c 10 200 && mount --bind "$dir/dev/tun" /dev/net/tun
umount --lazy "$dir/dev" && rmdir "$dir/dev"
hostname testhost
ip link set lo up
ip netns add server
ip link add eth0 type veth peer name uplink0 netns server
# No address is tentative when a test begins.
sysctl -q -w net.ipv6.conf.eth0.accept_dad=0
ip addr add 10.99.0.2/24 dev eth0 && ip addr add fd99::2/64 dev eth0 nodad && ip link set eth0 up
ip -n server addr add 10.99.0.1/24 dev uplink0 && ip -n server addr add 10.99.0.77/24 dev uplink0
ip -n server addr add fd99::1/64 dev uplink0 nodad
ip -n server link set lo up && ip -n server link set uplink0 up
ip -n server addr add 203.0.113.9/32 dev lo && ip -n server addr add 2001:db8:9::9/128 dev lo nodad
# The machine's resolvers are in the world outside, where a test may answer for them.
for ip in $(sed -n 's/^nameserver  *\([0-9.]*\)$/\1/p' /etc/resolv.conf); do
  case $ip in 127.*) ;; *) ip -n server addr add "$ip/32" dev lo 2>/dev/null || true ;; esac
done
ip route add default via 10.99.0.1 && ip -6 route add default via fd99::1
for i in $(seq 100); do [ "$(cat /sys/class/net/eth0/operstate)" = up ] && break; sleep 0.02; done
echo ready
read -r _ || true
"#;

/// The backend of ports on a host, unless their network has its own: what this run of the tests is about.
pub fn backend() -> String {
    chosen_backend().unwrap_or_else(|| "tap".into())
}

/// `None`: netloom takes the one that it takes by itself.
pub(crate) fn chosen_backend() -> Option<String> {
    std::env::var("NETLOOM_TEST_BACKEND").ok().filter(|backend| !backend.is_empty())
}

/// Where on a host something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where netloom runs.
    Host,
    /// The network outside.
    Server,
}

/// A host of a test's own. It ends with this value, and everything that runs on it too.
#[derive(Debug)]
pub struct Host {
    pub who: Who,
    dir: PathBuf,
    outer: Child,
    /// Its end of file tells PID 1 that the test is gone, however it went.
    _lifeline: ChildStdin,
    init: i32,
}

impl Host {
    #[track_caller]
    pub fn new(who: Who) -> Self {
        let dir = new_directory(who);
        let (uid, gid) = who.ids().expect("the user exists");
        let mut outer = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["--", "bash", "-c", SETUP, "host"])
            .arg(&dir)
            .args([uid.to_string(), gid.to_string()])
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let errors = Gathered::from(outer.stderr.take().expect("a pipe"));
        let lifeline = outer.stdin.take().expect("a pipe");
        let mut said = String::new();
        BufReader::new(outer.stdout.take().expect("a pipe")).read_line(&mut said).expect("the host says something");
        assert_eq!(said.trim(), "ready", "the host could not be set up: {}", errors.text());
        let init = wait_for("the host's PID 1", || children(outer.id()).first().map(|pid| pid.cast_signed()));
        Self { who, dir, outer, _lifeline: lifeline, init }
    }

    /// A directory that is this test's and `who`'s, gone with the host. Containers' copy-on-write roots would show it if let.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file into the test's directory, owned by the user of this host; its path.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, content).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        self.who.own(&path);
        path
    }

    /// Makes a directory in the test's directory, owned by the user of this host; its path.
    #[track_caller]
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        self.who.own(&path);
        path
    }

    /// PID 1 of the host, as the machine sees it.
    pub(crate) fn init(&self) -> i32 {
        self.init
    }

    /// A path of the host as the test process can open it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// A command that enters the host and becomes `who` there. The caller adds the program's words.
    pub(crate) fn command(&self, place: Place, who: Who, dir: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--mount", "--uts", "--ipc", "--pid"])
            .arg(format!("--net={}", self.netns(place).display()))
            .arg("--")
            .args(who.prefix())
            .args(["env", "-C"])
            .arg(dir)
            .env_clear()
            .envs(self.environment(who));
        command
    }

    fn environment(&self, who: Who) -> Vec<(&'static str, String)> {
        let (uid, _) = who.ids().expect("the user exists");
        let usual = [
            ("PATH", PATH.into()),
            ("HOME", self.dir.display().to_string()),
            ("XDG_RUNTIME_DIR", format!("/run/user/{uid}")),
            ("XDG_STATE_HOME", self.dir.join("state-home").display().to_string()),
            ("TERM", "xterm".into()),
            ("LC_ALL", "C.UTF-8".into()),
        ];
        usual.into_iter().chain(chosen_backend().map(|backend| ("NETLOOM_BACKEND", backend))).collect()
    }

    fn netns(&self, place: Place) -> PathBuf {
        match place {
            Place::Host => PathBuf::from(format!("/proc/{}/ns/net", self.init)),
            Place::Server => self.path("/run/netns/server"),
        }
    }

    /// Starts a program on the host as root.
    #[track_caller]
    pub fn start(&self, place: Place, line: &str) -> Running {
        self.start_as(Who::Root, place, line)
    }

    /// Starts a server in the network outside; it listens at its port of [`FAR_IP`] by now.
    #[track_caller]
    pub fn serve(&self, line: &str, port: u16) -> Running {
        let server = self.start(Place::Server, line);
        wait_until("the server listens", || self.inside(Place::Server, || TcpStream::connect((FAR_IP, port)).is_ok()));
        server
    }

    #[track_caller]
    pub fn start_as(&self, who: Who, place: Place, line: &str) -> Running {
        let mut command = self.command(place, who, &self.dir);
        command.args(words(line));
        Running::start(command, line)
    }

    /// Runs a program on the host as root and gives its standard output; it must succeed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.try_run(line).exits(0).text()
    }

    #[track_caller]
    pub fn try_run(&self, line: &str) -> Finished {
        self.start(Place::Host, line).finish()
    }

    /// A terminal on which the user of this host runs a program.
    #[track_caller]
    pub fn terminal(&self, all: &[String], line: &str) -> Terminal {
        let mut command = self.command(Place::Host, self.who, &self.dir);
        // Whoever runs the tests may ignore what a terminal sends.
        command.args(["env", "--default-signal", "setsid", "--ctty"]).args(all);
        Terminal::start(self.who, command, line)
    }

    /// Does `work` on a thread of its own that has entered the network of `place`: sockets made there belong to it.
    #[track_caller]
    pub fn inside<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> T {
        let netns = File::open(self.netns(place)).expect("the network namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(netns, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
                work()
            });
            thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    /// A listener in `place`.
    #[track_caller]
    pub fn listen(&self, place: Place, address: impl Into<SocketAddr>) -> TcpListener {
        let address = address.into();
        self.inside(place, || TcpListener::bind(address)).unwrap_or_else(|why| panic!("{address}: {why}"))
    }

    /// A UDP socket in `place`.
    #[track_caller]
    pub fn udp(&self, place: Place, address: impl Into<SocketAddr>) -> UdpSocket {
        let address = address.into();
        let socket = self.inside(place, || UdpSocket::bind(address)).unwrap_or_else(|why| panic!("{address}: {why}"));
        socket.set_read_timeout(Some(crate::wait::DEADLINE)).expect("a socket takes a timeout");
        socket
    }

    /// The processes of the host besides its PID 1 and what the test entered it with: PID on the host and command line.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let Ok(list) = std::fs::read_dir(self.path("/proc")) else { return Vec::new() };
        let pids = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).filter(|pid| *pid != 1);
        pids.filter_map(|pid| {
            let stat = std::fs::read_to_string(self.path(&format!("/proc/{pid}/stat"))).ok()?;
            let (head, tail) = stat.rsplit_once(')')?;
            if tail.trim_start().starts_with('Z') {
                return None;
            }
            let line = std::fs::read(self.path(&format!("/proc/{pid}/cmdline"))).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let name = head.split_once('(').map_or("", |(_, name)| name);
            Some((pid, if line.trim().is_empty() { format!("[{name}]") } else { line.trim().to_owned() }))
        })
        .collect()
    }

    /// Sends a signal to a process by its PID on the host.
    #[track_caller]
    pub fn kill(&self, pid: i64, signal: &str) {
        self.ok(&format!("kill -{signal} {pid}"));
    }

    /// What takes this host away from another thread.
    pub(crate) fn killer(&self) -> impl FnOnce() + Send + 'static {
        let init = Pid::from_raw(self.init);
        move || {
            // An error says that it has ended already.
            let _ = kill(init, Signal::SIGKILL);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        let _ = self.outer.wait();
        if let Err(why) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {why}", self.dir.display());
        }
    }
}

/// A new directory that everybody may enter; not under /tmp, which containers do not see anyway.
fn new_directory(who: Who) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = PathBuf::from(format!("/var/tmp/netloom-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
    std::fs::create_dir(&dir).unwrap_or_else(|why| panic!("{}: {why}", dir.display()));
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a directory takes permissions");
    who.own(&dir);
    dir
}
