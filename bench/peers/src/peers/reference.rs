//! The least that a log can be, written by hand: a file of zeros laid out beforehand, overwritten through the page
//! cache, one CRC-32C a record, fdatasync. No recovery, no segments, no space management.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};

use super::{Keeps, Kind, Log, Peer, Setup};
use crate::data::{Check, KEY_BYTES};

const BUFFER: usize = 128 << 10;
/// Length and checksum.
const HEADER: usize = 8;

pub(super) fn peer() -> Peer {
    Peer {
        name: "by hand: overwrite, fdatasync",
        version: "",
        kind: Kind::Measure,
        sync_call: "fdatasync",
        log: |dir, setup| Ok(Box::new(ByHand::create(dir, setup)?)),
        read: Some(read),
        keeps: Keeps::All,
        rust: true,
        shared: None,
        store: None,
    }
}

/// Makes a file of zeros that are on the disk, with room for records and their headers.
pub(super) fn zeros(path: &Path, setup: Setup) -> Result<u64> {
    let mut file = File::create_new(path)?;
    let zeros = vec![0; 1 << 20];
    let room = (setup.room + setup.room / 8).div_ceil(1 << 20) + 2;
    for _ in 0..room {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(room << 20)
}

struct ByHand {
    file: File,
    buffer: Vec<u8>,
    at: u64,
    end: u64,
}

impl ByHand {
    fn create(dir: &Path, setup: Setup) -> Result<Self> {
        let path = dir.join("log");
        let end = zeros(&path, setup)?;
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self { file, buffer: Vec::with_capacity(BUFFER), at: 0, end })
    }

    fn write(&mut self) -> Result<()> {
        ensure!(self.at + self.buffer.len() as u64 <= self.end, "the file is full");
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Log for ByHand {
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.buffer.len() + HEADER + key.len() + value.len() > BUFFER {
            self.write()?;
        }
        let from = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER]);
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        let body = &self.buffer[from + HEADER..];
        let (len, sum) = (body.len() as u32, crc32c::crc32c(body));
        self.buffer[from..from + 4].copy_from_slice(&len.to_le_bytes());
        self.buffer[from + 4..from + HEADER].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.write()?;
        Ok(self.file.sync_data()?)
    }
}

fn read(dir: &Path, mut check: Check) -> Result<Check> {
    let bytes = std::fs::read(dir.join("log"))?;
    let mut rest = bytes.as_slice();
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER>() {
        let (len, sum) = header.split_first_chunk::<4>().expect("eight bytes");
        let len = u32::from_le_bytes(*len) as usize;
        if len == 0 {
            break;
        }
        let body = &behind[..len];
        ensure!(sum == crc32c::crc32c(body).to_le_bytes(), "a record does not match its checksum");
        let (key, value) = body.split_at(KEY_BYTES);
        check.record(key, value);
        rest = &behind[len..];
    }
    Ok(check)
}
