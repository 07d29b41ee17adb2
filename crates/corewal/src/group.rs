//! The group-commit policy: when the commits that were appended become durable
//! together. Pure: it is told what is pending and says what to do; it owns no
//! clock and calls nothing.

use std::time::Duration;

use corewal_format::{Lsn, TimestampNs};

/// When commits are made durable without being asked to, and how many at once.
///
/// Given to [`Options::group_commit`](crate::Options::group_commit); each core
/// applies it to its own log, at every commit and every poll. Limits add up:
/// whichever is reached first starts the sync of all commits appended so far.
/// Asking by hand ([`Shard::sync`](crate::Shard::sync)) and the end of an epoch
/// do so too, whatever the policy.
///
/// ```
/// use std::time::Duration;
/// use corewal::{GroupCommit, Options};
///
/// // 64 commits, or what has been waiting for 2 ms, in one sync.
/// let policy = GroupCommit::manual().commits(64).delay(Duration::from_millis(2));
/// let options = Options::new().group_commit(policy);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCommit {
    commits: Option<u64>,
    bytes: Option<u64>,
    delay: Option<Duration>,
    in_flight_bytes: Option<u64>,
}

impl GroupCommit {
    /// No commit is made durable unless that is asked for or an epoch ends.
    /// The default, and what the limits are added to.
    #[must_use]
    pub const fn manual() -> Self {
        Self { commits: None, bytes: None, delay: None, in_flight_bytes: None }
    }

    /// Every commit starts its own sync.
    #[must_use]
    pub const fn each() -> Self {
        Self::manual().commits(1)
    }

    /// A sync starts once this many commits wait for one; 0 acts as 1.
    #[must_use]
    pub const fn commits(mut self, commits: u64) -> Self {
        self.commits = Some(commits);
        self
    }

    /// A sync starts once the commits that wait for one take this many bytes
    /// of the log; 0 acts as 1.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// A sync starts once the oldest commit has waited this long for one, to
    /// the nanosecond of the store's [`Clock`](crate::Clock). It is a poll that
    /// notices: [`Shard::next_deadline`](crate::Shard::next_deadline) says when
    /// the next one is due. A clock that steps back starts the wait anew.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// While this many bytes of the log, or more, are on their way to becoming
    /// durable, the limits start no further sync: the batch grows, and goes
    /// when enough of what is under way has arrived. So fewer than this plus
    /// one batch are under way at a time. A batch goes when nothing is under
    /// way, however large it is; 0 acts as 1.
    ///
    /// Without it each batch goes as soon as it is due, while earlier ones may
    /// still be under way.
    #[must_use]
    pub const fn in_flight_bytes(mut self, bytes: u64) -> Self {
        self.in_flight_bytes = Some(bytes);
        self
    }

    /// Whether nothing ever becomes durable by this policy.
    pub(crate) const fn is_manual(&self) -> bool {
        self.commits.is_none() && self.bytes.is_none() && self.delay.is_none()
    }

    /// Whether the age of what is pending matters.
    pub(crate) const fn looks_at_time(&self) -> bool {
        self.delay.is_some()
    }

    /// What to do about a backlog.
    pub(crate) fn decide(&self, backlog: Backlog) -> Decision {
        let Backlog { commits, bytes, age, in_flight } = backlog;
        let blocked = in_flight > 0 && self.in_flight_bytes.is_some_and(|bound| in_flight >= bound);
        if commits == 0 || blocked {
            return Decision::Nothing;
        }
        if self.commits.is_some_and(|limit| commits >= limit) || self.bytes.is_some_and(|limit| bytes >= limit) {
            return Decision::Sync;
        }
        match self.delay.map(|delay| delay.saturating_sub(age)) {
            None => Decision::Nothing,
            Some(Duration::ZERO) => Decision::Sync,
            Some(left) => Decision::Wait(left),
        }
    }
}

/// What waits, in one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Commits that no sync has been asked for.
    pub(crate) commits: u64,
    /// Bytes of the log that they take.
    pub(crate) bytes: u64,
    /// How long the oldest of them has waited.
    pub(crate) age: Duration,
    /// Bytes of the log that a sync has been asked for and that are not
    /// durable.
    pub(crate) in_flight: u64,
}

/// What to do about a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Ask for a sync.
    Sync,
    /// Nothing yet; look again after this long, never zero.
    Wait(Duration),
    /// Nothing, until another commit comes or something under way arrives.
    Nothing,
}

