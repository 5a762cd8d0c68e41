//! What a DHCPv6 client says to the gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloom_switch::testkit::fuzz::dhcp6(bytes));
