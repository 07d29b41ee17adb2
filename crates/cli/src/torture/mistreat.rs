//! Faults of the process that writes.

use std::thread;
use std::time::Duration;

use corewal::{Epoch, Keyed, Options, Reader, Recover};

use super::fault::Fault;
use super::oracle::{Acknowledged, Promise};
use super::rack::{Rack, Store};
use super::seen::Seen;
use super::victim::{Remains, Signal, Victim};
use crate::exit::Failure;

impl Rack {
    /// Lets a process write, does to it what the fault says, and kills it in the
    /// end.
    pub(super) fn mistreat(&mut self, store: &Store, fault: Fault) -> Result<Remains, Failure> {
        let mut remains = Remains::default();
        if fault == Fault::Opening {
            // What one opening leaves half done, the next one finds.
            for _ in 0..self.random.u8(1..4) {
                self.kill_while_opening(store, &mut remains)?;
                if self.has_killed_enough() || !self.tally.violations.is_empty() {
                    break;
                }
            }
            return Ok(remains);
        }
        let mut victim = Victim::start(&self.places.store, store.seed, &store.setup, fault)?;
        if victim.wait_for_open(&mut remains) {
            thread::sleep(self.moment());
            match fault {
                Fault::Stop => self.stop(store, &mut victim, &mut remains)?,
                Fault::Limit => self.limit(store, &mut victim)?,
                Fault::Archive => self.push_beside()?,
                _ if self.random.u8(0..6) == 0 => self.try_the_lock(fault, &mut victim)?,
                _ => {}
            }
        } else if !fault.may_end_the_writer() {
            self.broken(Promise::Opens, "the child ended or hung before it had opened the store".to_owned());
        }
        self.end(victim, fault, &mut remains)?;
        Ok(remains)
    }

    fn kill_while_opening(&mut self, store: &Store, remains: &mut Remains) -> Result<(), Failure> {
        let victim = Victim::start(&self.places.store, store.seed, &store.setup, Fault::Opening)?;
        thread::sleep(Duration::from_micros(self.random.u64(0..20_000)));
        let mut this = Remains::default();
        self.end(victim, Fault::Opening, &mut this)?;
        this.last = this.last.or(remains.last);
        *remains = this;
        Ok(())
    }

    /// Kills it and hears what it had said.
    fn end(&mut self, victim: Victim, fault: Fault, remains: &mut Remains) -> Result<(), Failure> {
        victim.kill(remains)?;
        self.tally.epochs_acknowledged += remains.epochs;
        let Some(said) = &remains.ended else {
            self.tally.kills += 1;
            self.tally.kills_while_opening += u64::from(!remains.had_opened);
            return Ok(());
        };
        if remains.ended_for_want_of_space() {
            // Of the disk as it is, or as the fault has made it.
            self.tally.of(fault).ended += 1;
        } else {
            self.broken(Promise::Opens, format!("the child ended by itself under {fault}: {said}"));
        }
        Ok(())
    }

    /// Stands still in the middle of whatever it does; others come by.
    fn stop(&mut self, store: &Store, victim: &mut Victim, remains: &mut Remains) -> Result<(), Failure> {
        victim.signal(Signal::STOP)?;
        self.try_the_lock(Fault::Stop, victim)?;
        self.look_beside(store, remains);
        thread::sleep(self.moment());
        victim.signal(Signal::CONT)?;
        thread::sleep(self.moment());
        Ok(())
    }

    /// A reader sees the end of an epoch, and nothing that can still be lost.
    fn look_beside(&mut self, store: &Store, remains: &mut Remains) {
        self.tally.checked(&[Promise::Readers]);
        let look = || -> corewal::Result<(Epoch, Seen)> {
            let reader = Reader::open(&self.places.store)?;
            let views = reader.replay(Recover::CompleteEpoch, |_| Keyed::default())?;
            Ok((reader.complete_epoch(), Seen::of_views(&views, &reader.router())))
        };
        match look() {
            Ok((epoch, seen)) => {
                let wrong = seen.check(store.workload, &store.oracle);
                wrong.into_iter().for_each(|found| self.broken(Promise::Readers, found.to_string()));
                remains.seen = Some(Acknowledged { epoch, offset: seen.offset() });
            }
            Err(error) => self.broken(Promise::Readers, format!("nothing can be read beside the writer: {error}")),
        }
    }

    /// From now on a write fails sooner or later.
    fn limit(&mut self, store: &Store, victim: &mut Victim) -> Result<(), Failure> {
        // By turns within the first half of a segment, which whatever it writes
        // soon passes, and anywhere up to twice its length, which it may never
        // reach. Whole blocks: what is left of a direct write that was cut
        // elsewhere is refused for its alignment.
        let blocks = store.setup.segment_bytes / 4096;
        let most = if self.tally.of(Fault::Limit).made % 2 == 1 { blocks / 2 } else { 2 * blocks };
        let bytes = 4096 * self.random.u64(1..=most.max(1));
        victim.limit_files(bytes)?;
        // It may go on for as long as what is ready lasts.
        for _ in 0..40 {
            if victim.has_ended()? {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Nobody opens the store while its writer lives.
    fn try_the_lock(&mut self, fault: Fault, victim: &mut Victim) -> Result<(), Failure> {
        let opened = Options::new().create(false).open(&self.places.store);
        if opened.as_ref().is_err_and(corewal::Error::is_locked) {
            self.tally.checked(&[Promise::Lock]);
            return Ok(());
        }
        // One for which there is no space ends by itself: the lock goes a moment
        // before it has.
        for _ in 0..if fault.may_end_the_writer() { 50 } else { 0 } {
            if victim.has_ended()? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let got = opened.map_or_else(|error| error.to_string(), |_| "it could be opened a second time".to_owned());
        self.broken(Promise::Lock, format!("a store in use was not locked: {got}"));
        Ok(())
    }
}
