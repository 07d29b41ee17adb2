//! Sinks in a dataflow: rows are staged with their epoch, and published once it
//! is complete.
//!
//! A staged file is durable before its epoch can end on the worker. So where an
//! epoch is complete, all its output is staged, and a job that is started again
//! publishes what its predecessor did not come to, before anything else. What
//! else was staged is removed before an epoch of the new start is complete: so
//! whatever is found staged up to the complete epoch was complete. Who was taken
//! over finds the directory of its staged files gone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::durable::Durable;
use crate::durable_dir::sync_dir;
use crate::error::{Error, Result};
use crate::ledger::NEVER;
use crate::places::Place;
use crate::sink::{Batch, Sink};

/// How long a sink sleeps while an epoch is not complete.
const NAP: Duration = Duration::from_millis(1);

/// Output that appears when its epoch is complete.
pub trait DurableSink<'scope> {
    /// Gives the rows of each complete epoch to `sink`, in the order in which
    /// they came to this worker, each epoch once; see [`Sink`].
    fn durable_sink<S: Sink + 'static>(self, durable: &Durable, name: &str, sink: S);
}

impl<'scope> DurableSink<'scope> for StreamVec<'scope, u64, Vec<u8>> {
    fn durable_sink<S: Sink + 'static>(self, durable: &Durable, name: &str, sink: S) {
        let scope = self.scope();
        let mut builder = OperatorBuilder::new(name.to_owned(), scope);
        let info = builder.operator_info();
        let activator = scope.activator_for(info.address);
        let mut input = builder.new_input(self, Pipeline);
        durable.declare("sink", name, "");
        let part = durable.ledger().add_part(scope.activator_for(builder.operator_info().address));
        let stage = Stage::new(&durable.staging().own(), name, durable.index());
        let mut output = stage
            .and_then(|stage| {
                let mut output = Output { durable: durable.clone(), name: name.to_owned(), stage, sink };
                output.publish_rest()?;
                Ok(output)
            })
            .map_err(|error| durable.fail(error))
            .ok();
        let durable = durable.clone();
        builder.build_reschedule(move |_| {
            let mut rows: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
            move |frontiers| {
                let Some(output) = &mut output else { return true };
                let frontier = frontiers[0].frontier().first().copied().unwrap_or(NEVER);
                durable.run(|ledger| {
                    input.for_each(|capability, arrived| {
                        let time = *capability.least().expect("a message has a time");
                        rows.entry(time).or_default().append(arrived);
                    });
                    while let Some(entry) = rows.first_entry()
                        && *entry.key() < frontier
                    {
                        let (epoch, rows) = entry.remove_entry();
                        output.stage.add(epoch, rows)?;
                    }
                    ledger.report(part, frontier, NEVER);
                    while ledger.advance()? {}
                    output.publish(ledger.complete())
                });
                let waits = !output.stage.staged.is_empty();
                if waits && !durable.is_stopped() {
                    activator.activate_after(NAP);
                }
                waits && !durable.is_stopped()
            }
        });
    }
}

struct Output<S> {
    durable: Durable,
    name: String,
    stage: Stage,
    sink: S,
}

impl<S: Sink> Output<S> {
    /// Publishes what earlier starts staged and did not come to.
    fn publish_rest(&mut self) -> Result<()> {
        for rest in self.durable.staging().rest(&self.name, self.durable.recovered(), self.durable.index())? {
            self.give(rest.epoch, rest.worker, &rest.path, &read(&rest.path)?)?;
        }
        Ok(())
    }

    fn publish(&mut self, complete: u64) -> Result<()> {
        while let Some(staged) = self.stage.staged.first_entry()
            && *staged.key() <= complete
        {
            let (epoch, (path, rows)) = staged.remove_entry();
            self.give(epoch, self.durable.index(), &path, &rows)?;
        }
        Ok(())
    }

    fn give(&mut self, epoch: u64, worker: usize, path: &Path, rows: &[Vec<u8>]) -> Result<()> {
        let batch = Batch { job: self.durable.job(), sink: &self.name, epoch, worker, rows };
        let published = self.sink.publish(batch);
        published.map_err(|source| Error::Sink { name: self.name.clone(), epoch, source })?;
        // If it stays, it is published again, which says the same.
        fs::remove_file(path).map_err(Error::io("remove", path))
    }
}

/// A worker's staged files of one sink.
struct Stage {
    dir: PathBuf,
    worker: usize,
    /// By epoch: the file, and what is in it.
    staged: BTreeMap<u64, (PathBuf, Vec<Vec<u8>>)>,
}

