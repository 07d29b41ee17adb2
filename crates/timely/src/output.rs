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
use crate::error::{Error, Result};
use crate::ledger::NEVER;
use crate::record::sync_dir;
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
        durable.ledger().add_to_shape(format!("sink {name}"));
        let part = durable.ledger().add_part(scope.activator_for(builder.operator_info().address));
        let stage = Stage::new(durable.staged(), name, durable.index());
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
                        output.stage.add(epoch, &rows)?;
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
    /// Publishes what an earlier start staged and did not come to.
    fn publish_rest(&mut self) -> Result<()> {
        let index = self.durable.index();
        // By worker, of whom there may have been more: each has one heir.
        for rest in rest(self.durable.staged(), self.durable.recovered(), &self.name)? {
            if rest.worker % self.durable.peers() == index {
                self.give(rest.epoch, rest.worker, &rest.path)?;
            }
        }
        Ok(())
    }

    fn publish(&mut self, complete: u64) -> Result<()> {
        while let Some((&epoch, path)) = self.stage.staged.first_key_value()
            && epoch <= complete
        {
            let path = path.clone();
            self.give(epoch, self.durable.index(), &path)?;
            self.stage.staged.remove(&epoch);
        }
        Ok(())
    }

    fn give(&mut self, epoch: u64, worker: usize, path: &Path) -> Result<()> {
        let rows = read(path)?;
        let batch = Batch { job: self.durable.job(), sink: &self.name, epoch, worker, rows: &rows };
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
    /// By epoch.
    staged: BTreeMap<u64, PathBuf>,
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
    fn add(&mut self, epoch: u64, rows: &[Vec<u8>]) -> Result<()> {
        let path = self.dir.join(file_name(epoch, self.worker));
        let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.len() + 4).sum());
        for row in rows {
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
        self.staged.insert(epoch, path);
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
struct Rest {
    epoch: u64,
    worker: usize,
    path: PathBuf,
}

/// What earlier starts staged for a sink up to the complete epoch, in order.
fn rest(own: &Path, complete: u64, sink: &str) -> Result<Vec<Rest>> {
    let all = own.parent().expect("a start's directory is in that of all");
    let mut found = Vec::new();
    for attempt in list(all)?.into_iter().filter(|attempt| attempt != own) {
        for path in list(&attempt.join(sink))? {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_file_name);
            if let Some((epoch, worker)) = name.filter(|&(epoch, _)| epoch <= complete) {
                found.push(Rest { epoch, worker, path });
            }
        }
    }
    found.sort_by_key(|rest| (rest.epoch, rest.worker));
    Ok(found)
}

/// What is in a directory; nothing if it is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    entries.map(|entry| Ok(entry.map_err(Error::io("list", dir))?.path())).collect()
}

/// Removes what earlier starts staged and nobody will publish: their output is
/// published, or belongs to epochs that never became complete.
pub(crate) fn remove_others(own: &Path) -> Result<()> {
    let all = own.parent().expect("a start's directory is in that of all");
    for attempt in list(all)?.into_iter().filter(|attempt| attempt != own) {
        match fs::remove_dir_all(&attempt) {
            // Another process of the job removes it as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(Error::io("remove", &attempt))?,
        }
    }
    Ok(())
}
