//! A virtio header and a frame, as a container with a neighbour can send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::admit(bytes));
