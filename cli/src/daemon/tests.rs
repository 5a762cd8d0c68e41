//! The daemon's state as supervisors and people change it, without a kernel: see [`testkit`](super::testkit).

use netloom_runtime::{
    protocol::{Failure, Request, SupervisorState, ToDaemon, ToSupervisor},
    spec::{HostAddress, NetworkMode, RestartPolicy},
};
use netloom_switch::Mac;

use super::{
    Daemon,
    error::Kind,
    testkit::{Scratch, Supervisor, listener, named, spec, tcp, until},
};
use crate::api::{ConnectNetwork, CreateContainer, CreateNetwork, GatewayChoice, State};

fn state(daemon: &Daemon, word: &str) -> State {
    daemon.inspect(word).unwrap().state
}

fn lab(daemon: &Daemon, name: &str, subnet: &str) {
    let request = CreateNetwork { name: name.to_owned(), subnet: Some(subnet.parse().unwrap()), ..CreateNetwork::default() };
    daemon.create_network(request, &[]).unwrap();
}

async fn running(daemon: &std::sync::Arc<Daemon>, request: CreateContainer) -> (String, Supervisor) {
    let publications = request.spec.network.publish.clone();
    let id = daemon.create(request).unwrap().id;
    let supervisor = Supervisor::new(daemon, &id).await;
    supervisor.start(publications.iter().map(listener).collect()).await;
    until("it runs", || state(daemon, &id) == State::Running).await;
    (id, supervisor)
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_goes_from_created_to_running_to_exited_and_gives_its_address_back() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let id = daemon.create(named("web", spec(&[]))).unwrap().id;
    assert_eq!(state(&daemon, "web"), State::Created);
    let supervisor = Supervisor::new(&daemon, &id).await;
    let plan = supervisor.start(Vec::new()).await;
    until("it runs", || state(&daemon, "web") == State::Running).await;

    let seen = daemon.inspect("web").unwrap();
    let network = &seen.networks["bridge"];
    assert_eq!(network.ip_address, Some([172, 17, 0, 2].into()));
    assert_eq!(network.mac_address, Mac::from_ipv4([172, 17, 0, 2].into()));
    assert_eq!((seen.pid, seen.exit_code), (Some(4242), None));
    assert_eq!(seen.read_only, ["/usr: fixed"]);
    assert_eq!(plan.nameservers, ["172.17.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(plan.attachments[0].default_route && plan.attachments[0].ifname == "eth0");
    assert_eq!(daemon.leases(None).unwrap()[0].container, "web");

    supervisor.exit(3, false);
    assert_eq!(daemon.wait("web").await.unwrap(), 3);
    let seen = daemon.inspect("web").unwrap();
    assert_eq!((seen.state, seen.exit_code, seen.pid), (State::Exited, Some(3), None));
    assert!(seen.networks.is_empty() && daemon.leases(None).unwrap().is_empty() && daemon.ports(None).unwrap().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn addresses_are_distinct_and_a_released_one_is_not_the_next() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (_, one) = running(&daemon, named("one", spec(&[]))).await;
    one.exit(0, false);
    daemon.wait("one").await.unwrap();
    let (_, _two) = running(&daemon, named("two", spec(&[]))).await;
    assert_eq!(daemon.leases(None).unwrap()[0].ip_address, Some([172, 17, 0, 3].into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_lost_supervisor_is_an_exit_with_137_that_says_so() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (id, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    drop(supervisor);
    assert_eq!(daemon.wait(&id).await.unwrap(), 137);
    let seen = daemon.inspect("web").unwrap();
    assert!(seen.state == State::Exited && seen.error.contains("supervisor was lost"), "{seen:?}");
    assert!(daemon.leases(None).unwrap().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_start_leaves_a_created_container_that_says_why() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let id = daemon.create(named("web", spec(&[]))).unwrap().id;
    let supervisor = Supervisor::new(&daemon, &id).await;
    supervisor.prepare().await.unwrap();
    supervisor.say(ToDaemon::Exited { code: 127, error: Some("no such command".to_owned()), will_restart: false, oom_killed: false }, 0);
    until("it is told", || daemon.inspect("web").unwrap().exit_code == Some(127)).await;
    let seen = daemon.inspect("web").unwrap();
    assert_eq!((seen.state, seen.error.as_str()), (State::Created, "no such command"));
    assert!(daemon.leases(None).unwrap().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_restart_keeps_the_address_and_is_counted() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (_, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    supervisor.exit(1, true);
    until("it restarts", || state(&daemon, "web") == State::Restarting).await;
    assert!(daemon.ports(None).unwrap().is_empty());
    let plan = supervisor.start(Vec::new()).await;
    assert_eq!(plan.attachments[0].ip, Some([172, 17, 0, 2].into()));
    until("it runs", || state(&daemon, "web") == State::Running).await;
    assert_eq!(daemon.inspect("web").unwrap().restart_count, 1);
    assert_eq!(daemon.leases(None).unwrap().len(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn rm_on_exit_frees_the_name_at_once_and_the_directory_with_the_supervisor() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&[]);
    wanted.auto_remove = true;
    let (id, supervisor) = running(&daemon, named("once", wanted)).await;
    supervisor.exit(0, false);
    assert!(matches!(supervisor.hear().await, Some(ToSupervisor::Request { what: Request::Remove, .. })));
    assert_eq!(daemon.inspect("once").unwrap_err().kind, Kind::Missing);
    daemon.create(named("once", spec(&[]))).unwrap();
    let directory = daemon.paths.container(&id);
    assert!(directory.exists());
    drop(supervisor);
    until("its files are gone", || !directory.exists()).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_running_container_is_removed_by_force_alone() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (id, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    assert_eq!(daemon.remove("web", false).await.unwrap_err().kind, Kind::Conflict);
    let (removal, waited) = (std::sync::Arc::clone(&daemon), std::sync::Arc::clone(&daemon));
    let waited = tokio::spawn(async move { waited.wait("web").await });
    let removal = tokio::spawn(async move { removal.remove("web", true).await });
    assert!(matches!(supervisor.hear().await, Some(ToSupervisor::Request { what: Request::Remove, .. })));
    supervisor.exit(137, false);
    drop(supervisor);
    removal.await.unwrap().unwrap();
    assert_eq!(waited.await.unwrap().unwrap(), 137);
    assert!(!daemon.paths.container(&id).exists() && daemon.list(true).is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_is_done_when_its_supervisor_says_so() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (_, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    let stop = tokio::spawn({
        let daemon = std::sync::Arc::clone(&daemon);
        async move { daemon.stop("web", 1).await }
    });
    let Some(ToSupervisor::Request { request, what: Request::Stop { grace_seconds: 1 } }) = supervisor.hear().await else {
        panic!("no stop was asked for")
    };
    supervisor.exit(143, false);
    supervisor.done(request);
    stop.await.unwrap().unwrap();
    assert_eq!(state(&daemon, "web"), State::Exited);
    assert!(daemon.kill("web", 9).await.unwrap_err().message.contains("not running"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_daemon_that_crashed_takes_its_containers_back_with_their_addresses() {
    let scratch = Scratch::new();
    let (id, attachments) = {
        let daemon = scratch.daemon();
        let (_gone, first) = running(&daemon, named("first", spec(&[]))).await;
        let (id, second) = running(&daemon, named("second", spec(&[]))).await;
        let attachments = daemon.state().by_id(&id).unwrap().leases.clone();
        // The daemon dies without a word: nothing of what follows reaches its files.
        std::mem::forget((first, second));
        (id, attachments)
    };
    let lock = std::fs::File::create(scratch.0.join("containers").join(&id).join("lock")).unwrap();
    let _held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();

    let daemon = scratch.daemon();
    assert!(!*daemon.settled.borrow(), "somebody is still missing");
    assert_eq!(daemon.inspect("first").unwrap().exit_code, Some(137), "its lock is free");
    let started = "2026-01-01T00:00:00Z".to_owned();
    let back = SupervisorState::Running { pid: 7, paused: false, started };
    let _supervisor = Supervisor::back(&daemon, &id, back, attachments.clone(), Vec::new()).await;
    assert!(*daemon.settled.borrow());
    let seen = daemon.inspect("second").unwrap();
    assert_eq!((seen.state, seen.pid), (State::Running, Some(7)));
    assert_eq!(seen.networks["bridge"].ip_address, attachments[0].ip);
    let leases = daemon.leases(None).unwrap();
    assert_eq!(leases.iter().map(|lease| lease.container.as_str()).collect::<Vec<_>>(), ["second"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_port_has_one_container_and_the_refusal_names_it() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&[]);
    wanted.network.publish = vec![tcp(8080, 80)];
    let (_, supervisor) = running(&daemon, named("web", wanted.clone())).await;
    assert_eq!(daemon.inspect("web").unwrap().ports[0].host_port, 8080);
    let refused = daemon.create(named("other", wanted.clone())).unwrap_err();
    assert!(refused.message.contains("8080/tcp") && refused.hint.unwrap().contains("`web`"));
    assert!(daemon.inspect("other").is_err(), "nothing half made is left");

    supervisor.exit(0, false);
    daemon.wait("web").await.unwrap();
    daemon.create(named("other", wanted)).unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_publication_asked_for_twice_is_refused_but_not_on_two_addresses() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&[]);
    let at = |ip: &str| netloom_runtime::spec::Publication { host_ip: Some(ip.parse().unwrap()), ..tcp(80, 80) };
    wanted.network.publish = vec![at("127.0.0.1"), at("127.0.0.2"), at("::1")];
    daemon.create(named("fine", wanted.clone())).unwrap();
    wanted.network.publish.push(tcp(80, 81));
    assert_eq!(daemon.create(named("twice", wanted)).unwrap_err().kind, Kind::Invalid);
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_is_refused_with_its_reason() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (_, _web) = running(&daemon, named("web", spec(&[]))).await;
    for (ip, reason) in [("10.0.0.1", "not in"), ("172.17.0.1", "gateway"), ("172.17.255.255", "broadcast"), ("172.17.0.2", "in use")] {
        let mut wanted = spec(&["bridge"]);
        wanted.network.networks[0].ip = Some(ip.parse().unwrap());
        let error = daemon.create(named("other", wanted)).unwrap_err();
        assert!(error.message.contains(reason), "{ip}: {}", error.message);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_network_says_so() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    lab(&daemon, "tiny", "10.0.0.0/30");
    let (_, _one) = running(&daemon, named("one", spec(&["tiny"]))).await;
    let id = daemon.create(named("two", spec(&["tiny"]))).unwrap().id;
    let two = Supervisor::new(&daemon, &id).await;
    let failure = two.prepare().await.unwrap_err();
    assert!(failure.message.contains("no address left in 10.0.0.0/30"), "{failure:?}");
    assert_eq!(failure.code, 125);
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_is_not_put_on_networks_that_overlap() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    lab(&daemon, "a1", "10.0.0.0/16");
    lab(&daemon, "b1", "10.0.5.0/24");
    let error = daemon.create(named("web", spec(&["a1", "b1"]))).unwrap_err();
    assert!(error.message.contains("overlap"), "{}", error.message);
    daemon.create(named("web", spec(&["a1", "bridge"]))).unwrap();
    let request = ConnectNetwork { container: "web".to_owned(), ..ConnectNetwork::default() };
    assert!(daemon.connect("b1", request).await.unwrap_err().message.contains("overlap"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_running_container_is_connected_and_disconnected() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    lab(&daemon, "lab", "10.0.0.0/24");
    let (_, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    let connecting = tokio::spawn({
        let daemon = std::sync::Arc::clone(&daemon);
        let request = ConnectNetwork { container: "web".to_owned(), aliases: vec!["db".to_owned()], ..ConnectNetwork::default() };
        async move { daemon.connect("lab", request).await }
    });
    let Some(ToSupervisor::Request { request, what: Request::Connect { attachment } }) = supervisor.hear().await else {
        panic!("no interface was asked for")
    };
    assert_eq!((attachment.ifname.as_str(), attachment.default_route), ("eth1", false));
    let again = ConnectNetwork { container: "web".to_owned(), ..ConnectNetwork::default() };
    let refused = daemon.connect("lab", again.clone()).await.unwrap_err();
    assert!(refused.kind == Kind::Conflict && refused.message.contains("being connected"), "{}", refused.message);
    lab(&daemon, "wide", "10.0.0.0/16");
    assert!(daemon.connect("wide", again).await.unwrap_err().message.contains("overlap"));
    supervisor.attach(vec![attachment], Vec::new()).await.unwrap();
    supervisor.done(request);
    let plan = supervisor.follow(Vec::new()).await;
    assert_eq!(plan.attachments.iter().map(|attachment| attachment.default_route).collect::<Vec<_>>(), [true, false]);
    assert_eq!(plan.hosts.len(), 2);
    connecting.await.unwrap().unwrap();
    assert_eq!(daemon.inspect("web").unwrap().networks["lab"].aliases, ["db"]);
    assert_eq!(daemon.remove_network("lab").unwrap_err().kind, Kind::Conflict);

    let disconnecting = tokio::spawn({
        let daemon = std::sync::Arc::clone(&daemon);
        async move { daemon.disconnect("lab", crate::api::DisconnectNetwork { container: "web".to_owned() }).await }
    });
    let Some(ToSupervisor::Request { request, what: Request::Disconnect { network } }) = supervisor.hear().await else {
        panic!("the interface was not taken away")
    };
    supervisor.say(ToDaemon::Detach { networks: vec![network], publications: Vec::new(), listeners: Vec::new() }, 0);
    supervisor.done(request);
    assert_eq!(supervisor.follow(Vec::new()).await.hosts.len(), 1);
    disconnecting.await.unwrap().unwrap();
    assert_eq!(daemon.inspect("web").unwrap().networks.len(), 1);
    daemon.remove_network("lab").unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn publications_follow_to_the_network_that_is_left_and_wait_where_none_is() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    lab(&daemon, "blue", "10.1.0.0/24");
    lab(&daemon, "green", "10.2.0.0/24");
    let mut wanted = spec(&["blue", "green"]);
    wanted.network.publish = vec![tcp(8080, 80)];
    let (id, supervisor) = running(&daemon, named("web", wanted)).await;
    let leads_to = || daemon.state().by_id(&id).unwrap().listeners.iter().map(|listening| listening.network.clone()).collect::<Vec<_>>();
    assert_eq!(leads_to(), ["blue"]);
    for (gone, left) in [("blue", Some("green")), ("green", None)] {
        let disconnecting = tokio::spawn({
            let daemon = std::sync::Arc::clone(&daemon);
            async move { daemon.disconnect(gone, crate::api::DisconnectNetwork { container: "web".to_owned() }).await }
        });
        let Some(ToSupervisor::Request { request, what: Request::Disconnect { network } }) = supervisor.hear().await else {
            panic!("the interface was not taken away")
        };
        supervisor.say(ToDaemon::Detach { networks: vec![network], publications: Vec::new(), listeners: Vec::new() }, 0);
        supervisor.done(request);
        let plan = supervisor.follow(left.map(|_| listener(&tcp(8080, 80))).into_iter().collect()).await;
        assert_eq!(plan.publishes, left.is_some());
        let notes = disconnecting.await.unwrap().unwrap().notes;
        assert_eq!((leads_to(), notes.is_empty()), (left.into_iter().map(str::to_owned).collect(), left.is_some()), "{notes:?}");
    }
    assert_eq!(daemon.inspect("web").unwrap().network_mode, "none");
}

#[tokio::test(flavor = "current_thread")]
async fn default_routes_go_by_the_first_network_that_leads_out_for_each_ip() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let inner = CreateNetwork { name: "inner".to_owned(), internal: true, ipv6: true, ..CreateNetwork::default() };
    let six = CreateNetwork { name: "six".to_owned(), ipv6: true, ..CreateNetwork::default() };
    daemon.create_network(inner, &[]).unwrap();
    daemon.create_network(six, &[]).unwrap();
    let id = daemon.create(named("web", spec(&["inner", "bridge", "six"]))).unwrap().id;
    let plan = Supervisor::new(&daemon, &id).await.prepare().await.unwrap();
    let routes = |a: &netloom_runtime::spec::Attachment| (a.default_route, a.ipv6.is_some_and(|ipv6| ipv6.default_route));
    assert_eq!(plan.attachments.iter().map(routes).collect::<Vec<_>>(), [(false, false), (true, false), (false, true)]);
    assert_eq!(plan.nameservers, [plan.attachments[1].gateway.unwrap()]);

    let id = daemon.create(named("alone", spec(&["inner"]))).unwrap().id;
    let plan = Supervisor::new(&daemon, &id).await.prepare().await.unwrap();
    assert_eq!(plan.attachments.iter().map(routes).collect::<Vec<_>>(), [(true, true)]);
}

#[tokio::test(flavor = "current_thread")]
async fn the_hosts_loopback_is_refused_where_nothing_leads_out() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let inner = CreateNetwork { name: "inner".to_owned(), internal: true, ..CreateNetwork::default() };
    let refused = daemon.create_network(CreateNetwork { host_loopback: true, ..inner.clone() }, &[]).unwrap_err();
    assert!(refused.message.contains("--internal and --host-loopback"), "{}", refused.message);
    daemon.create_network(inner, &[]).unwrap();
    let reaching = |networks: &[&str]| {
        let mut wanted = spec(networks);
        wanted.network.host_loopback = true;
        wanted
    };
    let refused = daemon.create(named("web", reaching(&["inner"]))).unwrap_err();
    assert_eq!((refused.kind, refused.message.as_str()), (Kind::Invalid, "--host-loopback cannot be used on network `inner`"));
    daemon.create(named("web", reaching(&["inner", "bridge"]))).unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_connect_leaves_no_lease() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    lab(&daemon, "lab", "10.0.0.0/24");
    let (_, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    let connecting = tokio::spawn({
        let daemon = std::sync::Arc::clone(&daemon);
        async move { daemon.connect("lab", ConnectNetwork { container: "web".to_owned(), ..ConnectNetwork::default() }).await }
    });
    let Some(ToSupervisor::Request { request, .. }) = supervisor.hear().await else { panic!("nothing was asked") };
    // It says that it is done, but it brought no port.
    supervisor.done(request);
    let Some(ToSupervisor::Request { request, what: Request::Disconnect { .. } }) = supervisor.hear().await else {
        panic!("the half-made interface stays")
    };
    supervisor.done(request);
    assert!(connecting.await.unwrap().is_err());
    assert!(daemon.leases(Some("lab")).unwrap().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn options_that_a_mode_has_no_use_for_are_refused_by_name() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut host = spec(&[]);
    host.network.mode = NetworkMode::Host;
    daemon.create(named("plain", host.clone())).unwrap();
    let mut publish = host.clone();
    publish.network.publish = vec![tcp(80, 80)];
    let mut dns = host.clone();
    dns.network.dns = vec!["192.0.2.1".parse().unwrap()];
    let mut sysctl = host.clone();
    sysctl.sysctls = vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())];
    for (wanted, option) in [(publish, "--publish"), (dns, "--dns"), (sysctl, "--sysctl net.*")] {
        let error = daemon.create(named("x1", wanted)).unwrap_err();
        assert!(error.message.contains(option) && error.message.contains("host"), "{}", error.message);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_stopped_container_cannot_be_joined_and_a_running_one_is_joined_by_its_process() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let id = daemon.create(named("web", spec(&[]))).unwrap().id;
    let mut joined = spec(&[]);
    joined.network.mode = NetworkMode::Container { container: "web".to_owned() };
    joined.network.add_host = vec![("own".to_owned(), HostAddress::Ip([10, 9, 9, 9].into())), ("here".to_owned(), HostAddress::Gateway)];
    assert!(daemon.create(named("side", joined.clone())).unwrap_err().message.contains("not running"));
    let web = Supervisor::new(&daemon, &id).await;
    let first = web.start(Vec::new()).await;
    until("it runs", || state(&daemon, "web") == State::Running).await;
    let side = daemon.create(named("side", joined)).unwrap().id;
    daemon.rename("web", "www".to_owned()).unwrap();
    assert_eq!(daemon.inspect("side").unwrap().network_mode, format!("container:{id}"));
    let supervisor = Supervisor::new(&daemon, &side).await;
    let plan = supervisor.prepare().await.unwrap();
    assert_eq!(plan.join_pid, Some(4242));
    assert!(plan.attachments.is_empty() && !first.nameservers.is_empty());
    assert_eq!((plan.nameservers, &plan.hosts[..first.hosts.len()]), (first.nameservers, &first.hosts[..]));
    let gateway = first.attachments[0].gateway.unwrap();
    let own = [([10, 9, 9, 9].into(), vec!["own".to_owned()]), (gateway.into(), vec!["here".to_owned()])];
    assert_eq!(plan.hosts[first.hosts.len()..], own);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_is_published_on_an_internal_network() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let subnet = Some("10.0.0.0/24".parse().unwrap());
    let request = CreateNetwork { name: "inside".to_owned(), subnet, internal: true, ..CreateNetwork::default() };
    daemon.create_network(request, &[]).unwrap();
    let mut wanted = spec(&["inside"]);
    wanted.network.publish = vec![tcp(80, 80)];
    let error = daemon.create(named("web", wanted)).unwrap_err();
    assert!(error.message.contains("--publish") && error.message.contains("inside"));
}

#[tokio::test(flavor = "current_thread")]
async fn one_mac_is_for_one_container_of_a_network() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&["bridge"]);
    wanted.network.networks[0].mac = Some("02:00:00:00:00:01".parse().unwrap());
    let (_, _one) = running(&daemon, named("one", wanted.clone())).await;
    let id = daemon.create(named("two", wanted)).unwrap().id;
    let failure = Supervisor::new(&daemon, &id).await.prepare().await.unwrap_err();
    assert!(failure.message.contains("02:00:00:00:00:01") && failure.hint.unwrap().contains("`one`"));
    assert_eq!(daemon.leases(None).unwrap().len(), 1, "the refused one holds no address");
}

#[test]
fn networks_outlive_the_daemon_and_so_do_their_settings() {
    let scratch = Scratch::new();
    {
        let daemon = scratch.daemon();
        lab(&daemon, "lab", "10.3.0.0/24");
        daemon.set_network("lab", &[("ageing".to_owned(), "7s".to_owned())].into()).unwrap();
        daemon.set_network("bridge", &[("fdb-max".to_owned(), "50".to_owned())].into()).unwrap();
    }
    let daemon = scratch.daemon();
    assert_eq!(daemon.inspect_network("lab").unwrap().options["ageing"], "7s");
    assert_eq!(daemon.inspect_network("bridge").unwrap().options["fdb-max"], "50");
    assert_eq!(daemon.list_networks().len(), 2);
}

#[tokio::test(flavor = "current_thread")]
async fn a_ports_setting_stays_with_its_container() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let (_, supervisor) = running(&daemon, named("web", spec(&[]))).await;
    let port = || daemon.ports(None).unwrap().into_iter().find(|port| port.container == "web").unwrap();
    let set = |number, key: &str, value: &str| daemon.set_port("bridge", number, &[(key.to_owned(), value.to_owned())].into());
    assert!(!port().isolated);
    set(port().id, "isolated", "on").unwrap();
    assert!(port().isolated);
    supervisor.exit(0, false);
    daemon.wait("web").await.unwrap();
    supervisor.start(Vec::new()).await;
    until("it runs", || state(&daemon, "web") == State::Running).await;
    assert!(port().isolated, "a start later");

    let wrong = set(port().id, "isolated", "maybe").unwrap_err();
    assert_eq!((wrong.kind, wrong.hint.as_deref()), (Kind::Invalid, Some("on or off")));
    let unknown = set(port().id, "isolate", "on").unwrap_err();
    assert!(unknown.message.contains("`isolate`") && unknown.hint.unwrap().contains("isolated"));
    assert_eq!(set(0, "isolated", "on").unwrap_err().kind, Kind::Invalid);
    assert_eq!(set(99, "isolated", "on").unwrap_err().kind, Kind::Missing);
    set(port().id, "isolated", "off").unwrap();
    assert!(!port().isolated);
}

#[test]
fn the_default_subnet_moves_out_of_the_way_of_a_new_route() {
    let scratch = Scratch::new();
    let first = scratch.daemon().inspect_network("bridge").unwrap().subnet;
    let daemon = scratch.daemon_on(&[first.parse().unwrap()]);
    let second = daemon.inspect_network("bridge").unwrap().subnet;
    assert_ne!(first, second);
    drop(daemon);
    // What was asked for stays, whatever the host's routes.
    let daemon = scratch.daemon();
    assert_eq!(daemon.inspect_network("bridge").unwrap().subnet, second);
}

#[test]
fn network_names_and_subnets_that_cannot_be_are_refused() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let try_one = |name: &str, subnet: &str, gateway| {
        let request = CreateNetwork { name: name.to_owned(), subnet: Some(subnet.parse().unwrap()), gateway, ..CreateNetwork::default() };
        daemon.create_network(request, &[])
    };
    for name in ["bridge", "host", "none", "a:b", "-x", ""] {
        assert!(try_one(name, "10.0.0.0/24", GatewayChoice::First).is_err(), "{name}");
    }
    for subnet in ["127.0.0.0/24", "224.0.0.0/24", "10.0.0.1/24", "0.0.0.0/0", "10.0.0.0/31", "10.0.0.0/32"] {
        assert!(try_one("lab", subnet, GatewayChoice::First).is_err(), "{subnet}");
    }
    let outside = GatewayChoice::Address("10.1.0.1".parse().unwrap());
    assert!(try_one("lab", "10.0.0.0/24", outside).unwrap_err().message.contains("10.1.0.1"));
    assert_eq!(try_one("lab", "10.0.0.0/24", GatewayChoice::None).unwrap().network.gateway, None);
    assert_eq!(try_one("lab", "10.0.0.0/24", GatewayChoice::None).unwrap_err().kind, Kind::Conflict);
}

#[test]
fn a_name_in_use_is_refused_and_made_up_names_are_free() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    daemon.create(named("web", spec(&[]))).unwrap();
    let error = daemon.create(named("web", spec(&[]))).unwrap_err();
    assert!(error.kind == Kind::Conflict && error.message.contains("`web` is in use"));
    let made = daemon.create(CreateContainer { name: None, spec: spec(&[]) }).unwrap();
    assert!(made.name.contains('_') && made.id.len() == 64);
    assert_eq!(daemon.inspect(&made.id[..12]).unwrap().name, made.name);
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_always_runs_is_wanted_until_it_is_stopped_by_hand() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&[]);
    wanted.restart = RestartPolicy::Always;
    let (id, supervisor) = running(&daemon, named("always", wanted)).await;
    let kept = daemon.paths.revenants().join(format!("{id}.json"));
    let is_wanted = || std::fs::read_to_string(&kept).unwrap().contains("\"wanted\": true");
    assert!(is_wanted());
    supervisor.exit(1, true);
    until("it restarts", || state(&daemon, "always") == State::Restarting).await;
    assert!(is_wanted());
    supervisor.exit(0, false);
    until("it is stopped", || state(&daemon, "always") == State::Exited).await;
    assert!(!is_wanted());

    // After a reboot the root is gone, the state is not.
    drop(daemon);
    std::fs::remove_dir_all(scratch.0.join("containers")).unwrap();
    let daemon = scratch.daemon();
    assert_eq!(daemon.inspect("always").unwrap().id, id);
    drop(supervisor);
    daemon.remove("always", false).await.unwrap();
    assert!(!kept.exists());
}

#[tokio::test(flavor = "current_thread")]
async fn network_options_that_fit_in_no_message_are_refused_and_so_is_a_plan() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&[]);
    wanted.network.add_host = (0..8000).map(|index| (format!("h{index}"), HostAddress::Gateway)).collect();
    let error = daemon.create(named("wide", wanted)).unwrap_err();
    assert!(error.message.contains("98304") && error.hint.is_some_and(|hint| hint.contains("--add-host")), "{}", error.message);
    let id = daemon.create(named("wide", spec(&[]))).unwrap().id;
    let supervisor = Supervisor::new(&daemon, &id).await;
    // What grows later, such as by what a joined container brings.
    let too_long = ToSupervisor::Refused { failure: Failure { message: "x".repeat(200_000), hint: None, code: 125 } };
    let wire = daemon.state().by_id(&id).unwrap().link.as_ref().unwrap().wire.clone();
    wire.answer(&id, &too_long);
    let Some(ToSupervisor::Refused { failure }) = supervisor.hear().await else { panic!("the supervisor waits for ever") };
    assert!(failure.message.contains("longer than") && failure.hint.is_some(), "{}", failure.message);
}

/// None of them travels in the messages that are bounded.
#[tokio::test(flavor = "current_thread")]
async fn every_port_of_the_host_can_be_published_by_one_container() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let mut wanted = spec(&[]);
    wanted.network.publish = (1..=u16::MAX).map(|port| tcp(port, port)).collect();
    daemon.create(named("wide", wanted.clone())).unwrap();
    wanted.network.publish.push(tcp(80, 81));
    let error = daemon.create(named("twice", wanted)).unwrap_err();
    assert!(error.message.contains("80/tcp is published twice"), "{}", error.message);
}

#[tokio::test(flavor = "current_thread")]
async fn what_the_command_line_refuses_by_its_words_is_refused_here_too() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon();
    let volume =
        |source: &str, target: &str| netloom_runtime::spec::Volume { source: source.into(), target: target.into(), read_only: false };
    let refused = |change: &dyn Fn(&mut netloom_runtime::spec::ContainerSpec), named: &str| {
        let mut wanted = spec(&["bridge"]);
        change(&mut wanted);
        let error = daemon.create(named_other(wanted)).unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.contains(named), "{}", error.message);
    };
    refused(&|spec| spec.limits.memory = Some(4096), "6m");
    refused(&|spec| spec.root.tmpfs = vec!["/proc".into()], "/proc");
    refused(&|spec| spec.root.volumes = vec![volume("/srv", "/x/../dev")], "/dev");
    refused(&|spec| spec.root.volumes = vec![volume("srv", "/srv")], "absolute");
    refused(&|spec| spec.root.devices = vec!["/dev/../etc/passwd".into()], "device");
    let mut fine = spec(&["bridge"]);
    fine.limits.memory = Some(6 << 20);
    fine.root.volumes = vec![volume("/srv", "/srv")];
    daemon.create(named_other(fine)).unwrap();
}

fn named_other(wanted: netloom_runtime::spec::ContainerSpec) -> CreateContainer {
    named("other", wanted)
}
