//! A virtio-net header before a frame that is then cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::gso(bytes));
