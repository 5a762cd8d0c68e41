//! The built binary on real kernels: what people see, as root and as an ordinary user. One program, so that everything runs side by
//! side; each module is one topic.
#![forbid(unsafe_code)]

#[macro_use]
extern crate netloom_tests;

mod attach;
mod bad_clients;
mod bad_input;
mod bad_machine;
mod clients;
mod commands;
mod crash;
mod dhcp;
mod dhcp6;
mod exits;
mod files;
mod hostile;
mod ipv6;
mod isolation;
mod lifecycle;
mod logs;
mod looking;
mod many;
mod modes;
mod names;
mod networks;
mod outside;
mod paths;
mod process;
mod publish;
mod reported;
mod terminal;
mod traffic;
mod users;
mod veth;
