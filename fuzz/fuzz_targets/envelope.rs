//! One message, as a client's and as a child's.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| gatehouse::frame::fuzz_envelope(text));
