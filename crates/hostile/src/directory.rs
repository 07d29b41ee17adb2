//! A whole directory: a store of two cores with two checkpoints, and what is
//! done to its files.
//!
//! An input is a list of attacks; each is a byte that says which, and what it
//! needs. So an input cannot go stale, whatever bytes a store is made of.

use std::path::{Path, PathBuf};

use corewal::format::{BLOCK_LEN, CoreId, FRAME_HEADER_LEN, RunId, SegmentId, name};
use corewal::io::{SimStorage, Storage as _};

use crate::forge::{FRAME_FIELDS, NUMBERS, SEGMENT_FIELDS, put, sign};
use crate::hold::hold;
use crate::input::Input;
use crate::manifest::signed;
use crate::store::{DIR, WHOLE, disk, files, manifest_path};
use crate::{Outcome, Seed};

/// Attacks of one input: a store is soon beyond recognition.
const MOST: usize = 12;
/// Longest file that is made, so that an input takes no second.
const MAX_LEN: usize = 1 << 16;

pub(crate) fn check(input: &[u8]) -> Outcome {
    let disk = disk(&WHOLE);
    let mut input = Input(input);
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        attack(&disk, &mut input);
    }
    hold(&disk)
}

const BYTES: u8 = 0;
const FRAME: u8 = 1;
const SEGMENT: u8 = 2;
const RECORDS: u8 = 3;
const SPLICE: u8 = 4;
const LENGTH: u8 = 5;
const REMOVE: u8 = 6;
const RENAME: u8 = 7;
const COPY: u8 = 8;
const FILE: u8 = 9;
const LINE: u8 = 10;
const DIRECTORY: u8 = 11;
const ATTACKS: u8 = 12;

fn attack(disk: &SimStorage, input: &mut Input<'_>) {
    let kind = input.u8();
    let all: Vec<PathBuf> = files(disk).into_keys().collect();
    if all.is_empty() {
        return;
    }
    let path = input.pick(&all).clone();
    let mut bytes = disk.read_file(&path).expect("it was listed");
    match kind % ATTACKS {
        BYTES => {
            let is_signed = input.u8().is_multiple_of(2);
            let at = usize::from(input.u16()) % bytes.len().max(1);
            let new = input.bytes();
            let len = new.len().min(bytes.len() - at.min(bytes.len()));
            bytes[at..at + len].copy_from_slice(&new[..len]);
            write(disk, &path, bytes, is_signed);
        }
        FRAME => {
            let from = block(&bytes, input).min(bytes.len());
            let field = *input.pick(&FRAME_FIELDS);
            put(&mut bytes[from..], field, number(input));
            write(disk, &path, bytes, true);
        }
        SEGMENT => {
            let field = *input.pick(&SEGMENT_FIELDS);
            put(&mut bytes, field, number(input));
            write(disk, &path, bytes, true);
        }
        RECORDS => {
            let (from, records) = (block(&bytes, input), input.bytes());
            let to = from + FRAME_HEADER_LEN + records.len();
            if to <= bytes.len() {
                bytes[from + FRAME_HEADER_LEN..to].copy_from_slice(records);
                put(&mut bytes[from..], FRAME_FIELDS[0], (FRAME_HEADER_LEN + records.len()) as u64);
                let count = input.u8();
                put(&mut bytes[from..], FRAME_FIELDS[1], count.max(1).into());
            }
            write(disk, &path, bytes, true);
        }
        SPLICE => {
            let other = disk.read_file(input.pick::<PathBuf>(&all)).expect("it was listed");
            let (from, to) = (block(&other, input), block(&bytes, input));
            if let (Some(new), Some(old)) = (other.get(from..from + BLOCK_LEN), bytes.get_mut(to..to + BLOCK_LEN)) {
                old.copy_from_slice(new);
            }
            let is_signed = input.u8().is_multiple_of(2);
            write(disk, &path, bytes, is_signed);
        }
        LENGTH => {
            bytes.resize(input.u16().into(), input.u8());
            write(disk, &path, bytes, false);
        }
        REMOVE => {
            disk.remove_file_durably(&path);
        }
        RENAME => {
            let to = other_name(input);
            if disk.rename(&path, &to).is_err() {
                disk.remove_file_durably(&path);
                place(disk, &to, bytes);
            }
        }
        COPY => place(disk, &other_name(input), bytes),
        FILE => {
            let is_signed = input.u8().is_multiple_of(2);
            let mut new = input.bytes().to_vec();
            if is_signed {
                // Behind the header that it has.
                bytes.truncate(BLOCK_LEN);
                bytes.append(&mut new);
                write(disk, &path, bytes, true);
            } else {
                place(disk, &other_name(input), new);
            }
        }
        LINE => {
            let text = disk.read_file(&manifest_path()).unwrap_or_default();
            let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
            let at = usize::from(input.u8()) % lines.len();
            let line = input.bytes();
            match input.u8() % 3 {
                0 => lines[at] = line,
                1 => lines.insert(at, line),
                _ => drop(lines.remove(at)),
            }
            // There may be a directory by now.
            place(disk, &manifest_path(), signed(&lines.join(&b'\n')));
        }
        _ => {
            let path = other_name(input);
            disk.remove_file_durably(&path);
            let _ = disk.create_dir(&path);
        }
    }
}

