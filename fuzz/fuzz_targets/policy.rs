//! One message or one condition, judged.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| gatehouse::policy::fuzz_policy(text));
