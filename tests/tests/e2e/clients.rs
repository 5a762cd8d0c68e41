//! Programs that people use, unchanged, through the gateway: to servers in the world outside, and to a container's by its published port.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use netloom_tests::{FAR_IP, HOST_IP, Netloom, Place, Running, wait_until};

for_both!(
    curl_gets_and_puts_megabytes_by_http,
    git_clones_and_pushes_over_http,
    wrk_keeps_its_connections_alive,
    nginx_is_asked_by_wrk_outside_and_by_its_published_port,
    redis_benchmark_pipelines_and_loses_no_reply,
    ssh_logs_in_and_carries_data_both_ways,
    iperf3_sends_and_gets_the_longest_datagrams_there_are,
);

/// A web server in the world outside, over a directory of the host's.
fn web(nl: &Netloom, directory: &str) -> Running {
    nl.host.serve(&format!("busybox httpd -f -p {FAR_IP}:8000 -h {directory}"), 8000)
}

fn curl_gets_and_puts_megabytes_by_http(nl: &Netloom) {
    let directory = nl.host.make_dir("www");
    let page: Vec<u8> = (0..4_000_000u32).map(|at| (at % 251) as u8).collect();
    nl.host.write("www/page", &page);
    // What was sent comes back as its sum.
    nl.host.make_dir("www/cgi-bin");
    let script = nl
        .host
        .write("www/cgi-bin/sum", "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhead -c \"$CONTENT_LENGTH\" | sha256sum\n");
    nl.host.ok(&format!("chmod 755 {}", script.display()));
    let server = web(nl, &directory.display().to_string());
    let sum = nl.host.ok(&format!("sha256sum {}/page", directory.display()));
    let sum = sum.split(' ').next().expect("a sum");
    let out = nl.ok(&format!(
        "run --rm sh -c 'curl -sf --max-time 20 http://{FAR_IP}:8000/page -o /tmp/page && sha256sum < /tmp/page && \
         curl -sf --max-time 20 --data-binary @/tmp/page http://{FAR_IP}:8000/cgi-bin/sum'"
    ));
    assert_eq!(out.lines().filter(|line| line.starts_with(sum)).count(), 2, "{out} for {sum}");
    drop(server);
}

fn git_clones_and_pushes_over_http(nl: &Netloom) {
    let directory = nl.host.make_dir("git").display().to_string();
    nl.host.make_dir("git/cgi-bin");
    let backend = format!("#!/bin/sh\nexport GIT_PROJECT_ROOT={directory} GIT_HTTP_EXPORT_ALL=1 HOME=/root\nexec git http-backend\n");
    nl.host.write("git/cgi-bin/git", backend);
    let commit = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m";
    nl.host.ok(&format!(
        "sh -c 'cd {directory} && chmod 755 cgi-bin/git && git init -q work && cd work && head -c 300000 /dev/urandom > data && git add data && \
         {commit} first && {commit} second && git clone -q --bare . ../it.git && cd ../it.git && git config http.receivepack true && \
         git update-server-info && chown -R root: . && chmod -R a+rX .'"
    ));
    let server = web(nl, &directory);
    // By the dumb protocol, and by git's own.
    let log = nl.ok(&format!(
        "run --rm sh -c 'cd /tmp && git clone -q http://{FAR_IP}:8000/it.git dumb && git -C dumb fsck --strict && \
         git clone -q http://{FAR_IP}:8000/cgi-bin/git/it.git && cd it && git fsck --strict && git log --format=%s && \
         head -c 300000 /dev/urandom > more && git add more && {commit} third && git push -q origin HEAD'"
    ));
    assert!(log.ends_with("second\nfirst"), "{log}");
    assert_eq!(nl.host.ok(&format!("git -C {directory}/it.git log -1 --format=%s")), "third");
    drop(server);
}

fn wrk_keeps_its_connections_alive(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 8000));
    let connections = Arc::<AtomicU32>::default();
    let accepted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            accepted.fetch_add(1, Relaxed);
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a second descriptor");
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                for _end in lines.filter(String::is_empty) {
                    if writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").is_err() {
                        return;
                    }
                }
            });
        }
    });
    asked_and_answered(&nl.ok(&format!("run --rm wrk -t 1 -c 20 -d 1s http://{FAR_IP}:8000/")));
    // It tries one before it begins.
    assert!(connections.load(Relaxed) <= 21, "{connections:?} connections for twenty");
}

/// What wrk says when every connection was served.
fn asked_and_answered(out: &str) {
    assert!(!out.contains("Socket errors") && !out.contains("Non-2xx"), "{out}");
    let count = out.lines().find_map(|line| line.trim().split_once(" requests in")).and_then(|(count, _)| count.parse::<u32>().ok());
    assert!(count.is_some_and(|count| count > 100), "{out}");
}

