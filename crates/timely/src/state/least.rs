//! How far time has come, of all partitions.

use std::collections::BTreeMap;

use crate::events::Watermark;

/// The least watermark of all partitions.
#[derive(Debug, Default)]
pub(super) struct Least {
    /// By source and partition.
    known: BTreeMap<(u32, u32), i64>,
    /// How many partitions there are, by source.
    partitions: BTreeMap<u32, u32>,
    least: Option<i64>,
}

impl Least {
    /// Takes what came, and gives the least if it has risen by it.
    pub(super) fn rise(&mut self, watermarks: &[Watermark]) -> Option<i64> {
        for mark in watermarks {
            self.partitions.insert(mark.source, mark.partitions);
            let known = self.known.entry((mark.source, mark.partition)).or_insert(mark.time);
            *known = mark.time.max(*known);
        }
        // One that has said nothing yet may be far behind.
        if self.known.len() < self.partitions.values().map(|&partitions| partitions as usize).sum() {
            return None;
        }
        let least = self.known.values().copied().min()?;
        let risen = self.least.is_none_or(|before| least > before);
        self.least = Some(least);
        risen.then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(source: u32, partition: u32, time: i64) -> Watermark {
        Watermark { source, partition, partitions: 2, time }
    }

    #[test]
    fn time_has_come_as_far_as_in_the_partition_that_is_behind() {
        let mut least = Least::default();
        assert_eq!(least.rise(&[mark(0, 0, 50)]), None, "the other has said nothing");
        assert_eq!(least.rise(&[mark(0, 1, 10)]), Some(10));
        assert_eq!(least.rise(&[mark(0, 0, 70)]), None);
        assert_eq!(least.rise(&[mark(0, 1, 60), mark(0, 0, 65)]), Some(60), "it never falls");
        assert_eq!(least.rise(&[mark(1, 0, 99)]), None);
        assert_eq!(least.rise(&[mark(1, 1, 99)]), None, "not risen");
    }
}
