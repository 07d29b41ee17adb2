//! Acknowledgements, written to the disk as they are given.
//!
//! The guest writes them behind the end of the file system, past the page
//! cache and without a flush. So they stand in the same record as everything
//! else: what the store had called durable before a cut is what stands before
//! it there, and no clock or console has to be trusted.

use crate::log::SECTOR;

/// Bytes of the disk behind the file system.
pub(crate) const AREA: u64 = 1 << 20;

/// Bytes of a place for acknowledgements.
pub(crate) const PLACE: usize = 4096;

const MAGIC: &[u8; 8] = b"cwpower1";

/// What a core, or the opening, has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Which time the store was opened.
    pub(crate) life: u64,
    /// Who says it; `None` for the opening.
    pub(crate) core: Option<u16>,
    /// The newest epoch that the store called complete.
    pub(crate) epoch: u64,
    /// Operations of this core that are durable; for the opening, those that it
    /// found.
    pub(crate) operations: u64,
    /// For the opening, the first epoch to come.
    pub(crate) first: u64,
}

impl Marker {
    /// Where it is written, behind the end of the file system.
    pub(crate) fn place(&self) -> u64 {
        u64::from(self.core.map_or(0, |core| core + 1)) * PLACE as u64
    }

    /// Its bytes.
    pub(crate) fn encode(&self, bytes: &mut [u8]) {
        let core = self.core.map_or(0, |core| u64::from(core) + 1);
        bytes[..8].copy_from_slice(MAGIC);
        for (at, number) in [self.life, core, self.epoch, self.operations, self.first].into_iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
    }

    /// The marker that a sector holds.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < SECTOR as usize || &bytes[..8] != MAGIC {
            return None;
        }
        let number = |at: usize| u64::from_le_bytes(bytes[8 + 8 * at..16 + 8 * at].try_into().expect("eight bytes"));
        let core = match number(1) {
            0 => None,
            core => Some(u16::try_from(core - 1).ok()?),
        };
        Some(Self { life: number(0), core, epoch: number(2), operations: number(3), first: number(4) })
    }
}

/// The strongest that was acknowledged up to a place of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Whether the store had been opened.
    pub(crate) opened: bool,
    /// The newest complete epoch.
    pub(crate) epoch: u64,
    /// By core, its durable operations.
    pub(crate) operations: Vec<u64>,
}

impl Acknowledged {
    /// What was known before the guest began.
    pub(crate) fn before(epoch: u64, operations: u64, cores: u16) -> Self {
        Self { opened: false, epoch, operations: vec![operations; cores.into()] }
    }

    /// One more.
    pub(crate) fn hear(&mut self, marker: &Marker) {
        self.epoch = self.epoch.max(marker.epoch);
        match marker.core {
            None => self.opened = true,
            Some(core) => {
                let known = &mut self.operations[usize::from(core)];
                *known = marker.operations.max(*known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_taken_for_it() {
        let mut bytes = [0; PLACE];
        for core in [None, Some(0), Some(7)] {
            let marker = Marker { life: 3, core, epoch: 4, operations: 5, first: 6 };
            marker.encode(&mut bytes);
            assert_eq!(Marker::decode(&bytes), Some(marker));
            assert!(marker.place() + PLACE as u64 <= AREA);
        }
        assert_eq!(Marker::decode(&bytes[..100]), None);
        bytes[0] ^= 1;
        assert_eq!(Marker::decode(&bytes), None);
    }

    #[test]
    fn acknowledgements_only_grow() {
        let mut known = Acknowledged::before(2, 10, 2);
        for (core, epoch, operations) in [(Some(1), 5, 40), (Some(0), 4, 20), (Some(1), 5, 30), (None, 0, 0)] {
            known.hear(&Marker { life: 0, core, epoch, operations, first: 0 });
        }
        assert_eq!(known, Acknowledged { opened: true, epoch: 5, operations: vec![20, 40] });
    }
}
