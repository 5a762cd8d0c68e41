use std::ffi::OsString;

use netloom_runtime::spec::Protocol;

use super::*;
use crate::args::{Command, help};

fn args(line: &str) -> ContainerArgs {
    let words = ["netloom", "create"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
    match help::parse(words).map(|cli| cli.command) {
        Ok(Command::Create(args)) => args.container,
        other => panic!("`create {line}` gave {other:?}"),
    }
}

fn spec(line: &str) -> ContainerSpec {
    specification(args(line)).unwrap_or_else(|error| panic!("`{line}`: {error:?}"))
}

fn refused(line: &str) -> String {
    let error = specification(args(line)).err().unwrap_or_else(|| panic!("`{line}` was taken"));
    assert_eq!(error.of_run().exit_code, 125);
    specification(args(line)).err().map(|error| error.message).unwrap_or_default()
}

#[test]
fn bridge_is_the_network_when_none_is_named() {
    let spec = spec("true");
    assert_eq!(spec.network.mode, NetworkMode::Bridge);
    assert_eq!(spec.network.networks.iter().map(|request| request.network.as_str()).collect::<Vec<_>>(), ["bridge"]);
    assert!(spec.security.no_new_privileges);
}

#[test]
fn options_about_the_interface_are_about_the_first_network() {
    let spec = spec("--net name=blue,alias=a --net green --ip 10.0.0.9 --mtu 1400 --network-alias b true");
    let [blue, green] = &spec.network.networks[..] else { panic!("two networks") };
    assert_eq!((blue.ip, blue.mtu, blue.aliases.join(" ")), (Some([10, 0, 0, 9].into()), Some(1400), "a b".to_owned()));
    assert_eq!((green.ip, green.mtu, green.aliases.len()), (None, None, 0));
}

#[test]
fn modes_without_a_network_of_ours_refuse_its_options_by_name() {
    for mode in ["host", "container:web", "container:pid:1", "ns:/x"] {
        for (words, option) in [
            ("-p 80", "-p"),
            ("--ip 10.0.0.2", "--ip"),
            ("--dns 9.9.9.9", "--dns"),
            ("--mac-address 02:00:00:00:00:01", "--mac-address"),
            ("--sysctl net.ipv4.ip_forward=1", "--sysctl net.*"),
        ] {
            let message = refused(&format!("--net {mode} {words} true"));
            let name = mode.split(':').next().unwrap_or_default();
            assert!(message.starts_with(&format!("`{option}` does not go with the network mode `{name}`")), "{message}");
        }
    }
    assert_eq!(refused("--net none -p 80 true"), "`-p` does not go with the network mode `none`, which has no interface");
    for mode in ["none", "container:pid:1", "ns:/x"] {
        let message = refused(&format!("--net {mode} --add-host here:host-gateway true"));
        assert!(message.starts_with("`--add-host NAME:host-gateway` does not go with"), "{message}");
    }
    for mode in ["host", "container:pid:1", "ns:/x"] {
        assert!(refused(&format!("--net {mode} --dns-search lab true")).starts_with("`--dns-search` does not go with"));
    }
    assert_eq!(spec("--net container:web --dns-search . true").network.dns_search, ["."]);
    for mode in ["host", "container:web", "blue"] {
        let hosts = spec(&format!("--net {mode} --add-host here:host-gateway true")).network.add_host;
        assert_eq!(hosts, [("here".to_owned(), HostAddress::Gateway)]);
    }
    assert_eq!(spec("--net none --sysctl net.ipv4.ip_forward=1 --dns 9.9.9.9 true").network.mode, NetworkMode::None);
    assert_eq!(spec("--net host --sysctl kernel.msgmax=1 true").network.mode, NetworkMode::Host);
}

#[test]
fn contradictions_are_refused() {
    let table = [
        ("--rm --restart always true", "`--rm` and `--restart` exclude each other"),
        ("--net host --net blue true", "`--network`: none, host, container: and ns: stand alone"),
        ("--net blue --net blue true", "`--network`: `blue` stands twice"),
        ("--net name=blue,ip=10.0.0.2 --ip 10.0.0.3 true", "`--ip` is said twice: by itself and in `--network name=…`"),
        ("-p 80:80 -p 80:81 true", "`--publish`: port 80 of this machine stands twice"),
        ("--rootfs /nonexistent true", "`--rootfs`: cannot open `/nonexistent`: no such file or directory"),
        ("--rootfs /dev/null true", "`--rootfs`: `/dev/null` is not a directory"),
        ("--env-file /nonexistent true", "cannot read `/nonexistent`: no such file or directory"),
    ];
    for (line, message) in table {
        assert_eq!(refused(line), message, "for `{line}`");
    }
    assert_eq!(spec("--rm --restart no true").restart, RestartPolicy::No);
}

#[test]
fn one_host_port_may_serve_both_protocols_and_many_ephemeral_ones() {
    let spec = spec("-p 53:53/udp -p 53:53 -p 80 -p 80 true");
    assert_eq!(spec.network.publish.len(), 4);
    assert_eq!(spec.network.publish[0].protocol, Protocol::Udp);
}

#[test]
fn later_words_of_the_environment_win_in_place() {
    let words = ["A=1", "B=2", "A=3", "NETLOOM_TEST_UNSET_VARIABLE"].map(|word| crate::words::container::env(word).expect("a word"));
    assert_eq!(environment(&[], words.to_vec()).expect("no files"), ["A=3", "B=2"]);
}

#[test]
fn relative_volumes_are_found_from_here() {
    let spec = spec("-v ./x:/x:ro true");
    let [volume] = &spec.root.volumes[..] else { panic!("one volume") };
    assert_eq!(volume.source, std::env::current_dir().expect("a directory").join("x"));
    assert!(volume.read_only);
}