/// The commits that no sync has been asked for. Told of each commit; what was
/// asked for since, it is told when it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pending {
    commits: u64,
    /// The end of the newest.
    end: Lsn,
    /// When the oldest came, or the newest reading of a clock that has stepped
    /// back since.
    since: TimestampNs,
}

impl Pending {
    /// A commit that ends at `end` was appended; a sync has been asked for up
    /// to `asked`. Whether it is the oldest that waits.
    pub(crate) fn add(&mut self, end: Lsn, asked: Lsn) -> bool {
        let first = self.commits(asked) == 0;
        self.commits = if first { 1 } else { self.commits + 1 };
        self.end = end;
        first
    }

    /// The oldest came at `now`.
    pub(crate) fn began(&mut self, now: TimestampNs) {
        self.since = now;
    }

    /// How many there are. Asking covers all that was appended; where only a
    /// part became durable by itself, that part still counts, so a sync may
    /// come early, but never late.
    pub(crate) fn commits(&self, asked: Lsn) -> u64 {
        if self.end <= asked { 0 } else { self.commits }
    }

    /// Bytes of the log from `asked` to the end of the newest.
    pub(crate) fn bytes(&self, asked: Lsn) -> u64 {
        self.end.0.saturating_sub(asked.0)
    }

    /// How long the oldest has waited. From a clock that has stepped back the
    /// time counts anew, so no wait is longer than the delay from there.
    pub(crate) fn age(&mut self, now: TimestampNs) -> Duration {
        self.since = self.since.min(now);
        Duration::from_nanos(now.0 - self.since.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn backlog(commits: u64, bytes: u64, age: u32, in_flight: u64) -> Backlog {
        Backlog { commits, bytes, age: age * MS, in_flight }
    }

    #[test]
    fn the_table_of_decisions() {
        use Decision::{Nothing, Sync, Wait};
        let manual = GroupCommit::manual();
        let all = manual.commits(4).bytes(1000).delay(10 * MS);
        let bound = all.in_flight_bytes(500);
        for (policy, backlog, decision) in [
            // Nothing pending, nothing to do, whatever the policy.
            (manual, backlog(0, 0, 99, 0), Nothing),
            (GroupCommit::each(), backlog(0, 0, 99, 9), Nothing),
            (all, backlog(0, 0, 99, 0), Nothing),
            // By hand: never.
            (manual, backlog(9, 9999, 99, 0), Nothing),
            (manual.in_flight_bytes(1), backlog(9, 9999, 99, 0), Nothing),
            // Each: always, also while others are under way.
            (GroupCommit::each(), backlog(1, 1, 0, 0), Sync),
            (GroupCommit::each(), backlog(1, 1, 0, 1 << 40), Sync),
            // Each limit alone, just below and just at it.
            (manual.commits(4), backlog(3, 9999, 99, 0), Nothing),
            (manual.commits(4), backlog(4, 0, 0, 0), Sync),
            (manual.bytes(1000), backlog(99, 999, 99, 0), Nothing),
            (manual.bytes(1000), backlog(1, 1000, 0, 0), Sync),
            (manual.delay(10 * MS), backlog(99, 9999, 9, 0), Wait(MS)),
            (manual.delay(10 * MS), backlog(1, 1, 10, 0), Sync),
            (manual.delay(10 * MS), backlog(1, 1, 11, 0), Sync),
            // Together: whichever comes first.
            (all, backlog(3, 999, 0, 0), Wait(10 * MS)),
            (all, backlog(4, 0, 0, 0), Sync),
            (all, backlog(1, 1000, 0, 0), Sync),
            (all, backlog(1, 1, 10, 0), Sync),
            // Zeros act as ones, or as no wait.
            (manual.commits(0), backlog(1, 1, 0, 0), Sync),
            (manual.bytes(0), backlog(1, 1, 0, 0), Sync),
            (manual.delay(Duration::ZERO), backlog(1, 1, 0, 0), Sync),
            // The bound holds everything back, the time too: what is under way
            // gives the sign. It never holds a batch back from an idle disk.
            (bound, backlog(9, 9999, 99, 500), Nothing),
            (bound, backlog(1, 1, 1, 500), Nothing),
            (bound, backlog(9, 9999, 99, 499), Sync),
            (bound, backlog(1, 1, 1, 499), Wait(9 * MS)),
            (bound, backlog(9, 9999, 99, 0), Sync),
            (manual.commits(1).in_flight_bytes(0), backlog(1, 1, 0, 0), Sync),
            (manual.commits(1).in_flight_bytes(0), backlog(1, 1, 0, 1), Nothing),
        ] {
            assert_eq!(policy.decide(backlog), decision, "{policy:?}, {backlog:?}");
        }
    }

    /// How far a decision has come: nothing, waiting (less is further), sync.
    fn urgency(decision: Decision) -> (u8, std::cmp::Reverse<Duration>) {
        match decision {
            Decision::Nothing => (0, std::cmp::Reverse(Duration::ZERO)),
            Decision::Wait(left) => (1, std::cmp::Reverse(left)),
            Decision::Sync => (2, std::cmp::Reverse(Duration::ZERO)),
        }
    }

    fn any_number() -> impl Strategy<Value = u64> {
        prop_oneof![0..20_u64, any::<u64>(), Just(u64::MAX)]
    }

    fn any_time() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(Duration::ZERO), any_number().prop_map(Duration::from_nanos), Just(Duration::MAX)]
    }

