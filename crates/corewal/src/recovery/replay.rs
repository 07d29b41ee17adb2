//! The replay: the second pass over a core's log. It applies what counts, by
//! the same `apply` that runs live.

use corewal_format::{CoreCheckpoint, Entry, Lsn, RECORD_HEADER_LEN, Record, RunRef};
use corewal_io::Storage;

use super::plan::Keep;
use crate::checkpoint::Merge;
use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::planted::PlantedBug;
use crate::scan::{Cursor, LogIdentity, Step, Survey};
use crate::state::{Change, Changes, State, TOGETHER, put_new};

/// What replaying a log gives.
#[derive(Debug)]
pub(crate) struct Recovered<T> {
    pub(crate) state: T,
    pub(crate) progress: Progress,
    /// What stands below in the log is in the state already.
    begin: Lsn,
    /// Position after the last record that counts.
    pub(crate) end: Lsn,
    /// Records that counted until now and no longer do.
    pub(crate) rolled_back: u64,
    pub(crate) applied: u64,
}

/// What a replay begins with: nothing, or a checkpoint.
#[derive(Debug)]
pub(crate) struct Base<T> {
    pub(crate) state: T,
    pub(crate) progress: Progress,
    /// The position in the log that it covers.
    pub(crate) lsn: Lsn,
}

impl<T: State> Base<T> {
    pub(crate) fn empty(state: T) -> Self {
        Self { state, progress: Progress::default(), lsn: Lsn(0) }
    }

    /// Loads a core's part of a checkpoint.
    pub(crate) fn load<S: Storage>(
        layout: &Layout<S>,
        log: LogIdentity,
        part: &CoreCheckpoint,
        mut state: T,
    ) -> Result<Self> {
        let mut merge = Merge::open(layout, log, &part.runs)?;
        state.reserve(keys_at_most(layout, &part.runs)?);
        let mut copies = Copies::default();
        while let Some((key, value)) = merge.current() {
            if put_frame(&merge, &mut state) {
                merge.skip_frame()?;
                continue;
            }
            if let Some(value) = value {
                copies.push(key, value, &mut state);
            }
            merge.advance()?;
        }
        copies.apply(&mut state);
        Ok(Self { state, progress: merge.progress(), lsn: part.lsn })
    }
}

/// Puts the keys of the frame at hand, if they need not be merged.
fn put_frame<S: Storage>(merge: &Merge<'_, S>, state: &mut impl State) -> bool {
    let Some(keys) = merge.frame_alone() else { return false };
    put_new(keys.filter_map(|(key, value)| Some((key, value?))), state);
    true
}

/// How many keys the runs hold at most: as many as the manifest says, if their
/// files have room for so many.
fn keys_at_most<S: Storage>(layout: &Layout<S>, runs: &[RunRef]) -> Result<u64> {
    runs.iter().try_fold(0_u64, |sum, run| {
        let room = layout.len_if_there(&layout.run(run.run))? / RECORD_HEADER_LEN as u64;
        Ok(sum.saturating_add(run.puts.min(room)))
    })
}

/// Replays the log that was surveyed onto `base`.
pub(crate) fn replay<S: Storage, T: State>(
    layout: &Layout<S>,
    log: LogIdentity,
    survey: &Survey,
    keep: Keep,
    base: Base<T>,
) -> Result<Recovered<T>> {
    let first = survey.segments.first().expect("a log that opens has a segment");
    let Base { state, progress, lsn } = base;
    let begin = survey.start.max(first.base_lsn).max(lsn);
    // What lies before is in the checkpoint.
    let first = survey.segments.iter().rev().find(|span| span.base_lsn <= begin).unwrap_or(first);
    let mut recovered = Recovered { state, progress, begin, end: begin, rolled_back: 0, applied: 0 };
    let mut cursor = match Cursor::new(layout, log, first.id, survey.end())? {
        Ok(cursor) => cursor,
        Err(stop) => return Err(changed(layout, log, &stop)),
    };
    let planted = layout.planted;
    let dropped = planted.has(PlantedBug::OneLogDropped) && log.core.0 == 1;
    let mut newest = corewal_format::TimestampNs(0);
    while cursor.place() != survey.stop.place && !dropped {
        match cursor.step()? {
            Step::Frame(frame, _) => {
                let mut changes = Changes::new();
                let older = planted.has(PlantedBug::OrderByClock) && frame.header.fields.timestamp < newest;
                newest = newest.max(frame.header.fields.timestamp);
                for entry in frame.entries().flatten() {
                    if older && matches!(entry.record, Record::Put { .. } | Record::Delete { .. }) {
                        continue;
                    }
                    recovered.take(&entry, survey, keep, &mut changes);
                }
                changes.apply(&mut recovered.state);
            }
            Step::Stop(stop) => return Err(changed(layout, log, &stop)),
        }
    }
    Ok(recovered)
}

