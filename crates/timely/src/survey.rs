//! What the processes of a start tell each other of their directories, and what
//! each of them is to do by it: pure.
//!
//! Processes may share a directory, all or some of them, or have one each. Who
//! shares is not configured: each makes a subdirectory that only this start has,
//! and looks whose it sees.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::places::Place;
use crate::record::Record;

/// What a process finds in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) process: u16,
    /// The processes, this one included, that have the same directory.
    pub(crate) shared_with: Vec<u16>,
    /// The stores that are there, by their place in the record.
    pub(crate) stores: Vec<usize>,
}

/// What a process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) state: StatePlan,
    /// Which of those who share its directory it is, and how many they are.
    pub(crate) rank: u16,
    pub(crate) sharers: u16,
}

/// Where its state comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatePlan {
    /// There is none yet.
    New,
    /// Its own store, as it is.
    Own,
    /// All stores, of which this process reads those.
    Spread { reads: Vec<usize> },
}

impl Plan {
    /// The plan of a process, from what all of them report, in their order.
    ///
    /// # Errors
    /// [`Error::Missing`] if none of them has a store: all come to the same.
    pub(crate) fn of(place: Place, record: &Record, reports: &[Report]) -> Result<Self> {
        let shared = &reports[usize::from(place.process)].shared_with;
        let number = |count: usize| u16::try_from(count).expect("no more than processes");
        let rank = number(shared.iter().take_while(|&&process| process != place.process).count());
        let (sharers, state) = (number(shared.len()), Self::state(place, record, reports)?);
        Ok(Self { state, rank, sharers })
    }

    fn state(place: Place, record: &Record, reports: &[Report]) -> Result<StatePlan> {
        if record.stores.is_empty() {
            return Ok(StatePlan::New);
        }
        let as_before = record.stores.len() == reports.len() && record.workers == place.workers;
        let own = |report: &Report| report.stores.contains(&usize::from(report.process));
        if as_before && reports.iter().all(own) {
            return Ok(StatePlan::Own);
        }
        let mut reads = Vec::new();
        for (index, store) in record.stores.iter().enumerate() {
            let have: Vec<u16> =
                reports.iter().filter(|report| report.stores.contains(&index)).map(|report| report.process).collect();
            if have.is_empty() {
                return Err(Error::Missing { dir: store.into() });
            }
            // Those who have several take turns.
            if have[index % have.len()] == place.process {
                reads.push(index);
            }
        }
        Ok(StatePlan::Spread { reads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stores: usize, workers: u16) -> Record {
        Record { stores: (0..stores).map(|store| format!("store-{store}")).collect(), workers, ..Record::default() }
    }

    fn report(process: u16, shared_with: &[u16], stores: &[usize]) -> Report {
        Report { process, shared_with: shared_with.to_vec(), stores: stores.to_vec() }
    }

    fn plans(record: &Record, workers: u16, reports: &[Report]) -> Vec<Plan> {
        let processes = reports.len() as u16;
        let place = |process| Place { process, processes, workers };
        (0..processes).map(|process| Plan::of(place(process), record, reports).unwrap()).collect()
    }

    fn states(record: &Record, workers: u16, reports: &[Report]) -> Vec<StatePlan> {
        plans(record, workers, reports).into_iter().map(|plan| plan.state).collect()
    }

    fn reads(indexes: &[usize]) -> StatePlan {
        StatePlan::Spread { reads: indexes.to_vec() }
    }

    #[test]
    fn a_store_each_is_taken_as_it_is_wherever_it_stands() {
        let (shared, apart) = (
            [report(0, &[0, 1], &[0, 1]), report(1, &[0, 1], &[0, 1])],
            [report(0, &[0], &[0]), report(1, &[1], &[1])],
        );
        for reports in [&shared, &apart] {
            assert_eq!(states(&record(2, 3), 3, reports), [StatePlan::Own, StatePlan::Own]);
            assert_eq!(states(&record(0, 0), 3, reports), [StatePlan::New, StatePlan::New]);
        }
        let ranks = |reports| -> Vec<_> {
            plans(&record(2, 3), 3, reports).into_iter().map(|plan| (plan.rank, plan.sharers)).collect()
        };
        assert_eq!(ranks(&shared), [(0, 2), (1, 2)]);
        assert_eq!(ranks(&apart), [(0, 1), (0, 1)]);
    }

    #[test]
    fn with_other_numbers_each_store_is_read_once_by_one_who_has_it() {
        let shared = [0, 1, 2].map(|process| report(process, &[0, 1, 2], &[0, 1]));
        assert_eq!(states(&record(2, 1), 1, &shared), [reads(&[0]), reads(&[1]), reads(&[])]);
        // Other workers, the directories apart.
        let apart = [report(0, &[0], &[0]), report(1, &[1], &[1])];
        assert_eq!(states(&record(2, 1), 2, &apart), [reads(&[0]), reads(&[1])]);
        // They have changed their machines.
        let swapped = [report(0, &[0], &[1]), report(1, &[1], &[0])];
        assert_eq!(states(&record(2, 1), 1, &swapped), [reads(&[1]), reads(&[0])]);
        // Two of three machines are left, and one has what the third had.
        let brought = [report(0, &[0], &[0, 2]), report(1, &[1], &[1])];
        assert_eq!(states(&record(3, 1), 1, &brought), [reads(&[0, 2]), reads(&[1])]);
    }

    #[test]
    fn a_store_that_nobody_has_is_missed_by_all() {
        let reports = [report(0, &[0], &[0]), report(1, &[1], &[])];
        for process in 0..2 {
            let place = Place { process, processes: 2, workers: 1 };
            let missing = Plan::of(place, &record(2, 1), &reports).unwrap_err();
            assert!(matches!(missing, Error::Missing { dir } if dir.as_os_str() == "store-1"));
        }
    }
}
