//! Writes the inputs that are made of real stores to `fuzz/seeds`: after a
//! change of the format, say. Those that were found by fuzzing stay.
//!
//! `cargo run -p corewal-hostile --example seeds`
#![allow(clippy::disallowed_methods, reason = "a tool")]

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for target in corewal_hostile::TARGETS {
        let dir = seeds.join(target.name);
        fs::create_dir_all(&dir)?;
        for (name, input) in (target.seeds)() {
            fs::write(dir.join(name), input)?;
        }
    }
    Ok(())
}
