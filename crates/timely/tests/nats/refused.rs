//! What is no good, and says so in time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use corewal_timely::nats::{Broker, JetStream};
use corewal_timely::{Batch, Partition as _, Sink as _, Source as _};

use crate::server::{LONG, Server, owned};
use crate::sink;
use crate::source::{numbered, read};

/// Long enough to be seen, short enough to wait for.
const SHORT: Duration = Duration::from_millis(600);

/// What an opening says, at once.
fn says(source: &JetStream, partition: &str, position: u64, parts: &[&str]) {
    let started = Instant::now();
    let error = source.open(partition, position).unwrap_err().to_string();
    assert!(started.elapsed() < LONG / 4, "{error}");
    for part in parts {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
}

#[test]
fn subjects_that_are_none() {
    let source = JetStream::new("nats://127.0.0.1:1", "S");
    let refused =
        |subjects: &[&str]| source.clone().subjects(subjects.iter().copied()).partitions().unwrap_err().to_string();
    assert!(refused(&[]).contains("no subjects"));
    assert!(refused(&["a", "b", "a"]).contains("twice"));
    assert!(refused(&["a b"]).contains("`a b` is not a subject"));
    assert!(refused(&["a..b"]).contains("is not a subject"));
    says(&source.subjects(["a"]), "b", 0, &["b is not one of the subjects"]);
}

#[test]
fn streams_that_are_not_the_one_that_was_read() {
    let server = Server::with_stream(&["a", "b"]);
    let admin = server.admin();
    let source = JetStream::new(server.broker(), "S").subjects(["a"]);
    let place = server.url().replace("nats://", "");
    says(&JetStream::new(server.broker(), "T").subjects(["a"]), "a", 0, &["there is no stream T at", &place]);
    says(&JetStream::new(server.broker(), "a.b").subjects(["a"]), "a", 0, &["`a.b` is not the name"]);
    admin.publish(numbered("a", 0..10));
    says(&source, "a", 11, &["stream S ends at sequence 10, before 11 where the job goes on"]);
    admin.purge("S", 6);
    says(&source, "a", 4, &["stream S begins at sequence 6, behind 4 where the job goes on"]);
    assert_eq!(read(&mut source.open("a", 5).unwrap(), 5).len(), 5);
    assert_eq!(read(&mut source.open("a", 0).unwrap(), 5).len(), 5);
    admin.purge("S", 11);
    source.open("a", 10).unwrap();
    says(&source, "a", 9, &["begins at sequence 11"]);
    // Told to skip what was deleted, it goes on with what comes.
    let mut skipping = source.clone().skip_deleted(true).open("a", 9).unwrap();
    admin.publish(numbered("a", 20..23));
    assert_eq!(read(&mut skipping, 3).len(), 3);
    assert_eq!(skipping.position(), 13);
    admin.delete("S");
    admin.create("S", &["a", "b"]);
    says(&source, "a", 10, &["stream S ends at sequence 0, before 10"]);
    source.open("a", 0).unwrap();
    for (name, retention) in [("W", RetentionPolicy::WorkQueue), ("I", RetentionPolicy::Interest)] {
        let (name, subjects) = (name.to_owned(), vec![format!("of.{name}")]);
        admin.create_with(Config { name: name.clone(), subjects, retention, ..Config::default() });
        let source = JetStream::new(server.broker(), &*name).subjects([format!("of.{name}")]);
        says(&source, &format!("of.{name}"), 0, &["has to have the retention `limits`"]);
    }
}

#[test]
fn a_stream_that_is_deleted_while_it_is_read() {
    let server = Server::with_stream(&["a"]);
    let admin = server.admin();
    admin.publish(numbered("a", 0..10));
    let mut partition = JetStream::new(server.broker(), "S").subjects(["a"]).open("a", 0).unwrap();
    assert_eq!(read(&mut partition, 10).len(), 10);
    admin.delete("S");
    let started = Instant::now();
    let error = loop {
        match partition.read(10, &mut Vec::new()) {
            Ok(_) => sleep(Duration::from_millis(10)),
            Err(error) => break error.to_string(),
        }
        assert!(started.elapsed() < LONG);
    };
    assert!(error.contains("there is no stream S"), "{error}");
    // And it stays so.
    assert_eq!(partition.read(10, &mut Vec::new()).unwrap_err().to_string(), error);
}

#[test]
fn a_server_that_cannot_be_reached() {
    let mut server = Server::with_stream(&["a"]);
    let broker = server.broker().patience(SHORT);
    let source = JetStream::new(broker.clone(), "S").subjects(["a"]);
    let mut partition = source.open("a", 0).unwrap();
    let mut out = corewal_timely::nats::JetStreamSink::new(broker, "S", "a");
    server.kill();
    let started = Instant::now();
    let error = source.open("a", 0).unwrap_err().to_string();
    assert!((SHORT..SHORT + LONG / 4).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert!(error.contains("can't be reached") && error.contains("tried for"), "{error}");

    let started = Instant::now();
    let error = loop {
        match partition.read(10, &mut Vec::new()) {
            Ok(_) => sleep(Duration::from_millis(10)),
            Err(error) => break error.to_string(),
        }
        assert!(started.elapsed() < LONG);
    };
    assert!(error.contains("can't be reached"), "{error}");

    let started = Instant::now();
    let error = sink::publish(&mut out, 0, 1, 1).unwrap_err().to_string();
    assert!((SHORT..SHORT + LONG / 4).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert!(error.contains("can't be reached") && error.contains("tried for"), "{error}");
}

#[test]
fn who_is_not_let_in() {
    let server = Server::start_with(&["--user", "me", "--pass", "s&cret"]);
    let source = |broker: Broker| JetStream::new(broker, "S").subjects(["a"]);
    says(&source(server.broker()), "a", 0, &["authorization violation"]);
    says(&source(server.broker().user("me", "other")), "a", 0, &["authorization violation"]);
    says(&source(server.broker().user("me", "s&cret")), "a", 0, &["there is no stream S"]);
    let url = server.url().replace("nats://", "nats://me:s&cret@");
    let error = source(Broker::new(url)).open("a", 0).unwrap_err().to_string();
    assert!(error.contains("Broker::user") && !error.contains("cret"), "{error}");
    says(&source(Broker::new("ws://localhost")), "a", 0, &["is no NATS URL"]);
    says(&source(Broker::new("what://is this")), "a", 0, &["is no NATS URL"]);
}

#[test]
fn rows_that_cannot_be_published() {
    let server = sink::server(false);
    let admin = server.admin();
    let mut out = sink::new(&server);
    let says = |sink: &mut corewal_timely::nats::JetStreamSink, rows: &[Vec<u8>], part: &str| {
        let started = Instant::now();
        let error =
            sink.publish(Batch { job: "job", sink: "totals", epoch: 1, worker: 0, rows }).unwrap_err().to_string();
        assert!(started.elapsed() < LONG / 4 && error.contains(part), "no `{part}` in {error}");
    };
    let named = |stream: &str, prefix: &str| corewal_timely::nats::JetStreamSink::new(server.broker(), stream, prefix);
    let one = [b"row".to_vec()];
    says(&mut named("NONE", "out"), &one, "there is no stream NONE");
    says(&mut named("OUT", "in"), &one, "stream OUT does not take the subject in.0, but out.*, other");
    says(&mut named("OUT", "out.*"), &one, "`out.*.0` is not a subject to publish to");
    admin.create_with(Config {
        name: "W".to_owned(),
        subjects: owned(&["w.*"]),
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    });
    says(&mut named("W", "w"), &one, "has to have the retention `limits`");
    // Longer than the broker takes: 1 MiB.
    says(&mut out, &[b"row".to_vec(), vec![0; 1 << 20]], "max payload size exceeded");
    assert_eq!(admin.stored("OUT").len(), 1);
    // None at all need no broker.
    let mut nowhere = corewal_timely::nats::JetStreamSink::new("nats://127.0.0.1:1", "OUT", "out");
    nowhere.publish(Batch { job: "job", sink: "totals", epoch: 1, worker: 0, rows: &[] }).unwrap();
}
