//! The command line, as `--help` tells it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corewal::LogId;

use crate::bench::CellList;
use crate::duration::EpochEvery;
use crate::exit::Failure;
use crate::medium::Io;
use crate::reduce::Reduce;
use crate::source::Format;
use crate::torture::{Fault, Setup};

/// Most cores a store may have: far more than a machine has, and few enough
/// that a slip of the finger does not make a million files.
const MAX_CORES: i64 = 1024;

/// Where the store is unless `--dir` says otherwise.
pub(crate) const DEFAULT_DIR: &str = "./corewal-data";

/// Per-core write-ahead logs with the state on top of them: after any crash,
/// exactly what was made durable.
#[derive(Debug, Parser)]
#[command(name = "corewal", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 findings or not found, 2 usage, 3 I/O or damaged data, 4 locked by another process, or fenced off an archive."
)]
pub(crate) struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The directory of the store
    #[arg(long, global = true, help_heading = "Common options", value_name = "DIR", default_value = DEFAULT_DIR)]
    pub(crate) dir: PathBuf,
    /// Print JSON for programs: one object, or one a line
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Read records from files or standard input and keep one value per key, each record counted exactly once
    Ingest(Ingest),
    /// Print the value of a key; exit 1 if there is none
    Get(Get),
    /// Print keys and values in key order, across all cores
    Scan(Scan),
    /// Say what the store holds: cores, epochs, LSNs, source offsets, segments, bytes
    Info,
    /// Print every log record, in the order that merges all cores
    Dump(Dump),
    /// Read every byte and list what is wrong; exit 1 if anything is
    Verify,
    /// Say what would be cut to make a damaged store whole, and do it with --apply
    Repair(Repair),
    /// Write the state of the newest complete epoch aside, so that older log can go
    Checkpoint(Checkpoint),
    /// Change the number of cores: every key goes to the core that owns it then
    Reshard(Reshard),
    /// Keep a copy of the store in a directory or in object storage
    #[command(subcommand)]
    Archive(Archive),
    /// Make a store of what an archive holds, as it was at an epoch or a time
    Restore(Restore),
    /// Kill a writing process again and again, and check every promise after each opening
    Torture(Torture),
    /// Measure this machine's limits, and corewal against them
    Bench(Bench),
    /// The process that `torture` kills
    #[command(hide = true)]
    TortureChild(TortureChild),
}

/// `corewal ingest`
#[derive(Args, Debug)]
#[command(after_help = "\
Run it again after any crash: it goes on where the last durable epoch ended, and no record counts twice.

Examples:
  corewal ingest --key tailnum examples/data/flights.csv
  corewal ingest --key origin --reduce sum:distance --cores 4 examples/data/flights.csv
  producer | corewal ingest --key id --source-name producer -")]
pub(crate) struct Ingest {
    /// The field that is the key; without it the whole record is its own key
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// How the records of one key become its value: last, count, sum:FIELD, min:FIELD or max:FIELD
    #[arg(long, value_name = "HOW", default_value = "last")]
    pub(crate) reduce: Reduce,
    /// The format of the sources [default: by the file's extension, else ndjson]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Over how many cores to spread the keys [default: as many as the store has; for a new store, the machine's]
    #[arg(long, value_name = "N", value_parser = cores())]
    pub(crate) cores: Option<u16>,
    /// When an epoch ends and is made durable: a time (100ms, 2s) or a number of records
    #[arg(long, value_name = "DUR|N", default_value = "100ms")]
    pub(crate) epoch_every: EpochEvery,
    /// Which state to go on from after a crash
    #[arg(long, value_name = "WHICH", default_value = "complete-epoch")]
    pub(crate) recover: Recover,
    /// At the end of the files, wait for more; end with Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// Write records that can't be taken to this file, as they came
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,
    /// The name under which the source's offset is kept [default: its path as given]
    #[arg(long, value_name = "NAME")]
    pub(crate) source_name: Option<String>,
    /// How the logs are written
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) io: Io,
    /// Files to read, or - for standard input
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<PathBuf>,
}

/// Which state an opening gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recover {
    /// Of each core, all that is durable: for cores that are independent
    Latest,
    /// The newest epoch that every core finished
    CompleteEpoch,
}

