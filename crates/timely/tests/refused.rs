//! What a job is refused for, what it says then, and that nothing is lost by it.
#![allow(clippy::disallowed_methods, reason = "a test: files, threads")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use corewal_timely::{
    Batch, BoxError, DurableSink as _, DurableSource as _, DurableState as _, DurableStateMachine as _, Error, Files,
    Finished, Job, Lines, Partition, Read, Sink, Source, execute, stores_of,
};
use timely::dataflow::operators::vec::Map as _;

/// Words of files, counted under a name.
fn count(job: Job, files: &[PathBuf], state: &'static str, out: &Path) -> Result<Finished, Error> {
    let (lines, out) = (Lines::new(files).unwrap(), out.to_owned());
    execute(job, timely::Config::process(2), move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            let lines = scope.durable_source(durable, "lines", &lines);
            let counts = lines.durable_update(
                durable,
                state,
                |line, key| key.extend(line.text.bytes()),
                |line, mut count, out| {
                    let now = count.get_u64() + 1;
                    count.put_u64(now);
                    out.push(format!("{} {now}", line.text).into_bytes());
                },
            );
            counts.durable_sink(durable, "out", Files::new(&out));
        });
    })
}

/// All rows of the output, sorted.
fn rows(out: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(out).unwrap() {
        rows.extend(fs::read_to_string(entry.unwrap().path()).unwrap().lines().map(str::to_owned));
    }
    rows.sort();
    rows
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(place.input(), "a\nb\na\n").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn input(&self) -> PathBuf {
        self.path("input")
    }

    fn job(&self) -> Job {
        Job::new(self.path("job"), "words").epoch_every(Duration::from_millis(5))
    }

    fn count(&self) -> Result<Finished, Error> {
        count(self.job(), &[self.input()], "counts", &self.path("out"))
    }
}

#[test]
fn a_job_of_another_shape_or_name_is_refused_and_the_first_one_goes_on() {
    let place = Place::new();
    assert_eq!(place.count().unwrap().attempt, 1);

    let told = count(place.job(), &[place.input()], "sums", &place.path("out")).unwrap_err().to_string();
    assert!(told.contains("- state counts") && told.contains("+ state sums"), "{told}");

    let other = place.path("other");
    fs::write(&other, "c\n").unwrap();
    let told = count(place.job(), &[other], "counts", &place.path("out")).unwrap_err().to_string();
    assert!(told.contains("- source lines: ") && told.contains("/input") && told.contains("/other"), "{told}");

    let named = Job::new(place.path("job"), "letters");
    let told = count(named, &[place.input()], "counts", &place.path("out")).unwrap_err().to_string();
    assert!(told.contains("belongs to the job `words`, not to `letters`"), "{told}");

    fs::write(place.input(), "a\nb\na\nb\n").unwrap();
    let finished = place.count().unwrap();
    assert!(finished.recovered > 0 && finished.complete > finished.recovered, "{finished:?}");
    assert_eq!(rows(&place.path("out")), ["a 1", "a 2", "b 1", "b 2"]);
}

#[test]
fn a_state_of_another_type_is_refused_and_the_first_one_goes_on() {
    let place = Place::new();
    place.count().unwrap();
    let typed = |out: PathBuf| {
        fs::write(place.input(), "a\nb\na\nb\n").unwrap();
        let lines = Lines::new([place.input()]).unwrap();
        execute(place.job(), timely::Config::process(2), move |worker, durable| {
            worker.dataflow::<u64, _, _>(|scope| {
                let lines = scope.durable_source(durable, "lines", &lines).map(|line| (line.text, 1));
                let counts = lines.durable_state_machine(durable, "counts", |_, more, count: &mut u32| {
                    *count += more;
                    (false, Some(b"never".to_vec()))
                });
                counts.durable_sink(durable, "out", Files::new(&out));
            });
        })
    };
    let refused = typed(place.path("out")).unwrap_err();
    assert!(matches!(&refused, Error::State { name, key, .. } if name == "counts" && key == b"b"), "{refused:?}");
    let told = "what stands under counts/b is no state of the type that operator counts has: 8 bytes, where 4 are \
                expected";
    assert_eq!(refused.to_string(), told);
    place.count().unwrap();
    assert_eq!(rows(&place.path("out")), ["a 1", "a 2", "b 1", "b 2"]);
}

#[test]
fn a_process_that_the_job_does_not_have_is_refused() {
    let place = Place::new();
    let addresses = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let communication =
        timely::CommunicationConfig::Cluster { threads: 1, process: 5, addresses, report: false, zerocopy: false };
    let config = timely::Config { communication, worker: timely::WorkerConfig::default() };
    let told = execute(place.job(), config, |_, _| {}).unwrap_err().to_string();
    assert!(told.contains("there is no process 5"), "{told}");
    assert!(!place.path("job").exists());
}

