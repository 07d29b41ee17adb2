//! Counts words on several threads, loses its process half way and goes on.
//!
//! One thread reads lines and sends each word to the core that owns it. Every
//! few lines it ends an epoch by a marker in every channel, behind the words
//! before it, so that all cores cut at the same line (Chandy and Lamport,
//! "Distributed Snapshots", 1985). The position in the text is committed with
//! the counts, so a word counts once, whatever happens in between.
//!
//! `cargo run -p corewal --example word_count [FILE]`

#![allow(clippy::disallowed_methods, reason = "a program outside the engine: it reads files and starts threads")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use corewal::{Commit, Epoch, Options, RecoveryReport, Shard};

type Failure = Box<dyn Error + Send + Sync>;
type Counts = BTreeMap<String, u64>;

const CORES: u16 = 3;
const LINES_PER_EPOCH: usize = 4;

const TEXT: &str = "\
the log is written first and the state is changed after it
the state is what the log says and the log is what the disk keeps
a batch comes back whole or it does not come back
a core owns its keys and its log and shares neither
a cut through all the logs is an epoch
an epoch is complete when the end of it is durable in every log
what comes after the last complete epoch is taken back
so the counts and the position in the text agree
and the same word is never counted twice
nor is a word forgotten
whatever the moment at which the power goes
";

/// What travels to a core.
enum Message {
    Word(String),
    /// All words before this position of the text have been sent.
    Cut {
        epoch: Epoch,
        position: u64,
    },
}

fn main() -> Result<(), Failure> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => TEXT.to_owned(),
    };
    let dir = tempfile::tempdir()?;

    // Two lines past the end of an epoch: what they hold is on the disk and
    // does not count.
    let stop_after = (text.lines().count() / 2).next_multiple_of(LINES_PER_EPOCH) + 2;
    let (report, _) = count(dir.path(), &text, stop_after)?;
    println!("first run: {report}\nstopped after {stop_after} lines, in the middle of an epoch");

    let (report, counts) = count(dir.path(), &text, usize::MAX)?;
    println!("second run: {report}");

    let plain = plain_count(&text);
    assert_eq!(counts, plain, "every word counts exactly once");
    let mut frequent: Vec<_> = plain.into_iter().collect();
    frequent.sort_by_key(|(word, count)| (u64::MAX - count, word.clone()));
    for (word, count) in frequent.iter().take(5) {
        println!("{count:6} {word}");
    }
    println!("{} words, the same as a plain count", frequent.len());
    Ok(())
}

/// Opens the store in `dir`, goes on where it ends, and stops after
/// `stop_after` lines of the text, without closing: as if killed there.
fn count(dir: &Path, text: &str, stop_after: usize) -> Result<(RecoveryReport, Counts), Failure> {
    let opened = Options::new().cores(CORES).open(dir)?;
    // All cores go back to the same epoch, so any of them knows the position.
    let start = opened.shards[0].offset_u64("text").unwrap_or(0);
    let mut channels = Vec::new();
    let mut threads = Vec::new();
    for shard in opened.shards {
        let (sender, receiver) = sync_channel(64);
        channels.push(sender);
        threads.push(thread::spawn(move || run_core(shard, &receiver)));
    }

    let mut position = 0;
    let mut epoch_begins = start;
    for (number, line) in text.split_inclusive('\n').enumerate().take(stop_after) {
        position += line.len() as u64;
        if position <= start {
            continue;
        }
        for word in line.split_whitespace() {
            let core = opened.store.route(word.as_bytes());
            channels[core.index()].send(Message::Word(word.to_owned()))?;
        }
        if (number + 1).is_multiple_of(LINES_PER_EPOCH) {
            cut(&channels, opened.store.next_epoch(), position)?;
            epoch_begins = position;
        }
    }
    if stop_after == usize::MAX && epoch_begins < position {
        cut(&channels, opened.store.next_epoch(), position)?;
    }

    drop(channels); // the cores end when their channels do
    let mut counts = Counts::new();
    for thread in threads {
        counts.extend(thread.join().expect("no core panics")?);
    }
    println!("epoch {} is complete", opened.store.complete_epoch());
    Ok((opened.report, counts))
}

fn cut(channels: &[SyncSender<Message>], epoch: Epoch, position: u64) -> Result<(), Failure> {
    for channel in channels {
        channel.send(Message::Cut { epoch, position })?;
    }
    Ok(())
}

/// The life of a core's thread: it owns its keys and their log.
fn run_core(mut shard: Shard, messages: &Receiver<Message>) -> Result<Counts, Failure> {
    for message in messages {
        match message {
            Message::Word(word) => {
                let count = shard.get(word.as_bytes()).map_or(0, number);
                shard.put(word.as_bytes(), &(count + 1).to_le_bytes())?;
            }
            Message::Cut { epoch, position } => {
                shard.commit(&Commit::new().offset_u64("text", position))?;
                shard.end_epoch(epoch)?;
                shard.poll()?;
            }
        }
    }
    shard.sync()?;
    let counts = shard.scan(b"").map(|(word, count)| (String::from_utf8_lossy(word).into_owned(), number(count)));
    Ok(counts.collect())
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().expect("every value is a count"))
}

fn plain_count(text: &str) -> Counts {
    let mut counts = Counts::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}