impl From<Recover> for corewal::Recover {
    fn from(recover: Recover) -> Self {
        match recover {
            Recover::Latest => Self::Latest,
            Recover::CompleteEpoch => Self::CompleteEpoch,
        }
    }
}

impl Ingest {
    /// What the types of the options can't say.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.source_name.is_some() && self.sources.len() > 1 {
            return Err(Failure::usage(format!(
                "--source-name names one source, but {} are given: run ingest once for each",
                self.sources.len()
            )));
        }
        if self.source_name.as_deref() == Some("") {
            return Err(Failure::usage("--source-name is empty: give a name, or leave it out"));
        }
        for (at, source) in self.sources.iter().enumerate() {
            if self.sources[..at].contains(source) {
                return Err(Failure::usage(format!("{} is given twice: name each source once", source.display())));
            }
        }
        Ok(())
    }
}

/// `corewal get`
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The key: text, or base64:… for other bytes
    #[arg(value_name = "KEY", allow_negative_numbers = true, value_parser = bytes)]
    pub(crate) key: Bytes,
}

/// `corewal scan`
#[derive(Args, Debug)]
pub(crate) struct Scan {
    /// Only keys that begin so: text, or base64:… for other bytes
    #[arg(long, value_name = "P", allow_hyphen_values = true, value_parser = bytes)]
    pub(crate) prefix: Option<Bytes>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// `corewal dump`
#[derive(Args, Debug)]
pub(crate) struct Dump {
    /// Only this core's records
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<u16>,
    /// Only records at this LSN or after it
    #[arg(long, value_name = "LSN")]
    pub(crate) from: Option<u64>,
    /// Only records of this epoch
    #[arg(long, value_name = "E")]
    pub(crate) epoch: Option<u64>,
    /// The runs of the newest checkpoint instead of the logs
    #[arg(long, conflicts_with_all = ["from", "epoch"])]
    pub(crate) checkpoint: bool,
}

/// `corewal repair`
#[derive(Args, Debug)]
pub(crate) struct Repair {
    /// Do it; the damaged files are kept beside. Without this, nothing is changed
    #[arg(long)]
    pub(crate) apply: bool,
}

/// `corewal checkpoint`
#[derive(Args, Debug)]
#[command(after_help = "\
The store must not be open. A process that has it open makes checkpoints on its own; the segments that this one covers are
given back when the store is opened for writing next.")]
pub(crate) struct Checkpoint {
    /// How many checkpoints to keep, the newest included; each further one is another way back if the newest gets damaged
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) keep: u16,
}

/// `corewal reshard`
#[derive(Args, Debug)]
#[command(after_help = "\
The store must not be open. It takes the space of the state once more while it works. After a crash in the middle the store
has the old number of cores or the new one; run it again.")]
pub(crate) struct Reshard {
    /// The new number of cores
    #[arg(long, value_name = "N", value_parser = cores())]
    pub(crate) cores: u16,
    /// Which state to move
    #[arg(long, value_name = "WHICH", default_value = "complete-epoch")]
    pub(crate) recover: Recover,
}

/// `corewal archive`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
An archive is a directory, or s3://BUCKET/PREFIX with the usual environment variables (AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT).")]
pub(crate) enum Archive {
    /// Send what the archive has not got: runs of checkpoints, and sealed segments; also beside a process that has the store open
    Push(ArchivePush),
    /// Say what the archive holds: stores, owners, epochs, bytes
    Ls(ArchivePlace),
    /// Read every object and list what is wrong; exit 1 if anything is
    Verify(ArchivePlace),
    /// Remove what nothing refers to
    Gc(ArchivePlace),
}

/// Where an archive is, and of which store.
#[derive(Args, Debug)]
pub(crate) struct ArchivePlace {
    /// The archive: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// The identity of the store, as info and archive ls print it [default: that of DIR, else the only one there is]
    #[arg(long, value_name = "ID", value_parser = store)]
    pub(crate) store: Option<LogId>,
}

/// `corewal archive push`
#[derive(Args, Debug)]
pub(crate) struct ArchivePush {
    /// The archive: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Take the archive over although it holds what this store does not: that is lost in the end
    #[arg(long)]
    pub(crate) force: bool,
}

