//! A virtio header and a frame, as a container can send them to the gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::frame(bytes));
