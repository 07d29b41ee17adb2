//! A segment: the one file of a log of one core.
//!
//! The first byte says what is mended ([`seal`](crate::seal)) and whether the
//! file is filled with zeros to its length; the others are the file.

use corewal::format::{CoreId, Lsn, SegmentId, SegmentIdentity};

use crate::frames::decode_all;
use crate::hold::hold;
use crate::input::is_set;
use crate::seal::{NAMED, NUMBERED, PLACED, SIGNED, header, mend};
use crate::store::{LOG, LOG_ONLY, SEGMENT, disk};
use crate::{Outcome, Seed};

const FILLED: u8 = 16;
const FILE_LEN: usize = 16_384;

pub(crate) fn check(input: &[u8]) -> Outcome {
    let Some((&mode, bytes)) = input.split_first() else { return Outcome::Refused };
    let mut file = bytes.to_vec();
    if is_set(mode, FILLED) && file.len() < FILE_LEN {
        file.resize(FILE_LEN, 0);
    }
    let identity = SegmentIdentity { log_id: LOG, core: CoreId(0), segment: SegmentId(0), base_lsn: Lsn(0) };
    mend(&mut file, mode, &header(identity, false));
    decode_all(&file);
    let disk = disk(&LOG_ONLY);
    for path in disk.files().iter().filter(|path| path.extension().is_some_and(|end| end == "wal")) {
        disk.remove_file_durably(path);
    }
    disk.write_file(SEGMENT.as_ref(), file);
    hold(&disk)
}

pub(crate) fn seeds() -> Vec<Seed> {
    let file = disk(&LOG_ONLY).read_file(SEGMENT.as_ref()).expect("a segment");
    let end = file.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let seed = |mode: u8, len: usize| [&[mode][..], &file[..len]].concat();
    vec![
        ("as_it_is", seed(0, end)),
        ("filled", seed(FILLED, end)),
        ("signed", seed(FILLED | SIGNED, end)),
        ("placed", seed(FILLED | SIGNED | PLACED | NUMBERED, end)),
        ("named", seed(FILLED | SIGNED | NAMED, end)),
        ("two_blocks", seed(SIGNED, 8192)),
        ("header", seed(SIGNED | FILLED, 64)),
    ]
}
