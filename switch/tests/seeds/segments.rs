//! Scripts for the gateway of flows whose container says more than numbers: options, urgent data, a header of another length. What each
//! byte means stands in `gateway/testkit/script/segment.rs`.

const SYN: u8 = 2;
const ACK: u8 = 0x10;
const PUSH: u8 = 0x18;
const FIN: u8 = 0x11;

const IPV4: u8 = 5;
const IPV6: u8 = 141;

/// What a container says beside ports, flags and numbers.
#[derive(Clone, Copy, Default)]
struct Said<'a> {
    options: &'a [u8],
    length: Option<u8>,
    urgent: Option<u16>,
    payload: u16,
}

fn segment(to: u8, flags: u8, said: Said<'_>) -> Vec<u8> {
    let Said { options, length, urgent, payload } = said;
    let bits = [(payload > 0, 0x20), (!options.is_empty(), 0x40), (length.is_some(), 0x80)];
    let what = bits.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum();
    let words = if options.is_empty() { vec![] } else { vec![(options.len() / 4) as u8] };
    let urg = if urgent.is_some() { 0x20 } else { 0 };
    let pointer = urgent.map_or(vec![], |pointer| pointer.to_be_bytes().to_vec());
    let length = length.map_or(vec![], |length| vec![length]);
    [&[2, what, flags | urg, to, 0, 0][..], &words, options, &length, &pointer, &payload.to_be_bytes(), &[0xff, 0xff]].concat()
}

/// A connection that is open: what the SYN said, and what follows.
fn open(to: u8, options: &[u8], then: &[Vec<u8>]) -> Vec<u8> {
    let connected = vec![6, 0, 0, 0, 0];
    [segment(to, SYN, Said { options, ..Said::default() }), connected, segment(to, ACK, Said::default()), then.concat()].concat()
}

/// MSS, SACK permitted, timestamps, a no-op, the window's scale, as Linux says them in a SYN; and timestamps later.
const OF_LINUX: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 2, 0, 0, 0, 1];

/// Says something, sleeps, is woken by the host, sleeps, and wakes the gateway.
fn asleep(to: u8) -> Vec<u8> {
    let says = |flags: u8, payload: u16| segment(to, flags, Said { options: &TIMESTAMPS, payload, ..Said::default() });
    let (nap, host_says) = (vec![7, 23], vec![6, 2, 0, 1, 0]);
    let then = [says(PUSH, 200), nap.clone(), host_says, says(ACK, 0), nap, says(PUSH, 2000), says(FIN, 0)];
    open(to, &OF_LINUX, &then)
}

pub(crate) fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    let urgent = |pointer: u16, payload: u16| segment(IPV4, PUSH, Said { urgent: Some(pointer), payload, ..Said::default() });
    let length = |words: u8, payload: u16| segment(IPV4, PUSH, Said { length: Some(words), payload, ..Said::default() });
    let host_says = vec![6, 2, 0, 0xff, 0xff];
    // In a SYN, in data of an open flow, of which some goes straight to the host, and in a SYN that comes when it is open.
    let odd = |options: &'static [u8]| {
        let says = |flags: u8, payload: u16| segment(IPV4, flags, Said { options, payload, ..Said::default() });
        let sound = segment(IPV4, PUSH, Said { payload: 700, ..Said::default() });
        let then = [sound, says(PUSH, 700), says(PUSH, 200), says(SYN, 0), host_says.clone(), says(ACK, 0)];
        [open(IPV4, options, &[]), open(IPV4, &OF_LINUX, &then)].concat()
    };
    // Of bytes that nobody sent, and edges the wrong way round.
    let sack = [1, 1, 5, 18, 0xff, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 1];
    vec![
        ("tcp-options-and-asleep", asleep(IPV4)),
        ("tcp6-options-and-asleep", asleep(IPV6)),
        ("tcp-option-of-no-length", odd(&[2, 4, 5, 180, 3, 0, 7, 1])),
        ("tcp-option-past-the-header", odd(&[4, 2, 1, 1, 2, 4, 5, 180, 8, 10, 0, 0])),
        ("tcp-option-cut-after-its-kind", odd(&[1, 1, 1, 3])),
        ("tcp-options-of-absurd-size", odd(&[2, 4, 0, 1, 3, 3, 255, 1])),
        ("tcp6-mss-of-one-byte", open(IPV6, &[2, 4, 0, 1], &[host_says.clone(), segment(IPV6, ACK, Said::default())])),
        (
            "tcp-sack-of-nothing",
            open(IPV4, &OF_LINUX, &[host_says.clone(), segment(IPV4, ACK, Said { options: &sack, ..Said::default() })]),
        ),
        ("tcp-urgent-pointer-lies", open(IPV4, &[], &[urgent(0xffff, 200), urgent(0, 200), urgent(201, 2000), urgent(7, 0)])),
        ("tcp-header-length-lies", open(IPV4, &[], &[length(15, 200), length(15, 0), length(4, 200), length(0, 700), length(6, 200)])),
    ]
}
