//! Rows, each published once.

use std::thread::sleep;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use corewal_timely::nats::JetStreamSink;
use corewal_timely::{Batch, BoxError, Sink as _};

use crate::server::{Admin, Server, owned};

/// How long the broker itself knows what it has.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// A server with a stream `OUT` that takes `out.*`.
pub(crate) fn server(atomic: bool) -> Server {
    let server = Server::start();
    create(&server.admin(), atomic);
    server
}

fn create(admin: &Admin, atomic: bool) {
    admin.create_with(Config {
        name: "OUT".to_owned(),
        subjects: owned(&["out.*", "other"]),
        duplicate_window: WINDOW,
        allow_atomic_publish: atomic,
        ..Config::default()
    });
}

pub(crate) fn new(server: &Server) -> JetStreamSink {
    JetStreamSink::new(server.broker(), "OUT", "out")
}

pub(crate) fn publish(sink: &mut JetStreamSink, worker: usize, epoch: u64, count: usize) -> Result<(), BoxError> {
    let rows = rows(worker, epoch, count);
    sink.publish(Batch { job: "job", sink: "totals", epoch, worker, rows: &rows })
}

fn rows(worker: usize, epoch: u64, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|row| format!("row {row} of epoch {epoch} on {worker}").into_bytes()).collect()
}

/// What a worker has published are these epochs and numbers of rows, and no more.
pub(crate) fn check(admin: &Admin, worker: usize, epochs: &[(u64, usize)]) {
    let mut expected = Vec::new();
    for &(epoch, count) in epochs {
        for (row, text) in rows(worker, epoch, count).into_iter().enumerate() {
            expected.push((Some(format!("job/totals/{epoch}/{worker}/{row}")), String::from_utf8(text).unwrap()));
        }
    }
    let subject = format!("out.{worker}");
    let stored = admin.stored("OUT").into_iter().filter(|stored| stored.subject == subject);
    assert_eq!(stored.map(|stored| (stored.name, stored.payload)).collect::<Vec<_>>(), expected);
}

fn each(test: impl Fn(&Server, &Admin)) {
    for atomic in [false, true] {
        let server = server(atomic);
        test(&server, &server.admin());
    }
}

#[test]
fn rows_are_messages_in_order() {
    each(|server, admin| {
        let (mut zero, mut three) = (new(server), new(server));
        for epoch in 1..5 {
            publish(&mut zero, 0, epoch, 20).unwrap();
            publish(&mut three, 3, epoch, epoch as usize - 1).unwrap();
        }
        // One sink can do for several workers.
        publish(&mut zero, 3, 5, 2).unwrap();
        publish(&mut zero, 4, 5, 2).unwrap();
        check(admin, 0, &[(1, 20), (2, 20), (3, 20), (4, 20)]);
        check(admin, 3, &[(2, 1), (3, 2), (4, 3), (5, 2)]);
        check(admin, 4, &[(5, 2)]);
    });
}

#[test]
fn what_was_published_is_not_published_again() {
    each(|server, admin| {
        let mut first = new(server);
        for epoch in [8, 9, 10] {
            publish(&mut first, 0, epoch, 3).unwrap();
        }
        // Nor by the same sink.
        publish(&mut first, 0, 10, 3).unwrap();
        sleep(3 * WINDOW);
        publish(&mut first, 0, 9, 3).unwrap();
        drop(first);
        let mut second = new(server);
        for epoch in [8, 9, 10, 11] {
            publish(&mut second, 0, epoch, 3).unwrap();
        }
        drop(second);
        check(admin, 0, &[(8, 3), (9, 3), (10, 3), (11, 3)]);

        // One that stopped in the midst of an epoch.
        publish(&mut new(server), 0, 12, 2).unwrap();
        sleep(3 * WINDOW);
        let mut third = new(server);
        for epoch in [11, 12, 13] {
            publish(&mut third, 0, epoch, if epoch == 12 { 5 } else { 3 }).unwrap();
        }
        check(admin, 0, &[(8, 3), (9, 3), (10, 3), (11, 3), (12, 5), (13, 3)]);
        // Fewer rows than there were: not what was published.
        let error = publish(&mut new(server), 0, 13, 2).unwrap_err().to_string();
        assert!(error.contains("2 rows") && error.contains("had 3"), "{error}");
    });
}

#[test]
fn many_rows_are_published_at_once() {
    each(|server, admin| {
        publish(&mut new(server), 0, 1, 2500).unwrap();
        publish(&mut new(server), 0, 1, 2502).unwrap();
        publish(&mut new(server), 0, 2, 1000).unwrap();
        check(admin, 0, &[(1, 2502), (2, 1000)]);
    });
}

#[test]
fn a_stale_sink_is_fenced() {
    each(|server, admin| {
        let mut old = new(server);
        publish(&mut old, 0, 1, 3).unwrap();
        let mut young = new(server);
        publish(&mut young, 0, 1, 3).unwrap();
        publish(&mut young, 0, 2, 3).unwrap();
        for pause in [Duration::ZERO, 3 * WINDOW] {
            // Within the broker's own window, and after it.
            sleep(pause);
            for epoch in [2, 3] {
                let error = publish(&mut old, 0, epoch, 3).unwrap_err().to_string();
                assert!(error.contains("another process publishes to subject out.0"), "{error}");
            }
        }
        publish(&mut young, 0, 3, 3).unwrap();
        check(admin, 0, &[(1, 3), (2, 3), (3, 3)]);
    });
}

#[test]
fn messages_of_others_are_not_taken_for_ones_own() {
    each(|server, admin| {
        let mut sink = new(server);
        publish(&mut sink, 0, 1, 3).unwrap();
        // Not to its subject.
        admin.publish([("other", String::new()), ("out.7", String::new())]);
        publish(&mut sink, 0, 2, 3).unwrap();
        admin.publish([("out.0", String::new())]);
        let error = publish(&mut sink, 0, 3, 3).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        let error = publish(&mut new(server), 0, 3, 3).unwrap_err().to_string();
        assert!(error.contains("not of this job"), "{error}");
        let rows = rows(0, 3, 1);
        let mut other = new(server);
        let error =
            other.publish(Batch { job: "other", sink: "totals", epoch: 3, worker: 7, rows: &rows }).unwrap_err();
        assert!(error.to_string().contains("not of this job"), "{error}");
    });
}

#[test]
fn a_subject_may_be_emptied_meanwhile() {
    each(|server, admin| {
        let mut sink = new(server);
        publish(&mut sink, 0, 1, 3).unwrap();
        admin.purge("OUT", 4);
        publish(&mut sink, 0, 2, 3).unwrap();
        check(admin, 0, &[(2, 3)]);
        admin.purge("OUT", 6);
        publish(&mut sink, 0, 2, 3).unwrap();
        publish(&mut sink, 0, 3, 2).unwrap();
        let stored: Vec<_> = admin.stored("OUT").into_iter().map(|stored| stored.sequence).collect();
        assert_eq!(stored, [6, 7, 8]);
    });
}
