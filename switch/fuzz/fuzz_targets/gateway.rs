//! A script of hostile frames and events for the gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::gateway(bytes));
