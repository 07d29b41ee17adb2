//! The server is killed and started again meanwhile, or can't be heard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use corewal_timely::nats::{JetStream, JetStreamSink};
use corewal_timely::{Partition as _, Source as _};

use crate::proxy::{Cut, Proxy};
use crate::server::Server;
use crate::sink;
use crate::source::{numbered, read, sequences};

#[test]
fn reading_goes_on_when_the_server_does() {
    let mut server = Server::with_stream(&["a"]);
    const COUNT: usize = 40_000;
    server.admin().publish(numbered("a", 1..COUNT as u64 + 1));
    let source = JetStream::new(server.broker(), "S").subjects(["a"]);
    let mut partition = source.open("a", 0).unwrap();
    let mut messages = Vec::new();
    // More are asked for between any two than can wait in between.
    for until in [1, 9000, 20_000, 30_000] {
        messages.extend(read(&mut partition, until - messages.len()));
        partition.complete(partition.position()).unwrap();
        server.restart();
    }
    messages.extend(read(&mut partition, COUNT - messages.len()));
    assert_eq!(sequences(&messages), (1..=COUNT as u64).collect::<Vec<_>>());
    for message in &messages {
        assert_eq!(message.payload, message.sequence.to_string().into_bytes());
    }
    // With nothing to read, and nobody to read it for a while.
    server.restart();
    server.kill();
    sleep(Duration::from_millis(500));
    server.restart();
    let admin = server.admin();
    admin.publish(numbered("a", 0..10));
    assert_eq!(sequences(&read(&mut partition, 10)), (COUNT as u64 + 1..=COUNT as u64 + 10).collect::<Vec<_>>());
    // The new consumer is one that can be acknowledged.
    partition.complete(partition.position()).unwrap();
    admin.until_consumer("S", |info| info.ack_floor.stream_sequence == COUNT as u64 + 10);
}

#[test]
fn each_row_is_published_once_when_the_server_is_killed() {
    for atomic in [false, true] {
        let mut server = sink::server(atomic);
        let mut out = sink::new(&server);
        let over = AtomicBool::new(false);
        let epochs = 40;
        thread::scope(|scope| {
            let over = &over;
            let publishing = scope.spawn(move || {
                let _over = Over(over);
                for epoch in 1..=epochs {
                    sink::publish(&mut out, 0, epoch, 50).unwrap();
                    // Time for the server to be killed.
                    sleep(Duration::from_millis(20));
                }
            });
            let mut kills = 0;
            while !over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(97 + kills * 31));
                server.restart();
                kills += 1;
            }
            publishing.join().unwrap();
            assert!(kills >= 3, "{kills}");
        });
        let all: Vec<_> = (1..=epochs).map(|epoch| (epoch, 50)).collect();
        sink::check(&server.admin(), 0, &all);
    }
}

#[test]
fn each_row_is_published_once_when_answers_are_lost() {
    // In the midst of an epoch, and of a second one that goes together.
    for (atomic, published) in [(false, 7), (true, 15)] {
        let server = sink::server(atomic);
        let proxy = Proxy::start(&server, Cut::Published(published));
        let mut out = JetStreamSink::new(proxy.broker(), "OUT", "out");
        for epoch in 1..=12 {
            if epoch % 4 == 0 {
                // One that does not know what the one before it did.
                out = JetStreamSink::new(proxy.broker(), "OUT", "out");
            }
            sink::publish(&mut out, 0, epoch, 10).unwrap();
        }
        assert!(proxy.cuts() >= 5, "{}", proxy.cuts());
        sink::check(&server.admin(), 0, &(1..=12).map(|epoch| (epoch, 10)).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_is_lost_or_comes_twice_when_connections_are() {
    let server = Server::with_stream(&["a"]);
    let count = 20_000;
    server.admin().publish(numbered("a", 0..count as u64));
    let proxy = Proxy::start(&server, Cut::Received(150_000));
    let source = JetStream::new(proxy.broker(), "S").subjects(["a"]).until_end(true);
    let mut partition = source.open("a", 0).unwrap();
    assert_eq!(sequences(&read(&mut partition, usize::MAX)), (1..=count as u64).collect::<Vec<_>>());
    assert!(proxy.cuts() >= 8, "{}", proxy.cuts());
}

/// Says that a thread has ended, however it did.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
