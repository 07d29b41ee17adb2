//! The ledger: which bytes are written and which are durable. Pure: it is told
//! what was submitted and what completed, and says what follows.
//!
//! The rules it keeps, whatever the order of completions:
//!
//! * written moves over a prefix of completed writes, never over a gap;
//! * durable moves, when a sync completes, to the boundary that was written
//!   when that sync was **submitted**, and not to what was written since;
//! * a sync asked for while one is in flight is neither lost nor taken as done
//!   with it.

use std::collections::VecDeque;

use corewal_format::Lsn;
use corewal_io::Token;

#[derive(Debug)]
struct Flight {
    token: Token,
    start: Lsn,
    end: Lsn,
    /// Completed; the flight waits for those before it.
    done: bool,
    /// Completion makes it durable without a sync.
    data_sync: bool,
}

#[derive(Debug)]
struct SyncFlight {
    /// Files whose sync has not completed.
    tokens: Vec<Token>,
    boundary: Lsn,
}

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Write,
    Sync,
    /// Not of this ledger, or completed before: a backend that mixes up its
    /// completions.
    Unknown,
}

/// Written and durable positions of one core's log.
#[derive(Debug)]
pub(crate) struct Ledger {
    flights: VecDeque<Flight>,
    sync: Option<SyncFlight>,
    submitted: Lsn,
    written: Lsn,
    durable: Lsn,
    /// The oldest and the newest position that somebody waits for. The oldest
    /// decides when a sync starts, so that a stream of wishes starves none.
    wanted_first: Lsn,
    wanted: Lsn,
}

impl Ledger {
    /// Everything up to `durable` is durable, nothing is in flight; up to
    /// `frames` will be.
    pub(crate) fn new(durable: Lsn, frames: usize) -> Self {
        Self {
            flights: VecDeque::with_capacity(frames),
            sync: None,
            submitted: durable,
            written: durable,
            durable,
            wanted_first: durable,
            wanted: durable,
        }
    }

    pub(crate) fn submitted(&self) -> Lsn {
        self.submitted
    }

    pub(crate) fn written(&self) -> Lsn {
        self.written
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Everything below was asked to become durable.
    pub(crate) fn wanted(&self) -> Lsn {
        self.wanted
    }

    pub(crate) fn sync_in_flight(&self) -> bool {
        self.sync.is_some() || self.flights.iter().any(|flight| flight.data_sync)
    }

    /// Whether all that was submitted is durable.
    pub(crate) fn settled(&self) -> bool {
        self.durable == self.submitted
    }

    pub(crate) fn write_submitted(&mut self, token: Token, start: Lsn, end: Lsn, data_sync: bool) {
        // The log may skip the header block of the next segment.
        assert!(self.submitted <= start && start < end, "writes are submitted in log order");
        self.submitted = end;
        self.flights.push_back(Flight { token, start, end, done: false, data_sync });
    }

    /// A write was handed over again for the rest of its bytes.
    pub(crate) fn write_resubmitted(&mut self, old: Token, new: Token) {
        let flight = self.flights.iter_mut().find(|flight| flight.token == old);
        flight.expect("a short write is still in flight").token = new;
    }

    pub(crate) fn role(&self, token: Token) -> Role {
        if self.flights.iter().any(|flight| flight.token == token && !flight.done) {
            Role::Write
        } else if self.sync.as_ref().is_some_and(|sync| sync.tokens.contains(&token)) {
            Role::Sync
        } else {
            Role::Unknown
        }
    }

    pub(crate) fn write_completed(&mut self, token: Token) {
        let flight = self.flights.iter_mut().find(|flight| flight.token == token && !flight.done);
        flight.expect("the caller asked for its role").done = true;
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.done) {
            if flight.data_sync && self.durable == self.written {
                self.durable = flight.end;
                self.next_wish();
            }
            debug_assert!(self.written <= flight.start);
            self.written = flight.end;
        }
        assert!(self.durable <= self.written && self.written <= self.submitted);
    }

    /// Everything below `lsn` is to become durable.
    pub(crate) fn want_durable(&mut self, lsn: Lsn) {
        if self.wanted_first <= self.durable {
            self.wanted_first = lsn;
        }
        self.wanted = self.wanted.max(lsn);
    }

    /// The range that a sync should cover now, if one is wanted and none is in
    /// flight: what is written and not durable.
    pub(crate) fn sync_due(&self) -> Option<(Lsn, Lsn)> {
        // Wait for the writes that are wanted: a sync covers only what has
        // completed, so an earlier one would be in vain.
        let due = self.sync.is_none() && self.durable < self.wanted_first && self.wanted_first <= self.written;
        due.then_some((self.durable, self.written))
    }

    pub(crate) fn sync_submitted(&mut self, tokens: Vec<Token>) {
        assert!(self.sync.is_none() && !tokens.is_empty());
        self.sync = Some(SyncFlight { tokens, boundary: self.written });
    }

