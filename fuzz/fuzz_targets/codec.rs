//! A child's stream of lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|stream: &[u8]| gatehouse::codec::fuzz_codec(stream));
