//! Folding: from a part of a core's log to sorted runs. Of each key the last
//! change is kept.

use corewal_format::{Epoch, Lsn, Record, RunRef};
use corewal_io::Storage;

use super::Context;
use super::run::RunWriter;
use super::source::key_prefix;
use crate::commit::Progress;
use crate::error::{Error, Result};
use crate::parallel::{Courtesy, RECORD};
use crate::planted::PlantedBug;
use crate::scan::{Cursor, DeadRanges, LogIdentity, Step, StopReason};

/// No value: the key is removed.
const REMOVED: u32 = u32::MAX;

/// A change, and where its bytes stand.
#[derive(Clone, Copy)]
struct Item {
    /// Eight bytes of the key, which decide most comparisons: see
    /// [`Batch::set_prefixes`].
    prefix: u64,
    /// Position of the key, whose value follows. Later changes stand further
    /// on.
    at: u32,
    key_len: u32,
    value_len: u32,
}

/// Changes that wait to be written.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

impl Batch {
    fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let fits = "a batch is written long before it has 4 GiB";
        self.items.push(Item {
            prefix: 0,
            at: u32::try_from(self.bytes.len()).expect(fits),
            key_len: u32::try_from(key.len()).expect(fits),
            value_len: value.map_or(REMOVED, |value| u32::try_from(value.len()).expect(fits)),
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    fn key(&self, item: &Item) -> &[u8] {
        &self.bytes[item.at as usize..][..item.key_len as usize]
    }

    fn value(&self, item: &Item) -> Option<&[u8]> {
        let behind = &self.bytes[(item.at + item.key_len) as usize..];
        (item.value_len != REMOVED).then(|| &behind[..item.value_len as usize])
    }

    /// Gives each item the first bytes of its key that differ between any: keys
    /// of one kind begin alike, and then each comparison would go to memory.
    /// Gives the length up to which a key is told by these bytes and its length.
    fn set_prefixes(&self, items: &mut [Item]) -> u32 {
        let Some(first) = items.first().map(|first| self.key(first)) else { return 0 };
        let mut common = first.len();
        for item in items.iter() {
            let key = self.key(item);
            if !key.starts_with(&first[..common]) {
                common = first.iter().zip(key).take_while(|(a, b)| a == b).count();
            }
        }
        for item in items {
            item.prefix = key_prefix(&self.key(item)[common..]);
        }
        u32::try_from(common + size_of::<u64>()).expect("keys are short")
    }

    /// Keeps of each key the last change, and sorts them.
    fn sort(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        let mut courtesy = Courtesy::default();
        let told = self.set_prefixes(&mut items);
        let compare = |a: &Item, b: &Item| {
            a.prefix.cmp(&b.prefix).then_with(|| match a.key_len.max(b.key_len) <= told {
                true => a.key_len.cmp(&b.key_len),
                false => self.key(a).cmp(self.key(b)),
            })
        };
        items.sort_unstable_by(|a, b| {
            courtesy.step();
            compare(a, b).then_with(|| a.at.cmp(&b.at))
        });
        let mut kept = 0;
        for index in 0..items.len() {
            courtesy.step();
            let item = items[index];
            let next = items.get(index + 1);
            if next.is_none_or(|next| compare(next, &item).is_ne()) {
                items[kept] = item;
                kept += 1;
            }
        }
        items.truncate(kept);
        self.items = items;
    }

    /// Lets go of the changes that later ones replace.
    fn shrink(&mut self) {
        self.sort();
        let len = |item: &Item| (item.key_len + if item.value_len == REMOVED { 0 } else { item.value_len }) as usize;
        let mut bytes = Vec::with_capacity(self.items.iter().map(len).sum());
        let mut courtesy = Courtesy::default();
        for item in &mut self.items {
            courtesy.steps(RECORD);
            let from = item.at as usize;
            item.at = u32::try_from(bytes.len()).expect("it became shorter");
            bytes.extend_from_slice(&self.bytes[from..from + len(item)]);
        }
        self.bytes = bytes;
    }

    /// Gives each key once, in order, with its last change; empties the batch.
    fn drain(&mut self, mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<()>) -> Result<()> {
        self.sort();
        for item in &self.items {
            visit(self.key(item), self.value(item))?;
        }
        self.items.clear();
        self.bytes.clear();
        Ok(())
    }
}

/// Where the fold of a core's log goes on, and what it has come to.
#[derive(Clone, Debug)]
pub(crate) struct Progressed {
    /// What stands below is folded.
    pub(crate) lsn: Lsn,
    pub(crate) progress: Progress,
}

/// Folds what stands in a core's log from `from` up to the end of `epoch`,
/// which is complete, so all of it is below `durable`. Gives the new runs,
/// oldest first; none if nothing changed.
pub(crate) fn fold<S: Storage>(
    context: &Context<'_, S>,
    log: LogIdentity,
    from: &Progressed,
    dead: &DeadRanges,
    epoch: Epoch,
    durable: Lsn,
) -> Result<(Vec<RunRef>, Progressed)> {
    let mut to = from.clone();
    let mut runs = Vec::new();
    let mut batch = Batch::default();
    // What the newest run says of offsets and watermark.
    let mut said = from.progress.clone();
    let layout = &context.layout;
    // Where the core was parked, if it is not known to have ended an epoch since.
    // That record vouches for the epochs up to the next opening. A release could
    // not say all it says, so it stays.
    let mut parked = None;
    let Some(mut cursor) = cursor_at(context, log, from.lsn, durable)? else {
        return Ok((runs, to));
    };
    let mut courtesy = Courtesy::default();
    'log: loop {
        context.go_on()?;
        let frame = match cursor.step()? {
            Step::Frame(frame, _) => frame,
            Step::Stop(stop) if stop.reason == StopReason::Limit => break,
            Step::Stop(stop) => {
                let path = layout.segment(log.core, stop.place.segment);
                let what = format!("at offset {} what was durable is not there: {}", stop.place.offset, stop.reason);
                return Err(Error::io("read", &path, std::io::Error::other(what)));
            }
        };
        for entry in frame.entries().flatten() {
            if entry.epoch > epoch && !layout.planted.has(PlantedBug::CheckpointBeyondItsEpoch) {
                break 'log;
            }
            if entry.lsn < from.lsn {
                continue;
            }
            to.lsn = entry.end;
            courtesy.steps(RECORD);
            match entry.record {
                Record::Park { .. } => parked = Some(entry.lsn),
                Record::Unpark { epoch: resumed } | Record::Open { epoch: resumed } if resumed <= epoch => {
                    parked = None
                }
                _ => {}
            }
            if dead.contains(entry.lsn) && !layout.planted.has(PlantedBug::CheckpointOfDeadRecords) {
                continue;
            }
            match entry.record {
                Record::Put { key, value } => batch.push(key, Some(value)),
                Record::Delete { key } => batch.push(key, None),
                Record::Commit(commit) => to.progress.apply(commit),
                Record::Payload(_) => return Err(Error::NotFoldable),
                _ => {}
            }
        }
        if batch.bytes.len() >= context.batch_bytes {
            // The same few keys over and over are one run, however long the log.
            batch.shrink();
            if batch.bytes.len() >= context.batch_bytes / 2 {
                runs.push(write(context, log, &mut batch, &to.progress)?);
                said.clone_from(&to.progress);
            }
        }
    }
    // A run also carries what commits say, so one is written for them alone.
    if !batch.items.is_empty() || said != to.progress {
        runs.push(write(context, log, &mut batch, &to.progress)?);
    }
    to.lsn = parked.unwrap_or(to.lsn);
    Ok((runs, to))
}

fn write<S: Storage>(
    context: &Context<'_, S>,
    log: LogIdentity,
    batch: &mut Batch,
    progress: &Progress,
) -> Result<RunRef> {
    let mut writer = RunWriter::create(&context.layout, log, context.next_run(), context.stamp)?;
    batch.drain(|key, value| writer.add(key, value))?;
    writer.finish(progress, context.sync)
}

/// A cursor at the first frame of the segment that holds `lsn`; `None` if the
/// log has no segment, or nothing durable from there on.
fn cursor_at<'l, S: Storage>(
    context: &'l Context<'_, S>,
    log: LogIdentity,
    lsn: Lsn,
    durable: Lsn,
) -> Result<Option<Cursor<'l, S>>> {
    let layout = &context.layout;
    let mut found = None;
    for segment in layout.list_segments(log.core)?.unwrap_or_default().into_iter().rev() {
        match Cursor::new(layout, log, segment, durable)? {
            Ok(cursor) => {
                let base = cursor.place().base_lsn;
                if base < durable {
                    found = Some(cursor);
                }
                if base <= lsn {
                    break;
                }
            }
            Err(stop) => {
                let path = layout.segment(log.core, segment);
                return Err(Error::io("read", &path, std::io::Error::other(stop.reason.to_string())));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_each_key_once_in_order_with_its_last_change() {
        let mut batch = Batch::default();
        let changes: [(&str, Option<&str>); 8] = [
            ("b", Some("1")),
            ("a", Some("1")),
            ("longer than eight", Some("1")),
            ("b", None),
            ("longer than eight bytes", Some("2")),
            ("a", Some("2")),
            ("longer than eight", Some("")),
            ("", Some("empty")),
        ];
        for (key, value) in changes {
            batch.push(key.as_bytes(), value.map(str::as_bytes));
        }
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], value: Option<&[u8]>| {
            seen.push((
                String::from_utf8(key.to_vec()).unwrap(),
                value.map(|value| String::from_utf8(value.to_vec()).unwrap()),
            ));
            Ok(())
        };
        batch.shrink();
        assert_eq!((batch.items.len(), batch.bytes.len()), (5, 49));
        batch.push(b"b", Some(b"3"));
        batch.push(b"a", None);
        batch.drain(&mut visit).unwrap();
        batch.drain(&mut visit).unwrap();
        let expected = [
            ("", Some("empty")),
            ("a", None),
            ("b", Some("3")),
            ("longer than eight", Some("")),
            ("longer than eight bytes", Some("2")),
        ];
        let expected: Vec<_> =
            expected.iter().map(|&(key, value)| (key.to_owned(), value.map(str::to_owned))).collect();
        assert_eq!(seen, expected);
    }
}