/// `corewal restore`
#[derive(Args, Debug)]
#[command(after_help = "\
DIR must not be there, or be empty. Files are gathered in DIR.partial, and DIR gets its name when all is there; run again
after an interruption, it goes on. The store has the state, the source offsets and the watermark of the end of the epoch; its
logs are empty and of a new generation.

Examples:
  corewal restore --from /mnt/backup --dir ./again
  corewal restore --from s3://bucket/corewal --to-time 2026-11-22T20:00:00Z --dir ./again")]
pub(crate) struct Restore {
    /// The archive: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The identity of the store, as archive ls prints it [default: the only one there is]
    #[arg(long, value_name = "ID", value_parser = store)]
    pub(crate) store: Option<LogId>,
    /// As it was at the end of this epoch [default: the newest in the archive]
    #[arg(long, value_name = "E", conflicts_with = "to_time")]
    pub(crate) to_epoch: Option<u64>,
    /// As it was at this time (2026-11-22T20:00:00Z), or at the end of the last epoch before it
    #[arg(long, value_name = "T", value_parser = humantime::parse_rfc3339_weak)]
    pub(crate) to_time: Option<std::time::SystemTime>,
}

fn store(text: &str) -> Result<LogId, String> {
    LogId::parse(text).ok_or_else(|| "32 hexadecimal digits".to_owned())
}

/// `corewal torture`
#[derive(Args, Debug)]
#[command(after_help = "\
DIR is torture's own: a directory that is not there, or empty, or made by an earlier torture. Put it on the disk in question.
It takes up to some hundreds of MB. Ctrl-C ends it with the report so far.

What each fault is:
  kill        SIGKILL at a random moment
  opening     SIGKILL while it opens what a kill left, several times over
  stop        SIGSTOP, a second process that must be kept out, a reader beside, SIGCONT, then SIGKILL
  limit       from some moment on no file may grow beyond a length (RLIMIT_FSIZE): writes fail
  budget      too little space for the log: appending has to wait for checkpoints, or say so
  checkpoint  `checkpoint` killed, and killed again
  reshard     `reshard` to another number of cores killed
  damage      a copy with a bit flipped, a sector zeroed, a file cut, gone or swapped: refused, or nothing lost
  repair      a copy damaged, `repair --apply` killed, then done
  archive     `archive push` beside the writer, killed or not; then pushed, restored and compared

Examples:
  corewal torture --dir /mnt/disk/t --kills 500
  corewal torture --dir /mnt/disk/t --duration 8h --kills 1000000 --cores 8 --io blocking
  corewal torture --faults kill,limit --segment-bytes 67108864 --checkpoint-bytes 268435456 --value-bytes 1000000")]
pub(crate) struct Torture {
    /// How many times to kill the writing process
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) kills: u32,
    /// Stop after so much time, even if fewer kills were made (30s, 10m)
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Choose faults, moments and records by this number [default: another one each time, printed]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Which faults to make
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_values_t = Fault::ALL, hide_default_value = true)]
    pub(crate) faults: Vec<Fault>,
    /// The store and what is written to it
    #[command(flatten)]
    pub(crate) setup: Setup,
}

/// `corewal bench`
#[derive(Args, Debug)]
#[command(after_help = "\
The stores that are measured are made in a temporary directory inside DIR (without --dir: inside the current directory) and
removed at the end, after Ctrl-C too. At most about 2 GiB are in use at a time.

Examples:
  corewal bench --dir /mnt/fast --report bench.html
  corewal bench --quick --cells S1,P,H --backend uring")]
pub(crate) struct Bench {
    /// How often everything is measured; the medians are shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), default_value_t = 3, default_value_if("quick", "true", "1"))]
    pub(crate) runs: u32,
    /// One short run of small sizes, about 20 s: whether it works, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these cells: names as the table shows them, families (S, P, G, B, R, O) or `limits` for none
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub(crate) cells: CellList,
    /// Only these ways of writing [default: uring, blocking and buffered, as far as the machine has them]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) backend: Vec<Io>,
    /// Write a report with plots to this file
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
}

/// The process that `corewal torture` kills.
#[derive(Args, Debug)]
pub(crate) struct TortureChild {
    /// As of `torture`
    #[arg(long)]
    pub(crate) seed: u64,
    /// The most space that the store may take
    #[arg(long)]
    pub(crate) budget: Option<u64>,
    /// As of `torture`
    #[command(flatten)]
    pub(crate) setup: Setup,
}