    /// One file's sync completed. Gives the new durable position when it was
    /// the last one.
    pub(crate) fn sync_completed(&mut self, token: Token) -> Option<Lsn> {
        let sync = self.sync.as_mut().expect("the caller asked for its role");
        sync.tokens.retain(|&waiting| waiting != token);
        if !sync.tokens.is_empty() {
            return None;
        }
        let boundary = sync.boundary;
        self.sync = None;
        assert!(
            self.durable <= boundary && boundary <= self.written,
            "durable is monotonic and never ahead of written"
        );
        self.durable = boundary;
        self.next_wish();
        Some(boundary)
    }

    /// Once the oldest wish is granted, the newest is the one to sync for.
    fn next_wish(&mut self) {
        if self.wanted_first <= self.durable {
            self.wanted_first = self.wanted;
        }
    }

    /// What some planted bugs come to: all that is written is durable.
    pub(crate) fn planted_all_durable(&mut self) {
        self.durable = self.written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(ledger: &mut Ledger, token: u64, start: u64, end: u64) {
        ledger.write_submitted(Token(token), Lsn(start), Lsn(end), false);
    }

    #[test]
    fn written_waits_for_the_gap_when_a_later_write_finishes_first() {
        let mut ledger = Ledger::new(Lsn(0), 4);
        write(&mut ledger, 1, 0, 10);
        write(&mut ledger, 2, 10, 20);
        ledger.write_completed(Token(2));
        assert_eq!(ledger.written(), Lsn(0));
        ledger.write_completed(Token(1));
        assert_eq!(ledger.written(), Lsn(20));
        assert_eq!(ledger.durable(), Lsn(0));
    }

    #[test]
    fn a_sync_covers_what_was_written_when_it_was_submitted_and_no_more() {
        let mut ledger = Ledger::new(Lsn(0), 4);
        write(&mut ledger, 1, 0, 10);
        ledger.want_durable(Lsn(10));
        assert_eq!(ledger.sync_due(), None, "nothing has completed");
        ledger.write_completed(Token(1));
        assert_eq!(ledger.sync_due(), Some((Lsn(0), Lsn(10))));
        ledger.sync_submitted(vec![Token(2)]);
        write(&mut ledger, 3, 10, 20);
        ledger.write_completed(Token(3));
        assert_eq!(ledger.sync_completed(Token(2)), Some(Lsn(10)));
        assert_eq!((ledger.written(), ledger.durable()), (Lsn(20), Lsn(10)));
    }

    #[test]
    fn a_sync_asked_for_while_one_is_in_flight_follows_it() {
        let mut ledger = Ledger::new(Lsn(0), 4);
        write(&mut ledger, 1, 0, 10);
        ledger.write_completed(Token(1));
        ledger.want_durable(Lsn(10));
        ledger.sync_submitted(vec![Token(2)]);
        write(&mut ledger, 3, 10, 20);
        ledger.write_completed(Token(3));
        ledger.want_durable(Lsn(20));
        assert_eq!(ledger.sync_due(), None, "one at a time");
        ledger.sync_completed(Token(2));
        assert_eq!(ledger.sync_due(), Some((Lsn(10), Lsn(20))), "not lost");
    }

    #[test]
    fn a_sync_over_two_files_is_done_when_both_are() {
        let mut ledger = Ledger::new(Lsn(0), 4);
        write(&mut ledger, 1, 0, 10);
        ledger.write_completed(Token(1));
        ledger.want_durable(Lsn(10));
        ledger.sync_submitted(vec![Token(2), Token(3)]);
        assert_eq!(ledger.sync_completed(Token(3)), None);
        assert_eq!(ledger.role(Token(3)), Role::Unknown, "a completion counts once");
        assert_eq!(ledger.sync_completed(Token(2)), Some(Lsn(10)));
    }

    #[test]
    fn a_data_sync_write_is_durable_only_behind_a_durable_log() {
        let mut ledger = Ledger::new(Lsn(0), 4);
        ledger.write_submitted(Token(1), Lsn(0), Lsn(10), true);
        ledger.write_completed(Token(1));
        assert_eq!(ledger.durable(), Lsn(10));
        write(&mut ledger, 2, 10, 20);
        ledger.write_submitted(Token(3), Lsn(20), Lsn(30), true);
        ledger.write_completed(Token(3));
        ledger.write_completed(Token(2));
        assert_eq!((ledger.written(), ledger.durable()), (Lsn(30), Lsn(10)));
    }
    #[test]
    fn a_data_sync_write_grants_its_own_wish_and_not_the_one_behind_it() {
        // The crash loop found it: the wish behind was taken as granted, no
        // sync was ever due, and whoever waited for it waited for nothing.
        let mut ledger = Ledger::new(Lsn(0), 4);
        ledger.write_submitted(Token(1), Lsn(0), Lsn(10), true);
        ledger.want_durable(Lsn(10));
        write(&mut ledger, 2, 10, 20);
        ledger.want_durable(Lsn(20));
        ledger.write_completed(Token(1));
        ledger.write_completed(Token(2));
        assert_eq!(ledger.durable(), Lsn(10));
        assert_eq!(ledger.sync_due(), Some((Lsn(10), Lsn(20))));
    }
}
