//! One text that is shown as a token.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| gatehouse::auth::jwt::fuzz_token(text));
