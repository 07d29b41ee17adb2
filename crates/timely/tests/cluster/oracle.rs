//! What goes in, and what has to come out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use corewal::{Keyed, Reader, Recover, verify};

/// The length of a window and how late an event may come, in milliseconds.
pub(crate) const WINDOW: i64 = 1_000;
pub(crate) const LATENESS: u64 = 500;

/// Events that are to be counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub records: u64,
    pub partitions: u64,
    pub seed: u64,
}

/// An event's key and time.
pub(crate) fn parse(line: &str) -> (&str, i64) {
    let (key, time) = line.split_once(' ').expect("as written below");
    (key, time.parse().expect("as written below"))
}

/// The window in which a time lies.
pub(crate) fn window(time: i64) -> i64 {
    time - time.rem_euclid(WINDOW)
}

impl Workload {
    /// The events of a partition, in its order.
    pub(crate) fn events(&self, partition: u64) -> impl Iterator<Item = String> {
        let mut random = fastrand::Rng::with_seed(self.seed * 1000 + partition);
        (0..self.records / self.partitions).map(move |number| {
            let key = random.u32(..500);
            // Some come so late that they are.
            let late = if random.u8(..20) == 0 { random.i64(0..1_000) } else { random.i64(0..300) };
            format!("key-{key:03} {}", number as i64 + 2_000 - late)
        })
    }

    pub(crate) fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for partition in 0..self.partitions {
            let mut file = BufWriter::new(fs::File::create(dir.join(partition.to_string())).unwrap());
            self.events(partition).for_each(|event| writeln!(file, "{event}").unwrap());
            file.flush().unwrap();
        }
    }

    /// Rows of output, and events that count by key.
    fn expected(&self) -> (Vec<String>, BTreeMap<String, u64>) {
        let (mut rows, mut windows, mut totals) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for partition in 0..self.partitions {
            let mut watermark = i64::MIN;
            for event in self.events(partition) {
                let (key, time) = parse(&event);
                if time < watermark {
                    rows.push(format!("late {event}"));
                    continue;
                }
                watermark = watermark.max(time - LATENESS as i64);
                *windows.entry(format!("{:015}/{key}", window(time))).or_insert(0_u64) += 1;
                *totals.entry(key.to_owned()).or_insert(0) += 1;
            }
        }
        assert!(rows.len() as u64 > self.records / 1_000, "hardly anything is late");
        for (window, count) in windows {
            rows.extend([format!("{window} {count}"), format!("typed {window} {count}")]);
        }
        rows.sort();
        (rows, totals)
    }

    /// How many rows have to come out.
    pub(crate) fn rows(&self) -> usize {
        self.expected().0.len()
    }

    /// Each row is there, once.
    pub(crate) fn assert_rows(&self, mut rows: Vec<String>) {
        rows.sort();
        let (expected, _) = self.expected();
        let differ = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        assert_eq!((differ, rows.len()), (None, expected.len()));
    }

    /// The totals are right, and no window is left.
    pub(crate) fn assert_state(&self, stores: Vec<PathBuf>) {
        let mut found = BTreeMap::new();
        for store in stores {
            let looked = verify(&store).unwrap();
            assert_eq!(looked.findings, [], "{}", store.display());
            let reader = Reader::open(&store).unwrap();
            for view in reader.replay(Recover::CompleteEpoch, |_| Keyed::default()).unwrap() {
                for (key, value) in view.state.iter() {
                    let key = std::str::from_utf8(key).unwrap();
                    let key = key.strip_prefix("totals/").unwrap_or_else(|| panic!("{key} is left"));
                    let count = u64::from_le_bytes(value.try_into().unwrap());
                    assert_eq!(found.insert(key.to_owned(), count), None, "{key} has two owners");
                }
            }
        }
        assert_eq!(found, self.expected().1);
    }
}

/// The rows in a directory of files, but for those that were not finished.
pub(crate) fn rows_of(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            continue;
        }
        rows.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
    }
    rows
}
