//! The `gatehouse` binary: parse, load, run, exit.

fn main() {}
