//! `network` and all below it.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Context, each, look, namespace, network_path};
use crate::{
    api::{ConnectNetwork, CreateNetwork, CreatedNetwork, DisconnectNetwork, Disconnected, GatewayChoice, Network, Pruned, Settings},
    args::network::{CreateArgs, InspectArgs, LsArgs, NetworkCommand, PortCommand, PortSetArgs},
    error::CliError,
    output::{self, Format},
    words::network::GatewayWord,
};

pub fn network(command: NetworkCommand, context: &Context) -> Result<(), CliError> {
    let client = &context.client;
    match command {
        NetworkCommand::Create(args) => create(*args, context),
        NetworkCommand::Ls(args) => ls(&args, context),
        NetworkCommand::Inspect(args) => inspect(&args, context),
        NetworkCommand::Rm(args) => each(&args.networks, context, |name| {
            client.delete::<Option<()>>(&format!("{}?force={}", network_path(name), args.force))?;
            Ok(Some(name.to_owned()))
        }),
        NetworkCommand::Prune(_) => {
            let pruned: Pruned = client.post("/v1/networks/prune", &())?;
            output::lines(&pruned.networks)
        }
        NetworkCommand::Set(args) => {
            let settings = settings(args.settings)?;
            client.patch::<serde::de::IgnoredAny>(&network_path(&args.network), &settings).map(|_| ())
        }
        NetworkCommand::Connect(args) => {
            let body = ConnectNetwork { container: args.container, ip: args.ip, ip6: args.ip6, aliases: args.aliases };
            client.post::<Option<()>>(&format!("{}/connect", network_path(&args.network)), &body).map(|_| ())
        }
        NetworkCommand::Disconnect(args) => {
            let body = DisconnectNetwork { container: args.container };
            let done: Disconnected = client.post(&format!("{}/disconnect", network_path(&args.network)), &body)?;
            tell(&done.notes);
            Ok(())
        }
        NetworkCommand::Attach(args) => namespace::attach(args, context),
        NetworkCommand::Detach(args) => namespace::detach(args, context),
        NetworkCommand::Port(args) => match args.command {
            PortCommand::Ls(args) => look::ports(&args, context),
            PortCommand::Set(args) => port_set(args, context),
        },
    }
}

/// Says what people should know, beside what was asked for.
fn tell(notes: &[String]) {
    notes.iter().for_each(|note| output::aside(format_args!("netloom: {note}\n")));
}

fn create(args: CreateArgs, context: &Context) -> Result<(), CliError> {
    let backend = args.backend.map(|backend| ("backend".to_owned(), backend.name().to_owned())).into_iter();
    let (subnet, subnet6) = one_of_each("--subnet", args.subnets, of_family)?;
    let (ip_range, ip_range6) = one_of_each("--ip-range", args.ip_ranges, of_family)?;
    let (gateway, gateway6) = one_of_each("--gateway", args.gateways, |word| match word {
        GatewayWord::None => Either::Left(GatewayChoice::None),
        GatewayWord::At(IpAddr::V4(address)) => Either::Left(GatewayChoice::Address(address)),
        GatewayWord::At(IpAddr::V6(address)) => Either::Right(address),
    })?;
    let body = CreateNetwork {
        name: args.name,
        subnet,
        gateway: gateway.unwrap_or_default(),
        ipv6: args.ipv6 || subnet6.is_some() || gateway6.is_some() || ip_range6.is_some(),
        subnet6,
        gateway6,
        ip_range,
        ip_range6,
        internal: args.internal,
        isolated: args.isolated,
        mtu: args.mtu,
        host_loopback: args.host_loopback,
        labels: args.labels.into_iter().collect(),
        options: settings(backend.chain(args.options).collect())?,
    };
    let created: CreatedNetwork = context.client.post("/v1/networks", &body)?;
    tell(&created.notes);
    output::line(&created.network.name)
}

fn ls(args: &LsArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Network>(&args.list.format)?;
    let networks: Vec<Network> = context.client.get("/v1/networks")?;
    output::list(&networks, &format, &args.list)
}

/// What was found is printed even if a name is missing; the exit code is 1 then.
fn inspect(args: &InspectArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Network>(&args.format)?;
    let mut found: Vec<Network> = Vec::new();
    let outcome = each(&args.networks, context, |name| {
        found.push(context.client.get(&network_path(name))?);
        Ok(None)
    });
    output::all(&found, &format)?;
    outcome
}

fn port_set(args: PortSetArgs, context: &Context) -> Result<(), CliError> {
    let port = port_number(&args.network, &args.port, context)?;
    let path = format!("{}/ports/{port}", network_path(&args.network));
    context.client.patch::<serde::de::IgnoredAny>(&path, &settings(args.settings)?).map(|_| ())
}

/// The port of a network that a word means: its number, or the container behind it.
pub(super) fn port_number(network: &str, word: &str, context: &Context) -> Result<u16, CliError> {
    word.parse().or_else(|_| port_of(network, word, context))
}

/// The port that a container has on a network.
fn port_of(network: &str, container: &str, context: &Context) -> Result<u16, CliError> {
    let network: Network = context.client.get(&network_path(network))?;
    let container = context.container(container)?;
    network.containers.get(&container.id).map(|member| member.port_id).ok_or_else(|| {
        CliError::failed(format!("container `{}` has no port on network `{}`", container.name, network.name))
            .with_hint("it has one while it runs on that network: see `netloom network port ls`")
    })
}

enum Either<A, B> {
    Left(A),
    Right(B),
}

fn of_family(net: IpNet) -> Either<Ipv4Net, Ipv6Net> {
    match net {
        IpNet::V4(net) => Either::Left(net),
        IpNet::V6(net) => Either::Right(net),
    }
}

/// At most one word of each IP.
fn one_of_each<T, A, B>(option: &str, words: Vec<T>, which: impl Fn(T) -> Either<A, B>) -> Result<(Option<A>, Option<B>), CliError> {
    let (mut left, mut right) = (None, None);
    for word in words {
        let twice = match which(word) {
            Either::Left(value) => left.replace(value).is_some(),
            Either::Right(value) => right.replace(value).is_some(),
        };
        if twice {
            return Err(CliError::usage(format!("`{option}` is said twice")).with_hint("say it once for IPv4 and once for IPv6"));
        }
    }
    Ok((left, right))
}

/// A key that stands twice is a slip that nobody should have to find.
fn settings(words: Vec<(String, String)>) -> Result<Settings, CliError> {
    let mut settings = Settings::new();
    for (key, value) in words {
        if settings.insert(key.clone(), value).is_some() {
            return Err(CliError::usage(format!("the setting `{key}` stands twice")));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_stands_twice_is_refused() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(settings(vec![pair("a", "1"), pair("b", "2")]).map(|settings| settings.len()), Ok(2));
        let error = settings(vec![pair("a", "1"), pair("a", "2")]).expect_err("twice");
        assert_eq!((error.message.as_str(), error.exit_code), ("the setting `a` stands twice", 2));
    }
}