fn write(disk: &SimStorage, path: &Path, mut bytes: Vec<u8>, is_signed: bool) {
    bytes.truncate(MAX_LEN);
    if is_signed {
        if path == manifest_path() {
            bytes = signed(&bytes);
        } else {
            sign(&mut bytes);
        }
    }
    disk.write_file(path, bytes);
}

/// A file at any name of the grammar, unless that is a directory or leads
/// through a file.
fn place(disk: &SimStorage, path: &Path, bytes: Vec<u8>) {
    let parent = path.parent().expect("in a directory");
    let is_dir = |path: &Path| disk.list(path).is_ok();
    if disk.read_file(parent).is_none() && !is_dir(path) {
        disk.write_file(path, bytes);
    }
}

/// Where a block begins, the first apart.
fn block(bytes: &[u8], input: &mut Input<'_>) -> usize {
    let blocks = (bytes.len() / BLOCK_LEN).saturating_sub(1).max(1);
    (1 + usize::from(input.u8()) % blocks) * BLOCK_LEN
}

/// A number at which something could go wrong, or any.
fn number(input: &mut Input<'_>) -> u64 {
    match NUMBERS.get(usize::from(input.u8())) {
        Some(&number) => number,
        None => input.u64(),
    }
}

/// A name of the grammar, or almost one.
fn other_name(input: &mut Input<'_>) -> PathBuf {
    let (kind, number) = (input.u8() % 8, u64::from(input.u8()));
    let core = name::core_dir(CoreId(u16::from(input.u8() % 4)), u32::from(input.u8() % 3));
    let path = match kind {
        0 | 1 => format!("{core}/{}", name::segment(SegmentId(number))),
        2 => format!("{core}/{}", name::spare(SegmentId(number))),
        3 => format!("{}/{}", name::RUNS, name::run(RunId(number.max(1)))),
        4 => name::MANIFEST.to_owned(),
        5 => name::MANIFEST_OLD.to_owned(),
        6 => name::MANIFEST_NEW.to_owned(),
        _ => format!("{core}/{number}.wal"),
    };
    Path::new(DIR).join(path)
}

pub(crate) fn seeds() -> Vec<Seed> {
    let list: Vec<PathBuf> = files(&disk(&WHOLE)).into_keys().collect();
    let at = |part: &str| list.iter().position(|path| path.to_string_lossy().contains(part)).expect("there is") as u8;
    let (log, run, manifest) = (at(".wal"), at("runs/"), at("MANIFEST"));
    let last = list.iter().rposition(|path| path.extension().is_some_and(|end| end == "wal")).expect("there is") as u8;
    let far = NUMBERS.len() as u8 - 2;
    vec![
        ("as_it_is", vec![]),
        ("bit", vec![BYTES, last, 1, 0x40, 0x10, 1, 0, 0xFF]),
        ("signed_bit", vec![BYTES, log, 0, 0x60, 0x10, 1, 0, 0xFF]),
        ("frame_length", vec![FRAME, last, 0, 0, far]),
        ("frame_epoch", vec![FRAME, log, 0, 4, far]),
        ("base", vec![SEGMENT, last, 5, far]),
        // Behind it no log can go on, also when it is repaired.
        ("the_last_base", vec![SEGMENT, last, 5, far - 2]),
        // 38 cores, of the segment that waits behind the last.
        ("made_ahead_by_more_cores", vec![SEGMENT, last, 2, 16, 38]),
        ("the_last_opening", vec![FRAME, log, 0, 7, far + 1]),
        ("the_last_sequence", vec![FRAME, log, 0, 5, far + 1]),
        ("records", vec![RECORDS, log, 0, 16, 0, 14, 0, 0, 0, 8, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 1]),
        ("splice", vec![SPLICE, log, last, 0, 1, 0]),
        ("length", vec![LENGTH, last, 0, 0x20, 0]),
        ("remove_run", vec![REMOVE, run]),
        ("remove_manifest", vec![REMOVE, manifest]),
        ("rename", vec![RENAME, log, 0, 200, 1, 0]),
        ("copy", vec![COPY, log, 0, 9, 1, 0, COPY, manifest, 5, 0, 0, 0]),
        ("file", vec![FILE, log, 1, 3, 0, 1, 2, 3, 0, 250, 0, 0]),
        ("line", [&[LINE, 0, 4, 7, 0][..], b"cores 1", &[0]].concat()),
        ("directory", vec![DIRECTORY, 0, 0, 100, 0, 0]),
    ]
}
