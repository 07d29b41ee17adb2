//! See `crates/hostile/src/manifest.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    corewal_hostile::check("manifest", input);
});
