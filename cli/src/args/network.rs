//! `network` and all below it.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use netloom_runtime::spec::Backend;
use netloom_switch::Mac;

use super::format::{FormatArgs, ListArgs};
use crate::words::{
    container::{key_value, label},
    network::{GatewayWord, backend, gateway, ifname, ipv4, ipv6, mac, mtu, name, pid, subnet},
};

/// Manage networks
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network create --subnet 10.1.0.0/24 blue\n  $ netloom run --rm -it --net blue sh")]
pub struct NetworkArgs {
    #[command(subcommand)]
    pub command: NetworkCommand,
}

#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    Create(Box<CreateArgs>),
    Ls(LsArgs),
    Inspect(InspectArgs),
    Rm(RmArgs),
    Prune(PruneArgs),
    Set(SetArgs),
    Connect(ConnectArgs),
    Disconnect(DisconnectArgs),
    Attach(AttachArgs),
    Detach(DetachArgs),
    Port(PortArgs),
}

/// Make a network and print its name
#[derive(Args, Debug)]
#[command(
    after_help = "EXAMPLES:\n  $ netloom network create blue\n  $ netloom network create --subnet 10.1.0.0/24 --internal -o ageing=60s lab\n  $ netloom network create --ipv6 six"
)]
pub struct CreateArgs {
    /// Its addresses, such as 10.1.0.0/24 or fd00:1::/64, one of each IP; one that overlaps nothing is chosen otherwise
    #[arg(long = "subnet", value_name = "CIDR", value_parser = subnet)]
    pub subnets: Vec<IpNet>,
    /// IPv6 too: with a prefix of its own where --subnet names none
    #[arg(long)]
    pub ipv6: bool,
    /// The gateway's address, one of each IP, or `none`; the first of the subnet otherwise
    #[arg(long = "gateway", value_name = "ADDRESS", value_parser = gateway)]
    pub gateways: Vec<GatewayWord>,
    /// The part of the subnet that containers get addresses from, one of each IP
    #[arg(long = "ip-range", value_name = "CIDR", value_parser = subnet)]
    pub ip_ranges: Vec<IpNet>,
    /// No way out, and none in
    #[arg(long)]
    pub internal: bool,
    /// Containers reach the gateway, but not each other
    #[arg(long)]
    pub isolated: bool,
    /// The MTU of its interfaces, in bytes
    #[arg(long, value_name = "N", value_parser = mtu)]
    pub mtu: Option<u16>,
    /// What carries its frames: a TAP, or a veth pair; whatever this machine can otherwise
    #[arg(long, value_name = "tap|veth", value_parser = backend)]
    pub backend: Option<Backend>,
    /// Let its containers reach what listens on this machine's loopback
    #[arg(long)]
    pub host_loopback: bool,
    /// A setting, such as ageing=300s or fdb-max=8192 (repeat)
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// Say something about it (repeat)
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// What it is to be called
    #[arg(value_parser = name)]
    pub name: String,
}

/// List networks
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network ls\n  $ netloom network ls --format '{{.name}} {{.subnet}}'")]
pub struct LsArgs {
    #[command(flatten)]
    pub list: ListArgs,
}

/// Print all there is to know about networks
#[derive(Args, Debug)]
#[command(mut_arg("format", |arg| arg.short('f')), after_help = "EXAMPLES:\n  $ netloom network inspect bridge\n  $ netloom network inspect --format '{{.gateway}}' bridge")]
pub struct InspectArgs {
    #[command(flatten)]
    pub format: FormatArgs,
    #[arg(required = true, value_name = "NETWORK")]
    pub networks: Vec<String>,
}

/// Remove networks that no container is on
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network rm blue\n  $ netloom network rm -f blue")]
pub struct RmArgs {
    /// A network that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    pub networks: Vec<String>,
}

/// Remove every network that no container is on, but `bridge`
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network prune")]
pub struct PruneArgs {}