impl Stage {
    fn new(attempt: &Path, sink: &str, worker: usize) -> Result<Self> {
        let dir = attempt.join(sink);
        // Not what is above: where that is gone, others have taken over.
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => {
                created.map_err(Error::io("create", &dir))?;
                sync_dir(attempt)?;
            }
        }
        Ok(Self { dir, worker, staged: BTreeMap::new() })
    }

    /// Stages rows, durably.
    fn add(&mut self, epoch: u64, rows: Vec<Vec<u8>>) -> Result<()> {
        let path = self.dir.join(file_name(epoch, self.worker));
        let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.len() + 4).sum());
        for row in &rows {
            let length = u32::try_from(row.len()).map_err(|_| Error::Record {
                path: path.clone(),
                detail: format!("a row of {} bytes is too long", row.len()),
            })?;
            bytes.extend(length.to_le_bytes());
            bytes.extend(row);
        }
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_data()
        });
        written.map_err(Error::io("write", &path))?;
        sync_dir(&self.dir)?;
        self.staged.insert(epoch, (path, rows));
        Ok(())
    }
}

fn file_name(epoch: u64, worker: usize) -> String {
    format!("{epoch:020}-{worker:05}")
}

fn parse_file_name(name: &str) -> Option<(u64, usize)> {
    let (epoch, worker) = name.split_once('-')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(epoch, 20) && digits(worker, 5)).then(|| Some((epoch.parse().ok()?, worker.parse().ok()?))).flatten()
}

/// The rows of a staged file.
fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let (mut rows, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((row, behind)) = behind.split_at_checked(length) else { break };
        rows.push(row.to_vec());
        rest = behind;
    }
    if rest.is_empty() {
        Ok(rows)
    } else {
        Err(Error::Record { path: path.to_owned(), detail: "it ends within a row".into() })
    }
}

/// A file that an earlier start left.
#[derive(Debug)]
pub(crate) struct Rest {
    epoch: u64,
    worker: usize,
    path: PathBuf,
}

/// Where the processes of a job stage output: by start and process.
#[derive(Clone, Debug)]
pub(crate) struct Staging {
    dir: PathBuf,
    attempt: u64,
    place: Place,
    /// Which of the processes that have the same directory this is, and how many
    /// they are.
    pub(crate) rank: u16,
    sharers: u16,
}

impl Staging {
    /// That of a process which has its directory for itself, as far as it knows.
    pub(crate) fn new(dir: PathBuf, attempt: u64, place: Place) -> Self {
        Self { dir, attempt, place, rank: 0, sharers: 1 }
    }

    /// The same, where it is known who shares the directory.
    pub(crate) fn shared(self, rank: u16, sharers: u16) -> Self {
        Self { rank, sharers, ..self }
    }

    /// Where this start of this process does.
    fn own(&self) -> PathBuf {
        self.of(self.place.process)
    }

    fn of(&self, process: u16) -> PathBuf {
        self.dir.join(attempt_name(self.attempt)).join(process.to_string())
    }

    /// The processes of this start that stage in the same directory, once all
    /// have made theirs.
    pub(crate) fn seen(&self) -> Vec<u16> {
        (0..self.place.processes).filter(|&process| self.of(process).is_dir()).collect()
    }

    /// Makes the directory in which this process stages.
    pub(crate) fn create(&self) -> Result<()> {
        let own = self.own();
        fs::create_dir_all(&own).map_err(Error::io("create", &own))?;
        own.ancestors().skip(1).take(3).try_for_each(sync_dir)
    }

    /// The directories of earlier starts' processes whose heir this one is: those
    /// who share a directory divide what was staged there.
    fn inherited(&self) -> Result<Vec<PathBuf>> {
        let mut inherited = Vec::new();
        for attempt in list(&self.dir)? {
            let name = attempt.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == attempt_name(self.attempt) {
                continue;
            }
            for process in list(&attempt)? {
                let number =
                    process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u16>().ok());
                if number.is_some_and(|number| number % self.sharers == self.rank) {
                    inherited.push(process);
                }
            }
        }
        Ok(inherited)
    }

    /// What earlier starts staged for a sink up to the complete epoch, of those
    /// workers whose heir worker `index` is, in order.
    fn rest(&self, sink: &str, complete: u64, index: usize) -> Result<Vec<Rest>> {
        let workers = usize::from(self.place.workers);
        let mut found = Vec::new();
        for dir in self.inherited()? {
            for path in list(&dir.join(sink))? {
                let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_file_name);
                let Some((epoch, worker)) = name else { continue };
                if epoch <= complete && worker % workers == index % workers {
                    found.push(Rest { epoch, worker, path });
                }
            }
        }
        found.sort_by_key(|rest| (rest.epoch, rest.worker));
        Ok(found)
    }

    /// Removes what earlier starts staged and nobody will publish: their output
    /// is published, or belongs to epochs that never became complete.
    pub(crate) fn remove_inherited(&self) -> Result<()> {
        for dir in self.inherited()? {
            fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
            // The start's own once it is empty.
            if let Some(attempt) = dir.parent() {
                let _ = fs::remove_dir(attempt);
            }
        }
        Ok(())
    }
}

fn attempt_name(attempt: u64) -> String {
    format!("{attempt:020}")
}

/// What is in a directory; nothing if it is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    entries.map(|entry| Ok(entry.map_err(Error::io("list", dir))?.path())).collect()
}