/// The log is locked and was whole a moment ago: the medium is failing.
fn changed<S: Storage>(layout: &Layout<S>, log: LogIdentity, stop: &crate::scan::Stop) -> Error {
    let path = layout.segment(log.core, stop.place.segment);
    let what = format!("at offset {} it reads otherwise than a moment ago: {}", stop.place.offset, stop.reason);
    Error::io("read again", &path, std::io::Error::other(what))
}

/// Whether a record is the user's or an end of an epoch, and so subject to
/// rollbacks; the others steer the log and always count.
pub(crate) fn is_undoable(record: &Record<'_>) -> bool {
    match record {
        Record::Put { .. }
        | Record::Delete { .. }
        | Record::Payload(_)
        | Record::Commit(_)
        | Record::CheckpointMark { .. }
        | Record::Barrier { .. }
        | Record::Park { .. }
        | Record::Unpark { .. } => true,
        Record::Open { .. }
        | Record::Close { .. }
        | Record::Rollback { .. }
        | Record::Release { .. }
        | Record::Repair { .. }
        | Record::Seal { .. } => false,
    }
}

impl Keep {
    /// Whether a record that no rollback took back counts.
    pub(crate) fn keeps(self, entry: &Entry<'_>, boundary: Lsn) -> bool {
        match self {
            Self::UpToEpoch(epoch) => entry.epoch <= epoch,
            Self::UpToLastCommit => entry.lsn < boundary,
        }
    }
}

/// Keys and values that do not stand still, to be put together.
#[derive(Default)]
struct Copies {
    bytes: Vec<u8>,
    /// Where each key ends, and its value.
    ends: Vec<(usize, usize)>,
}

impl Copies {
    fn push(&mut self, key: &[u8], value: &[u8], state: &mut impl State) {
        self.bytes.extend_from_slice(key);
        let end_of_key = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((end_of_key, self.bytes.len()));
        if self.ends.len() == TOGETHER || self.bytes.len() > COPIED_MAX {
            self.apply(state);
        }
    }

