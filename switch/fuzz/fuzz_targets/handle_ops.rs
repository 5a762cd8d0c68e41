//! A script for the switch beside its model.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::handle_ops(bytes));
