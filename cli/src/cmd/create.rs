//! From the words of `run` and `create` to a container's specification, and the container on the daemon's books.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use netloom_runtime::spec::{
    ContainerSpec, HostAddress, LimitSpec, NetworkMode, NetworkRequest, NetworkSpec, ProcessSpec, Publication, RestartPolicy, RootSpec,
    SecuritySpec,
};

use super::{Context, container_path, supervisor};
use crate::{
    api::{CreateContainer, Created},
    args::run::{ContainerArgs, CreateArgs, FileOptions, NetworkOptions, ProcessOptions, SecurityOptions},
    error::CliError,
    output,
    words::{
        container::{EnvWord, SecurityOpt, env_file},
        network::NetWord,
    },
};

/// `create`: the container is made and its supervisor waits.
pub fn create(args: CreateArgs, context: &Context) -> Result<(), CliError> {
    let auto_remove = args.container.rm;
    let created = record(args.container, context)?;
    if let Err(error) = supervisor::spawn(&created.id, context) {
        if auto_remove {
            forget(&created.id, context);
        }
        return Err(error);
    }
    output::line(&created.id)
}

/// Puts a container on the daemon's books, and its ID into the `--cidfile`.
pub fn record(args: ContainerArgs, context: &Context) -> Result<Created, CliError> {
    let cidfile = args.cidfile.clone();
    let request = CreateContainer { name: args.name.clone(), spec: specification(args)? };
    let file = cidfile.as_deref().map(open_cidfile).transpose()?;
    let created: Result<Created, CliError> = context.client.post("/v1/containers", &request);
    match (&created, file, &cidfile) {
        (Ok(created), Some(mut file), Some(path)) => {
            file.write_all(created.id.as_bytes()).map_err(|error| CliError::io(format!("cannot write `{}`", path.display()), &error))?;
        }
        (Err(_), Some(_), Some(path)) => {
            // It was made a moment ago and is empty.
            let _ = std::fs::remove_file(path);
        }
        _ => {}
    }
    created
}

/// Takes a container off the books that came to nothing.
pub fn forget(id: &str, context: &Context) {
    // The daemon may have done it already; the failure that led here is what people want to read.
    let _: Result<Option<()>, _> = context.client.delete(&format!("{}?force=true", container_path(id)));
}

fn open_cidfile(path: &Path) -> Result<File, CliError> {
    File::options().write(true).create_new(true).open(path).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::AlreadyExists => "another container may have it: remove the file or name another",
            ErrorKind::NotFound => "make its directory first, or name another file",
            _ => "name a file that can be made here",
        };
        CliError::io(format!("cannot make the ID file `{}`", path.display()), &error).with_hint(hint)
    })
}

fn specification(args: ContainerArgs) -> Result<ContainerSpec, CliError> {
    if args.rm && args.restart != RestartPolicy::No {
        return Err(CliError::usage("`--rm` and `--restart` exclude each other").with_hint("leave out one of them"));
    }
    let network = network(args.network, &args.process)?;
    let limits = LimitSpec {
        ulimits: args.process.ulimits.clone(),
        pids: args.process.pids_limit.and_then(|limit| limit.0),
        memory: args.process.memory,
    };
    Ok(ContainerSpec {
        command: args.command,
        hostname: args.process.hostname.clone(),
        sysctls: args.process.sysctls.clone(),
        process: process(args.process)?,
        tty: args.tty,
        interactive: args.interactive,
        auto_remove: args.rm,
        restart: args.restart,
        labels: args.labels.into_iter().collect(),
        network,
        root: root(args.files)?,
        security: security(args.security),
        limits,
    })
}

fn process(options: ProcessOptions) -> Result<ProcessSpec, CliError> {
    Ok(ProcessSpec {
        env: environment(&options.env_file, options.env)?,
        workdir: options.workdir,
        user: options.user.filter(|user| !user.is_empty()),
        umask: umask(),
    })
}

/// The lines of the files, then the words of `-e`: later ones win.
pub fn environment(files: &[PathBuf], words: Vec<EnvWord>) -> Result<Vec<String>, CliError> {
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| CliError::io(format!("cannot read `{}`", path.display()), &error))?;
        all.extend(env_file(&text).map_err(|error| CliError::usage(format!("`{}`: {error}", path.display())))?);
    }
    all.extend(words);
    let mut variables: BTreeMap<String, usize> = BTreeMap::new();
    let mut env: Vec<String> = Vec::new();
    for word in all {
        let variable = match word {
            EnvWord::Set(word) => word,
            EnvWord::Inherit(key) => match std::env::var(&key) {
                Ok(value) => format!("{key}={value}"),
                Err(_) => continue,
            },
        };
        let key = variable.split('=').next().unwrap_or_default().to_owned();
        match variables.get(&key).and_then(|at| env.get_mut(*at)) {
            Some(earlier) => *earlier = variable,
            None => {
                variables.insert(key, env.len());
                env.push(variable);
            }
        }
    }
    Ok(env)
}

/// This process's own. It can only be read by setting it, which nobody notices here: there is one thread.
pub fn umask() -> u32 {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    mask.bits()
}

fn root(files: FileOptions) -> Result<RootSpec, CliError> {
    let here =
        |path: PathBuf| std::path::absolute(&path).map_err(|error| CliError::io(format!("cannot find `{}`", path.display()), &error));
    let mut volumes = files.volumes;
    for volume in &mut volumes {
        volume.source = here(std::mem::take(&mut volume.source))?;
    }
    Ok(RootSpec {
        rootfs: files.rootfs.map(directory).transpose()?,
        read_only: files.read_only,
        volumes,
        tmpfs: files.tmpfs,
        devices: files.devices,
    })
}