#[test]
fn two_sinks_of_one_name_are_refused() {
    let place = Place::new();
    let (lines, out) = (Lines::new([place.input()]).unwrap(), place.path("out"));
    let refused = execute(place.job(), timely::Config::process(2), move |worker, durable| {
        worker.dataflow::<u64, _, _>(|scope| {
            let lines = scope.durable_source(durable, "lines", &lines);
            let rows = lines.map(|line| line.text.into_bytes());
            rows.clone().durable_sink(durable, "out", Files::new(&out));
            rows.durable_sink(durable, "out", Files::new(&out));
        });
    });
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("the job has `sink out` twice"), "{told}");
    assert!(!place.path("out").exists());
}

#[test]
fn a_source_that_is_shorter_than_it_was_is_refused() {
    let place = Place::new();
    place.count().unwrap();
    fs::write(place.input(), "a\n").unwrap();
    let told = place.count().unwrap_err().to_string();
    assert!(told.contains("it has 2 bytes, and was read up to 6"), "{told}");
    fs::remove_file(place.input()).unwrap();
    let told = place.count().unwrap_err().to_string();
    assert!(told.starts_with("source lines, partition ") && told.contains("No such file"), "{told}");
    fs::write(place.input(), "a\nb\na\nz\n").unwrap();
    place.count().unwrap();
    assert_eq!(rows(&place.path("out")), ["a 1", "a 2", "b 1", "z 1"]);
}

#[test]
fn a_part_of_the_state_that_is_gone_is_missed() {
    let place = Place::new();
    place.count().unwrap();
    let (stores, aside) = (stores_of(&place.path("job")), place.path("aside"));
    fs::rename(&stores, &aside).unwrap();
    assert!(matches!(place.count(), Err(Error::Missing { .. })));
    fs::remove_dir_all(&stores).unwrap();
    fs::rename(&aside, &stores).unwrap();
    place.count().unwrap();
}

/// Numbers, until it is told to end.
struct Ticks(Arc<AtomicBool>);

impl Source for Ticks {
    type Item = u64;
    type Partition = Tick;

    fn partitions(&self) -> Result<Vec<String>, BoxError> {
        Ok(vec!["only".into()])
    }

    fn open(&self, _: &str, position: u64) -> Result<Tick, BoxError> {
        Ok(Tick { position, end: Arc::clone(&self.0) })
    }
}

struct Tick {
    position: u64,
    end: Arc<AtomicBool>,
}

impl Partition for Tick {
    type Item = u64;

    fn read(&mut self, _: usize, into: &mut Vec<u64>) -> Result<Read, BoxError> {
        if self.end.load(Ordering::Acquire) {
            return Ok(Read::End);
        }
        into.push(self.position);
        self.position += 1;
        Ok(Read::Waiting)
    }

    fn position(&self) -> u64 {
        self.position
    }
}

fn tick<S: Sink + Clone + Send + Sync + 'static>(job: Job, end: Arc<AtomicBool>, sink: S) -> Result<Finished, Error> {
    tick_seen(job, end, sink, Arc::default())
}

/// The same, where it is seen how many ticks were summed.
fn tick_seen<S: Sink + Clone + Send + Sync + 'static>(
    job: Job,
    end: Arc<AtomicBool>,
    sink: S,
    seen: Arc<AtomicU64>,
) -> Result<Finished, Error> {
    execute(job, timely::Config::process(2), move |worker, durable| {
        let seen = Arc::clone(&seen);
        worker.dataflow::<u64, _, _>(|scope| {
            let sum = scope.durable_source(durable, "ticks", &Ticks(Arc::clone(&end))).durable_update(
                durable,
                "sum",
                |_, key| key.push(b's'),
                move |number, mut sum, out| {
                    seen.fetch_add(1, Ordering::Release);
                    let now = sum.get_u64() + number;
                    sum.put_u64(now);
                    out.push(format!("{number:010} {now}").into_bytes());
                },
            );
            sum.durable_sink(durable, "out", sink.clone());
        });
    })
}

/// Each number is there once, with the sum up to it.
fn assert_sums(rows: &[String]) {
    let mut sum = 0;
    for (number, row) in rows.iter().enumerate() {
        sum += number;
        assert_eq!(*row, format!("{number:010} {sum}"));
    }
}

