//! A resolver in the world outside: it knows a few names and says NXDOMAIN to the rest.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};

use crate::{Host, Place, SERVER_IP};

/// Answers on port 53 of 10.99.0.1 and of the nameservers in the machine's resolv.conf.
#[derive(Debug)]
pub struct DnsServer {
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl DnsServer {
    /// Knows `names`, written without the final dot.
    #[track_caller]
    pub fn start(host: &Host, names: &[(&str, Ipv4Addr)]) -> Self {
        let names: Arc<Vec<(String, Ipv4Addr)>> = Arc::new(names.iter().map(|(name, ip)| (format!("{name}."), *ip)).collect());
        let (asked, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let answer = |(place, address)| {
            let socket = host.udp(place, (address, 53));
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket takes a timeout");
            let (names, asked, stop) = (names.clone(), asked.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    serve(&socket, &names, &asked);
                }
            })
        };
        let threads = addresses().map(answer).collect();
        Self { asked, stop, threads }
    }

    /// The names that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panicked while asking").clone()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Where the machine's resolv.conf sends questions, and an address for those who name a nameserver. A socket for each, since an answer
/// comes from the address that was asked.
fn addresses() -> impl Iterator<Item = (Place, Ipv4Addr)> {
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<Ipv4Addr> = conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect();
    let place = |address: Ipv4Addr| (if address.is_loopback() { Place::Host } else { Place::Server }, address);
    servers.into_iter().filter(|address| *address != SERVER_IP).chain([SERVER_IP]).map(place)
}

fn serve(socket: &UdpSocket, names: &[(String, Ipv4Addr)], asked: &Mutex<Vec<String>>) {
    let mut bytes = [0; 4096];
    let Ok((n, client)) = socket.recv_from(&mut bytes) else { return };
    let Ok(query) = Message::from_vec(&bytes[..n]) else { return };
    let Some(question) = query.queries.first().cloned() else { return };
    let name = question.name().to_ascii().to_lowercase();
    asked.lock().expect("no test panicked while asking").push(name.trim_end_matches('.').to_owned());
    let mut answer = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    match names.iter().find(|(known, _)| *known == name) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some((_, ip)) if question.query_type() == RecordType::A => {
            answer.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A(*ip))));
        }
        Some(_) => {}
    }
    if let Ok(bytes) = answer.to_vec() {
        let _ = socket.send_to(&bytes, client);
    }
}
