//! A manifest, in a store of two cores.
//!
//! The first byte says whether its checksum is mended; the others are the text.

use corewal::format::{Checkpoint, Manifest};

use crate::bound::within;
use crate::forge::manifest_with;
use crate::hold::hold;
use crate::input::is_set;
use crate::seal::SIGNED;
use crate::store::{WHOLE, disk, manifest_path};
use crate::{Outcome, Seed};

/// A store with more cores is refused as well, but takes longer.
const CORES_OPENED: u16 = 8;

pub(crate) fn check(input: &[u8]) -> Outcome {
    let Some((&mode, bytes)) = input.split_first() else { return Outcome::Refused };
    let text = if is_set(mode, SIGNED) { signed(bytes) } else { bytes.to_vec() };
    let decoded = within(text.len(), "decoding a manifest", || Manifest::decode(&text));
    if let Ok(manifest) = &decoded {
        assert_eq!(manifest.encode().as_bytes(), text, "{manifest:?}");
        for checkpoint in &manifest.checkpoints {
            assert_eq!(Checkpoint::decode(&checkpoint.encode()).as_ref(), Ok(checkpoint));
        }
        if manifest.cores > CORES_OPENED {
            return Outcome::Taken;
        }
    }
    if let Ok(text) = std::str::from_utf8(&text)
        && let Ok(checkpoint) = Checkpoint::decode(text)
    {
        assert_eq!(checkpoint.encode(), text);
    }
    let disk = disk(&WHOLE);
    disk.write_file(&manifest_path(), text);
    hold(&disk);
    if decoded.is_ok() { Outcome::Taken } else { Outcome::Refused }
}

/// The text with the right checksum as its last line.
pub(crate) fn signed(text: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    lines.pop_if(|last| last.is_empty());
    lines.pop_if(|last| last.starts_with(b"crc32c"));
    let mut body: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    let sum = crc32c::crc32c(&body);
    body.extend(format!("crc32c {sum:08x}\n").into_bytes());
    body
}

pub(crate) fn seeds() -> Vec<Seed> {
    let text = disk(&WHOLE).read_file(&manifest_path()).expect("a manifest");
    let text = String::from_utf8(text).expect("it is text");
    let seed = |mode: u8, text: &str| [&[mode][..], text.as_bytes()].concat();
    let with = |line: &str| seed(0, &manifest_with(&text, line));
    let part = text.find("checkpoint").expect("one");
    let sum = text.find("crc32c ").expect("the last run has one");
    vec![
        ("as_it_is", seed(0, &text)),
        ("signed", seed(SIGNED, &text)),
        ("creating", with("state creating")),
        ("cores", with("cores 3")),
        ("generation", with("generation 1")),
        ("routed_in_an_unknown_way", with("route x-h3-64")),
        ("no_checkpoint", seed(SIGNED, &text[..part])),
        ("checkpoint_alone", seed(0, &text[part..text.rfind("crc32c ").expect("the last line")])),
        ("inherited", seed(SIGNED, &text.replacen("core 0 lsn", "inherited 696e 05\ncore 0 lsn", 1))),
        ("cut", seed(SIGNED, &text[..sum])),
    ]
}
