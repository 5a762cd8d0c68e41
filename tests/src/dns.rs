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

/// Answers on 10.99.0.1:53 of the server namespace, which the host's resolv.conf names.
#[derive(Debug)]
pub struct DnsServer {
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DnsServer {
    /// Knows `names`, written without the final dot.
    #[track_caller]
    pub fn start(host: &Host, names: &[(&str, Ipv4Addr)]) -> Self {
        let socket = host.udp(Place::Server, (SERVER_IP, 53));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket takes a timeout");
        let names: Vec<(String, Ipv4Addr)> = names.iter().map(|(name, ip)| (format!("{name}."), *ip)).collect();
        let (asked, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (asked, stop) = (asked.clone(), stop.clone());
            move || {
                while !stop.load(Relaxed) {
                    serve(&socket, &names, &asked);
                }
            }
        });
        Self { asked, stop, thread: Some(thread) }
    }

    /// The names that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panicked while asking").clone()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
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