    fn apply(&mut self, state: &mut impl State) {
        let mut from = 0;
        let pairs = self.ends.iter().map(|&(end_of_key, end)| {
            let begin = std::mem::replace(&mut from, end);
            (&self.bytes[begin..end_of_key], &self.bytes[end_of_key..end])
        });
        put_new(pairs, state);
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Bytes that are copied to make them stand still, about.
const COPIED_MAX: usize = 64 << 10;

impl<T: State> Recovered<T> {
    #[inline]
    fn take<'f>(&mut self, entry: &Entry<'f>, survey: &Survey, keep: Keep, changes: &mut Changes<'f>) {
        if !is_undoable(&entry.record) || entry.lsn < self.begin || survey.dead.contains(entry.lsn) {
            return;
        }
        if !keep.keeps(entry, survey.boundary) {
            self.rolled_back += 1;
            return;
        }
        debug_assert_eq!(self.rolled_back, 0, "what counts is a prefix");
        self.end = entry.end;
        self.applied += 1;
        match entry.record {
            Record::Put { key, value } => changes.push(Change::Put { key, value }, &mut self.state),
            Record::Delete { key } => changes.push(Change::Delete { key }, &mut self.state),
            Record::Payload(bytes) => changes.push(Change::Payload(bytes), &mut self.state),
            Record::Commit(commit) => self.progress.apply(commit),
            _ => self.applied -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use corewal_format::{CommitRef, Epoch, MAX_EPOCH, RunId, SegmentId, Sequence};

    use super::*;
    use crate::checkpoint::{RunWriter, place_for_runs};
    use crate::state::{Keyed, Pair};

    /// A state, and how many keys it was shown together.
    #[derive(Default)]
    struct Shown {
        keyed: Keyed,
        groups: Vec<usize>,
    }

    impl State for Shown {
        fn apply(&mut self, _: Change<'_>) {
            unreachable!("each key of a checkpoint is new")
        }

        fn put_new(&mut self, pairs: &[Pair<'_>]) {
            self.groups.push(pairs.len());
            self.keyed.put_new(pairs);
        }
    }

    /// Counts what it is shown.
    #[derive(Debug, Default, PartialEq)]
    struct Counts {
        puts: u64,
        deletes: u64,
        payloads: u64,
    }

    impl State for Counts {
        fn apply(&mut self, change: Change<'_>) {
            match change {
                Change::Put { .. } => self.puts += 1,
                Change::Delete { .. } => self.deletes += 1,
                Change::Payload(_) => self.payloads += 1,
            }
        }
    }

    /// The body of a commit without a watermark: offset `s` is `7`.
    const COMMIT: [u8; 17] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, b's', b'7'];

    /// Each kind of record, and whether a rollback takes it back.
    fn all_records() -> [(Record<'static>, bool); 14] {
        let (key, value, epoch, lsn) = (&b"k"[..], &b"v"[..], Epoch(2), Lsn(0));
        let repair = Record::Repair { segment: SegmentId(1), base_lsn: lsn, sequence: Sequence(0), forgiven: epoch };
        [
            (Record::Put { key, value }, true),
            (Record::Delete { key }, true),
            (Record::Payload(value), true),
            (Record::Commit(CommitRef::parse(&COMMIT).unwrap()), true),
            (Record::CheckpointMark { id: 1 }, true),
            (Record::Barrier { epoch, complete: Epoch(0) }, true),
            (Record::Park { epoch }, true),
            (Record::Unpark { epoch }, true),
            (Record::Open { epoch }, false),
            (Record::Close { complete: epoch }, false),
            (Record::Rollback { to: lsn, epoch }, false),
            (Record::Release { to: lsn, epoch }, false),
            (repair, false),
            (Record::Seal { base_lsn: lsn }, false),
        ]
    }

    /// A record at each multiple of ten from 100 on, of epochs 1, 1, 1, …, 2, 2, ….
    fn entries<'r>(records: &[(u64, Record<'r>)]) -> Vec<Entry<'r>> {
        let place = |(at, &(epoch, record)): (usize, &(u64, Record<'r>))| {
            let lsn = Lsn(100 + 10 * at as u64);
            Entry { lsn, end: lsn.plus(10), sequence: Sequence(at as u64), epoch: Epoch(epoch), record }
        };
        records.iter().enumerate().map(place).collect()
    }

    fn replayed(entries: &[Entry<'_>], begin: u64, survey: &Survey, keep: Keep) -> Recovered<Counts> {
        let (state, progress, begin) = (Counts::default(), Progress::default(), Lsn(begin));
        let mut recovered = Recovered { state, progress, begin, end: begin, rolled_back: 0, applied: 0 };
        let mut changes = Changes::new();
        entries.iter().for_each(|entry| recovered.take(entry, survey, keep, &mut changes));
        changes.apply(&mut recovered.state);
        recovered
    }

    #[test]
    fn what_the_user_logged_and_ends_of_epochs_can_be_taken_back_and_nothing_else() {
        for (record, undoable) in all_records() {
            assert_eq!(is_undoable(&record), undoable, "{}", record.name());
        }
    }

    #[test]
    fn of_all_records_data_is_applied_and_data_and_commits_are_counted() {
        let records: Vec<_> = all_records().iter().map(|(record, _)| (1, *record)).collect();
        let found = replayed(&entries(&records), 0, &Survey::of_epochs(0, &[]), Keep::UpToEpoch(MAX_EPOCH));
        assert_eq!(found.state, Counts { puts: 1, deletes: 1, payloads: 1 });
        assert_eq!((found.applied, found.rolled_back), (4, 0));
        // The last that counts of those that a rollback could take back: unpark.
        assert_eq!(found.end, Lsn(180));
        assert_eq!(found.progress.offsets.get("s"), Some(&b"7".to_vec()));
    }

    #[test]
    fn what_counts_ends_with_the_epoch_or_the_last_commit() {
        let put = Record::Put { key: b"k", value: b"v" };
        let entries = entries(&[(1, put), (1, put), (2, put), (2, put), (3, put)]);
        let mut survey = Survey::of_epochs(0, &[]);
        survey.boundary = Lsn(120);
        let of = |keep| {
            let found = replayed(&entries, 0, &survey, keep);
            (found.applied, found.rolled_back, found.end)
        };
        assert_eq!(of(Keep::UpToEpoch(Epoch(2))), (4, 1, Lsn(140)));
        assert_eq!(of(Keep::UpToEpoch(Epoch(1))), (2, 3, Lsn(120)));
        assert_eq!(of(Keep::UpToEpoch(Epoch(0))), (0, 5, Lsn(0)));
        assert_eq!(of(Keep::UpToLastCommit), (2, 3, Lsn(120)));
    }

    #[test]
    fn what_the_checkpoint_has_and_what_was_taken_back_before_is_passed_over() {
        let put = Record::Put { key: b"k", value: b"v" };
        let entries = entries(&[(1, put); 6]);
        let mut survey = Survey::of_epochs(0, &[]);
        survey.dead.add(Lsn(130), Lsn(150));
        let found = replayed(&entries, 110, &survey, Keep::UpToEpoch(Epoch(1)));
        // At 110, 120 and 150.
        assert_eq!((found.applied, found.rolled_back, found.end), (3, 0, Lsn(160)));
    }

    #[test]
    fn keys_that_do_not_stand_still_are_copied_some_at_a_time() {
        let (mut shown, mut copies) = (Shown::default(), Copies::default());
        for key in 0..2 * TOGETHER as u64 + 3 {
            copies.push(text(key).as_bytes(), &key.to_le_bytes(), &mut shown);
        }
        assert_eq!(shown.groups, [TOGETHER; 2]);
        copies.apply(&mut shown);
        assert_eq!(shown.groups, [TOGETHER, TOGETHER, 3]);
        // And not more bytes than so.
        let (large, len) = (vec![0; COPIED_MAX / 2], shown.groups.len());
        for key in ["a", "b", "c", "d", "e"] {
            copies.push(key.as_bytes(), &large, &mut shown);
        }
        assert_eq!(shown.groups[len..], [2, 2]);
        copies.apply(&mut shown);
        assert_eq!(shown.keyed.get(text(130).as_bytes()), Some(&130_u64.to_le_bytes()[..]));
        assert_eq!(shown.keyed.get(b"e"), Some(&large[..]));
        assert_eq!(shown.keyed.len(), 2 * TOGETHER + 3 + 5);
    }

    /// A key whose bytes are in the order of its numbers.
    fn text(key: u64) -> String {
        format!("{key:08}")
    }

    /// A base of some runs, each of several frames, and changes to all of it, to
    /// a part, or to none: whole frames of the base that nothing changes are
    /// taken as they are, others are merged.
    #[test]
    fn a_checkpoint_is_loaded_whether_frames_are_taken_whole_or_merged() {
        for seed in 0..12 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (layout, log, stamp) = place_for_runs();
            let mut expected = BTreeMap::new();
            let mut runs = Vec::new();
            let mut write = |number: u64, level, changes: BTreeMap<u64, Option<u64>>| {
                let mut writer = RunWriter::create(&layout, log, RunId(number + 1), stamp).unwrap();
                for (key, value) in changes {
                    let value = value.map(|value| [value.to_le_bytes(); 20].concat());
                    writer.add(text(key).as_bytes(), value.as_deref()).unwrap();
                    match value {
                        Some(value) => drop(expected.insert(key, value)),
                        None => drop(expected.remove(&key)),
                    }
                }
                runs.push(RunRef { level, ..writer.finish(&Progress::default(), true).unwrap() });
            };
            // 128 KiB a frame, some 170 bytes a key: five frames or so each.
            const KEYS: u64 = 4_000;
            for number in 0..3 {
                write(number, 1, (number * KEYS..(number + 1) * KEYS).map(|key| (2 * key, Some(key))).collect());
            }
            for number in 3..3 + seed % 3 {
                let from = random.u64(..6 * KEYS);
                let range = from..from + random.u64(1..3 * KEYS);
                let value = |random: &mut fastrand::Rng| random.bool().then(|| random.u64(..));
                write(
                    number,
                    0,
                    (0..random.usize(1..900)).map(|_| (random.u64(range.clone()), value(&mut random))).collect(),
                );
            }
            let part = CoreCheckpoint { lsn: Lsn(0), runs };
            let Shown { mut keyed, groups } = Base::load(&layout, log, &part, Shown::default()).unwrap().state;
            let found: Vec<_> = keyed.scan(b"").map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            let expected = expected.into_iter().map(|(key, value)| (text(key).into_bytes(), value));
            assert!(found.into_iter().eq(expected), "seed {seed}");
            assert!(groups.iter().all(|&group| (1..=TOGETHER).contains(&group)), "seed {seed}: {groups:?}");
            // The keys of a frame that is taken whole are no multiple of a group.
            let cut = groups.iter().filter(|&&group| group < TOGETHER).count();
            assert!(seed % 3 > 0 || cut > 3, "seed {seed}: no frame is taken whole");
        }
    }
}
