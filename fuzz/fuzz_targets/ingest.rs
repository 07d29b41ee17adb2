//! See `crates/hostile/src/ingest.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    corewal_hostile::check("ingest", input);
});
