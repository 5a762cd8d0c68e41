//! A virtio-net header before a frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::vnet(bytes));
