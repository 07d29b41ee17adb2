#![allow(clippy::disallowed_methods, reason = "tests")]
//! Killed at random moments and run again, `ingest` ends with exactly the
//! oracle's numbers.
//!
//! Small here; `COREWAL_KILL_LINES=1000000 COREWAL_KILLS=50 cargo test --release
//! -p corewal-cli --test kill -- --nocapture` is the whole of it.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use common::{Run, World};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Lines, and what counting and summing them must give.
struct Input {
    lines: u64,
    text: String,
    counts: BTreeMap<String, String>,
    sums: BTreeMap<String, String>,
    bad: String,
}

fn input(lines: u64) -> Input {
    let mut random = fastrand::Rng::with_seed(lines);
    let (mut text, mut bad) = (String::new(), String::new());
    let mut oracle: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for n in 0..lines {
        if random.u16(0..1000) == 0 {
            let line = match random.u8(0..3) {
                0 => format!("{{\"key\":\"k1\",\"n\":{n}"),
                1 => format!("{{\"nokey\":{n},\"amount\":1}}"),
                _ => format!("line {n} is no JSON"),
            };
            text += &line;
            bad += &line;
            bad.push('\n');
        } else {
            let (key, amount) = (format!("k{}", random.u32(0..997)), random.i64(-1_000_000..1_000_000));
            write!(text, "{{\"key\":\"{key}\",\"n\":{n},\"amount\":{amount}}}").unwrap();
            let entry = oracle.entry(key).or_default();
            *entry = (entry.0 + 1, entry.1 + amount);
        }
        text.push('\n');
    }
    let counts = oracle.iter().map(|(key, (count, _))| (key.clone(), count.to_string())).collect();
    let sums = oracle.iter().map(|(key, (_, sum))| (key.clone(), sum.to_string())).collect();
    Input { lines, text, counts, sums, bad }
}

/// One input, one reduction, one core count: runs, kills and runs again until
/// there were enough kills, whole passes and the last one checked.
struct Case<'a> {
    input: &'a Input,
    line: String,
    cores: u64,
    expected: &'a BTreeMap<String, String>,
    random: fastrand::Rng,
    /// The machine lets this user have io_uring.
    has_ring: bool,
    kills: u64,
    passes: u64,
    resumed: u64,
    refused: u64,
}

impl<'a> Case<'a> {
    fn new(input: &'a Input, reduce: &str, cores: u64, expected: &'a BTreeMap<String, String>) -> Self {
        let line =
            format!("ingest --json --key key --reduce {reduce} --epoch-every 5ms --rejects rejects.txt input.ndjson");
        let random = fastrand::Rng::with_seed(cores);
        let has_ring = common::has_ring();
        Self { input, line, cores, expected, random, has_ring, kills: 0, passes: 0, resumed: 0, refused: 0 }
    }

    fn run(mut self, kills: u64) -> Self {
        let began = Instant::now();
        self.pass(0, Duration::ZERO);
        let whole = began.elapsed();
        while self.kills < kills {
            // So that a pass has room for its kills, wherever it stands.
            self.pass(kills, whole.mul_f64(2.0 / (kills as f64).min(40.0)));
        }
        self
    }

    /// Reads the input from beginning to end, whatever it takes.
    fn pass(&mut self, kills: u64, within: Duration) {
        let world = World::new();
        world.file("input.ndjson", &self.input.text);
        let first = format!("{} --cores {}", self.line, self.cores);
        loop {
            // Each life writes in a way of its own.
            let way = ["auto", "uring", "blocking", "buffered"][self.random.usize(..4)];
            let way = if way == "uring" && !self.has_ring { "auto" } else { way };
            let mut child = world.command(&format!("{first} --io {way}")).spawn().unwrap();
            if self.kills < kills {
                std::thread::sleep(within.mul_f64(self.random.f64()));
                let ended = child.try_wait().unwrap().is_some();
                child.kill().unwrap();
                if !ended {
                    child.wait().unwrap();
                    self.kills += 1;
                    self.meddle(&world);
                    continue;
                }
            }
            let run: Run = child.wait_with_output().unwrap().into();
            let json = run.json();
            self.resumed += u64::from(!json["resumed_from"].is_null());
            assert_eq!(json["rejected_ever"], self.input.bad.lines().count());
            break;
        }
        self.passes += 1;
        self.check(&world);
        // Nothing is left to read, and reading nothing changes nothing.
        assert_eq!(world.run(&first).json()["records"], 0);
        self.check(&world);
    }

