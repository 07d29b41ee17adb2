//! Appending allocates nothing: after a warm-up, a hundred thousand puts, with
//! their submits and polls, leave the allocator alone.

use corewal::{Commit, Options, Recover, Writer};

fn put(writer: &mut Writer, key: u64, value: &[u8]) {
    loop {
        match writer.put(&key.to_le_bytes(), value) {
            Err(error) if error.is_full() => {
                writer.submit().unwrap();
                writer.poll().unwrap();
            }
            result => {
                result.unwrap();
                return;
            }
        }
    }
}

#[test]
fn a_put_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Asking for the next segment allocates, which is no cost of a record. The
    // warm-up goes into one that holds all of what is measured.
    let options = Options::new().cores(1).segment_bytes(1 << 30).recover(Recover::Latest);
    let (mut writers, _) = options.open_writers(corewal::io::FileStorage::new(), dir.path()).unwrap();
    let writer = &mut writers[0];
    let value = [7; 100];
    let commit = Commit::new().offset_u64("input", 1).watermark(5);
    let mut work = |puts: u64, sync: bool| {
        for key in 0..puts {
            put(writer, key, &value);
            if key % 100 == 99 {
                while writer.commit(&commit).is_err_and(|error| error.is_full()) {
                    writer.submit().unwrap();
                    writer.poll().unwrap();
                }
            }
        }
        if sync {
            writer.sync().unwrap();
        }
    };
    work(300_000, true);
    let info = allocation_counter::measure(|| work(100_000, false));
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn a_synced_commit_allocates_only_for_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().cores(1).recover(Recover::Latest);
    let (mut writers, _) = options.open_writers(corewal::io::FileStorage::new(), dir.path()).unwrap();
    let writer = &mut writers[0];
    let commit = Commit::new();
    let mut work = |commits: u64| {
        for key in 0..commits {
            put(writer, key, b"value");
            writer.commit(&commit).unwrap();
            writer.sync().unwrap();
        }
    };
    work(20);
    let info = allocation_counter::measure(|| work(100));
    assert!(info.count_total <= 400, "{info:?}");
}
