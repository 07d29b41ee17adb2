//! The events: made in memory, the same ones for both programs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use corewal_timely::{BoxError, Partition, Read, Source};
use serde::{Deserialize, Serialize};

/// A text.
pub(crate) type Key = [u8; 16];

/// An event is its key and nothing else.
pub(crate) type Event = (Key, ());

/// `key-000000000042`. By hand: formatting would take most of the time of both
/// programs.
fn event(prefix: [u8; 4], mut number: u64) -> Event {
    let mut key = [b'0'; 16];
    key[..4].copy_from_slice(&prefix);
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    (key, ())
}

/// Whether it is one of those behind the end of what was to be made.
pub(crate) fn is_tick(key: &Key) -> bool {
    key.starts_with(TICK)
}

/// How the keys of ticks begin.
pub(crate) const TICK: &[u8] = b"tick";

/// What stands in a line.
#[derive(Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    key: &'l str,
    time: u64,
    amount: u32,
    #[serde(borrow)]
    from: &'l str,
}

/// A line of some hundred bytes with a key in it, and what is read from it.
fn through_json(event: Event, line: &mut Vec<u8>) -> Event {
    line.clear();
    line.extend_from_slice(b"{\"time\":1700000000123,\"key\":\"");
    line.extend_from_slice(&event.0);
    line.extend_from_slice(b"\",\"amount\":4711,\"from\":\"somewhere else\",\"note\":null}");
    let read: Line<'_> = serde_json::from_slice(line).expect("as written above");
    assert!(read.time > 0 && read.amount > 0 && !read.from.is_empty());
    (read.key.as_bytes().try_into().expect("sixteen bytes"), ())
}

/// In which order the keys come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Drawn at random.
    Drawn,
    /// Each once before any comes again, but not in their order.
    Scattered,
}

/// A source with a partition for each worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Events {
    pub(crate) partitions: u64,
    /// Of all partitions.
    pub(crate) events: u64,
    pub(crate) keys: u64,
    pub(crate) order: Order,
    /// Whether each is read from a line of JSON, as events from elsewhere are.
    pub(crate) json: bool,
    /// Whether it goes on behind them, with an event of each partition every
    /// millisecond; otherwise it ends.
    pub(crate) ticks: bool,
}

impl Source for Events {
    type Item = Event;
    type Partition = Generator;

    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        Ok((0..self.partitions).map(|partition| partition.to_string()).collect())
    }

    fn open(&self, partition: &str, position: u64) -> Result<Generator, BoxError> {
        Ok(self.generator(partition.parse()?, position))
    }
}

impl Events {
    pub(crate) fn generator(&self, partition: u64, position: u64) -> Generator {
        let most = self.events / self.partitions;
        Generator { source: *self, partition, position, most, ticked: Instant::now(), line: Vec::new() }
    }
}

/// When a partition was last told that all of it is complete.
pub(crate) static COMPLETE: Mutex<Option<Instant>> = Mutex::new(None);

/// A partition.
pub(crate) struct Generator {
    source: Events,
    partition: u64,
    position: u64,
    most: u64,
    ticked: Instant,
    line: Vec<u8>,
}

impl Generator {
    fn key(&self, number: u64) -> u64 {
        let number = number * self.source.partitions + self.partition;
        match self.source.order {
            // The end of SplitMix64: any of them can be made without those before.
            Order::Drawn => {
                let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (mixed ^ (mixed >> 31)) % self.source.keys
            }
            // A prime steps through all of them.
            Order::Scattered => (number % self.source.keys) * 2_654_435_761 % self.source.keys,
        }
    }
}

impl Partition for Generator {
    type Item = Event;

    fn read(&mut self, most: usize, into: &mut Vec<Event>) -> Result<Read, BoxError> {
        let end = self.most.min(self.position + most as u64);
        if self.position < end {
            let mut line = std::mem::take(&mut self.line);
            into.extend((self.position..end).map(|number| {
                let event = event(*b"key-", self.key(number));
                if self.source.json { through_json(event, &mut line) } else { event }
            }));
            self.line = line;
            self.position = end;
            return Ok(Read::More);
        }
        if !self.source.ticks {
            return Ok(Read::End);
        }
        if self.ticked.elapsed() >= Duration::from_millis(1) {
            self.ticked = Instant::now();
            // Of few keys, which tell the partition.
            let number = self.partition * 1_000 + self.position % 1_000;
            into.push(event(*b"tick", number));
            self.position += 1;
        }
        Ok(Read::Waiting)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn complete(&mut self, position: u64) -> Result<(), BoxError> {
        if position >= self.most {
            *COMPLETE.lock().expect("nobody panics with it") = Some(Instant::now());
        }
        Ok(())
    }
}
