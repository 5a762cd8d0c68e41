//! The headers of any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::parse(bytes));
