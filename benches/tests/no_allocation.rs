//! Nothing allocates per frame: 10,000 frames of each verdict, counted by an allocator that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use netloom_switch::{
    DropReason, Fdb, Mac, PortId, PortSet, Settings, Switch, Time, Verdict,
    gso::Segments,
    testkit::{Built, Lab, TcpFields, eth, mac},
    vnet,
};

/// The system's allocator, counting the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged. The counter is a `Cell` without a destructor and with a constant
// initial value, so touching it neither allocates nor runs code when the thread ends.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout, by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of 10,000 turns, after 1,000 that warm up.
fn allocations(mut turn: impl FnMut()) -> u64 {
    (0..1_000).for_each(|_| turn());
    let before = ALLOCATIONS.get();
    (0..10_000).for_each(|_| turn());
    ALLOCATIONS.get() - before
}

fn superframe() -> Built {
    let (a, b) = ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap());
    eth(mac(1), mac(2)).tcp_gso(a, b, TcpFields::default(), &[7; 9_000], 1448)
}

/// Sends the same frame again and again, a millisecond apart; its fate is always this.
fn costs_nothing(switch: &Switch, port: u16, built: &Built, verdict: Verdict) {
    let mut now = Time::ZERO;
    let count = allocations(|| {
        now = now + Duration::from_millis(1);
        assert_eq!(switch.handle(now, PortId(port), &built.frame()), verdict);
    });
    assert_eq!(count, 0, "{verdict:?}");
}

fn ports(ports: &[u16]) -> PortSet {
    ports.iter().copied().map(PortId).collect()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 10_000);
}

#[test]
fn no_verdict_allocates() {
    let gateway = Mac([2, 0x42, 10, 0, 0, 1]);
    let lab = Lab::with(Settings { gateway: Some(gateway), ..Settings::default() }, 4);
    let switch = &lab.switch;
    lab.set_port(4, |port| port.isolated = true);
    for n in [2, 4] {
        switch.pin(Time::ZERO, mac(n), PortId(u16::from(n))).unwrap();
    }
    costs_nothing(switch, 1, &eth(mac(1), mac(2)).filler(1514), Verdict::Forward(PortId(2)));
    costs_nothing(switch, 1, &superframe(), Verdict::Forward(PortId(2)));
    costs_nothing(switch, 1, &eth(mac(1), gateway).filler(60), Verdict::Forward(PortId::GATEWAY));
    costs_nothing(switch, 1, &eth(mac(1), Mac::BROADCAST).filler(60), Verdict::Flood(ports(&[0, 2, 3])));
    costs_nothing(switch, 1, &eth(mac(1), mac(99)).filler(60), Verdict::Flood(ports(&[2, 3])));
    for (port, built, reason) in [
        (2, eth(mac(3), mac(2)).filler(60), DropReason::BackToIngress),
        (9, eth(mac(1), mac(2)).filler(60), DropReason::PortClosed),
        (1, eth(mac(1), mac(2)).filler(1515), DropReason::TooLong),
        (1, eth(mac(1), mac(2)).filler(60).to_len(13), DropReason::Runt),
        (1, eth(Mac::BROADCAST, mac(2)).filler(60), DropReason::GroupSource),
        (1, eth(Mac::ZERO, mac(2)).filler(60), DropReason::ZeroSource),
        (1, eth(gateway, mac(2)).filler(60), DropReason::SpoofedSource),
        (1, eth(mac(1), Mac([1, 0x80, 0xc2, 0, 0, 0])).filler(60), DropReason::ReservedAddress),
        (1, eth(mac(1), mac(4)).filler(60), DropReason::Isolated),
        (4, eth(mac(4), mac(99)).filler(60), DropReason::NobodyElse),
    ] {
        costs_nothing(switch, port, &built, Verdict::Drop(reason));
    }
}

#[test]
fn moves_and_evictions_allocate_only_while_the_table_grows_into_its_bound() {
    let fdb = Fdb::new(1_000, Duration::from_secs(300));
    let mut n = 0u32;
    let mut flood = || {
        n += 1;
        let now = Time::from_nanos(u64::from(n));
        let [a, b, c, d] = n.to_be_bytes();
        fdb.learn(now, Mac([6, 0, a, b, c, d]), PortId(1)).unwrap();
        fdb.learn(now, mac(1), PortId((n % 3) as u16)).unwrap();
    };
    (0..20_000).for_each(|_| flood());
    // Where addresses fall is chance, so that now and then one of the table's 64 shards still has its largest moment.
    let count = allocations(flood);
    assert!(count < 64, "{count} allocations for 10,000 new addresses and as many moves");
    assert_eq!(fdb.learned(), 1_000);
}

#[test]
fn neither_the_virtio_header_nor_the_segmenter_allocates() {
    let built = superframe();
    let mut buffer = vec![0; 2048];
    let count = allocations(|| {
        let header = vnet::encode(&built.offload, &built.bytes);
        assert_eq!(vnet::decode(&header, &built.bytes), Ok(built.offload));
        let mut segments = Segments::new(&built.frame(), &mut buffer).unwrap();
        let mut count = 0;
        while segments.next().is_some() {
            count += 1;
        }
        assert_eq!(count, 7);
    });
    assert_eq!(count, 0);
}
