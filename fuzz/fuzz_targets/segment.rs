//! See `crates/hostile/src/segment.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    corewal_hostile::check("segment", input);
});
