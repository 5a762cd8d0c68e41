//! `netloom`: containers on a network that lives in userspace.
#![forbid(unsafe_code)]

mod api;

fn main() {}
