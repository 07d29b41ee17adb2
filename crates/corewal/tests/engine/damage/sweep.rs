//! The whole store, swept: every bit, every sector, every length. What opening
//! makes of each case is held to its forecast, so nothing changes silently
//! outside of the doubtful window, and inside of it exactly what the window's
//! rules say.
//!
//! A sample by default; `COREWAL_FLIPS=all` takes every case there is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::checkpointed::Checkpointed;
use super::forecast::{Change, Forecaster};
use super::world::{Judgement, Tally, frames_of, place_of};

const SECTOR: usize = 512;

/// Whether all cases are asked for, or the sample.
fn all() -> bool {
    std::env::var("COREWAL_FLIPS").is_ok_and(|text| text == "all")
}

/// One in so many cases, unless all are asked for. (Primes, so that a sample
/// meets every bit of a byte and every place of a sector.)
fn one_in(prime: usize) -> usize {
    if all() { 1 } else { prime }
}

/// Judges each case and holds it to its forecast. Cases that change nothing
/// are none.
pub(crate) fn sweep(
    what: &str,
    store: &Checkpointed,
    count: usize,
    case: impl Fn(usize) -> Option<(String, Vec<Change>)> + Sync,
) -> Tally {
    let forecaster = Forecaster::new(store);
    let world = &store.world;
    let judged = world.judge_all(count, |number| {
        let (name, changes) = case(number)?;
        let forecast = forecaster.of(&changes);
        let judgement = world.judge(|disk| changes.into_iter().for_each(|(path, bytes)| disk.write_file(&path, bytes)));
        let broken = forecast.check(&world.data, &judgement).err();
        Some((name, judgement, broken))
    });
    let mut tally = Tally::default();
    let mut broken = Vec::new();
    for (name, judgement, wrong) in judged.into_iter().flatten() {
        broken.extend(wrong.map(|wrong| format!("{name}: {wrong}")));
        tally.count(|| name, &judgement);
    }
    tally.print(what);
    let shown: Vec<_> = broken.iter().take(3).collect();
    assert!(broken.is_empty(), "{what}: {} cases were judged wrongly, of them {shown:#?}", broken.len());
    tally
}

/// A file, its bytes, and which of them something depends on.
struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    used: Vec<bool>,
}

fn files(store: &Checkpointed) -> Vec<File> {
    let read = |path: PathBuf| {
        let bytes = store.world.read(&path);
        let is_text = place_of(&path).is_none() && path.extension().is_none_or(|found| found != "run");
        let mut used = vec![is_text; bytes.len()];
        if !is_text {
            used[..64].fill(true);
            frames_of(&bytes).iter().for_each(|frame| used[frame.offset..frame.offset + frame.len].fill(true));
        }
        File { path, bytes, used }
    };
    store.files().into_iter().map(read).collect()
}

/// Every bit: of what something depends on one in `one_in`, of all else one in
/// 61 of those.
fn flips(what: &str, store: &Checkpointed, which: impl Fn(&File) -> bool) -> Tally {
    let files: Vec<_> = files(store).into_iter().filter(which).collect();
    let (used, rest) = (one_in(11), one_in(61 * 11));
    let mut bits = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let chosen = |&bit: &usize| bit % if file.used[bit / 8] { used } else { rest } == 0;
        bits.extend((0..file.bytes.len() * 8).filter(chosen).map(|bit| (number, bit)));
    }
    sweep(what, store, bits.len(), |case| {
        let (number, bit) = bits[case];
        let File { path, bytes, .. } = &files[number];
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        Some((format!("{} bit {bit}", path.display()), vec![(path.clone(), changed)]))
    })
}

#[test]
fn no_flipped_bit_of_a_closed_store_with_a_checkpoint_changes_data_unnoticed() {
    let tally = flips("closed, checkpoint, flipped bits", &Checkpointed::closed(1), |_| true);
    assert_eq!(tally.different, [] as [String; 0]);
    assert!(tally.identical > 0 && tally.refused > 0);
}

#[test]
fn of_a_crashed_store_with_a_checkpoint_flips_change_the_window_alone() {
    let store = Checkpointed::crashed(1);
    let tally = flips("crashed, checkpoint, flipped bits", &store, |_| true);
    // That each of them is one of the window's, and what it left, the forecast
    // says. That the window is no smaller:
    let window = Forecaster::new(&store).window_bits();
    println!("  the window: {window} bits of frames behind the last proven durable LSN, taken for a torn write");
    assert!(tally.different.len() >= window / one_in(11) && (!all() || tally.different.len() == window));
}

