//! Partitions of a stream that is there.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use corewal_timely::nats::{JetStream, JetStreamPartition, Message};
use corewal_timely::{Partition as _, Read, Source as _};

use crate::server::{LONG, Server, owned};

pub(crate) fn numbered(subject: &str, numbers: std::ops::Range<u64>) -> Vec<(String, String)> {
    numbers.map(|number| (subject.to_owned(), number.to_string())).collect()
}

/// Reads until there are so many, or the end.
pub(crate) fn read(partition: &mut JetStreamPartition, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let started = Instant::now();
    while messages.len() < count {
        let most = usize::min(100, count - messages.len());
        match partition.read(most, &mut messages).unwrap() {
            Read::More => {}
            Read::Waiting => sleep(Duration::from_millis(1)),
            Read::End => break,
        }
        assert!(started.elapsed() < LONG, "{} of {count}", messages.len());
        assert_eq!(partition.position(), messages.last().map_or(partition.position(), |last| last.sequence));
    }
    messages
}

/// Nothing comes for a while.
fn nothing(partition: &mut JetStreamPartition) {
    for _ in 0..20 {
        let mut messages = Vec::new();
        assert_eq!(partition.read(10, &mut messages).unwrap(), Read::Waiting, "{messages:?}");
        assert!(messages.is_empty());
        sleep(Duration::from_millis(10));
    }
}

pub(crate) fn sequences(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence).collect()
}

#[test]
fn messages_come_in_order_from_a_position() {
    let server = Server::with_stream(&["a"]);
    server.admin().publish(numbered("a", 1..3001));
    let source = JetStream::new(server.broker(), "S").subjects(["a"]).until_end(true);
    let mut partition = source.open("a", 0).unwrap();
    assert_eq!(partition.position(), 0);
    let all = read(&mut partition, usize::MAX);
    assert_eq!(sequences(&all), (1..=3000).collect::<Vec<_>>());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for message in &all {
        assert_eq!(
            (message.subject.as_str(), message.payload.as_slice()),
            ("a", message.sequence.to_string().as_bytes())
        );
        assert!((now - 60_000..=now + 1000).contains(&message.time), "{} {now}", message.time);
    }
    assert_eq!(partition.position(), 3000);
    let mut rest = Vec::new();
    assert_eq!(partition.read(10, &mut rest).unwrap(), Read::End);
    assert!(rest.is_empty());

    // Whatever the position is.
    for position in [1, 999, 1000, 2999] {
        let mut partition = source.open("a", position).unwrap();
        assert_eq!(partition.position(), position);
        assert_eq!(read(&mut partition, usize::MAX), all[position as usize..]);
    }
    let mut partition = source.open("a", 3000).unwrap();
    assert!(read(&mut partition, usize::MAX).is_empty());
    assert_eq!(partition.position(), 3000);
}

#[test]
fn each_subject_is_a_partition() {
    let server = Server::with_stream(&["a", "b", "c.*", "unread"]);
    let subjects = ["a", "b", "c.x", "unread", "c.y", "b"];
    server.admin().publish((0..300).map(|at| (subjects[at % subjects.len()], at.to_string())));
    let source = JetStream::new(server.broker(), "S").subjects(["c.*", "b", "a", "nothing"]).until_end(true);
    assert_eq!(source.partitions().unwrap(), owned(&["c.*", "b", "a", "nothing"]));
    for (partition, of) in [("c.*", &["c.x", "c.y"][..]), ("b", &["b"]), ("a", &["a"])] {
        let expected: Vec<u64> = (1..=300).filter(|&at| of.contains(&subjects[(at as usize - 1) % 6])).collect();
        let mut opened = source.open(partition, 0).unwrap();
        let messages = read(&mut opened, usize::MAX);
        assert_eq!(sequences(&messages), expected);
        assert!(messages.iter().all(|message| of.contains(&message.subject.as_str())));
        // And from a position that is another subject's message.
        let mut opened = source.open(partition, 100).unwrap();
        let rest: Vec<u64> = expected.into_iter().filter(|&at| at > 100).collect();
        assert_eq!(sequences(&read(&mut opened, usize::MAX)), rest);
    }
}

#[test]
fn a_partition_waits_for_more_unless_it_ends() {
    let server = Server::with_stream(&["a", "b"]);
    let admin = server.admin();
    let waiting = JetStream::new(server.broker(), "S").subjects(["a", "b"]);
    let ending = waiting.clone().until_end(true);
    let mut partition = waiting.open("a", 0).unwrap();
    nothing(&mut partition);
    assert!(read(&mut ending.open("a", 0).unwrap(), usize::MAX).is_empty());
    for round in 0..5 {
        admin.publish(numbered("a", 0..10));
        admin.publish(numbered("b", 0..1));
        assert_eq!(sequences(&read(&mut partition, 10)), (11 * round + 1..=11 * round + 10).collect::<Vec<_>>());
        nothing(&mut partition);
    }
    // What comes after it was opened is not its concern.
    let mut partition = ending.open("a", 0).unwrap();
    admin.publish(numbered("a", 0..10));
    assert_eq!(read(&mut partition, usize::MAX).len(), 50);
    // Its last message is deleted before it is read.
    let mut partition = ending.open("b", 0).unwrap();
    assert_eq!(read(&mut partition, 1).len(), 1);
    drop(partition);
    admin.run(async { admin.context.get_stream("S").await.unwrap().delete_message(55).await.unwrap() });
    assert_eq!(sequences(&read(&mut ending.open("b", 0).unwrap(), usize::MAX)), [11, 22, 33, 44]);
}

