//! State machines with states of a type: whatever ends a start of the job, and in
//! whatever numbers of workers it goes on, states and output are those of a run
//! in which nothing happened.
#![allow(clippy::disallowed_methods, reason = "a test: files, threads")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use corewal::{Keyed, Reader, Recover};
use corewal_timely::{
    BoxError, DurableSink as _, DurableSource as _, DurableStateMachine as _, Error, Files, Finished, Job, Partition,
    Read, Source, Stored as _, execute, stores_of,
};
use timely::dataflow::operators::vec::Map as _;

/// Words of a partition.
const WORDS: u64 = 6_000;

/// A word is done when it was seen so often; then it begins anew.
const DONE: u64 = 40;

fn word(partition: u64, position: u64) -> String {
    let mut random = fastrand::Rng::with_seed(partition << 32 | position);
    format!("word-{}", random.u32(..300).min(random.u32(..300)))
}

/// Words in two partitions, some of them each millisecond.
struct Words;

struct WordsOf {
    partition: u64,
    position: u64,
}

impl Source for Words {
    type Item = (String, u64);
    type Partition = WordsOf;

    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        Ok(vec!["0".into(), "1".into()])
    }

    fn open(&self, partition: &str, position: u64) -> Result<WordsOf, BoxError> {
        Ok(WordsOf { partition: partition.parse()?, position })
    }
}

impl Partition for WordsOf {
    type Item = (String, u64);

    fn read(&mut self, _: usize, into: &mut Vec<(String, u64)>) -> Result<Read, BoxError> {
        let until = WORDS.min(self.position + 20);
        into.extend((self.position..until).map(|position| (word(self.partition, position), position)));
        self.position = until;
        Ok(if until == WORDS { Read::End } else { Read::Waiting })
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// How often a word was seen, and the sum of the positions at which it was.
type Seen = (u64, u64);

/// Runs the job, until all is counted or the word at a position is to be.
fn run(dir: &Path, workers: usize, panics_at: u64) -> Result<Finished, Error> {
    let out = dir.join("out");
    let job = Job::new(dir.join("job"), "words").epoch_every(Duration::from_millis(5));
    execute(job, timely::Config::process(workers), move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            let words = scope.durable_source(durable, "words", &Words);
            let seen = words.durable_state_machine(durable, "seen", move |word, position, seen: &mut Seen| {
                assert!(position != panics_at, "no more of this");
                *seen = (seen.0 + 1, seen.1 + position);
                (seen.0 == DONE, Some(format!("{word} {}", seen.0)))
            });
            seen.map(String::into_bytes).durable_sink(durable, "out", Files::new(&out));
        });
    })
}

/// All rows of the output, sorted.
fn rows(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir.join("out")).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let mut rows: Vec<_> = files.flat_map(|file| file.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    rows.sort();
    rows
}

/// The states in all stores.
fn states(dir: &Path) -> BTreeMap<String, Seen> {
    let mut found = BTreeMap::new();
    for store in fs::read_dir(stores_of(&dir.join("job"))).unwrap() {
        let reader = Reader::open(store.unwrap().path()).unwrap();
        for view in reader.replay(Recover::CompleteEpoch, |_| Keyed::default()).unwrap() {
            for (key, state) in view.state.iter() {
                let word = String::read(key.strip_prefix(b"seen/").unwrap()).unwrap();
                assert_eq!(found.insert(word, Seen::read(state).unwrap()), None, "two have it");
            }
        }
    }
    found
}

#[test]
fn a_job_that_panics_goes_on_with_its_states_in_other_numbers_of_workers() {
    let dir = tempfile::tempdir().unwrap();
    for (workers, panics_at) in [(2, 2_000), (3, 4_000), (1, 5_000)] {
        let told = run(dir.path(), workers, panics_at).unwrap_err();
        assert!(matches!(&told, Error::Worker { detail } if detail.contains("no more of this")), "{told:?}");
    }
    let finished = run(dir.path(), 2, u64::MAX).unwrap();
    assert_eq!(finished.attempt, 4);
    assert!(finished.recovered > 0 && finished.complete > finished.recovered, "{finished:?}");

    let (mut expected_rows, mut expected) = (Vec::new(), BTreeMap::<_, Seen>::new());
    let mut done = BTreeSet::new();
    for (word, position) in (0..2).flat_map(|partition| (0..WORDS).map(move |at| (word(partition, at), at))) {
        let seen = expected.entry(word.clone()).or_default();
        *seen = (seen.0 + 1, seen.1 + position);
        expected_rows.push(format!("{word} {}", seen.0));
        if seen.0 == DONE {
            expected.remove(&word);
            done.insert(word);
        }
    }
    expected_rows.sort();
    assert_eq!(rows(dir.path()), expected_rows);
    let mut found = states(dir.path());
    // Which positions were behind the one at which a word was done depends on how
    // the partitions met.
    assert!(done.len() > 20 && expected.len() > done.len() + 20);
    for states in [&mut found, &mut expected] {
        states.iter_mut().filter(|(word, _)| done.contains(*word)).for_each(|(_, seen)| seen.1 = 0);
    }
    assert_eq!(found, expected);
}
