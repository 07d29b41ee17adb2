//! What the death of the process leaves of what it had in flight.

use std::collections::BTreeSet;

use crate::sim::crash::land;
use crate::sim::disk::{Disk, InFlight};
use crate::sim::file::SECTOR;

/// Up to so many images, the fates of all in flight are combined each with each.
const COMBINED: usize = 64;

/// What became of one operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Lost,
    /// The first so many sectors of a write reached the cache.
    Part(usize),
    /// It was done; a write is in the cache.
    Done,
    /// A write that carries its own sync is on the medium.
    Durable,
}

/// What became of all that were in flight, in their order.
pub(super) type Landing = Vec<Fate>;

#[derive(Debug)]
pub(super) struct Landings {
    disk: Disk,
    flights: Vec<(InFlight, Vec<Fate>)>,
}

impl Landings {
    pub(super) fn of(disk: &Disk, sync_lies: bool) -> Self {
        let mut disk = disk.clone();
        let flights = std::mem::take(&mut disk.in_flight).into_values();
        let fates = |flight: &InFlight| match flight {
            InFlight::Sync { .. } if sync_lies => vec![Fate::Lost],
            InFlight::Sync { .. } => vec![Fate::Lost, Fate::Done],
            InFlight::Write { bytes, data_sync, .. } => {
                let parts = (1..bytes.len() / SECTOR).map(Fate::Part);
                let mut fates: Vec<_> = [Fate::Lost, Fate::Done].into_iter().chain(parts).collect();
                if *data_sync && !sync_lies {
                    fates.insert(2, Fate::Durable);
                }
                fates
            }
        };
        let flights = flights.map(|flight| (fates(&flight).to_vec(), flight));
        Self { flights: flights.map(|(fates, flight)| (flight, fates)).collect(), disk }
    }

    /// All combinations, or if they are too many, all of one kind and each
    /// fate of one among others that were lost or done.
    pub(super) fn all(&self) -> Vec<Landing> {
        let lens = self.flights.iter().map(|(_, fates)| fates.len());
        let combinations = lens.clone().try_fold(1_usize, usize::checked_mul);
        if combinations.is_some_and(|count| count <= COMBINED) {
            let mut all = vec![Vec::new()];
            for (_, fates) in &self.flights {
                let longer = |before: &Landing| {
                    let before = before.clone();
                    fates.iter().map(move |fate| [&before[..], &[*fate]].concat())
                };
                all = all.iter().flat_map(longer).collect();
            }
            return all;
        }
        let uniform = |wanted: Fate| -> Landing {
            let pick = |fates: &Vec<Fate>| if fates.contains(&wanted) { wanted } else { fates[fates.len().min(2) - 1] };
            self.flights.iter().map(|(_, fates)| pick(fates)).collect()
        };
        let mut all: Vec<Landing> = [Fate::Lost, Fate::Done, Fate::Durable].map(uniform).to_vec();
        for (number, (_, fates)) in self.flights.iter().enumerate() {
            for fate in fates {
                for others in 0..2 {
                    let mut landing = all[others].clone();
                    landing[number] = *fate;
                    all.push(landing);
                }
            }
        }
        let mut once = Vec::new();
        for landing in all {
            if !once.contains(&landing) {
                once.push(landing);
            }
        }
        once
    }

    pub(super) fn image(&self, landing: &Landing) -> Disk {
        assert_eq!(landing.len(), self.flights.len());
        let mut disk = self.disk.clone();
        for ((flight, _), fate) in self.flights.iter().zip(landing) {
            if let (InFlight::Sync { node, upto }, Fate::Done) = (flight, fate) {
                disk.file_mut(*node).sync(*upto);
            }
        }
        for ((flight, _), fate) in self.flights.iter().zip(landing) {
            if let InFlight::Write { node, offset, bytes, .. } = flight {
                let bytes = match fate {
                    Fate::Lost => continue,
                    Fate::Part(sectors) => &bytes[..sectors * SECTOR],
                    Fate::Done | Fate::Durable => bytes,
                };
                land(&mut disk, *node, *offset, bytes, *fate == Fate::Durable);
            }
        }
        disk.collect(&BTreeSet::new());
        disk
    }
}
