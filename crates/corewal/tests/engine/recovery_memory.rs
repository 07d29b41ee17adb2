//! Recovery's memory beyond the state itself does not grow with the log: a
//! counting allocator sees the same peak over a log and over one eight times as
//! long, with the same keys; and the same with a checkpoint before the log.

use corewal::{Checkpoints, Commit, Options};

/// Most bytes in use at once while a store of that many records over 1,000 keys
/// is opened, the state included; with a checkpoint of the first half or without.
fn peak_of_opening(records: u32, checkpoint: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().cores(1).segment_bytes(4 << 20).checkpoints(Checkpoints::manual());
    let mut opened = options().open(dir.path()).unwrap();
    for record in 0..records {
        opened.shards[0].put(&(record % 1000).to_le_bytes(), &[record as u8; 100]).unwrap();
        if record % 100 == 99 {
            opened.shards[0].commit(&Commit::new().offset_u64("input", record.into())).unwrap();
            opened.shards[0].end_epoch(opened.store.next_epoch()).unwrap();
        }
        if checkpoint && record == records / 2 {
            opened.shards[0].sync().unwrap();
            opened.store.checkpoint().unwrap().unwrap();
        }
    }
    drop(opened);
    // One core is recovered on the calling thread, which is the one measured.
    let info = allocation_counter::measure(|| {
        let opened = options().open(dir.path()).unwrap();
        // A commit and a barrier per 100, the open, and a seal per segment.
        let (records, found) = (u64::from(records), opened.report.cores[0].records);
        assert!(checkpoint || found == records + 2 * (records / 100) + opened.report.cores[0].segments);
        assert_eq!(opened.report.checkpoint.is_some(), checkpoint);
        assert_eq!(opened.shards[0].state().len(), 1000);
    });
    info.bytes_max
}

#[test]
fn memory_of_recovery_does_not_grow_with_the_log() {
    for checkpoint in [false, true] {
        let (short, long) = (peak_of_opening(100_000, checkpoint), peak_of_opening(800_000, checkpoint));
        println!("peak: {short} bytes for 100,000 records, {long} for 800,000; with a checkpoint: {checkpoint}");
        assert!(long < short + (128 << 10), "{short} {long}");
        assert!(long < 4 << 20, "{long}");
    }
}
