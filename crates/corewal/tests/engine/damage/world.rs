//! A small store of two cores, its files, and what opening makes of a damaged
//! copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use corewal::format::{BLOCK_LEN, FRAME_HEADER_LEN, Frame, FrameHeader, SegmentHeader, name};
use corewal::io::{CrashKind, SimSnapshot, SimStorage};
use corewal::{Commit, CoreId, Error, Keyed, LogId, Lsn, Opened, Options, Recover, SegmentId, Shard};

pub(crate) const DIR: &str = "/db";

pub(crate) type Store = Opened<Keyed, SimStorage>;
/// What a core of a store gives back: keys, offset, watermark.
pub(crate) type CoreData = (BTreeMap<Vec<u8>, Vec<u8>>, Option<u64>, Option<i64>);
/// The same, by core.
pub(crate) type Data = Vec<CoreData>;

/// A store as it stands on its disk, and what is in it.
pub(crate) struct World {
    pub(crate) disk: SimSnapshot,
    pub(crate) data: Data,
    /// How it is opened.
    pub(crate) options: Options,
}

/// What opening made of a damaged copy.
#[derive(Debug)]
pub(crate) enum Judgement {
    Identical,
    /// Identical by something older, which the report says.
    MadeGood,
    Refused(Error),
    /// Other data, and no word of it.
    Different(Data),
}

/// How many copies were judged how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) identical: usize,
    /// Identical by something older, and said so.
    pub(crate) made_good: usize,
    pub(crate) refused: usize,
    /// The cases nobody was told of.
    pub(crate) different: Vec<String>,
}

impl Tally {
    pub(crate) fn count(&mut self, case: impl FnOnce() -> String, judgement: &Judgement) {
        match judgement {
            Judgement::Identical => self.identical += 1,
            Judgement::MadeGood => self.made_good += 1,
            Judgement::Refused(_) => self.refused += 1,
            Judgement::Different(_) => self.different.push(case()),
        }
    }

    pub(crate) fn print(&self, what: &str) {
        let Self { identical, made_good, refused, different } = self;
        let made_good =
            if *made_good > 0 { format!(", {made_good} made good by something older") } else { String::new() };
        println!("{what}: {identical} identical{made_good}, {refused} refused, {} silently different", different.len());
    }
}

pub(crate) fn options(log_id: u8) -> Options {
    Options::new()
        .cores(2)
        .buffers(2)
        .buffer_bytes(4096)
        .segment_bytes(16_384)
        .log_id(LogId([log_id; 16]))
        .single_threaded()
}

impl World {
    /// A store that was closed in order.
    pub(crate) fn closed(recover: Recover) -> Self {
        Self::build(7, recover, true)
    }

    /// A store whose power went right after a sync.
    pub(crate) fn crashed(recover: Recover) -> Self {
        Self::build(7, recover, false)
    }

    pub(crate) fn of_another_log() -> Self {
        Self::build(8, Recover::CompleteEpoch, true)
    }

    fn build(log_id: u8, recover: Recover, close: bool) -> Self {
        let disk = SimStorage::default();
        let mut store = options(log_id).open_on(disk.clone(), DIR, |_| Keyed::default()).unwrap();
        for round in 0..6_u64 {
            let epoch = store.store.next_epoch();
            for key in 0..6_u64 {
                let name = format!("key-{}", (round + key) % 9);
                let core = store.store.route(name.as_bytes());
                store.shards[core.index()].put(name.as_bytes(), format!("{round}.{key}").as_bytes()).unwrap();
            }
            for shard in &mut store.shards {
                let commit = Commit::new().offset_u64("input", round + 1).watermark(round as i64 * 10);
                shard.commit(&commit).unwrap();
                // The last round of a log whose commits stand alone ends no epoch.
                if round < 5 || recover == Recover::CompleteEpoch {
                    shard.end_epoch(epoch).unwrap();
                }
                shard.sync().unwrap();
            }
        }
        let data = data_of(&store);
        if close {
            store.shards.drain(..).for_each(|shard| shard.close().unwrap());
        }
        drop(store);
        // What was synced is all there is, so the crash takes nothing.
        let disk = disk.snapshot().crash(CrashKind::Power, 0).snapshot();
        let world = Self { disk, data, options: options(7).recover(recover) };
        for core in 0..2 {
            assert!(world.segments(core).len() >= 3, "several segments: {:?}", world.files());
        }
        assert!(matches!(world.judge(|_| {}), Judgement::Identical), "undamaged it is whole");
        world
    }

