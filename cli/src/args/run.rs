//! `run` and `create`: everything a container can be told.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use clap::{ArgAction, Args};
use netloom_runtime::spec::{HostAddress, RestartPolicy, Volume};
use netloom_switch::Mac;

use crate::words::{
    container::{EnvWord, SecurityOpt, add_host, capability, env, hostname, key_value, label, restart, search_domain, security_opt},
    mount::{absolute, device, mount_target, volume},
    network::{NetWord, ip, ipv4, ipv6, mac, mtu, name},
    publish::PublishSpec,
    quantity::{PidsLimit, memory, pids, ulimit},
};

/// Run a command in a new container
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Leave it running and print its ID
    #[arg(short, long)]
    pub detach: bool,
    /// The keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = crate::session::DEFAULT_DETACH_KEYS)]
    pub detach_keys: crate::session::DetachKeys,
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// Make a container without starting it
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_help = CREATE_EXAMPLES)]
pub struct CreateArgs {
    #[command(flatten)]
    pub container: ContainerArgs,
}

#[derive(Args, Debug)]
pub struct ContainerArgs {
    /// Its name; two words are made up otherwise
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    /// Remove it when it ends
    #[arg(long)]
    pub rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Whether it comes back after its end: no, on-failure[:N] or always
    #[arg(long, value_name = "POLICY", value_parser = restart, default_value = "no", hide_default_value = true)]
    pub restart: RestartPolicy,
    /// Write its ID to a file that must not exist
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Say something about it (repeat)
    #[arg(short, long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Print help
    #[arg(long, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
    #[command(flatten)]
    pub network: NetworkOptions,
    #[command(flatten)]
    pub files: FileOptions,
    #[command(flatten)]
    pub process: ProcessOptions,
    #[command(flatten)]
    pub security: SecurityOptions,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// bridge (the default), a NETWORK, none, host, container:NAME, container:pid:PID or ns:PATH; repeat for several
    /// networks: eth0 is on the first; the long form is name=N,ip=A,ip6=A,alias=X
    #[arg(long = "network", visible_alias = "net", value_name = "MODE")]
    pub networks: Vec<NetWord>,
    /// Make a port of the container one of this machine: [HOST_IP:][HOST[-END]:]PORT[-END][/tcp|udp] (repeat)
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<PublishSpec>,
    /// Its address on the first network
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address on the first network
    #[arg(long, value_name = "ADDRESS", value_parser = ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// The MAC address of eth0
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub mac_address: Option<Mac>,
    /// The MTU of eth0, in bytes
    #[arg(long, value_name = "N", value_parser = mtu)]
    pub mtu: Option<u16>,
    /// One more name on the first network (repeat)
    #[arg(long = "network-alias", value_name = "NAME", value_parser = name)]
    pub aliases: Vec<String>,
    /// A name server in place of the gateway (repeat)
    #[arg(long, value_name = "ADDRESS", value_parser = ip)]
    pub dns: Vec<IpAddr>,
    /// A domain to search names in; `.`: none (repeat)
    #[arg(long, value_name = "DOMAIN", value_parser = search_domain)]
    pub dns_search: Vec<String>,
    /// One more line of /etc/hosts; `host-gateway` is where this machine is (repeat)
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = add_host)]
    pub add_host: Vec<(String, HostAddress)>,
    /// Let it reach what listens on this machine's loopback
    #[arg(long)]
    pub host_loopback: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Files")]
pub struct FileOptions {
    /// The root directory, in place of a copy-on-write view of this machine's
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Show a directory or file of this machine: SRC:DST[:ro]; SRC contains a / (repeat)
    #[arg(short, long = "volume", value_name = "SRC:DST", value_parser = volume)]
    pub volumes: Vec<Volume>,
    /// Let nothing be written to the root
    #[arg(long)]
    pub read_only: bool,
    /// An empty directory in memory (repeat)
    #[arg(long, value_name = "DST", value_parser = mount_target)]
    pub tmpfs: Vec<PathBuf>,
    /// A device node of this machine, such as /dev/fuse (repeat)
    #[arg(long = "device", value_name = "NODE", value_parser = device)]
    pub devices: Vec<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Process")]
pub struct ProcessOptions {
    /// The working directory
    #[arg(short, long, value_name = "DIR", value_parser = absolute)]
    pub workdir: Option<PathBuf>,
    /// An environment variable; K alone has the value it has here (repeat)
    #[arg(short, long, value_name = "K=V", value_parser = env)]
    pub env: Vec<EnvWord>,
    /// Environment variables, one a line (repeat)
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// The user: UID[:GID], or names of the container's
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// The host name; its short ID otherwise
    #[arg(short = 'h', long, value_name = "NAME", value_parser = hostname)]
    pub hostname: Option<String>,
    /// A kernel parameter of its own namespaces (repeat)
    #[arg(long = "sysctl", value_name = "K=V", value_parser = key_value)]
    pub sysctls: Vec<(String, String)>,
    /// A limit: NAME=SOFT[:HARD] (repeat)
    #[arg(long = "ulimit", value_name = "LIMIT", value_parser = ulimit)]
    pub ulimits: Vec<(String, Option<u64>, Option<u64>)>,
    /// The most processes it may have
    #[arg(long, value_name = "N", value_parser = pids, allow_negative_numbers = true)]
    pub pids_limit: Option<PidsLimit>,
    /// The most memory it may use: 64m, 1.5g
    #[arg(short, long, value_name = "BYTES", value_parser = memory)]
    pub memory: Option<u64>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Security")]
pub struct SecurityOptions {
    /// Give a capability, or ALL (repeat)
    #[arg(long, value_name = "CAP", value_parser = capability)]
    pub cap_add: Vec<String>,
    /// Take a capability away, or ALL (repeat)
    #[arg(long, value_name = "CAP", value_parser = capability)]
    pub cap_drop: Vec<String>,
    /// seccomp=unconfined or no-new-privileges=false (repeat)
    #[arg(long, value_name = "OPTION", value_parser = security_opt)]
    pub security_opt: Vec<SecurityOpt>,
    /// Take nothing away: all capabilities, no filter, kernel parameters writable
    #[arg(long)]
    pub privileged: bool,
}

const RUN_EXAMPLES: &str = "\
The container sees a copy-on-write view of this machine's own files (or --rootfs DIR), its own
processes, and an eth0 on the network `bridge`. What it writes is gone when it is removed.

The exit code is the command's own; 125 is netloom's failure, 126 a command that cannot be executed,
127 one that was not found, 128+N one that signal N ended.

EXAMPLES:
  A shell on the network `bridge`, gone afterwards:
    $ netloom run --rm -it sh
  A web server, reached on port 8080 of this machine, and one that finds it by name:
    $ netloom run -d --name web -p 8080:80 busybox httpd -f -p 80
    $ netloom run --rm busybox wget -qO- http://web/
  Another container's network, and no network at all:
    $ netloom run --rm -it --net container:web sh
    $ netloom run --rm --net none ip addr";

const CREATE_EXAMPLES: &str = "\
EXAMPLES:
  Make it now, start it later:
    $ netloom create --name web -p 8080:80 busybox httpd -f -p 80
    $ netloom start web";