#[test]
fn a_job_that_runs_is_not_started_again_unless_it_is_to_be_taken_over() {
    let place = Place::new();
    let (never, now) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let files = Files::new(place.path("out"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| tick(place.job(), Arc::clone(&never), files.clone()));
        while !place.path("out").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let refused = tick(place.job(), Arc::clone(&now), files.clone());
        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
        assert!(!first.is_finished());
        let taken = tick(place.job().take_over(true), Arc::clone(&now), files.clone()).unwrap();
        assert_eq!(taken.attempt, 2);
        let fenced = first.join().unwrap();
        assert!(matches!(fenced, Err(Error::Fenced { attempt: 1, by: 2 })), "{fenced:?}");
    });
    let rows = rows(&place.path("out"));
    assert!(rows.len() > 1);
    assert_sums(&rows);
}

/// Files, of which the third is not written before all is well.
#[derive(Clone)]
struct Fails {
    files: Files,
    well: Arc<AtomicBool>,
    count: u32,
}

impl Sink for Fails {
    fn publish(&mut self, batch: Batch<'_>) -> Result<(), BoxError> {
        self.count += 1;
        if self.count == 3 && !self.well.load(Ordering::Acquire) {
            return Err("the disk is full".into());
        }
        self.files.publish(batch)
    }
}

#[test]
fn what_a_sink_could_not_publish_is_published_when_it_can() {
    let place = Place::new();
    let (end, well) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let sink = Fails { files: Files::new(place.path("out")), well: Arc::clone(&well), count: 0 };
    for _ in 0..3 {
        let told = tick(place.job(), Arc::clone(&end), sink.clone()).unwrap_err().to_string();
        assert!(told.starts_with("sink out, epoch ") && told.ends_with("the disk is full"), "{told}");
    }
    well.store(true, Ordering::Release);
    end.store(true, Ordering::Release);
    tick(place.job(), end, sink).unwrap();
    let rows = rows(&place.path("out"));
    assert!(rows.len() > 6);
    assert_sums(&rows);
}

/// Files; what is done before one is written.
#[derive(Clone)]
struct Before<F>(Files, F);

impl<F: FnMut(u64)> Sink for Before<F> {
    fn publish(&mut self, batch: Batch<'_>) -> Result<(), BoxError> {
        (self.1)(batch.epoch);
        self.0.publish(batch)
    }
}

/// While output waits for its destination, the worker that made it sums ticks of
/// later epochs. (It published the output itself once, and did nothing else.)
#[test]
fn a_sink_that_waits_for_its_destination_does_not_hold_the_worker_up() {
    let place = Place::new();
    let (end, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let wait = {
        let (end, seen) = (Arc::clone(&end), Arc::clone(&seen));
        move |_| {
            let before = seen.load(Ordering::Acquire);
            for _ in 0..60_000 {
                if end.load(Ordering::Acquire) || seen.load(Ordering::Acquire) > before + 2 {
                    end.store(true, Ordering::Release);
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            panic!("nothing more is summed");
        }
    };
    tick_seen(place.job(), end, Before(Files::new(place.path("out")), wait), seen).unwrap();
    assert_sums(&rows(&place.path("out")));
}

#[test]
fn a_sink_that_panics_stops_the_job_and_says_what_it_said() {
    let place = Place::new();
    let end = Arc::new(AtomicBool::new(false));
    let files = Files::new(place.path("out"));
    let mut left = 3;
    let panics = move |_| {
        left -= 1;
        assert!(left > 0, "out of ink");
    };
    for _ in 0..2 {
        let told = tick(place.job(), Arc::clone(&end), Before(files.clone(), panics)).unwrap_err();
        assert!(matches!(&told, Error::Worker { detail } if detail == "out of ink"), "{told}");
    }
    end.store(true, Ordering::Release);
    tick(place.job(), end, files).unwrap();
    let rows = rows(&place.path("out"));
    assert!(rows.len() > 4);
    assert_sums(&rows);
}

#[test]
#[cfg(feature = "archive")]
fn what_is_complete_can_be_recorded_in_object_storage() {
    let place = Place::new();
    let job = || place.job().records_at(place.path("bucket").to_str().unwrap());
    for start in 1..=3 {
        let text = fs::read_to_string(place.input()).unwrap();
        fs::write(place.input(), format!("{text}c\n")).unwrap();
        let finished = count(job(), &[place.input()], "counts", &place.path("out")).unwrap();
        assert_eq!(finished.attempt, start);
    }
    assert_eq!(rows(&place.path("out")), ["a 1", "a 2", "b 1", "c 1", "c 2", "c 3"]);
    assert!(place.path("bucket/jobs/words").exists() && !place.path("job/records").exists());
}
