//! Clients of the daemon's API that ask what cannot be, or nothing at all: each is answered or closed, and felt by nobody else.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use netloom_tests::{DEADLINE, Netloom, for_each_case, wait_until};

for_both!(
    what_makes_no_sense_is_refused_and_hurts_nobody,
    hundreds_of_silent_clients_are_closed_and_stop_nobody,
    a_silent_client_does_not_keep_the_daemon,
);

fn connect(nl: &Netloom) -> UnixStream {
    let stream = UnixStream::connect(nl.root().join("netloom.sock")).expect("the daemon accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    stream
}

/// What the daemon says to these bytes before it closes the connection.
fn answer(nl: &Netloom, words: &[u8]) -> Result<String, String> {
    let mut stream = connect(nl);
    // Who has refused a request need not read the rest of it.
    let _ = stream.write_all(words);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => Err("it is not closed".into()),
        _ => Ok(String::from_utf8_lossy(&said).into_owned()),
    }
}

/// A request for a container.
fn create(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /v1/containers HTTP/1.1\r\nHost: netloom\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// A request whose body comes in chunks and says no length.
fn endless() -> Vec<u8> {
    let mut words = b"POST /v1/containers HTTP/1.1\r\nHost: netloom\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    words.extend(format!("100000\r\n{}\r\n", " ".repeat(1 << 20)).repeat(32).as_bytes());
    words
}

fn deep() -> String {
    format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))
}

/// What is said, the status of the answer, and what the answer names.
type Case = (&'static str, fn() -> Vec<u8>, u16, &'static str);

const CASES: &[Case] = &[
    ("a body that is too long", || create(&" ".repeat((16 << 20) + 1)), 413, "longer than 16 MiB"),
    ("a body without end", endless, 413, "longer than 16 MiB"),
    ("nested JSON", || create(&deep()), 400, "cannot be read"),
    ("JSON nested where nobody looks", || create(&format!("{{\"x\":{}}}", deep())), 400, "missing field `spec`"),
    ("a missing field", || create("{\"name\":\"b\",\"spec\":{}}"), 400, "missing field `command`"),
    ("no JSON", || create("please"), 400, "cannot be read"),
    ("no path of the API", || b"GET /v9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(), 404, "/v9"),
    ("no HTTP", || b"hello, daemon\r\n\r\n".into(), 400, ""),
    ("noise", || vec![0xff; 100_000], 400, ""),
    ("a head without end", || format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1 << 20)).into(), 431, ""),
];

fn what_makes_no_sense_is_refused_and_hurts_nobody(nl: &Netloom) {
    nl.ok("run -d --name a sleep 1000");
    let daemon = nl.daemon();
    for_each_case(CASES, |(_, words, status, named)| {
        let said = answer(nl, &words())?;
        let served = nl.run("ps -q").code;
        let refused = said.starts_with(&format!("HTTP/1.1 {status} ")) && said.contains(named);
        if refused && served == 0 { Ok(()) } else { Err(format!("ps: exit {served}; answered:\n{said}")) }
    });
    assert_eq!((nl.state("a"), nl.daemon()), ("running".into(), daemon));
    assert_eq!(nl.ok("ps -a -q").lines().count(), 1);
}

fn hundreds_of_silent_clients_are_closed_and_stop_nobody(nl: &Netloom) {
    nl.ok("run -d --name a sh -c 'i=0; while :; do i=$((i + 1)); echo line $i; sleep 0.1; done'");
    let events = nl.start("events -f --json");
    let mut probes = 0;
    wait_until("events come", || {
        probes += 1;
        nl.ok(&format!("create --name probe{probes} true"));
        events.stdout_so_far().contains("probe")
    });
    let (logs, waiting, mut session) = (nl.start("logs -f a"), nl.start("wait a"), nl.start("exec -i a cat"));
    session.type_in("before\n");
    session.expect("before");
    let mut silent: Vec<_> = (0..300).map(|_| connect(nl)).collect();
    for half in silent.iter_mut().step_by(2) {
        half.write_all(b"GET /v1/containers HTTP/1.1\r\n").expect("the daemon takes it");
    }
    let begun = Instant::now();
    nl.ok("run --rm true");
    assert!(begun.elapsed() < Duration::from_secs(8), "a container took {:?}", begun.elapsed());
    for client in &mut silent {
        let said = client.read_to_end(&mut Vec::new()).expect("it is closed");
        assert_eq!(said, 0, "there was nothing to answer");
    }
    // Who was being answered all the while still is.
    nl.ok("create --name late true");
    events.expect("late");
    session.type_in("after\n");
    session.expect("after");
    let count = logs.stdout_so_far().lines().count();
    logs.expect(&format!("line {}\n", count + 5));
    nl.ok("rm -f a");
    assert_eq!(waiting.finish().exits(0).text(), "137");
}

fn a_silent_client_does_not_keep_the_daemon(nl: &Netloom) {
    let daemon = nl.daemon();
    let mut silent = connect(nl);
    let mut asked = connect(nl);
    asked.write_all(b"GET /v1/version HTTP/1.1\r\nHost: netloom\r\n\r\n").expect("the daemon takes it");
    wait_until("the daemon has ended", || !nl.host.path(&format!("/proc/{daemon}")).exists());
    assert_eq!(silent.read_to_end(&mut Vec::new()).expect("it is closed"), 0);
    let mut said = String::new();
    asked.read_to_string(&mut said).expect("it is closed");
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
}
