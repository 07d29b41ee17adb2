//! See `crates/hostile/src/run.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    corewal_hostile::check("run", input);
});