/// Change settings of a network while it is used
#[derive(Args, Debug)]
#[command(after_help = concat!(
    "SETTINGS, which `network create` takes by -o:\n",
    "  ageing, fdb-max                  time and number of addresses in the MAC table\n",
    "  backend                          tap, veth or auto\n",
    "  reserved-macs                    strict or transparent\n",
    "  port-security                    on or off: whether a container can use another's addresses\n",
    "  tcp-flows, tcp-half-open         connections of each container, and those of them that are being opened\n",
    "  udp-mappings, dns-queries        ports that it sends UDP from, and queries that wait for a resolver\n",
    "  udp-clients                      clients that a port published for UDP keeps\n",
    "  fragments                        packets of it that wait for the rest of their fragments\n",
    "  tcp-idle, tcp-transitory         how long a connection may be silent, and one that opens or has ended\n",
    "  udp-idle, udp-dns-idle           how long a port does, and one that only asked name servers\n",
    "\nEXAMPLES:\n  $ netloom network set bridge ageing=60s fdb-max=1024\n  $ netloom network set bridge tcp-flows=500 udp-idle=2m"
))]
pub struct SetArgs {
    pub network: String,
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
}

/// Put a container on one more network
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network connect blue web\n  $ netloom network connect --ip 10.1.0.9 --alias www blue web")]
pub struct ConnectArgs {
    /// Its address there
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long, value_name = "ADDRESS", value_parser = ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// One more name there (repeat)
    #[arg(long = "alias", value_name = "NAME", value_parser = name)]
    pub aliases: Vec<String>,
    pub network: String,
    pub container: String,
}

/// Take a container off a network
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network disconnect blue web")]
pub struct DisconnectArgs {
    pub network: String,
    pub container: String,
}

/// Put an interface of a network into a network namespace, whoever made it
///
/// It returns once the interface is up, and prints its address. The interface stays until it is detached, the process or the
/// namespace's name is gone, or --exit-fd hangs up. `lo` is set up with it, and a default route is added where there is none.
#[derive(Args, Debug)]
#[command(
    after_help = "EXAMPLES:\n  $ netloom network attach bridge --pid 4711\n  $ netloom network attach blue --netns /run/netns/lab --ifname eth1 --ip 10.1.0.9"
)]
pub struct AttachArgs {
    pub network: String,
    #[command(flatten)]
    pub target: TargetArgs,
    /// The interface's name there
    #[arg(long, value_name = "NAME", default_value = "eth0", value_parser = ifname)]
    pub ifname: String,
    /// Its address
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS", value_parser = ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// No address: it is up, and the rest is done by others
    #[arg(long, conflicts_with_all = ["ip", "ip6"])]
    pub no_ip: bool,
    /// Its MAC address
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub mac_address: Option<Mac>,
    /// Write 1 to this descriptor once frames flow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub ready_fd: Option<i32>,
    /// Detach when the other end of this descriptor, a pipe or a socket, is closed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub exit_fd: Option<i32>,
}

/// Take an interface of `network attach` away
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network detach bridge --pid 4711")]
pub struct DetachArgs {
    pub network: String,
    #[command(flatten)]
    pub target: TargetArgs,
    /// The interface's name there
    #[arg(long, value_name = "NAME", default_value = "eth0", value_parser = ifname)]
    pub ifname: String,
}

/// Whose network namespace
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// That of a process
    #[arg(long, value_name = "PID", value_parser = pid)]
    pub pid: Option<i32>,
    /// That of a namespace file, such as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
}

/// List and change the ports of a network
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network port ls blue")]
pub struct PortArgs {
    #[command(subcommand)]
    pub command: PortCommand,
}

#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// List the ports of networks and what they counted
    #[command(after_help = "EXAMPLES:\n  $ netloom network port ls blue")]
    Ls(super::look::PortsArgs),
    Set(PortSetArgs),
}

/// Change settings of one port
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n  $ netloom network port set blue 3 isolated=on\n  $ netloom network port set blue web isolated=on")]
pub struct PortSetArgs {
    pub network: String,
    /// The port's number, as `netloom ports` shows it, or the container behind it
    pub port: String,
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
}