#[test]
fn with_two_checkpoints_kept_a_flipped_bit_of_the_newer_is_made_good_by_the_older() {
    let store = Checkpointed::crashed(2);
    let runs_and_manifests = |file: &File| place_of(&file.path).is_none();
    let tally = flips("two checkpoints kept, flipped bits of runs and manifests", &store, runs_and_manifests);
    assert!(tally.made_good > 0 && tally.refused > 0 && tally.different.is_empty());
}

/// A sector of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sector {
    file: usize,
    at: usize,
}

fn sectors(files: &[File]) -> Vec<Sector> {
    let of = |(file, bytes): (usize, &File)| (0..bytes.bytes.len()).step_by(SECTOR).map(move |at| Sector { file, at });
    files.iter().enumerate().flat_map(of).collect()
}

/// The file with other bytes in a sector, as many as it has there.
fn with_sector(bytes: &[u8], at: usize, sector: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let len = sector.len().min(bytes.len() - at);
    changed[at..at + len].copy_from_slice(&sector[..len]);
    changed
}

fn sector_of(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at.min(bytes.len())..bytes.len().min(at + SECTOR)]
}

/// The store closed in order, and crashed.
pub(crate) fn both(mut check: impl FnMut(&'static str, Checkpointed)) {
    check("closed", Checkpointed::closed(1));
    check("crashed", Checkpointed::crashed(1));
}

#[test]
fn a_sector_that_is_zeroed_or_as_it_was_before_is_noticed() {
    both(|state, store| {
        let files = files(&store);
        let sectors = sectors(&files);
        let tally = sweep(&format!("{state}, checkpoint, sectors zeroed"), &store, sectors.len(), |number| {
            let Sector { file, at } = sectors[number];
            let File { path, bytes, .. } = &files[file];
            let changed = with_sector(bytes, at, &[0; SECTOR]);
            (changed != *bytes).then(|| (format!("{} sector at {at}", path.display()), vec![(path.clone(), changed)]))
        });
        assert_eq!(tally.different.is_empty(), state == "closed");

        let mut cases = Vec::new();
        for &sector in &sectors {
            let File { path, bytes, .. } = &files[sector.file];
            let past = store.older[path].iter().map(|past| sector_of(past, sector.at).to_vec());
            let past: BTreeSet<_> = past.filter(|past| past != sector_of(bytes, sector.at)).collect();
            cases.extend(past.into_iter().filter(|past| !past.is_empty()).map(|past| (sector, past)));
        }
        let tally = sweep(&format!("{state}, checkpoint, sectors of the past"), &store, cases.len(), |number| {
            let (Sector { file, at }, past) = &cases[number];
            let File { path, bytes, .. } = &files[*file];
            let changed = with_sector(bytes, *at, past);
            (changed != *bytes).then(|| (format!("{} sector at {at}", path.display()), vec![(path.clone(), changed)]))
        });
        assert_eq!(tally.different.is_empty(), state == "closed");
    });
}

/// Two sectors in each other's place; nothing, if they are alike.
fn swapped(files: &[File], one: Sector, other: Sector) -> Option<(String, Vec<Change>)> {
    let (first, second) = (&files[one.file], &files[other.file]);
    let (mine, theirs) = (sector_of(&first.bytes, one.at), sector_of(&second.bytes, other.at));
    (mine != theirs).then_some(())?;
    let name = format!("{} sector at {} and {} at {}", first.path.display(), one.at, second.path.display(), other.at);
    let changed = with_sector(&first.bytes, one.at, theirs);
    if one.file == other.file {
        return Some((name, vec![(first.path.clone(), with_sector(&changed, other.at, mine))]));
    }
    let swapped = with_sector(&second.bytes, other.at, mine);
    Some((name, vec![(first.path.clone(), changed), (second.path.clone(), swapped)]))
}

/// The first sweep of all pairs of sectors found it: where the headers of two
/// segments that follow each other stood in each other's place, the second was
/// named, and the first is where the log cannot be followed any more.
#[test]
fn of_headers_that_were_swapped_the_first_is_named() {
    both(|state, store| {
        let files = files(&store);
        let headers: Vec<_> = sectors(&files).into_iter().filter(|sector| sector.at == 0).collect();
        let pairs = headers.len() * headers.len();
        let tally = sweep(&format!("{state}, checkpoint, headers swapped"), &store, pairs, |number| {
            let (one, other) = (number / headers.len(), number % headers.len());
            if one < other { swapped(&files, headers[one], headers[other]) } else { None }
        });
        assert!(tally.refused > 0 && tally.different.is_empty());
    });
}

#[test]
fn a_sector_that_was_swapped_with_another_or_written_over_it_is_noticed() {
    both(|state, store| {
        let files = files(&store);
        let sectors = sectors(&files);
        let pairs = sectors.len() * sectors.len();
        let step = one_in(37);
        let tally = sweep(&format!("{state}, checkpoint, sectors swapped"), &store, pairs.div_ceil(step), |number| {
            let (one, other) = (number * step / sectors.len(), number * step % sectors.len());
            // Both orders are the same.
            (one < other).then_some(())?;
            swapped(&files, sectors[one], sectors[other])
        });
        assert_eq!(tally.different.is_empty(), state == "closed");

        let tally =
            sweep(&format!("{state}, checkpoint, sectors misdirected"), &store, pairs.div_ceil(step), |number| {
                let (from, to) = (sectors[number * step / sectors.len()], sectors[number * step % sectors.len()]);
                let (source, target) = (&files[from.file], &files[to.file]);
                let written = sector_of(&source.bytes, from.at);
                let changed = with_sector(&target.bytes, to.at, written);
                (changed != target.bytes).then_some(())?;
                let name = format!(
                    "{} sector at {} to {} at {}",
                    source.path.display(),
                    from.at,
                    target.path.display(),
                    to.at
                );
                Some((name, vec![(target.path.clone(), changed)]))
            });
        assert_eq!(tally.different.is_empty(), state == "closed");
    });
}

#[test]
fn a_file_that_is_cut_at_any_byte_is_noticed() {
    both(|state, store| {
        let files = files(&store);
        let mut cuts = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let step = if file.bytes.len() < 4096 { 1 } else { one_in(41) };
            let edges = (0..file.bytes.len()).step_by(SECTOR).flat_map(|at| [at, at + 1, at + SECTOR - 1]);
            let lengths: BTreeSet<_> = (0..file.bytes.len()).step_by(step).chain(edges).collect();
            cuts.extend(lengths.into_iter().filter(|len| *len < file.bytes.len()).map(|len| (number, len)));
        }
        let tally = sweep(&format!("{state}, checkpoint, files cut"), &store, cuts.len(), |case| {
            let (number, len) = cuts[case];
            let File { path, bytes, .. } = &files[number];
            Some((format!("{} cut to {len}", path.display()), vec![(path.clone(), bytes[..len].to_vec())]))
        });
        assert_eq!(tally.different, [] as [String; 0], "what waits behind the log says how long it was");
    });
}

