//! Fault classes of the table in `docs/DURABILITY.md` that no other test makes
//! on purpose: each test makes its fault by hand and says what has to become of
//! it. (The crash loop meets most of them by chance, `damage` those of bytes.)
//!
//! | module | classes |
//! |---|---|
//! | `sectors` | a sector torn |
//! | `writes` | a write that is short, a sync that fails |
//! | `completions` | a sync that overtakes a write; completions late, lost, doubled, mixed up |
//! | `recovery` | a crash in a recovery, in a repair |
//! | `clock` | the clock steps back |
//! | `table` | that the table names tests which exist |
//! | `bench` | the log that all of them write, and a backend that meddles |

mod bench;
mod clock;
mod completions;
mod recovery;
mod sectors;
mod table;
mod writes;