/// A key or the beginning of one, as bytes. (A plain `Vec` would make clap
/// collect several values.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

fn bytes(text: &str) -> Result<Bytes, String> {
    crate::text::parse(text).map(Bytes)
}

pub(crate) fn cores() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=MAX_CORES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn ingest(line: &str) -> Ingest {
        match parse(line).unwrap().verb {
            Verb::Ingest(ingest) => ingest,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ingest_has_the_defaults_of_the_contract() {
        let args = ingest("corewal ingest a.csv -");
        assert_eq!(args.reduce, Reduce::Last);
        assert_eq!(args.epoch_every, EpochEvery::Time(Duration::from_millis(100)));
        assert_eq!(args.recover, Recover::CompleteEpoch);
        assert_eq!((args.key, args.format, args.cores, args.rejects, args.source_name), (None, None, None, None, None));
        assert!(!args.follow);
        assert_eq!(args.sources, [PathBuf::from("a.csv"), PathBuf::from("-")]);
    }

    #[test]
    fn ingest_takes_all_its_options() {
        let line = "corewal ingest --key k --reduce max:x --format csv --cores 4 --epoch-every 5000 --recover latest \
                    --follow --rejects bad.txt --source-name s f";
        let args = ingest(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(args.key.as_deref(), Some("k"));
        assert_eq!(args.reduce, Reduce::Max("x".into()));
        assert_eq!(args.format, Some(Format::Csv));
        assert_eq!(args.cores, Some(4));
        assert_eq!(args.epoch_every.to_string(), "5000");
        assert_eq!(args.recover, Recover::Latest);
        assert!(args.follow);
        assert_eq!(args.rejects, Some("bad.txt".into()));
        assert_eq!(args.source_name.as_deref(), Some("s"));
        args.check().unwrap();
    }

    #[test]
    fn common_options_stand_before_or_after_the_verb() {
        for line in ["corewal --dir d --json info", "corewal info --json --dir d"] {
            let cli = parse(line).unwrap();
            assert_eq!((cli.common.dir, cli.common.json), (PathBuf::from("d"), true));
        }
        assert_eq!(parse("corewal info").unwrap().common.dir, PathBuf::from("./corewal-data"));
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        for line in [
            "corewal",
            "corewal frobnicate",
            "corewal ingest",
            "corewal ingest --cores 0 f",
            "corewal ingest --cores 1025 f",
            "corewal ingest --reduce avg:x f",
            "corewal ingest --epoch-every 0 f",
            "corewal ingest --recover oldest f",
            "corewal get",
            "corewal get base64:?",
            "corewal scan --limit -1",
            "corewal reshard",
            "corewal reshard --cores 0",
            "corewal checkpoint --keep 0",
            "corewal archive push",
            "corewal archive ls --to a --store xyz",
            "corewal restore --from a --to-epoch 1 --to-time 2026-01-01T00:00:00Z",
            "corewal torture --kills 0",
            "corewal torture --faults flood",
            "corewal torture --segment-bytes 10",
            "corewal torture --io sideways",
            "corewal bench --runs 0",
            "corewal bench --cells S1,Q9",
            "corewal bench --backend uring,tape",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn sources_that_contradict_are_usage_errors() {
        for line in [
            "corewal ingest --source-name s a b",
            "corewal ingest a a",
            "corewal ingest - -",
            "corewal ingest --source-name= a",
        ] {
            assert_eq!(ingest(line).check().unwrap_err().exit(), crate::exit::Exit::Usage, "{line}");
        }
    }

    #[test]
    fn keys_may_be_bytes() {
        let Verb::Get(get) = parse("corewal get base64:/wA=").unwrap().verb else { panic!() };
        assert_eq!(get.key, Bytes(vec![0xff, 0]));
        let Verb::Get(get) = parse("corewal get -5").unwrap().verb else { panic!() };
        assert_eq!(get.key, Bytes(b"-5".to_vec()));
    }

    #[test]
    fn the_hidden_verb_is_not_in_the_help() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("torture") && !help.contains("torture-child"), "{help}");
        assert_eq!(parse("corewal --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }
}
