//! Seeds for the fuzzers that take more than a few lines to make.

pub(crate) mod admit;
pub(crate) mod segments;
