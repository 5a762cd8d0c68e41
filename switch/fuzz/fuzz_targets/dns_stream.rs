//! What a client says over TCP to the gateway's DNS.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::dns_stream(bytes));
