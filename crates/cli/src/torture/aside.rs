//! Copies that are damaged: refused, or nothing lost, or a loss that the
//! documents name.

use std::ffi::OsStr;
use std::fs;

use corewal::{Error, Keyed};

use super::copies;
use super::fault::Fault;
use super::oracle::Promise;
use super::rack::{Rack, Store};
use super::seen::Seen;
use crate::exit::Failure;

impl Rack {
    /// A copy of what the kill left, made before anybody has opened it. As often
    /// as not there is none: then the store is copied when it is closed.
    pub(super) fn copy_for(&mut self, fault: Fault) -> Result<bool, Failure> {
        let wanted = matches!(fault, Fault::Damage | Fault::Repair)
            && self.places.store.join("MANIFEST").exists()
            && self.random.bool();
        if wanted {
            copies::copy(&self.places.store, &self.places.copy)?;
        }
        Ok(wanted)
    }

    /// Damages a copy and opens it. Closed in order, a store leaves no room for
    /// doubt: it is refused, or nothing is lost. As a kill left it, the last
    /// frames of a log can't be told from an unfinished write.
    pub(super) fn damage(&mut self, store: &Store, crashed: bool, closed: bool) -> Result<(), Failure> {
        if !crashed {
            copies::copy(&self.places.store, &self.places.copy)?;
        }
        let whole = !crashed && closed;
        let damage = copies::damage(&self.places.copy, &mut self.random)?.what;
        self.tally.checked(&[Promise::Damage]);
        let opened =
            self.options().create(false).open_on(store.setup.io.storage(), &self.places.copy, |_| Keyed::default());
        self.tally.of(Fault::Damage).openings += 1;
        let mut opened = match opened {
            Ok(opened) => opened,
            Err(Error::Damaged(_) | Error::NotAStore { .. } | Error::Unsupported { .. }) => {
                self.tally.of(Fault::Damage).refused += 1;
                return Ok(());
            }
            Err(error) => {
                self.broken(Promise::Damage, format!("{damage}: {error}"));
                return Ok(());
            }
        };
        let seen = Seen::of(&mut opened);
        for found in seen.check(store.workload, &store.oracle) {
            self.broken(Promise::Damage, format!("{damage}, and it opened with other data: {found}"));
        }
        let (before, now) = (store.oracle.offset(), seen.offset());
        if now < before && !whole {
            self.tally.of(Fault::Damage).window += 1;
        } else if now != before {
            self.broken(Promise::Damage, format!("{damage}, and it opened at offset {now} instead of {before}"));
        }
        Ok(())
    }

    /// Damages a copy, repairs it, with the repair killed before, and opens what
    /// comes of it: an earlier state, and a true one.
    pub(super) fn repair(&mut self, store: &Store, crashed: bool) -> Result<(), Failure> {
        if !crashed {
            copies::copy(&self.places.store, &self.places.copy)?;
        }
        let copy = self.places.copy.clone();
        let damage = copies::damage(&copy, &mut self.random)?.what;
        self.tally.checked(&[Promise::Repair]);
        for _ in 0..self.random.u8(0..3) {
            self.kill_verb(&copy, &[OsStr::new("repair"), OsStr::new("--apply")])?;
        }
        let options = self.options().create(false);
        let storage = store.setup.io.storage();
        let mended = corewal::repair(&copy, true).and_then(|_| options.open_on(storage, &copy, |_| Keyed::default()));
        self.tally.of(Fault::Repair).openings += 1;
        match mended {
            Ok(mut opened) => {
                let seen = Seen::of(&mut opened);
                for found in seen.check(store.workload, &store.oracle) {
                    self.broken(Promise::Repair, format!("{damage}, repaired, and other data: {found}"));
                }
                let (before, now) = (store.oracle.offset(), seen.offset());
                if now > before {
                    self.broken(Promise::Repair, format!("{damage}, repaired, and offset {now} instead of {before}"));
                }
                self.tally.of(Fault::Repair).window += u64::from(now < before);
            }
            // Only logs can be cut; a run or a manifest comes from a copy.
            Err(Error::Damaged(_) | Error::NotAStore { .. })
                if !damage.contains(".wal") || damage.contains("swapped") =>
            {
                self.tally.of(Fault::Repair).refused += 1;
            }
            Err(error) => self.broken(Promise::Repair, format!("{damage}, repaired, and it does not open: {error}")),
        }
        let kept = fs::read_dir(&copy)?.filter_map(Result::ok);
        self.tally.kept_aside +=
            kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-")).count() as u64;
        Ok(())
    }
}