fn directory(path: PathBuf) -> Result<PathBuf, CliError> {
    let found = path.canonicalize().map_err(|error| CliError::io(format!("`--rootfs`: cannot open `{}`", path.display()), &error))?;
    if found.is_dir() { Ok(found) } else { Err(CliError::usage(format!("`--rootfs`: `{}` is not a directory", path.display()))) }
}

fn security(options: SecurityOptions) -> SecuritySpec {
    let mut spec = SecuritySpec {
        cap_add: options.cap_add,
        cap_drop: options.cap_drop,
        privileged: options.privileged,
        seccomp_unconfined: false,
        no_new_privileges: true,
    };
    for option in options.security_opt {
        match option {
            SecurityOpt::SeccompUnconfined => spec.seccomp_unconfined = true,
            SecurityOpt::NoNewPrivileges(on) => spec.no_new_privileges = on,
        }
    }
    spec
}

fn network(options: NetworkOptions, process: &ProcessOptions) -> Result<NetworkSpec, CliError> {
    let mode = mode(&options.networks)?;
    refuse(&mode, &options, process)?;
    let publish = publications(&options)?;
    let networks = if mode == NetworkMode::Bridge { requests(&options)? } else { Vec::new() };
    Ok(NetworkSpec {
        mode,
        networks,
        publish,
        dns: options.dns,
        dns_search: options.dns_search,
        add_host: options.add_host,
        host_loopback: options.host_loopback,
    })
}

fn mode(words: &[NetWord]) -> Result<NetworkMode, CliError> {
    match words {
        [NetWord::Mode(mode)] => Ok(mode.clone()),
        words if words.iter().all(|word| matches!(word, NetWord::Network(_))) => Ok(NetworkMode::Bridge),
        _ => Err(CliError::usage("`--network`: none, host, container: and ns: stand alone")
            .with_hint("several networks may be named, but only networks of `netloom network ls`")),
    }
}

/// Modes without a network of ours refuse what only such a network can do, by name.
fn refuse(mode: &NetworkMode, options: &NetworkOptions, process: &ProcessOptions) -> Result<(), CliError> {
    let (name, why, shared) = match mode {
        NetworkMode::Bridge => return Ok(()),
        NetworkMode::None => ("none", "has no interface", false),
        NetworkMode::Host => ("host", "is this machine's own network", true),
        NetworkMode::Container { .. } | NetworkMode::Pid { .. } => ("container", "is another container's network", true),
        NetworkMode::Path { .. } => ("ns", "is a network of others", true),
    };
    let names_host = options.add_host.iter().any(|(_, address)| *address == HostAddress::Gateway);
    let net_sysctl = process.sysctls.iter().any(|(key, _)| key.starts_with("net.") || key.starts_with("net/"));
    let refused = [
        ("-p", !options.publish.is_empty()),
        ("--ip", options.ip.is_some()),
        ("--ip6", options.ip6.is_some()),
        ("--mac-address", options.mac_address.is_some()),
        ("--mtu", options.mtu.is_some()),
        ("--network-alias", !options.aliases.is_empty()),
        ("--host-loopback", options.host_loopback),
        ("--dns", shared && !options.dns.is_empty()),
        ("--dns-search", mode.has_hosts_resolver() && !options.dns_search.is_empty()),
        ("--add-host NAME:host-gateway", !mode.knows_host() && names_host),
        ("--sysctl net.*", shared && net_sysctl),
    ];
    match refused.iter().find(|(_, said)| *said) {
        None => Ok(()),
        Some((option, _)) => Err(CliError::usage(format!("`{option}` does not go with the network mode `{name}`, which {why}"))
            .with_hint(format!("leave out `{option}`, or choose a network of `netloom network ls`"))),
    }
}

fn publications(options: &NetworkOptions) -> Result<Vec<Publication>, CliError> {
    let all: Vec<Publication> = options.publish.iter().flat_map(|spec| spec.0.iter().cloned()).collect();
    let mut taken = BTreeSet::new();
    for publication in all.iter().filter(|publication| publication.host_port != 0) {
        if !taken.insert((publication.host_ip, publication.host_port, publication.protocol)) {
            let port = publication.host_port;
            return Err(CliError::usage(format!("`--publish`: port {port} of this machine stands twice")));
        }
    }
    Ok(all)
}

/// The networks asked for, `bridge` if none was; `--ip` and its like are about the first.
fn requests(options: &NetworkOptions) -> Result<Vec<NetworkRequest>, CliError> {
    let mut requests: Vec<NetworkRequest> = options
        .networks
        .iter()
        .filter_map(|word| match word {
            NetWord::Network(request) => Some(request.clone()),
            NetWord::Mode(_) => None,
        })
        .collect();
    if requests.is_empty() {
        requests.push(NetworkRequest { network: "bridge".into(), ..NetworkRequest::default() });
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = requests.iter().find(|request| !names.insert(request.network.as_str())) {
        return Err(CliError::usage(format!("`--network`: `{}` stands twice", twice.network)).with_hint("name each network once"));
    }
    if let Some(first) = requests.first_mut() {
        once("--ip", &mut first.ip, options.ip)?;
        once("--ip6", &mut first.ip6, options.ip6)?;
        once("--mac-address", &mut first.mac, options.mac_address)?;
        once("--mtu", &mut first.mtu, options.mtu)?;
        first.aliases.extend(options.aliases.iter().cloned());
    }
    Ok(requests)
}

fn once<T>(option: &str, slot: &mut Option<T>, said: Option<T>) -> Result<(), CliError> {
    match (slot.is_some(), said) {
        (true, Some(_)) => Err(CliError::usage(format!("`{option}` is said twice: by itself and in `--network name=…`"))),
        (false, Some(value)) => {
            *slot = Some(value);
            Ok(())
        }
        (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