fn nginx_is_asked_by_wrk_outside_and_by_its_published_port(nl: &Netloom) {
    let directory = nl.host.make_dir("nginx").display().to_string();
    let page: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    nl.host.write("nginx/page", &page);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};")).concat();
    // One process, which is gone when it is killed.
    let conf = format!(
        "daemon off; master_process off; user root root; pid pid; error_log stderr; events {{}}\n\
         http {{ access_log off; {temporary} server {{ listen 8000; root {directory}; }} }}\n"
    );
    nl.host.write("nginx/conf", conf);
    let serve = |place: &str| format!("mkdir -p {place} && exec nginx -p {place} -c {directory}/conf -e stderr");
    let outside = nl.host.start(Place::Server, &format!("sh -c '{}'", serve(&format!("{directory}/outside"))));
    nl.ok(&format!("run -d --name web -p 8080:8000 sh -c '{}'", serve("/tmp/nginx")));
    let sum = nl.host.ok(&format!("sha256sum {directory}/page"));
    let sum = sum.split(' ').next().expect("a sum");
    for (server, path) in [(format!("{FAR_IP}:8000"), "outside"), (format!("{HOST_IP}:8080"), "published")] {
        let fetch = format!(
            "run --rm sh -c 'curl -sf --max-time 20 --retry 20 --retry-delay 1 --retry-all-errors http://{server}/page | sha256sum'"
        );
        assert!(nl.ok(&fetch).starts_with(sum), "{path}: {}", nl.run("logs web").stderr);
        asked_and_answered(&nl.ok(&format!("run --rm wrk -t 1 -c 20 -d 1s http://{server}/page")));
    }
    asked_and_answered(&nl.host.ok(&format!("wrk -t 1 -c 20 -d 1s http://{HOST_IP}:8080/page")));
    drop(outside);
}

fn redis_benchmark_pipelines_and_loses_no_reply(nl: &Netloom) {
    let listener = nl.host.listen(Place::Server, (FAR_IP, 6379));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve_redis(stream));
        }
    });
    let out = nl.ok(&format!("run --rm redis-benchmark -h {FAR_IP} -c 10 -n 5000 -P 8 -d 500 -t set,get --csv"));
    for test in ["\"SET\"", "\"GET\""] {
        assert!(out.lines().any(|line| line.starts_with(test)), "{out}");
    }
}

/// As much of Redis's protocol as the benchmark needs: an array of strings is a command, and the last value set is the one there is.
fn serve_redis(stream: TcpStream) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut value = String::new();
    while let Some(head) = lines.next() {
        let count: usize = head.strip_prefix('*')?.parse().ok()?;
        let words: Vec<String> = (0..count).filter_map(|_| lines.by_ref().nth(1)).collect();
        let reply = match words.first()?.to_ascii_uppercase().as_str() {
            "SET" => {
                value.clone_from(words.get(2)?);
                "+OK\r\n".to_owned()
            }
            "GET" => format!("${}\r\n{value}\r\n", value.len()),
            _ => "*0\r\n".to_owned(),
        };
        writer.write_all(reply.as_bytes()).ok()?;
    }
    Some(())
}

fn ssh_logs_in_and_carries_data_both_ways(nl: &Netloom) {
    let directory = nl.host.make_dir("ssh").display().to_string();
    nl.host.ok(&format!("sh -c 'ssh-keygen -q -t ed25519 -N \"\" -f {directory}/key && chmod 644 {directory}/key'"));
    let serve = "mkdir -p -m 700 /root/.ssh && cat /ssh/key.pub > /root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys && \
                 dropbearkey -t ed25519 -f /tmp/host > /dev/null && exec dropbear -F -E -r /tmp/host -p 22";
    nl.ok(&format!("run -d --name server -p 2222:22 -v {directory}:/ssh:ro sh -c '{serve}'"));
    wait_until("it listens", || nl.run("exec server ss -Htln").text().contains(":22"));
    let client = format!(
        "cp /ssh/key /tmp/key && chmod 600 /tmp/key && head -c 3000000 /dev/zero | timeout 30 ssh -i /tmp/key -p 2222 \
         -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes root@{HOST_IP} \"tee /dev/stderr | wc -c\" 2> /tmp/back; wc -c < /tmp/back"
    );
    let out = nl.ok(&format!("run --rm -v {directory}:/ssh:ro sh -c '{client}'"));
    let counts: Vec<u64> = out.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(matches!(counts[..], [3_000_000, back] if back >= 3_000_000), "{out}\n{}", nl.run("logs server").stderr);
}

fn iperf3_sends_and_gets_the_longest_datagrams_there_are(nl: &Netloom) {
    // To answer datagrams from the address that they were sent to.
    let _server = nl.host.serve(&format!("iperf3 -s -B {FAR_IP}"), 5201);
    for direction in ["", "--reverse"] {
        // A socket's buffer holds three of them by default, and each arrives in 45 fragments.
        let result = nl.json(&format!("run --rm iperf3 -c {FAR_IP} -u -l 65507 -b 20M -t 1 -J {direction}"));
        let sum = &result["end"]["sum"];
        let (sent, lost) = (sum["packets"].as_u64().unwrap_or_default(), sum["lost_packets"].as_u64().unwrap_or(u64::MAX));
        assert!(sent >= 20 && lost <= sent / 4, "{lost} of {sent} were lost {direction}: {result:#}");
    }
}
