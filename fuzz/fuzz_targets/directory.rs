//! See `crates/hostile/src/directory.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    corewal_hostile::check("directory", input);
});
