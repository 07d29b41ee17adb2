//! Another number of cores: the state is written as a checkpoint for them, with
//! empty logs behind it, and one switch of the manifest makes both count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use corewal_format::{
    BLOCK_LEN, Checkpoint, CoreCheckpoint, CoreId, Epoch, Lsn, Manifest, Offsets, Opening, Record, RunRef, SegmentId,
    Sequence, TimestampNs,
};
use corewal_io::Storage;

use super::run::RunWriter;
use super::{Checkpointer, Merge, core_id};
use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::lone_frame::LoneFrame;
use crate::planted::PlantedBug;
use crate::recovery::{clear_others, create_dir, write_manifest};
use crate::route::Router;
use crate::scan::{LogIdentity, Place};
use crate::segments::{Want, create_segment};

/// Names and values of inherited offsets, in bytes, beyond which no checkpoint
/// names them: each would name them all again.
const INHERITED_MAX: usize = 256 << 10;

/// Size of the first segment of a log that is made so.
const FIRST_BYTES: u64 = 1 << 20;

impl<S: Storage> Checkpointer<S> {
    /// Moves the state of the newest checkpoint, which holds all that counts,
    /// to `cores` cores, whose logs begin at `base`: behind every position that
    /// was ever given out. Returns the number of keys.
    ///
    /// After an error, as after a crash, the store has its old cores or its new
    /// ones. The manifest decides; what the other one left, the next opening
    /// removes.
    pub(crate) fn reshard(&mut self, cores: u16, base: Lsn) -> Result<u64> {
        let newest = self.newest().expect("made just before").clone();
        let (progress, inherited) = self.shared_out(cores)?;
        let stop = AtomicBool::new(false);
        let context = self.context(newest.epoch, &stop);
        let manifest = Manifest {
            number: self.next_number(),
            cores,
            generation: self.manifest.generation + 1,
            checkpoints: Vec::new(),
            ..self.manifest.clone()
        };
        let log = |core| LogIdentity::of(&manifest, core);

        // 1. The state, sorted by key within each new core as it comes.
        let router = Router::new(cores);
        let writers = (0..cores)
            .map(|core| RunWriter::create(&self.layout, log(CoreId(core)), context.next_run(), context.stamp));
        let mut writers: Vec<_> = writers.collect::<Result<_>>()?;
        let old = newest.cores.iter().enumerate();
        let old = old.map(|(index, part)| Merge::open(&self.layout, self.log(core_id(index)), &part.runs));
        let old = old.collect::<Result<_>>()?;
        let mut keys = 0;
        Merge::of_cores(old).for_each(|(key, value)| {
            let Some(value) = value else { return Ok(()) };
            keys += 1;
            let mut core = router.route(key).index();
            if self.layout.planted.has(PlantedBug::RoutedOtherwise) {
                core = Router::new(self.manifest.cores).route(key).index() % writers.len();
            }
            writers[core].add(key, Some(value))
        })?;
        let mut parts = Vec::with_capacity(writers.len());
        for (writer, progress) in writers.into_iter().zip(&progress) {
            parts.push(CoreCheckpoint { lsn: base, runs: vec![RunRef { level: 1, ..writer.finish(progress, true)? }] });
        }
        self.layout.sync_dir(&self.layout.runs())?;

        // 2. The logs, each with a word on where it begins.
        let layout = self.layout.of_generation(manifest.generation);
        for core in (0..cores).map(CoreId) {
            begin_log(&layout, log(core), base, newest.epoch, context.stamp.time)?;
        }

        // 3. The switch. Before it the old logs count, after it the new ones.
        let checkpoint = Checkpoint {
            number: manifest.number,
            epoch: newest.epoch,
            time: context.stamp.time,
            inherited,
            cores: parts,
        };
        let manifest = Manifest { checkpoints: vec![checkpoint], ..manifest };
        if self.layout.planted.has(PlantedBug::OldLogsRemovedEarly) {
            clear_others(&layout, &manifest)?;
        }
        write_manifest(&layout, &manifest, Some(&self.manifest))?;

        // 4. What no longer counts goes.
        clear_others(&layout, &manifest)?;
        Ok(keys)
    }

    /// By new core, its offsets and watermark, and what all of them inherit. As
    /// many as there were keep what each has.
    fn shared_out(&self, cores: u16) -> Result<(Vec<Progress>, Offsets)> {
        if usize::from(cores) == self.cores.len() {
            return Ok((self.cores.iter().map(|core| core.progress.clone()).collect(), self.inherited().clone()));
        }
        let common = self.common_progress()?;
        let bytes: usize = common.offsets.iter().map(|(name, value)| name.len() + value.len()).sum();
        let inherited = if bytes > INHERITED_MAX { Offsets::new() } else { common.offsets.clone() };
        Ok((vec![common; usize::from(cores)], inherited))
    }

    /// Offsets and watermark for all of the new cores. Cores that know
    /// different offsets of one source cannot be made one; but who still has
    /// what all were given does not speak for the source where others do.
    fn common_progress(&self) -> Result<Progress> {
        let mut known: BTreeMap<&String, BTreeSet<&[u8]>> = BTreeMap::new();
        let lost = usize::from(self.layout.planted.has(PlantedBug::OneCoresOffsetsLost));
        for (name, value) in self.cores.iter().skip(lost).flat_map(|core| &core.progress.offsets) {
            known.entry(name).or_default().insert(value);
        }
        let mut common = Progress::default();
        for (name, mut values) in known {
            if let Some(given) = self.inherited().get(name).filter(|_| values.len() > 1) {
                values.remove(given.as_slice());
            }
            let value = values.pop_first().expect("each of them has one");
            if !values.is_empty() {
                return Err(Error::OffsetsDiffer { source: name.clone() });
            }
            common.offsets.insert(name.clone(), value.to_vec());
        }
        // The one that all cores with a watermark have reached.
        common.watermark = self.cores.iter().filter_map(|core| core.progress.watermark).min();
        Ok(common)
    }
}

/// Makes the log of a core whose state up to the end of `epoch` is in a
/// checkpoint: it is empty, and says that it begins at `base`.
pub(crate) fn begin_log<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    base: Lsn,
    epoch: Epoch,
    timestamp: TimestampNs,
) -> Result<()> {
    create_dir(layout, &layout.core_dir(log.core))?;
    let segment = SegmentId(0);
    let first = create_segment(layout, log, Want::exactly(segment, base, FIRST_BYTES))?;
    let (sequence, opening) = (Sequence(0), Opening(1));
    let frame = LoneFrame { epoch: epoch.next(), sequence, timestamp, opening, sealed: false };
    let release = Record::Release { to: base, epoch };
    frame.write(layout, log, &first.file, Place::first_frame(segment, base), &[release])
}

/// Where the logs of new cores may begin, if no position of an old log lies at
/// or behind `end`.
pub(crate) fn base_behind(end: Lsn) -> Lsn {
    Lsn(end.0.next_multiple_of(BLOCK_LEN as u64))
}
