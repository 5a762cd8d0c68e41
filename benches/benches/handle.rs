//! What the switch costs: a frame's fate by verdict, the MAC table when it is large, the virtio header, the segmenter.
//!
//! ```sh
//! cargo bench -p netloom-benches --bench handle
//! ```

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netloom_switch::{
    Fdb, Mac, PortId, Settings, Time, checksum,
    gso::Segments,
    testkit::{Built, Lab, TcpFields, eth, mac},
    vnet,
};

fn superframe() -> Built {
    let (a, b) = ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap());
    eth(mac(1), mac(2)).tcp_gso(a, b, TcpFields::default(), &vec![7; 64_000], 1448)
}

/// A lab in which ports 1 to 32 have spoken.
fn lab() -> Lab {
    let mut lab = Lab::new(32);
    for n in 1..=32 {
        let _ = lab.switch.handle(lab.now(), PortId(u16::from(n)), &eth(mac(n), Mac::BROADCAST).filler(60).frame());
    }
    lab.advance(Duration::from_secs(1));
    lab
}

fn verdicts(c: &mut Criterion) {
    let lab = lab();
    let mut group = c.benchmark_group("handle");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("forward", eth(mac(1), mac(2)).filler(1514)),
        ("forward a superframe", superframe()),
        ("flood", eth(mac(1), Mac::BROADCAST).filler(60)),
        ("flood to a stranger", eth(mac(1), mac(99)).filler(60)),
        ("drop", eth(Mac::BROADCAST, mac(2)).filler(60)),
    ];
    for (name, built) in &cases {
        group.bench_function(*name, |b| b.iter(|| lab.switch.handle(lab.now(), PortId(1), black_box(&built.frame()))));
    }
    let gateway = Mac([2, 0x42, 10, 0, 0, 1]);
    let lab = Lab::with(Settings { gateway: Some(gateway), ..Settings::default() }, 4);
    for (name, to) in [("forward to the gateway", gateway), ("flood beside a gateway", Mac::BROADCAST)] {
        let built = eth(mac(1), to).filler(60);
        group.bench_function(name, |b| b.iter(|| lab.switch.handle(lab.now(), PortId(1), black_box(&built.frame()))));
    }
    group.finish();
}

fn table(c: &mut Criterion) {
    const ENTRIES: u32 = 65_536;
    let address = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    };
    let fdb = Fdb::new(ENTRIES as usize, Duration::from_secs(300));
    for n in 0..ENTRIES {
        fdb.learn(Time::ZERO, address(n), PortId((n % 100) as u16)).unwrap();
    }
    let mut group = c.benchmark_group("fdb of 64k");
    group.throughput(Throughput::Elements(1));
    // A stride that visits them all, far apart.
    let mut n = 0u32;
    let mut next = move || {
        n = n.wrapping_add(40_503) % ENTRIES;
        n
    };
    group.bench_function("lookup", |b| b.iter(|| fdb.lookup(Time::ZERO, address(next()))));
    group.bench_function("refresh", |b| {
        b.iter(|| {
            let n = next();
            fdb.learn(Time::ZERO, address(n), PortId((n % 100) as u16))
        });
    });
    let mut fresh = ENTRIES;
    group.bench_function("learn and evict", |b| {
        b.iter(|| {
            fresh = fresh.wrapping_add(1);
            fdb.learn(Time::from_nanos(u64::from(fresh)), address(fresh), PortId(7))
        });
    });
    group.finish();
}

fn header(c: &mut Criterion) {
    let (superframe, plain) = (superframe(), eth(mac(1), mac(2)).filler(1514));
    let mut group = c.benchmark_group("vnet");
    group.throughput(Throughput::Elements(1));
    for (name, built) in [("plain", &plain), ("superframe", &superframe)] {
        let header = vnet::encode(&built.offload, &built.bytes);
        group.bench_function(format!("decode {name}"), |b| b.iter(|| vnet::decode(black_box(&header), black_box(&built.bytes))));
        group.bench_function(format!("encode {name}"), |b| b.iter(|| vnet::encode(black_box(&built.offload), black_box(&built.bytes))));
    }
    group.finish();
}

fn segmenter(c: &mut Criterion) {
    let built = superframe();
    let mut buffer = vec![0; 2048];
    let mut group = c.benchmark_group("bytes");
    group.throughput(Throughput::Bytes(built.bytes.len() as u64));
    group.bench_function("segment 64 kB into 45", |b| {
        b.iter(|| {
            let mut segments = Segments::new(&built.frame(), &mut buffer).unwrap();
            while let Some(segment) = segments.next() {
                black_box(segment);
            }
        });
    });
    group.bench_function("checksum 64 kB", |b| b.iter(|| checksum::sum(black_box(&built.bytes), 0)));
    group.finish();
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(30)
}

criterion_group! { name = benches; config = short(); targets = verdicts, table, header, segmenter }
criterion_main!(benches);
