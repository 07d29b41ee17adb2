//! Models of what threads of a store hand to each other. Loom tries every order
//! in which their steps can be made and seen, on the engine's own source:
//!
//! | module | source | what must hold |
//! |---|---|---|
//! | `durable` | `crates/corewal/src/durable/handoff.rs` | nobody sleeps through the moment he waits for |
//! | `epochs` | `crates/corewal/src/epochs.rs` | who is told that an epoch is complete sees what the cores did for it |
//!
//! Each model is also run with one ordering weakened, and has to fail then.
//!
//! ```text
//! cargo test --manifest-path models/Cargo.toml
//! ```

#![allow(dead_code, reason = "the engine uses more of it")]

pub mod durable;
pub mod epochs;
mod sync;

pub use sync::Weak;

/// What the hand-off says of the engine's errors.
mod error {
    use corewal_format::Lsn;

    #[derive(Debug)]
    pub(crate) enum Error {
        Latched { cause: String, kind: std::io::ErrorKind },
        WriterGone { lsn: Lsn },
    }

    pub(crate) type Result<T> = std::result::Result<T, Error>;
}

/// Whether loom finds an order in which the model breaks.
pub fn breaks(weak: Weak, model: impl Fn() + Send + Sync + 'static) -> bool {
    let _weakened = sync::weaken(weak);
    let model = std::panic::AssertUnwindSafe(|| loom::model(model));
    std::panic::catch_unwind(model).is_err()
}
