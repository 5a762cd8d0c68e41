//! The data plane on real TAPs, kernels' TCP and host sockets, in network namespaces of its own.

mod inside;
mod lab;
mod outside;
