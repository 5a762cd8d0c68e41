//! The files of ours over /etc/hosts, /etc/hostname and /etc/resolv.conf.

use std::{
    fmt::Write,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{beneath, mount};
use crate::{
    fault::{Doing, Result},
    spec::Plan,
};

const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// What the files say for one start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) hosts: String,
    pub(crate) hostname: String,
    pub(crate) resolv_conf: String,
}

impl Contents {
    /// `host_hosts`: the host's own lines, for a container in the host's network. Where names are looked for is as on the host, unless
    /// the plan says otherwise: they are asked of the host's resolvers in the end.
    pub(crate) fn new(plan: &Plan, hostname: &str, host_hosts: Option<String>, host_resolv_conf: String) -> Self {
        let hosts = host_hosts.unwrap_or_else(|| {
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n".to_owned()
        });
        let of_host = || search_of(&host_resolv_conf);
        let mut search = if plan.search.is_empty() { of_host() } else { plan.search.iter().map(String::as_str).collect() };
        // The root: a way to say that there is nothing to search, which not every C library takes.
        search.retain(|domain| *domain != ".");
        let resolv_conf = if plan.nameservers.is_empty() { host_resolv_conf.clone() } else { resolv_conf(&plan.nameservers, &search) };
        let mut contents = Self { hosts, hostname: format!("{hostname}\n"), resolv_conf };
        for (address, names) in &plan.hosts {
            let _ = writeln!(contents.hosts, "{address}\t{}", names.join(" "));
        }
        contents
    }

    /// Writes them in place: the container's mounts keep showing them.
    pub(crate) fn write(&self, base: &Path) -> Result<()> {
        for (name, text) in NAMES.iter().zip([&self.hosts, &self.hostname, &self.resolv_conf]) {
            fs::write(path(base, name), text).doing(format_args!("write /etc/{name}"))?;
        }
        Ok(())
    }
}

/// The search list of a resolv.conf(5): the last line that has one counts.
fn search_of(text: &str) -> Vec<&str> {
    let mut lists = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("search").or_else(|| line.strip_prefix("domain"))?;
        rest.starts_with([' ', '\t']).then_some(rest)
    });
    lists.next_back().map(|list| list.split_whitespace().collect()).unwrap_or_default()
}

fn resolv_conf(nameservers: &[IpAddr], search: &[&str]) -> String {
    let mut text: String = nameservers.iter().map(|address| format!("nameserver {address}\n")).collect();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    text
}

fn path(base: &Path, name: &str) -> PathBuf {
    base.join("files").join(name)
}

/// Makes the files, empty, and binds them over those of the new root.
pub(super) fn bind_over(base: &Path, root: &Path) -> Result<()> {
    for name in NAMES {
        let ours = path(base, name);
        fs::write(&ours, "")
            .and_then(|()| fs::set_permissions(&ours, PermissionsExt::from_mode(0o644)))
            .doing(format_args!("make /etc/{name}"))?;
        let theirs = beneath::file(root, &Path::new("/etc").join(name)).doing(format_args!("make /etc/{name}"))?;
        mount::bind(&ours, &theirs, false)?;
        mount::restrict(&theirs, mount::NO_DEVICES, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_names_and_servers_are_written_and_the_hosts_file_is_the_fallback() {
        let mut plan = Plan {
            attachments: Vec::new(),
            join_pid: None,
            nameservers: vec!["172.17.0.1".parse().unwrap()],
            search: vec!["lab".to_owned()],
            hosts: vec![("172.17.0.2".parse().unwrap(), vec!["web".to_owned(), "www".to_owned()])],
            publishes: true,
        };
        let contents = Contents::new(&plan, "web", None, "host".to_owned());
        assert!(contents.hosts.starts_with("127.0.0.1\tlocalhost\n") && contents.hosts.ends_with("172.17.0.2\tweb www\n"));
        assert_eq!(contents.resolv_conf, "nameserver 172.17.0.1\nsearch lab\n");
        let host = "search old.test\nsearch corp.test\thome.test\nsearches no.test\nnameserver 192.0.2.1\n";
        assert_eq!(Contents::new(&plan, "web", None, host.to_owned()).resolv_conf, "nameserver 172.17.0.1\nsearch lab\n");
        plan.search = vec![".".to_owned()];
        assert_eq!(Contents::new(&plan, "web", None, host.to_owned()).resolv_conf, "nameserver 172.17.0.1\n");
        plan.search.clear();
        assert_eq!(Contents::new(&plan, "web", None, "search .\n".to_owned()).resolv_conf, "nameserver 172.17.0.1\n");
        let inherited = Contents::new(&plan, "web", None, host.to_owned()).resolv_conf;
        assert_eq!(inherited, "nameserver 172.17.0.1\nsearch corp.test home.test\n");
        plan.nameservers.clear();
        assert_eq!(Contents::new(&plan, "web", None, "host".to_owned()).resolv_conf, "host");
    }
}