/// Whole files of the past under their names: but for the last segment of a
/// log that was not closed, which is a whole tail gone with all its evidence,
/// something always proves what is not there.
#[test]
fn a_file_as_it_was_before_is_noticed_if_anything_proves_what_is_gone() {
    both(|state, store| {
        let lasts: Vec<_> = (0..2).map(|core| store.world.segments(core).pop().unwrap()).collect();
        let cases: Vec<_> =
            store.older.iter().flat_map(|(path, past)| past.iter().map(move |old| (path, old))).collect();
        let judged = store.world.judge_all(cases.len(), |number| {
            let (path, old) = cases[number];
            store.world.judge(|disk| disk.write_file(path, old.clone()))
        });
        let mut tally = Tally::default();
        for ((path, _), judgement) in cases.into_iter().zip(judged) {
            tally.count(|| path.display().to_string(), &judgement);
            if let Judgement::Different(data) = judgement {
                let core = lasts.iter().position(|last| last == path).expect("not the end of a log");
                let before = store.points[core].iter().any(|(_, point)| *point == data[core]);
                assert!(before && data[1 - core] == store.world.data[1 - core], "{}: {data:?}", path.display());
            }
        }
        tally.print(&format!("{state}, checkpoint, files of the past"));
        assert_eq!(tally.different.is_empty(), state == "closed");
    });
}