    /// Opens a copy that `damage` was done to.
    pub(crate) fn judge(&self, damage: impl FnOnce(&SimStorage)) -> Judgement {
        let copy = self.copy();
        damage(&copy);
        match self.options.clone().open_on(copy, DIR, |_| Keyed::default()) {
            Err(error) => Judgement::Refused(error),
            Ok(store) => match data_of(&store) {
                data if data != self.data => Judgement::Different(data),
                _ if store.report.notes.is_empty() => Judgement::Identical,
                _ => Judgement::MadeGood,
            },
        }
    }

    fn copy(&self) -> SimStorage {
        self.disk.crash(CrashKind::Process, 0)
    }

    /// The manifest and the segments that hold frames.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let ready = self.ready();
        let ours = |path: &PathBuf| path.starts_with(DIR) && !path.ends_with(name::LOCK) && !ready.contains(path);
        self.copy().files().into_iter().filter(ours).collect()
    }

    /// The segments that are ready to be used and hold nothing.
    pub(crate) fn ready(&self) -> Vec<PathBuf> {
        let disk = self.copy();
        let mut files = disk.files();
        // What its file held in an earlier life is nothing.
        files.retain(|path| place_of(path).is_some() && frames_of(&disk.read_file(path).unwrap()).is_empty());
        files
    }

    pub(crate) fn segments(&self, core: u16) -> Vec<PathBuf> {
        let dir = Path::new(DIR).join(name::core_dir(CoreId(core), 0));
        self.files().into_iter().filter(|path| path.starts_with(&dir)).collect()
    }

    pub(crate) fn read(&self, path: &Path) -> Vec<u8> {
        self.copy().read_file(path).unwrap()
    }

    /// Judges `count` cases on all threads, the results in order.
    pub(crate) fn judge_all<R: Send>(&self, count: usize, case: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut results = Vec::new();
            loop {
                let from = next.fetch_add(64, Ordering::Relaxed);
                if from >= count {
                    return results;
                }
                results.extend((from..count.min(from + 64)).map(|number| (number, case(number))));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        results.sort_by_key(|(number, _)| *number);
        assert_eq!(results.len(), count);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Core and segment that a path names.
pub(crate) fn place_of(path: &Path) -> Option<(CoreId, SegmentId)> {
    let core = path.parent()?.file_name()?.to_str()?;
    Some((name::parse_core_dir(core)?.0, name::parse_segment(path.file_name()?.to_str()?)?))
}

/// A frame of a segment's file: where it stands, how long it is without its
/// padding, and the durable LSN that it states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) lsn: Lsn,
    pub(crate) durable: Lsn,
}

pub(crate) fn frames_of(file: &[u8]) -> Vec<FrameAt> {
    let identity = SegmentHeader::decode(file).unwrap().identity;
    let (mut frames, mut offset) = (Vec::new(), BLOCK_LEN);
    while offset + FRAME_HEADER_LEN <= file.len() {
        let lsn = identity.base_lsn.plus(offset as u64);
        let Ok(header) = FrameHeader::peek(&file[offset..], lsn) else { break };
        Frame::decode(&file[offset..], identity.checksum_seed(), lsn).unwrap();
        frames.push(FrameAt { offset, len: header.len, lsn, durable: header.fields.durable_lsn });
        offset += header.len.next_multiple_of(BLOCK_LEN);
    }
    frames
}

pub(crate) fn data_of(store: &Store) -> Data {
    store.shards.iter().map(data_of_core).collect()
}

pub(crate) fn data_of_core(shard: &Shard<Keyed, SimStorage>) -> CoreData {
    let keys = shard.state().iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    (keys, shard.offset_u64("input"), shard.watermark())
}
