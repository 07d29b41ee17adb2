//! Lengths that say something else, and writes that landed somewhere else.

use std::path::PathBuf;

use corewal::format::BLOCK_LEN;

use super::checkpointed::Checkpointed;
use super::forecast::Change;
use super::sweep::{both, sweep};
use super::world::{frames_of, place_of};

/// The position of a frame's length in its header.
const LENGTH: std::ops::Range<usize> = 8..12;

/// Class 13: a frame's length says anything else: every bit of it flipped, and
/// values that lead into the frame, to its neighbours, to the end of the file
/// and beyond.
#[test]
fn class_13_a_length_that_was_changed_is_refused_or_lies_in_the_window() {
    both(|state, store| {
        let mut cases: Vec<(String, Vec<Change>)> = Vec::new();
        let files = store.files();
        for path in files.iter().filter(|path| path.extension().is_some_and(|found| found == "wal" || found == "run")) {
            let bytes = store.world.read(path);
            for frame in frames_of(&bytes) {
                let block = BLOCK_LEN as u32;
                let (len, rest) = (frame.len as u32, (bytes.len() - frame.offset) as u32);
                let flipped = (0..32).map(|bit| len ^ 1 << bit);
                let near = [0, 1, 63, 64, 71, 72, len - 1, len + 1, len - 8, len + 8, block, len + block, 2 * block];
                let far = [rest - 1, rest, rest + 1, u32::MAX / 2, u32::MAX];
                for value in flipped.chain(near).chain(far).filter(|&value| value != len) {
                    let mut changed = bytes.clone();
                    changed[frame.offset..][LENGTH].copy_from_slice(&value.to_le_bytes());
                    let name = format!("{} frame at {}, length {value}", path.display(), frame.offset);
                    cases.push((name, vec![(path.clone(), changed)]));
                }
            }
        }
        let what = format!("{state}, checkpoint, lengths of frames");
        let tally = sweep(&what, &store, cases.len(), |number| Some(cases[number].clone()));
        assert!(tally.refused > 500 && tally.different.is_empty() == (state == "closed"));
    });
}

/// Class 16: the write of a frame landed at another offset, in another segment,
/// in the file of the other core, in a run. Where it should be stands what was
/// there before, or the frame too (a copy).
///
/// It found this: a seal that was written over the header of the segment behind
/// it ended the log in front of that segment, and nobody looked whether the
/// frames in it prove more, since its header did not say where it stands. It
/// opened without them.
#[test]
fn class_16_a_misdirected_write_is_refused_or_lies_in_the_window() {
    both(|state, store| {
        let mut cases: Vec<(String, Vec<Change>)> = Vec::new();
        let files = store.files();
        // Manifests are shorter than a block.
        let in_frames = |path: &PathBuf| path.extension().is_some_and(|found| found == "wal" || found == "run");
        let files: Vec<_> = files.into_iter().filter(in_frames).collect();
        for source in files.iter().filter(|path| place_of(path).is_some()) {
            let whole = store.world.read(source);
            for frame in frames_of(&whole) {
                let written = frame.offset..frame.offset + frame.len.next_multiple_of(BLOCK_LEN);
                let mut lacks = whole.clone();
                let before = store.older[source]
                    .iter()
                    .rev()
                    .find(|past| past.len() == whole.len() && past[written.clone()] != whole[written.clone()]);
                lacks[written.clone()].copy_from_slice(&before.expect("it was written")[written.clone()]);
                for target in &files {
                    let bytes = store.world.read(target);
                    for at in (0..=bytes.len().saturating_sub(written.len())).step_by(BLOCK_LEN) {
                        if target == source && at == frame.offset {
                            continue;
                        }
                        let onto = |bytes: &[u8]| {
                            let mut changed = bytes.to_vec();
                            changed[at..at + written.len()].copy_from_slice(&whole[written.clone()]);
                            changed
                        };
                        let name =
                            format!("{} frame at {} to {} at {at}", source.display(), frame.offset, target.display());
                        cases.push((format!("{name}, a copy"), vec![(target.clone(), onto(&bytes))]));
                        let missing = match target == source {
                            true => vec![(target.clone(), onto(&lacks))],
                            false => vec![(source.clone(), lacks.clone()), (target.clone(), onto(&bytes))],
                        };
                        cases.push((name, missing));
                    }
                }
            }
        }
        let what = format!("{state}, checkpoint, misdirected writes");
        let tally = sweep(&what, &store, cases.len(), |number| Some(cases[number].clone()));
        assert!(tally.refused > 100 && tally.different.is_empty() == (state == "closed"));
    });
}

/// The same for what a checkpoint wrote: a run over another.
#[test]
fn class_16_a_run_that_was_written_over_another_is_refused() {
    let store = Checkpointed::crashed(1);
    let files = store.files();
    let runs: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|found| found == "run")).collect();
    let pairs: Vec<_> = runs.iter().flat_map(|one| runs.iter().map(move |other| (*one, *other))).collect();
    let tally = sweep("crashed, checkpoint, runs over others", &store, pairs.len(), |number| {
        let (one, other) = pairs[number];
        (one != other).then(|| {
            (format!("{} over {}", one.display(), other.display()), vec![(other.clone(), store.world.read(one))])
        })
    });
    assert_eq!((tally.refused, tally.identical), (runs.len() * (runs.len() - 1), 0));
}