    prop_compose! {
        fn any_policy()(
            commits in proptest::option::of(any_number()),
            bytes in proptest::option::of(any_number()),
            delay in proptest::option::of(any_time()),
            in_flight_bytes in proptest::option::of(any_number()),
        ) -> GroupCommit {
            GroupCommit { commits, bytes, delay, in_flight_bytes }
        }
    }

    prop_compose! {
        fn any_backlog()(
            commits in any_number(), bytes in any_number(), age in any_time(), in_flight in any_number(),
        ) -> Backlog {
            Backlog { commits, bytes, age, in_flight }
        }
    }

    proptest! {
        #[test]
        fn more_that_waits_is_never_less_urgent(policy in any_policy(), one in any_backlog(), two in any_backlog()) {
            let less = Backlog { in_flight: one.in_flight.max(two.in_flight), ..one };
            let more = Backlog {
                commits: one.commits.max(two.commits),
                bytes: one.bytes.max(two.bytes),
                age: one.age.max(two.age),
                in_flight: one.in_flight.min(two.in_flight),
            };
            prop_assert!(urgency(policy.decide(less)) <= urgency(policy.decide(more)));
        }

        #[test]
        fn a_wait_that_is_over_is_a_sync(policy in any_policy(), backlog in any_backlog()) {
            if let Decision::Wait(left) = policy.decide(backlog) {
                prop_assert!(left > Duration::ZERO && Some(left) <= policy.delay);
                let later = Backlog { age: backlog.age + left, ..backlog };
                prop_assert_eq!(policy.decide(later), Decision::Sync);
            }
        }

        #[test]
        fn an_idle_disk_and_a_limit_reached_are_a_sync(policy in any_policy()) {
            let idle = Backlog { in_flight: 0, commits: u64::MAX, bytes: u64::MAX, age: Duration::MAX };
            let expected = if policy.is_manual() { Decision::Nothing } else { Decision::Sync };
            prop_assert_eq!(policy.decide(idle), expected);
        }
    }

    #[test]
    fn commits_count_until_a_sync_is_asked_for() {
        let mut pending = Pending::default();
        assert!(pending.add(Lsn(100), Lsn(50)));
        assert!(!pending.add(Lsn(200), Lsn(50)));
        assert_eq!((pending.commits(Lsn(50)), pending.bytes(Lsn(50))), (2, 150));
        // Asking covers the padding of the last frame as well.
        assert_eq!((pending.commits(Lsn(4096)), pending.bytes(Lsn(4096))), (0, 0));
        assert!(pending.add(Lsn(4200), Lsn(4096)), "the next batch begins");
        assert_eq!((pending.commits(Lsn(4096)), pending.bytes(Lsn(4096))), (1, 104));
    }

    #[test]
    fn a_clock_that_steps_back_starts_the_wait_anew() {
        let mut pending = Pending::default();
        pending.began(TimestampNs(1000));
        assert_eq!(pending.age(TimestampNs(1400)), Duration::from_nanos(400));
        assert_eq!(pending.age(TimestampNs(300)), Duration::ZERO);
        assert_eq!(pending.age(TimestampNs(350)), Duration::from_nanos(50));
        assert_eq!(pending.age(TimestampNs(u64::MAX)), Duration::from_nanos(u64::MAX - 300));
    }
}
