//! Class 3: a sector of which a part is new and a part old.

use std::path::Path;

use corewal::format::BLOCK_LEN;
use corewal::io::{CrashKind, SimStorage};

use super::bench::{commit, commits_of, writer};

const SEGMENT: &str = "/db/core-0000/00000000000000000000.wal";
const SECTOR: usize = 512;
const WORD: usize = 8;

/// Each sector of the frame that was being written, torn at each word, either
/// side of it new; the sectors behind it all there or all missing.
#[test]
fn class_03_a_sector_torn_at_any_word_costs_the_frame_being_written_and_no_other() {
    let disk = SimStorage::default();
    let segment = Path::new(SEGMENT);
    let mut log = writer(disk.clone());
    for number in 0..3 {
        commit(&mut log, number, 700);
    }
    let old = disk.read_file(segment).unwrap();
    commit(&mut log, 3, 1700);
    let new = disk.read_file(segment).unwrap();
    // What the opening of the log would say at its end is not written.
    let at_hand = disk.snapshot();
    drop(log);
    let sectors: Vec<_> =
        (0..new.len()).step_by(SECTOR).filter(|&at| old[at..at + SECTOR] != new[at..at + SECTOR]).collect();
    assert!(sectors.len() >= 4, "{sectors:?}");
    // The frame: what lies behind it in its block is padding.
    let begin = sectors[0];
    assert_eq!(begin % BLOCK_LEN, 0);
    let len = u32::from_le_bytes(new[begin + 8..begin + 12].try_into().unwrap()) as usize;
    let (mut lost, mut kept) = (0, 0);
    for &sector in &sectors {
        for word in (0..SECTOR).step_by(WORD) {
            for case in 0..4 {
                let (first_is_new, rest_is_new) = (case & 1 == 0, case & 2 == 0);
                let at = sector + word;
                let (first, last) = if first_is_new { (&new, &old) } else { (&old, &new) };
                let rest = if rest_is_new { &new } else { &old };
                let end = sector + SECTOR;
                let torn = [&new[..sector], &first[sector..at], &last[at..end], &rest[end..]].concat();
                let whole = torn[begin..begin + len] == new[begin..begin + len];
                let copy = at_hand.crash(CrashKind::Process, 0);
                copy.write_file(segment, torn);
                let found = commits_of(&copy);
                assert_eq!(found, if whole { 4 } else { 3 }, "sector {sector}, word {word}, case {case}");
                *if whole { &mut kept } else { &mut lost } += 1;
                // What is appended behind the cut joins what is left.
                if word % 64 == 0 {
                    commit(&mut writer(copy.clone()), found, 100);
                    assert_eq!(commits_of(&copy), found + 1);
                }
            }
        }
    }
    assert!(lost > 500 && kept > 0, "{lost} lost, {kept} kept");
}