#[test]
fn messages_are_acknowledged_when_they_are_complete() {
    let server = Server::with_stream(&["a", "b"]);
    let admin = server.admin();
    admin.publish((0..100).map(|at| (if at % 2 == 0 { "a" } else { "b" }, String::new())));
    let source = JetStream::new(server.broker(), "S").subjects(["a"]);
    let mut partition = source.open("a", 0).unwrap();
    // Sequences 1, 3, 5, ...
    assert_eq!(read(&mut partition, 10).len(), 10);
    let position = partition.position();
    assert_eq!(position, 19);
    assert_eq!(read(&mut partition, 40).len(), 40);
    let consumer = admin.until_consumer("S", |info| info.num_ack_pending == 50);
    assert_eq!(consumer.ack_floor.stream_sequence, 0);
    partition.complete(position).unwrap();
    let consumer = admin.until_consumer("S", |info| info.ack_floor.stream_sequence == 19);
    assert_eq!(consumer.num_ack_pending, 40);
    // Nothing of it is news.
    partition.complete(5).unwrap();
    partition.complete(position).unwrap();
    // What is behind the last message is complete with it.
    partition.complete(1_000_000).unwrap();
    let consumer = admin.until_consumer("S", |info| info.ack_floor.stream_sequence >= 99);
    assert_eq!(consumer.num_ack_pending, 0);
    // Nobody reads any more.
    drop(partition);
    assert!(admin.consumers("S").is_empty());
}

#[test]
fn what_comes_again_is_dropped() {
    let server = Server::with_stream(&["a"]);
    let admin = server.admin();
    admin.publish(numbered("a", 0..50));
    let source = JetStream::new(server.broker(), "S").subjects(["a"]).ack_wait(Duration::from_millis(300));
    let mut partition = source.open("a", 0).unwrap();
    assert_eq!(sequences(&read(&mut partition, 50)), (1..=50).collect::<Vec<_>>());
    admin.until_consumer("S", |info| info.num_redelivered > 0);
    admin.publish(numbered("a", 0..50));
    assert_eq!(sequences(&read(&mut partition, 50)), (51..=100).collect::<Vec<_>>());
    // And once more, all of them.
    let delivered = admin.consumers("S")[0].delivered.consumer_sequence;
    admin.until_consumer("S", |info| info.delivered.consumer_sequence >= delivered + 100);
    nothing(&mut partition);
    partition.complete(100).unwrap();
    admin.until_consumer("S", |info| info.ack_floor.stream_sequence == 100);
}

#[test]
fn long_messages_come_as_well() {
    let server = Server::with_stream(&["a"]);
    let admin = server.admin();
    // 54 MB: more than may wait, and than is asked for at a time.
    let lengths: Vec<usize> = (0..90).map(|at| if at % 3 == 0 { 10 } else { 900_000 }).collect();
    for lengths in lengths.chunks(10) {
        admin.publish(lengths.iter().map(|&length| ("a", "x".repeat(length))));
    }
    let source = JetStream::new(server.broker(), "S").subjects(["a"]).until_end(true);
    let mut partition = source.open("a", 0).unwrap();
    // It has to be waited for.
    sleep(Duration::from_millis(500));
    let messages = read(&mut partition, usize::MAX);
    assert_eq!(messages.iter().map(|message| message.payload.len()).collect::<Vec<_>>(), lengths);
    assert_eq!(sequences(&messages), (1..=90).collect::<Vec<_>>());
}

#[test]
fn the_position_of_a_quiet_subject_goes_on() {
    let server = Server::with_stream(&["busy", "quiet"]);
    let admin = server.admin();
    admin.publish([("quiet", String::new())]);
    admin.publish(numbered("busy", 0..500));
    let source = JetStream::new(server.broker(), "S").subjects(["quiet"]);
    let mut partition = source.open("quiet", 0).unwrap();
    assert_eq!(read(&mut partition, 1).len(), 1);
    let started = Instant::now();
    let mut none = Vec::new();
    while partition.position() < 501 {
        assert_eq!(partition.read(10, &mut none).unwrap(), Read::Waiting);
        assert!(started.elapsed() < LONG && none.is_empty());
        sleep(Duration::from_millis(20));
    }
    // Its own message has been deleted since, and all that others had then.
    admin.purge("S", 502);
    let position = partition.position();
    drop(partition);
    let mut partition = source.open("quiet", position).unwrap();
    admin.publish([("quiet", String::new())]);
    assert_eq!(sequences(&read(&mut partition, 1)), [502]);
}
