//! Any bytes as proxy.toml: neither the parser nor the diagnostics may panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse::config::fuzz_config(data));
