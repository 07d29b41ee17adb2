//! A job that reads from the broker and publishes to it, while its processes and
//! the broker itself are killed.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::Config;
use futures_util::StreamExt as _;

use crate::cluster::{Cluster, Shape, Workload};
use crate::server::{Admin, Server, owned};

/// More for the long form: COREWAL_TIMELY_KILLS=30.
fn kills() -> u32 {
    std::env::var("COREWAL_TIMELY_KILLS").map_or(6, |kills| kills.parse().expect("a number"))
}

/// The text of each message of a stream.
fn rows(admin: &Admin, stream: &str) -> Vec<String> {
    admin.run(async {
        let stream = admin.context.get_stream(stream).await.unwrap();
        let count = stream.cached_info().state.messages;
        let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
        let mut messages = consumer.messages().await.unwrap();
        let mut rows = Vec::new();
        while (rows.len() as u64) < count {
            let message = messages.next().await.unwrap().unwrap();
            rows.push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
        rows
    })
}

#[test]
fn whatever_is_killed_the_broker_included_each_row_is_published_once() {
    let workload = Workload { records: 34_000 * u64::from(kills().max(6)), partitions: 4, seed: 11 };
    let mut server = Server::start();
    let admin = server.admin();
    admin.create("EVENTS", &["events.*"]);
    // It forgets ids at once: what is there already has to be known otherwise.
    let subjects = owned(&["out.*"]);
    let duplicate_window = Duration::from_millis(100);
    // Row by row takes minutes in the long form.
    let allow_atomic_publish = kills() > 6;
    admin.create_with(Config {
        name: "OUT".into(),
        subjects,
        duplicate_window,
        allow_atomic_publish,
        ..Config::default()
    });
    for partition in 0..workload.partitions {
        admin.publish(workload.events(partition).map(|event| (format!("events.{partition}"), event)));
    }
    drop(admin);
    let mut cluster = Cluster::on_broker(workload, server.url());
    let mut random = fastrand::Rng::with_seed(5);
    for kill in 0..kills() {
        let shape = if kill % 3 == 2 { Shape(1, 4) } else { Shape(2, 2) };
        let mut running = cluster.start(shape, false);
        running.wait_until_it_goes_on();
        std::thread::sleep(Duration::from_millis(random.u64(0..500)));
        match kill % 3 {
            // The broker alone: the job waits for it and goes on.
            0 => {
                server.restart();
                running.wait_until_it_goes_on();
                running.kill_all();
            }
            1 => {
                let one = random.usize(..usize::from(shape.0));
                running.kill(one);
                drop(running.wait_for_the_others(one));
            }
            _ => {
                running.kill_all();
                server.restart();
            }
        }
    }
    cluster.start(Shape(2, 2), false).wait_until_it_ends();
    workload.assert_rows(rows(&server.admin(), "OUT"));
    cluster.assert_state();
}