    /// What else may be tried between a kill and the next run.
    fn meddle(&mut self, world: &World) {
        if !common::is_store(&world.store()) {
            return;
        }
        match self.random.u8(0..6) {
            0 => {
                let other = world.run(&format!("{} --cores {}", self.line, self.cores + 1));
                // A store whose making was cut short may still be made anew.
                if other.code != Some(0) {
                    other.failed(2, &["core(s)", "reshard --cores"]);
                    self.refused += 1;
                } else {
                    self.check(world);
                    std::fs::remove_dir_all(world.store()).unwrap();
                    std::fs::remove_file(world.path("rejects.txt")).unwrap();
                }
            }
            1 => {
                let latest = world.run(&format!("{} --recover latest", self.line));
                if latest.code == Some(0) {
                    self.check(world);
                } else {
                    latest.failed(3, &["--recover complete-epoch"]);
                    self.refused += 1;
                }
            }
            _ => {}
        }
    }

    fn check(&self, world: &World) {
        let state = world.state();
        let wrong: Vec<_> =
            self.expected.iter().filter(|(key, value)| state.get(*key) != Some(value)).take(3).collect();
        assert!(wrong.is_empty(), "expected {wrong:?}, cores {}: {}", self.cores, self.line);
        assert_eq!(state.len(), self.expected.len());
        for shard in &world.open().shards {
            assert_eq!(shard.offset_u64("input.ndjson"), Some(self.input.text.len() as u64));
        }
        let rejects = std::fs::read_to_string(world.path("rejects.txt")).unwrap();
        assert!(rejects == self.input.bad, "each rejected line once, in order");
    }
}

fn killed(reduce: &str, expected: fn(&Input) -> &BTreeMap<String, String>) {
    let input = input(setting("COREWAL_KILL_LINES", 200_000));
    let kills = setting("COREWAL_KILLS", 20);
    let mut resumed = 0;
    for cores in [1, 2, 4] {
        let began = Instant::now();
        let case = Case::new(&input, reduce, cores, expected(&input)).run(kills);
        println!(
            "{reduce}, {cores} core(s), {} lines: {} kills, {} passes ({} resumed at the end), {} meddlings refused, {:.1} s",
            input.lines,
            case.kills,
            case.passes,
            case.resumed,
            case.refused,
            began.elapsed().as_secs_f64()
        );
        assert_eq!(case.kills, kills);
        resumed += case.resumed;
    }
    assert!(resumed > 0, "no run went on where a killed one had been: nothing was tested");
}

#[test]
fn counts_are_exact_after_kills() {
    killed("count", |input| &input.counts);
}

#[test]
fn sums_are_exact_after_kills() {
    killed("sum:amount", |input| &input.sums);
}

/// Once, a line counted as known to the commits as soon as one that carried
/// the file's length was on its way. Killed before that one was durable, the
/// next run found lines in the file that no commit knew, kept them, and read
/// and wrote them again.
#[test]
fn no_rejected_line_is_written_before_a_durable_commit_knows_the_file() {
    let text: String =
        (0..40).map(|n| if n == 0 { "{\"key\":\"k\"}\n".into() } else { format!("bad {n}\n") }).collect();
    let line = "ingest --json --key key --cores 4 --epoch-every 1 --rejects rejects.txt input.ndjson";
    let mut killed = 0;
    for _ in 0..20 {
        let world = World::new();
        world.file("input.ndjson", &text);
        let mut child = world.command(line).spawn().unwrap();
        let rejects = world.path("rejects.txt");
        // At the first sight of a line in the file.
        while child.try_wait().unwrap().is_none() && std::fs::metadata(&rejects).map_or(0, |file| file.len()) == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        world.run(line).json();
        let written = std::fs::read_to_string(&rejects).unwrap();
        assert_eq!(written, text.split_once('\n').unwrap().1, "each rejected line once, in order");
    }
    assert!(killed > 0, "every run had ended: nothing was tested");
}
